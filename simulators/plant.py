"""The physics of a site, pure: battery, PV, load, connection point and grid frequency; no clock, no I/O.

Positive power flows toward the grid, so `grid_w = battery_w + pv_w + load_w` always. Time is Unix time given by the
caller and only moves forward. The same configuration and seed give the same series, however the time is cut up.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from simulators.battery import SECONDS_PER_HOUR, Battery, BatteryConfig

DAY_S = 86_400.0
STANDARD_IRRADIANCE_W_PER_M2 = 1_000.0
"""Irradiance at which a PV field gives its peak power (standard test conditions)."""
NOISE_PERIOD_S = 1.0
"""Random disturbances have one drawn value per this time, linear in between."""
SOLAR_STEP_S = 30.0
"""Longest piece of the simulated day in one sub-step: half the minute of the irradiance series."""
OFFICE_DAY_SHAPE = (
    *(0.55, 0.52, 0.50, 0.50, 0.52, 0.60, 0.80, 1.05, 1.30, 1.42, 1.48, 1.50),
    *(1.42, 1.48, 1.48, 1.42, 1.36, 1.28, 1.15, 1.00, 0.88, 0.76, 0.68, 0.60),
)
"""Load over its base at each full hour of the local day; an invented working day."""


@dataclass(frozen=True, slots=True)
class DayConfig:
    """Where in the simulated day the plant is at Unix time t: (offset + (t - epoch) * factor) mod one day."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "allow_inf_nan": False}

    day_offset_s: float = 0.0
    day_epoch_utc_s: float = 0.0
    solar_time_factor: float = 1.0
    """Sun and load run this many times faster than the clock; the battery does not."""

    def __post_init__(self) -> None:
        """Refuse a day that stands still or runs backward."""
        if not self.solar_time_factor > 0:
            raise ValueError("solar_time_factor must be above 0")

    def second_of_day(self, utc_s: float) -> float:
        """Local solar second, 0 to 86400, at Unix time `utc_s`."""
        return (self.day_offset_s + (utc_s - self.day_epoch_utc_s) * self.solar_time_factor) % DAY_S


