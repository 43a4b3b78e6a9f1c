"""The forecast whether every award can be met."""

from __future__ import annotations

from dataclasses import replace

import pytest
from core_awards import T0, award, booked, room
from core_site import plan
from hypothesis import given
from hypothesis import strategies as st

from agent.core.awards import NO_AWARDS
from agent.core.deliverability import BaselineSlot, Deliverability, baseline_ahead, deliverabilities
from agent.core.orders import Curtailment, Direction, Orders, Outage
from agent.core.plan import PlanKind, Plans, Target
from agent.core.reserve import NO_ROOM


def slots(*powers_w: float) -> list[BaselineSlot]:
    return [BaselineSlot(T0 + i * 1800.0, T0 + (i + 1) * 1800.0, power_w) for i, power_w in enumerate(powers_w)]


def short(taken, baseline, here, now=0.0, **changes) -> list[tuple[float, float, bool]]:
    told = deliverabilities(taken, baseline, here, T0 + now, **changes)
    return [(round(one.shortfall_w), round(one.shortfall_wh), one.met) for one in told]


LATER = award("later", start=3600, end=5400)
"""100 kW, 50 kWh each way, an hour from now."""


def test_an_award_with_power_and_energy_is_met():
    assert short(booked(LATER), slots(0.0, 0.0, 0.0), room()) == [(0, 0, True)]


def test_a_plan_that_runs_the_battery_down_is_told_with_the_energy_that_will_be_missing():
    """300 kWh there, the plan takes 270: 30 are left of the 50 that the award keeps."""
    taken = booked(award("later", start=5400, end=7200))
    (told,) = deliverabilities(taken, slots(400e3, 140e3, 0.0, 0.0), room(give_wh=300e3), T0)
    assert (told.award_id, told.shortfall_w, told.met) == ("later", 0.0, False)
    assert told.shortfall_wh == pytest.approx(20e3)
    assert told.why == "short of 0.0 kW and 20.0 kWh"
    assert told.cancel_by_utc_s == told.start_utc_s - 3600.0


def test_the_slot_that_ends_with_the_awards_start_already_keeps_its_energy():
    """The agent will not run down in the last slot what the award needs at its first second."""
    assert short(booked(LATER), slots(0.0, 500e3), room(give_wh=100e3)) == [(0, 0, True)]
    assert short(booked(LATER), slots(200e3, 0.0), room(give_wh=100e3)) == [(0, 50e3, False)]


def test_a_plan_that_charges_until_then_counts_with_its_losses():
    """20 kWh there and 25 kWh charged at 90 % round trip are 42.5 of 50."""
    assert short(booked(LATER), slots(-50e3, 0.0), room(give_wh=20e3)) == [(0, 7500, False)]


def test_discharging_makes_room_to_take():
    """0 kWh to take and 45 kWh given at 90 % round trip are 50 kWh of room."""
    assert short(booked(LATER), slots(90e3, 0.0), room(take_wh=0.0)) == [(0, 0, True)]
    assert short(booked(LATER), slots(45e3, 0.0), room(take_wh=0.0)) == [(0, 25e3, False)]


def test_the_plan_stops_at_the_soc_window():
    """Charging 250 kWh is cut at the 100 kWh that fit: nothing is left to take, 90 kWh more to give."""
    assert short(booked(LATER), slots(0.0, -500e3), room(take_wh=100e3)) == [(0, 0, True)]
    assert short(booked(LATER), slots(-500e3, 0.0), room(take_wh=100e3)) == [(0, 50e3, False)]
    down = booked(replace(LATER, direction=Direction.UP))
    assert short(down, slots(-500e3, 0.0), room(give_wh=-60e3, take_wh=100e3)) == [(0, 20e3, False)]


def test_power_that_the_batteries_do_not_have_is_missing():
    assert short(booked(LATER), [], room(discharge_w=70e3)) == [(30e3, 0, False)]
    assert short(booked(replace(LATER, direction=Direction.DOWN)), [], room(discharge_w=70e3)) == [(0, 0, True)]
    nordic = booked(replace(LATER, product="fcr-n"))
    assert short(nordic, [], room(discharge_w=130e3, charge_w=100e3)) == [(34e3, 0, False)]


def test_a_hundredth_of_the_award_is_within_the_noise():
    assert short(booked(LATER), [], room(discharge_w=99e3)) == [(1000, 0, True)]
    assert short(booked(LATER), [], room(discharge_w=98.9e3)) == [(1100, 0, False)]
    assert short(booked(LATER), [], room(give_wh=49.5e3)) == [(0, 500, True)]
    assert short(booked(LATER), [], room(give_wh=49.4e3)) == [(0, 600, False)]


def test_with_no_battery_known_everything_is_missing():
    assert short(booked(LATER), slots(0.0), NO_ROOM) == [(100e3, 50e3, False)]


def test_overlapping_awards_lack_what_those_before_them_leave():
    taken = booked(award("a", end=1800, power_w=100e3), award("b", end=1800, power_w=60e3))
    assert short(taken, [], room(discharge_w=130e3, give_wh=60e3)) == [(0, 0, True), (30e3, 20e3, False)]
    assert short(taken, [], room(discharge_w=80e3, give_wh=20e3)) == [(20e3, 30e3, False), (60e3, 30e3, False)]


def test_an_award_in_force_keeps_its_reserve_against_the_plan():
    taken = booked(award(end=3600))
    assert short(taken, slots(500e3, 500e3), room(give_wh=100e3)) == [(0, 0, True)]


def test_what_the_response_took_counts_for_the_award_in_force_only():
    taken = booked(award("now", end=1800), award("next", start=1800, end=3600))
    assert short(taken, [], room(give_wh=30e3), spent_wh=20e3) == [(0, 0, True), (0, 20e3, False)]


