"""The ramp, the shared inverter of DC-coupled sites, and outages."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.bounds import Rank
from agent.core.hybrid import SharedInverter, inverter_bound
from agent.core.orders import Outage
from agent.core.outages import out_of_service
from agent.core.ramp import LONGEST_GAP_S, RampRules, RampState, ramp_bound

SHARED = SharedInverter("pv", 500e3, 700e3)
NO_GRID = SharedInverter("pv", 500e3, 400e3, grid_charge=False)


def test_the_setpoint_moves_at_most_the_rate_in_each_direction():
    bound = ramp_bound(RampRules(10e3, 20e3), RampState(100e3, 50.0), None, 52.0)
    assert (bound.lower_w, bound.upper_w, bound.rank) == (60e3, 120e3, Rank.RAMP)


def test_a_direction_without_a_rate_is_free():
    bound = ramp_bound(RampRules(up_w_per_s=10e3), RampState(0.0, 0.0), None, 1.0)
    assert (bound.lower_w, bound.upper_w) == (-math.inf, 10e3)
    assert ramp_bound(RampRules(down_w_per_s=10e3), RampState(0.0, 0.0), None, 1.0).upper_w == math.inf
    assert ramp_bound(RampRules(), RampState(0.0, 0.0), None, 1.0) is None


def test_at_the_start_the_ramp_begins_where_the_batteries_are():
    bound = ramp_bound(RampRules(10e3, 10e3), None, -70e3, 5.0)
    assert (bound.lower_w, bound.upper_w) == (-70e3, -70e3)
    assert ramp_bound(RampRules(10e3, 10e3), None, None, 5.0).upper_w == 0.0


def test_after_a_pause_of_the_machine_the_setpoint_does_not_jump():
    bound = ramp_bound(RampRules(10e3, 10e3), RampState(0.0, 0.0), None, 600.0)
    assert bound.upper_w == 10e3 * LONGEST_GAP_S


def test_time_that_goes_back_moves_nothing():
    assert ramp_bound(RampRules(10e3, 10e3), RampState(5e3, 9.0), None, 8.0).upper_w == 5e3


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan])
def test_a_rate_at_which_nothing_moves_is_refused(rate):
    with pytest.raises(ValueError, match="ramp rate"):
        RampRules(down_w_per_s=rate)
    with pytest.raises(ValueError, match="ramp rate"):
        RampRules(up_w_per_s=rate)


@pytest.mark.parametrize(
    ("shared", "pv_w", "lower_w", "upper_w"),
    [
        (SHARED, 0.0, -500e3, 500e3),
        (SHARED, 200e3, -700e3, 300e3),
        (SHARED, 600e3, -1100e3, -100e3),
        (SHARED, -300.0, -500e3, 500e3),
        (SHARED, None, -500e3, 0.0),
        (NO_GRID, 0.0, 0.0, 500e3),
        (NO_GRID, 200e3, -200e3, 300e3),
        (NO_GRID, None, 0.0, 100e3),
    ],
)
def test_the_battery_has_what_pv_leaves_of_the_shared_inverter(shared, pv_w, lower_w, upper_w):
    bound = inverter_bound(shared, pv_w, "bess")
    assert (bound.lower_w, bound.upper_w) == (pytest.approx(lower_w), pytest.approx(upper_w))
    assert ("unknown" in bound.limit) == (pv_w is None)


@given(pv=st.floats(0, 700e3), share=st.floats(0, 1))
def test_the_inverter_is_never_loaded_beyond_its_rating(pv, share):
    bound = inverter_bound(SHARED, pv, "bess")
    power_w = bound.lower_w + share * (bound.upper_w - bound.lower_w)
    assert abs(power_w + pv) <= 500e3 + 1e-6


@given(pv=st.floats(0, 700e3), edge=st.sampled_from(["lower_w", "upper_w"]))
def test_with_pv_unknown_the_battery_overloads_the_inverter_at_no_pv_power(pv, edge):
    """PV above the rating alone is the inverter's own affair."""
    power_w = getattr(inverter_bound(SHARED, None, "bess"), edge)
    assert -500e3 - 1e-6 <= power_w + min(pv, 500e3) <= 500e3 + 1e-6


def test_an_outage_keeps_a_device_or_the_whole_site_at_rest_for_its_time():
    outages = (Outage("o1", 100.0, 200.0, "b1"), Outage("o2", 150.0, 160.0))
    found = [out_of_service(outages, t, d) for t, d in [(99.9, "b1"), (100.0, "b1"), (100.0, "b2"), (155.0, "b2"), (160.0, "b2"), (199.9, "b1"), (200.0, "b1")]]  # fmt: skip
    assert found == [None, "o1", None, "o2", None, "o1", None]
