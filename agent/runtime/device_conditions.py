"""What is wrong with a device beside its readings, as conditions: they become events and show in the status."""

from __future__ import annotations

from collections.abc import Iterable

from agent.core.decision import Condition
from agent.core.events import Severity
from agent.runtime.board import DeviceHealth

READ_ONLY_TEXT = (
    "the agent is in its read-only mode: it reads and decides, and writes to no device; "
    'take mode = "read_only" out of [control] and restart it to let it control'
)


def device_conditions(devices: Iterable[DeviceHealth], *, read_only: bool) -> tuple[Condition, ...]:
    """`wrong_identity`: another device answers. `unit_resting`: none does. `read_only`: nothing is written."""
    found = [Condition("read_only", "site", Severity.WARNING, READ_ONLY_TEXT)] if read_only else []
    for device in devices:
        if device.stranger is not None:
            found.append(Condition("wrong_identity", device.device_id, Severity.ALARM, device.stranger))
        if device.resting is not None:
            found.append(Condition("unit_resting", device.device_id, Severity.WARNING, device.resting))
    return tuple(found)
