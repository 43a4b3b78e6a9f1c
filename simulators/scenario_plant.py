"""The true site of a scenario and its devices as the agent reads them: lag, noise, rounding of registers, dead-man.

The surroundings (sun, load, frequency) are computed once for a day of seconds; the batteries are the plant's own
physics. Energy between two instants is exact for the series, whatever the length of a tick.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.signal import lfilter

from agent.core.delegation import DroopWrite
from agent.core.rules import BatteryRules
from agent.core.snapshot import BatterySample, DroopOutcome, MeterSample, PvSample, Quality, Reading, WriteOutcome
from simulators.battery import SECONDS_PER_HOUR, Battery, BatteryConfig
from simulators.plant import OFFICE_DAY_SHAPE, STANDARD_IRRADIANCE_W_PER_M2
from simulators.scenario import SECONDS_PER_DAY, START_MONO_S, Scenario
from simulators.scenario_droop import OwnDroop
from simulators.scenario_pv import Inverters
from simulators.sunspec_devices import HEADROOM
from simulators.sunspec_image import MAX_INT16, finest_scale

PERFORMANCE_RATIO = 0.9
CLOUD_CORRELATION_S = 8.0
"""Faster than the minute of the irradiance file: a cloud's edge passes a field of some hundred metres in seconds."""
CLOUD_SHARE = 0.5
"""The synthesised part's standard deviation over the change between neighbouring minutes."""
LOAD_NOISE_PCT, LOAD_CORRELATION_S = 3.0, 20.0
FREQUENCY_NOISE_HZ, FREQUENCY_CORRELATION_S = 0.02, 60.0
SOC_CORRELATION_S = 600.0
"""The SoC's error wanders; it is not fresh at each reading."""
SOC_STEP_PCT = 0.01
RESISTIVE_LOSS_PCT = 1.0
TYPICAL_LOAD_SHARE = 0.8
"""The told efficiency holds at this share of the rating; losses in the resistance grow with power."""
STANDBY_SHARE = 0.0004
CONSTANT_REFRESH_S = 4.0
"""Ratings and capacity are read anew this often: well within the age at which a reading turns stale."""
MAX_SUBSTEP_SOC_PCT = 1.0


Values = np.ndarray[tuple[int], np.dtype[np.float64]]


def correlated(generator: np.random.Generator, size: int, correlation_s: float) -> Values:
    """Mean-reverting noise of unit variance, one value per second."""
    keep = math.exp(-1.0 / correlation_s)
    drawn = generator.standard_normal(size)
    filtered: Values = lfilter([math.sqrt(1.0 - keep * keep)], [1.0, -keep], drawn)
    return filtered


class Frequency(Protocol):
    """The frequency of the grid over the local day."""

    def at(self, second: float) -> float:
        """Hz at `second`."""


class Series:
    """A day of values, one per second, linear in between, repeated; knows its mean between any two instants."""

    def __init__(self, values: Values) -> None:
        assert len(values) == SECONDS_PER_DAY
        closed = np.append(values, values[0])
        cumulated = np.concatenate([[0.0], np.cumsum((closed[1:] + closed[:-1]) / 2.0)])
        self._values: list[float] = closed.tolist()
        self._cumulated: list[float] = cumulated.tolist()
        self._end = (0.0, 0.0)
        """The end of the last stretch that was asked for, and the integral to there: mostly the next one's begin."""

    def at(self, second: float) -> float:
        """The value at `second` of the day."""
        second %= SECONDS_PER_DAY
        index = int(second)
        first = self._values[index]
        return first + (second - index) * (self._values[index + 1] - first)

    def total(self, begin_s: float, end_s: float) -> float:
        """The integral (value times seconds) from `begin_s` to `end_s`."""
        before_s, before = self._end
        to_begin = before if begin_s == before_s else self._to(begin_s)
        to_end = self._to(end_s)
        self._end = (end_s, to_end)
        return to_end - to_begin

    def _to(self, second: float) -> float:
        days, second = divmod(second, SECONDS_PER_DAY)
        index = int(second)
        share = second - index
        first = self._values[index]
        slope = self._values[index + 1] - first
        return days * self._cumulated[-1] + self._cumulated[index] + share * (first + 0.5 * share * slope)


