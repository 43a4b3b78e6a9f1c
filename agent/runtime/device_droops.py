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
        sunspec = {name: one for name, one in (batteries or {}).items() if isinstance(one, SunSpecBattery)}
        self._batteries = {name: one for name, one in sunspec.items() if name in chosen}
        self._touched = sunspec
        """Those whose owners may miss a setting: also of a run whose site file chose others."""
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
        """Give every owner his droop back, which is off until then; a droop of ours ends with its reversion time."""
        for device_id, battery in self._touched.items():
            if reason := await battery.give_back_droop():
                log.warning("droop_not_given_back", device=device_id, reason=reason)

    async def _write(self, write: DroopWrite) -> None:
        battery, part = self._batteries[write.device_id], write.part
        if part is None:
            outcome = await battery.write_droop(None, 0.0)
        else:
            outcome = await battery.write_droop(part.curve, part.respond_in_s, answering=write.answering)
        self._outcomes.append(outcome)
        if not outcome.ok:
            log.warning("droop_not_confirmed", device=write.device_id, reason=outcome.reason)
