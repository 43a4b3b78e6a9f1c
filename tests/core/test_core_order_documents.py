"""Documents of orders as they bind the site, and what is told of awards beside the tick."""

from __future__ import annotations

from dataclasses import replace

import pytest
from core_site import SITE, T0, battery, good, inputs, meter, missing, plan
from core_step_site import Cell, award, booked, rules_of, site

from agent.core.award_outlook import awarded_rules, notices, outlook
from agent.core.awards import NO_AWARDS, book
from agent.core.decision import Condition, State
from agent.core.droop_products import CE_FCR_OFFSET, PRODUCTS
from agent.core.events import EventState, Severity
from agent.core.frequency import Trouble
from agent.core.orders import (
    NO_ORDERS,
    Curtailment,
    Direction,
    OrderDocument,
    OrderDocuments,
    OrderKind,
    Outage,
)
from agent.core.orders_in_force import in_force
from agent.core.plan import Plans
from agent.core.step import step

AWARDS = OrderDocument(OrderKind.AWARDS, 3, "a", T0, (award("a1"), award("a2", start=3600.0, end=5400.0)))
LIMITS = OrderDocument(OrderKind.CURTAILMENTS, 4, "c", T0, (Curtailment("c1", T0 - 60, T0 + 60, 1e3),))
WORK = OrderDocument(OrderKind.OUTAGES, 5, "o", T0, (Outage("o1", T0 + 10, T0 + 20, "bess"),))
ALL = OrderDocuments(AWARDS, LIMITS, WORK)


class TestDocuments:
    def test_each_kind_is_held_for_itself_and_replaced_whole(self):
        held = OrderDocuments()
        for document in (AWARDS, LIMITS, WORK):
            held = held.replaced(document)
        assert held == ALL
        assert [held.of(kind) for kind in OrderKind] == [AWARDS, LIMITS, WORK]
        empty = OrderDocument(OrderKind.AWARDS, 4, "b", T0, ())
        assert held.replaced(empty) == OrderDocuments(empty, LIMITS, WORK)

    def test_only_what_has_not_ended_binds(self):
        assert ALL.after(T0).awards == AWARDS.entries
        assert ALL.after(T0 + 1799).awards == AWARDS.entries
        assert ALL.after(T0 + 1800).awards == AWARDS.entries[1:]
        assert ALL.after(T0 + 19).outages == WORK.entries
        assert ALL.after(T0 + 60).curtailments == ()
        assert ALL.after(T0 + 5400) == NO_ORDERS
        assert OrderDocuments().after(T0) == NO_ORDERS

    def test_a_document_runs_from_its_first_order_to_its_last_with_pauses(self):
        assert [AWARDS.running(T0 + t) for t in (-1, 0, 1799, 1800, 3600, 5400)] == [
            False,
            True,
            True,
            False,
            True,
            False,
        ]
        assert AWARDS.end_utc_s == T0 + 5400
        assert OrderDocument(OrderKind.OUTAGES, 1, "", T0, ()).end_utc_s is None


class TestInForce:
    def test_awards_stand_by_the_ratings_grid_and_products_of_the_site(self):
        found = in_force(SITE, ALL, T0)
        assert [line.award.award_id for line in found.awards.sold] == ["a1", "a2"]
        assert found.orders.curtailments == LIMITS.entries
        assert found.refused == ()

    def test_a_site_of_another_grid_or_a_smaller_rating_refuses_what_was_taken_once(self):
        small = replace(SITE, batteries=(replace(SITE.batteries[0], rated_charge_w=90e3),))
        assert {one.reason for one in in_force(small, ALL, T0).refused} == {"beyond_rating"}
        other_grid = in_force(replace(SITE, nominal_hz=60.0), ALL, T0)
        assert [one.reason for one in other_grid.refused] == ["wrong_frequency"] * 2
        assert other_grid.awards.sold == ()

    def test_a_product_of_the_site_file_goes_before_a_preset_of_the_same_name(self):
        own = replace(CE_FCR_OFFSET, points=((0.02, 0.0), (0.1, 1.0)))
        found = in_force(replace(SITE, products={"ce-fcr-offset": own}), ALL, T0)
        assert found.awards.sold[0].table is own
        with_gb = OrderDocuments(replace(AWARDS, entries=(award("a1", product="gb-dc"),)))
        assert in_force(replace(SITE, products={"x": own}), with_gb, T0).awards.sold[0].table is PRODUCTS["gb-dc"]