def pv_series(scenario: Scenario) -> Values:
    """PV power of a day, W: the minutes of the file, and faster clouds where the minutes differ."""
    minutes = np.asarray(scenario.irradiance_w_per_m2)
    seconds = np.arange(SECONDS_PER_DAY) / 60.0
    sun = np.interp(seconds, np.arange(len(minutes) + 1), np.append(minutes, minutes[0]))
    restless = np.interp(seconds, np.arange(len(minutes)), np.abs(np.diff(minutes, append=minutes[:1])))
    generator = np.random.default_rng([scenario.seed, 1])
    sun += CLOUD_SHARE * restless * correlated(generator, SECONDS_PER_DAY, CLOUD_CORRELATION_S)
    peak_w = scenario.sizes.pv_peak_w
    power = np.maximum(sun, 0.0) / STANDARD_IRRADIANCE_W_PER_M2 * PERFORMANCE_RATIO * peak_w
    bounded: Values = np.minimum(power, peak_w)
    return bounded


def load_series(scenario: Scenario) -> Values:
    """Load of a day, W, <= 0."""
    hours = np.arange(SECONDS_PER_DAY) / 3600.0
    shape = np.interp(hours, np.arange(25), np.append(OFFICE_DAY_SHAPE, OFFICE_DAY_SHAPE[0]))
    generator = np.random.default_rng([scenario.seed, 2])
    noise = 1.0 + LOAD_NOISE_PCT / 100.0 * correlated(generator, SECONDS_PER_DAY, LOAD_CORRELATION_S)
    load: Values = -scenario.sizes.load_base_w * shape * np.maximum(noise, 0.0)
    return load


def frequency_series(scenario: Scenario) -> Values:
    """Grid frequency of a day, Hz."""
    if scenario.frequency_hz:
        return np.asarray(scenario.frequency_hz)
    generator = np.random.default_rng([scenario.seed, 3])
    return scenario.rules.nominal_hz + FREQUENCY_NOISE_HZ * correlated(
        generator, SECONDS_PER_DAY, FREQUENCY_CORRELATION_S
    )


def true_config(scenario: Scenario, rules: BatteryRules, soc_pct: float) -> BatteryConfig:
    """The physics of one battery, as the scenario's truth has it."""
    rated_w = max(rules.rated_charge_w, rules.rated_discharge_w)
    told_wh = scenario.sizes.capacity_wh * rated_w / total_rated_w(scenario)
    one_way = one_way_efficiency(scenario, rules)
    inverter_pct = 100.0 * (1.0 / one_way - 1.0) - RESISTIVE_LOSS_PCT * TYPICAL_LOAD_SHARE
    return BatteryConfig(
        rated_discharge_w=rules.rated_discharge_w,
        rated_charge_w=rules.rated_charge_w,
        capacity_wh=told_wh * scenario.truth.capacity_factor,
        initial_soc_pct=soc_pct,
        resistive_loss_pct=RESISTIVE_LOSS_PCT,
        inverter_loss_pct=min(10.0, max(0.0, inverter_pct)),
        standby_loss_w=STANDBY_SHARE * rated_w,
        lag_s=scenario.sizes.lag_s,
        thermal_mass_j_per_k=16.0 * rated_w,
        cooling_w_per_k=0.01 * rated_w,
    )


def one_way_efficiency(scenario: Scenario, rules: BatteryRules) -> float:
    """True one-way efficiency at a typical power."""
    return rules.one_way_efficiency * math.sqrt(scenario.truth.efficiency_factor)


def total_rated_w(scenario: Scenario) -> float:
    """The batteries' ratings together, the larger direction of each."""
    return sum(max(rules.rated_charge_w, rules.rated_discharge_w) for rules in scenario.rules.batteries)


@dataclass(slots=True)
class BatteryTrouble:
    """What is wrong with one battery now; the fault injector sets it."""

    silent: bool = False
    sentinel: bool = False
    derate: float = 1.0
    soc_offset_pct: float = 0.0
    not_ready: bool = False
    refuses: bool = False


