"""When the cloud is told anew what the site will do."""

import json
from collections import deque
from types import SimpleNamespace

import pytest

from agent.core.awards import NO_AWARDS
from agent.core.slots_ahead import SlotAhead
from agent.runtime.forecast_side import AHEAD_S, SHORTEST_S, ForecastSide

T0 = 1_700_000_000.0 - 1_700_000_000 % 1800


class Control:
    def __init__(self):
        self.now = 0.0
        self.clock = SimpleNamespace(mono_s=lambda: self.now)
        self.decisions = deque()
        self.in_force = SimpleNamespace(awards=NO_AWARDS)
        self.outlook = ()
        self.power_w = 100e3
        self.asked = []

    def ticked(self):
        self.decisions.append(SimpleNamespace(utc_s=T0 + self.now, soc_pct=50.0))
        return self

    def slots_ahead(self, for_s):
        self.asked.append(for_s)
        return (SlotAhead(T0, T0 + 1800, 100e3, self.power_w, 45.0),)


@pytest.fixture
def side():
    control, sent = Control(), []
    return SimpleNamespace(control=control, sent=sent, it=ForecastSide("demo-01", control, sent.append))


def test_the_first_forecast_is_told_and_the_same_again_is_not(side):
    for _ in range(3):
        side.control.ticked()
        side.it.may_differ()
        side.it.after_tick()
        side.control.now += 60.0
    (told,) = map(json.loads, side.sent)
    assert told["slots"] == [
        {
            "start": "2023-11-14T22:00:00.000Z",
            "end": "2023-11-14T22:30:00.000Z",
            "planned_w": 100000,
            "power_w": 100000,
            "soc_end_pct": 45,
        }
    ]
    assert (told["soc_pct"], told["awards"], side.control.asked) == (50, [], [AHEAD_S] * 3)


def test_without_a_reason_none_is_made(side):
    for _ in range(5):
        side.control.ticked()
        side.it.after_tick()
        side.control.now += SHORTEST_S
    assert len(side.control.asked) == 1


def test_a_change_is_told_as_soon_as_the_shortest_time_after_the_look_before_has_passed(side):
    side.control.ticked()
    side.it.after_tick()
    side.control.power_w = 50e3
    side.it.may_differ()
    for _ in range(round(SHORTEST_S)):
        assert len(side.sent) == 1
        side.it.after_tick()
        side.control.now += 1.0
    side.it.after_tick()
    assert json.loads(side.sent[1])["slots"][0]["power_w"] == 50000