class TestDeadBand:
    def test_it_is_half_a_percent_of_the_award_only_while_it_is_in_force(self):
        awards = booked(award("a1", power_w=40e3))
        assert awarded_rules(SITE, awards, T0).batteries[0].dead_band_w == pytest.approx(200.0)
        assert awarded_rules(SITE, awards, T0 + 1800) is SITE
        assert awarded_rules(SITE, awards, T0 - 1) is SITE
        assert awarded_rules(SITE, NO_AWARDS, T0) is SITE

    def test_a_narrower_one_of_the_site_file_stays(self):
        narrow = replace(SITE, batteries=(replace(SITE.batteries[0], dead_band_w=10.0),))
        assert awarded_rules(narrow, booked(award("a1", power_w=40e3)), T0).batteries[0].dead_band_w == 10.0

    def test_several_batteries_share_it_as_they_are_rated_and_the_award_of_one_direction_counts(self):
        fleet = rules_of(2)
        uneven = replace(fleet, batteries=(fleet.batteries[0], replace(fleet.batteries[1], rated_discharge_w=250e3)))
        downward = booked(award("a1", power_w=60e3, direction=Direction.DOWN))
        bands = [b.dead_band_w for b in awarded_rules(uneven, downward, T0).batteries]
        assert bands == pytest.approx([200.0, 100.0])


def looked(given, rules=SITE):
    """The forecast after a tick of these inputs."""
    state, _ = step(rules, State(), given)
    return outlook(rules, state, given)


def ahead(**changes):
    """An award of 100 kW in an hour: 50 kWh each way, and a battery of 1 MWh at 50 %."""
    coming = booked(award("a1", start=3600.0, end=5400.0))
    return inputs(awards=coming, **changes)


