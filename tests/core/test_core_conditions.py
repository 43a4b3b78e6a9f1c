"""From the conditions of two ticks to the events between them."""

from __future__ import annotations

from agent.core.conditions import transitions
from agent.core.decision import Condition
from agent.core.events import EventState, Severity


def standing(*codes, text="as it is"):
    return {(code, "site"): Condition(code, "site", Severity.WARNING, text) for code in codes}


def told(before, after):
    return [(event.state, event.code) for event in transitions(before, after, 5.0)]


def test_what_begins_is_raised_and_what_ends_is_cleared_at_the_same_tick():
    assert told(standing("a", "b"), standing("b", "c")) == [(EventState.RAISED, "c"), (EventState.CLEARED, "a")]


def test_what_goes_on_is_not_told_again_though_its_words_change():
    assert told(standing("a"), standing("a", text="worse")) == []
    assert told({}, {}) == []


def test_one_that_takes_the_place_of_another_is_told():
    assert told(standing("a"), standing("b")) == [(EventState.RAISED, "b"), (EventState.CLEARED, "a")]
