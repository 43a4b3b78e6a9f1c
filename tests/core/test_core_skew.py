"""Battery and meter read at different instants: the move of the battery is no load."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from core_site import SITE, battery, inputs, meter, plan, pv

from agent.core.decision import State
from agent.core.plan import Plans, Target
from agent.core.skew import Pairing, paired, with_setpoint
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


def test_a_battery_that_does_not_follow_its_setpoint_is_not_taken_to_have_moved():
    """It rests whatever it is told: PV and load are what the meter shows, also when they change."""
    state, plans = State(), Plans(rolling=plan(*[SOLD_W] * 20, target=Target.BATTERY))
    for t in range(40):
        sample = battery(t, 0.0, 50.0)
        sample = replace(sample, power_w=replace(sample.power_w, read_mono_s=t - 0.5))
        others_w = -OTHERS_W if t < 20 else OTHERS_W
        state, _ = step(
            SITE, state, inputs(t, plans, batteries=(sample,), pvs=(pv(t, OTHERS_W),), meter=meter(t, others_w))
        )
    assert state.pairing.others_w == pytest.approx(OTHERS_W, abs=1e3)


LED = ("bess",)
RATED_W = 500e3


@dataclass(frozen=True)
class Past:
    """What one tick leaves for the next, and who was told what."""

    pairing: Pairing
    setpoints: tuple = ()

    def told(self, at_mono_s, power_w):
        return Past(self.pairing, with_setpoint(self.setpoints, self.pairing, at_mono_s, power_w))

    def with_share(self, share):
        return Past(replace(self.pairing, share=share), self.setpoints)

    @property
    def others_w(self):
        return self.pairing.others_w

    @property
    def share(self):
        return self.pairing.share


def seen(before, grid, batteries, led=LED):
    pairing, told = (None, ()) if before is None else (before.pairing, before.setpoints)
    return Past(paired(pairing, told, grid, batteries, led=led, rated_w=RATED_W), told)


def test_a_meter_that_is_slower_than_the_ticks_is_used_once():
    first = seen(None, (10.0, 60e3), (10.0, 40e3)).told(10.1, 40e3)
    # The battery has moved since, the meter not been read: its move is no load.
    assert seen(first, (10.0, 60e3), (11.0, -100e3)).others_w == 20e3


def test_between_two_readings_of_the_battery_the_meter_is_compared_with_both():
    first = seen(None, (10.0, 60e3), (10.0, 40e3)).told(10.1, 140e3)
    done, share = 0.7, 0.7
    before = first.with_share(share)
    now = seen(before, (10.5, 20e3 + 40e3 + done * 100e3), (10.9, 140e3))
    assert now.others_w == pytest.approx(20e3)


def test_a_reading_teaches_once_however_many_ticks_see_it():
    before = seen(None, (10.0, 60e3), (10.0, 40e3)).with_share(0.5).told(10.1, 80e3)
    now = seen(before, (10.5, 20e3 + 40e3 + 30e3), (10.9, 80e3))
    assert now.share > 0.5
    assert seen(now, (10.5, 20e3 + 40e3 + 30e3), (11.9, 80e3)).share == now.share


@pytest.mark.parametrize("true_share", [0.0, 0.3, 0.9])
def test_how_far_the_meter_finds_a_move_done_is_learned(true_share):
    before, told_w = seen(None, (0.0, 20e3), (0.0, 0.0)).told(0.0, 0.0), 0.0
    for t in range(1, 60):
        held_w, told_w = told_w, (20e3 if t % 2 else -20e3)
        before = before.told(t - 0.9, told_w)
        before = seen(before, (t, 20e3 + held_w + true_share * (told_w - held_w)), (t - 0.95, held_w))
    assert before.share == pytest.approx(true_share, abs=0.05)
    assert before.others_w == pytest.approx(20e3, abs=1e3)


def test_a_load_that_steps_while_the_battery_moves_teaches_nothing():
    before = seen(None, (0.0, 20e3), (0.0, 0.0)).told(0.0, 0.0).told(0.1, 10e3)
    assert seen(before, (1.0, -200e3), (0.05, 0.0)).share == before.share


def test_a_large_move_is_believed_to_be_under_way_as_long_as_it_may_be():
    """What small moves taught does not hold for a ramp: nothing is concluded of PV and load meanwhile."""
    before = seen(None, (0.0, 20e3), (0.0, 0.0)).told(0.0, 0.0).told(0.1, 400e3).with_share(0.9)
    assert seen(before, (1.0, 20e3 + 100e3), (0.05, 0.0)).others_w == 20e3


def test_when_other_batteries_are_told_apart_the_old_sum_counts_no_more():
    before = seen(None, (0.0, 120e3), (0.0, 100e3)).told(0.1, 100e3).with_share(0.8)
    now = seen(before, (0.0, 120e3), (0.5, 60e3), led=("b1",))
    assert (now.others_w, now.share) == (60e3, 0.8)


def test_readings_of_one_instant_are_believed_at_once():
    def others_w(t):
        return OTHERS_W if t < 30 else -80e3

    seen = grid_powers_w(34, battery_late_s=0.0, others_w=others_w)
    assert seen[31] == pytest.approx(SOLD_W, rel=0.1)


@pytest.mark.parametrize("move_w", [40e3, -40e3])
@pytest.mark.parametrize("away_w", [8e3, -8e3])
def test_nothing_is_believed_that_neither_the_whole_move_nor_none_of_it_explains(move_w, away_w):
    """The meter saw none of the move; PV and load were a little different before."""
    before = seen(None, (0.0, 20e3 + away_w), (0.0, 0.0)).told(0.0, 0.0).told(0.1, move_w).with_share(0.0)
    believed_w = seen(before, (1.0, 20e3), (0.05, 0.0)).others_w
    assert min(20e3, 20e3 - move_w) <= believed_w <= max(20e3, 20e3 - move_w)
