"""The active power setpoint of a SunSpec DER (model 704), with its reversion timer; pure.

While enabled the setpoint holds. With a reversion time it must be written again within that time, else the device
falls back to the reversion values by itself: its dead-man. Source: SunSpec model 704, points WSet*.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

PERCENT_MODE, WATT_MODE = 0, 1
MAX_PERCENT = 100.0
MAX_REVERSION_S = 86_400.0


@dataclass(frozen=True, slots=True)
class SetpointPoints:
    """What a client has written, by point; + = discharge."""

    enabled: bool = False
    mode: int = WATT_MODE
    set_w: float = 0.0
    revert_w: float = 0.0
    set_pct: float = 0.0
    revert_pct: float = 0.0
    revert_enabled: bool = True
    revert_after_s: float = 0.0
    """0: no reversion."""


class SetpointControl:
    """Model 704's active power part for an inverter of given ratings, W, both >= 0."""

    def __init__(self, rated_charge_w: float, rated_discharge_w: float) -> None:
        self.points = SetpointPoints()
        self.revert_at_utc_s: float | None = None
        """When the setpoint falls back unless it is written again; None: it does not."""
        self.reversions = 0
        self._lowest_w = -rated_charge_w
        self._highest_w = rated_discharge_w

    @property
    def wanted_w(self) -> float | None:
        """The power that the inverter is told, None while the control is off."""
        if not self.points.enabled:
            return None
        if self.points.mode == WATT_MODE:
            return self.points.set_w
        rating_w = max(-self._lowest_w, self._highest_w)
        return max(self._lowest_w, min(self._highest_w, self.points.set_pct / 100.0 * rating_w))

    def remaining_s(self, now_utc_s: float) -> float:
        """Whole seconds to the reversion, rounded up; 0 when none is due."""
        if self.revert_at_utc_s is None:
            return 0.0
        return float(max(0, math.ceil(self.revert_at_utc_s - now_utc_s)))

    def allows(self, written: Mapping[str, float]) -> bool:
        """Whether all of `written` (point name to value) is within range."""
        return all(self._allows_one(name, value) for name, value in written.items())

    def write(self, written: Mapping[str, float], now_utc_s: float) -> None:
        """Takes over values that `allows` has accepted, and starts the reversion time anew."""
        assert self.allows(written), written
        fields: dict[str, float | bool | int] = {}
        for name, value in written.items():
            match name:
                case "WSetEna":
                    fields["enabled"] = value == 1
                case "WSetMod":
                    fields["mode"] = int(value)
                case "WSetEnaRvrt":
                    fields["revert_enabled"] = value == 1
                case _:
                    fields[FIELD_OF_POINT[name]] = value
        self.points = replace(self.points, **fields)  # type: ignore[arg-type]  # names and types from the table
        armed = self.points.enabled and self.points.revert_after_s > 0
        self.revert_at_utc_s = now_utc_s + self.points.revert_after_s if armed else None

    def revert_if_due(self, now_utc_s: float) -> bool:
        """Falls back to the reversion values if their time has come; True when it happened now."""
        if self.revert_at_utc_s is None or now_utc_s < self.revert_at_utc_s:
            return False
        points = self.points
        self.points = replace(points, enabled=points.revert_enabled, set_w=points.revert_w, set_pct=points.revert_pct)
        self.revert_at_utc_s = None
        self.reversions += 1
        return True

    def reset(self) -> None:
        """The device starts anew: control off, everything written is lost."""
        self.points = SetpointPoints()
        self.revert_at_utc_s = None

    def _allows_one(self, name: str, value: float) -> bool:
        match name:
            case "WSetEna" | "WSetMod" | "WSetEnaRvrt":
                return value in (0, 1)
            case "WSet" | "WSetRvrt":
                return self._lowest_w <= value <= self._highest_w
            case "WSetPct" | "WSetPctRvrt":
                return -MAX_PERCENT <= value <= MAX_PERCENT
            case "WSetRvrtTms":
                return 0 <= value <= MAX_REVERSION_S
            case _:
                raise AssertionError(f"{name} is not part of the active power control")


FIELD_OF_POINT = {
    "WSetEna": "enabled",
    "WSetMod": "mode",
    "WSet": "set_w",
    "WSetRvrt": "revert_w",
    "WSetPct": "set_pct",
    "WSetPctRvrt": "revert_pct",
    "WSetEnaRvrt": "revert_enabled",
    "WSetRvrtTms": "revert_after_s",
}
"""SunSpec point to field of `SetpointPoints`."""
