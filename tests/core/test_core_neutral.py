"""Whether the batteries rest, proven."""

import pytest

from agent.core.neutral import not_neutral

RESTING = {"shares_w": {"a": 0.0, "b": 0.0}, "confirmed": {"a": True, "b": True}, "battery_w": 300.0}


def test_asked_confirmed_and_measured_is_neutral():
    assert not_neutral(**RESTING, writes=True) is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"shares_w": {"a": 0.0, "b": 5.0}}, "b has a setpoint that is not 0 kW"),
        ({"confirmed": {"a": True, "b": False}}, "0 kW is not confirmed by b"),
        ({"confirmed": {"a": True}}, "0 kW is not confirmed by b"),
        ({"battery_w": None}, "the power of the batteries cannot be read"),
        ({"battery_w": -1_500.0}, "the batteries still give -1.5 kW"),
    ],
)
def test_anything_less_is_not(change, why):
    assert not_neutral(**RESTING | change, writes=True) == why
    assert not_neutral(**RESTING | change, writes=False) is None
