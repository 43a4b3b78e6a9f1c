"""The market: real prices by time, typical days, and the fast clock."""

import pytest

from simulators.market import (
    JST,
    MARKET_SLOT_S,
    SHOW_START,
    MarketClock,
    SpotPrices,
    day_kind,
    jst_hour,
    load_jepx,
    parse_jepx,
)


@pytest.fixture(scope="module")
def kyushu() -> SpotPrices:
    return load_jepx("kyushu")


def test_a_whole_fiscal_year_of_half_hours_is_there(kyushu):
    """FY2023 had a leap day: 366 days."""
    assert len(kyushu.per_kwh) == 366 * 48
    assert kyushu.at(kyushu.start_utc_s) == 5.84


def test_a_price_holds_for_its_half_hour_and_the_year_begins_again_after_its_end(kyushu):
    start = kyushu.start_utc_s
    assert kyushu.at(start + MARKET_SLOT_S - 1) == 5.84
    assert kyushu.at(start + MARKET_SLOT_S) == 9.40
    assert kyushu.at(start + 366 * 86400 + MARKET_SLOT_S) == 9.40


def test_the_show_begins_before_a_cheap_noon_and_a_dear_evening(kyushu):
    day = kyushu.window(SHOW_START.timestamp(), 30)
    assert max(day[8:19]) <= 0.01
    assert max(day[23:27]) > 30.0


def test_a_typical_day_is_the_mean_of_the_same_slots_of_that_month(kyushu):
    noon = [
        price
        for index, price in enumerate(kyushu.per_kwh)
        if day_kind(kyushu.start_utc_s + index * MARKET_SLOT_S) == (5, True)
        and jst_hour(kyushu.start_utc_s + index * MARKET_SLOT_S) == 12.0
    ]
    assert kyushu.typical_day(5, weekend=True)[24] == pytest.approx(sum(noon) / len(noon))
    assert len(noon) == 8


def test_a_price_file_with_a_hole_is_refused():
    rows = [
        {"slot_start_utc": "2023-03-31T15:00:00Z", "tokyo_jpy_per_kwh": "1"},
        {"slot_start_utc": "2023-03-31T16:00:00Z", "tokyo_jpy_per_kwh": "2"},
    ]
    with pytest.raises(ValueError, match="3600 s later"):
        parse_jepx(rows, "tokyo")


def test_the_fast_clock_passes_half_an_hour_of_the_market_in_two_seconds():
    clock = MarketClock(1_700_000_000, int(SHOW_START.timestamp()), slot_s=2)
    assert clock.factor == 900
    assert clock.market_s(1_700_000_003) - SHOW_START.timestamp() == 2700
    assert clock.slot_start(1_700_000_003.9) == 1_700_000_002
    assert clock.market_text(1_700_000_002) == "Thu 21 Mar 06:30"
    assert SHOW_START.tzinfo is JST


def test_the_hour_in_japan_is_nine_hours_ahead_of_utc():
    assert jst_hour(0.0) == 9.0
    assert jst_hour(16 * 3600.0) == 1.0
