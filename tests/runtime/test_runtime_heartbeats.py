"""A battery hears once a second that its controller is alive: while it holds our setpoint, by the control loop only."""

from agent.core.writes import WriteState
from agent.runtime.heartbeats import Heartbeats


class Device:
    def __init__(self, *, has_heartbeat=True):
        self.has_heartbeat = has_heartbeat

    def beat(self):
        return self


def beaten(lines, seconds, tick_s=0.5, **devices):
    """The devices that were told, by tick."""
    heartbeats, told = Heartbeats(), []
    for tick in range(round(seconds / tick_s)):
        now = []
        heartbeats.start(devices, lines, tick * tick_s, now.append)
        told.append([name for name, device in devices.items() if device in now])
    return told


def test_once_a_second_whatever_the_tick():
    assert beaten([WriteState("a", 100.0)], 3, a=Device()) == [["a"], [], ["a"], [], ["a"], []]
    assert sum(map(len, beaten([WriteState("a", 100.0)], 10, 0.1, a=Device()))) == 10
    assert sum(map(len, beaten([WriteState("a", 100.0)], 10, 1.0, a=Device()))) == 10


def test_not_without_a_setpoint_of_ours_nor_during_a_write_nor_where_nobody_listens():
    lines = [WriteState("none"), WriteState("writing", 5.0, True), WriteState("deaf", 5.0), WriteState("zero", 0.0)]
    devices = {name: Device(has_heartbeat=name != "deaf") for name in ("none", "writing", "deaf", "zero")}
    assert beaten(lines, 1, 1.0, **devices) == [["zero"]]
