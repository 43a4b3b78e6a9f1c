"""Whether a running device is what the site file and its profile say: identity, points, limits, dead-man, remote."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from agent.core.snapshot import BatterySample, Quality
from agent.runtime.clock import Clock
from agent.runtime.local_socket import Handler, Peer
from agent.runtime.request_fields import device_of
from agent.site_file.device import DeviceSection
from drivers.device import BatteryDevice, Device, PvDevice
from drivers.errors import DeviceError
from drivers.look import Look, look
from drivers.profile.roles import ProfileBattery, ProfileMeter, ProfilePv
from drivers.standing import accepts_remote, has_dead_man

WHAT = "devices check"
RATING_APART = 0.05
"""More than this share between nameplate and site file is worth a look."""


@dataclass(frozen=True, slots=True)
class Found:
    """One thing that was looked at."""

    what: str
    verdict: Literal["ok", "warning", "error"]
    detail: str


@dataclass(frozen=True)
class DeviceChecks:
    """The command `device_check`. `batteries` gives the newest samples."""

    sections: Sequence[DeviceSection]
    devices: Mapping[str, Device]
    clock: Clock
    batteries: Callable[[], Sequence[BatterySample]]

    def handlers(self) -> dict[str, Handler]:
        """The command by name."""
        return {"device_check": self._check}

    async def _check(self, request: dict[str, Any], _peer: Peer) -> dict[str, Any]:
        section = device_of(WHAT, request, {section.id: section for section in self.sections})
        found = [one async for one in self._found(section)]
        usable = not any(one.verdict == "error" for one in found)
        return {"device_id": section.id, "usable": usable, "found": [asdict(one) for one in found]}

    async def _found(self, section: DeviceSection) -> AsyncIterator[Found]:
        device = self.devices[section.id]
        try:
            identity = await device.identify()
        except DeviceError as error:
            yield Found("identity", "error", str(error))
            return
        parts = (identity.manufacturer, identity.model, identity.serial and f"serial {identity.serial}")
        yield Found("identity", "ok", " ".join(part for part in parts if part) or "nameless, but as described")
        if section.expected_serial is None and identity.serial is not None:
            hint = f'state expected_serial = "{identity.serial}" in the site file, then no other one is ever written to'
            yield Found("serial number", "warning", f"any device of this kind is accepted: {hint}")
        try:
            seen = await look(device, [], self.clock.mono_s)
        except DeviceError as error:
            yield Found("points", "error", str(error))
            return
        for one in (*_points(device, seen), *self._limits(section), *_control(device)):
            yield one

    def _limits(self, section: DeviceSection) -> Iterator[Found]:
        """The nameplate beside what the site file states."""
        sample = next((one for one in self.batteries() if one.device_id == section.id), None)
        if sample is None or section.rated_power is None:
            return
        stated = (section.rated_power, section.rated_charge_power or section.rated_power)
        told = (sample.rated_discharge_w.value, sample.rated_charge_w.value)
        for name, ours_w, theirs_w in zip(("discharge", "charge"), stated, told, strict=True):
            if theirs_w is None:
                continue
            text = f"{name}: {ours_w / 1000:g} kW in the site file, {theirs_w / 1000:g} kW by the device"
            apart = abs(ours_w - theirs_w) > RATING_APART * theirs_w
            if apart:
                yield Found("rated power", "warning", f"{text}; the smaller one holds")
            else:
                yield Found("rated power", "ok", text)


def _points(device: Device, seen: Look) -> Iterator[Found]:
    """Points that the device does not offer, or whose values cannot be true."""
    for why in seen.mismatch:
        yield Found("identity", "error", f"{why} does not hold")
    silent = [point.name for point in seen.points if point.note]
    odd = [point.name for point in seen.points if point.quality == Quality.IMPLAUSIBLE]
    count = len(seen.points) - len(silent)
    if silent:
        yield Found("points", "warning", f"not offered: {', '.join(silent)}")
    if odd:
        yield Found("points", "error", f"cannot be true: {', '.join(odd)}; check profile, unit id and word order")
    if not odd:
        yield Found("points", "ok", f"{count} of {len(seen.points)} points are offered, with values that can be true")
    if isinstance(device, ProfileBattery | ProfilePv | ProfileMeter):
        yield from _ranges(device, seen)


def _ranges(device: ProfileBattery | ProfilePv | ProfileMeter, seen: Look) -> Iterator[Found]:
    """What the device holds beside the range that its profile lets be written."""
    for point in seen.points:
        limits, value = device.spots.profile.points[point.name].write_range, point.value
        if limits is None or not isinstance(value, int | float) or limits[0] <= value <= limits[1]:
            continue
        text = f"{point.name} holds {value:g}, outside of {limits[0]:g} to {limits[1]:g} {point.unit}".rstrip()
        yield Found("limits", "warning", f"{text} that the profile lets be written: one of both is wrong")
    budget = device.budget
    if any(point.write == "stored" for point in device.spots.profile.points.values()):
        left = budget.left
        text = f"{left} writes of registers that wear out are left of the last 24 h"
        yield Found("stored registers", "ok" if left else "warning", text)


def _control(device: Device) -> Iterator[Found]:
    """Whether the device lets itself be controlled, and what it does when the agent is gone."""
    remote = accepts_remote(device)
    if remote is not None:
        text = "remote" if remote else "it is in local control and takes no setpoints: set it to remote at the device"
        yield Found("remote", "ok" if remote else "error", text)
    guarded = has_dead_man(device)
    if guarded is None or not _is_led(device):
        return
    text = "it ends a setpoint by itself" if guarded else "it would hold its last setpoint for ever if the agent died"
    yield Found("dead-man", "ok" if guarded else "warning", text)


def _is_led(device: Device) -> bool:
    return isinstance(device, BatteryDevice | PvDevice)
