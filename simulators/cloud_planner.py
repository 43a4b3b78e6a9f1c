"""The cloud's planning desk: what it forecasts, what it has sold, and the plans that come of both.

Powers are kW toward the grid. Real slots of `slot_s` seconds stand for half-hours of the market (`MarketClock`);
energies are those of the market: half an hour of the planned power.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from simulators.cloud_messages import PlanDocument
from simulators.market import MARKET_SLOT_S, SLOTS_PER_DAY, MarketClock, SpotPrices, day_kind, jst_hour
from simulators.optimiser import BatteryModel, Connection, Problem, Schedule, optimise

ROLLING_SLOTS = 96
"""48 hours of the market."""
YEARLY_SLOTS = 365 * SLOTS_PER_DAY
MARKET_SLOT_H = MARKET_SLOT_S / 3600.0
REMEMBERED_SLOTS = 24
"""What was sold stays known for so long, to carry an old SoC forward."""
TYPICAL_MIDNIGHT_SOC_PCT = 40.0
"""Where a typical day of the yearly plan begins and ends."""
CLEAR_SKY_SHARE = 0.8
"""Forecast PV power at noon over the peak power."""


@dataclass(frozen=True, slots=True)
class SiteModel:
    """What the cloud knows; `battery` may be smaller than the real one, to leave room for forecast errors."""

    site_id: str
    battery: BatteryModel
    connection: Connection
    pv_peak_kw: float = 0.0
    load_base_kw: float = 0.0
    initial_soc_pct: float = 50.0
    """Assumed until the first telemetry."""


def forecast_pv_kw(site: SiteModel, market_s: float) -> float:
    """A clear day from 06:00 to 18:00 in Japan: half a sine."""
    height = math.sin((jst_hour(market_s) - 6.0) / 12.0 * math.pi)
    return site.pv_peak_kw * CLEAR_SKY_SHARE * max(0.0, height)


def forecast_load_kw(site: SiteModel, market_s: float) -> float:
    """<= 0: a base, and 40 % more in working hours."""
    return -site.load_base_kw * (1.4 if 8.0 <= jst_hour(market_s) < 18.0 else 1.0)


@dataclass(frozen=True, slots=True)
class SoldSlot:
    """One slot of a published plan."""

    grid_kw: float
    battery_kw: float
    soc_end_pct: float
    price: float


@dataclass(frozen=True, slots=True)
class MeasuredSoc:
    """The newest SoC that telemetry told, and when it was so: telemetry comes late."""

    soc_pct: float
    utc_s: float


class Planner:
    """Makes plan documents; what is sold for the present and the next slot stands (gate closure)."""

    def __init__(
        self,
        site: SiteModel,
        prices: SpotPrices,
        clock: MarketClock,
        first_version: int = 1,
        *,
        typical_days: dict[tuple[int, bool], list[SoldSlot]] | None = None,
    ) -> None:
        """Planners of sites that differ in nothing but their id may share `typical_days`."""
        self.site = site
        self.clock = clock
        self._prices = prices
        self._next_version = {"rolling": first_version, "yearly": first_version}
        self._sold: dict[int, SoldSlot] = {}
        self._yearly_span = (0, 0)
        self._typical_days = {} if typical_days is None else typical_days

    def expected_soc_pct(self, utc_s: float) -> float | None:
        """The SoC that the plan published last expects at the end of the slot that holds `utc_s`."""
        slot = self._sold.get(self.clock.slot_start(utc_s))
        return None if slot is None else slot.soc_end_pct

    def rolling(
        self, now_utc_s: float, soc: MeasuredSoc, first_utc_s: int | None = None, slots: int = ROLLING_SLOTS
    ) -> PlanDocument:
        """The next 48 h from the measured `soc`; `slots` fewer cut the document, not the outlook behind it.

        `first_utc_s` is the first slot of the very first plan; later ones begin with what is sold already.
        """
        slot_s = self.clock.slot_s
        now_slot = self.clock.slot_start(now_utc_s)
        free = now_slot + 2 * slot_s if first_utc_s is None else first_utc_s
        schedule, prices = self._schedule(free, self._projected_soc_pct(soc, free))
        planned = {start: slot for start, slot in self._sold.items() if start < free}
        for index in range(ROLLING_SLOTS):
            planned[free + index * slot_s] = SoldSlot(
                schedule.grid_kw[index], schedule.battery_kw[index], schedule.soc_end_pct[index], prices[index]
            )
        begin = min(start for start in planned if start >= now_slot)
        # Nothing is sold for a slot between a plan that ran out and `free`: null, the next layer decides.
        chosen = {start: planned.get(start) for start in range(begin, begin + slots * slot_s, slot_s)}
        remembered = now_slot - REMEMBERED_SLOTS * slot_s
        past = {start: slot for start, slot in self._sold.items() if remembered <= start < begin}
        self._sold = past | {start: slot for start, slot in chosen.items() if slot is not None}
        return self._document("rolling", now_utc_s, begin, list(chosen.values()))

    def yearly(self, now_utc_s: float, start_utc_s: int, slots: int = YEARLY_SLOTS) -> PlanDocument:
        """A year of typical days: the best schedule on mean prices, by month, working days and weekends apart."""
        starts = range(start_utc_s, start_utc_s + slots * self.clock.slot_s, self.clock.slot_s)
        document = self._document("yearly", now_utc_s, start_utc_s, [self._typical_slot(start) for start in starts])
        self._yearly_span = (document.start_utc_s, document.end_utc_s)
        return document

    def _typical_slot(self, start_utc_s: int) -> SoldSlot:
        market_s = self.clock.market_s(start_utc_s)
        kind = day_kind(market_s)
        if kind not in self._typical_days:
            self._typical_days[kind] = self._typical_day(*kind)
        return self._typical_days[kind][int(jst_hour(market_s) * 2)]

    def _in_force(self, start_utc_s: int) -> SoldSlot | None:
        """What the site does in that slot, as far as the cloud knows: the rolling plan, else the yearly one."""
        begin, end = self._yearly_span
        yearly = self._typical_slot(start_utc_s) if begin <= start_utc_s < end else None
        return self._sold.get(start_utc_s, yearly)

    def _projected_soc_pct(self, soc: MeasuredSoc, until_utc_s: int) -> float:
        """The SoC at `until_utc_s`, when the plans in force have been executed since it was measured."""
        battery, slot_s, soc_pct = self.site.battery, self.clock.slot_s, soc.soc_pct
        oldest = until_utc_s - REMEMBERED_SLOTS * slot_s
        for start in range(max(self.clock.slot_start(soc.utc_s), oldest), until_utc_s, slot_s):
            slot = self._in_force(start)
            if slot is None:
                continue
            share = min(1.0, (start + slot_s - soc.utc_s) / slot_s)
            efficiency = battery.charge_efficiency if slot.battery_kw < 0 else 1.0 / battery.discharge_efficiency
            soc_pct -= 100.0 * slot.battery_kw * efficiency * MARKET_SLOT_H * share / battery.capacity_kwh
        return min(100.0, max(0.0, soc_pct))

    def _schedule(self, start_utc_s: int, soc_pct: float) -> tuple[Schedule, list[float]]:
        market_s = self.clock.market_s(start_utc_s)
        prices = self._prices.window(market_s, ROLLING_SLOTS)
        problem = self._problem(prices, market_s, soc_pct, soc_final_pct=50.0)
        return optimise(problem, self.site.battery, self.site.connection), prices

    def _typical_day(self, month: int, weekend: bool) -> list[SoldSlot]:
        prices = self._prices.typical_day(month, weekend)
        midnight_jst_s = -9 * 3600.0
        soc = TYPICAL_MIDNIGHT_SOC_PCT
        day = optimise(
            self._problem(prices, midnight_jst_s, soc, soc_final_pct=soc), self.site.battery, self.site.connection
        )
        return [SoldSlot(*slot) for slot in zip(day.grid_kw, day.battery_kw, day.soc_end_pct, prices, strict=True)]

    def _problem(self, prices: list[float], market_s: float, soc_pct: float, soc_final_pct: float) -> Problem:
        middles = [market_s + (index + 0.5) * MARKET_SLOT_S for index in range(len(prices))]
        return Problem(
            prices,
            MARKET_SLOT_H,
            soc_pct,
            [forecast_pv_kw(self.site, middle) for middle in middles],
            [forecast_load_kw(self.site, middle) for middle in middles],
            soc_final_pct,
        )

    def _document(
        self, kind: str, now_utc_s: float, start_utc_s: int, slots: Sequence[SoldSlot | None]
    ) -> PlanDocument:
        version = self._next_version[kind]
        self._next_version[kind] += 1
        return PlanDocument(
            kind,
            version,
            now_utc_s,
            start_utc_s,
            self.clock.slot_s,
            [None if slot is None else slot.grid_kw for slot in slots],
            [None if slot is None else slot.soc_end_pct for slot in slots],
            [None if slot is None else slot.price for slot in slots],
        )
