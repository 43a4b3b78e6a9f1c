"""What is wrong with a device beside its readings, as conditions: they become events and show in the status."""

from __future__ import annotations

from collections.abc import Iterable

from agent.core.decision import Condition
from agent.core.events import Severity
from agent.runtime.board import DeviceHealth


def device_conditions(devices: Iterable[DeviceHealth]) -> tuple[Condition, ...]:
    """`wrong_identity` for each device at whose address another one answers."""
    return tuple(
        Condition("wrong_identity", device.device_id, Severity.ALARM, device.stranger)
        for device in devices
        if device.stranger is not None
    )
