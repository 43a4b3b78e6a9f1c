"""Carries out what the core decides for the batteries' own droop, and brings back what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Coroutine, Iterable, Mapping
from typing import Any

import structlog

from agent.core.delegation import DroopWrite
from agent.core.snapshot import DroopOutcome
from drivers.battery import SunSpecBattery
from drivers.device import BatteryDevice

log = structlog.get_logger(__name__)


class DeviceDroops:
    """The batteries of the site whose own droop may answer the frequency, as things to write to."""

    def __init__(self, batteries: Mapping[str, BatteryDevice] | None = None, chosen: Container[str] = ()) -> None:
        """`chosen` are the ids of those that the site file says it of; a device with a profile has no such droop."""
        self._batteries = {
            device_id: battery
            for device_id, battery in (batteries or {}).items()
            if device_id in chosen and isinstance(battery, SunSpecBattery)
        }
        self._outcomes: list[DroopOutcome] = []

    def start(
        self, writes: Iterable[DroopWrite], spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
    ) -> None:
        """Begin the writes; their outcomes come with `outcomes()` of a later tick."""
        for write in writes:
            spawn(self._write(write))

    def outcomes(self) -> tuple[DroopOutcome, ...]:
        """What became of writes since the last call."""
        found, self._outcomes = tuple(self._outcomes), []
        return found

    async def let_go(self) -> None:
        """Switch every device's droop off; one that does not confirm it ends it with its reversion time."""
        for battery in self._batteries.values():
            outcome = await battery.write_droop(None, 0.0)
            if not outcome.off:
                log.warning("droop_not_off", device=outcome.device_id, reason=outcome.reason)

    async def _write(self, write: DroopWrite) -> None:
        battery, part = self._batteries[write.device_id], write.part
        if part is None:
            outcome = await battery.write_droop(None, 0.0)
        else:
            outcome = await battery.write_droop(part.curve, part.respond_in_s, answering=write.answering)
        self._outcomes.append(outcome)
        if not outcome.ok:
            log.warning("droop_not_confirmed", device=write.device_id, reason=outcome.reason)
