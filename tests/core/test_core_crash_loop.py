"""When starts are too many."""

import json
from dataclasses import replace

import pytest
from core_site import SITE, inputs, plan

from agent.core.authority import Above, Source, decide
from agent.core.crash_loop import CRASHES, SAFE_FOR_S, WITHIN_S, Starts, restored_starts, started, starts_record
from agent.core.decision import State
from agent.core.events import Severity
from agent.core.plan import Plans, Target
from agent.core.rules import LocalRule, SiteRules
from agent.core.step import step

T = 1_700_000_000.0
RULES = SiteRules("s", 1.0, (), (), None, 1e5, 1e5, False, LocalRule.IDLE)


def after(times):
    starts = Starts()
    for at_s in times:
        starts = started(starts, at_s)
    return starts


def test_the_start_after_five_crashes_within_ten_minutes_is_in_safe_mode_for_an_hour():
    crashes = [T + i * WITHIN_S / CRASHES for i in range(CRASHES)]
    assert after(crashes).safe_until_utc_s is None
    assert after([*crashes, T + WITHIN_S]).safe_until_utc_s == T + WITHIN_S + SAFE_FOR_S


def test_crashes_that_are_further_apart_do_not_add_up():
    assert after([T + i * (WITHIN_S / CRASHES + 30.0) for i in range(20)]).safe_until_utc_s is None


def test_a_crash_in_safe_mode_neither_ends_nor_prolongs_it_by_itself():
    safe = after([T + i for i in range(CRASHES + 1)])
    later = started(safe, T + WITHIN_S + 100.0)
    assert later.safe_until_utc_s == safe.safe_until_utc_s
    assert len(later.unclean_utc_s) == 1


def test_when_its_time_is_over_the_next_start_moves_power_again():
    safe = after([T + i for i in range(CRASHES + 1)])
    assert started(safe, T + CRASHES + SAFE_FOR_S).safe_until_utc_s is None


@pytest.mark.parametrize("step_s", [-86_400.0, 86_400.0])
def test_after_a_step_of_the_wall_clock_nobody_waits_for_longer_than_an_hour(step_s):
    safe = after([T + i for i in range(CRASHES + 1)])
    assert started(safe, T + step_s).safe_until_utc_s is None


def test_a_clock_that_was_set_back_a_little_does_not_hide_a_crash_loop():
    assert after([T + 300.0, T + 310.0, T + 320.0, T, T + 10.0, T + 20.0]).safe_until_utc_s is not None


def test_the_record_comes_back_as_it_was_and_is_bounded():
    starts = after([T + i for i in range(50)])
    assert len(starts.unclean_utc_s) == CRASHES
    assert restored_starts(json.loads(json.dumps(starts_record(starts)))) == starts


@pytest.mark.parametrize(
    "record", [None, [], {"unclean_utc_s": 3}, {"unclean_utc_s": ["x"]}, {"unclean_utc_s": [10**400]}, "text"]
)
def test_a_record_that_cannot_be_read_counts_nothing(record):
    assert restored_starts(record) == Starts()


def test_safe_mode_outranks_everything_but_the_latch_and_suspends_awards():
    def decided(above):
        return decide(RULES, Plans(), T, clock_trusted=True, meter_good=True, above=above)

    safe = decided(Above(safe_mode="safe mode: crashed"))
    assert (safe.source, safe.target, safe.power_w) == (Source.SAFE_MODE, Target.BATTERY, 0.0)
    assert safe.suspends_awards
    assert safe.why == "safe mode: crashed"
    assert safe.planning.source is Source.LOCAL_RULE
    assert decided(Above(latch="estop", safe_mode="safe mode")).source is Source.LATCH


def test_in_safe_mode_a_tick_puts_the_battery_to_rest_at_once_whatever_the_plan_says():
    running = inputs(plans=Plans(plan(100e3)))
    before, effects = step(SITE, State(), running)
    assert effects.decision.source is Source.ROLLING
    safe = replace(running, safe_mode="safe mode: crashed", utc_s=running.utc_s + 1.0)
    effects = step(SITE, before, safe)[1]
    assert (effects.decision.source, effects.decision.setpoint_w) == (Source.SAFE_MODE, 0.0)
    assert effects.decision.awards_suspended
    assert [event.severity for event in effects.events if event.code == "source_changed"] == [Severity.ALARM]
    assert set(effects.decision.shares_w.values()) == {0.0}
