"""A battery whose registers lie: reversed, wrong by a factor, without a working dead-man, or another one altogether."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from drivers.profile.model import Control, Profile
from simulators.plant import Plant
from simulators.profile_device import ProfileDevice
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
    """Of the SunSpec battery."""

    @property
    def none(self) -> bool:
        """Whether it tells the truth."""
        return self == HONEST


HONEST = Lies()


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
        self._plant.setpoint_w = _misunderstood_w(self._plant, self.control.wanted_w, self._lies)

    def _show(self) -> None:
        super()._show()
        largest_w = MAX_INT16 * self.image.resolution("701.W")
        shown_w = self._lies.shown_factor * self._plant.battery_w
        self.image.number("701.W", max(-largest_w, min(largest_w, shown_w)))


class LyingProfileDevice(ProfileDevice):
    """A battery made from its profile, with these lies."""

    def __init__(
        self,
        profile: Profile,
        plant: Plant,
        bring_to_now: Callable[[], None],
        unit_id: int,
        *,
        unit_ids: Mapping[str, int] | None,
        positive: str,
        lies: Lies,
    ) -> None:
        self._lies = lies
        super().__init__(profile, plant, bring_to_now, unit_id, unit_ids=unit_ids, positive=positive)

    def _arm(self, role: str, control: Control) -> None:
        super()._arm(role, control)
        if not self._lies.dead_man_works:
            self._revert_at_utc_s.pop(role, None)
        elif self._lies.reverts_after_s is not None:
            self._revert_at_utc_s[role] = self._plant.utc_s + self._lies.reverts_after_s

    def _wanted_w(self, control: Control) -> float | None:
        wanted_w = super()._wanted_w(control)
        return _misunderstood_w(self._plant, wanted_w, self._lies) if control is self._control else wanted_w

    def _readings(self, role: str) -> dict[str, float]:
        found = super()._readings(role)
        return found | {"power_w": self._lies.shown_factor * found["power_w"]} if role == "battery" else found


def _misunderstood_w(plant: Plant, wanted_w: float | None, lies: Lies) -> float | None:
    """What the inverter makes of a setpoint; None where it has none."""
    if wanted_w is None:
        return None
    battery = plant.config.battery
    return max(-battery.rated_charge_w, min(battery.rated_discharge_w, lies.told_factor * wanted_w))
