"""When a re-planning is due, and the rule-based plan on paper."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from core_site import T0, plan
from hypothesis import given
from hypothesis import strategies as st

from agent.core.authority import Source
from agent.core.orders import Award, Orders, Outage
from agent.core.plan import Target
from agent.core.replan_request import ReplanRequest, ReplanSlot, refusal
from agent.core.replan_rules import (
    WORDS,
    Due,
    Occasion,
    ReplanRules,
    ReplanWatch,
    Situation,
    ended,
    expected_soc_pct,
    first_shortfall,
    look,
    rule_plan,
    superseded,
)

RULES = ReplanRules()
CALM = Situation(T0, 0.0, True, Source.ROLLING, 50.0, 50.0, False, Orders(), (500e3, 500e3, 1e6, 1e6))
OUTAGE = Orders(outages=(Outage("o", T0, T0 + 3600.0),))


def run(*changes, rules=RULES, every_s=10.0, for_s=0.0, watch=None, begin_s=0.0):
    """Looks every 10 s at CALM with these changes: (from second, fields). The seconds of each due run, and why."""
    watch, found, t = watch or ReplanWatch(), [], begin_s
    while t <= begin_s + for_s:
        fields = {key: value for since, change in changes if t >= since for key, value in change.items()}
        watch, due = look(rules, watch, replace(CALM, utc_s=T0 + t, mono_s=t, **fields))
        if due is not None:
            found.append((t, due.occasions))
        t += every_s
    return found, watch


def test_nothing_is_due_while_all_is_as_planned():
    assert run(for_s=10_000.0)[0] == []


@pytest.mark.parametrize(
    ("change", "occasion"),
    [
        ({"soc_pct": 53.1}, Occasion.SOC_AWAY),
        ({"soc_pct": 46.9}, Occasion.SOC_AWAY),
        ({"infeasible": True}, Occasion.INFEASIBLE),
        ({"source": Source.YEARLY}, Occasion.NO_ROLLING_PLAN),
    ],
)
def test_what_lasts_is_due_once_settled_and_again_after_the_repeat(change, occasion):
    found, _ = run((20.0, change), for_s=4000.0)
    assert found == [(80.0, (occasion,)), (1880.0, (occasion,)), (3680.0, (occasion,))]


@pytest.mark.parametrize("change", [{"soc_pct": 53.0}, {"soc_pct": 47.0}, {"source": Source.LOCAL_RULE}])
def test_what_is_within_tolerance_or_has_no_plan_is_not_due(change):
    assert run((20.0, change), for_s=4000.0)[0] == []


def test_new_orders_are_due_at_once_and_once():
    assert run((20.0, {"orders": OUTAGE}), for_s=4000.0)[0] == [(20.0, (Occasion.ORDERS_CHANGED,))]


def test_the_same_orders_again_are_not_new():
    assert run((0.0, {"orders": OUTAGE}), (20.0, {"orders": replace(OUTAGE)}), for_s=4000.0)[0] == []


def test_orders_that_end_as_told_are_not_new_and_those_withdrawn_are():
    awards = tuple(Award(f"a{i}", "p", T0 + 900.0 * i, T0 + 900.0 * (i + 1), 1.0) for i in range(3))
    told = Orders(awards=awards, outages=OUTAGE.outages)
    ended_one = replace(told, awards=awards[1:])
    assert run((0.0, {"orders": told}), (900.0, {"orders": ended_one}), for_s=2000.0)[0] == []
    assert run((0.0, {"orders": told}), (890.0, {"orders": ended_one}), for_s=890.0)[0] == [
        (890.0, (Occasion.ORDERS_CHANGED,))
    ]
    found, _ = run((0.0, {"orders": told}), (900.0, {"orders": replace(told, outages=())}), for_s=2000.0)
    assert found == [(900.0, (Occasion.ORDERS_CHANGED,))]


def test_a_changed_limit_is_due_when_it_stays():
    less = {"limits_w": (500e3, 470e3, 1e6, 1e6)}
    assert run((20.0, less), for_s=4000.0)[0] == [(80.0, (Occasion.LIMITS_CHANGED,))]
    assert run((20.0, less), (70.0, {"limits_w": CALM.limits_w}), for_s=4000.0)[0] == []
    assert run((20.0, {"limits_w": (500e3, 476e3, 1e6, 1e6)}), for_s=4000.0)[0] == []
    assert run((0.0, {"limits_w": (0.0,)}), (20.0, {"limits_w": (0.9,)}), for_s=4000.0)[0] == []


def test_two_runs_keep_their_distance():
    newer = Orders(awards=(Award("a", "p", T0, T0 + 1.0, 1.0),))
    found, _ = run((20.0, {"orders": OUTAGE}), (30.0, {"orders": newer}), for_s=4000.0)
    assert found == [(20.0, (Occasion.ORDERS_CHANGED,)), (320.0, (Occasion.ORDERS_CHANGED,))]


def test_a_run_answers_everything_that_lasts():
    found, _ = run((20.0, {"soc_pct": 60.0, "orders": OUTAGE}), for_s=1800.0)
    assert found == [(20.0, (Occasion.ORDERS_CHANGED,))]
    found, _ = run((20.0, {"soc_pct": 60.0, "infeasible": True}), for_s=1800.0)
    assert found == [(80.0, (Occasion.SOC_AWAY, Occasion.INFEASIBLE))]


def test_soc_that_is_away_is_back_only_below_half_the_tolerance():
    """Away, answered, back to 2 % (still away), to 1.4 % (over), away again: a new run, no matter the repeat."""
    assert run((0.0, {"soc_pct": 54.0}), (600.0, {"soc_pct": 52.0}), (700.0, {"soc_pct": 54.0}), for_s=1800.0)[0] == [
        (60.0, (Occasion.SOC_AWAY,)),
    ]
    found, _ = run(
        (0.0, {"soc_pct": 54.0}), (600.0, {"soc_pct": 51.4}), (700.0, {"soc_pct": 54.0}), for_s=1800.0
    )  # fmt: skip
    assert [t for t, _ in found] == [60.0, 760.0]


def test_under_new_plans_of_the_cloud_what_lasted_settles_and_asks_anew():
    away = {"soc_pct": 60.0}
    found, watch = run((0.0, away), for_s=400.0)
    assert found == [(60.0, (Occasion.SOC_AWAY,))]
    again, _ = run((0.0, away), for_s=1000.0, watch=superseded(ended(watch, failed=True)), begin_s=410.0)
    assert again == [(470.0, (Occasion.SOC_AWAY,))], "not for the failed run, and not at once"
    assert run((0.0, away), for_s=1000.0, watch=watch, begin_s=410.0)[0] == [], "else it had been answered"


def test_under_new_plans_two_runs_keep_their_distance_all_the_same():
    _, watch = run((0.0, {"soc_pct": 60.0}), for_s=60.0)
    again, _ = run((0.0, {"soc_pct": 60.0}), for_s=1000.0, watch=superseded(watch), begin_s=70.0)
    assert again == [(360.0, (Occasion.SOC_AWAY,))]


def test_each_occasion_has_words_for_people():
    assert set(WORDS) == set(Occasion)


def test_noise_is_not_away():
    watch = ReplanWatch()
    for t in range(600):
        noisy = replace(CALM, mono_s=float(t), soc_pct=50.0 + (4.0 if t % 2 else -1.0))
        watch, due = look(RULES, watch, noisy)
        assert due is None


def test_a_soc_missing_for_a_moment_neither_starts_nor_ends_it():
    for gone in ({"soc_pct": None}, {"expected_soc_pct": None}):
        assert run((0.0, gone), for_s=4000.0)[0] == []
        found, _ = run((0.0, {"soc_pct": 60.0}), (30.0, gone), (40.0, {"soc_pct": 60.0, "expected_soc_pct": 50.0}),
                       for_s=70.0)  # fmt: skip
        assert found == [(60.0, (Occasion.SOC_AWAY,))]


@pytest.mark.parametrize("change", [{"clock_trusted": False}, {"soc_pct": None}])
def test_without_clock_or_soc_nothing_is_due_until_they_are_back(change):
    back = {"clock_trusted": True, "soc_pct": 50.0}
    found, _ = run((0.0, {"source": Source.YEARLY} | change), (500.0, back), for_s=1000.0)
    assert found == [(500.0, (Occasion.NO_ROLLING_PLAN,))]


def test_a_failed_run_is_tried_again_after_the_least_interval():
    found, watch = run((0.0, {"orders": OUTAGE}), (10.0, {"orders": Orders()}), for_s=10.0)
    assert found == [(10.0, (Occasion.ORDERS_CHANGED,))]
    found, _ = run(watch=ended(watch, failed=True), begin_s=20.0, for_s=1000.0)
    assert found == [(310.0, (Occasion.LAST_RUN_FAILED,))]
    assert run(watch=ended(watch, failed=False), begin_s=20.0, for_s=1000.0)[0] == []


@given(
    st.lists(
        st.tuples(
            st.floats(1.0, 400.0),
            st.floats(40.0, 60.0) | st.none(),
            st.booleans(),
            st.sampled_from([Source.ROLLING, Source.YEARLY]),
            st.sampled_from([Orders(), OUTAGE]),
        ),
        max_size=60,
    )
)
def test_runs_always_keep_their_distance(steps):
    watch, mono_s, runs = ReplanWatch(), 0.0, []
    for dt_s, soc_pct, infeasible, source, orders in steps:
        mono_s += dt_s
        now = replace(CALM, mono_s=mono_s, soc_pct=soc_pct, infeasible=infeasible, source=source, orders=orders)
        watch, due = look(RULES, watch, now)
        if isinstance(due, Due):
            assert due.occasions
            runs.append(mono_s)
    assert all(later - earlier >= RULES.min_interval_s for earlier, later in pairwise(runs))


def test_the_expected_soc_is_straight_between_slot_ends():
    told = replace(plan(0.0, 0.0, 0.0), soc_end_pct=(50.0, 60.0, None))
    assert expected_soc_pct(told, T0 + 1800.0) == 50.0
    assert expected_soc_pct(told, T0 + 2250.0) == 52.5
    for outside_s in (-1.0, 0.0, 1799.0, 3600.0, 5400.0):
        assert expected_soc_pct(told, T0 + outside_s) is None
    assert expected_soc_pct(plan(0.0, 0.0), T0 + 2000.0) is None


SLOT = ReplanSlot(T0, T0 + 3600.0, Target.BATTERY, None, None, None, 0.0, 0.0, 50e3, 50e3, 1e6, 1e6)
ASKED = ReplanRequest((SLOT,), 50.0, 10.0, 90.0, 100e3, 0.8, 0.8)


def by_rule(soc_pct=50.0, standby_w=0.0, **slot):
    asked = replace(ASKED, slots=(replace(SLOT, **slot),), soc_now_pct=soc_pct, standby_w=standby_w)
    assert refusal(asked) is None
    return rule_plan(asked)[0]


@pytest.mark.parametrize(
    ("slot", "expected_kw"),
    [
        ({}, 0.0),
        ({"sold_w": 20e3}, 20.0),
        ({"sold_w": 90e3, "soc_pct": 90.0}, 50.0),
        ({"sold_w": -90e3, "soc_pct": 10.0}, -50.0),
        ({"sold_w": 50e3}, 32.0),  # 40 kWh above the minimum, 80 % of it arrive
        ({"sold_w": 50e3, "standby_w": 1e3}, 31.2),
        ({"sold_w": -50e3, "soc_pct": 70.0}, -25.0),  # 20 kWh of room take 25 kWh
        ({"sold_w": 20e3, "target": Target.GRID, "pv_w": 30e3, "load_w": -5e3}, -5.0),
        ({"sold_w": 20e3, "discharge_limit_w": 0.0}, 0.0),
        ({"soc_pct": 6.0}, -5.0),  # 4 kWh below the band take 5 kWh
        ({"soc_pct": 6.0, "sold_w": 50e3}, -5.0),
        ({"soc_pct": 6.0, "sold_w": -20e3}, -20.0),
        ({"soc_pct": 95.0}, 4.0),
        ({"soc_pct": 95.0, "sold_w": -50e3}, 4.0),
        ({"soc_pct": 95.0, "sold_w": 20e3}, 20.0),
        ({"pv_w": 60e3, "export_limit_w": 50e3}, -10.0),
        ({"pv_w": 60e3, "export_limit_w": 50e3, "sold_w": 20e3}, -10.0),
        ({"pv_w": 60e3, "export_limit_w": 50e3, "sold_w": -20e3}, -20.0),
        ({"pv_w": 99e3, "export_limit_w": 50e3, "soc_pct": 82.0}, -10.0),
        ({"pv_w": 40e3, "export_limit_w": 50e3, "sold_w": 30e3}, 10.0),
        ({"load_w": -60e3, "import_limit_w": 50e3}, 10.0),
        ({"load_w": -60e3, "import_limit_w": 50e3, "sold_w": -20e3}, 10.0),
        ({"load_w": -60e3, "import_limit_w": 50e3, "soc_pct": 15.0}, 4.0),
        ({"load_w": -60e3, "import_limit_w": 50e3, "soc_pct": 6.0}, 0.0),
        ({"load_w": -40e3, "import_limit_w": 50e3, "sold_w": -30e3}, -10.0),
        ({"award_up_w": 30e3, "sold_w": 32e3}, 20.0),
        ({"award_down_w": 30e3, "sold_w": -32e3}, -20.0),
        ({"award_up_w": 90e3, "sold_w": 32e3}, 0.0),
        ({"award_up_w": 30e3, "sold_w": 20e3, "export_limit_w": 40e3}, 10.0),
        ({"award_down_w": 30e3, "sold_w": -20e3, "import_limit_w": 40e3}, -10.0),
        ({"award_up_w": 45e3, "load_w": -60e3, "import_limit_w": 50e3}, 10.0),
        ({"award_down_w": 45e3, "pv_w": 60e3, "export_limit_w": 50e3}, -5.0),
        ({"award_up_wh": 16e3, "sold_w": 50e3}, 16.0),  # 20 kWh kept over 10
        ({"award_down_wh": 25e3, "sold_w": -50e3, "soc_pct": 50.0}, -25.0),  # 20 kWh of room kept below 90
        ({"award_up_wh": 16e3, "soc_pct": 22.0}, -10.0),  # 8 kWh short
        ({"award_down_wh": 25e3, "soc_pct": 75.0}, 4.0),  # 5 kWh too many
        ({"award_up_wh": 16e3, "soc_pct": 22.0, "load_w": -60e3, "import_limit_w": 50e3}, 9.6),
        ({"award_up_wh": 320e3, "award_down_wh": 500e3, "soc_pct": 50.0}, 0.0),  # half of the band for each
    ],
)
def test_the_rule_based_plan_on_paper(slot, expected_kw):
    assert by_rule(**slot).battery_w / 1e3 == pytest.approx(expected_kw, abs=1e-9)


def test_an_award_in_the_next_slot_holds_its_energy_at_the_end_of_this_one():
    after = replace(SLOT, start_utc_s=T0 + 3600.0, end_utc_s=T0 + 7200.0, award_up_wh=16e3)
    asked = replace(ASKED, slots=(replace(SLOT, sold_w=50e3), after))
    assert [slot.battery_w / 1e3 for slot in rule_plan(asked)] == pytest.approx([16.0, 0.0])


def test_a_planned_slot_is_executed_where_it_was_promised():
    at_grid = by_rule(sold_w=20e3, target=Target.GRID, pv_w=90e3, export_limit_w=15e3)
    assert (at_grid.battery_w, at_grid.grid_w) == (-50e3, 15e3)
    assert (at_grid.slot.power_w, at_grid.slot.target) == (15e3, Target.GRID)
    at_battery = by_rule(sold_w=20e3, pv_w=30e3)
    assert (at_battery.slot.power_w, at_battery.grid_w) == (20e3, 50e3)
    assert at_battery.slot.soc_end_pct == pytest.approx(25.0)


def test_a_broken_limit_that_pv_does_not_explain_is_not_hidden():
    assert by_rule(load_w=30e3, export_limit_w=0.0, charge_limit_w=0.0).grid_w == 30e3


def test_an_empty_battery_loses_nothing_more():
    assert by_rule(soc_pct=0.0, standby_w=500.0, charge_limit_w=0.0).soc_end_pct == 0.0


def test_the_first_promise_that_cannot_be_kept_is_found_with_its_energy():
    slots = tuple(
        replace(SLOT, start_utc_s=T0 + i * 3600.0, end_utc_s=T0 + (i + 1) * 3600.0, sold_w=sold_w)
        for i, sold_w in enumerate((20e3, None, 20e3))
    )
    short = first_shortfall(replace(ASKED, slots=slots))
    assert short is not None
    assert (short.start_utc_s, short.missing_wh) == (T0 + 7200.0, pytest.approx(8e3))
    full = first_shortfall(replace(ASKED, soc_now_pct=60.0, slots=(replace(SLOT, sold_w=-50e3),)))
    assert full is not None
    assert full.missing_wh == pytest.approx(-12.5e3)


def test_a_promise_that_is_kept_nearly_is_feasible():
    assert first_shortfall(replace(ASKED, slots=(replace(SLOT, sold_w=33e3),))) is None
    assert first_shortfall(replace(ASKED, slots=(replace(SLOT, sold_w=33.1e3),))) is not None
    assert first_shortfall(replace(ASKED, soc_now_pct=float("nan"))) is None


def test_a_promise_that_misses_less_than_the_soc_is_known_by_is_feasible():
    # 32 kWh can be given; in a quarter of an hour 2 % of the rating are 250 Wh, 1 % of the capacity 1 kWh.
    quarter = replace(SLOT, end_utc_s=T0 + 900.0, charge_limit_w=200e3, discharge_limit_w=200e3)
    assert first_shortfall(replace(ASKED, slots=(replace(quarter, sold_w=131.9e3),))) is None
    assert first_shortfall(replace(ASKED, slots=(replace(quarter, sold_w=132.1e3),))) is not None


def test_a_promise_at_the_connection_point_is_judged_there():
    slot = replace(SLOT, sold_w=60e3, target=Target.GRID, pv_w=50e3)
    assert first_shortfall(replace(ASKED, slots=(slot,))) is None


@pytest.mark.parametrize(
    ("changes", "slot", "field"),
    [
        ({"soc_now_pct": 6553.5}, {}, "soc_now_pct"),
        ({"soc_now_pct": float("nan")}, {}, "soc_now_pct"),
        ({"soc_min_pct": 95.0}, {}, "soc_max_pct"),
        ({"capacity_wh": -1.0}, {}, "capacity_wh"),
        ({"capacity_wh": float("inf")}, {}, "capacity_wh"),
        ({"charge_efficiency": 0.0}, {}, "charge_efficiency"),
        ({"discharge_efficiency": 1.01}, {}, "discharge_efficiency"),
        ({"standby_w": 1e6}, {}, "standby_w"),
        ({"slots": ()}, {}, "slots"),
        ({"slots": (SLOT,) * 1001}, {}, "slots"),
        ({"slots": (SLOT, SLOT)}, {}, "slots[1].start_utc_s"),
        ({}, {"end_utc_s": T0}, "slots[0].end_utc_s"),
        ({}, {"end_utc_s": T0 + 3601.0}, "slots[0].end_utc_s"),
        ({}, {"start_utc_s": float("nan")}, "slots[0].start_utc_s"),
        ({}, {"sold_w": float("nan")}, "slots[0].sold_w"),
        ({}, {"pv_w": float("inf")}, "slots[0].pv_w"),
        ({}, {"charge_limit_w": -1.0}, "slots[0].charge_limit_w"),
        ({}, {"award_up_wh": float("nan")}, "slots[0].award_up_wh"),
    ],
)
def test_nonsense_is_named_and_every_slot_rests(changes, slot, field):
    asked = replace(ASKED, **({"slots": (replace(SLOT, **slot),)} | changes))
    found = refusal(asked)
    assert found is not None
    assert found.field == field
    assert all((s.battery_w, s.slot.power_w, s.soc_end_pct) == (0.0, 0.0, None) for s in rule_plan(asked))
    assert len(rule_plan(asked)) == len(asked.slots)


@pytest.mark.parametrize(
    ("changes", "slot", "field"),
    [
        ({"cycle_cost_per_kwh": -1.0}, {}, "cycle_cost_per_kwh"),
        ({"terminal_value_per_kwh": float("nan")}, {}, "terminal_value_per_kwh"),
        ({"terminal_soc_pct": 101.0}, {}, "terminal_soc_pct"),
        ({}, {"price_per_kwh": float("nan")}, "slots[0].price_per_kwh"),
        ({}, {"imbalance_price_per_kwh": 1e7}, "slots[0].imbalance_price_per_kwh"),
    ],
)
def test_prices_that_are_none_stop_the_solver_and_not_the_rules(changes, slot, field):
    asked = replace(ASKED, **({"slots": (replace(SLOT, sold_w=20e3, **slot),)} | changes))
    found = refusal(asked)
    assert found is not None
    assert str(found).startswith(f"{field}: ")
    assert rule_plan(asked)[0].battery_w == 20e3
