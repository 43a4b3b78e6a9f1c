"""What the runner reads: good files, and bad ones named by file, line and column."""

from __future__ import annotations

import gzip

import pytest

from simulators.scenario import (
    DEFAULT_PRICES,
    ScenarioRefusedError,
    parse_outage,
    read_frequency,
    read_irradiance,
    read_prices,
)

HEADER = "slot_start_utc,tokyo\n"


def prices_file(folder, *rows):
    path = folder / "prices.csv"
    path.write_text(HEADER + "".join(f"{row}\n" for row in rows))
    return path


def half_hours(count, price="10.0"):
    return [f"2024-01-{1 + n // 48:02}T{n // 2 % 24:02}:{n % 2 * 30:02}:00Z,{price}" for n in range(count)]


def test_the_bundled_year_has_a_price_for_every_half_hour():
    prices = read_prices(DEFAULT_PRICES, "tokyo_jpy_per_kwh")
    assert (len(prices.per_kwh), prices.slot_s, prices.per_kwh[:2]) == (17568, 1800, (14.68, 13.99))


def test_a_file_shorter_than_the_run_begins_again_with_its_first_day(tmp_path):
    rows = half_hours(48)
    rows[0] = rows[0].replace("10.0", "99.0")
    prices = read_prices(prices_file(tmp_path, *rows), "tokyo")
    assert prices.at(prices.start_utc_s + 86_400) == 99.0


def test_a_day_that_was_cut_off_is_left_out_so_that_the_time_of_day_stays_right(tmp_path):
    assert len(read_prices(prices_file(tmp_path, *half_hours(60)), "tokyo").per_kwh) == 48


def test_a_plan_slot_of_half_an_hour_sees_the_mean_of_its_shorter_prices(tmp_path):
    rows = [f"2024-01-01T{n // 4:02}:{n % 4 * 15:02}:00Z,{n % 2}" for n in range(96)]
    prices = read_prices(prices_file(tmp_path, *rows), "tokyo")
    assert prices.window(prices.start_utc_s, 2, 1800) == [0.5, 0.5]


@pytest.mark.parametrize(
    ("line", "row", "told"),
    [
        (5, "2024-01-01T01:30:00Z,cheap", "line 5: tokyo: 'cheap' is not a number"),
        (5, "2024-01-01T01:30:00Z,nan", "line 5: tokyo: nan is not within"),
        (5, "2024-01-01T01:30:00Z", "line 5: tokyo: None is not a number"),
        (5, "yesterday,1.0", "line 5: slot_start_utc: 'yesterday' is not a time"),
        (5, "2024-01-01T02:00:00Z,1.0", "line 5: slot_start_utc: 2024-01-01T02:00:00Z is 3600 s after"),
        (5, "2024-01-01T01:31:00Z,1.0", "line 5: slot_start_utc: 2024-01-01T01:31:00Z is not on a slot edge"),
    ],
)
def test_a_bad_price_is_named_by_file_line_and_column(tmp_path, line, row, told):
    rows = half_hours(48)
    rows[line - 2] = row
    path = prices_file(tmp_path, *rows)
    with pytest.raises(ScenarioRefusedError) as refused:
        read_prices(path, "tokyo")
    assert str(refused.value).startswith(f"{path}: {told}")


def test_a_column_that_is_not_there_is_told_with_those_that_are(tmp_path):
    with pytest.raises(ScenarioRefusedError, match=r"line 1: there is no column 'osaka'; found: slot_start_utc, tokyo"):
        read_prices(prices_file(tmp_path, *half_hours(48)), "osaka")


def test_a_file_that_is_not_there_or_is_no_gzip_is_told(tmp_path):
    with pytest.raises(ScenarioRefusedError, match="cannot be read"):
        read_prices(tmp_path / "none.csv", "tokyo")
    (tmp_path / "bad.csv.gz").write_bytes(b"hello")
    with pytest.raises(ScenarioRefusedError, match=r"bad\.csv\.gz"):
        read_prices(tmp_path / "bad.csv.gz", "tokyo")


def irradiance_file(folder, minutes):
    path = folder / "sun.csv.gz"
    text = "minute_of_day,ghi_w_per_m2\n" + "".join(f"{minute},{minute % 7}\n" for minute in minutes)
    path.write_bytes(gzip.compress(text.encode()))
    return path


def test_a_short_gap_in_the_sun_is_bridged_and_a_long_one_refused(tmp_path):
    day = [minute for minute in range(1440) if minute not in (15, 16)]
    values = read_irradiance(irradiance_file(tmp_path, day))
    assert (len(values), values[14:18]) == (1440, (0.0, 1.0, 2.0, 3.0))
    gap = [minute for minute in range(1440) if not 100 <= minute < 110]
    with pytest.raises(ScenarioRefusedError, match=r"line 102: minute_of_day: 110: 10 values are missing"):
        read_irradiance(irradiance_file(tmp_path, gap))
    with pytest.raises(ScenarioRefusedError, match="ends at minute_of_day 799"):
        read_irradiance(irradiance_file(tmp_path, range(800)))


def test_a_frequency_that_cannot_be_one_is_refused(tmp_path):
    path = tmp_path / "hz.csv"
    path.write_text("second_of_day,frequency_hz\n0,50.01\n1,499.9\n")
    with pytest.raises(ScenarioRefusedError, match=r"line 3: frequency_hz: 499.9 is not within 40 to 70"):
        read_frequency(path)


def test_an_outage_is_start_and_hours():
    assert parse_outage("240:72") == (864_000.0, 1_123_200.0)
    for text in ("240", "a:b", "-1:5", "1:0", "1:2:3", "nan:1"):
        with pytest.raises(ScenarioRefusedError, match="--cloud-outage"):
            parse_outage(text)
