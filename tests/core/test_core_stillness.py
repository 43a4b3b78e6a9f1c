"""Readings that stand still while a battery gives power: found after a minute, and only where they used to move."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.core.snapshot import NEVER, BatterySample, Reading
from agent.core.stillness import CHANGES_UNTIL_JUDGED, UNCHANGED_S, Stillness


def sample(power_w, soc_pct=50.0, held_w=70e3):
    held = NEVER if held_w is None else Reading(held_w, 0.0)
    soc = NEVER if soc_pct is None else Reading(soc_pct, 0.0)
    return BatterySample("bess", power_w=Reading(power_w, 0.0), soc_pct=soc, held_setpoint_w=held)


def lively(seconds=40, every_s=1.0):
    """A device whose power flickers with each reading, and the time of the last one."""
    still, now_s = Stillness(), 0.0
    for step in range(seconds):
        now_s = step * every_s
        still = still.looked(sample(70e3 + step), now_s)
    return still, now_s


def test_values_that_stand_still_for_a_minute_under_power_are_frozen_and_the_next_change_ends_it():
    still, began_s = lively()
    last = sample(70e3 + 39)
    for ahead_s in range(1, 60):
        still = still.looked(last, began_s + ahead_s)
        assert still.frozen_s(began_s + ahead_s) is None
    assert still.frozen_s(began_s + UNCHANGED_S) == UNCHANGED_S
    assert still.looked(sample(70e3), began_s + 61).frozen_s(began_s + 61) is None


def test_a_device_at_rest_or_without_a_setpoint_may_stand_still():
    for quiet in (sample(0.0), sample(70e3, held_w=None), sample(70e3, held_w=0.0)):
        still, began_s = lively()
        still = still.looked(quiet, began_s + 1)
        assert still.frozen_s(began_s + 1000) is None


def test_one_value_alone_is_not_enough():
    still, began_s = lively()
    still = still.looked(sample(70e3, soc_pct=None), began_s + 1)
    assert still.frozen_s(began_s + 1000) is None


def test_a_device_that_always_stood_still_is_never_judged():
    still = Stillness()
    for now_s in range(10_000):
        still = still.looked(sample(70e3), float(now_s))
    assert still.frozen_s(10_000.0) is None


def test_a_coarse_device_is_allowed_six_times_what_it_ever_rested():
    still, began_s = lively(seconds=40, every_s=20.0)
    assert still.frozen_s(began_s + 119) is None
    assert still.frozen_s(began_s + 120) == 120


def test_a_value_that_comes_and_goes_is_no_change():
    still = Stillness()
    for now_s in range(100):
        still = still.looked(sample(70e3, soc_pct=50.0 if now_s % 2 else None), float(now_s))
    assert still.frozen_s(1000.0) is None


@given(st.lists(st.tuples(st.floats(0.1, 30.0), st.sampled_from([70e3, 70.1e3, 0.0])), max_size=80))
def test_it_is_never_frozen_within_a_minute_of_a_change(steps):
    still, now_s, before, changed_s = Stillness(), 0.0, None, 0.0
    for pause_s, power_w in steps:
        now_s += pause_s
        changed_s = now_s if power_w != before else changed_s
        before = power_w
        still = still.looked(sample(power_w), now_s)
        found_s = still.frozen_s(now_s)
        assert found_s is None or (found_s >= UNCHANGED_S and now_s - changed_s >= UNCHANGED_S)
        assert still.changes >= CHANGES_UNTIL_JUDGED or found_s is None
