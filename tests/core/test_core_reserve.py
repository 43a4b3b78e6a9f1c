"""What awards keep free: power and energy bounds on the baseline."""

from __future__ import annotations

import pytest
from core_awards import award, room, sold
from hypothesis import given
from hypothesis import strategies as st

from agent.core.droop_products import PRODUCTS
from agent.core.envelope import clamp
from agent.core.orders import Direction
from agent.core.reserve import (
    NO_ROOM,
    Room,
    activated_wh,
    baseline_bounds,
    battery_room,
    energy_kept_wh,
    power_kept_w,
    together,
)


def extremes(bounds) -> tuple[float, float]:
    return clamp(-1e12, bounds)[0], clamp(1e12, bounds)[0]


def test_a_battery_gives_less_than_it_holds_and_takes_more_than_it_keeps():
    """1 MWh at 50 % in a band of 10 to 90 %: 400 kWh each way in the cells, at 95 % one way."""
    one = battery_room(
        -300e3, 500e3, soc_pct=50.0, capacity_wh=1e6, soc_min_pct=10.0, soc_max_pct=90.0, one_way_efficiency=0.95
    )
    assert (one.discharge_w, one.charge_w) == (500e3, 300e3)
    assert one.give_wh == pytest.approx(400e3 * 0.95)
    assert one.take_wh == pytest.approx(400e3 / 0.95)
    assert one.round_trip == pytest.approx(0.9025)


@pytest.mark.parametrize(
    ("soc_pct", "capacity_wh", "lower_w", "upper_w"),
    [
        (None, 1e6, -1e5, 1e5),
        (50.0, None, -1e5, 1e5),
        (50.0, -1e6, -1e5, 1e5),
        (50.0, float("nan"), -1e5, 1e5),
        (50.0, 1e6, 0.0, 0.0),
    ],
)
def test_a_battery_that_takes_no_part_has_no_room(soc_pct, capacity_wh, lower_w, upper_w):
    one = battery_room(
        lower_w,
        upper_w,
        soc_pct=soc_pct,
        capacity_wh=capacity_wh,
        soc_min_pct=10,
        soc_max_pct=90,
        one_way_efficiency=0.95,
    )
    assert one is NO_ROOM


def test_batteries_together_have_the_sum_of_their_rooms():
    both = together([Room(100e3, 50e3, 1e5, 2e5, 0.9), NO_ROOM, Room(200e3, 80e3, 3e5, 4e5, 0.8)])
    assert (both.discharge_w, both.charge_w, both.give_wh, both.take_wh) == (300e3, 130e3, 4e5, 6e5)
    assert both.round_trip == pytest.approx((0.9 * 3e5 + 0.8 * 7e5) / 1e6)
    assert together([]) == NO_ROOM


def test_the_connection_point_narrows_the_room():
    assert room().within(-100e3, 200e3) == room(discharge_w=200e3, charge_w=100e3)
    assert room().within(50e3, -50e3) == room(discharge_w=0.0, charge_w=0.0)


@pytest.mark.parametrize(
    ("product", "kwh_per_mw"),
    [("eprx-primary-online-50hz", 83.3), ("gb-dc", 250.0), ("gb-dm", 500.0), ("fcr-n", 1000.0), ("gb-dr", 1000.0)],
)
def test_the_energy_kept_is_the_award_over_its_sustain_time(product, kwh_per_mw):
    give_wh, take_wh = energy_kept_wh(sold(award(product=product, power_w=1e6)), 0.0)
    assert (give_wh / 1e3, take_wh / 1e3) == (pytest.approx(kwh_per_mw, abs=0.05), pytest.approx(kwh_per_mw, abs=0.05))


@pytest.mark.parametrize(
    ("product", "direction", "kept"),
    [
        ("ce-fcr-offset", Direction.BOTH, (100e3, 100e3)),
        ("ce-fcr-offset", Direction.UP, (100e3, 0.0)),
        ("ce-fcr-offset", Direction.DOWN, (0.0, 100e3)),
        ("fcr-n", Direction.BOTH, (134e3, 134e3)),
        ("fcr-d", Direction.UP, (100e3, 20e3)),
        ("fcr-d", Direction.DOWN, (20e3, 100e3)),
        ("fcr-d", Direction.BOTH, (100e3, 100e3)),
    ],
)
def test_the_power_kept_has_the_headroom_of_the_product(product, direction, kept):
    assert power_kept_w(sold(award(product=product, direction=direction))) == pytest.approx(kept)


