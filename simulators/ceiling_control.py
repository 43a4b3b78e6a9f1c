"""The power limit of a SunSpec PV inverter (models 123 and 704), with its reversion timer; pure.

While enabled the inverter gives at most a share of its maximum. With a reversion time the limit ends by itself unless
it is written again: 123 disables it, 704 falls back to its reversion values. Source: SunSpec models 123 and 704,
points WMaxLim*.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

MAX_PERCENT = 100.0
MAX_REVERSION_S = 3_600.0
FIELDS = {
    "123": {"WMaxLim_Ena": "enabled", "WMaxLimPct": "percent", "WMaxLimPct_RvrtTms": "revert_after_s"},
    "704": {
        "WMaxLimPctEna": "enabled",
        "WMaxLimPct": "percent",
        "WMaxLimPctRvrt": "revert_percent",
        "WMaxLimPctEnaRvrt": "revert_enabled",
        "WMaxLimPctRvrtTms": "revert_after_s",
    },
}
"""SunSpec point to field of `CeilingPoints`, by model."""


@dataclass(frozen=True, slots=True)
class CeilingPoints:
    """What a client has written, by point."""

    enabled: float = 0.0
    percent: float = MAX_PERCENT
    revert_percent: float = MAX_PERCENT
    revert_enabled: float = 0.0
    revert_after_s: float = 0.0
    """0: no reversion."""


class CeilingControl:
    """The limit of one inverter."""

    def __init__(self) -> None:
        self.points = CeilingPoints()
        self.revert_at_utc_s: float | None = None
        """When the limit falls back unless it is written again; None: it does not."""
        self.reversions = 0

    @property
    def share(self) -> float:
        """Largest power over the inverter's maximum, 0 to 1."""
        return self.points.percent / MAX_PERCENT if self.points.enabled else 1.0

    def remaining_s(self, now_utc_s: float) -> float:
        """Whole seconds to the reversion, rounded up; 0 when none is due."""
        return float(max(0, math.ceil(self.revert_at_utc_s - now_utc_s))) if self.revert_at_utc_s is not None else 0.0

    def allows(self, written: Mapping[str, float]) -> bool:
        """Whether all of `written` (field name to value) is within range."""
        limits = {"percent": MAX_PERCENT, "revert_percent": MAX_PERCENT, "revert_after_s": MAX_REVERSION_S}
        return all(
            0 <= value <= limits[field] if field in limits else value in (0, 1) for field, value in written.items()
        )

    def write(self, written: Mapping[str, float], now_utc_s: float) -> None:
        """Takes over values that `allows` has accepted, and starts the reversion time anew."""
        assert self.allows(written), written
        self.points = replace(self.points, **written)
        armed = bool(self.points.enabled) and self.points.revert_after_s > 0
        self.revert_at_utc_s = now_utc_s + self.points.revert_after_s if armed else None

    def revert_if_due(self, now_utc_s: float) -> bool:
        """Falls back if its time has come; True when it happened now."""
        if self.revert_at_utc_s is None or now_utc_s < self.revert_at_utc_s:
            return False
        points = self.points
        self.points = replace(points, enabled=points.revert_enabled, percent=points.revert_percent)
        self.revert_at_utc_s = None
        self.reversions += 1
        return True

    def reset(self) -> None:
        """The device starts anew: everything written is lost."""
        self.points = CeilingPoints()
        self.revert_at_utc_s = None
