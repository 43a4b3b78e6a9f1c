"""The simulated battery keeps its energy books, and never leaves its ratings or its state of charge."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.battery import Battery, BatteryConfig, followed

HOUR_S = 3600.0

targets_w = st.floats(-800_000.0, 800_000.0)
configs = st.builds(
    BatteryConfig,
    rated_discharge_w=st.floats(1_000.0, 600_000.0),
    rated_charge_w=st.floats(1_000.0, 600_000.0),
    capacity_wh=st.floats(500.0, 2_000_000.0),
    initial_soc_pct=st.floats(0.0, 100.0),
    resistive_loss_pct=st.floats(0.0, 10.0),
    inverter_loss_pct=st.floats(0.0, 10.0),
    standby_loss_w=st.floats(0.0, 500.0),
    lag_s=st.floats(0.0, 2.0),
    ramp_w_per_s=st.none() | st.floats(1_000.0, 1e6),
)


@given(configs, st.lists(targets_w, min_size=1, max_size=30))
def test_what_goes_in_less_what_comes_out_and_is_lost_is_stored(config, targets):
    battery = Battery(config)
    before_wh = battery.stored_wh
    delivered_wh = 0.0
    for target_w in targets:
        delivered_wh += battery.step(target_w, config.step_limit_s)
    change_wh = battery.stored_wh - before_wh
    assert delivered_wh == pytest.approx(battery.discharged_wh - battery.charged_wh, abs=1e-6)
    assert battery.charged_wh - battery.discharged_wh - battery.lost_wh == pytest.approx(change_wh, abs=1e-6)
    assert battery.lost_wh >= -1e-9


@given(configs, st.lists(targets_w, min_size=1, max_size=30), st.floats(0.001, 1.0))
def test_state_of_charge_and_power_stay_within_what_was_built(config, targets, share):
    battery = Battery(config)
    highest_charge_w = max(config.rated_charge_w, config.standby_loss_w / (1 - config.inverter_loss_pct / 100))
    for target_w in targets:
        battery.step(target_w, config.step_limit_s * share)
        assert 0.0 <= battery.soc_pct <= 100.0
        assert -highest_charge_w * (1 + 1e-9) <= battery.power_w <= config.rated_discharge_w * (1 + 1e-9)


@pytest.mark.parametrize(("target_w", "end_pct"), [(500_000.0, 0.0), (-500_000.0, 100.0)])
def test_a_battery_driven_to_its_end_tapers_and_stays_there(target_w, end_pct):
    config = BatteryConfig(capacity_wh=1_100.0, lag_s=0.1)
    battery = Battery(config)
    for _ in range(int(120 / config.step_limit_s)):
        battery.step(target_w, config.step_limit_s)
    assert battery.soc_pct == pytest.approx(end_pct, abs=0.2)
    limit_w = battery.discharge_limit_w if target_w > 0 else battery.charge_limit_w
    assert limit_w < 0.05 * 500_000.0
    assert abs(battery.power_w) < 0.05 * 500_000.0


def test_the_bms_allows_full_power_in_the_middle_and_half_of_it_half_way_into_the_taper():
    middle = Battery(BatteryConfig(rated_charge_w=200.0, rated_discharge_w=300.0, capacity_wh=100.0, standby_loss_w=0))
    assert (middle.charge_limit_w, middle.discharge_limit_w) == (200.0, 300.0)
    config = BatteryConfig(initial_soc_pct=97.5, charge_taper_from_soc_pct=95.0)
    assert Battery(config).charge_limit_w == pytest.approx(config.rated_charge_w / 2)
    config = BatteryConfig(initial_soc_pct=1.0, discharge_taper_from_soc_pct=5.0)
    assert Battery(config).discharge_limit_w == pytest.approx(config.rated_discharge_w / 5)


def test_limits_in_amperes_carry_the_limits_in_watts():
    config = BatteryConfig(inverter_loss_pct=0.0, standby_loss_w=0.0, initial_soc_pct=2.0)
    battery = Battery(config)
    battery.step(50_000.0, 1.0)
    assert battery.discharge_limit_a * battery.voltage_v == pytest.approx(battery.discharge_limit_w)
    assert battery.charge_limit_a * battery.voltage_v == pytest.approx(battery.charge_limit_w)
    assert battery.current_a * battery.voltage_v == pytest.approx(battery.power_w)


def test_voltage_sags_when_discharging_and_rises_when_charging():
    def voltage_after(target_w):
        battery = Battery(BatteryConfig())
        battery.step(target_w, 1.0)
        return battery.voltage_v

    assert voltage_after(400_000.0) < voltage_after(0.0) < voltage_after(-400_000.0)


def test_a_round_trip_costs_the_losses_that_are_configured():
    config = BatteryConfig(resistive_loss_pct=0.0, inverter_loss_pct=2.0, standby_loss_w=0.0, lag_s=0.0)
    battery = Battery(config)
    for _ in range(1_000):
        battery.step(-100_000.0, 1.0)
    for _ in range(1_000):
        battery.step(96_000.0, 1.0)
    assert battery.lost_wh == pytest.approx(0.02 * (battery.charged_wh + battery.discharged_wh))


def test_power_follows_its_target_with_the_time_constant():
    end_w, energy_ws = followed(0.0, 1_000.0, 0.5, 0.5, None)
    assert end_w == pytest.approx(1_000.0 * (1 - math.exp(-1)))
    assert energy_ws == pytest.approx(1_000.0 * (0.5 - 0.5 * (1 - math.exp(-1))))


def test_a_ramp_limits_the_slope_then_the_lag_takes_over():
    assert followed(0.0, 1_000.0, 2.0, 0.0, 100.0) == pytest.approx((200.0, 200.0))
    assert followed(0.0, -1_000.0, 20.0, 0.0, 100.0) == pytest.approx((-1_000.0, -15_000.0))
    end_w, _ = followed(0.0, 1_000.0, 9.0, 1.0, 100.0)
    assert end_w == pytest.approx(900.0), "the lag at a gap of 100 W is as steep as the ramp"


@given(
    st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)),
    st.floats(0.01, 5.0),
    st.floats(0.0, 3.0),
    st.none() | st.floats(1e3, 1e6),
    st.floats(0.0, 1.0),
)
def test_following_in_two_pieces_is_following_in_one(way_w, dt_s, lag_s, ramp, share):
    start_w, target_w = way_w
    whole = followed(start_w, target_w, dt_s, lag_s, ramp)
    first_w, first_ws = followed(start_w, target_w, dt_s * share, lag_s, ramp)
    second_w, second_ws = followed(first_w, target_w, dt_s - dt_s * share, lag_s, ramp)
    assert (second_w, first_ws + second_ws) == pytest.approx(whole, rel=1e-6, abs=1e-3)


def test_losses_warm_the_battery_and_heat_takes_its_power_away():
    config = BatteryConfig(thermal_mass_j_per_k=1e5, cooling_w_per_k=0.0, derate_from_c=30.0, derate_to_c=40.0)
    battery = Battery(config)
    hottest_c = battery.temperature_c
    for _ in range(600):
        battery.step(400_000.0, 1.0)
        assert battery.temperature_c >= hottest_c
        hottest_c = battery.temperature_c
    assert 38.0 < hottest_c < 41.0
    assert battery.discharge_limit_w < 0.2 * config.rated_discharge_w
    assert battery.charge_limit_w < 0.2 * config.rated_charge_w


def test_an_empty_battery_draws_its_own_consumption_from_the_grid():
    battery = Battery(BatteryConfig(initial_soc_pct=0.0, inverter_loss_pct=0.0, standby_loss_w=200.0))
    battery.step(100_000.0, 1.0)
    assert battery.power_w == pytest.approx(-200.0)
    assert battery.soc_pct == 0.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"capacity_wh": 0.0},
        {"rated_charge_w": -1.0},
        {"resistive_loss_pct": 11.0},
        {"initial_soc_pct": 101.0},
        {"ramp_w_per_s": 0.0},
        {"discharge_taper_from_soc_pct": 96.0},
        {"derate_from_c": 60.0},
        {"lag_s": -0.1},
    ],
)
def test_a_battery_that_cannot_be_built_is_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        BatteryConfig(**wrong)
