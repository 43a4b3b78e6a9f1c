"""One point of a device written by hand: worked out and refused first, written once, read back.

A point must be declared writable, by the profile or by its SunSpec model, and the value must lie inside limits that
somebody stated: the profile's `write_range`, the labels of its enumeration or bits, the rating of the device for a
power, 100 for a percentage. What wears out is written within its budget only.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass

from drivers.codec import Value
from drivers.device import Device
from drivers.errors import DeviceError
from drivers.point_write_profile import ProfileDevice, prepare_profile, seen_now
from drivers.point_write_sunspec import SunSpecDevice, prepare_sunspec, read_sunspec
from drivers.profile.roles import ProfileBattery, ProfileMeter, ProfilePv
from drivers.profile.writing import Writer
from drivers.setpoint import Unwritable
from drivers.written_point import PointRefused, PointWrite

__all__ = ["PointRefused", "PointWrite", "Written", "prepare", "write"]

FLOAT_SLACK = 1e-6
"""A device may round a 32-bit float on its way."""


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a write by hand."""

    seen: Value | None
    """What the point reads back; None where it cannot be read."""
    seen_label: str | None
    reason: str
    """Why the write is not known to have done what it should; "" when it has."""


async def prepare(device: Device, name: str, text: str, clock: Callable[[], float]) -> PointWrite:
    """What would be written, with what the point holds now; nothing is written.

    `PointRefused` when it must not be, `DeviceError` when the device does not answer or is another one.
    """
    await device.session.ensure_identified()
    if isinstance(device, ProfileBattery | ProfilePv | ProfileMeter):
        return await prepare_profile(device, name, text, clock)
    return await prepare_sunspec(device, name, text, clock)


async def write(device: Device, planned: PointWrite, clock: Callable[[], float]) -> Written:
    """Write once what `prepare` worked out, and read it back. Never raises a `DeviceError`: the outcome tells."""
    async with device.writing:
        try:
            await device.session.ensure_identified()
            if isinstance(device, ProfileBattery | ProfilePv | ProfileMeter):
                return await _to_profile(device, planned, clock)
            return await _to_sunspec(device, planned, clock)
        except (DeviceError, Unwritable) as error:
            return Written(None, None, str(error))


async def _to_profile(device: ProfileDevice, planned: PointWrite, clock: Callable[[], float]) -> Written:
    link = device.session.link
    writer = Writer(device.spots, link, clock, link.generation, device.budget)
    await writer.put(planned.name, planned.registers)
    point = device.spots.profile.points[planned.name]
    if not point.readable or point.write == "command":
        return Written(None, None, "it was acknowledged; reading this point back would tell nothing")
    await asyncio.sleep(device.spots.profile.pacing.before_read_back)
    seen, label = await seen_now(device, planned.name, clock)
    return Written(seen, label, _difference(planned, seen))


async def _to_sunspec(device: SunSpecDevice, planned: PointWrite, clock: Callable[[], float]) -> Written:
    link = device.session.link
    await link.write_registers(planned.unit_id, planned.address, planned.registers, generation=link.generation)
    seen = await read_sunspec(device, planned.name, clock)
    return Written(seen.value, None, _difference(planned, seen.value))


def _difference(planned: PointWrite, seen: Value | None) -> str:
    """Why what was read back is not what was written, or ""."""
    wanted = planned.new
    if isinstance(seen, int | float) and math.isclose(seen, wanted, rel_tol=FLOAT_SLACK, abs_tol=FLOAT_SLACK):
        return ""
    reads = "has no value" if seen is None else f"reads {seen:g}" if isinstance(seen, float) else f"reads {seen}"
    return (
        f"accepted but not applied: {planned.name} {reads} where {wanted:g} was written; check local/remote mode, "
        "the device's limits, and that no other client writes it"
    )
