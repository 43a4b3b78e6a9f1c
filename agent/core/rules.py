"""What does not change while the agent runs: the site's own limits and choices, from the site file.

The cloud cannot change any of these. All powers are W and >= 0 unless a sign is stated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from agent.core.droop import DroopTable
from agent.core.envelope_rules import DEFAULT_LIMITS, BatteryLimits, SiteLimits


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

    @property
    def battery_alone(self) -> bool:
        """True when battery power is all there is at the connection point: no PV, no load."""
        return not self.pv_ids and not self.has_load
