"""The devices of a site by their roles: the one place that knows which class fills which."""

from __future__ import annotations

from collections.abc import Callable

from drivers.battery import SunSpecBattery
from drivers.meter import SunSpecMeter
from drivers.profile.roles import ProfileBattery, ProfileMeter, ProfilePv, open_profile_device
from drivers.profile.settings import OwnersSettings
from drivers.profile.wear import StoredWrites
from drivers.pv import SunSpecPv
from drivers.registers import Registers
from drivers.spec import BadSpec, DeviceSpec, Identity

__all__ = ["BadSpec", "BatteryDevice", "Device", "DeviceSpec", "Identity", "MeterDevice", "PvDevice", "open_device"]

BatteryDevice = SunSpecBattery | ProfileBattery
PvDevice = SunSpecPv | ProfilePv
MeterDevice = SunSpecMeter | ProfileMeter
Device = BatteryDevice | PvDevice | MeterDevice


def open_device(
    spec: DeviceSpec,
    link: Registers,
    clock: Callable[[], float],
    settings: OwnersSettings | None = None,
    writes: StoredWrites | None = None,
) -> Device:
    """The device that `spec` describes; nothing is sent before it is first read or written.

    `settings` keeps what a take-over overwrites, `writes` how often registers that wear out were written; without them
    only the running process does.
    """
    if spec.sunspec is None:
        return open_profile_device(spec, link, clock, settings, writes)
    match spec.role:
        case "battery":
            return SunSpecBattery(spec, link, clock, settings)
        case "pv":
            return SunSpecPv(spec, link, clock)
        case "meter":
            return SunSpecMeter(spec, link, clock)
