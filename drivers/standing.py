"""How a device stands to its control, as its last poll told: remote or local, with or without a dead-man."""

from __future__ import annotations

from typing import Final

from drivers.device import Device
from drivers.meter import SunSpecMeter
from drivers.profile.conditions import holds
from drivers.profile.roles import ProfileBattery, ProfileMeter, ProfilePv
from drivers.readings import number

LOCAL_REMOTE: Final = ("715.LocRemCtl", "802.LocRemCtl")
REMOTE: Final = 0
"""What both models call remote."""


def accepts_remote(device: Device) -> bool | None:
    """Whether the device lets itself be controlled; None where it does not tell, or was not read yet."""
    reads = device.session.newest
    if isinstance(device, ProfileBattery | ProfilePv | ProfileMeter):
        profile = device.spots.profile
        control = getattr(getattr(profile, device.spec.role), "control", None)
        if control is None or control.remote is None:
            return None
        return holds(profile, control.remote, reads)
    told = [value for key in LOCAL_REMOTE if (value := number(reads, key)) is not None]
    return all(value == REMOTE for value in told) if told else None


def has_dead_man(device: Device) -> bool | None:
    """Whether it ends a setpoint by itself when they stop coming; None while not known, and for what takes none."""
    if isinstance(device, SunSpecMeter | ProfileMeter):
        return None
    return device.has_dead_man
