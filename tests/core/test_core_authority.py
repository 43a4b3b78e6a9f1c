"""What stands above the plans, through whole ticks: safety latch, override, commands, narrowed limits."""

from __future__ import annotations

from dataclasses import replace

import pytest
from core_site import SITE, T0, battery, good, inputs, meter, missing, plan, pv
from core_step_site import award, booked, rules_of, site
from hypothesis import given
from hypothesis import strategies as st

from agent.core.authority import Above, Authority, PowerOrder, Source, decide
from agent.core.award_outlook import outlook
from agent.core.bounds import Rank
from agent.core.command import NarrowLimits
from agent.core.command_limits import Narrowing
from agent.core.decision import State
from agent.core.envelope_rules import SiteLimits
from agent.core.frequency import Trouble
from agent.core.latch import Alarm, Latch
from agent.core.override import Override
from agent.core.plan import Plans, Target
from agent.core.ramp import RampRules
from agent.core.step import step
from agent.core.term import Term, begun, resumed

PLAN = Plans(plan(100e3, 100e3))


def decision(found):
    """What a first tick with these inputs decides."""
    return step(SITE, State(), found)[1].decision


def override(power_w=-50e3, lasts_s=60.0, *, target=Target.BATTERY, suspends=False, at=0.0):
    return Override(target, power_w, begun(T0 + at, at, lasts_s), T0 + at, "anna", "a test", suspends)


def order(power_w=-20e3, lasts_s=60.0, *, target=Target.BATTERY, suspends=False, at=0.0):
    return PowerOrder("c1", "set_power", target, power_w, begun(T0 + at, at, lasts_s), suspends)


def narrowing(lasts_s=60.0, **limits):
    return Narrowing("n1", NarrowLimits(lasts_s, **limits), begun(T0, 0.0, lasts_s))


def decided(**above) -> Authority:
    return decide(SITE, PLAN, T0 + 1.0, clock_trusted=True, meter_good=True, above=Above(**above), mono_s=1.0)


class TestOrder:
    @pytest.mark.parametrize(
        ("above", "source", "power_w"),
        [
            ({}, Source.ROLLING, 100e3),
            ({"order": order()}, Source.COMMAND, -20e3),
            ({"order": order(), "override": override()}, Source.OVERRIDE, -50e3),
            ({"order": order(), "override": override(), "latch": "e-stop"}, Source.LATCH, 0.0),
            ({"latch": "e-stop"}, Source.LATCH, 0.0),
        ],
    )
    def test_the_latch_goes_before_the_override_that_before_a_command_and_that_before_the_plans(
        self, above, source, power_w
    ):
        found = decided(**above)
        assert (found.source, found.power_w) == (source, power_w)
        assert found.planning.source is Source.ROLLING

    def test_why_says_who_until_when_and_for_what(self):
        assert decided(override=override(lasts_s=1800.0)).why.startswith("anna overrides until ")
        assert "command c1, set_power, until " in decided(order=order()).why
        assert "ems latch reset" in decided(latch="bess: emergency stop").why

    @pytest.mark.parametrize("name", ["override", "order"])
    def test_what_is_over_decides_nothing_at_its_very_end(self, name):
        one = {"override": override, "order": order}[name]()
        for t, source in ((59.999, Source(name.replace("order", "command"))), (60.0, Source.ROLLING)):
            found = decide(
                SITE, PLAN, T0 + t, clock_trusted=True, meter_good=True, above=Above(**{name: one}), mono_s=t
            )
            assert found.source is source

    def test_a_command_found_after_a_restart_waits_for_a_clock_that_can_be_trusted_and_an_override_does_not(self):
        term = resumed(T0 + 60.0, T0, 0.0)
        above = Above(order=replace(order(), term=term))
        for trusted, source in ((True, Source.COMMAND), (False, Source.LOCAL_RULE)):
            found = decide(SITE, PLAN, T0 + 1.0, clock_trusted=trusted, meter_good=True, above=above, mono_s=1.0)
            assert found.source is source
        above = Above(override=replace(override(), term=term))
        found = decide(SITE, PLAN, 0.0, clock_trusted=False, meter_good=True, above=above, mono_s=1.0)
        assert found.source is Source.OVERRIDE
        found = decide(SITE, PLAN, 0.0, clock_trusted=False, meter_good=True, above=above, mono_s=60.0)
        assert found.source is Source.LOCAL_RULE, "never longer than it could be"


