"""The cloud of a scenario: it plans by its own model with the prices it may know; and the optima to compare with.

Prices of a local day are known from 10:15 on the day before (JEPX day-ahead results); beyond, the forecast is the mean
of the same slot on the latest `FORECAST_DAYS` known days. Sun and load are forecast as typical days. Powers are W
toward the grid, times Unix seconds.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean

from agent.core.plan import Plan, PlanKind, Target
from agent.core.reserve import energy_kept_wh, power_kept_w
from agent.core.rules import BatteryRules
from simulators.battery import Battery, BatteryConfig
from simulators.optimiser import BatteryModel, Connection, Problem, Schedule, optimise
from simulators.plant import OFFICE_DAY_SHAPE
from simulators.scenario import SECONDS_PER_DAY, Scenario
from simulators.scenario_plant import (
    RESISTIVE_LOSS_PCT,
    STANDBY_SHARE,
    TYPICAL_LOAD_SHARE,
    Series,
    load_series,
    one_way_efficiency,
    pv_series,
    total_rated_w,
)

PUBLISHED_S = 10.25 * 3600.0
"""Local time of day at which the next day's prices are known."""
FORECAST_DAYS = 5
HORIZON_S = 48 * 3600
REPLAN_EVERY_S = 1800
LEAD_S = 60.0
"""The cloud sends its new plan this long before the slot with which it begins."""
CLOUDY_SHARE = 0.4
"""Forecast PV power at noon over the peak power."""
HEADROOM_SHARE = 0.5
"""With a target at the connection point the plan leaves this share of the PV peak of the rating for clouds..."""
HEADROOM_SOC_PCT = 10.0
"""...and so much of the SoC band at either end, since it must buffer what the forecast of sun and load gets wrong."""
FINAL_SOC_PCT = 50.0
TYPICAL_MIDNIGHT_SOC_PCT = 40.0
YEARLY_DAYS = 365
EXECUTION_STEP_S = 60.0


Values = tuple[float | None, ...]
PlannedSlots = tuple[Values, Values | None, Values | None]
"""Power in W, expected SoC in %, and price, by slot."""


class PriceKnowledge:
    """What may be known of the prices at any time."""

    def __init__(self, scenario: Scenario) -> None:
        self._prices = scenario.prices
        self._slot_s = scenario.slot_s
        self._offset_s = scenario.utc_offset_s
        self._known_until = -math.inf
        """The forecasts below hold for this."""
        self._forecast: dict[float, float] = {}

    def known_until(self, now_utc_s: float) -> float:
        """The end of the last day whose prices are known."""
        local_s = now_utc_s + self._offset_s
        days = local_s // SECONDS_PER_DAY + (2 if local_s % SECONDS_PER_DAY >= PUBLISHED_S else 1)
        return days * SECONDS_PER_DAY - self._offset_s

    def window(self, now_utc_s: float, start_utc_s: float, slots: int) -> list[float]:
        """Known prices, then forecast ones, of `slots` slots from `start_utc_s`."""
        until = self.known_until(now_utc_s)
        if until != self._known_until:
            self._known_until = until
            self._forecast.clear()
        known = max(0, min(slots, math.ceil((until - start_utc_s) / self._slot_s)))
        prices = self._prices.window(start_utc_s, known, self._slot_s)
        return prices + [self._expected(start_utc_s + index * self._slot_s) for index in range(known, slots)]

    def _expected(self, start_utc_s: float) -> float:
        price = self._forecast.get(start_utc_s)
        if price is None:
            back = math.floor((start_utc_s - self._known_until) / SECONDS_PER_DAY) + 1
            days = [start_utc_s - (back + day) * SECONDS_PER_DAY for day in range(FORECAST_DAYS)]
            price = fmean(self._prices.window(day, 1, self._slot_s)[0] for day in days)
            self._forecast[start_utc_s] = price
        return price


