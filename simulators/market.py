"""The market of the demo: real JEPX day-ahead prices, and a clock that runs faster than real time.

Market times are Unix seconds of the market's own calendar; real times are Unix seconds of this machine.
Prices are JPY/kWh.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import cached_property
from importlib.resources import files
from itertools import pairwise
from statistics import fmean

MARKET_SLOT_S = 1800
"""A JEPX product is half an hour."""
SLOTS_PER_DAY = 48
JST = timezone(timedelta(hours=9), "JST")
"""Japan has no daylight saving time."""

SHOW_START = datetime(2024, 3, 21, 6, 0, tzinfo=JST)
"""Kyushu on a sunny spring day: 17 to 18 JPY/kWh for breakfast, 0.01 from 09:30 to 16:00, 36 at 18:00."""


@dataclass(frozen=True)
class SpotPrices:
    """Half-hourly prices of one area from `start_utc_s` on; after the last one they begin again."""

    start_utc_s: int
    per_kwh: tuple[float, ...]

    def at(self, market_utc_s: float) -> float:
        """The price of the half-hour that holds `market_utc_s`."""
        index = int((market_utc_s - self.start_utc_s) // MARKET_SLOT_S)
        return self.per_kwh[index % len(self.per_kwh)]

    def window(self, market_utc_s: float, slots: int) -> list[float]:
        """The prices of `slots` half-hours from the one that holds `market_utc_s`."""
        return [self.at(market_utc_s + index * MARKET_SLOT_S) for index in range(slots)]

    @cached_property
    def _typical(self) -> dict[tuple[int, bool], list[float]]:
        seen: dict[tuple[int, bool, int], list[float]] = defaultdict(list)
        for index, price in enumerate(self.per_kwh):
            seen[*day_kind(self.start_utc_s + index * MARKET_SLOT_S), _slot_of_day(self.start_utc_s, index)].append(
                price
            )
        kinds = {(month, weekend) for month, weekend, _ in seen}
        return {kind: [fmean(seen[*kind, slot]) for slot in range(SLOTS_PER_DAY)] for kind in kinds}

    def typical_day(self, month: int, weekend: bool) -> list[float]:
        """48 mean prices from midnight JST for the days of that month that are (not) on a weekend."""
        return self._typical[month, weekend]


def day_kind(market_utc_s: float) -> tuple[int, bool]:
    """The month (1 to 12) and whether it is a weekend, in Japan."""
    local = datetime.fromtimestamp(market_utc_s, JST)
    return local.month, local.weekday() >= 5


def jst_hour(market_utc_s: float) -> float:
    """The hour of the day in Japan, 0 to below 24."""
    return (market_utc_s / 3600.0 + 9.0) % 24.0


def _slot_of_day(start_utc_s: int, index: int) -> int:
    return int(jst_hour(start_utc_s + index * MARKET_SLOT_S) * 2)


def load_jepx(area: str = "kyushu") -> SpotPrices:
    """FY2023 prices of `area` (system, tokyo or kyushu) from the data in this package."""
    packed = files("simulators").joinpath("data/jepx_spot_fy2023.csv.gz").read_bytes()
    return parse_jepx(csv.DictReader(io.StringIO(gzip.decompress(packed).decode("ascii"))), area)


def parse_jepx(rows: Iterable[dict[str, str]], area: str) -> SpotPrices:
    """The prices of `area`; raises ValueError when the half-hours are not contiguous."""
    starts: list[int] = []
    prices: list[float] = []
    for row in rows:
        starts.append(int(datetime.fromisoformat(row["slot_start_utc"]).timestamp()))
        prices.append(float(row[f"{area}_jpy_per_kwh"]))
    for before, after in pairwise(starts):
        if after - before != MARKET_SLOT_S:
            hole = datetime.fromtimestamp(before, UTC).isoformat()
            raise ValueError(
                f"the price after {hole} is {after - before} s later, not {MARKET_SLOT_S}: repair the file"
            )
    return SpotPrices(starts[0], tuple(prices))


def half_hours(start_utc_s: int, slot_s: int, per_kwh: Sequence[float]) -> SpotPrices:
    """Prices of slots of 5, 15, 30 or 60 min as those of half-hours: their mean, or each one twice."""
    if slot_s > MARKET_SLOT_S:
        return SpotPrices(start_utc_s, tuple(price for price in per_kwh for _ in range(slot_s // MARKET_SLOT_S)))
    each = MARKET_SLOT_S // slot_s
    means = (fmean(per_kwh[first : first + each]) for first in range(0, len(per_kwh) // each * each, each))
    return SpotPrices(start_utc_s, tuple(means))


@dataclass(frozen=True, slots=True)
class MarketClock:
    """Maps real time to market time: `slot_s` real seconds are one half-hour of the market."""

    epoch_utc_s: int
    """Real time at which the market stands at `epoch_market_s`; a whole multiple of `slot_s`."""
    epoch_market_s: int
    slot_s: int = 2

    def __post_init__(self) -> None:
        """Slots lie on the contract's grid: their starts are whole multiples of `slot_s`."""
        assert 1 <= self.slot_s <= MARKET_SLOT_S
        assert self.epoch_utc_s % self.slot_s == 0
        assert self.epoch_market_s % MARKET_SLOT_S == 0

    @property
    def factor(self) -> float:
        """How many times faster than real time the market runs."""
        return MARKET_SLOT_S / self.slot_s

    def market_s(self, utc_s: float) -> float:
        """Market time at the real time `utc_s`."""
        return self.epoch_market_s + (utc_s - self.epoch_utc_s) * self.factor

    def slot_start(self, utc_s: float) -> int:
        """Real start of the slot that holds the real time `utc_s`."""
        return int(utc_s // self.slot_s) * self.slot_s

    def market_text(self, utc_s: float) -> str:
        """Market day and time for people, in Japan."""
        return datetime.fromtimestamp(self.market_s(utc_s), JST).strftime("%a %d %b %H:%M")
