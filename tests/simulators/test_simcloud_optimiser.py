"""The optimiser against cases known on paper, against physics, and against simpler rules."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.market import SHOW_START, load_jepx
from simulators.optimiser import BatteryModel, Connection, NoScheduleError, Problem, optimise

LOSSLESS = BatteryModel(100.0, 50.0, 50.0, 1.0, 1.0, soc_min_pct=0.0, soc_max_pct=100.0, cycle_cost_per_kwh=0.0)
LOSSY = BatteryModel(1000.0, 400.0, 400.0, 0.9, 0.9, cycle_cost_per_kwh=0.0)
WIDE = Connection(1e4, 1e4)


def problem(prices, soc_now_pct=0.0, pv=0.0, load=0.0, **more) -> Problem:
    count = len(prices)
    return Problem(prices, more.pop("slot_h", 1.0), soc_now_pct, [pv] * count, [load] * count, **more)


def test_it_buys_cheap_and_sells_dear():
    plan = optimise(problem([1.0, 10.0]), LOSSLESS, WIDE)
    assert plan.battery_kw == pytest.approx([-50.0, 50.0])
    assert plan.soc_end_pct == pytest.approx([50.0, 0.0])
    assert plan.profit == pytest.approx(450.0)


def test_it_does_nothing_when_the_spread_does_not_pay_for_losses_and_wear():
    """Losses alone ask for 1 / (0.9 * 0.9) = 1.23 times the price."""
    assert optimise(problem([10.0, 12.0], 10.0), LOSSY, WIDE).battery_kw == pytest.approx([0.0, 0.0], abs=1e-6)
    worn = BatteryModel(100.0, 50.0, 50.0, 1.0, 1.0, 0.0, 100.0, cycle_cost_per_kwh=5.0)
    assert optimise(problem([1.0, 5.9]), worn, WIDE).battery_kw == pytest.approx([0.0, 0.0], abs=1e-6)
    assert optimise(problem([1.0, 6.1]), worn, WIDE).battery_kw == pytest.approx([-50.0, 50.0])


def test_of_equal_prices_it_takes_the_earlier():
    plan = optimise(problem([1.0, 1.0, 1.0, 10.0]), LOSSLESS, WIDE)
    assert plan.battery_kw == pytest.approx([-50.0, 0.0, 0.0, 50.0], abs=1e-6)


def test_the_connection_limit_counts_pv_and_load():
    """50 kW of discharge and 30 kW of PV do not fit through 60 kW of export; 10 kW of load makes room."""
    plan = optimise(problem([10.0], 100.0, pv=30.0, load=-10.0), LOSSLESS, Connection(60.0, 60.0))
    assert plan.battery_kw == pytest.approx([40.0])
    assert plan.grid_kw == pytest.approx([60.0])


def test_what_no_battery_can_keep_within_the_connection_is_an_error():
    with pytest.raises(NoScheduleError, match="check the PV and load forecast"):
        optimise(problem([10.0], load=-500.0), LOSSLESS, Connection(60.0, 60.0))


def test_it_keeps_the_wanted_energy_for_the_end_when_that_is_worth_more():
    assert optimise(problem([5.0], 80.0), LOSSLESS, WIDE).soc_end_pct == pytest.approx([30.0])
    kept = optimise(problem([5.0], 80.0, soc_final_pct=70.0), LOSSLESS, WIDE)
    assert kept.soc_end_pct == pytest.approx([70.0])
    sold = optimise(problem([50.0], 80.0, soc_final_pct=70.0), LOSSLESS, WIDE)
    assert sold.soc_end_pct == pytest.approx([30.0])


def test_a_battery_below_its_band_moves_toward_it_and_still_has_a_plan():
    plan = optimise(problem([100.0, 100.0], 2.0), LOSSY, Connection(1e4, 20.0))
    assert plan.battery_kw == pytest.approx([-20.0, -20.0])


def test_negative_prices_never_charge_and_discharge_at_once():
    """Ten hours paid for taking energy, a battery with room for two: the LP would burn it, the MILP may not."""
    prices = [-5.0] * 10
    plan = optimise(problem(prices, 10.0), LOSSY, WIDE)
    assert plan.used_milp
    # Each hour is either charge or discharge, so SoC must follow from the net power alone.
    check_physics(plan, problem(prices, 10.0), LOSSY)


def check_physics(plan, asked, battery):
    """Replay the net power through the battery: SoC and limits must come out as the plan says."""
    energy = battery.capacity_kwh * asked.soc_now_pct / 100.0
    for power, soc_pct in zip(plan.battery_kw, plan.soc_end_pct, strict=True):
        assert -battery.charge_kw - 1e-6 <= power <= battery.discharge_kw + 1e-6
        efficiency = battery.charge_efficiency if power < 0 else 1.0 / battery.discharge_efficiency
        energy -= power * efficiency * asked.slot_h
        assert soc_pct == pytest.approx(100.0 * energy / battery.capacity_kwh, abs=0.01)
        assert battery.soc_min_pct - 0.01 <= soc_pct <= battery.soc_max_pct + 0.01


@settings(max_examples=25)
@given(
    prices=st.lists(st.floats(-50, 100), min_size=1, max_size=16),
    soc_now_pct=st.floats(10.0, 90.0),
    final=st.none() | st.floats(10.0, 90.0),
)
def test_every_schedule_is_physically_possible(prices, soc_now_pct, final):
    asked = problem(prices, soc_now_pct, slot_h=0.5, soc_final_pct=final)
    check_physics(optimise(asked, LOSSY, WIDE), asked, LOSSY)


def rule_profit(prices, battery, charge_below, discharge_above):
    """What a threshold rule earns from the same battery, without wear, energy left over worth nothing."""
    slot_h, energy, money = 0.5, battery.capacity_kwh * 0.5, 0.0
    low, high = (battery.capacity_kwh * pct / 100.0 for pct in (battery.soc_min_pct, battery.soc_max_pct))
    for price in prices:
        power = 0.0
        if price <= charge_below:
            power = -min(battery.charge_kw, (high - energy) / battery.charge_efficiency / slot_h)
        elif price >= discharge_above:
            power = min(battery.discharge_kw, (energy - low) * battery.discharge_efficiency / slot_h)
        efficiency = battery.charge_efficiency if power < 0 else 1.0 / battery.discharge_efficiency
        energy -= power * efficiency * slot_h
        money += price * power * slot_h
    return money


def test_on_real_prices_it_earns_more_than_any_threshold_rule():
    prices = load_jepx("kyushu").window(SHOW_START.timestamp(), 96)
    best = optimise(problem(prices, 50.0, slot_h=0.5), LOSSY, WIDE).profit
    ranked = sorted(prices)
    rules = [
        rule_profit(prices, LOSSY, ranked[low], ranked[high]) for low in range(0, 48, 4) for high in range(48, 96, 4)
    ]
    assert best > max(rules) > 0.0
