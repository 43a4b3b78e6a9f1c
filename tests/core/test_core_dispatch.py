"""From the wanted power to setpoints: what yields to what, and whole sites in closed loop."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from itertools import pairwise

import pytest
from core_fleet import Cell, Fleet, reading
from core_site import BATTERY, SITE, battery
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.core.bounds import Bound, Rank
from agent.core.curtailment import ConnectionLimits
from agent.core.derating import Cells, Curve, Derating, Quantity
from agent.core.dispatch import DispatchState, Request, dispatch
from agent.core.envelope import BatteryMemory, BatteryMoment, battery_unit, connection_bounds
from agent.core.envelope_rules import BatteryLimits
from agent.core.hybrid import SharedInverter
from agent.core.orders import Curtailment
from agent.core.ramp import RampRules, RampState

MOMENT = BatteryMoment(0.0, 1.0, 1800.0, 5.0)
LIMITS = ConnectionLimits(400e3, 400e3)


def one(sample=None, limits=None, **moment):
    return battery_unit(
        BATTERY, limits or BatteryLimits(), sample or battery(), replace(MOMENT, **moment), BatteryMemory()
    )[0]


def done(target_w, *units, others_w=0.0, ramp=None, state=None, limits=LIMITS, **request):
    bounds = connection_bounds(SITE, limits, others_w)
    given = Request(target_w, **request)
    return dispatch(given, units or (one(),), bounds, ramp or RampRules(), state or DispatchState(), mono_s=1.0)[0]


def names(result):
    return [(lost.rank, lost.by) for lost in result.softened]


def test_within_all_bounds_the_target_is_met_and_nothing_is_given_up():
    result = done(123e3)
    assert (result.power_w, result.clips, result.softened, result.held_back_w) == (123e3, (), (), 0.0)


def test_the_ramp_yields_to_the_connection_limit():
    slow = DispatchState(RampState(0.0, 0.0))
    result = done(0.0, others_w=450e3, ramp=RampRules(1e3, 1e3), state=slow)
    assert result.power_w == -50e3
    assert names(result) == [(Rank.RAMP, "connection limit")]


def test_the_ramp_holds_for_the_plan_and_not_for_droop():
    slow = DispatchState(RampState(10e3, 0.0))
    result, state = dispatch(Request(200e3, 80e3), (one(),), (), RampRules(1e3, 1e3), slow, mono_s=1.0)
    assert (result.power_w, result.baseline_w) == (91e3, 11e3)
    assert state.ramp == RampState(11e3, 1.0)


def test_the_ramp_goes_on_from_what_the_limits_left_not_from_what_was_wished():
    slow = DispatchState(RampState(300e3, 0.0))
    _, state = dispatch(
        Request(300e3), (one(),), connection_bounds(SITE, LIMITS, 350e3), RampRules(1e3, 1e3), slow, mono_s=1.0
    )
    assert state.ramp.setpoint_w == 50e3


def test_droop_cut_by_a_limit_leaves_the_baseline_where_it_was():
    slow = DispatchState(RampState(300e3, 0.0))
    result, state = dispatch(
        Request(300e3, 90e3), (one(),), connection_bounds(SITE, LIMITS, 60e3), RampRules(1e3, 1e3), slow, mono_s=1.0
    )
    assert result.power_w == 340e3
    assert state.ramp.setpoint_w == 300e3


def test_comfort_yields_to_the_connection_limit_and_the_band_does_not():
    """89 %: landing at the slot's end would take 21 kW; PV above the export limit needs more."""
    full = battery(soc_pct=89.0)
    assert done(-300e3, one(full)).power_w == pytest.approx(-10e3 / 0.95 * 2)
    result = done(0.0, one(full), others_w=500e3)
    assert result.power_w == -100e3
    assert names(result) == [(Rank.COMFORT, "connection limit")]
    stuck = done(0.0, one(battery(soc_pct=90.0)), others_w=500e3)
    assert stuck.power_w == 0.0
    assert names(stuck) == [(Rank.CONNECTION, "what the batteries can do")]