class BatteryDevice:
    """One battery with its inverter, and what its registers show."""

    def __init__(self, scenario: Scenario, rules: BatteryRules, soc_pct: float, soc_error: list[float]) -> None:
        self.rules = rules
        self.physics = Battery(true_config(scenario, rules, soc_pct))
        self.trouble = BatteryTrouble()
        self.setpoint_w: float | None = None
        rated_w = max(rules.rated_charge_w, rules.rated_discharge_w)
        self._told_wh = scenario.sizes.capacity_wh * rated_w / total_rated_w(scenario)
        self._longest_s = max(1.0, MAX_SUBSTEP_SOC_PCT * 36.0 * self._told_wh / rules.rated_discharge_w)
        """A longer time is passed in parts."""
        self._power_step_w = 10.0 ** finest_scale(HEADROOM * rated_w, MAX_INT16)
        self._dead_man_s = max(rules.dead_man_s, 3.0 * scenario.tick_s)
        self._revert_mono_s = math.inf
        self.droop: OwnDroop | None = None
        """Only where the site hands awards to it."""
        if rules.device_id in scenario.rules.delegated:
            self.droop = OwnDroop(rated_w, scenario.rules.nominal_hz, self._dead_man_s)
        self._soc_error = soc_error
        self._constants: tuple[Reading, Reading, Reading, Reading] | None = None
        self._last: BatterySample | None = None

    def soc_error_pct(self, second: float) -> float:
        """How far the SoC told is from the true one."""
        return self._soc_error[int(second) % len(self._soc_error)] + self.trouble.soc_offset_pct

    def advance(self, dt_s: float, mono_s: float, hz: float) -> float:
        """AC energy of the next `dt_s`, Wh, at this frequency; `mono_s` is the time at its begin."""
        if mono_s >= self._revert_mono_s and self.setpoint_w is not None:
            self.setpoint_w = 0.0
        trouble = self.trouble
        target_w = 0.0 if trouble.not_ready or self.setpoint_w is None else self.setpoint_w
        if self.droop is not None and not trouble.not_ready:
            target_w = self.droop.aimed_w(mono_s, hz, target_w, dt_s)
        if trouble.derate < 1.0:
            limit_w = trouble.derate * self.rules.rated_discharge_w
            target_w = max(-trouble.derate * self.rules.rated_charge_w, min(limit_w, target_w))
        if dt_s <= self._longest_s:
            return self.physics.step(target_w, dt_s)
        parts = math.ceil(dt_s / self._longest_s)
        return sum(self.physics.step(target_w, dt_s / parts) for _ in range(parts))

    def write(self, power_w: float, mono_s: float) -> WriteOutcome:
        """The outcome of a setpoint write that lands at `mono_s`: rounded toward zero, read back."""
        trouble = self.trouble
        if trouble.silent or trouble.refuses:
            reason = "no answer within the timeout" if trouble.silent else "refused with exception 4"
            return WriteOutcome(self.rules.device_id, power_w, None, False, reason, mono_s)
        self.setpoint_w = float(math.trunc(power_w))
        self._revert_mono_s = mono_s + self._dead_man_s
        return WriteOutcome(self.rules.device_id, power_w, self.setpoint_w, True, "", mono_s)

    def write_droop(self, write: DroopWrite, mono_s: float) -> DroopOutcome:
        """The outcome of a write of the device's own droop that lands at `mono_s`."""
        assert self.droop is not None, "nothing is handed to a battery that the site does not name"
        trouble = self.trouble
        why = (
            "no answer within the timeout" if trouble.silent else "refused with exception 4" if trouble.refuses else ""
        )
        return self.droop.write(write, mono_s, why)

    def sample(self, mono_s: float, second: float) -> BatterySample | None:
        """The registers read at `mono_s`; None when the device does not answer."""
        if self.trouble.silent:
            return None
        sample = self._sample(mono_s, second)
        return sample if self.droop is None else self.droop.shown(sample, mono_s)

    def _sample(self, mono_s: float, second: float) -> BatterySample:
        trouble = self.trouble
        physics = self.physics
        if self._constants is None or mono_s - self._constants[0].read_mono_s > CONSTANT_REFRESH_S:
            values = (self._told_wh, self.rules.rated_discharge_w, self.rules.rated_charge_w, 1.0)
            capacity, discharge, charge, ready = (Reading(value, mono_s) for value in values)
            self._constants = (capacity, discharge, charge, ready)
        capacity, discharge, charge, ready = self._constants
        step_w = self._power_step_w
        soc_pct = physics.soc_pct
        told_pct = min(100.0, max(0.0, soc_pct + self.soc_error_pct(second)))
        soc = Reading(round(told_pct / SOC_STEP_PCT) * SOC_STEP_PCT, mono_s)
        if trouble.sentinel:
            soc = Reading(None, mono_s, Quality.MISSING)
        live_discharge, live_charge = discharge, charge
        if trouble.derate < 1.0 or not 5.0 <= soc_pct <= 95.0 or physics.temperature_c > physics.config.derate_from_c:
            live_discharge = Reading(math.floor(physics.discharge_limit_w * trouble.derate / step_w) * step_w, mono_s)
            live_charge = Reading(math.floor(physics.charge_limit_w * trouble.derate / step_w) * step_w, mono_s)
        held = self.setpoint_w
        return BatterySample(
            self.rules.device_id,
            Reading(round(physics.power_w / step_w) * step_w, mono_s),
            soc,
            capacity,
            discharge,
            charge,
            live_discharge,
            live_charge,
            ready if not trouble.not_ready else Reading(0.0, mono_s),
            Reading(held, mono_s) if held is not None else Reading(None, mono_s, Quality.MISSING),
            True,
        )


