"""A battery whose registers lie: reversed, wrong by a factor, without a working dead-man, or another one altogether."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from simulators.plant import Plant
from simulators.sunspec_devices import BatteryDevice
from simulators.sunspec_image import MAX_INT16


@dataclass(frozen=True, slots=True)
class Lies:
    """What is wrong with the battery's registers; as it is made, nothing is."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "allow_inf_nan": False}

    told_factor: float = 1.0
    """The inverter takes so many times the setpoint for it; -1: it counts charging as positive."""
    shown_factor: float = 1.0
    """Its measured power is shown so many times."""
    dead_man_works: bool = True
    """False: it takes the reversion time and never acts on it."""
    reverts_after_s: float | None = None
    """It ends a setpoint after this, whatever reversion time it was told."""
    serial: str = "SIM-BATTERY-1"

    @property
    def none(self) -> bool:
        """Whether it tells the truth."""
        return self == Lies()


class LyingBattery(BatteryDevice):
    """A SunSpec battery with these lies."""

    def __init__(
        self, plant: Plant, unit_id: int, base_address: int, bring_to_now: Callable[[], None], lies: Lies
    ) -> None:
        self._lies = lies
        super().__init__(plant, unit_id, base_address, bring_to_now)
        self.image.text("1.SN", lies.serial)

    def write(self, address: int, data: bytes) -> None:
        """As the honest one; its dead-man is armed by its own rules."""
        before_utc_s = self.control.revert_at_utc_s
        super().write(address, data)
        armed_utc_s = self.control.revert_at_utc_s
        if armed_utc_s in (None, before_utc_s):
            return
        own_s = self._lies.reverts_after_s if self._lies.dead_man_works else math.inf
        if own_s is not None:
            self.control.revert_at_utc_s = self._plant.utc_s + own_s if own_s < math.inf else None

    def apply_setpoint(self) -> None:
        """Hands the plant what the inverter makes of the setpoint."""
        wanted_w = self.control.wanted_w
        battery = self._plant.config.battery
        told_w = None if wanted_w is None else self._lies.told_factor * wanted_w
        if told_w is not None:
            told_w = max(-battery.rated_charge_w, min(battery.rated_discharge_w, told_w))
        self._plant.setpoint_w = told_w

    def _show(self) -> None:
        super()._show()
        largest_w = MAX_INT16 * self.image.resolution("701.W")
        shown_w = self._lies.shown_factor * self._plant.battery_w
        self.image.number("701.W", max(-largest_w, min(largest_w, shown_w)))
