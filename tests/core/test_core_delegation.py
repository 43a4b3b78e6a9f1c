"""One device's own droop step by step: what is known of it, what is expected of it, when it is given up."""

from __future__ import annotations

from dataclasses import replace

import pytest
from core_site import SITE, T0, battery, good, missing

from agent.core.bounds import Bound
from agent.core.delegable import Part
from agent.core.delegation import (
    Answering,
    DroopLine,
    DroopWrite,
    Handed,
    allowing,
    answered,
    barred,
    beneath,
    droop_due,
    droop_sent,
)
from agent.core.droop import DeviceDroop
from agent.core.snapshot import DroopOutcome
from agent.core.writes import WriteState

PART = Part(DeviceDroop(0.01, 0.019), 100e3, 500e3, 3.0)
"""100 kW of CE FCR on a battery of 500 kW."""
RULES = replace(SITE, delegated=frozenset({"bess"}))
(RULE,) = RULES.batteries
NOTHING = (None,)


def line(**changes):
    base = DroopLine("bess", 0.0, (PART,), PART, T0 + 1800.0, done_mono_s=0.0, bare=True)
    return replace(base, **changes)


def look(before, t, *, power_w=0.0, owned_w=0.0, hz=50.0, owed_w=0.0, from_hz=0.01, outcome=None, **sample):
    """Who answers at `t`, by a reading of now."""
    seen = missing(t) if from_hz is None else good(from_hz, t)
    now = replace(battery(t, power_w), own_droop_from_hz=seen, **sample)
    writes = (WriteState("bess", owned_w),)
    outcomes = () if outcome is None else (outcome,)
    return answered(RULES, (before,), (now,), writes, outcomes, owed_w=owed_w, hz=hz, utc_s=T0 + t, mono_s=t)


def outcome(part=PART, *, ok=True, off=False, at=1.0):
    return DroopOutcome("bess", part.curve if part else None, None, ok, off, "" if ok else "it refused", at)


def after(*args, **changes):
    return look(*args, **changes).lines[0]


def test_a_device_that_follows_for_certain_gives_its_curve_and_the_agent_nothing():
    found = look(line(), 1.0, hz=49.8, owed_w=100e3)
    assert found.answers == {"bess": Answering(*[pytest.approx(100e3)] * 3)}
    assert found.by_agent_w == pytest.approx(0.0, abs=1e-6)


def test_a_device_that_follows_nothing_for_certain_leaves_all_to_the_agent():
    found = look(line(part=None, may_follow=NOTHING), 1.0, hz=49.8, owed_w=100e3, from_hz=None)
    assert (found.answers, found.by_agent_w) == ({}, 100e3)


@pytest.mark.parametrize("may_follow", [None, (None, PART)])
def test_a_device_that_may_follow_lies_between_nothing_and_its_curve_where_its_power_shows(may_follow):
    for power_w, likely_w in ((30e3, 30e3), (-50e3, 0.0), (400e3, 100e3)):
        now = line(may_follow=may_follow, asked=DroopWrite("bess", PART), asked_mono_s=0.5)
        found = look(now, 1.0, hz=49.8, owed_w=100e3, power_w=power_w)
        assert found.answers["bess"] == Answering(pytest.approx(likely_w), 0.0, pytest.approx(100e3))
        assert found.by_agent_w == 0.0


def test_a_confirmed_hand_over_is_the_devices():
    asked = line(may_follow=NOTHING, asked=DroopWrite("bess", PART))
    now = after(asked, 2.0, outcome=outcome())
    assert now.theirs
    assert (now.asked, now.failures, now.armed_mono_s) == (None, 0, 1.0)


def test_put_ready_it_follows_nothing_yet():
    now = after(line(asked=DroopWrite("bess", PART, answering=False)), 2.0, outcome=outcome(off=True), from_hz=None)
    assert (now.may_follow, now.ready) == (NOTHING, PART)


def test_a_refusal_whose_droop_is_off_is_the_agents_at_once():
    asked = line(may_follow=(None, PART), asked=DroopWrite("bess", PART))
    now = after(asked, 2.0, outcome=outcome(ok=False, off=True), from_hz=None)
    assert now.ours
    assert now.barred == "it refused"