@dataclass(frozen=True, slots=True)
class PvConfig:
    """A PV field and its inverter."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "allow_inf_nan": False}

    peak_w: float = 300_000.0
    inverter_limit_w: float = 275_000.0
    performance_ratio: float = 0.9
    """AC power over irradiance times peak power: temperature, soiling, inverter loss."""
    irradiance_w_per_m2: tuple[float, ...] = ()
    """One value per equal part of the day (1440: per minute). Empty: the site loads the measured day."""
    initial_wh: float = 1_000.0
    """The inverter's energy counter at the start; in SunSpec a counter of 0 means that there is none."""

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        for name in ("peak_w", "inverter_limit_w", "performance_ratio", "initial_wh"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0")


@dataclass(frozen=True, slots=True)
class LoadConfig:
    """Consumption behind the connection point; `base_w` is a magnitude, >= 0."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "allow_inf_nan": False}

    base_w: float = 40_000.0
    day_shape: tuple[float, ...] = OFFICE_DAY_SHAPE
    noise_pct: float = 4.0
    """Standard deviation of the load around its shape."""
    noise_correlation_s: float = 20.0

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        if not (self.base_w >= 0 and self.noise_pct >= 0 and self.noise_correlation_s > 0):
            raise ValueError("base_w and noise_pct must be at least 0, noise_correlation_s above 0")
        if not self.day_shape or min(self.day_shape) < 0:
            raise ValueError("day_shape needs at least one value, none below 0")


@dataclass(frozen=True, slots=True)
class GridConfig:
    """The grid and the energy counters of the meter at the connection point."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "allow_inf_nan": False}

    nominal_hz: float = 50.0
    noise_hz: float = 0.02
    """Standard deviation of the frequency around nominal."""
    noise_correlation_s: float = 60.0
    frequency_hz: tuple[float, ...] = ()
    """If given: one value per second from the plant's start, repeated when it ends, instead of the noise."""
    initial_export_wh: float = 1_000.0
    initial_import_wh: float = 1_000.0
    """Counters of a meter that has worked before: in SunSpec a counter of 0 means that there is none."""

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        if not (self.nominal_hz > 0 and self.noise_hz >= 0 and self.noise_correlation_s > 0):
            raise ValueError("nominal_hz and noise_correlation_s must be above 0, noise_hz at least 0")


@dataclass(frozen=True, slots=True)
class PlantConfig:
    """A whole site."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "allow_inf_nan": False}

    battery: BatteryConfig = field(default_factory=BatteryConfig)
    pv: PvConfig = field(default_factory=PvConfig)
    load: LoadConfig = field(default_factory=LoadConfig)
    grid: GridConfig = field(default_factory=GridConfig)
    day: DayConfig = field(default_factory=DayConfig)


def value_in_cycle(series: tuple[float, ...], place: float) -> float:
    """The value of a repeating series at `place` (0 = first value), linear between neighbours."""
    index = math.floor(place)
    share = place - index
    first, second = series[index % len(series)], series[(index + 1) % len(series)]
    return first + share * (second - first)


class Disturbance:
    """Mean-reverting noise of unit variance (Ornstein-Uhlenbeck), drawn on a fixed grid of time.

    Because the draws sit on the grid, asking more often changes nothing. Time only moves forward.
    """

    def __init__(self, seed: str, correlation_s: float) -> None:
        self._random = random.Random(seed)
        self._keep = math.exp(-NOISE_PERIOD_S / correlation_s)
        self._index = 0
        self._value = self._random.gauss(0.0, 1.0)
        self._next = self._drawn_after(self._value)

    def at(self, elapsed_s: float) -> float:
        """The noise `elapsed_s` after the start."""
        place = elapsed_s / NOISE_PERIOD_S
        while self._index + 1 <= place:
            self._index += 1
            self._value, self._next = self._next, self._drawn_after(self._next)
        assert place >= self._index, "time only moves forward"
        return self._value + (place - self._index) * (self._next - self._value)

    def _drawn_after(self, value: float) -> float:
        return self._keep * value + math.sqrt(1.0 - self._keep**2) * self._random.gauss(0.0, 1.0)


class Plant:
    """A site that lives from `advance` to `advance`; what is documented here may be set at any time."""

    def __init__(self, config: PlantConfig, seed: int = 0, start_utc_s: float = 0.0) -> None:
        assert config.pv.irradiance_w_per_m2 or config.pv.peak_w == 0, "a PV field needs an irradiance series"
        self.config = config
        self.battery = Battery(config.battery)
        self.setpoint_w: float | None = None
        """What the inverter is told, W, + = discharge; None: nothing, and the battery idles."""
        self.ready = True
        """False: the inverter is stopped and gives no power, whatever the setpoint."""
        self.droop: Callable[[float, float, float, float], float] | None = None
        """The inverter's own frequency response: Unix time, frequency Hz, power told W, seconds -> power to aim at."""
        self.pv_limit = 1.0
        """Curtailment: largest PV power over the inverter limit, 0 to 1."""
        self.frequency_shift_hz = 0.0
        """A disturbance of the grid, on top of its frequency; from the next moment on."""
        self.utc_s = start_utc_s
        self.export_wh = config.grid.initial_export_wh
        self.import_wh = config.grid.initial_import_wh
        self.pv_wh = config.pv.initial_wh
        self.load_wh = 0.0
        """Energy of the load, <= 0, as the sign rule has it."""
        self._start_utc_s = start_utc_s
        self._frequency_noise = Disturbance(f"frequency {seed}", config.grid.noise_correlation_s)
        self._load_noise = Disturbance(f"load {seed}", config.load.noise_correlation_s)
        self._step_limit_s = min(config.battery.step_limit_s, SOLAR_STEP_S / config.day.solar_time_factor)
        self._refresh_surroundings(start_utc_s)

    @property
    def battery_w(self) -> float:
        """AC power of the battery now, + = discharge."""
        return self.battery.power_w

    @property
    def grid_w(self) -> float:
        """Power at the connection point now, + = export."""
        return self.battery_w + self.pv_w + self.load_w

    @property
    def soc_pct(self) -> float:
        """State of charge now, 0 to 100."""
        return self.battery.soc_pct

    def advance(self, dt_s: float) -> None:
        """Let `dt_s` pass."""
        self.advance_to(self.utc_s + dt_s)

    def advance_to(self, utc_s: float) -> None:
        """Let the time until `utc_s` pass; a time before now does nothing."""
        span_s = utc_s - self.utc_s
        if span_s <= 0.0:
            return
        begin_utc_s = self.utc_s
        steps = math.ceil(span_s / self._step_limit_s)
        for step in range(1, steps + 1):
            self._step(begin_utc_s + span_s * step / steps if step < steps else utc_s)

    def _step(self, end_utc_s: float) -> None:
        dt_s = end_utc_s - self.utc_s
        if dt_s <= 0.0:  # below the resolution of Unix time
            return
        target_w = self.setpoint_w if self.ready and self.setpoint_w is not None else 0.0
        self._refresh_surroundings(self.utc_s + dt_s / 2.0)  # the middle of the step stands for all of it
        if self.droop is not None and self.ready:
            target_w = self.droop(self.utc_s, self.frequency_hz, target_w, dt_s)
        hours = dt_s / SECONDS_PER_HOUR
        pv_wh, load_wh = self.pv_w * hours, self.load_w * hours
        grid_wh = self.battery.step(target_w, dt_s) + pv_wh + load_wh
        self.pv_wh += pv_wh
        self.load_wh += load_wh
        if grid_wh >= 0.0:
            self.export_wh += grid_wh
        else:
            self.import_wh -= grid_wh
        self.utc_s = end_utc_s
        self._refresh_surroundings(end_utc_s)

    def _refresh_surroundings(self, utc_s: float) -> None:
        """Sun, load and frequency at `utc_s`."""
        elapsed_s = utc_s - self._start_utc_s
        day_share = self.config.day.second_of_day(utc_s) / DAY_S
        self.pv_available_w = self._pv_available_w(day_share)
        self.pv_w = min(self.pv_available_w, self.config.pv.inverter_limit_w * self.pv_limit)
        self.load_w = self._load_w(day_share, elapsed_s)
        self.frequency_hz = self._frequency_hz(elapsed_s) + self.frequency_shift_hz

    def _pv_available_w(self, day_share: float) -> float:
        pv = self.config.pv
        if not pv.irradiance_w_per_m2:
            return 0.0
        series = pv.irradiance_w_per_m2
        sun = value_in_cycle(series, day_share * len(series)) / STANDARD_IRRADIANCE_W_PER_M2
        return max(0.0, min(pv.peak_w * sun * pv.performance_ratio, pv.inverter_limit_w))

    def _load_w(self, day_share: float, elapsed_s: float) -> float:
        load = self.config.load
        shape = value_in_cycle(load.day_shape, day_share * len(load.day_shape))
        noise = 1.0 + load.noise_pct / 100.0 * self._load_noise.at(elapsed_s)
        return -load.base_w * shape * max(0.0, noise)

    def _frequency_hz(self, elapsed_s: float) -> float:
        grid = self.config.grid
        if grid.frequency_hz:
            return value_in_cycle(grid.frequency_hz, elapsed_s)
        return grid.nominal_hz + grid.noise_hz * self._frequency_noise.at(elapsed_s)
