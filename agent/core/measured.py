"""What commissioning measured of a battery; it takes the place of what its profile or the site file only states."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measured:
    """One battery as it was commissioned; None = not measured."""

    at_utc_s: float
    lag_s: float | None = None
    """From a change of the setpoint to 63 % of it."""
    settling_s: float | None = None
    """From a change of the setpoint until the power stays within 5 % of it."""
    accuracy_w: float | None = None
    """Power given less power asked, at a fifth of the rating."""
    has_dead_man: bool | None = None
    """Whether it was seen to end a setpoint by itself."""
    dead_man_s: float | None = None
    """From the last write until it did."""
    manufacturer: str | None = None
    model: str | None = None
    serial: str | None = None
    firmware: str | None = None
    who: str = ""

    def same_device(self, manufacturer: str | None, model: str | None, serial: str | None) -> bool:
        """Whether this was measured at the device that says so of itself now."""
        return (self.manufacturer, self.model, self.serial) == (manufacturer, model, serial)

    @property
    def longest_hold_s(self) -> float | None:
        """How long it may hold a setpoint after the last write; infinite without a dead-man; None = not measured."""
        if self.has_dead_man is False:
            return math.inf
        return self.dead_man_s