@pytest.mark.parametrize("may_follow", [None, NOTHING, (PART,)])
def test_a_failure_that_left_the_device_unknown_is_nobodys_of_us(may_follow):
    asked = line(may_follow=may_follow, asked=DroopWrite("bess", PART))
    now = after(asked, 2.0, outcome=outcome(ok=False), from_hz=None)
    assert set(now.may_follow) == {None, PART}
    assert not now.ours
    assert look(now, 3.0, hz=49.8, owed_w=100e3, from_hz=None).by_agent_w == 0.0


def test_a_reading_from_before_the_write_says_nothing_about_it():
    held = line(done_mono_s=5.0)
    sample = replace(battery(6.0), own_droop_from_hz=missing(4.9))
    found = answered(RULES, (held,), (sample,), (), (), owed_w=0.0, hz=50.0, utc_s=T0 + 6.0, mono_s=6.0)
    assert found.lines[0].theirs
    off = line(part=None, may_follow=NOTHING, done_mono_s=5.0)
    sample = replace(battery(6.0), own_droop_from_hz=good(0.01, 4.9))
    found = answered(RULES, (off,), (sample,), (), (), owed_w=0.0, hz=50.0, utc_s=T0 + 6.0, mono_s=6.0)
    assert found.lines[0].ours


@pytest.mark.parametrize("from_hz", [None, 0.02])
def test_a_device_that_shows_another_curve_or_none_is_written_to_again(from_hz):
    now = after(line(), 1.0, from_hz=from_hz)
    assert (now.may_follow, now.losses) == ((None, PART), 1)
    assert droop_due(now, RULE, 1.0, answering=True) == DroopWrite("bess", PART)


def test_what_the_dead_man_ended_is_off_a_second_later():
    silent = {"power_w": missing(70.0)}
    for t, off in ((60.9, False), (61.1, True)):
        sample = replace(battery(t), **silent)
        found = answered(RULES, (line(),), (sample,), (), (), owed_w=0.0, hz=50.0, utc_s=T0 + t, mono_s=t)
        assert found.lines[0].off is off


def lived(history, hz_at, before=None, owned_at=lambda _t: 0.0, step_s=0.5):
    """The line after a device's power by time, read twice a second."""
    now = before or line()
    t = 0.0
    while t < history[0]:
        t += step_s
        now = after(
            replace(now, armed_mono_s=t, done_mono_s=t - 0.1),
            t,
            power_w=history[1](t),
            hz=hz_at(t),
            owned_w=owned_at(t),
        )
        if now.barred:
            return t, now
    return None, now


def answer_at(hz_at):
    return lambda t: PART.answer_w(hz_at(t), 50.0)


def test_a_device_that_lags_behind_a_moving_frequency_is_not_given_up():
    """20 mHz a second for ten seconds, followed two seconds late: 20 % of the award behind all the time."""
    falling = lambda t: 50.0 - min(max(t - 5.0, 0.0) * 0.02, 0.2)  # noqa: E731
    late, _ = lived((40.0, lambda t: answer_at(falling)(t - 2.0)), falling)
    assert late is None


def test_a_device_that_gives_nothing_is_given_up_within_its_time_and_five_seconds():
    at_s, now = lived((60.0, lambda _t: 0.0), lambda t: 50.0 if t < 20.0 else 49.8)
    assert "did not follow: 0.0 kW where 100.0 kW were due" in now.barred
    assert 25.0 < at_s <= 20.0 + 2 * (3.0 + 3.0) + 5.0 + 0.5


@pytest.mark.parametrize(("missing_w", "kept"), [(9e3, True), (11e3, False), (-9e3, True), (-11e3, False)])
def test_a_tenth_of_the_award_may_be_missing_or_too_much(missing_w, kept):
    at_s, _ = lived((60.0, lambda _t: 100e3 - missing_w), lambda _t: 49.8)
    assert (at_s is None) is kept


def test_of_a_small_award_two_percent_of_the_rating_may_be_missing():
    small = line(part=replace(PART, award_w=10e3), may_follow=(replace(PART, award_w=10e3),))
    assert lived((30.0, lambda _t: 91e3), lambda _t: 49.8, small)[0] is None
    assert lived((30.0, lambda _t: 89e3), lambda _t: 49.8, small)[0] is not None