class TestTerm:
    @given(st.floats(0, 1e6), st.floats(-1e6, 1e6), st.floats(0, 1e6), st.booleans())
    def test_it_never_lasts_longer_than_it_was_given_by_either_clock(self, lasts_s, jumped_s, passed_s, trusted):
        term = begun(T0, 0.0, lasts_s)
        over = term.over(T0 + passed_s + jumped_s, passed_s, clock_trusted=trusted)
        if passed_s >= lasts_s or (trusted and T0 + passed_s + jumped_s >= T0 + lasts_s):
            assert over
        else:
            assert not over
            assert 0.0 <= term.left_s(T0 + passed_s + jumped_s, passed_s, clock_trusted=trusted) <= lasts_s

    def test_after_a_restart_what_is_left_counts_from_the_last_time_known(self):
        assert resumed(T0 + 60.0, T0 + 20.0, 500.0) == Term(T0 + 60.0, 540.0, witnessed=False)
        assert resumed(T0 + 60.0, T0 + 90.0, 500.0).until_mono_s == 500.0


class TestOverride:
    def test_every_change_of_who_decides_is_an_event_in_that_very_tick(self):
        home = site(plans=PLAN)
        home.run(2)
        home.override, home.order = override(lasts_s=5.0, at=2.0), order(lasts_s=9.0, at=2.0)
        home.run(12)
        changes = [(e.at_utc_s - T0, e.data["to"]) for e in home.events if e.code == "source_changed"]
        assert changes == [(0.0, "rolling"), (2.0, "override"), (7.0, "command"), (11.0, "rolling")]

    def test_at_the_connection_point_pv_and_load_are_taken_into_account_and_no_slot_is_tracked(self):
        row = decision(
            inputs(
                60.0, PLAN, override=override(30e3, 600.0, target=Target.GRID),
                batteries=(battery(60.0),), pvs=(pv(60.0, 50e3),), meter=meter(60.0, 40e3),
            )
        )  # fmt: skip
        assert (row.source, row.target_w, row.slot) == (Source.OVERRIDE, 30e3 - 40e3, None)

    def test_the_slot_is_accounted_for_whoever_decides_in_it(self):
        home = site(plans=PLAN)
        home.run(10)
        home.override = override(-360e3, 100.0, at=home.t)
        home.run(200)
        assert home.state.account.slot.start_utc_s == T0
        assert home.state.account.source is Source.ROLLING
        done_kwh = home.state.account.battery_wh / 1e3
        assert done_kwh == pytest.approx((110 * 100 - 100 * 360) / 3600, abs=0.5), "nothing was left out"
        assert all(effects.closed is None for _, effects in home.log)

    def test_the_envelope_holds_for_it_too(self):
        home = site(rules=replace(rules_of(), export_limit_w=30e3), plans=PLAN)
        home.override = override(200e3)
        home.run(5)
        assert home.cells[0].held_w == 30e3

    def test_awards_are_answered_under_it_unless_it_suspends_them(self):
        for suspends, expected_w in ((False, 47.4e3), (True, 0.0)):
            home = site(awards=booked(award()), frequency_hz=lambda _t: 49.9)
            home.override = override(0.0, suspends=suspends)
            home.run(10)
            assert home.cells[0].held_w == pytest.approx(expected_w, abs=1e3)
            assert (("award_unanswered", "a1") in home.conditions) is suspends
            rows = [row for _, effects in home.log for row in effects.evidence]
            assert rows, "evidence is gathered all the same"
            assert rows[-1].trouble is (Trouble.SUSPENDED if suspends else None)

    def test_a_suspended_award_keeps_no_room(self):
        for suspends, expected_w in ((False, 400e3), (True, 500e3)):
            home = site(awards=booked(award()))
            home.override = override(500e3, suspends=suspends)
            home.run(5)
            assert home.cells[0].held_w == pytest.approx(expected_w, abs=1e3)

    @pytest.mark.parametrize(
        ("above", "short"),
        [
            ({"override": override(lasts_s=4500.0, suspends=True)}, True),
            ({"override": override(lasts_s=3900.0, suspends=True)}, False),
            ({"override": override(lasts_s=4500.0)}, False),
            ({"order": order(lasts_s=4500.0, suspends=True)}, True),
            ({"order": order(lasts_s=4500.0, suspends=True), "override": override(lasts_s=4200.0)}, True),
            ({"order": order(lasts_s=4500.0, suspends=True), "override": override(lasts_s=6000.0)}, False),
        ],
    )
    def test_awards_that_begin_while_they_will_be_suspended_are_told_as_short_before(self, above, short):
        home = site(awards=booked(award(start=4000.0, end=5000.0)))
        home.run(1)
        assert outlook(home.rules, home.state, replace(home.inputs(), **above))[0].met is not short