class TestOutlook:
    def test_an_award_that_fits_is_met(self):
        (one,) = looked(ahead())
        assert (one.award_id, one.met, one.shortfall_w, one.shortfall_wh) == ("a1", True, 0.0, 0.0)

    def test_without_awards_or_without_a_trusted_clock_there_is_none(self):
        assert looked(inputs()) == ()
        assert looked(ahead(clock_trusted=False)) == ()

    def test_what_is_missing_now_is_short_unless_the_plan_brings_it_until_then(self):
        low = (battery(soc_pct=14.0),)
        # 4 % of 1 MWh gives 38 kWh at the terminals, and 50 must be there.
        (one,) = looked(ahead(batteries=low))
        assert (one.met, one.shortfall_w) == (False, 0.0)
        assert one.shortfall_wh == pytest.approx(12e3, abs=3e3)
        (charged,) = looked(ahead(batteries=low, plans=Plans(plan(-100e3, -100e3, 0.0))))
        assert charged.met

    def test_a_silent_battery_a_lost_meter_and_a_coarse_frequency_leave_it_short_by_all_of_it(self):
        silent = replace(battery(), power_w=missing())
        deaf = replace(meter(), frequency_hz=missing())
        coarse = replace(SITE, frequency_resolution_hz=0.1)
        for given, rules in ((ahead(batteries=(silent,)), SITE), (ahead(meter=deaf), SITE), (ahead(), coarse)):
            (one,) = looked(given, rules)
            assert (one.met, one.shortfall_w, one.shortfall_wh) == (False, 100e3, 50e3)
        assert "too coarse" in looked(ahead(), coarse)[0].why

    def test_a_jump_of_the_frequency_that_is_over_with_the_next_reading_is_no_reason_to_give_an_award_back(self):
        before, _ = step(SITE, State(), ahead())
        jumped = replace(ahead(), mono_s=1.0, meter=replace(meter(1.0), frequency_hz=good(52.0, 1.0)))
        state, _ = step(SITE, before, jumped)
        assert state.reserve.frequency.trouble is Trouble.JUMPED
        assert outlook(SITE, state, jumped)[0].met

    def test_a_frequency_read_at_leisure_is_good_enough_until_the_award_is_near(self):
        (one,) = looked(ahead(meter=replace(meter(), frequency_hz=good(50.0, -8.0))))
        assert one.met

    def test_an_outage_or_curtailment_of_now_says_nothing_about_then_but_one_of_then_does(self):
        now = T0 - 60, T0 + 60
        then = T0 + 3600, T0 + 5400
        for span, met in ((now, True), (then, False)):
            work = in_force(SITE, OrderDocuments(outages=replace(WORK, entries=(Outage("o", *span),))), T0).orders
            (one,) = looked(ahead(orders=work))
            assert one.met is met
            limit = Curtailment("c", *span, export_limit_w=0.0)
            bound = in_force(SITE, OrderDocuments(curtailments=replace(LIMITS, entries=(limit,))), T0).orders
            (one,) = looked(ahead(orders=bound))
            assert one.met is met

    def test_what_a_running_response_took_does_not_make_its_own_award_short(self):
        running = site(awards=booked(award("a1", power_w=100e3)), cells=[Cell("b0", soc_pct=16.0)])
        running.frequency_hz = lambda _t: 49.8
        running.run(600)
        given = running.log[-1][0]
        (one,) = outlook(running.rules, running.state, given)
        assert running.state.reserve.spent_wh > 10e3
        assert one.met
        unspent = replace(running.state, reserve=replace(running.state.reserve, spent_wh=0.0))
        assert not outlook(running.rules, unspent, given)[0].met


class TestNotices:
    def test_a_short_award_is_an_alarm_with_figures_and_the_time_to_give_it_back(self):
        forecast = looked(ahead(batteries=(replace(battery(), power_w=missing()),)))
        early, late, running = (notices(forecast, (), T0 + t)[0] for t in (-600.0, 1.0, 3600.0))
        assert (early.code, early.subject, early.severity) == ("award_short", "a1", Severity.ALARM)
        assert early.data["shortfall_kw"] == 100.0
        assert early.data["shortfall_kwh"] == 50.0
        assert early.data["cancel_by"] < early.data["start"]
        assert "short of 100.0 kW and 50.0 kWh" in early.text
        assert "can be given back until" in early.text
        assert "could be given back until" in late.text
        assert "it is in force" in running.text

    def test_an_award_that_is_met_is_no_notice_and_a_refused_one_is(self):
        _, refused = book([award("a1", product="gone")], PRODUCTS, rated_discharge_w=1e6, rated_charge_w=1e6)
        (notice,) = notices(looked(ahead()), refused, T0)
        assert (notice.code, notice.subject, notice.data) == ("award_refused", "a1", {"reason": "unknown_product"})

    def test_a_notice_is_raised_with_its_data_and_cleared_like_any_condition(self):
        notice = Condition("award_short", "a1", Severity.ALARM, "short", {"shortfall_kw": 1.0})
        state, effects = step(SITE, State(), inputs(notices=(notice,)))
        raised = [event for event in effects.events if event.code == "award_short"]
        assert [(event.state, event.data) for event in raised] == [(EventState.RAISED, {"shortfall_kw": 1.0})]
        assert state.conditions["award_short", "a1"] == notice
        _, after = step(SITE, state, inputs(1.0))
        assert [e.state for e in after.events if e.code == "award_short"] == [EventState.CLEARED]
