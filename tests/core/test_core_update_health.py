"""The verdict on a version that was just started."""

from dataclasses import replace

import pytest

from agent.core.update_health import ANSWER_WITHIN_S, DEADLINE_S, SETTLE_S, Healthy, Look, NotYet, Unhealthy, verdict

BEFORE = Look(
    mono_s=-1.0,
    version="1.0",
    boot_id="a",
    ticks=5_000,
    confirmed=frozenset({"bess"}),
    conditions=frozenset({("unit_resting", "pv")}),
    connected=True,
)


def look(at_s, **changes):
    return replace(BEFORE, mono_s=at_s, version="1.1", boot_id="b", ticks=int(at_s) + 1, **changes)


def looks(to_s, **changes):
    return [look(float(at_s), **changes) for at_s in range(int(to_s) + 1)]


def judged(seen, now_s, before=BEFORE):
    return verdict("1.1", before, seen, 0.0, now_s)


def test_a_version_that_was_well_for_long_enough_is_healthy():
    assert judged(looks(SETTLE_S), SETTLE_S) == Healthy()


def test_it_must_have_been_well_for_all_of_that_time():
    assert judged(looks(SETTLE_S - 1), SETTLE_S - 1) == NotYet("it has not been well for long enough")


def test_the_time_counts_from_the_last_fault():
    seen = looks(SETTLE_S)
    seen[5] = look(5.0, connected=False)
    assert judged(seen, SETTLE_S) == NotYet("it has not been well for long enough")


def test_a_loop_that_does_not_tick_is_not_well():
    seen = [replace(one, ticks=7) for one in looks(SETTLE_S)]
    assert judged(seen, SETTLE_S) == NotYet("its control loop does not tick")


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ({"confirmed": frozenset()}, "no setpoint is confirmed by bess"),
        ({"conditions": frozenset({("not_following", "bess")})}, "there are new conditions: not_following (bess)"),
        ({"connected": False}, "it is not connected to the broker"),
    ],
)
def test_what_the_old_version_did_the_new_one_must_do(fault, why):
    assert judged(looks(SETTLE_S, **fault), SETTLE_S) == NotYet(why)
    assert judged(looks(DEADLINE_S, **fault), DEADLINE_S) == Unhealthy(f"after 120 s {why}")


def test_conditions_that_were_there_before_do_not_count_nor_do_those_that_went():
    assert judged(looks(SETTLE_S, conditions=frozenset()), SETTLE_S) == Healthy()


def test_a_site_that_was_not_connected_before_need_not_be_now():
    seen = looks(SETTLE_S, connected=False)
    assert judged(seen, SETTLE_S, replace(BEFORE, connected=False)) == Healthy()


def test_a_battery_that_confirmed_nothing_before_need_not_now():
    seen = looks(SETTLE_S, confirmed=frozenset())
    assert judged(seen, SETTLE_S, replace(BEFORE, confirmed=frozenset())) == Healthy()


def test_where_the_old_version_did_not_answer_nothing_is_compared():
    seen = looks(SETTLE_S, confirmed=frozenset(), conditions=frozenset({("x", "y")}), connected=False)
    assert judged(seen, SETTLE_S, None) == Healthy()


def test_one_that_never_answers_is_given_up_sooner():
    assert judged([None], ANSWER_WITHIN_S - 1) == NotYet("it does not answer")
    assert judged([None], ANSWER_WITHIN_S) == Unhealthy("after 60 s it does not answer")


def test_the_old_version_still_answering_is_not_the_new_one():
    assert judged([BEFORE], 1.0) == NotYet("version 1.0 answers in its place")


def test_one_that_ends_by_itself_and_comes_back_is_unhealthy_at_once():
    seen = [look(1.0), None, replace(look(5.0), boot_id="c")]
    assert judged(seen, 5.0) == Unhealthy("it ended by itself and was started again")


def test_nothing_seen_is_no_verdict():
    assert judged([], 0.0) == NotYet("it was not asked yet")
