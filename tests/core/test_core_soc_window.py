"""The SoC window: landing at the slot's end, taper, hysteresis, reserve, a start outside the band."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.bounds import Rank, room
from agent.core.soc_window import OPEN, REOPEN_AFTER_S, Gates, SocNow, SocRules, gates, soc_bounds

RULES = SocRules(10.0, 90.0, 0.8)
NOW = SocNow(50.0, 1e6, 1800.0, 5.0, 500e3, 400e3)


def found(rules=RULES, closed=OPEN, **now):
    return {b.rank: b for b in soc_bounds(rules, replace(NOW, **now), closed, "bess")}


def test_in_the_middle_of_the_band_nothing_is_limited():
    assert soc_bounds(RULES, replace(NOW, ahead_s=60.0), OPEN, "bess") == ()


def test_a_long_slot_is_spread_to_land_on_the_limit_in_either_direction():
    """12 %: 20 kWh above the limit give 16 kWh in half an hour. 86 %: 40 kWh of room take 50 kWh."""
    assert found(soc_pct=12.0)[Rank.COMFORT].upper_w == pytest.approx(32e3)
    assert found(soc_pct=86.0)[Rank.COMFORT].lower_w == pytest.approx(-100e3)
    assert Rank.PHYSICS not in found(soc_pct=12.0)


def test_power_fades_over_the_taper_and_ends_at_the_limit():
    assert found(soc_pct=10.5)[Rank.PHYSICS].upper_w == pytest.approx(200e3)
    assert found(soc_pct=89.75)[Rank.PHYSICS].lower_w == pytest.approx(-125e3)
    assert found(soc_pct=10.0)[Rank.PHYSICS].upper_w == 0.0
    assert found(soc_pct=90.0)[Rank.PHYSICS].lower_w == 0.0


def test_without_a_taper_the_reaction_time_keeps_the_limit():
    """0.01 % of 1 MWh is 100 Wh, 80 Wh at the terminals, in 5 s."""
    sharp = replace(RULES, taper_pct=0.0)
    assert found(sharp, soc_pct=10.01)[Rank.PHYSICS].upper_w == pytest.approx(80.0 * 720)
    assert found(sharp, soc_pct=89.99)[Rank.PHYSICS].lower_w == pytest.approx(-125.0 * 720)


@pytest.mark.parametrize(("soc_pct", "lower_w", "upper_w"), [(3.0, -500e3, 0.0), (97.0, 0.0, 400e3), (-5.0, -500e3, 0.0), (140.0, 0.0, 400e3)])  # fmt: skip
def test_a_start_outside_the_band_may_only_go_back_and_need_not(soc_pct, lower_w, upper_w):
    physics = found(soc_pct=soc_pct)[Rank.PHYSICS]
    assert (physics.lower_w, physics.upper_w) == (lower_w, upper_w)
    assert physics.limit == "SoC band 10 to 90 %"


def test_the_reserve_is_a_floor_of_its_own_rank_and_free_while_the_grid_is_out():
    kept = replace(RULES, reserve_pct=30.0)
    limits = found(kept, soc_pct=30.0)
    assert (limits[Rank.RESERVE].upper_w, limits[Rank.RESERVE].limit) == (0.0, "emergency reserve 30 %")
    assert limits[Rank.RESERVE].lower_w == -500e3
    assert Rank.PHYSICS not in limits
    assert found(kept, soc_pct=30.5)[Rank.RESERVE].upper_w == pytest.approx(200e3)
    assert found(kept, soc_pct=40.0)[Rank.COMFORT].upper_w == pytest.approx(160e3)
    out = found(kept, soc_pct=30.0, reserve_released=True)
    assert Rank.RESERVE not in out
    assert out[Rank.COMFORT].upper_w == pytest.approx(320e3)


def test_below_the_reserve_charging_stays_open_and_nothing_forces_it():
    limits = found(replace(RULES, reserve_pct=30.0), soc_pct=20.0)
    assert (limits[Rank.RESERVE].lower_w, limits[Rank.RESERVE].upper_w) == (-500e3, 0.0)


def test_a_reserve_below_the_band_is_none():
    assert replace(RULES, reserve_pct=5.0).floor_pct == 10.0
    assert found(replace(RULES, reserve_pct=5.0), soc_pct=12.0) == found(soc_pct=12.0)


def test_a_margin_draws_the_band_in_but_never_closes_it():
    assert found(soc_pct=12.0, margin_pct=2.0)[Rank.PHYSICS].upper_w == 0.0
    assert found(soc_pct=88.0, margin_pct=2.0)[Rank.PHYSICS].lower_w == 0.0
    assert soc_bounds(RULES, replace(NOW, margin_pct=70.0, ahead_s=60.0), OPEN, "b") == ()


def test_a_swing_that_evens_out_is_let_through_and_the_mean_still_lands():
    up = found(soc_pct=12.0, swing_w=100e3)[Rank.COMFORT]
    assert up.upper_w == pytest.approx(132e3)
    down = found(soc_pct=12.0, swing_w=-20e3)[Rank.COMFORT]
    assert down.upper_w == pytest.approx(12e3)
    assert found(soc_pct=12.0, swing_w=-200e3)[Rank.COMFORT].upper_w == 0.0
    assert found(soc_pct=86.0, swing_w=-60e3)[Rank.COMFORT].lower_w == pytest.approx(-160e3)


def at(soc_pct, **changes):
    return replace(NOW, soc_pct=soc_pct, **changes)


def test_a_direction_that_reached_its_limit_stays_closed_until_soc_and_time_have_moved():
    closed = gates(RULES, at(10.04), OPEN, 100.0)
    assert closed == Gates(discharge_closed_mono_s=100.0)
    assert found(closed=closed, soc_pct=10.4)[Rank.COMFORT].upper_w == 0.0
    assert found(closed=closed, soc_pct=10.4)[Rank.COMFORT].lower_w < -499e3
    late = 100.0 + REOPEN_AFTER_S
    assert gates(RULES, at(10.49), closed, late) is closed
    assert gates(RULES, at(10.5), closed, late - 0.1) is closed
    assert gates(RULES, at(10.5), closed, late) == OPEN
    assert gates(RULES, at(10.06), OPEN, 100.0) is OPEN


def test_the_upper_limit_closes_charging_alone():
    closed = gates(RULES, at(89.97), OPEN, 7.0)
    assert closed == Gates(charge_closed_mono_s=7.0)
    bound = found(closed=closed, soc_pct=89.6)[Rank.COMFORT]
    assert (bound.lower_w, bound.upper_w > 0) == (0.0, True)
    assert gates(RULES, at(89.5), closed, 7.0 + REOPEN_AFTER_S) == OPEN


def test_the_reserve_closes_discharging_and_its_release_opens_it():
    kept = replace(RULES, reserve_pct=30.0)
    closed = gates(kept, at(30.0), OPEN, 0.0)
    assert closed == Gates(discharge_closed_mono_s=0.0)
    assert gates(kept, at(30.0, reserve_released=True), closed, REOPEN_AFTER_S) == OPEN


def test_a_band_narrower_than_the_hysteresis_still_opens():
    narrow = SocRules(50.0, 50.4, 0.95, hysteresis_pct=5.0)
    closed = Gates(discharge_closed_mono_s=0.0)
    assert gates(narrow, at(50.2), closed, 1000.0).discharge_closed_mono_s is None


@given(
    soc=st.floats(-10, 110), capacity=st.floats(1e3, 1e8), ahead=st.floats(5, 1800), swing=st.floats(-1e6, 1e6),
    reserve=st.one_of(st.none(), st.floats(0, 89)), taper=st.floats(0, 5), margin=st.floats(0, 50),
)  # fmt: skip
def test_whatever_the_state_the_bounds_nest_hold_zero_and_stay_in_the_rating(
    soc, capacity, ahead, swing, reserve, taper, margin
):
    rules = SocRules(10.0, 90.0, 0.95, reserve, taper)
    now = SocNow(soc, capacity, ahead, 5.0, 500e3, 400e3, margin, swing_w=swing)
    bounds = soc_bounds(rules, now, gates(rules, now, OPEN, 0.0), "b")
    assert [b.rank for b in bounds] == sorted(b.rank for b in bounds)
    for bound in bounds:
        assert bound.lower_w <= 0.0 <= bound.upper_w
    inner = room(bounds)
    if soc <= 10.0:
        assert inner.hard[1] == 0.0
    if soc >= 90.0:
        assert inner.hard[0] == 0.0


@given(soc=st.floats(10, 90), power=st.floats(-500e3, 500e3), taper=st.floats(0, 3), capacity=st.floats(2e5, 4e6))
def test_no_power_allowed_crosses_the_band_within_the_reaction_time(soc, power, taper, capacity):
    rules = SocRules(10.0, 90.0, 0.9, None, taper)
    now = SocNow(soc, capacity, 1800.0, 5.0, 500e3, 500e3)
    low_w, high_w = room(soc_bounds(rules, now, OPEN, "b")).hard
    power_w = min(max(power, low_w), high_w)
    cell_w = power_w / 0.9 if power_w > 0 else power_w * 0.9
    after = soc - cell_w * 5.0 / 3600.0 / capacity * 100.0
    assert 10.0 - 1e-6 <= after <= 90.0 + 1e-6


def test_a_slot_lands_by_the_believed_soc_and_the_band_goes_by_the_one_that_is_read():
    now = SocNow(94.9, 1e6, 1800.0, 5.0, 500e3, 500e3, believed_pct=93.0)
    rules = SocRules(5.0, 95.0, 1.0)
    by_limit = {bound.limit: bound for bound in soc_bounds(rules, now, OPEN, "b")}
    assert by_limit["SoC window to the slot's end"].lower_w == pytest.approx(-2.0 / 100 * 1e6 * 2)
    assert by_limit["SoC band 5 to 95 %"].lower_w == pytest.approx(-50e3)