class SitePlant:
    """The whole true site; `advance_to` moves it, `poll` reads it. Seconds count from the start of the run."""

    def __init__(self, scenario: Scenario, soc_pct: float = 50.0, frequency: Frequency | None = None) -> None:
        """`frequency` (by second of the local day) takes the place of the scenario's."""
        generator = np.random.default_rng([scenario.seed, 4])
        noise = scenario.truth.soc_noise_pct
        size = SECONDS_PER_DAY * max(1, min(scenario.days, 7)) if noise else 1
        self.devices = []
        for rules in scenario.rules.batteries:
            error = (noise * correlated(generator, size, SOC_CORRELATION_S)).tolist() if noise else [0.0]
            self.devices.append(BatteryDevice(scenario, rules, soc_pct, error))
        self.now_s = 0.0
        self.slowest_lag_s = max(device.physics.config.lag_s for device in self.devices)
        self._capacity_wh = sum(device.physics.config.capacity_wh for device in self.devices)
        self.inverters = Inverters(scenario.rules, scenario.tick_s)
        self.battery_wh = self.pv_wh = self.load_wh = 0.0
        self.export_wh = self.import_wh = 1_000_000.0
        self.meter_silent = False
        self.pv_silent = False
        self._day_s = (scenario.start_utc_s + scenario.utc_offset_s) % SECONDS_PER_DAY
        self._pv = Series(pv_series(scenario)) if scenario.rules.pv_ids else None
        self._load = Series(load_series(scenario)) if scenario.rules.has_load else None
        self._frequency = Series(frequency_series(scenario)) if frequency is None else frequency
        self._scenario = scenario
        self._random = random.Random(f"meter {scenario.seed}")
        largest_w = total_rated_w(scenario) + scenario.sizes.pv_peak_w + 1.5 * scenario.sizes.load_base_w
        self._meter_step_w = 10.0 ** finest_scale(largest_w, MAX_INT16, -1)
        self._pv_step_w = 10.0 ** finest_scale(HEADROOM * max(scenario.sizes.pv_peak_w, 1.0), MAX_INT16, -1)
        self._noise = scenario.sizes.meter_noise_pct / 100.0
        self._counter_wh = scenario.sizes.counter_wh

    @property
    def battery_w(self) -> float:
        """True battery power now."""
        return sum([device.physics.power_w for device in self.devices])

    @property
    def pv_w(self) -> float:
        """True PV power now."""
        return self.inverters.limited_w(self._sun_w, self.now_s)

    @property
    def _sun_w(self) -> float:
        """What PV would give without a ceiling."""
        return self._pv.at(self._day_s + self.now_s) if self._pv is not None else 0.0

    @property
    def load_w(self) -> float:
        """True load now, <= 0."""
        return self._load.at(self._day_s + self.now_s) if self._load is not None else 0.0

    @property
    def frequency_hz(self) -> float:
        """True frequency of the grid now."""
        return self._frequency.at(self._day_s + self.now_s)

    @property
    def grid_w(self) -> float:
        """True power at the connection point now."""
        return self.battery_w + self.pv_w + self.load_w

    @property
    def grid_wh(self) -> float:
        """True net export since the start."""
        return self.battery_wh + self.pv_wh + self.load_wh

    @property
    def stored_wh(self) -> float:
        """True energy in all batteries."""
        return sum([device.physics.stored_wh for device in self.devices])

    @property
    def soc_pct(self) -> float:
        """True state of charge of all batteries together."""
        return 100.0 * self.stored_wh / self._capacity_wh

    def advance_to(self, end_s: float) -> None:
        """Let the time until `end_s` pass."""
        begin_s = self.now_s
        dt_s = end_s - begin_s
        if dt_s <= 1e-9:
            return
        hz = self.frequency_hz if self._scenario.rules.delegated else 0.0
        battery_wh = sum([device.advance(dt_s, START_MONO_S + begin_s, hz) for device in self.devices])
        others_wh = 0.0
        if self._pv is not None:
            sun_wh = self._pv.total(self._day_s + begin_s, self._day_s + end_s) / SECONDS_PER_HOUR
            pv_wh = self.inverters.energy_wh(sun_wh, dt_s, begin_s)
            self.pv_wh += pv_wh
            others_wh = pv_wh
        if self._load is not None:
            load_wh = self._load.total(self._day_s + begin_s, self._day_s + end_s) / SECONDS_PER_HOUR
            self.load_wh += load_wh
            others_wh += load_wh
        self.battery_wh += battery_wh
        grid_wh = battery_wh + others_wh
        if grid_wh >= 0.0:
            self.export_wh += grid_wh
        else:
            self.import_wh -= grid_wh
        self.now_s = end_s

    def write_droops(self, writes: Iterable[DroopWrite], mono_s: float) -> tuple[DroopOutcome, ...]:
        """What becomes of these writes of the devices' own droop that land at `mono_s`."""
        by_id = {device.rules.device_id: device for device in self.devices}
        return tuple(by_id[write.device_id].write_droop(write, mono_s) for write in writes)

    def poll_pv(self, mono_s: float) -> tuple[PvSample, ...]:
        """The PV inverters as read at `mono_s`: one power, in equal shares."""
        return self.inverters.samples(self._sun_w, self._pv_step_w, self.now_s, mono_s)

    def poll_meter(self, mono_s: float) -> MeterSample | None:
        """The meter at the connection point as read at `mono_s`; None where the site has none."""
        meter_id = self._scenario.rules.meter_id
        if meter_id is None:
            return None
        noisy_w = self.grid_w * (1.0 + self._noise * self._random.gauss(0.0, 1.0))
        step_w, count_wh = self._meter_step_w, self._counter_wh
        return MeterSample(
            meter_id,
            Reading(round(noisy_w / step_w) * step_w, mono_s),
            Reading(round(self.frequency_hz, 3), mono_s),
            self._counted(self.export_wh, count_wh, mono_s),
            self._counted(self.import_wh, count_wh, mono_s),
        )

    @staticmethod
    def _counted(energy_wh: float, step_wh: float, mono_s: float) -> Reading:
        """An energy counter; a step of 0 says that the meter has none."""
        if step_wh <= 0.0:
            return Reading(None, mono_s, Quality.MISSING)
        return Reading(energy_wh // step_wh * step_wh, mono_s)
