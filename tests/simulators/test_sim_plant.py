"""The simulated plant obeys the sign rule, counts all energy, and is the same again with the same seed."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.battery import BatteryConfig
from simulators.plant import DayConfig, GridConfig, LoadConfig, Plant, PlantConfig, PvConfig
from simulators.site_config import measured_irradiance

NOON_S = 12 * 3600.0
SUNNY = PvConfig(peak_w=300_000.0, irradiance_w_per_m2=(800.0,), performance_ratio=0.9)
DEMO = PlantConfig(
    battery=BatteryConfig(capacity_wh=1_100.0),
    pv=PvConfig(irradiance_w_per_m2=measured_irradiance()),
    day=DayConfig(solar_time_factor=900.0, day_offset_s=NOON_S),
)
START_S = 1_700_000_000.25

pieces = st.lists(st.tuples(st.none() | st.floats(-6e5, 6e5), st.floats(1e-4, 1.5)), min_size=1, max_size=20)


@settings(max_examples=40)
@given(pieces)
def test_every_watt_hour_is_on_exactly_one_side_of_the_meter(history):
    plant = Plant(DEMO, 1, START_S)
    for setpoint_w, dt_s in history:
        plant.setpoint_w = setpoint_w
        plant.advance(dt_s)
        assert plant.grid_w == pytest.approx(plant.battery_w + plant.pv_w + plant.load_w)
    grid_wh = (plant.export_wh - 1_000.0) - (plant.import_wh - 1_000.0)
    battery_wh = plant.battery.discharged_wh - plant.battery.charged_wh
    assert grid_wh == pytest.approx(battery_wh + (plant.pv_wh - 1_000.0) + plant.load_wh, abs=1e-6)


@settings(max_examples=40)
@given(pieces)
def test_counters_only_rise_and_nothing_exceeds_its_rating(history):
    plant = Plant(DEMO, 2, START_S)
    for setpoint_w, dt_s in history:
        before = (plant.export_wh, plant.import_wh, plant.pv_wh, -plant.load_wh)
        plant.setpoint_w = setpoint_w
        plant.advance(dt_s)
        after = (plant.export_wh, plant.import_wh, plant.pv_wh, -plant.load_wh)
        assert all(new >= old for new, old in zip(after, before, strict=True))
        assert 0.0 <= plant.pv_w <= DEMO.pv.inverter_limit_w
        assert plant.load_w <= 0.0
        assert abs(plant.battery_w) <= 500_000.0
        assert 0.0 <= plant.soc_pct <= 100.0


def test_the_battery_follows_its_setpoint_and_idles_without_one():
    plant = Plant(PlantConfig(pv=SUNNY), 0)
    plant.setpoint_w = -200_000.0
    plant.advance(2.0)
    assert plant.battery_w == pytest.approx(-200_000.0, rel=1e-6)
    plant.setpoint_w = None
    plant.advance(2.0)
    assert plant.battery_w == pytest.approx(0.0, abs=1.0)


def test_a_stopped_inverter_gives_no_power_whatever_the_setpoint():
    plant = Plant(PlantConfig(pv=SUNNY), 0)
    plant.setpoint_w = 100_000.0
    plant.ready = False
    plant.advance(2.0)
    assert plant.battery_w == 0.0


def series(plant, cuts_s):
    """Frequency, load and sun at each whole second, with the time cut up as told."""
    seen = []
    for second in range(1, 31):
        for cut_s in cuts_s:
            plant.advance_to(START_S + second - 1 + cut_s)
        plant.advance_to(START_S + second)
        seen.append((plant.frequency_hz, plant.load_w, plant.pv_w))
    return seen


def test_the_same_seed_gives_the_same_series_however_time_is_cut_up():
    once = series(Plant(DEMO, 7, START_S), ())
    assert once == series(Plant(DEMO, 7, START_S), ())
    assert once == series(Plant(DEMO, 7, START_S), (0.1, 0.35, 0.9999))
    assert once != series(Plant(DEMO, 8, START_S), ())


def test_frequency_stays_around_nominal_and_moves():
    plant = Plant(replace(DEMO, grid=GridConfig(nominal_hz=60.0, noise_hz=0.02)), 3, START_S)
    seen = []
    for _ in range(2_000):
        plant.advance(1.0)
        seen.append(plant.frequency_hz)
    assert sum(seen) / len(seen) == pytest.approx(60.0, abs=0.02)
    assert 0.005 < max(seen) - 60.0 < 0.12
    assert max(abs(b - a) for a, b in itertools.pairwise(seen)) < 0.03


def test_a_given_frequency_series_is_played_between_its_points_and_again():
    grid = GridConfig(frequency_hz=(50.0, 49.8, 50.1))
    plant = Plant(replace(DEMO, grid=grid), 0, START_S)
    plant.advance(0.5)
    assert plant.frequency_hz == pytest.approx(49.9)
    plant.advance(1.0)
    assert plant.frequency_hz == pytest.approx(49.95)
    plant.advance(1.5)
    assert plant.frequency_hz == pytest.approx(50.0)


def test_the_day_of_the_plant_can_be_aligned_with_another_clock():
    day = DayConfig(day_offset_s=3_600.0, day_epoch_utc_s=1_000.0, solar_time_factor=900.0)
    assert day.second_of_day(1_000.0) == 3_600.0
    assert day.second_of_day(1_002.0) == 3_600.0 + 1_800.0
    assert day.second_of_day(1_000.0 + 96.0) == 3_600.0, "96 s later a whole day has passed"
    assert day.second_of_day(999.0) == 2_700.0


def test_the_measured_day_is_dark_at_night_and_cloudy_at_noon():
    day = measured_irradiance()
    assert len(day) == 1_440
    assert day[0] == 0.0
    assert 50.0 < max(day) < 1_300.0
    config = replace(DEMO, day=DayConfig(), pv=PvConfig(irradiance_w_per_m2=day))
    plant = Plant(config, 0, 0.0)
    assert plant.pv_w == 0.0
    brightest = day.index(max(day))
    at_best = Plant(config, 0, brightest * 60.0)
    assert at_best.pv_w == pytest.approx(min(300_000.0 * 0.9 * max(day) / 1_000.0, 275_000.0))


def test_curtailment_and_the_inverter_limit_cap_the_sun():
    plant = Plant(PlantConfig(pv=replace(SUNNY, inverter_limit_w=200_000.0)), 0)
    assert plant.pv_w == 200_000.0
    plant.pv_limit = 0.25
    plant.advance(0.1)
    assert plant.pv_w == 50_000.0


def test_load_follows_its_daily_shape_between_the_hours():
    load = LoadConfig(base_w=1_000.0, day_shape=(1.0, 2.0), noise_pct=0.0)
    plant = Plant(PlantConfig(pv=PvConfig(peak_w=0.0), load=load, day=DayConfig(day_offset_s=6 * 3600.0)), 0, 0.0)
    assert plant.load_w == pytest.approx(-1_500.0)


def test_time_that_does_not_move_forward_changes_nothing():
    plant = Plant(DEMO, 0, START_S)
    plant.setpoint_w = 100_000.0
    plant.advance(1.0)
    before = (plant.utc_s, plant.export_wh, plant.soc_pct)
    plant.advance_to(START_S)
    plant.advance(0.0)
    assert before == (plant.utc_s, plant.export_wh, plant.soc_pct)


def test_a_pv_field_without_sun_series_is_a_mistake():
    with pytest.raises(AssertionError, match="irradiance"):
        Plant(PlantConfig(), 0)


def test_under_a_steadily_rising_sun_the_energy_is_that_of_the_mean_power():
    pv = PvConfig(peak_w=100_000.0, performance_ratio=1.0, irradiance_w_per_m2=(0.0, 1_000.0))
    plant = Plant(PlantConfig(pv=pv, day=DayConfig(solar_time_factor=1_000.0)), 0, 0.0)
    plant.advance(36.0)
    assert plant.pv_w == pytest.approx(100_000.0 * 36_000.0 / 43_200.0)
    assert plant.pv_wh - 1_000.0 == pytest.approx(plant.pv_w / 2.0 * 36.0 / 3600.0)
