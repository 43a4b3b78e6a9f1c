"""Derating: share of rated power over temperature, cell voltage and SoC."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.derating import (
    FULL,
    SHARE_WHEN_UNKNOWN,
    Cells,
    Curve,
    Derating,
    Quantity,
    Shares,
    derate,
    derating_bound,
)

HEAT = Curve(((0.0, 0.0), (10.0, 1.0), (40.0, 1.0), (55.0, 0.4)))


@pytest.mark.parametrize(
    ("at", "share"),
    [(-20.0, 0.0), (0.0, 0.0), (2.5, 0.25), (10.0, 1.0), (25.0, 1.0), (40.0, 1.0), (47.5, 0.7), (55.0, 0.4), (80.0, 0.4)],
)  # fmt: skip
def test_a_curve_is_linear_between_its_points_exact_at_them_and_flat_beyond(at, share):
    assert HEAT.share(at) == pytest.approx(share)


@pytest.mark.parametrize("points", [(), ((1.0, 0.5), (1.0, 0.6)), ((2.0, 0.5), (1.0, 0.6)), ((1.0, 1.1),), ((1.0, -0.1),), ((math.nan, 0.5),), ((1.0, math.nan),)])  # fmt: skip
def test_a_curve_that_means_nothing_is_refused(points):
    with pytest.raises(ValueError, match=r"curve|share"):
        Curve(points)


def test_a_share_for_the_unknown_outside_0_to_1_is_refused():
    with pytest.raises(ValueError, match="share_when_unknown"):
        Derating(Quantity.SOC_PCT, share_when_unknown=1.2)


@pytest.mark.parametrize(
    ("quantity", "cells"),
    [
        (Quantity.TEMPERATURE_C, Cells(temperature_c=2.5)),
        (Quantity.CELL_MIN_V, Cells(cell_min_v=2.5)),
        (Quantity.CELL_MAX_V, Cells(cell_max_v=2.5)),
        (Quantity.SOC_PCT, Cells(soc_pct=2.5)),
    ],
)
def test_each_quantity_is_read_from_its_own_place_and_directions_stand_apart(quantity, cells):
    shares, limit = derate((Derating(quantity, charge=HEAT),), cells, None, 1.0)
    assert (shares, limit) == (Shares(0.25, 1.0), f"derating by {quantity}")


def test_the_lowest_of_several_curves_counts_per_direction():
    voltage = Derating(Quantity.CELL_MIN_V, discharge=Curve(((2.8, 0.0), (3.2, 1.0))))
    both = (Derating(Quantity.TEMPERATURE_C, HEAT, HEAT), voltage)
    shares, limit = derate(both, Cells(47.5, 2.9), None, 1.0)
    assert (shares.charge, shares.discharge) == (pytest.approx(0.7), pytest.approx(0.25))
    assert limit == "derating by lowest cell voltage"


@pytest.mark.parametrize("temperature_c", [None, math.nan, math.inf])
def test_an_unknown_temperature_halves_the_power_and_says_so(temperature_c):
    shares, limit = derate((Derating(Quantity.TEMPERATURE_C, HEAT, HEAT),), Cells(temperature_c), None, 1.0)
    assert shares == Shares(SHARE_WHEN_UNKNOWN, SHARE_WHEN_UNKNOWN)
    assert limit == "derating: temperature unknown"


def test_the_site_file_may_say_what_an_unknown_value_means():
    item = Derating(Quantity.TEMPERATURE_C, discharge=HEAT, share_when_unknown=0.0)
    assert derate((item,), Cells(), None, 1.0)[0] == Shares(1.0, 0.0)


def test_a_share_falls_at_once_and_recovers_slowly():
    rule = (Derating(Quantity.TEMPERATURE_C, HEAT, HEAT),)
    fallen, _ = derate(rule, Cells(55.0), FULL, 1.0)
    assert fallen == Shares(0.4, 0.4)
    cooler, limit = derate(rule, Cells(25.0), fallen, 3.0)
    assert (cooler.charge, cooler.discharge) == (pytest.approx(0.415),) * 2
    assert limit == "recovery from derating"
    assert derate(rule, Cells(25.0), fallen, 121.0) == (FULL, "")
    assert derate(rule, Cells(25.0), fallen, -5.0)[0] == fallen


def test_without_curves_nothing_is_derated():
    assert derate((), Cells(), None, 1.0) == (FULL, "")


def test_the_bound_takes_each_directions_share_of_its_own_rating():
    bound = derating_bound(Shares(0.25, 0.5), "why", 400.0, 600.0, "bess")
    assert (bound.lower_w, bound.upper_w, bound.limit, bound.owner) == (-100.0, 300.0, "why", "bess")


def test_a_cell_voltage_that_sags_under_load_settles_instead_of_swinging():
    """The voltage falls 0.4 V at full power: derated power lets it spring back, which must not restore the power."""
    rule = (Derating(Quantity.CELL_MIN_V, discharge=Curve(((3.0, 0.0), (3.1, 1.0)))),)
    shares, powers = None, [1.0]
    for _ in range(300):
        shares, _ = derate(rule, Cells(cell_min_v=3.3 - 0.4 * powers[-1]), shares, 1.0)
        powers.append(shares.discharge)
    late = powers[100:]
    assert max(late) - min(late) < 0.15
    assert min(late) > 0.45


@given(
    points=st.lists(st.tuples(st.integers(-50, 100), st.floats(0, 1)), min_size=1, max_size=8, unique_by=lambda p: p[0]),
    at=st.floats(-100, 200),
)  # fmt: skip
def test_a_share_lies_between_its_neighbours(points, at):
    curve = Curve(tuple(sorted((float(x), y) for x, y in points)))
    below = [y for x, y in curve.points if x <= at][-1:] or [curve.points[0][1]]
    above = [y for x, y in curve.points if x >= at][:1] or [curve.points[-1][1]]
    low, high = sorted((below[0], above[0]))
    assert low - 1e-12 <= curve.share(at) <= high + 1e-12
