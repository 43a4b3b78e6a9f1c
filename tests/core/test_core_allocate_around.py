"""The split around batteries that answer the frequency by themselves: their answers stay where they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.allocate import Unit
from agent.core.allocate_around import share_around, widened
from agent.core.bounds import Room


def unit(name, low_w=-500e3, high_w=500e3, *, soft=None, pct=40.0, doing=(0.0, 0.0)):
    hard = (low_w, high_w)
    return Unit(name, (), Room(soft or hard, hard, hard), 1e6, pct, pct, 0.0, doing)


def test_setpoints_follow_the_baseline_and_each_answer_stays_with_its_device():
    units = [unit("a", pct=60.0), unit("b", pct=20.0)]
    shares, _ = share_around(150e3, units, {"a": 30e3, "b": 20e3}, 0.0, frozenset())
    still, _ = share_around(100e3, units, {"a": 0.0, "b": 0.0}, 0.0, frozenset())
    assert shares == pytest.approx({"a": still["a"] + 30e3, "b": still["b"] + 20e3})
    assert still["a"] > still["b"]


def test_the_baseline_gives_way_where_the_answer_takes_the_room():
    shares, _ = share_around(
        500e3, [unit("a", high_w=200e3), unit("b", high_w=400e3)], {"a": 150e3, "b": 150e3}, 0.0, frozenset()
    )
    assert shares["a"] <= 200e3 + 1e-6
    assert shares["b"] <= 400e3 + 1e-6
    assert sum(shares.values()) == pytest.approx(500e3)


def test_a_battery_at_its_limit_is_held_there_by_its_setpoint_and_the_other_gives_its_answer():
    """The first is empty: its device answers 50 kW, its setpoint takes them back."""
    shares, _ = share_around(100e3, [unit("a", high_w=0.0), unit("b")], {"a": 50e3, "b": 50e3}, 0.0, frozenset())
    assert shares == pytest.approx({"a": 0.0, "b": 100e3})


def test_what_the_agent_answers_goes_to_the_batteries_that_have_no_answer_of_their_own():
    shares, _ = share_around(160e3, [unit("a"), unit("b")], {"a": 50e3}, 50e3, frozenset())
    assert shares == pytest.approx({"a": 30e3 + 50e3, "b": 30e3 + 50e3})
    lonely, _ = share_around(80e3, [unit("a"), unit("b")], {"a": 50e3, "b": 50e3}, -20e3, frozenset())
    assert lonely == pytest.approx({"a": 40e3, "b": 40e3})


def test_comfort_holds_the_baseline_and_not_the_answers():
    easy = unit("a", soft=(-10e3, 10e3))
    shares, _ = share_around(60e3, [easy, unit("b", soft=(-10e3, 10e3))], {"a": 40e3}, 0.0, frozenset())
    assert shares == pytest.approx({"a": 50e3, "b": 10e3})
    shares, _ = share_around(40e3, [easy, unit("b", soft=(0.0, 0.0))], {"a": 0.0}, 40e3, frozenset())
    assert shares == pytest.approx({"a": 0.0, "b": 40e3})


@given(
    st.lists(
        st.tuples(st.floats(-5e5, 0.0), st.floats(0.0, 5e5), st.floats(-4e5, 4e5) | st.none()), min_size=2, max_size=5
    ),
    st.floats(-1e6, 1e6),
    st.just(0.0) | st.floats(-1e5, 1e5),
)
def test_the_shares_add_up_to_what_was_asked_and_stay_within_each_battery_as_far_as_that_can_be(rooms, power_w, own_w):
    units = [unit(f"u{i}", low_w, high_w) for i, (low_w, high_w, _) in enumerate(rooms)]
    answers = {f"u{i}": answer_w for i, (_, _, answer_w) in enumerate(rooms) if answer_w is not None}
    within_w = min(max(power_w, sum(low for low, _, _ in rooms)), sum(high for _, high, _ in rooms))
    shares, _ = share_around(within_w, units, answers, own_w, frozenset())
    for one in units:
        assert one.room.hard[0] - 1.0 <= shares[one.device_id] <= one.room.hard[1] + 1.0
    if own_w == 0.0:
        assert sum(shares.values()) == pytest.approx(within_w, abs=1.0)


def test_a_setpoint_that_was_read_back_may_mean_so_much_more():
    low, high, rest = widened([unit("a"), unit("b"), unit("c", doing=None)], {"a": -30e3, "b": 20e3, "c": 5.0})
    assert (low.doing_w, high.doing_w, rest.doing_w) == ((-30e3, 0.0), (0.0, 20e3), None)
