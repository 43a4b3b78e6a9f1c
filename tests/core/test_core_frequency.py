"""Which frequencies are acted on, and the name of the trouble with the others."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from core_awards import TABLE
from hypothesis import given
from hypothesis import strategies as st

from agent.core.droop_products import GB_DC, PRODUCTS
from agent.core.frequency import NO_FREQUENCY, TROUBLE_TEXT, Frequency, Trouble, max_age_s, trouble, watched
from agent.core.snapshot import NEVER, Quality, Reading


def seen(*values_hz: float, every_s: float = 1.0) -> Frequency:
    now = NO_FREQUENCY
    for index, hz in enumerate(values_hz):
        now = watched(now, Reading(hz, index * every_s), 50.0)
    return now


def test_before_the_first_reading_the_frequency_is_missing():
    assert trouble(watched(NO_FREQUENCY, NEVER, 50.0), TABLE, 0.0, None) is Trouble.MISSING


def test_a_good_reading_is_acted_on():
    now = seen(49.95)
    assert (now.hz, trouble(now, TABLE, 0.0, 0.001)) == (49.95, None)


@pytest.mark.parametrize("nonsense", [math.nan, math.inf, 0.0, 65.535, 5000.0, 44.99, 55.01])
def test_a_value_that_cannot_be_true_is_implausible(nonsense):
    now = seen(50.0, nonsense)
    assert (now.hz, now.trouble) == (None, Trouble.IMPLAUSIBLE)


@pytest.mark.parametrize(
    ("quality", "named"),
    [
        (Quality.MISSING, Trouble.MISSING),
        (Quality.STALE, Trouble.STALE),
        (Quality.IMPLAUSIBLE, Trouble.IMPLAUSIBLE),
    ],
)
def test_the_quality_of_a_reading_without_value_names_the_trouble(quality, named):
    now = watched(seen(50.0), Reading(None, 1.0, quality), 50.0)
    assert (now.hz, now.trouble) == (None, named)


def test_a_frequency_of_another_grid_is_implausible_for_the_product():
    now = watched(NO_FREQUENCY, Reading(60.0, 0.0), 60.0)
    assert trouble(now, TABLE, 0.0, None) is Trouble.IMPLAUSIBLE
    assert trouble(now, PRODUCTS["eprx-primary-online-60hz"], 0.0, None) is None


def test_a_single_spike_is_not_believed():
    spike = seen(50.0, 46.0)
    assert (spike.hz, spike.trouble) == (None, Trouble.JUMPED)
    assert seen(50.0, 46.0, 50.0).hz == 50.0


def test_the_same_spike_read_again_from_the_poller_does_not_confirm_itself():
    spike = seen(50.0, 46.0)
    assert watched(spike, Reading(46.0, 1.0), 50.0) == spike


def test_a_second_reading_near_the_jump_confirms_it():
    assert seen(50.0, 48.5, 48.4).hz == 48.4
    assert seen(50.0, 48.5, 47.0).trouble is Trouble.JUMPED


def test_a_test_step_of_a_whole_product_is_believed_at_once():
    assert seen(50.0, 49.5).hz == 49.5
    assert seen(50.0, 49.0).hz == 49.0


def test_a_steep_ramp_is_followed():
    values = [50.0 - 0.4 * index for index in range(10)]
    assert seen(*values, every_s=0.1).hz == pytest.approx(46.4)


def test_a_frequency_comes_back_after_trouble():
    lost = watched(seen(50.0), Reading(None, 1.0, Quality.MISSING), 50.0)
    assert watched(lost, Reading(49.9, 2.0), 50.0).hz == 49.9
    stale = watched(seen(50.0), Reading(None, 0.0, Quality.STALE), 50.0)
    assert watched(stale, Reading(49.9, 12.0), 50.0).hz == 49.9


@pytest.mark.parametrize(("full_by_s", "age_s"), [(1.0, 1.0), (6.0, 1.8), (10.0, 3.0), (30.0, 3.0)])
def test_a_quick_product_needs_a_young_frequency(full_by_s, age_s):
    table = replace(TABLE, full_by_s=full_by_s)
    assert max_age_s(table) == pytest.approx(age_s)
    now = seen(49.9)
    assert trouble(now, table, age_s - 0.01, None) is None
    assert trouble(now, table, age_s + 0.01, None) is Trouble.STALE


@pytest.mark.parametrize(
    ("resolution_hz", "named"),
    [(None, None), (0.001, None), (0.01, None), (0.011, Trouble.TOO_COARSE), (0.1, Trouble.TOO_COARSE)],
)
def test_a_coarse_meter_cannot_serve_the_product(resolution_hz, named):
    assert trouble(seen(50.0), TABLE, 0.0, resolution_hz) is named


def test_every_trouble_tells_people_what_to_do():
    assert set(TROUBLE_TEXT) == set(Trouble)


readings = st.builds(
    Reading,
    st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True), st.floats(45, 55)),
    st.floats(0, 100),
    st.sampled_from(Quality),
)


@given(st.lists(readings, max_size=20), st.floats(0, 200))
def test_no_reading_ever_raises_and_a_usable_frequency_is_young_and_plausible(given_readings, mono_s):
    now = NO_FREQUENCY
    for reading in given_readings:
        now = watched(now, reading, 50.0)
        assert (now.hz is None) == (now.trouble is not None)
    if trouble(now, GB_DC, mono_s, 0.001) is None:
        assert 45.0 <= now.hz <= 55.0
        assert mono_s - now.read_mono_s <= 1.0
