"""Droop tables: between, at and beyond the break points of every product; tables of the site's own."""

from __future__ import annotations

import csv
import gzip
import math
from dataclasses import replace
from importlib.resources import files

import pytest
from core_awards import award
from hypothesis import given
from hypothesis import strategies as st

from agent.core.droop import MAX_AWAY_HZ, DroopTable, device_droop, faults, response_w, share
from agent.core.droop_products import CE_FCR_GATE, CE_FCR_OFFSET, FCR_D, GB_DC, PRODUCTS
from agent.core.orders import Direction

TABLES = list(PRODUCTS.values())
ONE_W = award(power_w=1.0)

EXPECTED = {
    # product: ((distance from nominal, share of the award), ...) between, at and beyond the break points
    "eprx-primary-online-50hz": ((0.0, 0.0), (0.010, 0.0), (0.105, 0.5), (0.2, 1.0), (0.35, 1.0)),
    "eprx-primary-online-60hz": ((0.0, 0.0), (0.012, 0.0), (0.106, 0.5), (0.2, 1.0), (0.35, 1.0)),
    "eprx-primary-online-hokkaido": ((0.010, 0.0), (0.155, 0.5), (0.2, 0.19 / 0.29), (0.3, 1.0), (0.4, 1.0)),
    "eprx-primary-offline-50hz": ((0.010, 0.0), (0.105, 0.5), (0.2, 1.0), (0.35, 1.0)),
    "eprx-primary-offline-60hz": ((0.012, 0.0), (0.106, 0.5), (0.2, 1.0), (0.35, 1.0)),
    "eprx-primary-offline-hokkaido": ((0.010, 0.0), (0.155, 0.5), (0.3, 1.0), (0.4, 1.0)),
    "ce-fcr-offset": ((0.0, 0.0), (0.010, 0.0), (0.0575, 0.25), (0.105, 0.5), (0.2, 1.0), (1.0, 1.0)),
    "ce-fcr-gate": ((0.0, 0.0), (0.010, 0.0), (0.0101, 0.0505), (0.05, 0.25), (0.1, 0.5), (0.2, 1.0), (1.0, 1.0)),
    "fcr-n": ((0.0, 0.0), (0.001, 0.01), (0.05, 0.5), (0.1, 1.0), (0.2, 1.0)),
    "fcr-d": ((0.05, 0.0), (0.1, 0.0), (0.2, 0.25), (0.3, 0.5), (0.5, 1.0), (0.9, 1.0)),
    "gb-dc": ((0.0, 0.0), (0.015, 0.0), (0.1075, 0.025), (0.2, 0.05), (0.35, 0.525), (0.5, 1.0), (0.8, 1.0)),
    "gb-dm": ((0.015, 0.0), (0.0575, 0.025), (0.1, 0.05), (0.15, 0.525), (0.2, 1.0), (0.4, 1.0)),
    "gb-dr": ((0.015, 0.0), (0.1075, 0.5), (0.2, 1.0), (0.4, 1.0)),
    "aemo-contingency-1s": ((0.1, 0.0), (0.15, 0.0), (0.325, 0.5), (0.5, 1.0), (0.7, 1.0)),
    "aemo-contingency-6s": ((0.15, 0.0), (0.325, 0.5), (0.5, 1.0)),
    "aemo-contingency-60s": ((0.15, 0.0), (0.325, 0.5), (0.5, 1.0)),
}


def test_every_preset_is_checked_here_and_has_no_fault():
    assert set(EXPECTED) == set(PRODUCTS)
    assert {name: faults(table) for name, table in PRODUCTS.items() if faults(table)} == {}
    assert all(table.name == name and table.source != "site file" for name, table in PRODUCTS.items())


@pytest.mark.parametrize("name", EXPECTED)
def test_the_response_between_at_and_beyond_the_break_points_mirrors(name):
    table = PRODUCTS[name]
    for away_hz, part in EXPECTED[name]:
        assert response_w(table, ONE_W, table.nominal_hz - away_hz) == pytest.approx(part, abs=1e-9)
        assert response_w(table, ONE_W, table.nominal_hz + away_hz) == pytest.approx(-part, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "full_by_s", "sustain_s"),
    [
        ("eprx-primary-online-50hz", 10, 300), ("eprx-primary-offline-60hz", 30, 300), ("ce-fcr-gate", 30, 1800),
        ("fcr-n", 180, 3600), ("fcr-d", 7.5, 1200), ("gb-dc", 1, 900), ("gb-dm", 1, 1800), ("gb-dr", 10, 3600),
        ("aemo-contingency-1s", 1, 300), ("aemo-contingency-6s", 6, 300), ("aemo-contingency-60s", 60, 300),
    ],
)  # fmt: skip
def test_products_state_how_fast_and_how_long(name, full_by_s, sustain_s):
    assert (PRODUCTS[name].full_by_s, PRODUCTS[name].sustain_s) == (full_by_s, sustain_s)