def test_after_a_step_of_the_setpoint_the_battery_has_ten_seconds_and_five():
    owned = lambda t: 0.0 if t < 24.0 else 400e3  # noqa: E731
    ramp = lambda t: min(max(t - 24.0, 0.0) * 30e3, 400e3)  # noqa: E731
    assert lived((60.0, ramp), lambda _t: 50.0, owned_at=owned)[0] is None
    at_s, _ = lived((60.0, lambda _t: 0.0), lambda _t: 50.0, owned_at=owned)
    assert 38.0 < at_s < 46.0


def test_a_device_at_its_own_limit_is_not_expected_to_give_more():
    now = line()
    for t in (1.0, 5.0, 9.0, 20.0, 30.0, 40.0):
        found = look(replace(now, armed_mono_s=t, done_mono_s=t - 0.1), t, power_w=450e3, owned_w=420e3, hz=49.8)
        (now,) = found.lines
    assert now.theirs


def test_a_setpoint_lies_beneath_the_answer_and_rest_is_exact():
    assert beneath({"a": 100e3 + 1e-10, "b": 5.0}, {"a": 100e3}) == {"a": 0.0, "b": 5.0}
    shares = {"a": 1.0}
    assert beneath(shares, {}) is shares


def test_the_limits_hold_wherever_in_its_range_an_answer_lies():
    bounds = (Bound("connection limit", "site file", -200e3, 200e3),)
    unsure = {"bess": Answering(30e3, -10e3, 100e3)}
    (found,) = allowing(bounds, unsure)
    assert (found.lower_w, found.upper_w) == (-160e3, 130e3)
    assert allowing(bounds, {"bess": Answering(30e3, 30e3, 30e3)}) is bounds
    (narrow,) = allowing((Bound("x", "y", -10e3, 10e3),), {"bess": Answering(0.0, -50e3, 30e3)})
    assert narrow.lower_w == narrow.upper_w == 10e3


def test_writes_wait_for_each_other_and_failures_pause():
    asked = line(asked=DroopWrite("bess", PART))
    assert droop_due(asked, RULE, 1e6, answering=True) is None
    failed = line(part=None, failures=3, done_mono_s=100.0)
    assert droop_due(failed, RULE, 103.9, answering=True) is None
    assert droop_due(failed, RULE, 104.0, answering=True) == DroopWrite("bess", None)
    often = line(part=None, failures=300, done_mono_s=100.0)
    assert droop_due(often, RULE, 110.0, answering=True) == DroopWrite("bess", None)


def test_what_was_sent_may_be_followed_from_then_on():
    sent = droop_sent(line(may_follow=NOTHING), DroopWrite("bess", PART), 7.0)
    assert (sent.may_follow, sent.armed_mono_s) == ((None, PART), 7.0)
    ready = droop_sent(line(may_follow=NOTHING), DroopWrite("bess", PART, answering=False), 7.0)
    assert (ready.may_follow, ready.armed_mono_s) == (NOTHING, 0.0)


def test_a_bar_ends_with_its_awards():
    kept = after(barred(line(may_follow=NOTHING), "why"), 1799.0, from_hz=None)
    assert kept.barred == "why"
    assert after(replace(kept, armed_mono_s=1800.0), 1800.0, from_hz=None).barred == ""


def test_on_a_site_that_hands_nothing_over_nobody_is_asked():
    nothing = Handed((), {}, 0.0)
    assert nothing.range_w("bess") == (0.0, 0.0)
    assert not nothing.answered_by_devices()


def test_handed_over_right_after_a_step_of_the_setpoint_the_battery_has_its_time_too():
    """The power is still on its way when the device confirms: 30 kW a second to 400 kW."""
    stepped = replace(line(may_follow=NOTHING), part=PART)
    stepped = after(stepped, 0.2, owned_w=0.0, from_hz=None)
    stepped = after(stepped, 0.4, owned_w=400e3, from_hz=None)
    handed = replace(stepped, may_follow=(PART,))
    ramp = lambda t: min(t * 30e3, 400e3)  # noqa: E731
    assert lived((40.0, ramp), lambda _t: 50.0, handed, owned_at=lambda _t: 400e3)[0] is None


def test_small_moves_of_the_setpoint_give_no_time():
    """A plan that moves 40 kW every 2 s hides no device that gives nothing."""
    moves = lambda t: 40e3 * (t // 2 % 2)  # noqa: E731
    at_s, _ = lived((60.0, moves), lambda _t: 49.8, line(owned_w=0.0), owned_at=moves)
    assert at_s is not None
    assert at_s < 10.0
