"""Battery and inverter physics, pure: energy, losses, limits and temperature; no clock, no I/O.

Powers are W at the AC terminals, + = discharge. State of charge is stored energy over capacity. The store gives
chemical power; the internal resistance, the inverter and the standby consumption take their part of it.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import ClassVar

SECONDS_PER_HOUR = 3600.0
MAX_SOC_STEP_PCT = 0.5
"""The SoC moves at most this much per sub-step, so that the taper is followed and not run over."""
MAX_STEP_S = 1.0
"""Longest sub-step of the physics: fine against the thermal and noise time constants."""
OPEN_CIRCUIT_PER_UNIT = (
    (0.0, 0.90),
    (5.0, 0.955),
    (20.0, 0.985),
    (50.0, 1.0),
    (80.0, 1.01),
    (95.0, 1.02),
    (100.0, 1.05),
)
"""(SoC %, open-circuit voltage over nominal): the flat shape of iron phosphate cells, no product's curve."""
OPEN_CIRCUIT_PARTS = tuple(itertools.pairwise(OPEN_CIRCUIT_PER_UNIT))


@dataclass(frozen=True, slots=True)
class BatteryConfig:
    """What the battery and its inverter are; every quantity names its unit."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "allow_inf_nan": False}

    rated_discharge_w: float = 500_000.0
    rated_charge_w: float = 500_000.0
    capacity_wh: float = 1_000_000.0
    initial_soc_pct: float = 50.0
    nominal_voltage_v: float = 800.0
    resistive_loss_pct: float = 2.0
    """Loss in the internal resistance at the larger rating and nominal voltage, % of that rating."""
    inverter_loss_pct: float = 1.5
    """Of the AC power, in both directions."""
    standby_loss_w: float = 200.0
    """Controls, fans, idle inverter; taken from the DC side, so an idle battery runs slowly empty."""
    lag_s: float = 0.1
    """Time constant with which the inverter follows its setpoint."""
    ramp_w_per_s: float | None = None
    """None: no ramp limit beside the lag."""
    charge_taper_from_soc_pct: float = 95.0
    discharge_taper_from_soc_pct: float = 5.0
    ambient_c: float = 25.0
    derate_from_c: float = 45.0
    derate_to_c: float = 55.0
    """Power is allowed in full up to `derate_from_c` and not at all from `derate_to_c`."""
    thermal_mass_j_per_k: float = 8e6
    cooling_w_per_k: float = 1_500.0

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        positive = (
            "rated_discharge_w",
            "rated_charge_w",
            "capacity_wh",
            "nominal_voltage_v",
            "thermal_mass_j_per_k",
        )
        for name in positive:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0")
        for name in ("resistive_loss_pct", "inverter_loss_pct"):
            if not 0 <= getattr(self, name) <= 10:
                raise ValueError(f"{name} must be 0 to 10 %")
        for name in ("standby_loss_w", "lag_s", "cooling_w_per_k"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0")
        if not 0 <= self.initial_soc_pct <= 100:
            raise ValueError("initial_soc_pct must be 0 to 100 %")
        if not 0 <= self.discharge_taper_from_soc_pct < self.charge_taper_from_soc_pct <= 100:
            raise ValueError("discharge_taper_from_soc_pct must be below charge_taper_from_soc_pct")
        if self.ramp_w_per_s is not None and not self.ramp_w_per_s > 0:
            raise ValueError("ramp_w_per_s must be above 0; leave it out for no limit")
        if not self.derate_from_c < self.derate_to_c:
            raise ValueError("derate_from_c must be below derate_to_c")

    @property
    def resistance_ohm(self) -> float:
        """Internal resistance that loses `resistive_loss_pct` at the larger rating (P_loss = R (P / V)²)."""
        rating_w = max(self.rated_charge_w, self.rated_discharge_w)
        return self.resistive_loss_pct / 100.0 * self.nominal_voltage_v**2 / rating_w

    @property
    def step_limit_s(self) -> float:
        """Longest sub-step that keeps the SoC within `MAX_SOC_STEP_PCT` at full power."""
        rating_w = max(self.rated_charge_w, self.rated_discharge_w)
        return min(MAX_STEP_S, MAX_SOC_STEP_PCT / 100.0 * self.capacity_wh * SECONDS_PER_HOUR / rating_w)


def followed(
    power_w: float, target_w: float, dt_s: float, lag_s: float, ramp_w_per_s: float | None
) -> tuple[float, float]:
    """Power at the end of `dt_s` and energy over it (W·s), of a first-order lag with a limited slope, exactly.

    While the lag alone would be steeper than the ramp the power moves on a straight line, then exponentially.
    """
    energy_ws = 0.0
    if ramp_w_per_s is not None:
        straight_w = max(abs(target_w - power_w) - ramp_w_per_s * lag_s, 0.0)
        straight_s = min(straight_w / ramp_w_per_s, dt_s)
        end_w = power_w + math.copysign(ramp_w_per_s * straight_s, target_w - power_w)
        energy_ws = (power_w + end_w) / 2.0 * straight_s
        power_w, dt_s = end_w, dt_s - straight_s
    if dt_s <= 0.0:
        return power_w, energy_ws
    if lag_s <= 0.0:
        return target_w, energy_ws + target_w * dt_s
    decay = math.exp(-dt_s / lag_s)
    gap_w = target_w - power_w
    return target_w - gap_w * decay, energy_ws + target_w * dt_s - gap_w * lag_s * (1.0 - decay)


class Battery:
    """One battery system; `step` moves it, everything else tells how it is now."""

    def __init__(self, config: BatteryConfig) -> None:
        self.config = config
        self.stored_wh = config.capacity_wh * config.initial_soc_pct / 100.0
        self.power_w = 0.0
        self.temperature_c = config.ambient_c
        self.discharged_wh = 0.0
        self.charged_wh = 0.0
        self.lost_wh = 0.0
        self._resistance_ohm = config.resistance_ohm
        self._inverter_loss = config.inverter_loss_pct / 100.0

    @property
    def soc_pct(self) -> float:
        """Stored energy over capacity, 0 to 100."""
        return 100.0 * self.stored_wh / self.config.capacity_wh

    @property
    def discharge_limit_w(self) -> float:
        """What the BMS allows to discharge now, W at the AC terminals, >= 0."""
        from_pct = self.config.discharge_taper_from_soc_pct
        taper = min(1.0, self.soc_pct / from_pct) if from_pct > 0 else 1.0
        return self.config.rated_discharge_w * taper * self._thermal_factor()

    @property
    def charge_limit_w(self) -> float:
        """What the BMS allows to charge now, W at the AC terminals, >= 0."""
        span_pct = 100.0 - self.config.charge_taper_from_soc_pct
        taper = min(1.0, (100.0 - self.soc_pct) / span_pct) if span_pct > 0 else 1.0
        return self.config.rated_charge_w * taper * self._thermal_factor()

    @property
    def current_a(self) -> float:
        """DC current, + = discharge."""
        return self._current_a(self._dc_w(self.power_w), self._open_circuit_v())

    @property
    def voltage_v(self) -> float:
        """DC terminal voltage under the present current."""
        return self._open_circuit_v() - self.current_a * self._resistance_ohm

    @property
    def discharge_limit_a(self) -> float:
        """The BMS discharge limit as the DC current that the inverter would draw at the present voltage."""
        return max(0.0, self._dc_w(self.discharge_limit_w)) / self.voltage_v

    @property
    def charge_limit_a(self) -> float:
        """The BMS charge limit as DC current at the present voltage, >= 0."""
        return max(0.0, -self._dc_w(-self.charge_limit_w)) / self.voltage_v

    def step(self, target_w: float, dt_s: float) -> float:
        """The AC energy of the next `dt_s`, Wh, while following `target_w` within ratings and BMS limits."""
        config = self.config
        lowest_w, highest_w = self._limits_w()
        wanted_w = max(lowest_w, min(highest_w, target_w))
        end_w, energy_ws = followed(self.power_w, wanted_w, dt_s, config.lag_s, config.ramp_w_per_s)
        mean_w = energy_ws / dt_s
        chemical_w = self._chemical_w(mean_w)
        upper_w = self.stored_wh * SECONDS_PER_HOUR / dt_s
        lower_w = -(config.capacity_wh - self.stored_wh) * SECONDS_PER_HOUR / dt_s
        if not lower_w <= chemical_w <= upper_w:  # the store is full or empty: the BMS holds it there
            chemical_w = max(lower_w, min(upper_w, chemical_w))
            mean_w = end_w = self._ac_w(chemical_w)
        hours = dt_s / SECONDS_PER_HOUR
        self.stored_wh = max(0.0, min(config.capacity_wh, self.stored_wh - chemical_w * hours))
        self.power_w = end_w
        lost_w = chemical_w - mean_w
        self.lost_wh += lost_w * hours
        if mean_w >= 0.0:
            self.discharged_wh += mean_w * hours
        else:
            self.charged_wh -= mean_w * hours
        self._warm(lost_w, dt_s)
        return mean_w * hours

    def _limits_w(self) -> tuple[float, float]:
        """The most charging (<= 0) and discharging that the BMS allows now."""
        config, soc_pct = self.config, self.soc_pct
        if config.discharge_taper_from_soc_pct <= soc_pct <= config.charge_taper_from_soc_pct and (
            self.temperature_c <= config.derate_from_c
        ):
            # Nothing fades, which is nearly always.
            return -config.rated_charge_w, config.rated_discharge_w
        return -self.charge_limit_w, self.discharge_limit_w

    def _warm(self, lost_w: float, dt_s: float) -> None:
        """All losses heat one mass that cools toward ambient (exact for constant loss)."""
        config = self.config
        if config.cooling_w_per_k <= 0.0:
            self.temperature_c += lost_w * dt_s / config.thermal_mass_j_per_k
            return
        settled_c = config.ambient_c + lost_w / config.cooling_w_per_k
        decay = math.exp(-dt_s * config.cooling_w_per_k / config.thermal_mass_j_per_k)
        self.temperature_c = settled_c + (self.temperature_c - settled_c) * decay

    def _thermal_factor(self) -> float:
        span_k = self.config.derate_to_c - self.config.derate_from_c
        return max(0.0, min(1.0, (self.config.derate_to_c - self.temperature_c) / span_k))

    def _open_circuit_v(self) -> float:
        soc_pct = self.soc_pct
        for (low_pct, low), (high_pct, high) in OPEN_CIRCUIT_PARTS:
            if soc_pct <= high_pct:
                share = (soc_pct - low_pct) / (high_pct - low_pct)
                return self.config.nominal_voltage_v * (low + share * (high - low))
        return self.config.nominal_voltage_v * OPEN_CIRCUIT_PER_UNIT[-1][1]

    def _dc_w(self, ac_w: float) -> float:
        """DC terminal power that an AC power takes: inverter loss and standby on top."""
        return ac_w + self._inverter_loss * abs(ac_w) + self.config.standby_loss_w

    def _current_a(self, dc_w: float, open_v: float) -> float:
        """The smaller solution of P = V_oc I - R I², in the form that holds for R = 0 and tiny R too."""
        root = open_v * open_v - 4.0 * self._resistance_ohm * dc_w
        assert root >= 0.0, f"{dc_w} W is beyond what the internal resistance lets through"
        return 2.0 * dc_w / (open_v + math.sqrt(root))

    def _chemical_w(self, ac_w: float) -> float:
        open_v = self._open_circuit_v()
        return open_v * self._current_a(self._dc_w(ac_w), open_v)

    def _ac_w(self, chemical_w: float) -> float:
        """The inverse of `_chemical_w`; an empty store means that the grid feeds the standby consumption."""
        current_a = chemical_w / self._open_circuit_v()
        after_standby_w = chemical_w - current_a * current_a * self._resistance_ohm - self.config.standby_loss_w
        return after_standby_w / (1.0 + math.copysign(self._inverter_loss, after_standby_w))
