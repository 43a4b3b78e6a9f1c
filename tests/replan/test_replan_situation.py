"""What re-planning looks at, from plans, orders and batteries."""

from agent.core.authority import Source
from agent.core.awards import NO_AWARDS
from agent.core.forecast import DayProfile
from agent.core.orders import NO_ORDERS
from agent.core.plan import LocalPlan, Plan, PlanKind, Plans, Slot, Target
from agent.core.rules import BatteryRules, LocalRule, SiteRules
from agent.core.snapshot import BatterySample, Reading
from agent.replan.horizon import Held, Site, Storage, Unit
from agent.replan.situation import expected_now_pct, forecast_now, situation_now

T0 = 1_700_000_000.0 - 1_700_000_000 % 1800
STORAGE = Storage((Unit("a", 300e3, 200e3), Unit("b", 100e3, 50e3)), 61.0, 10.0, 90.0, 1e6, 0.95, 0.9)
SITE = Site(400e3, 350e3)


def plan(*powers_w, kind=PlanKind.ROLLING, soc_end_pct=None, target=Target.GRID):
    return Plan(kind, 1, kind.value, T0, T0, 1800, target, powers_w, soc_end_pct)


ROLLING = plan(1e3, 1e3, None, soc_end_pct=(50.0, 40.0, 40.0))
YEARLY = plan(2e3, 2e3, 2e3, kind=PlanKind.YEARLY, soc_end_pct=(70.0, 60.0, 50.0))
BOTH = Plans(ROLLING, YEARLY)
LOCAL = LocalPlan(T0, BOTH.basis, (Slot(T0, T0 + 1800.0, 5e3, Target.GRID, 30.0),), by_rule=False, why="", soc_pct=32.0)


def situation(t, plans=BOTH, storage=STORAGE):
    held = Held(plans, NO_ORDERS, NO_AWARDS)
    return situation_now(held, storage, SITE, utc_s=T0 + t, mono_s=t, trusted=True, infeasible=True)


def test_source_and_expected_soc_are_those_of_the_layer_that_decides():
    assert [situation(t).source for t in (0.0, 2700.0, 4500.0, 5400.0)] == [
        Source.ROLLING, Source.ROLLING, Source.YEARLY, Source.LOCAL_RULE,
    ]  # fmt: skip
    assert [situation(t).expected_soc_pct for t in (900.0, 2700.0, 4500.0, 5400.0)] == [None, 45.0, 55.0, None]


def test_under_a_local_plan_its_soc_is_expected_and_the_source_is_still_the_clouds():
    laid = BOTH.with_local(LOCAL)
    assert (situation(900.0, laid).source, situation(900.0, laid).expected_soc_pct) == (Source.ROLLING, 31.0)
    assert expected_now_pct(laid, T0 + 2700.0) == 45.0, "after its end"
    stale = Plans(ROLLING).with_local(LOCAL)
    assert expected_now_pct(stale, T0 + 900.0) is None, "made from other plans"


def test_limits_are_those_of_the_batteries_that_can_be_used_and_of_the_site():
    assert situation(0.0).limits_w == (400e3, 250e3, 400e3, 350e3)
    assert (situation(0.0).soc_pct, situation(0.0).infeasible) == (61.0, True)
    none = situation(0.0, storage=None)
    assert (none.limits_w, none.soc_pct) == ((0.0, 0.0, 400e3, 350e3), None)


BATTERY = BatteryRules("a", 500e3, 500e3, 10.0, 90.0, 0.95, 60.0, 500.0)


def forecast(*, pv_ids, has_load, others_w):
    rules = SiteRules("s", 1.0, (BATTERY,), pv_ids, "m", 1e6, 1e6, has_load=has_load, local_rule=LocalRule.IDLE)
    samples = (BatterySample("a", capacity_wh=Reading(1e6, 0.0)),)
    return forecast_now(rules, Plans(ROLLING), samples, DayProfile(), others_w, utc_s=T0, mono_s=0.0)


def test_a_site_with_the_battery_alone_has_no_pv_and_no_load_whatever_a_plan_says():
    assert forecast(pv_ids=(), has_load=False, others_w=5e3)(T0 + 1800.0, T0 + 3600.0) == (0.0, 0.0)


def test_elsewhere_the_plan_tells_by_the_stated_battery():
    """The rolling plan's second slot: 200 kW out of the cells are 190 kW at the terminals, and 1 kW was sold."""
    pv_w, load_w = forecast(pv_ids=("pv",), has_load=True, others_w=None)(T0 + 1800.0, T0 + 3600.0)
    assert (pv_w, round(load_w)) == (0.0, -189_000)
