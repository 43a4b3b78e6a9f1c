"""Re-planning beside a control loop, on a clock of the test's own, with the real solver in its process."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from agent.core.awards import NO_AWARDS
from agent.core.clock_trust import ClockTrust
from agent.core.events import Severity
from agent.core.forecast import DayProfile
from agent.core.orders import NO_ORDERS, Orders, Outage
from agent.core.plan import Plan, PlanKind, Plans, Target
from agent.core.records import StorageFailed
from agent.core.replan_rules import ReplanRules, rule_plan
from agent.core.rules import BatteryRules, LocalRule, SiteRules
from agent.core.snapshot import BatterySample, Reading
from agent.replan.kept import Kept, kept_from_json
from agent.replan.runner import Fallback, Replanned, replan
from agent.runtime.replan_side import ReplanOptions, ReplanSide, with_kept

T0 = 1_700_000_000.0 - 1_700_000_000 % 1800
BATTERY = BatteryRules("bess", 500e3, 500e3, 10.0, 90.0, 0.95, 60.0, 500.0)
ALONE = SiteRules("s", 1.0, (BATTERY,), (), None, 1e6, 1e6, has_load=False, local_rule=LocalRule.IDLE)
WITH_PV = SiteRules("s", 1.0, (BATTERY,), ("pv",), "m", 1e6, 1e6, has_load=True, local_rule=LocalRule.IDLE)
PRICES = (4.0, 4.0, 40.0, 40.0)


class Over(BaseException):
    """The test has seen enough."""


class Clock:
    def __init__(self):
        self.t = 0.0
        self.ends_at = 0.0

    def utc_s(self):
        return T0 + self.t

    def mono_s(self):
        return 1e3 + self.t

    async def sleep_until(self, mono_s):
        self.t = mono_s - 1e3
        if self.t > self.ends_at:
            raise Over


def plan(*powers_w, version=1, kind=PlanKind.ROLLING, **more):
    sha256 = f"{kind.value}-{version}"
    return Plan(kind, version, sha256, T0, T0, 1800, Target.BATTERY, powers_w, **more)


TOO_MUCH = plan(*[300e3] * 4, price_per_kwh=PRICES, imbalance_price_per_kwh=PRICES)
"""600 kWh out of a battery of 1 MWh that is half full."""


class Site:
    """A control loop as far as re-planning sees it, and what re-planning does to it."""

    solve = staticmethod(replan)

    def __init__(self, rules=ALONE, plans=None, **rule_changes):
        self.clock = Clock()
        self.events, self.kept, self.orders = [], [], NO_ORDERS
        self.control = SimpleNamespace(
            rules=rules,
            plans=plans or Plans(TOO_MUCH),
            decisions=[SimpleNamespace(grid_w=20e3, battery_w=-10e3)],
            board=SimpleNamespace(batteries=(self.battery(),)),
            state=SimpleNamespace(models={}),
            trust=ClockTrust(True, 0.0, ""),
            use_local=self.use_local,
        )
        self.side = ReplanSide(
            control=self.control,
            options=ReplanOptions(ReplanRules(**rule_changes), cycle_cost_per_kwh=0.5, time_limit_s=80.0),
            orders=lambda: (self.orders, NO_AWARDS),
            profile=DayProfile(),
            keep=self.keep,
            tell=self.events.append,
            clock=self.clock,
            solve=self.solve,
        )

    def battery(self, soc_pct=50.0, at=1e9):
        numbers = {"power_w": 0.0, "soc_pct": soc_pct, "capacity_wh": 1e6, "ready": 1.0}
        return BatterySample("bess", **{key: Reading(value, at) for key, value in numbers.items()})

    def use_local(self, local):
        self.control.plans = self.control.plans.with_local(local)

    async def keep(self, text):
        self.kept.append(kept_from_json(text))

    async def run_for(self, seconds):
        self.clock.ends_at = self.clock.t + seconds
        with pytest.raises(Over):
            await self.side.run()

    @property
    def local(self):
        return self.control.plans.local

    def told(self, code):
        return [event for event in self.events if event.code == code]


async def test_what_lasts_a_minute_brings_a_solved_plan_into_force_on_disk_and_into_the_events():
    site = Site()
    await site.run_for(55.0)
    assert (site.local, site.events) == (None, []), "not settled yet"
    await site.run_for(30.0)
    powers_w = [slot.power_w for slot in site.local.slots]
    assert powers_w[2:] == [pytest.approx(300e3, abs=1.0)] * 2, "where it is worth most"
    assert sum(powers_w) < 4 * 300e3
    assert {slot.promise_w for slot in site.local.slots} == {300e3}
    assert site.control.plans.local_slot_at(site.clock.utc_s()) is site.local.slots[0]
    (event,) = site.told("replanned")
    assert (event.severity, event.subject) == (Severity.INFO, "site")
    assert event.data["occasions"] == "infeasible"
    assert (event.data["by"], event.data["slots"], event.data["soc_pct"]) == ("solver", 4, 50.0)
    assert event.data["changed_slots"] == 2
    rest_h = (1800.0 - (site.local.made_utc_s - T0)) / 3600.0
    given_up_wh = (300e3 - powers_w[0]) * rest_h + (300e3 - powers_w[1]) / 2
    assert event.data["changed_wh"] == pytest.approx(given_up_wh, rel=0.1)
    assert "the plan cannot be kept" in event.text
    json.dumps(dict(event.data))
    assert [kept.local for kept in site.kept] == [site.local]
    facts = site.side.facts()
    assert (facts["runs"], facts["last_run"]["by"], facts["last_run"]["reason"]) == (1, "solver", None)


async def test_a_plan_that_can_be_kept_is_left_alone():
    site = Site(plans=Plans(plan(100e3, -100e3, 100e3, -100e3, soc_end_pct=(44.7, 49.5, 44.2, 49.0))))
    await site.run_for(600.0)
    assert (site.local, site.events, site.side.facts()["runs"]) == (None, [], 0)


@pytest.fixture
def solver(monkeypatch):
    """Instead of the process: what `replan` shall do, and what it was asked."""
    asked = SimpleNamespace(requests=[], then=lambda: None, fails=True)

    async def instead(request, *, wall_limit_s):
        asked.requests.append((request, wall_limit_s))
        asked.then()
        slots = rule_plan(request)
        return Fallback("there is none in this test", slots) if asked.fails else Replanned(slots, used_milp=False)

    monkeypatch.setattr(Site, "solve", staticmethod(instead))
    return asked


async def test_without_a_solver_the_rule_based_plan_is_used_told_as_a_warning_and_tried_again(solver):
    site = Site()
    await site.run_for(85.0)
    assert (site.local.by_rule, len(solver.requests)) == (True, 1)
    event = site.told("replanned")[0]
    assert (event.severity, event.data["by"]) == (Severity.WARNING, "rules")
    assert event.data["reason"] == "there is none in this test"
    assert solver.requests[0][1] == 80.0
    await site.run_for(301.0)
    assert len(solver.requests) == 2
    assert site.told("replanned")[1].data["occasions"] == "last_run_failed"


async def test_the_question_has_the_sites_wear_the_real_soc_and_the_orders(solver):
    site = Site()
    site.orders = Orders(outages=(Outage("o", T0 + 5400.0, T0 + 7200.0),))
    await site.run_for(85.0)
    request = solver.requests[0][0]
    assert (request.cycle_cost_per_kwh, request.soc_now_pct) == (0.5, 50.0)
    assert [slot.discharge_limit_w for slot in request.slots] == [500e3, 500e3, 500e3, 0.0]
    assert [slot.price_per_kwh for slot in request.slots] == list(PRICES)
    assert [slot.imbalance_price_per_kwh for slot in request.slots] == list(PRICES)


async def test_a_new_plan_of_the_cloud_that_comes_while_it_is_solved_wins_and_is_judged_by_itself(solver):
    site = Site()
    newer = plan(*[301e3] * 4, version=2)
    solver.then = lambda: setattr(site.control, "plans", site.control.plans.replaced(newer))
    await site.run_for(100.0)
    assert (site.local, site.told("replanned"), site.kept) == (None, [], [])
    assert len(solver.requests) == 1
    solver.then = lambda: None
    await site.run_for(300.0)
    assert site.local.basis == ("rolling-2", None)
    assert site.told("replanned")[0].data["occasions"] == "infeasible"


async def test_a_new_plan_of_the_cloud_ends_the_local_one_also_on_disk(solver):
    site = Site()
    await site.run_for(85.0)
    site.control.plans = site.control.plans.replaced(plan(0.0, 0.0, version=2))
    assert site.local is None
    await site.run_for(20.0)
    (event,) = site.told("local_plan_ended")
    assert "a new plan of the cloud" in event.text
    assert [kept.local is None for kept in site.kept] == [False, True]
    assert len(solver.requests) == 1


async def test_a_local_plan_is_over_with_its_last_slot(solver):
    site = Site()
    await site.run_for(85.0)
    site.clock.t = 7199.0 - 10.0
    await site.run_for(10.0)
    assert site.local is not None
    await site.run_for(10.0)
    assert site.local is None
    assert "last slot" in site.told("local_plan_ended")[0].text


async def test_a_clock_that_is_not_trusted_ends_nothing_and_asks_nothing(solver):
    site = Site()
    await site.run_for(85.0)
    site.control.trust = ClockTrust(False, 0.0, "behind")
    site.clock.t = 9000.0
    await site.run_for(30.0)
    assert site.local is not None
    assert len(solver.requests) == 1


async def test_what_was_in_force_before_a_restart_goes_on_and_nothing_else_does(solver):
    before = Site()
    await before.run_for(85.0)
    kept = before.kept[-1]
    plans = Plans(TOO_MUCH)
    assert with_kept(plans, kept) == plans.with_local(kept.local)
    assert with_kept(Plans(plan(1.0, version=2)), kept).local is None
    assert with_kept(plans, Kept()) == plans
    after = Site(plans=with_kept(plans, kept))
    await after.run_for(20.0)
    assert after.local == kept.local
    after.control.plans = after.control.plans.replaced(plan(0.0, version=2))
    await after.run_for(20.0)
    assert len(after.told("local_plan_ended")) == 1


@pytest.mark.parametrize("nothing", ["no plan", "no decision", "no battery", "stale battery"])
async def test_with_nothing_to_plan_from_nothing_is_asked(solver, nothing):
    site = Site()
    if nothing == "no plan":
        site.control.plans = Plans()
        site.orders = Orders(outages=(Outage("o", T0, T0 + 3600.0),))
    elif nothing == "no decision":
        site.control.decisions = []
    elif nothing == "no battery":
        site.control.board.batteries = (BatterySample("bess"),)
    else:
        site.control.board.batteries = (site.battery(at=-1e9),)
    await site.run_for(600.0)
    assert (solver.requests, site.events) == ([], [])


async def test_a_fault_in_it_is_told_once_and_control_goes_on(solver):
    site = Site()
    site.control.board = None
    site.clock.ends_at = 60.0
    await site.side.run()
    (event,) = site.events
    assert (event.code, event.severity) == ("replanning_stopped", Severity.ALARM)
    assert "AttributeError" in event.text


async def test_a_disk_that_refuses_costs_only_the_restart(solver):
    site = Site()

    async def refuse(_text):
        raise StorageFailed("control", "full")

    site.side._keep_text = refuse
    await site.run_for(85.0)
    assert site.local is not None
    assert len(site.told("replanned")) == 1


async def test_days_are_learned_from_what_the_site_measures_and_kept_every_half_hour():
    site = Site(WITH_PV, Plans(plan(0.0, 0.0)))
    await site.run_for(1805.0)
    assert [kept.profile.at(T0 + 900.0) for kept in site.kept] == [pytest.approx(30e3)]
    assert site.kept[0].profile.at(T0 + 3700.0) is None


async def test_it_looks_as_often_as_the_settling_needs_but_not_more_than_six_times_in_it(solver):
    quick = Site(settle_s=1.2, min_interval_s=1.0)
    await quick.run_for(1.3)
    assert solver.requests == []
    await quick.run_for(0.5)
    assert len(solver.requests) == 1


async def test_the_yearly_plan_alone_is_a_reason_as_the_cloud_decides_beneath_the_local_plan(solver):
    yearly = plan(0.0, 0.0, 0.0, 0.0, kind=PlanKind.YEARLY, price_per_kwh=PRICES)
    solver.fails = False
    site = Site(plans=Plans(yearly=yearly), repeat_s=600.0)
    await site.run_for(85.0)
    assert site.told("replanned")[0].data["occasions"] == "no_rolling_plan"
    assert site.control.plans.local_slot_at(site.clock.utc_s()) is not None
    await site.run_for(700.0)
    assert [e.data["occasions"] for e in site.told("replanned")].count("no_rolling_plan") == 2, "it lasts"
