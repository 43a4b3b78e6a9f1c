"""Frequency response by the devices' own droop through whole ticks: who answers, never both, and what is told."""

from __future__ import annotations

import pytest
from core_droop_site import droop_site
from core_site import plan
from core_step_site import award, booked

from agent.core.plan import Plans

FULL_HZ = 49.8
"""Calls for the whole award upward."""


def constant(value):
    return lambda _t: value


def handed(*awards, power_w=50e3, hz=50.0, count=1, **changes):
    """A site under a plan and awards, at a constant frequency unless `hz` is a function."""
    frequency = hz if callable(hz) else constant(hz)
    plans = Plans(plan(*[power_w] * 4))
    awards = awards or (award(start=20.0),)
    return droop_site(count, plans=plans, awards=booked(*awards), frequency_hz=frequency, baseline_w=power_w, **changes)


def test_the_device_answers_from_the_awards_first_seconds_and_its_setpoint_carries_the_baseline_alone():
    running = handed(hz=FULL_HZ)
    running.run(19)
    assert running.cells[0].power_w == 50e3
    assert [(write.part is not None, write.answering) for _, write in running.droop_writes] == [
        (False, True),
        (True, False),
    ]
    running.run(3)
    assert running.cells[0].follows is not None
    done = running.run(30)
    assert {cell.held_w for cell in running.cells} == {50e3}
    assert running.cells[0].power_w == pytest.approx(150e3)
    assert done[-1].decision.setpoint_w == pytest.approx(150e3)
    assert done[-1].decision.baseline_w == pytest.approx(50e3)
    assert ("droop_delegated", "b0") in running.conditions
    assert running.both == []


def test_it_is_taken_back_when_the_award_ends_and_the_agent_goes_on_with_the_plan():
    running = handed(award(start=20.0, end=60.0), hz=FULL_HZ)
    running.run(70)
    assert running.cells[0].follows is None
    assert running.cells[0].power_w == 50e3
    assert not {code for code, _ in running.conditions if code.startswith("droop")}
