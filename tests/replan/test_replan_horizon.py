"""The question put together from plans, orders, awards and battery."""

import math
from dataclasses import replace

import pytest

from agent.core.awards import NO_AWARDS, book
from agent.core.droop import DroopTable
from agent.core.orders import Award, Curtailment, Direction, Orders, Outage
from agent.core.plan import Plan, PlanKind, Plans, Target
from agent.core.replan_request import refusal
from agent.replan.check import check
from agent.replan.horizon import Held, Site, Storage, Unit, request_at
from agent.replan.model import solve

T0 = 1_700_000_000.0 - 1_700_000_000 % 1800
NO_ORDERS = Orders()
STORAGE = Storage((Unit("a", 300e3, 200e3), Unit("b", 100e3, 50e3)), 50.0, 10.0, 90.0, 1e6, 0.95, 0.9, 100.0)
SITE = Site(400e3, 350e3, 1.5)


def forecast(start_utc_s, end_utc_s):
    return 1000.0 + (start_utc_s - T0), -(end_utc_s - start_utc_s)


def plan(*powers_w, kind=PlanKind.ROLLING, start=T0, slot_s=1800, **more):
    return Plan(kind, 1, "", start - 60, start, slot_s, Target.GRID, tuple(powers_w), **more)


def asked(utc_s, *plans, orders=NO_ORDERS, awards=()):
    by_kind = {p.kind: p for p in plans}
    table = DroopTable("p", 50.0, ((0.01, 0.0), (0.2, 1.0)), full_by_s=10.0, sustain_s=900.0)
    held_awards, refused = book(awards, {"p": table}, rated_discharge_w=1e6, rated_charge_w=1e6)
    assert not refused
    plans = Plans(by_kind.get(PlanKind.ROLLING), by_kind.get(PlanKind.YEARLY))
    request = request_at(utc_s, Held(plans, orders, held_awards), STORAGE, SITE, forecast)
    assert not request.slots or refusal(request) is None
    return request


def test_the_slot_that_runs_counts_as_far_as_it_is_left():
    request = asked(T0 + 600.0, plan(1e3, 2e3))
    assert [(s.start_utc_s - T0, s.end_utc_s - T0, s.sold_w) for s in request.slots] == [
        (600.0, 1800.0, 1e3),
        (1800.0, 3600.0, 2e3),
    ]


def test_a_slot_that_is_all_but_over_is_left_out():
    assert asked(T0 + 1799.5, plan(1e3, 2e3)).slots[0].start_utc_s == T0 + 1800.0


def test_the_horizon_ends_after_48_hours_or_with_the_last_plan():
    yearly = plan(*[0.0] * 200, kind=PlanKind.YEARLY)
    assert len(asked(T0, yearly).slots) == 96
    assert len(asked(T0, plan(0.0), plan(0.0, 0.0, kind=PlanKind.YEARLY)).slots) == 2
    assert asked(T0).slots == ()
    assert asked(T0 + 9999.0, plan(0.0)).slots == ()


def test_layers_are_taken_slot_by_slot_also_of_different_length():
    rolling = plan(1e3, None, 3e3, slot_s=900)
    yearly = plan(7e3, 8e3, kind=PlanKind.YEARLY, start=T0, slot_s=3600)
    request = asked(T0, rolling, yearly)
    assert [(s.start_utc_s - T0, s.sold_w) for s in request.slots] == [
        (0.0, 1e3), (900.0, 7e3), (1800.0, 3e3), (2700.0, 7e3), (3600.0, 8e3), (4500.0, 8e3), (5400.0, 8e3), (6300.0, 8e3),
    ]  # fmt: skip


def test_a_hole_before_a_plan_is_a_free_slot():
    request = asked(T0, plan(1e3, start=T0 + 2700.0, slot_s=900))
    assert [(s.start_utc_s - T0, s.end_utc_s - T0, s.sold_w) for s in request.slots] == [
        (0.0, 1800.0, None),
        (1800.0, 2700.0, None),
        (2700.0, 3600.0, 1e3),
    ]


def test_a_rolling_slot_is_sold_and_a_yearly_one_with_a_price_is_not():
    prices = {"price_per_kwh": (9.0, None)}
    rolling = asked(T0, plan(1e3, 2e3, **prices))
    assert [(s.sold_w, s.price_per_kwh) for s in rolling.slots] == [(1e3, 9.0), (2e3, None)]
    yearly = asked(T0, plan(1e3, 2e3, kind=PlanKind.YEARLY, **prices))
    assert [(s.sold_w, s.price_per_kwh) for s in yearly.slots] == [(None, 9.0), (2e3, None)]


