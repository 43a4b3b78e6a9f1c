"""What a scenario is: the site, the days, the truth behind what the site is told, and the series that drive it.

The CSV forms are those of the bundled data; a file may be gzipped (`.gz`). A file that cannot be used is refused with
its name, line and column. Powers are W toward the grid, prices per kWh, times Unix seconds.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

from agent.core.awards import NO_AWARDS, AwardBook, book
from agent.core.droop_products import PRODUCTS
from agent.core.orders import Award, Direction
from agent.core.plan import Target
from agent.core.rules import SiteRules

MINUTES_PER_DAY = 1440
SECONDS_PER_DAY = 86_400
START_MONO_S = 1_000.0
START_SOC_PCT = 50.0
MAX_PRICE = 100_000.0
"""No market's price per kWh is beyond this, either way."""
MAX_IRRADIANCE_W_PER_M2 = 2_000.0
"""Above the largest cloud-edge irradiance ever measured on the ground (about 1900 W/m²)."""
MIN_FREQUENCY_HZ, MAX_FREQUENCY_HZ = 40.0, 70.0
PRICE_SLOTS_S = (300, 900, 1800, 3600)
DATA = Path(__file__).parent / "data"
DEFAULT_PRICES = DATA / "jepx_spot_fy2023.csv.gz"
DEFAULT_PRICE_COLUMN = "tokyo_jpy_per_kwh"
DEFAULT_IRRADIANCE = DATA / "irradiance_1min_day.csv"
DEFAULT_FREQUENCY = DATA / "grid_frequency_ce_day.csv.gz"
DEFAULT_FREQUENCY_HZ = 50.0
DEFAULT_AWARD_SHARE = 0.4
"""Of what the site can give and take: the rest is left to the energy market."""
"""Nominal frequency of that grid."""


class ScenarioRefusedError(ValueError):
    """The scenario cannot be run; the text names the file, line and column, or the option, and the reason."""


class Faults(StrEnum):
    """NONE: everything works. SWARM: a random subset of faults per run, drawn from the seed, each healed."""

    NONE = "none"
    SWARM = "swarm"


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices per kWh of equal slots from `start_utc_s` on; whole days of them repeat when the series ends."""

    start_utc_s: int
    slot_s: int
    per_kwh: tuple[float, ...]

    def at(self, utc_s: float) -> float:
        """The price of the slot that holds `utc_s`."""
        return self.per_kwh[int((utc_s - self.start_utc_s) // self.slot_s) % len(self.per_kwh)]

    def window(self, utc_s: float, slots: int, slot_s: int) -> list[float]:
        """The mean price of `slots` slots of `slot_s` seconds from `utc_s` on."""
        parts = max(1, slot_s // self.slot_s)
        starts = [utc_s + index * slot_s for index in range(slots)]
        if parts == 1:
            return [self.at(start) for start in starts]
        return [sum(self.at(start + part * self.slot_s) for part in range(parts)) / parts for start in starts]


@dataclass(frozen=True, slots=True)
class Truth:
    """How the real battery differs from what the site is told."""

    efficiency_factor: float = 1.0
    """True round-trip efficiency over the told one: 0.97 is 3 % worse."""
    capacity_factor: float = 1.0
    """True capacity over the told one."""
    soc_noise_pct: float = 0.0
    """Standard deviation of the SoC that the battery tells, around the true one."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the site file does not say about the site, because the agent need not know it."""

    capacity_wh: float
    """Told capacity of each battery, in the order of the site file's ratings: per watt of rating it is the same."""
    pv_peak_w: float
    load_base_w: float
    lag_s: float = 2.0
    """Time constant with which the inverter follows its setpoint."""
    counter_wh: float = 10.0
    """Resolution of the meter's energy counters."""
    meter_noise_pct: float = 0.2
    """Standard deviation of the meter's power reading, % of the reading."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run; the same scenario gives the same run, tick by tick."""

    rules: SiteRules
    sizes: Sizes
    days: int
    seed: int
    prices: Prices
    irradiance_w_per_m2: tuple[float, ...]
    """One value per minute of the local day."""
    frequency_hz: tuple[float, ...] = ()
    """One value per second from midnight; empty: a random one around 50 Hz."""
    truth: Truth = Truth()
    target: Target = Target.BATTERY
    slot_s: int = 1800
    tick_s: float = 1.0
    start_utc_s: float = 0.0
    utc_offset_s: int = 9 * 3600
    """Local time of the market and of the sun, ahead of UTC."""
    outages: tuple[tuple[float, float], ...] = ()
    """Times `[start, end)` in seconds from the start of the run, in which the cloud is away."""
    faults: Faults = Faults.NONE
    wear_per_kwh: float = 1.0
    """What the cloud's optimiser reckons for wear, per kWh discharged."""
    awards: AwardBook = NO_AWARDS
    """Primary reserve that was sold; while one is in force the ticks are as short as it needs."""