def test_an_award_that_is_over_is_not_told():
    taken = booked(award("old", end=1800), LATER)
    told = deliverabilities(taken, [], room(), T0 + 1800.0)
    assert [one.award_id for one in told] == ["later"]
    assert deliverabilities(NO_AWARDS, slots(1.0), room(), T0) == ()


def test_an_outage_of_the_site_or_of_one_of_its_batteries_takes_its_share():
    site = Orders(outages=(Outage("o", T0 + 4000, T0 + 4100),))
    assert short(booked(LATER), [], room(), orders=site) == [(100e3, 50e3, False)]
    one = Orders(outages=(Outage("o", T0 + 4000, T0 + 4100, "b1"),))
    rated = {"b1": 450e3, "b2": 50e3}
    assert short(booked(LATER), [], room(), orders=one, rated_w_of=rated) == [(50e3, 20e3, False)]
    over = Orders(outages=(Outage("o", T0, T0 + 3600), Outage("p", T0 + 5400, T0 + 6000)))
    assert short(booked(LATER), [], room(), orders=over) == [(0, 0, True)]


def test_a_curtailment_takes_the_power_beyond_its_limit():
    no_export = Orders(curtailments=(Curtailment("c", T0 + 4000, T0 + 4100, export_limit_w=20e3),))
    assert short(booked(LATER), [], room(), orders=no_export) == [(80e3, 0, False)]
    no_import = Orders(curtailments=(Curtailment("c", T0 + 4000, T0 + 4100, import_limit_w=0.0),))
    assert short(booked(LATER), [], room(), orders=no_import) == [(100e3, 0, False)]


def test_a_lost_meter_is_told_for_every_award_of_the_product():
    why = {"ce-fcr-offset": "the meter gives no frequency"}
    (told,) = deliverabilities(booked(LATER), [], room(), T0, unanswered=why)
    assert (told.shortfall_w, told.shortfall_wh, told.met) == (100e3, 50e3, False)
    assert told.why == "short of 100.0 kW and 50.0 kWh: the meter gives no frequency"
    assert short(booked(replace(LATER, product="fcr-n")), [], room(), unanswered=why) == [(0, 0, True)]


def test_the_baseline_is_the_rolling_plan_then_the_yearly_one_then_nothing():
    rolling = plan(10e3, None, 30e3)
    yearly = plan(*[1e3] * 8, kind=PlanKind.YEARLY, start=rolling.start_utc_s - 1800.0)
    start = rolling.start_utc_s
    found = baseline_ahead(Plans(rolling, yearly), start + 100.0, start + 9000.0)
    assert [(slot.start_utc_s - start, slot.end_utc_s - start, slot.power_w) for slot in found] == [
        (100, 1800, 10e3), (1800, 3600, 1e3), (3600, 5400, 30e3), (5400, 7200, 1e3), (7200, 9000, 1e3),
    ]  # fmt: skip


def test_holes_in_the_plans_are_left_out():
    rolling = plan(None, 20e3, None, start=T0)
    later = plan(5e3, kind=PlanKind.YEARLY, start=T0 + 36000)
    found = baseline_ahead(Plans(rolling, later), T0 - 5000.0, T0 + 90000)
    assert [(slot.start_utc_s - T0, slot.power_w) for slot in found] == [(1800, 20e3), (36000, 5e3)]
    assert baseline_ahead(Plans(), T0, T0 + 9e9) == []


def test_a_slot_at_the_connection_point_asks_the_battery_for_the_rest():
    rolling = plan(100e3, target=Target.GRID)
    (slot,) = baseline_ahead(Plans(rolling), rolling.start_utc_s, rolling.start_utc_s + 1.0, others_w=-30e3)
    assert slot.power_w == 130e3


@given(
    st.lists(st.floats(-5e5, 5e5), max_size=8),
    st.lists(st.tuples(st.integers(0, 7), st.floats(1e3, 2.5e5)), max_size=4),
    st.floats(0, 4e5),
    st.floats(0, 4e5),
)
def test_shortfalls_are_within_what_was_sold_and_vanish_with_plenty(powers_w, when, give_wh, take_wh):
    awards = [
        award(f"a{i}", start=900.0 * n, end=900.0 * n + 1800.0, power_w=p / len(when)) for i, (n, p) in enumerate(when)
    ]
    taken = booked(*awards)
    for told in deliverabilities(taken, slots(*powers_w), room(give_wh=give_wh, take_wh=take_wh), T0):
        assert isinstance(told, Deliverability)
        assert 0.0 <= told.shortfall_w <= 2.5e5
        assert 0.0 <= told.shortfall_wh <= 2.5e5 / 2
    plenty = deliverabilities(taken, [], room(give_wh=1e9, take_wh=1e9), T0)
    assert all(told.met for told in plenty)


def test_an_order_in_the_middle_of_a_slot_does_not_run_the_slot_twice():
    """100 of 160 kWh are discharged in the first half hour, whatever begins and ends in it."""
    orders = Orders(curtailments=(Curtailment("c", T0 + 900, T0 + 1000, export_limit_w=1e9),))
    assert short(booked(LATER), slots(200e3, 0.0), room(give_wh=160e3), orders=orders) == [(0, 0, True)]


def test_a_plan_of_seconds_is_looked_at_only_as_far_as_asked():
    plans = Plans(rolling=plan(*[10.0] * 1000, slot_s=1, start=T0))
    assert len(baseline_ahead(plans, T0, T0 + 1000, most=600)) == 600
    assert len(baseline_ahead(plans, T0, T0 + 1000)) == 1000
