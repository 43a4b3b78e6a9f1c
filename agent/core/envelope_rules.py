"""What the site file says about the envelope beyond ratings and connection limits."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.core.derating import Derating
from agent.core.hybrid import SharedInverter
from agent.core.ramp import RampRules


@dataclass(frozen=True, slots=True)
class BatteryLimits:
    """The envelope of one battery; the defaults fit an AC-coupled battery without a maker's derating sheet."""

    deratings: tuple[Derating, ...] = ()
    reserve_pct: float | None = None
    """SoC floor kept for outages of the grid, percent."""
    taper_pct: float = 1.0
    hysteresis_pct: float = 0.5
    min_useful_w: float = 0.0
    """Below this power the unit wastes more than it gives; it is rather left at rest while others can do the work."""
    shared_inverter: SharedInverter | None = None
    """For DC-coupled batteries."""


@dataclass(frozen=True, slots=True)
class PvRules:
    """One PV inverter whose power can be limited."""

    device_id: str
    rated_w: float
    dead_band_w: float
    """A smaller rise or fall of the ceiling is not written."""
    dead_man_s: float | None = None
    """The device drops the ceiling when no write came for this long; None = it holds it."""
    loosen_after_s: float = 10.0
    """A higher ceiling is written at most this often."""


@dataclass(frozen=True, slots=True)
class SiteLimits:
    """The envelope of the site."""

    ramp: RampRules = field(default_factory=RampRules)
    pvs: tuple[PvRules, ...] = ()
    """The PV inverters that can be limited."""


DEFAULT_LIMITS = BatteryLimits()