def test_an_award_in_one_direction_keeps_energy_in_that_direction_only():
    up = energy_kept_wh(sold(award(direction=Direction.UP)), 0.0)
    down = energy_kept_wh(sold(award(direction=Direction.DOWN)), 0.0)
    assert (up, down) == ((50e3, 0.0), (0.0, 50e3))


def test_the_baseline_leaves_the_awards_power_free():
    """500 kW either way and 100 kW sold: the baseline has 400 kW either way, owned by the award."""
    bounds = baseline_bounds(sold(award("x")), (), room(give_wh=1e9, take_wh=1e9), 1800.0)
    assert extremes(bounds) == (-400e3, 400e3)
    assert {bound.owner for bound in bounds} == {"x"}
    assert [bound.limit for bound in bounds] == ["power kept for the award", "energy kept for the award"]


def test_the_baseline_lands_on_the_awards_energy_at_the_slots_end():
    """150 kWh there, 50 kWh kept: 100 kWh in the half hour that is left are 200 kW; 80 kWh to take leave 60 kW."""
    bounds = baseline_bounds(sold(award()), (), room(give_wh=150e3, take_wh=80e3), 1800.0)
    assert extremes(bounds) == (pytest.approx(-60e3), pytest.approx(200e3))


def test_a_battery_that_is_short_already_may_rest_but_is_not_pushed():
    bounds = baseline_bounds(sold(award()), (), room(give_wh=20e3, take_wh=900e3), 1800.0)
    assert extremes(bounds) == (-400e3, 0.0)
    tight = baseline_bounds(sold(award()), (), room(discharge_w=50e3, charge_w=60e3), 1800.0)
    assert extremes(tight) == (0.0, 0.0)


def test_overlapping_awards_keep_the_sum_and_each_bound_names_its_own_award():
    lines = sold(award("n", "fcr-n", power_w=100e3), award("d", "fcr-d", power_w=50e3, direction=Direction.UP))
    bounds = baseline_bounds(lines, (), room(give_wh=1e9, take_wh=1e9), 1800.0)
    uppers = [(bound.owner, round(bound.upper_w)) for bound in bounds if bound.limit.startswith("power")]
    assert uppers == [("n", 366_000), ("d", 316_000)]
    lowers = [round(bound.lower_w) for bound in bounds if bound.limit.startswith("power")]
    assert lowers == [-366_000, -356_000]


def test_an_award_that_begins_by_the_slots_end_keeps_its_energy_but_not_yet_its_power():
    soon = sold(award("next", start=1800, end=3600))
    bounds = baseline_bounds((), soon, room(give_wh=100e3, take_wh=1e9), 1800.0)
    assert extremes(bounds) == (pytest.approx(-1.9999e9), pytest.approx(100e3))


def test_an_award_that_ends_before_the_next_begins_hands_its_energy_on():
    now, soon = sold(award("now", end=1800)), sold(award("next", start=1800, end=3600, power_w=150e3))
    bounds = baseline_bounds(now, soon, room(give_wh=175e3, take_wh=1e9), 3600.0)
    assert extremes(bounds)[1] == pytest.approx(100e3)  # 75 kWh are kept for the next, not 125


def test_an_award_that_goes_on_adds_to_the_one_that_begins():
    now, soon = sold(award("now", end=3600)), sold(award("next", start=1800, end=3600, power_w=150e3))
    bounds = baseline_bounds(now, soon, room(give_wh=175e3, take_wh=1e9), 1800.0)
    assert extremes(bounds)[1] == pytest.approx(100e3)  # 50 and 75 kWh are kept


def test_without_awards_there_is_no_bound():
    assert baseline_bounds((), (), room(), 1800.0) == ()


