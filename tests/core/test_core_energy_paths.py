"""The seven energy paths of a slot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.energy_paths import NOTHING, added, scaled_to

W = st.floats(-5e5, 5e5)


def of(battery_w, pv_w, load_w, seconds=3600.0):
    return added(NOTHING, seconds, battery_w, pv_w, load_w)


@pytest.mark.parametrize(
    ("battery_w", "pv_w", "load_w", "expected"),
    [
        (0, 100, -30, {"pv_to_load": 30, "pv_to_grid": 70}),
        (-50, 100, -30, {"pv_to_load": 30, "pv_to_battery": 50, "pv_to_grid": 20}),
        (-90, 100, -30, {"pv_to_load": 30, "pv_to_battery": 70, "grid_to_battery": 20}),
        (80, 20, -50, {"pv_to_load": 20, "battery_to_load": 30, "battery_to_grid": 50}),
        (10, 20, -50, {"pv_to_load": 20, "battery_to_load": 10, "grid_to_load": 20}),
        (0, -2, -50, {"grid_to_load": 52}),
        (0, 0, 5, {"pv_to_grid": 5}),
    ],
)
def test_an_hour_at_these_powers_takes_these_paths(battery_w, pv_w, load_w, expected):
    paths = of(battery_w, pv_w, load_w)
    names = [name for name in paths.__slots__ if name != "split_s"]
    assert {name[:-3]: getattr(paths, name) for name in names if getattr(paths, name)} == expected


@given(W, W, W)
def test_the_paths_add_up_to_each_power_and_none_is_negative(battery_w, pv_w, load_w):
    p = of(battery_w, pv_w, load_w)
    assert min(getattr(p, name) for name in p.__slots__) >= -1e-9
    assert p.grid_wh == pytest.approx(battery_w + pv_w + load_w, abs=1e-6)
    discharge = p.battery_to_load_wh + p.battery_to_grid_wh
    charge = p.pv_to_battery_wh + p.grid_to_battery_wh
    assert discharge - charge == pytest.approx(battery_w, abs=1e-6)


@given(W, W, W, W, st.floats(-0.9, 0.9), st.floats(-0.9, 0.9))
def test_scaled_paths_add_up_to_the_meter_in_each_direction(battery_w, pv_w, load_w, later_w, out, into):
    p = added(of(battery_w, pv_w, load_w), 600, later_w, pv_w, load_w)
    exported_wh, imported_wh = p.exported_wh * (1 + out), p.imported_wh * (1 + into)
    scaled = scaled_to(p, exported_wh, imported_wh)
    assert scaled.exported_wh == pytest.approx(exported_wh)
    assert scaled.imported_wh == pytest.approx(imported_wh)
    assert min(getattr(scaled, name) for name in scaled.__slots__) >= 0.0
    assert (scaled.pv_to_load_wh, scaled.pv_to_battery_wh) == (p.pv_to_load_wh, p.pv_to_battery_wh)


def test_a_meter_that_counted_what_no_power_showed_invents_no_path():
    p = of(0, 100, -30)
    assert scaled_to(p, 70, 40).imported_wh == 0
    assert scaled_to(p, 1e6, 0).exported_wh == 140
    assert scaled_to(p, -5, 0).exported_wh == 0


def test_what_passed_between_two_readings_is_shared_out_by_what_each_source_gave_and_each_sink_took():
    p = of(-60, 100, -30)
    assert (p.pv_to_grid_wh, p.grid_to_load_wh, p.grid_to_battery_wh) == (10, 0, 0)
    scaled = scaled_to(p, 10, 0.9)
    assert (scaled.grid_to_load_wh, scaled.grid_to_battery_wh) == pytest.approx((0.3, 0.6))
    assert scaled_to(p, 10, 1.1).imported_wh == 0
    night = of(60, 0, -60)
    assert scaled_to(night, 0.5, 0).battery_to_grid_wh == pytest.approx(0.5)
    assert scaled_to(night, 0.5, 0).pv_to_grid_wh == 0
    assert scaled_to(NOTHING, 5, 5) == NOTHING


def test_seconds_with_a_missing_power_are_not_split():
    whole = of(10, 20, -5)
    assert added(whole, 60, None, 20, -5) == added(whole, 60, 10, None, -5) == added(whole, 60, 10, 20, None) == whole
    assert whole.split_s == 3600


def test_no_time_moves_no_energy():
    assert added(NOTHING, 0.0, 1.0, None, 1.0) == NOTHING
