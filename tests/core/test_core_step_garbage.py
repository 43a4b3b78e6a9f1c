"""Whatever the devices say, a tick ends with an outcome: no exception, finite setpoints within hard bounds, a reason."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from core_site import BATTERY, SITE, T0, battery, good, inputs, meter, missing, plan, pv
from core_step_site import award, booked, rules_of
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.decision import Inputs, State
from agent.core.orders import Curtailment, Orders, Outage
from agent.core.plan import PlanKind, Plans, Target
from agent.core.rules import LocalRule
from agent.core.snapshot import BatterySample, MeterSample, PvSample, Quality, Reading, WriteOutcome
from agent.core.step import step

NONSENSE = [
    math.nan, math.inf, -math.inf, 0.0, -0.0, -1.0, 5e-324, 1e-9, 6553.5, 65535.0, -32768.0, 2147483647.0,
    4294967295.0, 1e14, 1e300, -1e300, 1.7976931348623157e308,
]  # fmt: skip
NOTHING = [math.nan, math.inf, -math.inf, -1e300]


def after(given_inputs, rules=SITE, state=None):
    state, effects = step(rules, state or State(), given_inputs)
    return effects.decision, set(state.conditions), effects


@pytest.mark.parametrize("soc_pct", [6553.5, -40.0, 102.0, *NOTHING])
def test_a_soc_that_is_none_rests_the_battery_is_no_soc_anywhere_and_is_told(soc_pct):
    sample = replace(battery(), soc_pct=good(soc_pct))
    decision, conditions, effects = after(inputs(plans=Plans(plan(100e3)), batteries=(sample,)))
    assert (decision.setpoint_w, decision.soc_pct) == (0.0, None)
    assert ("soc_unknown", "bess") in conditions
    assert ("soc_outside_band", "bess") not in conditions
    assert [clip.limit for clip in decision.clips] == ["SoC implausible"]
    assert [write.power_w for write in effects.writes] == [0.0]


@pytest.mark.parametrize("capacity_wh", [0.0, -0.0, -1e6, 5e-324, *NOTHING])
def test_a_capacity_that_is_none_rests_the_battery_and_is_told(capacity_wh):
    sample = replace(battery(), capacity_wh=good(capacity_wh))
    decision, conditions, _ = after(inputs(plans=Plans(plan(100e3)), batteries=(sample,)))
    assert (decision.setpoint_w, decision.soc_pct) == (0.0, None)
    assert ("capacity_unknown", "bess") in conditions


@pytest.mark.parametrize("rated_w", [0.0, -5.0])
@pytest.mark.parametrize(("way", "asked_w"), [("rated_discharge_w", 100e3), ("rated_charge_w", -100e3)])
def test_a_rating_of_nothing_allows_nothing_that_way_and_is_told(way, asked_w, rated_w):
    sample = replace(battery(), **{way: good(rated_w)})
    decision, conditions, _ = after(inputs(plans=Plans(plan(asked_w)), batteries=(sample,)))
    assert decision.setpoint_w == 0.0
    assert [clip.limit for clip in decision.clips] == ["nameplate"]
    assert ("rating_implausible", "bess") in conditions
    assert after(inputs(plans=Plans(plan(-asked_w)), batteries=(sample,)))[0].setpoint_w == -asked_w


@pytest.mark.parametrize("rated_w", NOTHING[:3])
def test_a_rating_that_is_no_number_is_not_read_and_the_site_files_counts(rated_w):
    sample = replace(battery(), rated_discharge_w=good(rated_w), live_discharge_limit_w=good(rated_w))
    decision, _, _ = after(inputs(plans=Plans(plan(600e3)), batteries=(sample,)), replace(SITE, export_limit_w=1e6))
    assert decision.setpoint_w == 500e3


@pytest.mark.parametrize("power_w", NOTHING)
def test_a_battery_power_that_is_no_number_is_a_silent_battery(power_w):
    sample = replace(battery(), power_w=good(power_w))
    decision, conditions, effects = after(inputs(plans=Plans(plan(100e3)), batteries=(sample,)))
    assert (decision.setpoint_w, decision.battery_w, decision.load_w) == (0.0, None, None)
    assert effects.writes == ()
    assert ("device_silent", "bess") in conditions


@pytest.mark.parametrize("power_w", NOTHING)
def test_a_meter_power_that_is_no_number_is_a_silent_meter(power_w):
    decision, conditions, _ = after(
        inputs(plans=Plans(plan(100e3, target=Target.GRID)), meter=replace(meter(), power_w=good(power_w)))
    )
    assert (decision.setpoint_w, decision.grid_w) == (0.0, None)
    assert ("device_silent", "meter") in conditions


@pytest.mark.parametrize("power_w", NOTHING)
def test_a_pv_power_that_is_no_number_is_told_and_the_connection_is_controlled_without_it(power_w):
    tick = inputs(
        plans=Plans(plan(100e3, target=Target.GRID)), pvs=(replace(pv(), power_w=good(power_w)),),
        meter=meter(power_w=30e3),
    )  # fmt: skip
    decision, conditions, _ = after(tick)
    assert decision.setpoint_w == pytest.approx(70e3)
    assert (decision.pv_w, decision.load_w) == (None, None)
    assert ("device_silent", "pv") in conditions


@pytest.mark.parametrize("hz", [0.0, 6553.5, 4999.0, -50.0, math.nan, math.inf])
def test_a_frequency_that_no_grid_has_is_no_frequency_and_is_told(hz):
    decision, conditions, _ = after(inputs(meter=replace(meter(), frequency_hz=good(hz))))
    assert decision.frequency_hz is None
    assert ("frequency_implausible", "meter") in conditions


@pytest.mark.parametrize("count_wh", NOTHING)
def test_a_counter_that_is_no_number_leaves_the_slot_to_integration(count_wh):
    odd = replace(meter(power_w=36e3), export_wh=good(count_wh), import_wh=good(0.0))
    plans = Plans(plan(36e3, target=Target.GRID))
    state, _ = step(SITE, State(), inputs(0.0, plans, meter=odd))
    odd = replace(meter(1.0, 36e3), export_wh=good(count_wh, 1.0), import_wh=good(0.0, 1.0))
    decision, _, _ = after(inputs(1.0, plans, meter=odd), state=state)
    assert decision.slot_done_wh == pytest.approx(10.0)


@pytest.mark.parametrize("power_w", [math.nan, math.inf, -math.inf])
def test_a_plan_that_is_no_number_means_rest_and_says_so(power_w):
    """The wire refuses such a plan; should one come through, nothing moves on it."""
    for target in Target:
        decision, _, _ = after(inputs(plans=Plans(plan(power_w, target=target))))
        assert decision.setpoint_w == 0.0
        assert decision.clips[0].limit == "the wanted power is not a number"


def test_a_glitch_of_one_reading_is_over_with_the_next_good_one():
    state, _ = step(SITE, State(), inputs(0.0, Plans(plan(100e3))))
    odd = replace(battery(1.0), soc_pct=good(6553.5, 1.0), capacity_wh=good(-1.0, 1.0))
    state, glitch = step(SITE, state, inputs(1.0, Plans(plan(100e3)), batteries=(odd,)))
    state, healed = step(SITE, state, inputs(2.0, Plans(plan(100e3))))
    assert (glitch.decision.setpoint_w, healed.decision.setpoint_w) == (0.0, 100e3)
    assert [(e.code, e.state) for e in healed.events] == [("soc_unknown", "cleared"), ("capacity_unknown", "cleared")]


AGES = st.one_of(st.floats(0.0, 12.0), st.sampled_from([0.0, 9.9, 10.1, 1e6]))
QUALITIES = st.sampled_from(list(Quality))


@st.composite
def readings(draw, usual):
    """A good reading near `usual`, nonsense, or none; of any age."""
    at = 100.0 - draw(AGES)
    kind = draw(st.integers(0, 9))
    if kind < 5:
        return Reading(usual * draw(st.floats(0.9, 1.1)), at)
    if kind < 8:
        return Reading(draw(st.one_of(st.sampled_from(NONSENSE), st.floats())), at)
    return Reading(None, at, draw(QUALITIES))


@st.composite
def samples(draw, device_id):
    power_w, rated_w = draw(st.sampled_from([-3e5, 0.0, 3e5])), 500e3
    return BatterySample(
        device_id, draw(readings(power_w)), draw(readings(50.0)), draw(readings(1e6)), draw(readings(rated_w)),
        draw(readings(rated_w)), draw(readings(450e3)), draw(readings(450e3)), draw(readings(1.0)),
        draw(readings(power_w)), draw(st.sampled_from([True, False, None])), draw(readings(25.0)),
        draw(readings(3.2)), draw(readings(3.3)),
    )  # fmt: skip


@st.composite
def whole_inputs(draw, rules):
    at_s = draw(st.floats(0.0, 3700.0))
    powers = st.one_of(st.none(), st.floats(-4e5, 4e5))
    rolling = plan(*draw(st.lists(powers, min_size=1, max_size=3)), target=draw(st.sampled_from(list(Target))))
    yearly = plan(draw(st.floats(-4e5, 4e5)), kind=PlanKind.YEARLY)
    orders = Orders(
        curtailments=tuple(
            Curtailment("c", T0 + draw(st.floats(-100, 100)), T0 + draw(st.floats(0, 4000)), draw(limit), draw(limit))
            for limit in draw(st.lists(st.just(st.one_of(st.none(), st.floats())), max_size=2))
        ),
        outages=tuple(
            Outage("o", T0, T0 + draw(st.floats(0, 4000)), draw(st.sampled_from([None, "b0", "b1", "x"])))
            for _ in range(draw(st.integers(0, 1)))
        ),
    )
    awards = booked(
        *(
            award(f"a{i}", draw(st.floats(1e3, 9e5)), draw(st.floats(0, 2000)), draw(st.floats(0, 4000)))
            for i in range(draw(st.integers(0, 2)))
        )
    )
    outcomes = tuple(
        WriteOutcome(battery_rules.device_id, 1e5, draw(st.sampled_from([1e5, None])), draw(st.booleans()), "", 100.0)
        for battery_rules in rules.batteries
        if draw(st.booleans())
    )
    return Inputs(
        T0 + at_s, 100.0, draw(st.booleans()), draw(st.sampled_from([Plans(), Plans(rolling), Plans(rolling, yearly)])),
        tuple(draw(samples(one.device_id)) for one in rules.batteries),
        tuple(PvSample(pv_id, draw(readings(2e5))) for pv_id in rules.pv_ids),
        draw(st.one_of(st.none(), st.builds(
            MeterSample, st.just("meter"), readings(-1e5), readings(50.0), readings(1e9), readings(1e9)
        ))),
        orders, awards, outcomes=outcomes,
    )  # fmt: skip


def number(reading, at):
    """The value if it is fresh and a number at all, judged anew from the raw reading."""
    fresh = reading.quality is Quality.GOOD and at - reading.read_mono_s <= 10.0
    return reading.value if fresh and reading.value is not None and math.isfinite(reading.value) else None


def usable(sample, at):
    """What the written rules demand before a battery may move."""
    soc_pct, capacity_wh = number(sample.soc_pct, at), number(sample.capacity_wh, at)
    return (
        number(sample.power_w, at) is not None and number(sample.ready, at) == 1.0
        and soc_pct is not None and -1.0 <= soc_pct <= 101.0 and capacity_wh is not None and capacity_wh > 0.0
    )  # fmt: skip


RULES = (
    rules_of(1),
    rules_of(2, export_limit_w=300e3, import_limit_w=200e3, local_rule=LocalRule.SELF_CONSUMPTION),
    rules_of(1, pv_ids=(), has_load=False, meter_id=None),
    rules_of(3, pv_ids=("pv", "pv2")),
)


@settings(max_examples=120)
@given(data=st.data(), rules=st.sampled_from(RULES))
def test_no_reading_makes_a_tick_fail_and_no_battery_moves_on_what_is_not_known(data, rules):
    state = State()
    for _ in range(2):
        tick = data.draw(whole_inputs(rules))
        state, effects = step(rules, state, tick)
        decision = effects.decision
        numbers = (decision.setpoint_w, decision.baseline_w, *decision.shares_w.values())
        assert all(math.isfinite(number) for number in numbers)
        for battery_rules, sample in zip(rules.batteries, tick.batteries, strict=True):
            share_w = decision.shares_w[battery_rules.device_id]
            assert -battery_rules.rated_charge_w <= share_w <= battery_rules.rated_discharge_w
            if not usable(sample, tick.mono_s):
                assert share_w == 0.0
        blind = {one.device_id for one in tick.batteries if number(one.power_w, tick.mono_s) is None}
        assert not blind & {write.device_id for write in effects.writes}
        if not tick.clock_trusted:
            assert decision.slot is None
        for told in (decision.battery_w, decision.pv_w, decision.grid_w, decision.load_w, decision.soc_pct):
            assert told is None or math.isfinite(told)
        assert step(rules, state, tick) == step(rules, state, tick)


def test_missing_is_never_zero_in_what_is_told():
    blank = inputs(
        batteries=(BatterySample("bess"),), pvs=(PvSample("pv"),), meter=MeterSample("meter", missing(), missing())
    )
    decision, _, effects = after(blank)
    told = (
        decision.battery_w,
        decision.pv_w,
        decision.load_w,
        decision.grid_w,
        decision.soc_pct,
        decision.frequency_hz,
    )
    assert told == (None,) * 6
    assert effects.writes == ()
    assert BATTERY.device_id in decision.shares_w


def test_a_battery_that_refuses_for_days_is_asked_again_every_ten_seconds():
    """Fifteen hundred refusals in a row: the pause between them is bounded, and so are all numbers."""
    state, asked = State(), []
    for t in range(0, 30_000, 10):
        failed = WriteOutcome("bess", 0.0, None, False, "timeout", float(t) - 9.0)
        outcomes = (failed,) if state.writes and state.writes[0].in_flight else ()
        state, effects = step(SITE, state, inputs(float(t), outcomes=outcomes))
        asked.append(len(effects.writes))
    assert sum(asked) >= 1400
    assert ("setpoint_refused", "bess") in state.conditions
