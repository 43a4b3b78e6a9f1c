"""The checker against plans made wrong by hand and plans of the model made wrong at random."""

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from replan_requests import any_request, priced, promised, replayed, request

from agent.core.replan_rules import rule_plan
from agent.replan.check import check
from agent.replan.model import solve
from agent.replan.problem import Proposal

CALM = settings(max_examples=150)


FREE = {"soc_now_pct": 50.0, "charge_efficiency": 0.9, "discharge_efficiency": 0.9}


def test_a_plan_that_keeps_everything_is_accepted():
    asked = promised(20e3, -20e3, **FREE)
    planned = check(asked, replayed(asked, 20e3, -20e3))
    assert [slot.battery_w for slot in planned] == [20e3, -20e3]
    assert planned[1].soc_end_pct == pytest.approx(50.0 - 20.0 / 0.9 + 18.0)


@pytest.mark.parametrize(
    ("battery_w", "slot", "changes", "reason"),
    [
        ((51e3,), {}, {}, "beyond the battery's limits"),
        ((-51e3,), {}, {}, "beyond the battery's limits"),
        ((41e3,), {}, {}, "falls to 4.44 %"),
        ((-50e3,), {}, {"soc_max_pct": 80.0}, "rises to 95.00 %"),
        ((1e3,), {}, {"soc_now_pct": 12.0, "standby_w": 1.5e3}, "falls to 9.39 %"),
        ((1e3,), {}, {"soc_now_pct": 5.0}, "falls to 3.89 %"),
        ((-1e3,), {}, {"soc_now_pct": 95.0, "soc_max_pct": 90.0}, "rises to 95.90 %"),
        ((31e3,), {"award_up_w": 20e3}, {}, "too little discharging power for the award"),
        ((1e3,), {"award_up_w": 90e3}, {}, "too little discharging power for the award"),
        ((-31e3,), {"award_down_w": 20e3}, {}, "too little charging power for the award"),
        ((-1e3,), {"award_down_w": 90e3}, {}, "too little charging power for the award"),
        ((21e3,), {"export_limit_w": 50e3, "pv_w": 30e3}, {}, "exports too much"),
        ((11e3,), {"export_limit_w": 50e3, "pv_w": 30e3, "award_up_w": 10e3}, {}, "exports too much"),
        ((1e3,), {"export_limit_w": 50e3, "pv_w": 60e3}, {}, "exports too much"),
        ((-21e3,), {"import_limit_w": 50e3, "load_w": -30e3}, {}, "imports too much"),
        ((-11e3,), {"import_limit_w": 50e3, "load_w": -30e3, "award_down_w": 10e3}, {}, "imports too much"),
        ((11e3,), {"import_limit_w": 50e3, "load_w": -60e3, "award_up_w": 45e3}, {}, "too little discharging"),
    ],
)  # fmt: skip
def test_a_breach_is_named(battery_w, slot, changes, reason):
    asked = request(slot, **({"soc_min_pct": 10.0} | FREE | changes))
    assert reason in check(asked, replayed(asked, *battery_w))


def test_the_edge_itself_is_allowed():
    for power_w, slot in (
        (30e3, {"award_up_w": 20e3}),
        (20e3, {"export_limit_w": 50e3, "pv_w": 30e3}),
        (10e3, {"import_limit_w": 50e3, "load_w": -60e3, "award_up_w": 45e3}),
        (36e3, {}),
    ):
        asked = request({"sold_w": power_w} | slot, soc_min_pct=10.0, **FREE)
        assert not isinstance(check(asked, replayed(asked, power_w)), str)


def test_a_soc_that_the_power_does_not_lead_to_is_refused():
    """As after charging and discharging at once: less energy than the net power explains."""
    asked = promised(0.0, 0.0, **FREE)
    assert "leads to 50.00 % SoC, not to 49.50 %" in check(asked, Proposal((0.0, 0.0), (50.0, 49.5), used_milp=False))


def test_a_plan_worse_than_the_rule_based_one_is_refused():
    asked = promised(20e3, 0.0, **FREE)
    assert "more than the rule-based plan" in check(asked, replayed(asked, 10e3, 0.0))


def test_rounding_where_limits_leave_nothing_to_plan_is_no_worse_plan():
    nothing = {"sold_w": 0.0, "charge_limit_w": 8e-11, "discharge_limit_w": 0.0}
    assert not isinstance(check(request(nothing), replayed(request(nothing), -8e-11)), str)


def test_trading_with_the_energy_of_an_award_is_refused():
    asked = request({"price_per_kwh": 100.0, "award_up_w": 1e3, "award_up_wh": 36e3}, **FREE)
    assert "more than the rule-based plan" in check(asked, replayed(asked, 30e3))


@pytest.mark.parametrize(
    "proposal",
    [
        Proposal((0.0,), (50.0, 50.0), used_milp=False),
        Proposal((0.0, 0.0), (50.0,), used_milp=False),
        Proposal((), (), used_milp=False),
        Proposal((0.0, float("nan")), (50.0, 50.0), used_milp=False),
        Proposal((0.0, 0.0), (50.0, float("inf")), used_milp=False),
    ],
)
def test_the_wrong_length_or_no_number_is_refused(proposal):
    reason = check(priced(1.0, 2.0, **FREE), proposal)
    assert isinstance(reason, str)
    assert "slots" in reason or "finite" in reason


@CALM
@given(asked=any_request(), data=st.data())
def test_a_plan_with_one_power_changed_is_refused(asked, data):
    """Its SoC no longer follows, unless the change is too small to matter."""
    proposal = solve(asked)
    index = data.draw(st.integers(0, len(asked.slots) - 1))
    changed_w = proposal.battery_w[index] + data.draw(st.sampled_from([-1, 1])) * data.draw(st.floats(1e3, 500e3))
    slot = asked.slots[index]
    least_pct = 1e3 * 0.7 * (slot.end_utc_s - slot.start_utc_s) / 3600.0 / asked.capacity_wh * 100.0
    assume(least_pct > 0.05)
    powers = (*proposal.battery_w[:index], changed_w, *proposal.battery_w[index + 1 :])
    assert isinstance(check(asked, replace(proposal, battery_w=powers)), str)


@CALM
@given(asked=any_request(), data=st.data())
def test_a_plan_with_one_soc_changed_is_refused(asked, data):
    proposal = solve(asked)
    index = data.draw(st.integers(0, len(asked.slots) - 1))
    changed_pct = proposal.soc_end_pct[index] + data.draw(st.sampled_from([-1, 1])) * data.draw(st.floats(0.05, 50.0))
    socs = (*proposal.soc_end_pct[:index], changed_pct, *proposal.soc_end_pct[index + 1 :])
    assert isinstance(check(asked, replace(proposal, soc_end_pct=socs)), str)


@CALM
@given(asked=any_request(), data=st.data())
def test_a_consistent_plan_beyond_the_rating_is_refused(asked, data):
    by_rule = rule_plan(asked)
    index = data.draw(st.integers(0, len(asked.slots) - 1))
    slot = asked.slots[index]
    beyond_w = data.draw(st.sampled_from([slot.discharge_limit_w + 2.0, -slot.charge_limit_w - 2.0]))
    powers = [planned.battery_w for planned in by_rule]
    powers[index] = beyond_w
    assert isinstance(check(asked, replayed(asked, *powers)), str)