def test_what_is_known_second_hand_only_is_named():
    named = {name for name, table in PRODUCTS.items() if table.unsure}
    assert named == set(PRODUCTS) - {"ce-fcr-offset", "ce-fcr-gate", "gb-dc"}
    assert "points" in PRODUCTS["gb-dm"].unsure
    assert "points" in PRODUCTS["gb-dr"].unsure
    assert "full_by_s" in PRODUCTS["fcr-n"].unsure


def test_a_gate_steps_at_its_edge_and_an_offset_begins_at_zero_there():
    just_outside_hz = 50.0 - 0.011
    assert response_w(CE_FCR_GATE, award(), just_outside_hz) == pytest.approx(100e3 * 0.055)
    assert response_w(CE_FCR_OFFSET, award(), just_outside_hz) == pytest.approx(100e3 * 0.001 / 0.19)


def test_the_edge_of_a_gate_is_inside_it_in_floating_point_too():
    for frequency_hz in (49.99, 50.01):
        assert response_w(CE_FCR_GATE, award(), frequency_hz) == 0.0


def test_the_dead_band_is_told_for_both_kinds():
    assert (CE_FCR_GATE.dead_band_hz, CE_FCR_OFFSET.dead_band_hz) == (0.010, 0.010)
    assert (FCR_D.dead_band_hz, FCR_D.full_hz) == (0.1, 0.5)


def test_an_award_in_one_direction_never_answers_the_other():
    up, down = award(direction=Direction.UP), award(direction=Direction.DOWN)
    assert response_w(CE_FCR_OFFSET, up, 49.8) == pytest.approx(100e3)
    assert response_w(CE_FCR_OFFSET, up, 50.2) == 0.0
    assert response_w(CE_FCR_OFFSET, down, 49.8) == 0.0
    assert response_w(CE_FCR_OFFSET, down, 50.2) == pytest.approx(-100e3)


@pytest.mark.parametrize("nonsense", [math.nan, math.inf, -math.inf, 0.0, 500.0, 60.0, 44.9, 655.35])
def test_nonsense_frequency_moves_nobody(nonsense):
    assert response_w(CE_FCR_OFFSET, award(), nonsense) == 0.0


@given(st.sampled_from(TABLES), st.floats(40, 70), st.floats(40, 70))
def test_more_deviation_never_calls_for_less_and_never_for_more_than_the_award(table, one_hz, other_hz):
    near, far = sorted((abs(one_hz - table.nominal_hz), abs(other_hz - table.nominal_hz)))
    assert 0.0 <= share(table, near) <= share(table, far) <= 1.0
    given_w = response_w(table, award(power_w=7e3), one_hz)
    assert abs(given_w) <= 7e3
    assert given_w * (table.nominal_hz - one_hz) >= 0.0


@given(st.sampled_from(TABLES), st.floats(0.0, MAX_AWAY_HZ))
def test_high_frequency_is_the_mirror_of_low(table, away_hz):
    low, high = table.nominal_hz - away_hz, table.nominal_hz + away_hz
    assert response_w(table, award(), low) == pytest.approx(-response_w(table, award(), high), abs=1e-3)


def test_a_real_day_of_continental_frequency_follows_the_line():
    packed = files("simulators").joinpath("data/grid_frequency_ce_day.csv.gz").read_bytes()
    rows = csv.DictReader(gzip.decompress(packed).decode("ascii").splitlines())
    day_hz = [float(row["frequency_hz"]) for row in rows]
    assert len(day_hz) == 86390
    for hz in day_hz:
        away = abs(hz - 50.0)
        part = 0.0 if away <= 0.010000001 else min((away - 0.010) / 0.190, 1.0)
        assert response_w(CE_FCR_OFFSET, award(), hz) == pytest.approx(math.copysign(part, 50.0 - hz) * 100e3, abs=0.01)


OWN = DroopTable("own", 50.0, ((0.02, 0.0), (0.1, 0.4), (0.3, 1.0)), full_by_s=5.0, sustain_s=600.0)


