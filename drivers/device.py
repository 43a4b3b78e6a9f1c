"""The devices of a site by their roles: the one place that knows which class fills which."""

from __future__ import annotations

from collections.abc import Callable

from drivers.battery import SunSpecBattery
from drivers.meter import SunSpecMeter
from drivers.pv import SunSpecPv
from drivers.registers import Registers
from drivers.spec import BadSpec, DeviceSpec, Identity

__all__ = ["BadSpec", "Device", "DeviceSpec", "Identity", "open_device"]

Device = SunSpecBattery | SunSpecPv | SunSpecMeter


def open_device(spec: DeviceSpec, link: Registers, clock: Callable[[], float]) -> Device:
    """The device that `spec` describes; nothing is sent before it is first read or written."""
    match spec.role:
        case "battery":
            return SunSpecBattery(spec, link, clock)
        case "pv":
            return SunSpecPv(spec, link, clock)
        case "meter":
            return SunSpecMeter(spec, link, clock)