def test_the_reserve_yields_to_the_import_limit_but_not_to_the_plan_or_droop():
    keep = BatteryLimits(reserve_pct=30.0)
    low = battery(soc_pct=30.0)
    assert done(200e3, one(low, keep)).power_w == 0.0
    assert done(0.0, one(low, keep), droop_w=50e3).power_w == 0.0
    result = done(0.0, one(low, keep), others_w=-500e3)
    assert result.power_w == 100e3
    assert (Rank.RESERVE, "connection limit") in names(result)


def test_droop_may_use_what_comfort_keeps_and_an_award_keeps_the_baseline_out():
    low = one(battery(soc_pct=12.0))
    result = done(0.0, low, droop_w=100e3)
    assert result.power_w == 100e3
    assert names(result) == [(Rank.COMFORT, "frequency response")]
    keep = (Bound("power kept for the award", "a1", -100e3, 50e3, Rank.AWARD),)
    kept = done(300e3, award_bounds=keep, droop_w=100e3)
    assert (kept.power_w, kept.baseline_w, kept.softened) == (150e3, 50e3, ())


def test_an_award_yields_to_a_curtailment_and_a_curtailment_to_the_connection_limit():
    keep = (Bound("power kept for the award", "a1", -10e3, 10e3, Rank.AWARD),)
    ordered = ConnectionLimits(0.0, 400e3, "c1")
    result = done(0.0, others_w=50e3, award_bounds=keep, limits=ordered)
    assert result.power_w == -50e3
    assert names(result) == [(Rank.AWARD, "curtailment c1")]
    narrow = Bound("connection limit", "site file", -30e3, 30e3, Rank.CONNECTION)
    order = Bound("curtailment c1", "grid operator", -math.inf, -90e3, Rank.CURTAILMENT)
    clash, _ = dispatch(Request(0.0), (one(),), (order, narrow), RampRules(), DispatchState(), mono_s=1.0)
    assert clash.power_w == -30e3
    assert names(clash) == [(Rank.CURTAILMENT, "connection limit")]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_target_or_droop_that_is_no_number_means_rest_and_is_told(value):
    result = done(value)
    assert result.power_w == 0.0
    assert result.clips[0].limit == "the wanted power is not a number"
    assert done(50e3, droop_w=value).power_w == 50e3


def test_an_outage_holds_the_battery_at_rest_whatever_the_limits_ask():
    result = done(200e3, one(outage_id="o7"), others_w=500e3)
    assert result.power_w == 0.0
    assert any(clip.limit == "outage o7" for clip in result.clips)


def test_a_soc_a_little_above_100_is_a_full_battery():
    assert one(battery(soc_pct=100.9)).room.hard == (0.0, 450e3)


def test_derating_and_shared_inverter_are_part_of_physics():
    heat = Derating(Quantity.TEMPERATURE_C, *(2 * [Curve(((40.0, 1.0), (60.0, 0.0)))]))
    hot = one(limits=BatteryLimits((heat,)), cells=Cells(temperature_c=50.0))
    assert hot.room.hard == (-250e3, 250e3)
    shared = BatteryLimits(shared_inverter=SharedInverter("pv", 500e3, 700e3))
    assert one(limits=shared, pv_w=200e3).room.hard == (-450e3, 300e3)
    assert one(limits=shared, pv_w=600e3).room.hard == (-450e3, -100e3)
    assert one(battery(soc_pct=90.0), limits=shared, pv_w=600e3).room.hard == (0.0, 0.0)
    assert done(0.0, one(limits=shared, pv_w=600e3)).power_w == -100e3


def test_memory_is_kept_between_ticks_and_only_changed_when_something_did():
    memory = BatteryMemory()
    assert battery_unit(BATTERY, BatteryLimits(), battery(), MOMENT, memory)[1] is memory
    shut = battery_unit(BATTERY, BatteryLimits(), battery(soc_pct=10.0), MOMENT, memory)[1]
    assert shut.gates.discharge_closed_mono_s == 0.0
    heat = Derating(Quantity.TEMPERATURE_C, Curve(((40.0, 1.0), (60.0, 0.0))))
    hot = BatteryLimits((heat,))
    _, warm = battery_unit(BATTERY, hot, battery(), replace(MOMENT, cells=Cells(60.0)), memory)
    unit, _ = battery_unit(BATTERY, hot, battery(), replace(MOMENT, cells=Cells(20.0)), warm)
    assert unit.room.hard[0] == pytest.approx(-500e3 * 0.005)


