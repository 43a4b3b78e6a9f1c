"""Ranked bounds: the harder one wins, the softer one is broken as little as possible, and told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.bounds import Bound, Clip, Rank, Room, clamp, given_up, opponent, room


def bound(low, high, rank=Rank.PHYSICS, limit="x"):
    return Bound(limit, "o", low, high, rank)


def test_the_ranks_run_from_ramp_to_physics_as_the_table_says():
    assert sorted(Rank) == [
        Rank.RAMP, Rank.COMFORT, Rank.AWARD, Rank.RESERVE, Rank.CURTAILMENT, Rank.CONNECTION, Rank.PHYSICS,
    ]  # fmt: skip


def test_the_later_bound_has_the_last_word_and_each_cut_is_told():
    power_w, clips = clamp(500.0, (bound(-300, 300, limit="soft"), bound(-100, 100, limit="hard")))
    assert power_w == 100
    assert clips == (Clip("soft", "o", 500.0, 300), Clip("hard", "o", 300, 100))


def test_a_cut_within_rounding_is_not_told():
    assert clamp(100.9, (bound(-100, 100),)) == (100, ())


def test_room_at_three_depths():
    bounds = (
        bound(-50, 10, Rank.COMFORT),
        bound(-500, 40, Rank.RESERVE),
        bound(-200, 300),
        bound(-400, 100),
    )
    assert room(bounds) == Room((-50, 10), (-200, 40), (-200, 100))


def test_room_without_soft_bounds_is_physics_at_every_depth():
    assert room((bound(-1, 2),)) == Room((-1, 2), (-1, 2), (-1, 2))


def test_a_soft_bound_that_clashes_is_moved_to_the_edge_of_the_harder_one():
    assert room((bound(50, 80, Rank.COMFORT), bound(-20, 20))).soft == (20, 20)


def test_what_was_broken_is_told_with_the_limit_that_broke_it():
    bounds = (bound(-5, 5, Rank.RAMP, "ramp"), bound(40, 60, Rank.CONNECTION, "connection"), bound(-90, 90))
    (lost,) = given_up(40.0, bounds, "others")
    assert (lost.limit, lost.rank, lost.given_w, lost.by, lost.beyond_w) == ("ramp", Rank.RAMP, 40.0, "connection", 35)


def test_a_bound_broken_by_something_else_names_it():
    (lost,) = given_up(-12.0, (bound(-5, 5),), "frequency response")
    assert (lost.by, lost.beyond_w) == ("frequency response", 7.0)
    assert opponent(-5, 5, (bound(-1, 1),)) == ""


RANGES = st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0, 1e6)), min_size=1, max_size=7)


@given(ranges=RANGES, wanted=st.floats(-2e6, 2e6))
def test_only_bounds_that_clash_with_harder_ones_are_broken_and_by_the_least(ranges, wanted):
    bounds = tuple(bound(low, low + width) for low, width in ranges)
    power_w, _ = clamp(wanted, bounds)
    for index, soft in enumerate(bounds):
        low, high = room(bounds[index + 1 :]).soft
        nearest = min(max(power_w, soft.lower_w), soft.upper_w)
        if max(soft.lower_w, low) <= min(soft.upper_w, high):
            assert nearest == pytest.approx(power_w, abs=1e-6)
        else:
            edge = low if soft.upper_w < low else high
            assert power_w == pytest.approx(edge, abs=1e-6)


@given(ranges=RANGES)
def test_each_depth_of_room_holds_the_one_before(ranges):
    ranks = sorted(Rank)[: len(ranges) - 1]
    bounds = tuple(
        bound(low, low + width, rank) for (low, width), rank in zip(ranges, [*ranks, Rank.PHYSICS], strict=True)
    )
    found = room(bounds)
    assert found.hard[0] <= found.kept[0] <= found.soft[0] <= found.soft[1] <= found.kept[1] <= found.hard[1]