def told_model(scenario: Scenario, capacity_factor: float = 1.0, efficiency_factor: float = 1.0) -> BatteryModel:
    """All batteries as one, as the site is told, or with the truth's factors."""
    rules = scenario.rules
    charge_w = sum(battery.rated_charge_w for battery in rules.batteries)
    discharge_w = sum(battery.rated_discharge_w for battery in rules.batteries)
    buffers = scenario.target is Target.GRID and not rules.battery_alone
    headroom_w = HEADROOM_SHARE * scenario.sizes.pv_peak_w if buffers else 0.0
    headroom_pct = HEADROOM_SOC_PCT if buffers else 0.0
    one_way = rules.batteries[0].one_way_efficiency * math.sqrt(efficiency_factor)
    capacity_wh = scenario.sizes.capacity_wh * capacity_factor
    power_w, energy_wh = kept_for_awards(scenario)
    give_pct, take_pct = (100.0 * wh / capacity_wh for wh in (energy_wh[0] / one_way, energy_wh[1] * one_way))
    return BatteryModel(
        capacity_kwh=capacity_wh / 1000.0,
        charge_kw=max(0.2 * charge_w, charge_w - headroom_w - power_w[1]) / 1000.0,
        discharge_kw=max(0.2 * discharge_w, discharge_w - headroom_w - power_w[0]) / 1000.0,
        charge_efficiency=one_way,
        discharge_efficiency=one_way,
        soc_min_pct=max(_floor_pct(battery) for battery in rules.batteries) + headroom_pct + give_pct,
        soc_max_pct=min(battery.soc_max_pct for battery in rules.batteries) - headroom_pct - take_pct,
        cycle_cost_per_kwh=scenario.wear_per_kwh,
    )


def _floor_pct(battery: BatteryRules) -> float:
    """What the site never discharges below by plan: its window, and what it keeps for outages of the grid."""
    return max(battery.soc_min_pct, battery.limits.reserve_pct or 0.0)


def kept_for_awards(scenario: Scenario) -> tuple[tuple[float, float], tuple[float, float]]:
    """Power (up, down) and energy (to give, to take) that the cloud leaves free all the time: the most ever sold."""
    spans = scenario.awards.spans
    powers, energies = [power_kept_w(lines) for lines in spans], [energy_kept_wh(lines, 0.0) for lines in spans]
    return (
        (max(up for up, _ in powers), max(down for _, down in powers)),
        (max(give for give, _ in energies), max(take for _, take in energies)),
    )


def true_model(scenario: Scenario) -> BatteryModel:
    """All batteries as one, as they really are."""
    return told_model(scenario, scenario.truth.capacity_factor, scenario.truth.efficiency_factor)