class TestCommand:
    def test_neutral_suspends_awards_and_hold_does_not(self):
        for suspends, expected_w in ((False, 47.4e3), (True, 0.0)):
            home = site(awards=booked(award()), frequency_hz=lambda _t: 49.9, plans=PLAN)
            home.order = order(0.0, suspends=suspends)
            effects = home.run(10)
            assert home.cells[0].held_w == pytest.approx(expected_w, abs=1e3)
            assert effects[-1].decision.command_id == "c1"

    def test_the_last_value_is_not_kept_when_it_ends(self):
        home = site()
        home.order = order(200e3, 5.0)
        home.run(4)
        assert home.cells[0].held_w == 200e3
        home.run(3)
        assert home.cells[0].held_w == 0.0


class TestLatch:
    @pytest.mark.parametrize("alarm", list(Alarm))
    def test_an_alarm_stops_the_battery_in_that_tick_without_ramp_and_stays_when_it_is_gone(self, alarm):
        slow = replace(rules_of(), limits=SiteLimits(RampRules(1e3, 1e3)))
        home = site(rules=slow, override=override(40e3, 600.0))
        home.run(60)
        assert home.cells[0].held_w > 10e3
        home.cells[0].alarms = alarm
        (effects,) = home.run(1)
        assert [write.power_w for write in effects.writes] == [0.0]
        assert effects.decision.source is Source.LATCH
        assert ("raised", "b0") in home.raised("safety_latched")
        home.cells[0].alarms = 0
        home.run(30)
        assert (home.cells[0].held_w, home.state.source) == (0.0, Source.LATCH)
        home.state = replace(home.state, latches={})
        home.run(60)
        assert home.state.source is Source.OVERRIDE
        assert ("cleared", "b0") in home.raised("safety_latched")

    def test_alarms_add_up_and_the_first_time_counts(self):
        home = site()
        home.cells[0].alarms = Alarm.BREAKER
        home.run(2)
        home.cells[0].alarms = Alarm.INSULATION
        home.run(2)
        assert home.state.latches == {"b0": Latch("b0", Alarm.BREAKER | Alarm.INSULATION, T0)}
        held = home.state.latches
        home.run(2)
        assert home.state.latches is held, "nothing to write down again"

    def test_one_faulty_battery_of_two_rests_and_the_other_does_its_work(self):
        home = site(2, plans=Plans(plan(300e3)))
        home.run(5)
        home.cells[0].alarms = Alarm.BMS_FAULT
        home.run(10)
        assert (home.cells[0].held_w, home.cells[1].held_w) == (0.0, 300e3)
        assert home.state.source is Source.ROLLING

    def test_an_emergency_stop_at_one_battery_stops_them_all(self):
        home = site(2, plans=Plans(plan(300e3)), awards=booked(award()), frequency_hz=lambda _t: 49.9)
        home.run(5)
        home.cells[1].alarms = Alarm.E_STOP
        home.run(2)
        assert [cell.held_w for cell in home.cells] == [0.0, 0.0]
        assert home.state.source is Source.LATCH
        assert ("award_unanswered", "a1") in home.conditions

    def test_an_alarm_that_cannot_be_read_latches_nothing(self):
        for reading in (missing(), good(1.0, -60.0)):
            row = decision(inputs(plans=PLAN, batteries=(replace(battery(), alarms=reading),)))
            assert row.source is Source.ROLLING

    def test_awards_to_come_are_told_as_short_while_it_stands(self):
        home = site(awards=booked(award(start=4000.0, end=5000.0)))
        home.run(1)
        assert outlook(home.rules, home.state, home.inputs())[0].met
        home.cells[0].alarms = Alarm.BREAKER
        home.run(1)
        assert not outlook(home.rules, home.state, home.inputs())[0].met

    @given(
        st.sampled_from(list(Alarm)), st.floats(-500e3, 500e3), st.floats(-500e3, 500e3), st.booleans(), st.booleans()
    )
    def test_it_beats_everything(self, alarm, override_w, order_w, suspends, awarded):
        row = decision(
            inputs(
                1.0, PLAN, override=override(override_w, suspends=suspends), order=order(order_w),
                batteries=(replace(battery(1.0, 90e3), alarms=good(float(alarm), 1.0)),),
                awards=booked(award()) if awarded else booked(),
                narrowings=(narrowing(import_limit_w=0.0, export_limit_w=0.0),), meter=meter(1.0, -300e3),
            )
        )  # fmt: skip
        assert (row.source, row.setpoint_w, dict(row.shares_w)) == (Source.LATCH, 0.0, {"bess": 0.0})