def test_a_sites_own_table_is_used_as_it_is():
    assert faults(OWN) == ()
    assert response_w(OWN, award(), 49.94) == pytest.approx(20e3)
    assert response_w(OWN, award(), 50.2) == pytest.approx(-70e3)


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        ({"points": ()}, "points", "at least two"),
        ({"points": ((0.2, 1.0),)}, "points", "at least two"),
        ({"points": ((0.02, 0.0), (0.02, 0.5), (0.2, 1.0))}, "points[1]", "must rise"),
        ({"points": ((0.02, 0.0), (0.01, 1.0))}, "points[1]", "must rise"),
        ({"points": ((0.01, 0.0), (0.1, 0.6), (0.2, 0.5), (0.3, 1.0))}, "points[2]", "must not fall"),
        ({"points": ((0.01, 0.1), (0.2, 1.0))}, "points[0]", "first share must be 0"),
        ({"points": ((0.01, 0.0), (0.2, 0.9))}, "points[1]", "last share must be 1"),
        ({"points": ((0.01, 0.0), (0.2, 100.0))}, "points[1]", "not percent"),
        ({"points": ((10.0, 0.0), (200.0, 1.0))}, "points[0]", "not mHz"),
        ({"points": ((-0.01, 0.0), (0.2, 1.0))}, "points[0]", "Hz from nominal"),
        ({"points": ((0.01, 0.0), (math.nan, 1.0))}, "points[1]", "Hz from nominal"),
        ({"points": ((0.01, 0.0), (0.1, math.nan), (0.2, 1.0))}, "points[1]", "share"),
        ({"nominal_hz": 49.0}, "nominal_hz", "50 or 60"),
        ({"nominal_hz": math.nan}, "nominal_hz", "50 or 60"),
        ({"full_by_s": 10_000.0}, "full_by_s", "900"),
        ({"full_by_s": math.inf}, "full_by_s", "900"),
        ({"sustain_s": 0.0}, "sustain_s", "1 to"),
        ({"half_by_s": 6.0}, "half_by_s", "at most full_by_s"),
        ({"start_within_s": -1.0}, "start_within_s", "0 to"),
        ({"restore_within_s": 0.0}, "restore_within_s", "1 to"),
        ({"power_headroom": 0.9}, "power_headroom", "times the award"),
        ({"opposite_headroom": 20.0}, "opposite_headroom", "not percent"),
        ({"needed_resolution_hz": 0.0}, "needed_resolution_hz", "Hz"),
        ({"least_droop": 1.7}, "least_droop", "not percent"),
        ({"gate_hz": 0.01}, "gate_hz", "first point (0, 0)"),
        ({"gate_hz": -0.01}, "gate_hz", "Hz from nominal"),
        ({"gate_hz": 0.3, "points": ((0.0, 0.0), (0.3, 1.0))}, "gate_hz", "mute the whole curve"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused_with_field_and_reason(change, field, says):
    found = faults(replace(OWN, **change))
    assert any(fault.field == field and says in fault.text for fault in found), found


def test_a_device_takes_over_an_offset_curve_with_two_points():
    """EPRX: 0.19 Hz for a fifth of the rating is a droop of 0.19 / 50 * 5 = 1.9 %, from 10 mHz on."""
    setting = device_droop(PRODUCTS["eprx-primary-online-50hz"], 100e3, 500e3)
    assert setting is not None
    assert (setting.dead_band_hz, setting.droop) == (0.010, pytest.approx(0.019))


@pytest.mark.parametrize("table", [GB_DC, CE_FCR_GATE], ids=lambda table: table.name)
def test_a_knee_or_a_gate_cannot_be_given_to_the_device(table):
    assert device_droop(table, 100e3, 500e3) is None


@pytest.mark.parametrize("award_w", [0.0, -1.0, 500.1e3, math.nan])
def test_nothing_and_more_than_the_rating_cannot_be_given_to_the_device(award_w):
    assert device_droop(CE_FCR_OFFSET, award_w, 500e3) is None


@given(st.sampled_from([t for t in TABLES if device_droop(t, 1.0, 1.0)]), st.floats(0, 1), st.floats(1e3, 5e5))
def test_the_device_with_these_settings_answers_like_the_table(table, part, award_w):
    setting = device_droop(table, award_w, 500e3)
    away_hz = table.dead_band_hz + part * (table.full_hz - table.dead_band_hz)
    device_w = (away_hz - setting.dead_band_hz) / (setting.droop * table.nominal_hz) * 500e3
    table_w = response_w(table, award(power_w=award_w), table.nominal_hz - away_hz)
    assert device_w == pytest.approx(table_w, abs=award_w * 1e-6)
