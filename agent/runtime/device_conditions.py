"""What is wrong with a device beside its readings, as conditions: they become events and show in the status."""

from __future__ import annotations

from collections.abc import Iterable

from agent.core.decision import Condition
from agent.core.events import Severity
from agent.runtime.board import DeviceHealth
from drivers.device import Device
from drivers.profile.roles import ProfileBattery, ProfileMeter, ProfilePv

WEAR_TOLD_SHARE = 0.75
"""Of the day's writes to registers that wear out: they are for a few take-overs a day, so that this is unusual."""
READ_ONLY_TEXT = (
    "the agent is in its read-only mode: it reads and decides, and writes to no device; "
    'take mode = "read_only" out of [control] and restart it to let it control'
)


def device_conditions(devices: Iterable[DeviceHealth], *, read_only: bool) -> tuple[Condition, ...]:
    """`wrong_identity`: another device answers. `unit_resting`: none does. `readings_frozen`, `read_only`."""
    found = [Condition("read_only", "site", Severity.WARNING, READ_ONLY_TEXT)] if read_only else []
    for device in devices:
        if device.stranger is not None:
            found.append(Condition("wrong_identity", device.device_id, Severity.ALARM, device.stranger))
        if device.frozen is not None:
            found.append(Condition("readings_frozen", device.device_id, Severity.ALARM, device.frozen))
        if device.resting is not None:
            found.append(Condition("unit_resting", device.device_id, Severity.WARNING, device.resting))
    return tuple(found)


def wear_conditions(devices: Iterable[Device]) -> tuple[Condition, ...]:
    """`stored_writes_low`, `stored_writes_spent`: registers that wear out were written often within the last 24 h."""
    found: list[Condition] = []
    for device in devices:
        wear = device.wear if isinstance(device, ProfileBattery | ProfilePv | ProfileMeter) else None
        if wear is None or wear.spent < WEAR_TOLD_SHARE * wear.per_day:
            continue
        used = (
            f"{wear.spent} of {wear.per_day} writes within 24 h to registers that are stored in the device and wear out"
        )
        if wear.spent >= wear.per_day:
            text = (
                f"{used}: no more until one is a day old, and without them no take-over; find out who changes it back"
            )
            found.append(Condition("stored_writes_spent", device.spec.device_id, Severity.ALARM, text))
        else:
            text = f"{used}: find out who changes them back, a second controller or a device that restarts"
            found.append(Condition("stored_writes_low", device.spec.device_id, Severity.WARNING, text))
    return tuple(found)
