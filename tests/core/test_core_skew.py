"""Battery and meter read at different instants: the move of the battery is no load."""

from __future__ import annotations

from dataclasses import replace

import pytest
from core_site import SITE, battery, inputs, meter, plan, pv

from agent.core.decision import State
from agent.core.plan import Plans, Target
from agent.core.snapshot import WriteOutcome
from agent.core.step import step

OTHERS_W = 20e3
SOLD_W = 100e3


def grid_powers_w(ticks, *, battery_late_s, reads_before_write=False, others_w=lambda _t: OTHERS_W, slot_s=1800):
    """The site's power at each meter reading: an inverter without lag, and a battery reading that is older than the meter's."""
    state, held_w, before_w, outcomes, seen = State(), 0.0, 0.0, (), []
    plans = Plans(rolling=plan(*[SOLD_W] * 20, target=Target.GRID, slot_s=slot_s))
    for t in range(ticks):
        now = float(t)
        true_w = held_w + others_w(t)
        seen.append(true_w)
        read_w = before_w if reads_before_write else held_w
        sample = battery(now, read_w, 50.0, held_w=held_w)
        sample = replace(sample, power_w=replace(sample.power_w, read_mono_s=now - battery_late_s))
        tick = inputs(
            now, plans, batteries=(sample,), pvs=(pv(now, OTHERS_W),), meter=meter(now, true_w), outcomes=outcomes
        )
        state, effects = step(SITE, state, tick)
        before_w, outcomes = held_w, ()
        for write in effects.writes:
            held_w = write.power_w
            outcomes = (WriteOutcome("bess", held_w, held_w, True, "", now + 0.1),)
    return seen


def test_a_battery_read_before_its_last_move_does_not_swing_the_site():
    seen = grid_powers_w(60, battery_late_s=0.95, reads_before_write=True)
    assert seen[10:] == pytest.approx([SOLD_W] * 50, rel=0.02)


def test_a_change_of_the_load_is_still_followed_within_some_ticks():
    def others_w(t):
        return OTHERS_W if t < 30 else -80e3

    seen = grid_powers_w(60, battery_late_s=0.95, reads_before_write=True, others_w=others_w)
    assert seen[30] < 10e3
    assert seen[40:] == pytest.approx([SOLD_W] * 20, rel=0.1)


def test_readings_of_one_instant_are_believed_at_once():
    def others_w(t):
        return OTHERS_W if t < 30 else -80e3

    seen = grid_powers_w(34, battery_late_s=0.0, others_w=others_w)
    assert seen[31] == pytest.approx(SOLD_W, rel=0.1)