def parse_outage(text: str) -> tuple[float, float]:
    """`START:HOURS`, both in hours from the start of the run, as seconds `[start, end)`."""
    parts = text.split(":")
    try:
        start_h, hours = (float(part) for part in parts)
    except ValueError:
        raise ScenarioRefusedError(f"--cloud-outage {text!r}: write START:HOURS, for example 240:72") from None
    if not (0 <= start_h < math.inf and 0 < hours < math.inf):
        raise ScenarioRefusedError(f"--cloud-outage {text!r}: START must be at least 0 and HOURS above 0")
    return start_h * 3600.0, (start_h + hours) * 3600.0


def parse_award(text: str, start_utc_s: float, number: int) -> Award:
    """`PRODUCT:KW:START:HOURS[:up|down]`, times in hours from the start of the run."""
    product, *numbers = text.split(":")
    shape = "write PRODUCT:KW:START:HOURS, with :up or :down for one direction, for example ce-fcr-offset:200:0:24"
    direction = Direction.BOTH
    if len(numbers) == 4:
        direction = chosen("--award, direction", numbers.pop(), Direction)
    try:
        power_kw, start_h, hours = (float(part) for part in numbers)
    except ValueError:
        raise ScenarioRefusedError(f"--award {text!r}: {shape}") from None
    if not (0 <= start_h < math.inf and 0 < hours < math.inf):
        raise ScenarioRefusedError(f"--award {text!r}: START must be at least 0 and HOURS above 0")
    begin_utc_s = start_utc_s + start_h * 3600.0
    return Award(f"award-{number}", product, begin_utc_s, begin_utc_s + hours * 3600.0, 1000.0 * power_kw, direction)


def award_by_default(rules: SiteRules, days: int) -> str:
    """An award for a frequency that nothing else answers: of the site's first product, else of EPRX primary."""
    names = [*sorted(rules.products), f"eprx-primary-online-{rules.nominal_hz:g}hz"]
    rated_w = min(sum(b.rated_discharge_w for b in rules.batteries), sum(b.rated_charge_w for b in rules.batteries))
    power_w = DEFAULT_AWARD_SHARE * min(rated_w, rules.export_limit_w, rules.import_limit_w)
    return f"{names[0]}:{power_w / 1000.0:g}:0:{24 * days}"


def sold(texts: Sequence[str], rules: SiteRules, start_utc_s: float) -> AwardBook:
    """The awards of these options; one that this site could not keep is refused with its reason."""
    tables = {**PRODUCTS, **rules.products}
    awards = [parse_award(text, start_utc_s, number) for number, text in enumerate(texts, 1)]
    found, refused = book(
        awards,
        tables,
        rated_discharge_w=sum(battery.rated_discharge_w for battery in rules.batteries),
        rated_charge_w=sum(battery.rated_charge_w for battery in rules.batteries),
        nominal_hz=rules.nominal_hz,
    )
    if refused:
        why = refused[0].detail
        if refused[0].reason == "unknown_product":
            why = f"there is no droop table of this name; known: {', '.join(sorted(tables))}"
        raise ScenarioRefusedError(f"--award {texts[refused[0].index]!r}: {why}")
    return found


def checked_frequency(path: Path, values: tuple[float, ...], nominal_hz: float) -> tuple[float, ...]:
    """The frequencies, when they are of a grid of `nominal_hz`."""
    mean_hz = sum(values) / len(values)
    if abs(mean_hz - nominal_hz) > 1.0:
        raise ScenarioRefusedError(f"{path}: its mean is {mean_hz:.2f} Hz, but the site is on {nominal_hz:g} Hz")
    return values


