"""What does not change while the agent runs: the site's own limits and choices, from the site file.

The cloud cannot change any of these. All powers are W and >= 0 unless a sign is stated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from agent.core.droop import DroopTable
from agent.core.envelope_rules import DEFAULT_LIMITS, BatteryLimits, SiteLimits
from agent.core.measured import Measured

REACTION_TICKS = 5
"""Read, decide, write and the device's lag take at least this many ticks together."""


class LocalRule(StrEnum):
    """What the site does when no plan has a slot for now."""

    IDLE = "idle"
    """The battery rests at 0 kW."""
    SELF_CONSUMPTION = "self_consumption"
    """The battery keeps the connection point at 0 kW, as far as it can."""


@dataclass(frozen=True, slots=True)
class BatteryRules:
    """One battery system as the site file describes it."""

    device_id: str
    rated_discharge_w: float
    rated_charge_w: float
    soc_min_pct: float
    soc_max_pct: float
    one_way_efficiency: float
    """Share of the energy that survives one way between terminals and cells, 0..1; for the SoC projection."""
    dead_man_s: float
    """The device returns to 0 W by itself when no write came for this long."""
    dead_band_w: float
    """A smaller change of setpoint is not written."""
    limits: BatteryLimits = DEFAULT_LIMITS
    """Derating, taper, reserve and the like."""
    measured: Measured | None = None
    """What commissioning found; None while it was not commissioned, or when another device stands in its place."""

    @property
    def refreshed_within_s(self) -> float:
        """The dead-man time that refreshing reckons with: the shorter of the stated and the measured one."""
        measured_s = self.measured.dead_man_s if self.measured is not None else None
        return self.dead_man_s if measured_s is None else min(self.dead_man_s, measured_s)

    @property
    def holds_for_s(self) -> float:
        """How long it may hold a setpoint that is not written again: the longer of the stated and the measured time."""
        measured_s = self.measured.longest_hold_s if self.measured is not None else None
        return self.dead_man_s if measured_s is None else max(self.dead_man_s, measured_s)

    @property
    def settling_s(self) -> float | None:
        """How long it takes to be where it is told to be; None while that was not measured."""
        return self.measured.settling_s if self.measured is not None else None


@dataclass(frozen=True, slots=True)
class SiteRules:
    """The whole site as the core sees it."""

    site_id: str
    tick_s: float
    batteries: tuple[BatteryRules, ...]
    pv_ids: tuple[str, ...]
    meter_id: str | None
    export_limit_w: float
    import_limit_w: float
    has_load: bool
    """True when something behind the connection point draws power that no device of ours measures."""
    local_rule: LocalRule
    limits: SiteLimits = field(default_factory=SiteLimits)
    """Ramp and PV inverters."""
    nominal_hz: float = 50.0
    """Of the grid."""
    frequency_resolution_hz: float | None = None
    """Step of the connection meter's frequency, None where its documents do not say."""
    products: Mapping[str, DroopTable] = field(default_factory=dict)
    """Droop tables of the reserve products that this site sells, by name."""
    delegated: frozenset[str] = frozenset()
    """The batteries whose own droop answers awards where it can (`agent.core.delegation`)."""
    reaction_s: float = field(init=False)
    """From a decision until the slowest battery is where it was told: at least `REACTION_TICKS`."""
    rated_discharge_w: float = field(init=False)
    """Of all batteries together."""

    def __post_init__(self) -> None:
        """Work out once what follows from the rest, and is asked at every tick."""
        settlings_s = [one.settling_s for one in self.batteries if one.settling_s is not None]
        reactions_s = [REACTION_TICKS * self.tick_s, *(settling_s + 2.0 * self.tick_s for settling_s in settlings_s)]
        object.__setattr__(self, "reaction_s", max(reactions_s))
        object.__setattr__(self, "rated_discharge_w", sum(one.rated_discharge_w for one in self.batteries))

    @property
    def battery_alone(self) -> bool:
        """True when battery power is all there is at the connection point: no PV, no load."""
        return not self.pv_ids and not self.has_load
