"""Primary frequency response through whole ticks: what is kept free, what is answered, what is told."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from core_site import SITE, T0, battery, good, inputs, meter, plan
from core_step_site import Cell, award, booked, rules_of, site

from agent.core.bounds import Rank
from agent.core.decision import State
from agent.core.envelope_rules import SiteLimits
from agent.core.frequency import Trouble
from agent.core.orders import Curtailment, Direction, Orders
from agent.core.plan import Plans, Target
from agent.core.ramp import RampRules
from agent.core.rules import LocalRule
from agent.core.step import step

FULL_HZ = 49.8
"""Calls for the whole award upward."""


def constant(value):
    return lambda _t: value


def awarded(*awards, power_w=0.0, target=Target.BATTERY, hz=50.0, **changes):
    """A site with one battery under a plan and awards, at a constant frequency unless `hz` is a function."""
    frequency = hz if callable(hz) else constant(hz)
    plans = Plans(plan(*[power_w] * 4, target=target))
    return site(plans=plans, awards=booked(*awards), frequency_hz=frequency, **changes)


def test_the_awards_power_is_kept_free_before_the_plan_gets_any():
    effects = awarded(award(power_w=200e3), power_w=480e3).tick()
    assert effects.decision.baseline_w == 300e3
    assert [clip.limit for clip in effects.decision.clips] == ["power kept for the award"]
    assert awarded(award(power_w=200e3), power_w=-480e3).tick().decision.baseline_w == -300e3


def test_at_full_activation_baseline_and_award_are_both_given():
    running = awarded(award(power_w=200e3), power_w=480e3, hz=FULL_HZ)
    assert running.tick().decision.setpoint_w == pytest.approx(500e3)
    running.frequency_hz = constant(50.2)
    assert running.tick().decision.setpoint_w == pytest.approx(100e3)


def test_the_energy_for_the_sustain_time_is_kept_from_the_plan():
    """20 % above the minimum are 190 kWh at the terminals; 100 kW for 30 min keep 50 of them, and 2 below which power fades."""
    cells = [Cell("b0", soc_pct=30.0)]
    decision = awarded(award(power_w=100e3), power_w=400e3, cells=cells).tick().decision
    assert decision.baseline_w == pytest.approx((200e3 * 0.95 - 50e3 - 10e3 * 0.95 * 0.2) * 2)
    assert decision.clips[-1].limit == "energy kept for the award"


def test_after_a_slot_at_the_limit_the_award_can_still_be_given_for_its_whole_sustain_time():
    # The frequency falls when the plan has taken all that the award left, and stays low for 30 minutes.
    running = awarded(award(power_w=100e3, end=7200.0), power_w=400e3, cells=[Cell("b0", soc_pct=30.0)])
    running.run(1800)
    running.frequency_hz = constant(FULL_HZ)
    done = running.run(1800)
    assert min(effects.decision.setpoint_w for effects in done) >= 100e3 - 1.0
    assert running.cells[0].soc_pct >= 10.0 - 0.01


def test_an_award_that_starts_in_mid_slot_keeps_its_energy_before_and_its_power_from_its_first_second():
    cells = [Cell("b0", soc_pct=30.0)]
    running = awarded(award(power_w=100e3, start=900.0, end=5400.0), power_w=450e3, cells=cells, hz=FULL_HZ)
    before = running.run(900)
    assert before[0].decision.clips[-1].limit == "energy kept for the award"
    assert all(effects.decision.setpoint_w == effects.decision.baseline_w for effects in before)
    first = running.tick()
    assert first.decision.setpoint_w == pytest.approx(first.decision.baseline_w + 100e3)
    give_wh = (running.cells[0].soc_pct - 10.0) / 100.0 * 1e6 * 0.95
    assert give_wh >= 50e3


def test_the_response_is_not_held_to_the_ramp_that_holds_the_plan():
    slow = rules_of(limits=SiteLimits(ramp=RampRules(1e3, 1e3)))
    running = awarded(award(power_w=200e3), power_w=100e3, rules=slow)
    running.run(5)
    running.frequency_hz = constant(FULL_HZ)
    decision = running.tick().decision
    assert decision.baseline_w == pytest.approx(5e3)
    assert decision.setpoint_w == pytest.approx(205e3)


@pytest.mark.parametrize("counters", [True, False])
def test_the_slot_tracker_never_takes_the_response_back(counters):
    """Ten minutes of full response within a grid slot: the baseline goes on as planned, the energy is extra."""
    running = awarded(award(power_w=100e3), power_w=50e3, target=Target.GRID, meter_counts=counters)
    running.run(300)
    running.frequency_hz = constant(FULL_HZ)
    during = running.run(600)
    running.frequency_hz = constant(50.0)
    after = running.run(905)
    baselines = [effects.decision.baseline_w for effects in [*during[3:], *after[3:890]]]
    assert max(baselines) == pytest.approx(50e3, rel=0.02)
    assert min(baselines) == pytest.approx(50e3, rel=0.02)
    (record,) = [effects.closed for effects in after if effects.closed]
    assert record.response_wh == pytest.approx(100e3 / 6, rel=0.01)
    assert record.delivered_wh == pytest.approx(25e3 + 100e3 / 6, rel=0.005)


@pytest.mark.parametrize(
    ("hz", "trouble"),
    [
        (None, Trouble.MISSING),
        (0.0, Trouble.IMPLAUSIBLE),
        (6553.5, Trouble.IMPLAUSIBLE),
        (math.nan, Trouble.IMPLAUSIBLE),
        (math.inf, Trouble.IMPLAUSIBLE),
        (-50.0, Trouble.IMPLAUSIBLE),
        (4999.0, Trouble.IMPLAUSIBLE),
    ],
)
def test_without_a_frequency_that_can_be_true_the_battery_stays_at_its_baseline_and_it_is_told(hz, trouble):
    running = awarded(award(), power_w=50e3, hz=hz)
    effects = running.run(3)
    assert [one.decision.setpoint_w for one in effects] == [50e3] * 3
    assert effects[-1].decision.frequency_hz is None
    assert running.raised("award_unanswered") == [("raised", "a1")]
    assert [row.trouble for row in effects[-1].evidence] == [trouble]
    assert [row.frequency_hz for row in effects[-1].evidence] == [None]
    running.frequency_hz = constant(FULL_HZ)
    running.run(2)
    assert running.raised("award_unanswered") == [("raised", "a1"), ("cleared", "a1")]
    assert running.log[-1][1].decision.setpoint_w == pytest.approx(150e3)


def test_one_glitch_of_the_frequency_is_not_answered_and_the_next_good_reading_is():
    running = awarded(award(), hz=lambda t: 52.0 if t == 3.0 else 49.9)
    setpoints = [effects.decision.setpoint_w for effects in running.run(6)]
    full = pytest.approx(100e3 * 0.09 / 0.19)
    assert setpoints == [full, full, full, 0.0, full, full]


def test_a_frequency_that_stands_still_for_ten_minutes_is_answered_as_read_and_told_until_it_moves():
    running = awarded(award(), hz=49.999)
    running.run(600)
    assert running.raised("frequency_stuck") == []
    running.run(2)
    assert running.raised("frequency_stuck") == [("raised", "meter")]
    running.frequency_hz = constant(49.9)
    decision = running.tick().decision
    assert decision.setpoint_w == pytest.approx(100e3 * 0.09 / 0.19)
    assert running.raised("frequency_stuck") == [("raised", "meter"), ("cleared", "meter")]


def test_a_frequency_that_moves_now_and_then_is_not_stuck():
    running = awarded(award(), hz=lambda t: 49.99 if t % 500 < 499 else 50.0)
    running.run(1500)
    assert running.raised("frequency_stuck") == []


def test_a_frequency_that_is_no_longer_read_stops_the_response_after_the_products_time():
    """30 s to full response allow an age of 3 s."""
    awards, state = booked(award()), State()
    setpoints = []
    for t in range(6):
        stopped = replace(meter(float(t)), frequency_hz=good(FULL_HZ, 0.0))
        state, effects = step(SITE, state, inputs(float(t), awards=awards, meter=stopped))
        setpoints.append(effects.decision.setpoint_w)
    assert setpoints == [pytest.approx(100e3)] * 4 + [0.0, 0.0]
    assert ("award_unanswered", "a1") in state.conditions


def test_a_response_goes_on_while_another_battery_reading_is_odd_but_not_without_the_meter():
    running = awarded(award(), power_w=50e3, hz=FULL_HZ)
    running.tick()
    running.meter_good = False
    decision = running.tick().decision
    assert decision.setpoint_w == 0.0
    assert ("award_unanswered", "a1") in running.conditions


def test_a_site_without_a_meter_says_that_its_award_is_not_answered():
    tick = inputs(0.0, awards=booked(award()), meter=None, pvs=())
    state, effects = step(replace(SITE, meter_id=None, pv_ids=(), has_load=False), State(), tick)
    assert effects.decision.setpoint_w == 0.0
    assert ("award_unanswered", "a1") in state.conditions


def test_no_award_counts_while_the_clock_is_not_trusted():
    running = awarded(award(power_w=300e3), award("a2", 300e3, 60.0), hz=FULL_HZ, trusted=False)
    effects = running.tick()
    assert effects.decision.setpoint_w == 0.0
    assert running.tick().evidence == ()
    assert not any("award" in clip.limit for _, fx in running.log for clip in fx.decision.clips)
    running.trusted = True
    assert running.tick().decision.setpoint_w == pytest.approx(300e3)
    assert running.raised("clock_untrusted") == [("raised", "site"), ("cleared", "site")]


def test_an_award_to_come_binds_nothing_while_the_clock_is_not_trusted():
    """The local rule absorbs PV; a far too early clock must not see an award about to begin."""
    rules = rules_of(local_rule=LocalRule.SELF_CONSUMPTION)
    running = site(
        rules=rules, awards=booked(award(power_w=400e3, start=3.0, direction=Direction.DOWN)),
        cells=[Cell("b0", soc_pct=85.0)], pv_w=constant(300e3), trusted=False,
    )  # fmt: skip
    assert running.tick().decision.setpoint_w == pytest.approx(-300e3)


def test_an_award_beyond_the_rating_has_no_effect_and_the_others_stand():
    running = awarded(award("big", 900e3), award("fit", 100e3), hz=FULL_HZ)
    decision = running.tick().decision
    assert decision.setpoint_w == pytest.approx(100e3)


def test_two_overlapping_awards_are_kept_and_answered_together():
    running = awarded(award("a1", 100e3, 0.0, 900.0), award("a2", 150e3, 600.0, 1800.0), power_w=480e3, hz=FULL_HZ)
    setpoints = [effects.decision for effects in running.run(902)]
    assert setpoints[0].baseline_w == 400e3
    assert setpoints[600].baseline_w == 250e3
    assert setpoints[600].setpoint_w == pytest.approx(500e3)
    assert setpoints[900].baseline_w == pytest.approx(350e3)
    rows = {row.utc_s - int(T0): row.award_ids for _, effects in running.log for row in effects.evidence}
    assert (rows[599], rows[600], rows[899], rows[900]) == (("a1",), ("a1", "a2"), ("a1", "a2"), ("a2",))


def test_evidence_has_one_row_for_each_second_of_the_award_at_any_pace_of_the_loop():
    for tick_s in (0.1, 0.2, 0.25, 1.0):
        running = awarded(award(start=2.0, end=12.0), power_w=50e3, hz=FULL_HZ, tick_s=tick_s)
        rows = [row for effects in running.run(15) for row in effects.evidence]
        assert [row.utc_s - int(T0) for row in rows] == list(range(2, 12))
        assert {row.ticks for row in rows} == {round(1 / tick_s)}
        assert all(row.baseline_w == pytest.approx(50e3) for row in rows)
        assert all(row.response_w == pytest.approx(100e3) for row in rows)
        assert all(row.clock_trusted and row.frequency_hz == pytest.approx(FULL_HZ) for row in rows)


def test_evidence_shows_the_measured_power_not_the_wanted_one():
    running = awarded(award(), hz=FULL_HZ, cells=[Cell("b0", refuses=True)])
    rows = [row for effects in running.run(5) for row in effects.evidence]
    assert {row.power_w for row in rows} == {0.0}
    running.cells[0].silent = True
    rows = [row for effects in running.run(5) for row in effects.evidence]
    assert rows[-1].power_w is None


def test_a_curtailment_cuts_the_response_and_the_award_is_told_as_not_backed():
    order = Orders(curtailments=(Curtailment("c1", T0 + 5, T0 + 10, export_limit_w=0.0),))
    running = awarded(award(power_w=100e3), hz=FULL_HZ, orders=order, pv_w=constant(80e3))
    decisions = [effects.decision for effects in running.run(15)]
    assert decisions[4].setpoint_w == pytest.approx(100e3)
    assert decisions[5].setpoint_w == pytest.approx(-80e3)
    assert decisions[10].setpoint_w == pytest.approx(100e3)
    assert running.raised("award_not_backed") == [("raised", "a1"), ("cleared", "a1")]


@pytest.mark.parametrize(
    "cell",
    [
        Cell("b0", live_w=60e3),
        Cell("b0", soc_pct=10.5),
        Cell("b0", soc_pct=89.5),
        Cell("b0", ready=False),
        Cell("b0", silent=True),
    ],
)
def test_an_award_that_the_battery_cannot_back_now_is_told_and_cleared_when_it_can(cell):
    running = awarded(award(power_w=100e3), cells=[cell])
    running.run(2)
    assert running.raised("award_not_backed") == [("raised", "a1")]
    cell.live_w, cell.soc_pct, cell.ready, cell.silent = None, 50.0, True, False
    running.run(2)
    assert running.raised("award_not_backed") == [("raised", "a1"), ("cleared", "a1")]


@pytest.mark.parametrize(("direction", "soc_pct"), [(Direction.DOWN, 9.0), (Direction.UP, 91.0)])
def test_a_direction_that_was_not_sold_is_never_short(direction, soc_pct):
    running = awarded(award(direction=direction), cells=[Cell("b0", soc_pct=soc_pct)])
    running.run(2)
    assert running.raised("award_not_backed") == []


def test_an_award_that_is_backed_is_not_told_even_while_it_is_spent():
    running = awarded(award(power_w=100e3), power_w=450e3, hz=FULL_HZ, cells=[Cell("b0", soc_pct=30.0)])
    running.run(1700)
    assert running.raised("award_not_backed") == []


def test_softened_award_bounds_name_what_stood_against_them():
    """PV above the export limit forces charging into the room that the award keeps."""
    rules = rules_of(export_limit_w=300e3)
    running = awarded(award(power_w=200e3), rules=rules, pv_w=constant(650e3))
    decision = running.tick().decision
    assert decision.setpoint_w == pytest.approx(-350e3)
    assert [(s.rank, s.owner, s.by) for s in decision.softened] == [(Rank.AWARD, "a1", "connection limit")]
    assert running.raised("award_not_backed") == [("raised", "a1")]
    running.pv_w = constant(0.0)
    running.run(2)
    assert running.raised("award_not_backed")[-1] == ("cleared", "a1")


def test_a_battery_that_answers_the_frequency_by_itself_within_the_award_is_told_while_the_award_lasts():
    """EPRX, 50 Hz: the whole award is called at 200 mHz."""
    awards = booked(award())
    for from_hz, told in ((0.036, True), (0.199, True), (0.2, False), (0.5, False)):
        sample = replace(battery(), own_droop_from_hz=good(from_hz))
        state, _ = step(SITE, State(), inputs(awards=awards, batteries=(sample,)))
        assert (("own_droop", "bess") in state.conditions) is told
    droopy = replace(battery(), own_droop_from_hz=good(0.036))
    state, _ = step(SITE, State(), inputs(batteries=(droopy,)))
    assert ("own_droop", "bess") not in state.conditions
    old = replace(battery(20.0), own_droop_from_hz=good(0.036, 0.0))
    state, _ = step(SITE, State(), inputs(20.0, awards=awards, batteries=(old,)))
    assert ("own_droop", "bess") not in state.conditions