def test_a_silent_battery_may_still_give_or_lose_its_power_and_the_limits_hold_either_way():
    """The meter shows 300 kW; 250 kW of that may be the silent battery, which may stop or go on."""
    (bound,) = connection_bounds(SITE, LIMITS, 300e3, (250e3,))
    assert (bound.lower_w, bound.upper_w) == (-450e3, 100e3)
    (charging,) = connection_bounds(SITE, LIMITS, -300e3, (-250e3,))
    assert (charging.lower_w, charging.upper_w) == (-100e3, 450e3)
    alone = replace(SITE, pv_ids=(), has_load=False)
    (blind,) = connection_bounds(alone, LIMITS, None, (250e3, -50e3))
    assert (blind.lower_w, blind.upper_w) == (-350e3, 150e3)
    (clash,) = connection_bounds(replace(SITE, export_limit_w=10.0, import_limit_w=10.0), LIMITS, 0.0, (250e3,))
    assert (clash.lower_w, clash.upper_w) == (-10.0, 10.0)


def test_with_the_connection_power_unknown_a_site_with_load_rests():
    (bound,) = connection_bounds(SITE, LIMITS, None)
    assert (bound.lower_w, bound.upper_w, bound.limit) == (0.0, 0.0, "connection power unknown")


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("how", ["not ready", "bms limit", "silent"])
def test_a_battery_that_drops_out_never_takes_the_site_over_its_limit(sign, how):
    cells = [Cell("a", lag=2), Cell("b", lag=0), Cell("c", lag=4)]
    fleet = Fleet(cells, export_w=600e3, import_w=600e3)
    grid = []
    for tick in range(120):
        if tick == 40:
            cells[0].ready = how != "not ready"
            cells[0].silent = how == "silent"
            cells[0].live_w = 0.0 if how == "bms limit" else None
        if tick == 80 and how == "silent":
            cells[0].held_w = 0.0
            cells[0].sent_w = None
        result = fleet.tick(sign * 590e3)
        grid.append(fleet.grid_w * sign)
    assert max(grid) <= 600e3 + 1.0
    assert grid[38] == pytest.approx(590e3)
    assert grid[-1] == pytest.approx(590e3)
    assert result.shares_w["a"] == 0.0


@settings(max_examples=40)
@example(lags=[4, 2, 2, 1], seed=819, least=0.0)
@given(
    lags=st.lists(st.integers(0, 4), min_size=2, max_size=6),
    seed=st.integers(0, 10_000),
    least=st.sampled_from([0.0, 3e4]),
)
def test_under_changing_targets_and_failing_batteries_the_site_limit_holds_at_every_second(lags, seed, least):
    chance = random.Random(seed)
    cells = [Cell(f"b{i}", chance.uniform(20, 80), lag=lag) for i, lag in enumerate(lags)]
    fleet = Fleet(cells, export_w=450e3, import_w=350e3, limits=BatteryLimits(min_useful_w=least))
    target_w = 0.0
    for _ in range(100):
        if chance.random() < 0.2:
            target_w = chance.choice([-350e3, 450e3, chance.uniform(-6e5, 6e5)])
        for cell in cells:
            if chance.random() < 0.03:
                cell.ready = not cell.ready
            if chance.random() < 0.03:
                cell.live_w = chance.choice([None, 0.0, 60e3])
        fleet.tick(target_w)
        # A battery that comes back takes up the power it still holds: nobody can pace that.
        if all(cell.ready for cell in cells):
            assert -350e3 - 1.0 <= fleet.grid_w <= 450e3 + 1.0


def test_the_share_of_a_battery_that_stopped_moves_within_the_same_tick():
    cells = [Cell("a", lag=0), Cell("b", lag=0), Cell("c", lag=0)]
    fleet = Fleet(cells, export_w=600e3, import_w=600e3)
    for _ in range(20):
        fleet.tick(590e3)
    cells[0].ready, cells[0].power_w, cells[0].held_w = False, 0.0, 0.0
    result = fleet.tick(590e3)
    assert result.shares_w == pytest.approx({"a": 0.0, "b": 295e3, "c": 295e3})


