"""How long a unit is waited for, and when it is left alone: properties over any history of answers and failures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.patience import (
    FAILURES_UNTIL_REST,
    FLOOR_S,
    LINE_SHARE,
    LONGEST_REST_S,
    LONGEST_SHARED_REST_S,
    SAMPLES_UNTIL_SHORTER,
    Patience,
)

CEILING_S = 1.0
EVENTS = st.lists(st.one_of(st.none(), st.floats(0.0, 2.0)), max_size=60)
"""None: no answer; else the latency of one, s."""


def lived(events, *, shared=False, ceiling_s=CEILING_S):
    """The patience after these events, and the time of the last, one after the other as fast as it allows."""
    known, now_s = Patience(), 0.0
    for event in events:
        now_s = max(now_s, known.retry_mono_s) if known.resting else now_s
        assert known.may_ask(now_s)
        waited_s = known.timeout_s(ceiling_s) if event is None else event
        known, now_s = known.asked(), now_s + waited_s
        known = known.failed(now_s, waited_s, shared=shared) if event is None else known.answered(event)
    return known, now_s


@given(EVENTS, st.floats(0.05, 5.0))
def test_the_wait_stays_between_floor_and_ceiling(events, ceiling_s):
    known, _ = lived(events, ceiling_s=ceiling_s)
    assert min(FLOOR_S, ceiling_s) <= known.timeout_s(ceiling_s) <= ceiling_s


@given(EVENTS)
def test_each_failure_doubles_the_wait_up_to_the_ceiling_and_an_answer_ends_that(events):
    known, now_s = lived([0.01] * 20 + events)
    longer = known.failed(now_s, 0.1, shared=False)
    assert longer.timeout_s(CEILING_S) == pytest.approx(min(2 * known.timeout_s(CEILING_S), CEILING_S))
    assert longer.answered(known.usual_s).timeout_s(CEILING_S) <= longer.timeout_s(CEILING_S)


def test_a_quick_unit_is_waited_for_less_once_it_has_answered_often_enough():
    few, _ = lived([0.02] * (SAMPLES_UNTIL_SHORTER - 1))
    enough, _ = lived([0.02] * SAMPLES_UNTIL_SHORTER)
    assert (few.timeout_s(CEILING_S), enough.timeout_s(CEILING_S)) == (CEILING_S, FLOOR_S)


def test_a_unit_that_becomes_slow_is_waited_for_longer_before_it_fails():
    known, _ = lived([0.02] * 50 + [0.25] * 30)
    assert 0.25 < known.timeout_s(CEILING_S) < CEILING_S
    wavering, _ = lived([0.02, 0.28] * 30)
    assert wavering.timeout_s(CEILING_S) > 0.5


@given(EVENTS, st.booleans())
def test_a_unit_rests_exactly_after_three_failures_in_a_row_and_never_longer_than_stated(events, shared):
    known, now_s = lived(events, shared=shared)
    in_a_row = next((count for count, event in enumerate(reversed(events)) if event is not None), len(events))
    assert known.failures == in_a_row
    assert known.resting == (in_a_row >= FAILURES_UNTIL_REST)
    assert known.may_ask(now_s) == (not known.resting)
    longest_s = LONGEST_SHARED_REST_S if shared else LONGEST_REST_S
    if known.resting:
        assert 0.0 < known.retry_mono_s - now_s <= longest_s + 1e-9
        assert known.may_ask(now_s + longest_s + 1e-6)
    assert not known.resting or known.answered(0.1).may_ask(now_s)


@given(EVENTS)
def test_only_one_trial_of_a_resting_unit_is_under_way(events):
    known, _ = lived([*events, None, None, None])
    trial_s = known.retry_mono_s
    assert known.may_ask(trial_s)
    asked = known.asked()
    assert (asked.may_ask(trial_s), asked.word()) == (False, "probing")
    assert asked.let_go().may_ask(trial_s)
    failed = asked.failed(trial_s + 0.1, 0.1, shared=False)
    assert (failed.may_ask(trial_s + 0.1), failed.word()) == (False, "resting")


@given(st.floats(0.05, 3.0), st.integers(4, 60))
def test_a_dead_unit_takes_at_most_a_twentieth_of_a_shared_line(ceiling_s, trials):
    known, began_s = lived([None] * FAILURES_UNTIL_REST, shared=True, ceiling_s=ceiling_s)
    now_s, spent_s = began_s, 0.0
    for _ in range(trials):
        now_s = known.retry_mono_s
        waited_s = known.timeout_s(ceiling_s)
        now_s, spent_s = now_s + waited_s, spent_s + waited_s
        known = known.failed(now_s, waited_s, shared=True)
    assert spent_s <= LINE_SHARE * (now_s - began_s) * (1 + 1e-9)


def test_the_rests_double_up_to_five_seconds():
    known, now_s = lived([None] * 3)
    rests = [known.retry_mono_s - now_s]
    for _ in range(4):
        now_s = known.retry_mono_s
        known = known.failed(now_s, 0.1, shared=False)
        rests.append(known.retry_mono_s - now_s)
    assert rests == pytest.approx([1.0, 2.0, 4.0, 5.0, 5.0])


@pytest.mark.parametrize(
    ("events", "word"),
    [([], "unknown"), ([0.1], "answering"), ([0.1, None], "failing"), ([None] * 3, "resting"), ([None] * 5, "resting")],
)
def test_the_state_has_a_word(events, word):
    assert lived(events)[0].word() == word
