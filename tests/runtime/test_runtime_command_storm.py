"""Some hundreds of commands while the process that takes them is killed; `command_storm.py` does it with 100 000."""

import json
import subprocess
import sys
from pathlib import Path


def test_every_command_has_one_terminal_outcome_and_at_most_one_effect_through_kills():
    storm = Path(__file__).with_name("command_storm.py")
    command = [sys.executable, str(storm), "--commands", "300", "--kills", "8", "--seed", "7"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert (found["commands"], found["kills"] >= 8, found["effects"] > 50) == (300, True, True)