def test_a_battery_with_missing_soc_is_never_counted_as_empty():
    cells = [Cell("a"), Cell("b")]
    fleet = Fleet(cells)
    blind = replace(cells[0].sample(), soc_pct=reading(None))
    units = (
        battery_unit(fleet.rules[0], fleet.limits, blind, MOMENT, BatteryMemory())[0],
        fleet.unit(fleet.rules[1], cells[1]),
    )
    result, _ = dispatch(Request(-100e3), units, (), RampRules(), DispatchState(), mono_s=0.0)
    assert result.shares_w == {"a": 0.0, "b": -100e3}


@pytest.mark.parametrize(("start_pct", "target_w"), [(13.0, 400e3), (87.0, -400e3)])
def test_at_a_limit_the_battery_comes_to_rest_without_bouncing(start_pct, target_w):
    fleet = Fleet([Cell("a", start_pct)], dt_s=4.0)
    powers = []
    for _ in range(1350):
        powers.append(fleet.tick(target_w).power_w)
        assert 9.99 <= fleet.cells[0].soc_pct <= 90.01
    late = powers[900:]
    starts = sum(after != 0.0 and before == 0.0 for before, after in pairwise(powers))
    assert starts == 0
    assert max(map(abs, late)) < 20e3
    assert abs(fleet.cells[0].soc_pct - (10.0 if target_w > 0 else 90.0)) < 0.5


def test_a_noisy_soc_at_the_limit_switches_at_most_once_in_a_minute():
    chance = random.Random(7)
    fleet = Fleet([Cell("a", 10.2)], soc_noise=lambda: chance.gauss(0.0, 1.0))
    powers = [fleet.tick(100e3).power_w for _ in range(3600)]
    starts = sum(after > 1.0 and before <= 1.0 for before, after in pairwise(powers))
    assert starts <= 60


def test_a_target_around_zero_does_not_wander_from_battery_to_battery():
    chance = random.Random(3)
    fleet = Fleet([Cell(f"b{i}", 50.0 + 0.3 * i) for i in range(4)], limits=BatteryLimits(min_useful_w=20e3))
    used = [fleet.tick(chance.gauss(0.0, 5e3)) and fleet.state.in_use for _ in range(600)]
    assert len(set(used)) == 1


@settings(max_examples=60)
@given(
    socs=st.lists(st.one_of(st.none(), st.floats(0, 100)), min_size=1, max_size=5), seed=st.integers(0, 10_000),
    export=st.sampled_from([0.0, 200e3, 2e6]), imported=st.sampled_from([0.0, 300e3, 2e6]),
    reserve=st.one_of(st.none(), st.floats(10, 60)), rate=st.one_of(st.none(), st.floats(1e3, 1e5)),
)  # fmt: skip
def test_whatever_comes_every_share_is_within_its_physics_and_each_sacrifice_is_told(
    socs, seed, export, imported, reserve, rate
):
    chance = random.Random(seed)
    cells = [Cell(f"b{i}", 50.0 if soc is None else soc, lag=i % 3, silent=soc is None) for i, soc in enumerate(socs)]
    orders = (Curtailment("c1", 5.0, 15.0, chance.uniform(0, 3e5), chance.uniform(0, 3e5)),)
    fleet = Fleet(
        cells, export, imported, pv_rated_w=800e3, load_w=-chance.uniform(0, 6e5), orders=orders,
        limits=BatteryLimits(reserve_pct=reserve, min_useful_w=10e3), ramp=RampRules(rate, rate),
    )  # fmt: skip
    for _ in range(25):
        fleet.pv_potential_w = chance.uniform(0, 8e5)
        target_w, droop_w = chance.uniform(-2e6, 2e6), chance.choice([0.0, chance.uniform(-1e5, 1e5)])
        others_w = fleet.grid_w - sum(c.power_w for c in cells if not c.silent)
        result = fleet.tick(target_w, droop_w)
        for unit in fleet.units:
            low_w, high_w = unit.room.hard
            assert low_w - 1e-6 <= result.shares_w[unit.device_id] <= high_w + 1e-6
        total_w = result.power_w + result.held_back_w
        broken = not -imported - 1.0 <= others_w + total_w <= export + 1.0
        assert broken == any(lost.rank is Rank.CONNECTION for lost in result.softened)
        if broken:
            edge = 0 if others_w + total_w > export else 1
            assert total_w == pytest.approx(sum(u.room.hard[edge] for u in fleet.units), abs=1e-3)
