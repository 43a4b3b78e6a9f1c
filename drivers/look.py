"""What a device of the site says now, point by point, for people: over its own connection, and without a write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agent.core.snapshot import Quality
from drivers.device import Device
from drivers.profile.roles import ProfileBattery, ProfileMeter, ProfilePv
from drivers.profile.trial import PointRead, Trial, UnknownPoint
from drivers.read_plan import Reads

__all__ = ["Look", "PointRead", "UnknownPoint", "look"]


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at a device showed; `mismatch` tells why it is not what its profile describes."""

    points: tuple[PointRead, ...]
    mismatch: tuple[str, ...] = ()


async def look(device: Device, names: Sequence[str], clock: Callable[[], float]) -> Look:
    """The points called `names`, all when there are none; `UnknownPoint`, or `DeviceError` if it does not answer.

    Of a SunSpec device those that its role polls, called by model and point (`701.W`).
    """
    if isinstance(device, ProfileBattery | ProfilePv | ProfileMeter):
        found: Trial = await device.look(names)
        return Look(found.points, found.mismatch)
    reads = await device.points()
    for name in names:
        if name not in reads:
            raise UnknownPoint(f"{name!r} is not polled of this device; these are: {', '.join(reads)}")
    return Look(tuple(_row(reads, name, clock()) for name in names or reads))


def _row(reads: Reads, name: str, now_mono_s: float) -> PointRead:
    read = reads[name]
    quality = Quality.MISSING if read.value is None else Quality.GOOD
    return PointRead(name, read.value, "", None, None, (), now_mono_s - read.read_mono_s, quality.value, "")