def read_prices(path: Path, column: str) -> Prices:
    """The prices in `column` of a file `slot_start_utc,<price columns>`."""
    starts: list[int] = []
    values: list[float] = []
    for line, row in _rows(path, ("slot_start_utc", column)):
        starts.append(_moment(path, line, row["slot_start_utc"]))
        values.append(_value(path, line, row, column, (-MAX_PRICE, MAX_PRICE)))
        if len(starts) < 2:
            continue
        step_s, first_s = starts[-1] - starts[-2], starts[1] - starts[0]
        if step_s != first_s or step_s not in PRICE_SLOTS_S:
            known = ", ".join(str(known_s // 60) for known_s in PRICE_SLOTS_S)
            why = f"is {step_s} s after the line before; slots must follow each other in steps of {known} min"
            raise ScenarioRefusedError(f"{path}: line {line}: slot_start_utc: {row['slot_start_utc']} {why}")
    if len(starts) < 2:
        raise ScenarioRefusedError(f"{path}: has {len(starts)} prices; at least a day of them is needed")
    slot_s = starts[1] - starts[0]
    whole = len(values) * slot_s // SECONDS_PER_DAY * SECONDS_PER_DAY // slot_s
    if not whole:
        raise ScenarioRefusedError(f"{path}: has {len(values)} prices; at least a whole day of them is needed")
    # Only whole days: the repeated series must keep the time of day.
    return Prices(starts[0], slot_s, tuple(values[:whole]))


def read_irradiance(path: Path) -> tuple[float, ...]:
    """1440 values, W/m², of a file `minute_of_day,ghi_w_per_m2`."""
    return _day(path, "minute_of_day", "ghi_w_per_m2", MINUTES_PER_DAY, (-20.0, MAX_IRRADIANCE_W_PER_M2))


def read_frequency(path: Path) -> tuple[float, ...]:
    """86400 values, Hz, of a file `second_of_day,frequency_hz`."""
    bounds = (MIN_FREQUENCY_HZ, MAX_FREQUENCY_HZ)
    return _day(path, "second_of_day", "frequency_hz", SECONDS_PER_DAY, bounds)


LONGEST_GAP = 5
"""So many missing lines in a row are bridged by a straight line; a longer gap refuses the file."""


def _day(path: Path, place_column: str, column: str, size: int, bounds: tuple[float, float]) -> tuple[float, ...]:
    values: list[float] = []
    for line, row in _rows(path, (place_column, column)):
        place = _value(path, line, row, place_column, (0, size - 1))
        gap = int(place) - len(values)
        if gap < 0 or place != int(place):
            raise ScenarioRefusedError(f"{path}: line {line}: {place_column}: {place:g} is out of order or not whole")
        if gap > LONGEST_GAP or (gap and not values):
            why = f"{gap} values are missing before it; at most {LONGEST_GAP} are bridged"
            raise ScenarioRefusedError(f"{path}: line {line}: {place_column}: {place:g}: {why}")
        value = _value(path, line, row, column, bounds)
        before = values[-1] if values else value
        values += [before + (value - before) * (step + 1) / (gap + 1) for step in range(gap)]
        values.append(value)
    missing = size - len(values)
    if missing > LONGEST_GAP:
        why = f"ends at {place_column} {len(values) - 1}; a day has {size} values, 0 to {size - 1}"
        raise ScenarioRefusedError(f"{path}: {why}")
    return tuple(values + [values[-1]] * missing)


def _rows(path: Path, needed: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and row; the header is checked for the columns `needed`."""
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except OSError as error:
        raise ScenarioRefusedError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (EOFError, UnicodeDecodeError) as error:
        raise ScenarioRefusedError(f"{path}: is not (gzipped) UTF-8 text: {error}") from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    header = reader.fieldnames or []
    for column in needed:
        if column not in header:
            raise ScenarioRefusedError(f"{path}: line 1: there is no column {column!r}; found: {', '.join(header)}")
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise ScenarioRefusedError(f"{path}: line {reader.line_num}: {error}") from error


def _value(path: Path, line: int, row: dict[str, str], column: str, bounds: tuple[float, float]) -> float:
    low, high = bounds
    text = row[column]
    try:
        value = float(text)
    except (TypeError, ValueError):
        raise ScenarioRefusedError(f"{path}: line {line}: {column}: {text!r} is not a number") from None
    if not low <= value <= high:
        raise ScenarioRefusedError(f"{path}: line {line}: {column}: {text} is not within {low:g} to {high:g}")
    return value


def _moment(path: Path, line: int, text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        why = f"{text!r} is not a time, for example 2023-04-01T00:30:00Z"
        raise ScenarioRefusedError(f"{path}: line {line}: slot_start_utc: {why}") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    utc_s = moment.timestamp()
    if utc_s % PRICE_SLOTS_S[0]:
        raise ScenarioRefusedError(f"{path}: line {line}: slot_start_utc: {text} is not on a slot edge")
    return int(utc_s)


def default_prices() -> Prices:
    """JEPX Tokyo, fiscal year 2023."""
    return read_prices(DEFAULT_PRICES, DEFAULT_PRICE_COLUMN)


def first_midnight(prices: Prices, utc_offset_s: int) -> float:
    """The first local midnight for which there is a price."""
    days = -(-(prices.start_utc_s + utc_offset_s) // SECONDS_PER_DAY)
    return float(days * SECONDS_PER_DAY - utc_offset_s)


def offset_s(timezone: str) -> int:
    """The zone's distance from UTC without daylight saving time: the days of a scenario all have 24 hours."""
    january = datetime(2023, 1, 1, tzinfo=UTC)
    offset = january.astimezone(ZoneInfo(timezone)).utcoffset()
    return int(offset.total_seconds()) if offset is not None else 0


def checked_slot_s(minutes: int | None, prices: Prices) -> int:
    """The length of plan slots: as asked, else that of the prices but at most half an hour."""
    if minutes is None:
        return min(1800, prices.slot_s)
    if minutes not in {5, 15, 30}:
        raise ScenarioRefusedError(f"--slot-minutes {minutes}: use 5, 15 or 30")
    return 60 * minutes


Choice = TypeVar("Choice", bound=StrEnum)


def chosen(option: str, text: str, choices: type[Choice]) -> Choice:
    """The one of `choices` that `text` names."""
    try:
        return choices(text)
    except ValueError:
        known = " or ".join(choices)
        raise ScenarioRefusedError(f"{option} {text!r}: use {known}") from None
