"""The optimal plan against cases known on paper, and every plan of the model against the independent checker."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replan_requests import T0, any_request, priced, promised, replayed, request

from agent.core.plan import Target
from agent.core.replan_request import PlannedSlot, refusal
from agent.core.replan_rules import rule_plan
from agent.replan.check import check
from agent.replan.cost import cost
from agent.replan.model import solve

CALM = settings(max_examples=150)


def best(asked):
    """The checked optimal powers in kW."""
    planned = check(asked, solve(asked))
    assert not isinstance(planned, str), planned
    return [round(slot.battery_w / 1e3, 3) + 0.0 for slot in planned]


def test_it_buys_cheap_and_sells_dear():
    assert best(priced(1.0, 10.0)) == [-50.0, 50.0]


def test_losses_and_wear_must_pay_for_themselves():
    """90 % each way asks for 1 / 0.81 = 1.235 times the price."""
    lossy = {"charge_efficiency": 0.9, "discharge_efficiency": 0.9}
    assert best(priced(10.0, 12.3, **lossy)) == [0.0, 0.0]
    assert best(priced(10.0, 12.4, **lossy)) == [-50.0, 40.5]
    assert best(priced(1.0, 5.9, cycle_cost_per_kwh=5.0)) == [0.0, 0.0]
    assert best(priced(1.0, 6.1, cycle_cost_per_kwh=5.0)) == [-50.0, 50.0]


def test_of_equal_prices_it_takes_the_earlier():
    assert best(priced(1.0, 1.0, 1.0, 10.0)) == [-50.0, 0.0, 0.0, 50.0]


def test_a_first_slot_that_is_partly_over_counts_by_its_length():
    asked = priced(1.0, 10.0)
    half = replace(asked.slots[0], start_utc_s=T0 + 1800.0)
    assert best(replace(asked, slots=(half, asked.slots[1]))) == [-50.0, 25.0]


def test_energy_left_over_is_worth_what_the_request_says():
    assert best(priced(5.0, soc_now_pct=80.0, terminal_value_per_kwh=4.0)) == [50.0]
    assert best(priced(5.0, soc_now_pct=80.0, terminal_value_per_kwh=6.0)) == [-20.0]
    assert best(priced(5.0, soc_now_pct=80.0, terminal_value_per_kwh=6.0, terminal_soc_pct=70.0)) == [10.0]
    assert best(priced(5.0, soc_now_pct=80.0, terminal_value_per_kwh=4.0, terminal_soc_pct=70.0)) == [50.0]


def test_a_promise_is_broken_only_when_that_earns_more_than_the_imbalance_costs():
    for imbalance, expected in ((4.0, [50.0]), (6.0, [20.0])):
        slot = {"price_per_kwh": 5.0, "sold_w": 20e3, "imbalance_price_per_kwh": imbalance}
        assert best(request(slot, soc_now_pct=80.0)) == expected


def test_without_an_imbalance_price_a_deviation_costs_the_mean_price():
    """Mean |price| is 15: to shift 20 kWh from 10 to 20 would earn 10 and cost 15 twice."""
    slots = [{"price_per_kwh": price, "sold_w": 20e3} for price in (10.0, 20.0)]
    assert best(request(*slots, soc_now_pct=40.0)) == [20.0, 20.0]


def test_a_negative_imbalance_price_is_no_invitation():
    slot = {"price_per_kwh": 1.0, "sold_w": 20e3, "imbalance_price_per_kwh": -5.0}
    assert best(request(slot, soc_now_pct=80.0)) == [50.0]


def test_without_prices_it_deviates_least():
    """60 kWh are sold of 45 kWh: as much as possible of both slots, nothing else moves."""
    assert sum(best(promised(30e3, 30e3, soc_now_pct=45.0))) == pytest.approx(45.0)
    assert best(promised(30e3, None, -20e3, soc_now_pct=45.0)) == [30.0, 0.0, -20.0]


def test_without_prices_it_prepares_for_what_is_sold_later():
    """40 kWh are sold from an empty battery: resting first would miss all of it, charging in the free slot nothing."""
    assert best(promised(None, 40e3)) == [-40.0, 40.0]


def test_a_missing_price_is_not_zero():
    """0 would be a slot to buy in; the mean of 9 and 11 is not."""
    assert best(priced(9.0, None, 9.5, cycle_cost_per_kwh=1.0)) == [0.0, 0.0, 0.0]


def test_a_promise_at_the_connection_point_counts_pv_and_load():
    slot = {"sold_w": 40e3, "target": Target.GRID, "pv_w": 30e3, "load_w": -10e3}
    assert best(request(slot, soc_now_pct=50.0)) == [20.0]


def test_the_connection_limit_counts_pv_and_load():
    slot = {"price_per_kwh": 10.0, "pv_w": 30e3, "load_w": -10e3, "export_limit_w": 60e3}
    assert best(request(slot, soc_now_pct=100.0)) == [40.0]


def test_surplus_pv_is_taken_before_it_is_limited_and_against_the_price():
    """Export 20 kW, PV 100 kW: 50 kW fit into the battery, 30 kW must be limited, though charging costs money."""
    slot = {"price_per_kwh": 90.0, "pv_w": 100e3, "export_limit_w": 20e3}
    asked = request(slot, soc_now_pct=0.0)
    assert best(asked) == [-50.0]
    planned = check(asked, solve(asked))
    assert isinstance(planned[0], PlannedSlot)
    assert planned[0].grid_w == pytest.approx(20e3)


def test_a_load_beyond_the_import_limit_is_helped_and_the_rest_is_reported_not_infeasible():
    slot = {"price_per_kwh": -5.0, "load_w": -200e3, "import_limit_w": 100e3}
    assert best(request(slot, soc_now_pct=30.0)) == [30.0]


def test_an_award_keeps_its_power_and_its_energy():
    """20 kW of 50 kW and 10 kWh each way are held: 30 kW down to 10 kWh, up to 90 kWh."""
    award = {"award_up_w": 20e3, "award_down_w": 20e3, "award_up_wh": 10e3, "award_down_wh": 10e3}
    slots = [{"price_per_kwh": price} | award for price in (100.0, 90.0, 80.0)]
    assert best(request(*slots, soc_now_pct=60.0)) == [30.0, 20.0, 0.0]
    slots = [{"price_per_kwh": price} | award for price in (-100.0, -90.0, -80.0)]
    assert best(request(*slots, soc_now_pct=40.0)) == [-30.0, -20.0, 0.0]


def test_it_charges_before_an_award_that_needs_energy():
    slots = [{"price_per_kwh": 100.0}, {"price_per_kwh": 90.0, "award_up_w": 5e3, "award_up_wh": 30e3}]
    assert best(request(*slots)) == [-30.0, 0.0]


def test_an_award_beyond_the_rating_or_the_capacity_still_has_a_plan():
    award = {"award_up_w": 90e3, "award_down_w": 90e3, "award_up_wh": 90e3, "award_down_wh": 90e3}
    assert best(request({"price_per_kwh": 100.0} | award, soc_now_pct=70.0)) == [0.0]


@pytest.mark.parametrize(("soc_pct", "price", "expected"), [(2.0, 100.0, [-8.0, 0.0]), (97.0, -100.0, [7.0, 0.0])])
def test_outside_the_band_it_moves_toward_it_whatever_the_price(soc_pct, price, expected):
    assert best(priced(price, price, soc_now_pct=soc_pct, soc_min_pct=10.0, soc_max_pct=90.0)) == expected


@pytest.mark.parametrize(
    ("soc_pct", "prices", "expected"),
    [
        (2.0, (20.0, 12.0, 15.0, 15.0, 15.0, 15.0, 1.0), [0.0, -8.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
        (97.0, (12.0, 20.0, 15.0, 15.0, 15.0, 15.0, 99.0), [0.0, 7.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
        (2.0, (20.0, None, 15.0), [-8.0, 0.0, 0.0]),
    ],
)
def test_outside_the_band_it_comes_back_at_the_best_price_of_six_hours(soc_pct, prices, expected):
    """Wear of 200 per kWh: nothing else is worth doing. Without a price nothing says that waiting pays."""
    asked = priced(*prices, soc_now_pct=soc_pct, soc_min_pct=10.0, soc_max_pct=90.0, cycle_cost_per_kwh=200.0)
    planned = best(asked)
    assert planned == expected
    assert [round(slot.battery_w / 1e3, 3) for slot in rule_plan(asked)] == expected


def test_an_award_that_needs_energy_is_no_reason_to_wait_for_a_price():
    award = {"price_per_kwh": 20.0, "award_up_wh": 10e3}
    asked = request(award, award | {"price_per_kwh": 1.0}, soc_now_pct=2.0, soc_min_pct=10.0)
    assert best(asked)[0] == pytest.approx(-10.0)


def test_the_standby_loss_is_planned_for():
    """2 kWh an hour: the second hour's is not there to be sold, and at the band's edge it is made up for."""
    assert best(priced(1.0, 9.0, soc_now_pct=50.0, soc_max_pct=50.0, standby_w=2e3)) == [-2.0, 48.0]
    assert best(priced(5.0, 4.0, soc_now_pct=10.0, soc_min_pct=10.0, standby_w=2e3)) == [-2.0, -2.0]


def test_what_the_standby_loss_brought_back_into_the_band_is_not_taken_out_again():
    """The start is over the band; 1 kW of standby brings it to its edge, and only slot 2 can make up for the rest."""
    still = {"charge_limit_w": 0.0, "discharge_limit_w": 0.0}
    drained = {"soc_now_pct": 1.0, "soc_max_pct": 0.0, "capacity_wh": 50e3, "standby_w": 1e3}
    assert best(request(still, {"charge_limit_w": 1020.0}, still, still, hours=0.5, **drained)) == [0.0, -1.0, 0.0, 0.0]


def test_in_an_outage_outside_the_band_it_waits():
    slots = [{"price_per_kwh": 100.0, "charge_limit_w": 0.0, "discharge_limit_w": 0.0}, {"price_per_kwh": 100.0}]
    assert best(request(*slots, soc_now_pct=2.0, soc_min_pct=10.0)) == [0.0, -8.0]


def test_negative_prices_never_charge_and_discharge_at_once():
    """Ten hours paid for taking energy, room for two: the LP would burn it, the plan may not."""
    lossy = {"charge_efficiency": 0.9, "discharge_efficiency": 0.9}
    asked = priced(*[-5.0] * 10, **lossy)
    proposal = solve(asked)
    assert proposal.used_milp
    assert not isinstance(check(asked, proposal), str)
    assert cost(asked, proposal.battery_w) <= cost(asked, [-50e3, -50e3 / 0.9] + [0.0] * 8) + 1e-6


def test_positive_prices_need_no_binaries():
    assert not solve(priced(*[1.0, 10.0] * 10)).used_milp


def test_a_milp_that_gives_up_still_gives_a_plan(monkeypatch):
    """At its time limit the solver can come back with nothing (as `milp` does)."""
    monkeypatch.setattr("agent.replan.model.MILP_TIME_LIMIT_S", 0.0)
    asked = priced(*[-5.0, 3.0, -9.0] * 8, charge_efficiency=0.9, discharge_efficiency=0.9)
    assert not isinstance(check(asked, solve(asked)), str)


@CALM
@given(asked=any_request())
def test_the_checker_accepts_every_plan_of_the_model(asked):
    assert refusal(asked) is None
    planned = check(asked, solve(asked))
    assert not isinstance(planned, str), planned


@CALM
@given(asked=any_request())
def test_the_rule_based_plan_is_always_feasible(asked):
    by_rule = rule_plan(asked)
    planned = check(asked, replayed(asked, *(slot.battery_w for slot in by_rule)))
    assert not isinstance(planned, str), planned
    assert [slot.soc_end_pct for slot in planned] == pytest.approx([slot.soc_end_pct for slot in by_rule])


@CALM
@given(asked=any_request(), data=st.data())
def test_the_model_beats_random_feasible_plans(asked, data):
    """Random wishes, made feasible by the rule-based plan: none is better than the optimum."""
    wishes = [data.draw(st.floats(-800e3, 800e3)) for _ in asked.slots]
    wished = tuple(
        replace(slot, sold_w=wish, target=Target.BATTERY) for slot, wish in zip(asked.slots, wishes, strict=True)
    )
    other = [slot.battery_w for slot in rule_plan(replace(asked, slots=wished))]
    optimum = cost(asked, solve(asked).battery_w)
    assert optimum <= cost(asked, other) + max(1e-3 * abs(optimum), 1e-2)
