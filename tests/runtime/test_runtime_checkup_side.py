"""What `ems doctor` asks the daemon is loaded when somebody asks."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

from agent.runtime.checkup_side import COMMANDS, CheckupSide


async def test_every_command_is_there_when_it_is_asked_for():
    side = CheckupSide(SimpleNamespace(), lambda: None, lambda: 0.0)
    assert set(side.handlers()) == set(COMMANDS) == set(side.loaded())
    assert await side.handlers()["broker_check"]({}, None) is None


def test_a_daemon_that_nobody_asks_does_without_what_people_ask_for():
    code = "import sys, agent.app; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "agent.runtime.control" in loaded
    for name in (
        "agent.runtime.checkup_answers",
        "agent.runtime.device_requests",
        "agent.runtime.device_traces",
        "drivers.scan",
        "drivers.trace_names",
        "drivers.profile.schema",
        "scipy",
        "numpy",
        "jsonschema",
        "sqlite_utils",
        "typer",
    ):
        assert name not in loaded, name