def test_an_activation_does_not_move_the_baseline_under_its_own_response():
    """Ten minutes of a full response: what it took from the battery was kept for just that."""
    lines, here, spent_wh = sold(award()), room(give_wh=150e3, take_wh=1e9), 0.0
    before = extremes(baseline_bounds(lines, (), here, 1800.0, spent_wh))[1]
    for _ in range(600):
        spent_wh = activated_wh(spent_wh, 100e3, 1.0, lines)
    after = room(give_wh=150e3 - 100e3 / 6, take_wh=1e9)
    assert spent_wh == pytest.approx(100e3 / 6, rel=0.13)  # a little is asked back already
    assert extremes(baseline_bounds(lines, (), after, 1800.0, spent_wh))[1] == pytest.approx(before, rel=0.025)
    unaware = extremes(baseline_bounds(lines, (), after, 1800.0, 0.0))[1]
    assert unaware < before * 0.9


def test_energy_taken_counts_for_the_other_direction():
    give_wh, take_wh = energy_kept_wh(sold(award()), -20e3)
    assert (give_wh, take_wh) == (50e3, 30e3)
    assert energy_kept_wh(sold(award()), 80e3) == (0.0, 50e3)


def test_what_was_spent_is_asked_back_within_the_markets_time_and_forgotten_without_award():
    lines = sold(award())
    assert activated_wh(50e3, 0.0, 7200.0, lines) == pytest.approx(50e3 * 0.0498, rel=0.01)
    assert activated_wh(50e3, 100e3, 1.0, ()) == 0.0
    quick = sold(award(product="fcr-n"))
    assert activated_wh(50e3, 0.0, 7200.0, quick) == pytest.approx(50e3 * 0.0498, rel=0.01)


products = st.sampled_from(sorted(PRODUCTS))
some_awards = st.lists(
    st.builds(
        award,
        st.uuids().map(str),
        products,
        st.just(0.0),
        st.just(1800.0),
        st.floats(1.0, 4e5),
        st.sampled_from(Direction),
    ),
    min_size=1,
    max_size=3,
)
rooms = st.builds(
    Room, st.floats(0, 5e5), st.floats(0, 5e5), st.floats(-1e5, 1e6), st.floats(-1e5, 1e6), st.floats(0.7, 1.0)
)


@given(some_awards, rooms, st.floats(5.0, 3600.0), st.floats(-1e7, 1e7))
def test_a_baseline_within_the_bounds_leaves_power_and_energy_for_every_award(given_awards, here, ahead_s, wanted_w):
    lines = sold(*given_awards)
    bounds = baseline_bounds(lines, (), here, ahead_s)
    assert all(bound.lower_w <= 0.0 <= bound.upper_w for bound in bounds)
    baseline_w = clamp(wanted_w, bounds)[0]
    up_w, down_w = power_kept_w(lines)
    if up_w <= here.discharge_w:
        assert baseline_w + up_w <= here.discharge_w + 1e-3
    if down_w <= here.charge_w:
        assert baseline_w - down_w >= -here.charge_w - 1e-3
    give_wh, take_wh = energy_kept_wh(lines, 0.0)
    used_wh = baseline_w * ahead_s / 3600.0
    if give_wh <= here.give_wh:
        assert here.give_wh - used_wh >= give_wh - 1e-3
    else:
        assert baseline_w <= 0.0
    if take_wh <= here.take_wh:
        assert here.take_wh + used_wh >= take_wh - 1e-3
    else:
        assert baseline_w >= 0.0


def test_short_awards_one_after_the_other_in_the_slot_keep_the_largest_not_the_sum():
    soon = sold(*(award(f"a{i}", start=600 + 300 * i, end=900 + 300 * i) for i in range(3)))
    bounds = baseline_bounds((), soon, room(give_wh=100e3, take_wh=100e3), 1800.0)
    assert extremes(bounds) == (pytest.approx(-100e3), pytest.approx(100e3))


def test_an_award_upward_leaves_all_that_can_be_taken_to_the_baseline():
    lines = sold(award(direction=Direction.UP))
    bounds = baseline_bounds(lines, (), room(give_wh=1e9, take_wh=80e3), 1800.0)
    assert extremes(bounds) == (pytest.approx(-160e3), 400e3)
