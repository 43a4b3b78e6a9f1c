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
    return SimpleNamespace(control=control, sent=sent, look=ForecastSide("demo-01", control, sent.append).look)


def test_nothing_is_told_before_the_first_tick(side):
    side.look()
    assert side.sent == []


def test_the_first_forecast_is_told_and_the_same_again_is_not(side):
    side.control.ticked()
    for _ in range(3):
        side.look()
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


def test_a_change_is_told_but_never_sooner_than_the_shortest_time_after_the_look_before(side):
    side.control.ticked()
    side.look()
    side.control.power_w = 50e3
    side.control.now += SHORTEST_S / 2
    side.look()
    assert len(side.sent) == 1
    side.control.now += SHORTEST_S
    side.look()
    assert json.loads(side.sent[1])["slots"][0]["power_w"] == 50000
