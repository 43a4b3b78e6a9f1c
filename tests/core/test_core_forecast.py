"""What PV and load will do: by the cloud's plan, by past days, by the present."""

import pytest
from core_site import T0
from hypothesis import given
from hypothesis import strategies as st

from agent.core.forecast import DayProfile, forecast_at, told_by_plans
from agent.core.plan import Plan, PlanKind, Plans, Target

DAY_S = 86_400.0
NOBODY = lambda _start, _end: None  # noqa: E731 (a plan that tells nothing)


def others_w(forecast, start, end):
    pv_w, load_w = forecast(T0 + start, T0 + end)
    assert pv_w >= 0.0 >= load_w
    assert pv_w == 0.0 or load_w == 0.0
    return pv_w + load_w


def plan(*powers_w, soc_end_pct=None, target=Target.GRID):
    return Plans(Plan(PlanKind.ROLLING, 1, "r", T0, T0, 1800, target, powers_w, soc_end_pct))


def test_what_the_plan_sells_beyond_the_battery_is_what_the_cloud_expects_of_pv_and_load():
    """From 50 to 45 % of 1 MWh in half an hour are 100 kW in the cells, 95 kW at the terminals; 60 to 65 % the same in."""
    told = told_by_plans(plan(0.0, 95e3 + 30e3, 0.0, -40e3, soc_end_pct=(50.0, 45.0, 60.0, 65.0)), 1e6, 0.95)
    assert told(T0 + 1800.0, T0 + 3600.0) == pytest.approx(30e3)
    assert told(T0 + 5400.0, T0 + 7200.0) == pytest.approx(-40e3 + 100e3 / 0.95)


@pytest.mark.parametrize(
    ("plans", "at"),
    [
        (plan(1e3, 1e3, soc_end_pct=(50.0, 45.0)), 0.0),
        (plan(1e3, 1e3, soc_end_pct=(None, 45.0)), 1800.0),
        (plan(1e3, 1e3, soc_end_pct=(50.0, None)), 1800.0),
        (plan(1e3, None, soc_end_pct=(50.0, 45.0)), 1800.0),
        (plan(None, 1e3, soc_end_pct=(50.0, 45.0)), 1800.0),
        (plan(1e3, 1e3), 1800.0),
        (plan(1e3, 1e3, soc_end_pct=(50.0, 45.0), target=Target.BATTERY), 1800.0),
        (plan(1e3, 1e3, soc_end_pct=(50.0, 45.0)), 3600.0),
        (Plans(), 0.0),
    ],
)
def test_without_soc_before_and_after_or_a_target_at_the_grid_a_plan_tells_nothing(plans, at):
    assert told_by_plans(plans, 1e6, 0.95)(T0 + at, T0 + at + 1800.0) is None


def test_the_time_of_day_is_learned_over_days_and_only_that():
    profile = DayProfile()
    for day in range(6):
        for t in range(0, 1800, 10):
            profile = profile.with_measured(T0 + day * DAY_S + t, 10e3 if day == 0 else 20e3, 10.0)
    assert profile.at(T0 + 9 * DAY_S + 1799.0) == pytest.approx(20e3 - 10e3 * 0.6065**5, rel=1e-3)
    assert profile.at(T0 + 1800.0) is None
    assert profile.at(T0 - 1.0) is None


def test_a_first_measurement_counts_whole_and_no_time_counts_nothing():
    profile = DayProfile().with_measured(T0, -5e3, 1.0)
    assert profile.at(T0) == -5e3
    assert profile.with_measured(T0, 99e3, 0.0).at(T0) == -5e3


def test_what_the_cloud_told_comes_before_past_days():
    profile = DayProfile().with_measured(T0 + 20_000.0, 7e3, 10.0)
    told = forecast_at(T0, None, lambda _start, _end: -3e3, profile)
    assert others_w(told, 19_900.0, 20_100.0) == -3e3
    assert others_w(forecast_at(T0, None, NOBODY, profile), 19_900.0, 20_100.0) == 7e3


def test_the_present_counts_in_full_now_and_fades_over_two_hours():
    forecast = forecast_at(T0, 12e3, lambda _start, _end: 10e3, DayProfile())
    assert others_w(forecast, 0.0, 0.0) == pytest.approx(12e3)
    assert others_w(forecast, 2700.0, 4500.0) == pytest.approx(11e3)
    assert others_w(forecast, 7200.0, 9000.0) == pytest.approx(10e3)


def test_where_nothing_is_known_the_present_goes_on_and_without_it_nothing_is_assumed():
    assert others_w(forecast_at(T0, -4e3, NOBODY, DayProfile()), 50_000.0, 51_800.0) == -4e3
    assert others_w(forecast_at(T0, None, NOBODY, DayProfile()), 0.0, 1800.0) == 0.0
    only_later = DayProfile().with_measured(T0 + 20_000.0, 7e3, 10.0)
    assert others_w(forecast_at(T0, -4e3, NOBODY, only_later), 19_900.0, 20_100.0) == 7e3, (
        "now is not known by past days"
    )


@given(st.floats(0, 1e6), st.floats(-1e9, 1e9), st.floats(0, 1e6))
def test_the_profile_stays_within_what_was_measured(at, power_w, for_s):
    before = DayProfile().with_measured(T0 + at, 100.0, 1.0)
    after_w = before.with_measured(T0 + at, power_w, for_s).at(T0 + at)
    assert min(100.0, power_w) - 1e-3 <= after_w <= max(100.0, power_w) + 1e-3
