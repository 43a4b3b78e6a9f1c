"""Which awards stand, what they owe together, and when the loop runs fast."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from core_awards import T0, award, booked, sold
from hypothesis import given
from hypothesis import strategies as st

from agent.core.awards import NO_AWARDS, NO_RESPONSE, awarded_tick_s, book, expected_w, respond, sold_w
from agent.core.droop_products import PRODUCTS
from agent.core.frequency import NO_FREQUENCY, Trouble, watched
from agent.core.orders import Direction
from agent.core.snapshot import Reading

RATED = {"rated_discharge_w": 500e3, "rated_charge_w": 400e3}


def at_hz(hz: float, mono_s: float = 0.0):
    return watched(NO_FREQUENCY, Reading(hz, mono_s), 50.0)


def reasons(*awards, **changes):
    taken, refused = book(awards, PRODUCTS, **(RATED | changes))
    return [(one.index, one.reason, one.field) for one in refused], taken


def test_an_award_counts_from_its_start_until_just_before_its_end():
    taken = booked(award(start=0, end=1800))
    assert taken.at(T0 - 0.001) == ()
    assert [line.award.award_id for line in taken.at(T0)] == ["a1"]
    assert [line.award.award_id for line in taken.at(T0 + 1799.9)] == ["a1"]
    assert taken.at(T0 + 1800) == ()


def test_awards_in_a_row_hand_over_at_the_edge():
    taken = booked(award("a1", end=1800), award("a2", start=1800, end=3600))
    assert [[line.award.award_id for line in taken.at(T0 + t)] for t in (1799, 1800)] == [["a1"], ["a2"]]


def test_awards_that_begin_soon_are_found():
    taken = booked(award("a1", start=600, end=900), award("a2", start=1800, end=3600))
    found = [
        [line.award.award_id for line in taken.starting(T0 + a, T0 + b)]
        for a, b in [(0, 1800), (600, 1799), (1800, 9e9)]
    ]
    assert found == [["a1", "a2"], [], []]


@pytest.mark.parametrize(
    ("change", "reason", "field"),
    [
        ({"power_w": 0.0}, "bad_value", "power"),
        ({"power_w": -5.0}, "bad_value", "power"),
        ({"power_w": math.nan}, "bad_value", "power"),
        ({"power_w": math.inf}, "bad_value", "power"),
        ({"end_utc_s": T0}, "bad_value", "end"),
        ({"end_utc_s": math.nan}, "bad_value", "end"),
        ({"start_utc_s": -math.inf}, "bad_value", "end"),
        ({"product": "fcr-x"}, "unknown_product", "product"),
        ({"power_w": 421e3}, "beyond_rating", "power"),
        ({"power_w": 526e3, "direction": Direction.UP}, "beyond_rating", "power"),
        ({"product": "aemo-contingency-6s", "power_w": 200e3}, "beyond_rating", "power"),
        ({"product": "eprx-primary-online-60hz"}, "wrong_frequency", "product"),
    ],
)
def test_an_award_that_cannot_be_meant_is_refused_with_reason_and_field(change, reason, field):
    bad = replace(award("bad"), **change)
    refused, taken = reasons(award("good", start=1800, end=3600), bad, nominal_hz=50.0)
    assert refused == [(1, reason, field)]
    assert [line.award.award_id for line in taken.sold] == ["good"]


def test_an_award_is_held_against_the_rating_of_its_own_direction():
    up = award("up", power_w=520e3, direction=Direction.UP)
    down = award("down", start=1800, end=3600, power_w=415e3, direction=Direction.DOWN)
    assert reasons(up, down)[0] == []
    assert reasons(replace(down, power_w=421e3))[0] == [(0, "beyond_rating", "power")]


def test_a_droop_of_aemo_allows_four_tenths_of_the_rating():
    """(0.5 - 0.15) Hz / 50 Hz / 1.7 % of 400 kW is 164.7 kW, with 5 % margin 172.9 kW."""
    assert reasons(award(product="aemo-contingency-1s", power_w=172e3))[0] == []
    assert reasons(award(product="aemo-contingency-1s", power_w=174e3))[0] != []


def test_the_same_award_twice_counts_once_and_another_under_its_name_is_refused():
    refused, taken = reasons(award(), award(), award(start=1800, end=3600))
    assert refused == [(2, "duplicate_id", "award_id")]
    assert len(taken.sold) == 1


def test_overlapping_awards_are_added_up():
    lines = sold(award("n", "fcr-n", power_w=100e3), award("d", "fcr-d", power_w=50e3, direction=Direction.UP))
    assert sold_w(lines) == (150e3, 100e3)
    assert respond(lines, at_hz(49.7), 0.0, None).power_w == pytest.approx(100e3 + 25e3)
    assert respond(lines, at_hz(50.3), 0.0, None).power_w == pytest.approx(-100e3)
    assert expected_w(lines, 49.7) == pytest.approx(125e3)


def test_overlapping_awards_beyond_the_rating_lose_the_one_that_came_later():
    first, second = award("first", end=3600, power_w=300e3), award("second", start=1800, end=5400, power_w=200e3)
    for order in ((first, second), (second, first)):
        refused, taken = reasons(*order)
        assert [(reason, field) for _, reason, field in refused] == [("overlap_beyond_rating", "power")]
        assert [line.award.award_id for line in taken.sold] == ["first"]


def test_awards_that_only_touch_do_not_overlap():
    assert reasons(award("a", end=1800, power_w=400e3), award("b", start=1800, end=3600, power_w=400e3))[0] == []


def test_low_and_high_sold_apart_do_not_add_up_in_one_direction():
    low = award("low", "gb-dc", power_w=400e3, direction=Direction.UP)
    high = award("high", "gb-dc", power_w=400e3, direction=Direction.DOWN)
    assert reasons(low, high)[0] == []


def test_three_markets_that_pay_for_the_same_watts_are_answered_once():
    lines = sold(*(award(f"r{s}", f"aemo-contingency-{s}s", power_w=s * 1e3) for s in (1, 6, 60)))
    assert sold_w(lines) == (60e3, 60e3)
    assert respond(lines, at_hz(49.5), 0.0, None).power_w == pytest.approx(60e3)
    assert expected_w(lines, 50.5) == pytest.approx(-60e3)


def test_without_an_award_there_is_no_response():
    assert respond((), at_hz(49.5), 0.0, None) is NO_RESPONSE
    assert NO_AWARDS.at(T0) == ()


def test_a_stale_frequency_gives_no_response_and_says_so():
    response = respond(sold(award()), at_hz(49.8), 3.5, None)
    assert (response.power_w, response.answers[0].trouble) == (0.0, Trouble.STALE)


def test_each_award_is_answered_or_not_by_its_own_product():
    """Two seconds old is young enough for CE FCR but not for Dynamic Containment."""
    response = respond(sold(award("ce"), award("dc", "gb-dc")), at_hz(49.8), 2.0, None)
    assert [(a.award_id, round(a.power_w), a.trouble) for a in response.answers] == [
        ("ce", 100000, None), ("dc", 0, Trouble.STALE),
    ]  # fmt: skip
    assert response.power_w == pytest.approx(100e3)


def test_the_loop_is_fast_only_while_awarded_and_a_little_before():
    taken = booked(award("slow", start=1800, end=3600), award("quick", "gb-dc", start=7200, end=9000))
    periods = [awarded_tick_s(taken, T0 + t, 1.0) for t in (0, 1794, 1795, 1800, 3599, 3600, 7194, 7196, 8999, 9000)]
    assert periods == [1.0, 1.0, 0.2, 0.2, 0.2, 1.0, 1.0, 0.1, 0.1, 1.0]


def test_a_site_that_is_faster_already_stays_as_fast():
    assert awarded_tick_s(booked(award()), T0, 0.1) == 0.1
    assert awarded_tick_s(NO_AWARDS, T0, 1.0) == 1.0


awards = st.builds(
    award,
    st.sampled_from("abcd"),
    st.sampled_from([*PRODUCTS, "nonsense"]),
    st.one_of(st.integers(0, 6).map(lambda n: n * 900.0), st.just(math.nan)),
    st.one_of(st.integers(0, 8).map(lambda n: n * 900.0), st.just(math.inf)),
    st.one_of(st.floats(-1e6, 1e6), st.just(math.nan)),
    st.sampled_from(Direction),
)


@given(st.lists(awards, max_size=8), st.floats(40, 65), st.floats(0, 8000))
def test_whatever_comes_the_response_stays_within_the_rating(given_awards, hz, t):
    taken, refused = book(given_awards, PRODUCTS, rated_discharge_w=500e3, rated_charge_w=400e3)
    distinct = {replace(one, start_utc_s=str(one.start_utc_s), end_utc_s=str(one.end_utc_s), power_w=str(one.power_w))
                for one in given_awards}  # fmt: skip
    assert len(taken.sold) + len({one.index for one in refused}) >= len(distinct)
    lines = taken.at(T0 + t)
    assert {line.award.award_id for line in lines} == {
        line.award.award_id for line in taken.sold if line.award.start_utc_s <= T0 + t < line.award.end_utc_s
    }
    power_w = respond(lines, watched(NO_FREQUENCY, Reading(hz, 0.0), 50.0), 0.0, None).power_w
    assert -420e3 <= power_w <= 525e3
    assert all(part <= limit * 1.05 for part, limit in zip(sold_w(lines), (500e3, 400e3), strict=True))
