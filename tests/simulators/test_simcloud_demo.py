"""The demo as a process: whatever ends it, none of its children stays."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

DEADLINE_S = 40.0


@pytest.fixture
def demo(tmp_path):
    """A headless demo that has started its last part, with its files in `tmp_path`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "simulators.demo", "--headless", "--seconds", "60"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        text=True,
        # A shell starts what runs in the background with SIGINT ignored, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 (no threads here)
    )
    said = []
    while not said or "4/4" not in said[-1]:
        said.append(process.stderr.readline())
        assert said[-1], f"the demo ended: {said}"
    yield process
    process.kill()
    process.wait()
    process.stderr.close()


def children_of(pid):
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def until_gone(pids):
    deadline = time.monotonic() + DEADLINE_S
    while alive := [pid for pid in pids if Path(f"/proc/{pid}/cmdline").exists() and cmdline(pid)]:
        assert time.monotonic() < deadline, f"still there: {[cmdline(pid) for pid in alive]}"
        time.sleep(0.05)


def cmdline(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_broker_site_and_agent_end_with_the_demo(demo, tmp_path, number):
    commands = ""
    deadline = time.monotonic() + DEADLINE_S
    while "simulators.site" not in commands or "agent.cli.main run" not in commands:
        assert time.monotonic() < deadline, commands
        children = children_of(demo.pid)
        commands = "\n".join(cmdline(pid) for pid in children)
    assert len(children) == 3, commands
    os.kill(demo.pid, number)
    demo.wait(DEADLINE_S)
    until_gone(children)
    # Nothing can tidy up after SIGKILL; in any other case the demo does.
    assert bool(list(tmp_path.iterdir())) == (number is signal.SIGKILL)
