"""What systemd hears."""

import socket
from types import SimpleNamespace

import pytest

from agent.core.decision import Condition
from agent.core.events import Severity
from agent.runtime.notify import STATUS_EVERY_S, Notifier
from agent.runtime.report import status_line


class Manager:
    """systemd's end of the socket."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(10.0)

    def heard(self):
        return self.socket.recv(4096).decode()


@pytest.fixture(params=["file", "abstract"])
def manager_and_notifier(request, tmp_path):
    address = str(tmp_path / "n") if request.param == "file" else f"@ems-test-{tmp_path.name}"
    manager = Manager(address.replace("@", "\0"))
    notifier = Notifier(address)
    yield manager, notifier
    notifier._socket.close()
    manager.socket.close()


def test_each_whole_tick_feeds_the_watchdog_and_the_status_comes_now_and_then(manager_and_notifier):
    manager, notifier = manager_and_notifier
    asked = []

    def status(text):
        def told():
            asked.append(text)
            return text

        return told

    for mono_s, text in ((0.0, "a"), (1.0, "b"), (STATUS_EVERY_S, "b"), (2 * STATUS_EVERY_S, "b")):
        notifier.alive(status(text), mono_s)
    assert [manager.heard() for _ in range(4)] == [
        "WATCHDOG=1\nSTATUS=a",
        "WATCHDOG=1",
        "WATCHDOG=1\nSTATUS=b",
        "WATCHDOG=1",
    ]
    assert asked == ["a", "b", "b"], "it is not even made in between"


def test_without_systemd_nothing_is_said_and_nothing_is_made(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notifier().alive(lambda: pytest.fail("made in vain"), 0.0)


def test_a_manager_that_went_away_disturbs_nobody(manager_and_notifier):
    manager, notifier = manager_and_notifier
    manager.socket.close()
    notifier.send("READY=1")


def test_the_status_line_says_who_decides_what_the_battery_does_and_what_is_wrong():
    decision = SimpleNamespace(source="rolling", battery_w=74_960.0, setpoint_w=75_000.0, soc_pct=49.96)
    assert status_line(decision, ()) == "rolling: battery +75.0 kW, setpoint +75.0 kW, SoC 50.0 %"
    blind = SimpleNamespace(source="neutral", battery_w=None, setpoint_w=0.0, soc_pct=None)
    wrong = [Condition(f"c{i}", "bess", Severity.WARNING, "x") for i in range(4)]
    wrong.append(Condition("device_silent", "bess", Severity.ALARM, "x"))
    assert status_line(blind, wrong) == (
        "neutral: battery unknown, setpoint +0.0 kW, SoC unknown; ALARM device_silent bess; "
        "WARNING c0 bess, c1 bess and 2 more"
    )