def test_forecast_battery_and_site_come_through():
    request = asked(T0 + 600.0, plan(1e3, 2e3))
    first = request.slots[0]
    assert (first.pv_w, first.load_w, first.target) == (1600.0, -1200.0, Target.GRID)
    assert (first.charge_limit_w, first.discharge_limit_w) == (400e3, 250e3)
    assert (first.export_limit_w, first.import_limit_w) == (400e3, 350e3)
    assert (first.award_up_w, first.award_down_wh) == (0.0, 0.0)
    assert (request.soc_now_pct, request.soc_min_pct, request.soc_max_pct) == (50.0, 10.0, 90.0)
    assert (request.capacity_wh, request.charge_efficiency, request.discharge_efficiency) == (1e6, 0.95, 0.9)
    assert (request.cycle_cost_per_kwh, request.standby_w) == (1.5, 100.0)


@pytest.mark.parametrize(
    ("soc_pct", "band_pct"),
    [(9.0, (9.0, 90.0)), (8.9, (10.0, 90.0)), (91.0, (10.0, 91.0)), (91.1, (10.0, 90.0))],
)
def test_a_soc_outside_its_band_by_less_than_anyone_knows_is_not_brought_back(soc_pct, band_pct):
    storage = replace(STORAGE, soc_pct=soc_pct)
    request = request_at(T0, Held(Plans(plan(1e3)), NO_ORDERS, NO_AWARDS), storage, SITE, forecast)
    assert (request.soc_min_pct, request.soc_max_pct) == band_pct


def test_an_outage_takes_its_battery_out_of_every_slot_that_it_touches():
    orders = Orders(outages=(Outage("o", T0 + 900.0, T0 + 2000.0, "a"), Outage("w", T0 + 4000.0, T0 + 4500.0)))
    request = asked(T0, plan(0.0, 0.0, 0.0, 0.0), orders=orders)
    assert [s.charge_limit_w for s in request.slots] == [100e3, 100e3, 0.0, 400e3]
    assert [s.discharge_limit_w for s in request.slots] == [50e3, 50e3, 0.0, 250e3]


def test_a_curtailment_narrows_every_slot_that_it_touches():
    orders = Orders(curtailments=(Curtailment("c", T0 + 1799.0, T0 + 1801.0, 20e3, None),))
    request = asked(T0, plan(0.0, 0.0, 0.0), orders=orders)
    assert [s.export_limit_w for s in request.slots] == [20e3, 20e3, 400e3]
    assert [s.import_limit_w for s in request.slots] == [350e3] * 3


def test_awards_reserve_power_and_energy_in_every_slot_that_they_touch():
    awards = (
        Award("x", "p", T0 + 900.0, T0 + 1800.0, 80e3),
        Award("y", "p", T0 + 1800.0, T0 + 3600.0, 60e3, Direction.UP),
        Award("z", "p", T0 + 1800.0, T0 + 2000.0, 10e3, Direction.DOWN),
    )
    request = asked(T0, plan(0.0, 0.0, 0.0), awards=awards)
    assert [(s.award_up_w, s.award_down_w) for s in request.slots] == [(80e3, 80e3), (60e3, 10e3), (0.0, 0.0)]
    assert [(s.award_up_wh, s.award_down_wh) for s in request.slots] == [(20e3, 20e3), (15e3, 2.5e3), (0.0, 0.0)]


def test_energy_at_the_end_is_what_the_plan_expects_or_has_the_mean_price():
    prices = (8.0, 12.0)
    told = asked(T0, plan(0.0, 0.0, price_per_kwh=prices, soc_end_pct=(40.0, 33.0)))
    assert (told.terminal_soc_pct, told.terminal_value_per_kwh) == (33.0, pytest.approx(10.0 / 0.95))
    free = asked(T0, plan(0.0, 0.0, price_per_kwh=prices, soc_end_pct=(40.0, None)))
    assert (free.terminal_soc_pct, free.terminal_value_per_kwh) == (None, pytest.approx(9.0 - 1.5))
    paid = asked(T0, plan(0.0, 0.0, price_per_kwh=(-8.0, -12.0)))
    assert paid.terminal_value_per_kwh == 0.0
    assert asked(T0, plan(0.0, 0.0)).terminal_value_per_kwh == 0.0


def test_the_whole_way_from_plans_to_a_checked_plan():
    prices = tuple(10.0 + 5.0 * math.sin(i) for i in range(96))
    request = asked(T0 + 77.0, plan(*[50e3 * math.cos(i) for i in range(96)], price_per_kwh=prices))
    assert not isinstance(check(request, solve(request)), str)
    assert not isinstance(check(request, solve(replace(request, soc_now_pct=50.01))), str)
