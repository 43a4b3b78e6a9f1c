"""Registers that are stored in a device (EEPROM, flash) and wear out: how often they were written, and may be.

The writes are counted by Unix time, over restarts of the agent: one that restarts in a loop would else wear a register
out in weeks. A clock that was set back leaves writes in the future: they count until it has come.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from drivers.profile.notes import by_device, is_number
from drivers.setpoint import Unwritable

DAY_S = 86_400.0
MOST_KEPT = 1000
"""Writes remembered of one device: the highest budget that a profile may state."""


class Wear(NamedTuple):
    """How much of a device's budget is used."""

    spent: int
    """Writes within the last 24 h."""
    per_day: int


class StoredWrites:
    """When registers that wear out were written, by device. `keep` makes the text of it durable before it returns."""

    def __init__(self, utc_s: Callable[[], float], keep: Callable[[str], Awaitable[None]] | None = None) -> None:
        self._utc_s = utc_s
        self._keep = keep
        self._by_device: dict[str, list[float]] = {}

    def restore(self, text: str | None) -> None:
        """Take over what an earlier run kept; text that cannot be read counts as nothing."""
        for device_id, times in by_device(text).items():
            if isinstance(times, list):
                found = [float(time_s) for time_s in times if is_number(time_s)]
                self._by_device[device_id] = [*found, *self._by_device.get(device_id, [])][-MOST_KEPT:]

    def spent(self, device_id: str) -> int:
        """Writes to the device within the last 24 h."""
        return len(self._recent(device_id))

    async def note(self, device_id: str) -> None:
        """One more write, kept before it is sent."""
        self._by_device[device_id] = [*self._recent(device_id), self._utc_s()][-MOST_KEPT:]
        if self._keep is not None:
            await self._keep(json.dumps(self._by_device))

    def _recent(self, device_id: str) -> list[float]:
        now_s = self._utc_s()
        return [time_s for time_s in self._by_device.get(device_id, []) if now_s - time_s < DAY_S]


class StoredBudget:
    """How often registers of one device that wear out may still be written."""

    def __init__(self, device_id: str, per_day: int, writes: StoredWrites) -> None:
        self._device_id = device_id
        self._per_day = per_day
        self._writes = writes

    @property
    def wear(self) -> Wear:
        """How much of it is used now."""
        return Wear(self._writes.spent(self._device_id), self._per_day)

    @property
    def left(self) -> int:
        """How many writes are left now."""
        return max(self._per_day - self.wear.spent, 0)

    async def spend(self, name: str) -> None:
        """Count one write; `Unwritable` when the day's writes are spent."""
        if self.left <= 0:
            raise Unwritable(
                f"{name} is stored in the device and wears out: its {self._per_day} writes of the last 24 h are spent; "
                "find out who changes it back, or raise stored_writes_per_day in the profile"
            )
        await self._writes.note(self._device_id)