class TestNarrowing:
    def test_battery_limits_bind_whoever_decides_and_end_with_their_time(self):
        home = site(plans=PLAN, narrowings=(narrowing(10.0, discharge_limit_w=30e3, charge_limit_w=20e3),))
        home.run(5)
        assert home.cells[0].held_w == 30e3
        home.override = override(-300e3, 3.0, at=5.0)
        home.run(3)
        assert home.cells[0].held_w == -20e3
        home.run(5)
        assert home.cells[0].held_w == 100e3

    def test_connection_limits_bind_with_their_own_name(self):
        home = site(plans=PLAN, narrowings=(narrowing(export_limit_w=40e3),), pv_w=lambda _t: 10e3)
        effects = home.run(5)[-1]
        assert home.grid_w == 40e3
        (clip,) = effects.decision.clips
        assert (clip.limit, clip.owner) == ("curtailment narrow_limits n1", "cloud command")

    def test_the_tightest_counts_and_never_one_that_is_wider_than_the_sites_own(self):
        rules = replace(rules_of(), export_limit_w=50e3)
        wide, tight = narrowing(export_limit_w=90e3), narrowing(export_limit_w=20e3, discharge_limit_w=15e3)
        for narrowings, expected_w in (((wide,), 50e3), ((tight, wide), 15e3), ((wide, tight), 15e3)):
            home = site(rules=rules, plans=PLAN, narrowings=narrowings)
            home.run(3)
            assert home.cells[0].held_w == expected_w

    def test_an_import_limit_that_the_load_breaks_is_told(self):
        home = site(
            load_w=lambda _t: -200e3, rules=rules_of(rated_w=100e3), narrowings=(narrowing(import_limit_w=0.0),)
        )
        home.run(5)
        assert home.cells[0].held_w == 100e3
        assert ("curtailment_exceeded", "cloud command") in home.conditions
        softened = home.log[-1][1].decision.softened[0]
        assert softened.rank is Rank.CURTAILMENT

    def test_the_forecast_of_awards_counts_it_for_as_long_as_it_lasts(self):
        late = booked(award(start=4000.0, end=5000.0))
        for lasts_s, met in ((3600.0, True), (4500.0, False)):
            home = site(awards=late, narrowings=(narrowing(lasts_s, export_limit_w=10e3, import_limit_w=10e3),))
            home.run(1)
            assert outlook(home.rules, home.state, home.inputs())[0].met is met