class Desk:
    """Plans the coming 48 h for one belief about the battery."""

    def __init__(self, scenario: Scenario, battery: BatteryModel) -> None:
        self.scenario = scenario
        self.battery = battery
        self.knowledge = PriceKnowledge(scenario)
        self._connection = Connection(scenario.rules.export_limit_w / 1000.0, scenario.rules.import_limit_w / 1000.0)
        self._slots = HORIZON_S // scenario.slot_s
        per_day = SECONDS_PER_DAY // scenario.slot_s
        middles = [((index + 0.5) * scenario.slot_s) / 3600.0 for index in range(per_day)]
        self._pv_kw = [self._forecast_pv_kw(hour) for hour in middles]
        self._load_kw = [self._forecast_load_kw(hour) for hour in middles]

    def schedule(self, now_utc_s: float, start_utc_s: float, soc_pct: float) -> Schedule:
        """The best schedule from `start_utc_s`, by what is known and forecast at `now_utc_s`."""
        return self.best(self.knowledge.window(now_utc_s, start_utc_s, self._slots), start_utc_s, soc_pct)

    def best(
        self,
        prices: list[float],
        start_utc_s: float,
        soc_pct: float,
        final_pct: float = FINAL_SOC_PCT,
        final_price: float | None = None,
    ) -> Schedule:
        """The best schedule on `prices`; a kWh more or less than `final_pct` costs `final_price`, or their mean."""
        slot_s = self.scenario.slot_s
        first = int((start_utc_s + self.scenario.utc_offset_s) % SECONDS_PER_DAY // slot_s)
        per_day = len(self._pv_kw)
        places = [(first + index) % per_day for index in range(len(prices))]
        pv_kw, load_kw = [self._pv_kw[place] for place in places], [self._load_kw[place] for place in places]
        worth = max(fmean(prices), 0.0) if final_price is None else final_price
        problem = Problem(prices, slot_s / 3600.0, soc_pct, pv_kw, load_kw, final_pct, worth)
        return optimise(problem, self.battery, self._connection)

    def _forecast_pv_kw(self, hour: float) -> float:
        if not self.scenario.rules.pv_ids:
            return 0.0
        height = math.sin((hour - 6.0) / 12.0 * math.pi)
        return self.scenario.sizes.pv_peak_w / 1000.0 * CLOUDY_SHARE * max(0.0, height)

    def _forecast_load_kw(self, hour: float) -> float:
        if not self.scenario.rules.has_load:
            return 0.0
        return -self.scenario.sizes.load_base_w / 1000.0 * OFFICE_DAY_SHAPE[int(hour) % 24]


class Cloud:
    """Makes the plan documents of a run, already parsed."""

    def __init__(self, scenario: Scenario, *, open_loop: bool = False) -> None:
        """`open_loop`: what is meant for the connection point is sent as power of the battery, by the forecast."""
        self._scenario = scenario
        self._sent_target = Target.BATTERY if open_loop else scenario.target
        self.promised: dict[float, float] = {}
        """Power promised at the scenario's target by slot start, W, of the newest plan."""
        self._desk = Desk(scenario, told_model(scenario))
        self._version = 0
        self._current: tuple[float, float] | None = None
        self._ahead: Plan | None = None

    def rolling(self, now_utc_s: float, soc_pct: float) -> Plan:
        """The plan sent at `now_utc_s`: the slot that runs stands, the next 48 h are planned anew."""
        scenario = self._scenario
        slot_s = scenario.slot_s
        start = (now_utc_s // slot_s + 1) * slot_s
        running = self._ahead.slot_at(now_utc_s) if self._ahead is not None else None
        if self._ahead is None:
            start -= slot_s  # the very first plan begins at once
        elif running is not None:
            soc_pct = self._carried(soc_pct, running.power_w, start - now_utc_s)
        schedule = self._desk.schedule(now_utc_s, start, soc_pct)
        power_kw = schedule.grid_kw if self._sent_target is Target.GRID else schedule.battery_kw
        promised_kw = schedule.grid_kw if scenario.target is Target.GRID else schedule.battery_kw
        before = {at: power_w for at, power_w in self.promised.items() if start - slot_s <= at < start}
        self.promised = before | {start + index * slot_s: 1000.0 * kw for index, kw in enumerate(promised_kw)}
        powers: list[float | None] = [1000.0 * value for value in power_kw]
        socs: list[float | None] = list(schedule.soc_end_pct)
        if running is not None:
            start = running.start_utc_s
            # The site takes no longer rolling plan than the horizon.
            powers = [running.power_w, *powers[:-1]]
            socs = [running.soc_end_pct, *socs[:-1]]
        self._version += 1
        known = self._desk.knowledge.window(now_utc_s, start, len(powers))
        slots = (tuple(powers), tuple(socs), tuple(known))
        self._ahead = self._document(PlanKind.ROLLING, now_utc_s, start, slots)
        return self._ahead

    def yearly(self, now_utc_s: float) -> Plan:
        """Typical days: the best schedule on the mean prices of month and kind of day."""
        scenario = self._scenario
        slot_s = scenario.slot_s
        start = now_utc_s // slot_s * slot_s
        days = min(YEARLY_DAYS, scenario.days + 3)
        typical = typical_days(scenario)
        desk = self._desk
        schedules: dict[tuple[int, bool], Schedule] = {}
        powers: list[float | None] = []
        socs: list[float | None] = []
        prices: list[float | None] = []
        for index in range(days * SECONDS_PER_DAY // slot_s):
            local_s = start + index * slot_s + scenario.utc_offset_s
            kind = kind_of_day(local_s)
            if kind not in schedules:
                midnight = -float(scenario.utc_offset_s)
                soc_pct = TYPICAL_MIDNIGHT_SOC_PCT
                schedules[kind] = desk.best(typical[kind], midnight, soc_pct, soc_pct)
            place = int(local_s % SECONDS_PER_DAY // slot_s)
            chosen = schedules[kind].grid_kw if self._sent_target is Target.GRID else schedules[kind].battery_kw
            powers.append(1000.0 * chosen[place])
            socs.append(schedules[kind].soc_end_pct[place])
            prices.append(typical[kind][place])
        return self._document(PlanKind.YEARLY, now_utc_s, start, (tuple(powers), tuple(socs), tuple(prices)))

    def _carried(self, soc_pct: float, power_w: float, seconds: float) -> float:
        battery = self._desk.battery
        if self._sent_target is Target.GRID:
            return soc_pct  # what PV and load leave to the battery is not known: a minute of it is ignored
        efficiency = battery.charge_efficiency if power_w < 0 else 1.0 / battery.discharge_efficiency
        return soc_pct - 100.0 * power_w / 1000.0 * efficiency * seconds / 3600.0 / battery.capacity_kwh

    def _document(self, kind: PlanKind, now_utc_s: float, start: float, slots: PlannedSlots) -> Plan:
        version = self._version if kind is PlanKind.ROLLING else 1
        name, slot_s, target = f"{kind}-{version}", self._scenario.slot_s, self._sent_target
        return Plan(kind, version, name, now_utc_s, start, slot_s, target, *slots)


def kind_of_day(local_s: float) -> tuple[int, bool]:
    """Twelfth of the year (0 to 11, of 30.4 days from 1 January 1970) and whether it is a weekend."""
    days = local_s // SECONDS_PER_DAY
    return int(days % 365.2425 // 30.44), (days + 3) % 7 >= 5


def typical_days(scenario: Scenario) -> dict[tuple[int, bool], list[float]]:
    """Mean prices of a day by kind, from the whole price file: what a year of experience would tell."""
    prices, slot_s, offset_s = scenario.prices, scenario.slot_s, scenario.utc_offset_s
    per_day = SECONDS_PER_DAY // slot_s
    seen: dict[tuple[int, bool], list[list[float]]] = defaultdict(list)
    count = len(prices.per_kwh) * prices.slot_s // SECONDS_PER_DAY
    first = -((-(prices.start_utc_s + offset_s)) // SECONDS_PER_DAY) * SECONDS_PER_DAY - offset_s
    for day in range(max(count, scenario.days + 4)):
        midnight = first + day * SECONDS_PER_DAY
        seen[kind_of_day(midnight + offset_s)].append(prices.window(midnight, per_day, slot_s))
    return {kind: [fmean(column) for column in zip(*days, strict=True)] for kind, days in seen.items()}


@dataclass(frozen=True, slots=True)
class Optimum:
    """What a reference earns with the true battery: money, energy, and what is left in the store."""

    revenue: float
    wear: float
    stored_change_wh: float


class Executor:
    """The true batteries as one, driven slot by slot without any agent: the physics of the references."""

    def __init__(self, scenario: Scenario, soc_pct: float) -> None:
        self._scenario = scenario
        self._rules = scenario.rules
        rated_w = total_rated_w(scenario)
        self._one_way = one_way_efficiency(scenario, scenario.rules.batteries[0])
        inverter_pct = 100.0 * (1.0 / self._one_way - 1.0) - RESISTIVE_LOSS_PCT * TYPICAL_LOAD_SHARE
        config = BatteryConfig(
            rated_discharge_w=sum(battery.rated_discharge_w for battery in scenario.rules.batteries),
            rated_charge_w=sum(battery.rated_charge_w for battery in scenario.rules.batteries),
            capacity_wh=scenario.sizes.capacity_wh * scenario.truth.capacity_factor,
            initial_soc_pct=soc_pct,
            resistive_loss_pct=RESISTIVE_LOSS_PCT,
            inverter_loss_pct=min(10.0, max(0.0, inverter_pct)),
            standby_loss_w=STANDBY_SHARE * rated_w,
            lag_s=0.0,
            thermal_mass_j_per_k=16.0 * rated_w,
            cooling_w_per_k=0.01 * rated_w,
        )
        self.battery = Battery(config)
        others = [pv_series(scenario)] if scenario.rules.pv_ids else []
        others += [load_series(scenario)] if scenario.rules.has_load else []
        self._others = Series(sum(others[1:], others[0])) if others else None

    def run_slot(self, start_utc_s: float, power_w: float) -> float:
        """Battery energy of the slot, Wh, with the power bounded to land inside the SoC band and the connection."""
        slot_s, battery = self._scenario.slot_s, self.battery
        power_w = self._bounded(power_w, start_utc_s)
        parts = math.ceil(slot_s / EXECUTION_STEP_S)
        return sum(battery.step(power_w, slot_s / parts) for _ in range(parts))

    def _bounded(self, power_w: float, start_utc_s: float) -> float:
        slot_s, capacity_wh = self._scenario.slot_s, self.battery.config.capacity_wh
        if self._others is not None:
            day_s = (start_utc_s + self._scenario.utc_offset_s) % SECONDS_PER_DAY
            others_w = self._others.total(day_s, day_s + slot_s) / slot_s
            power_w = min(max(power_w, -self._rules.import_limit_w - others_w), self._rules.export_limit_w - others_w)
        hours = slot_s / 3600.0
        low_wh = max(battery.soc_min_pct for battery in self._rules.batteries) / 100.0 * capacity_wh
        high_wh = min(battery.soc_max_pct for battery in self._rules.batteries) / 100.0 * capacity_wh
        most_w = max(0.0, self.battery.stored_wh - low_wh) * self._one_way / hours
        least_w = -max(0.0, high_wh - self.battery.stored_wh) / self._one_way / hours
        return min(max(power_w, least_w), most_w)


def informed(scenario: Scenario, soc_pct: float) -> Optimum:
    """The same rolling optimiser and price knowledge, told the true battery and its true SoC, executed exactly."""
    desk = Desk(scenario, true_model(scenario))
    executor = Executor(scenario, soc_pct)
    battery, slot_s = executor.battery, scenario.slot_s
    stored_wh, revenue = battery.stored_wh, 0.0
    schedule, planned_at = None, -math.inf
    for index in range(scenario.days * SECONDS_PER_DAY // slot_s):
        start = scenario.start_utc_s + index * slot_s
        if schedule is None or start - planned_at >= REPLAN_EVERY_S:
            schedule, planned_at = desk.schedule(start, start, battery.soc_pct), start
        energy_wh = executor.run_slot(start, 1000.0 * schedule.battery_kw[int((start - planned_at) // slot_s)])
        revenue += energy_wh / 1000.0 * scenario.prices.window(start, 1, slot_s)[0]
    wear = scenario.wear_per_kwh * battery.discharged_wh / 1000.0
    return Optimum(revenue, wear, battery.stored_wh - stored_wh)


def perfect_foresight(scenario: Scenario, soc_pct: float) -> Optimum:
    """One optimisation over the whole run with all prices known and the true battery, in the optimiser's own model."""
    count = scenario.days * SECONDS_PER_DAY // scenario.slot_s
    prices = scenario.prices.window(scenario.start_utc_s, count, scenario.slot_s)
    desk, model = Desk(scenario, true_model(scenario)), true_model(scenario)
    best = desk.best(prices, scenario.start_utc_s, soc_pct, soc_pct, fmean(scenario.prices.per_kwh))
    hours = scenario.slot_s / 3600.0
    wear = model.cycle_cost_per_kwh * hours * sum(max(0.0, power_kw) for power_kw in best.battery_kw)
    change_wh = (best.soc_end_pct[-1] - soc_pct) * 10.0 * model.capacity_kwh
    return Optimum(best.profit + wear, wear, change_wh)


def plain_execution(scenario: Scenario, plan: Plan, begin_s: float, end_s: float, soc_pct: float) -> Optimum:
    """What executing `plan` slot by slot earns from `begin_s` to `end_s` of the run, starting at `soc_pct`."""
    executor = Executor(scenario, soc_pct)
    battery, slot_s = executor.battery, scenario.slot_s
    stored_wh, revenue = battery.stored_wh, 0.0
    start = scenario.start_utc_s + math.ceil(begin_s / slot_s) * slot_s
    while start + slot_s <= scenario.start_utc_s + end_s:
        slot = plan.slot_at(start)
        energy_wh = executor.run_slot(start, slot.power_w if slot is not None else 0.0)
        revenue += energy_wh / 1000.0 * scenario.prices.window(start, 1, slot_s)[0]
        start += slot_s
    return Optimum(revenue, scenario.wear_per_kwh * battery.discharged_wh / 1000.0, battery.stored_wh - stored_wh)
