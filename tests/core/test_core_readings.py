"""Readings seen later than they were read: which of them still stand as they are."""

from __future__ import annotations

import math

import pytest

from agent.core.snapshot import NEVER, STALE_AFTER_S, Quality, Reading, all_stand

NOW_S = 100.0
AT_THE_EDGE_S, TOO_OLD_S = NOW_S - STALE_AFTER_S, NOW_S - STALE_AFTER_S - 0.001


@pytest.mark.parametrize(
    ("reading", "stands"),
    [
        (Reading(5.0, NOW_S), True),
        (Reading(-5.0, AT_THE_EDGE_S), True),
        (Reading(5.0, TOO_OLD_S), False),
        (Reading(math.nan, NOW_S), False),
        (Reading(math.inf, NOW_S), False),
        (Reading(-1e16, NOW_S), False),
        (Reading(None, NOW_S), False),
        (Reading(None, TOO_OLD_S, Quality.STALE), True),
        (Reading(None, NOW_S, Quality.IMPLAUSIBLE), True),
        (NEVER, True),
    ],
)
def test_a_reading_stands_exactly_when_it_is_seen_as_it_was_read(reading, stands):
    assert (reading.at(NOW_S) is reading) is stands
    assert all_stand([reading], NOW_S) is stands


def test_one_that_does_not_stand_among_many_is_found():
    many = [Reading(1.0, NOW_S), NEVER, Reading(2.0, TOO_OLD_S), Reading(3.0, NOW_S)]
    assert not all_stand(many, NOW_S)
    assert all_stand([one for one in many if one is not many[2]], NOW_S)
