"""`ems run` loads what the daemon needs, and no more."""

import subprocess
import sys

WITHOUT = """
import sys
from agent.cli.run import leave_rich_out
leave_rich_out()
import agent.app
print(sorted(name for name in sys.modules if name.split(".")[0] in ("rich", "pygments", "scipy", "numpy")))
"""


def test_the_daemon_holds_no_library_for_colours_or_solving():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "['rich']", "the name alone, which says that it is not to be loaded"
