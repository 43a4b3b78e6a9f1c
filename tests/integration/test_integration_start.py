"""What must not start: a bad site file, and a second agent on one store. Nothing is begun half."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from integration_site import SITE_FILE, Agent, ems, until

NO_METER = ('meter = "grid-meter"', 'meter = "main-meter"')
BAD = {
    "an unknown key": ('poll = "200 ms"', 'pol = "200 ms"', "device[0] (bess).pol: unknown key; did you mean 'poll'?"),
    "a wrong unit": ('"500 kW"', '"500 A"', "device[0] (bess).rated_power: "),
    "two devices on one address": ("unit_id = 3", "unit_id = 2", "device[2] (grid-meter).url: "),
    "a meter that is no device": (*NO_METER, "connection_point.meter: 'main-meter' is not the id"),
    "a dead-man that is longer than a minute": ('"{dead_man}"', '"90 s"', "device[0] (bess).dead_man: "),
    "something that is not TOML": ("schema = 1", "schema =", "is not TOML: "),
}


class Listener:
    """Stands where the battery and the gateway should be, and knows whether anybody came."""

    def __init__(self):
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.setblocking(False)
        self.battery_port = self.gateway_port = self._server.getsockname()[1]

    @property
    def untouched(self):
        try:
            self._server.accept()[0].close()
        except BlockingIOError:
            return True
        return False

    def close(self):
        self._server.close()


@pytest.fixture
def listener():
    made = Listener()
    yield made
    made.close()


@pytest.mark.parametrize(("old", "new", "complaint"), BAD.values(), ids=BAD.keys())
def test_a_site_file_with_it_is_refused_by_file_key_and_reason_and_nothing_is_begun(
    tmp_path, listener, old, new, complaint
):
    assert old in SITE_FILE
    agent = Agent(tmp_path, listener, text=SITE_FILE.replace(old, new, 1))
    refused = ems("run", "--config", str(agent.file))
    assert refused.returncode == 4
    assert f"{agent.file}: {complaint}" in refused.stderr
    assert "Nothing was started" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["site.toml"], "no store, no socket"
    assert listener.untouched


def test_a_site_file_that_is_not_there_is_named(tmp_path):
    file = tmp_path / "none.toml"
    for command, code in ((("run",), 4), (("config", "check"), 1)):
        refused = ems(*command, "--config", str(file))
        assert refused.returncode == code
        assert refused.stderr.startswith(f"{file}: cannot be read: No such file")


def test_a_store_that_cannot_be_made_is_named(tmp_path, listener):
    (tmp_path / "file").write_text("")
    agent = Agent(tmp_path, listener, state=tmp_path / "file" / "store")
    refused = ems("run", "--config", str(agent.file))
    assert refused.returncode == 4
    assert f"{tmp_path}/file/store: " in refused.stderr
    assert "Traceback" not in refused.stderr
    assert listener.untouched


def test_a_second_agent_on_the_same_store_ends_at_once_naming_the_first_and_touches_nothing(parts):
    plant = parts.plant()
    agent = parts.agent(plant).start()
    until(lambda: agent.status()["counters"]["writes_verified"], "the first agent works")
    agent.process.send_signal(signal.SIGSTOP)  # so that every trace there is comes from the second one
    try:
        until(lambda: state(agent.process.pid) == "T", "the first agent holds still")
        before, requests = trace(agent.folder), plant.requests
        # The first one gives nothing up while it holds still: a second one that waited for it would not end.
        second = ems("run", "--config", str(agent.file))
        assert second.returncode == 4
        assert f"process {agent.process.pid} already runs the agent" in second.stderr
        assert trace(agent.folder) == before
        assert plant.requests == requests
    finally:
        agent.process.send_signal(signal.SIGCONT)
    ticks = agent.status()["counters"]["ticks"]
    until(lambda: agent.status()["counters"]["ticks"] > ticks + 2, "the first agent goes on")


def state(pid):
    """The kernel's letter for what the process does."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def trace(folder):
    """Every file with its size and the time of its last change."""
    found = [path for path in folder.rglob("*") if path.name != "agent.log"]
    return {path.relative_to(folder): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in found}


def test_the_daemon_loads_no_solver():
    code = "import sys, agent.app; sys.exit(any(m in sys.modules for m in ('scipy', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
