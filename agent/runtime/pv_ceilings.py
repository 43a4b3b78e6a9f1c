"""Carries out the ceilings that the core decides for PV inverters, and brings back what became of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

import structlog

from agent.core.pv_limit import CeilingWrite, PvLine
from agent.core.snapshot import CeilingOutcome
from drivers.device import PvDevice

log = structlog.get_logger(__name__)


class PvCeilings:
    """The PV inverters of the site as things to write to."""

    def __init__(self, pvs: Mapping[str, PvDevice] | None = None) -> None:
        self._pvs = pvs or {}
        self._outcomes: list[CeilingOutcome] = []
        self.last: dict[str, CeilingOutcome] = {}
        """The newest outcome of each inverter, for `ems explain`."""

    def start(
        self, writes: Iterable[CeilingWrite], spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
    ) -> None:
        """Begin the writes; their outcomes come with `outcomes()` of a later tick."""
        for write in writes:
            spawn(self._write(write))

    def outcomes(self) -> tuple[CeilingOutcome, ...]:
        """What became of writes since the last call."""
        found, self._outcomes = tuple(self._outcomes), []
        return found

    async def let_go(self, lines: Iterable[PvLine]) -> None:
        """Take the ceilings back that would stay when this agent stops.

        An inverter with a timer keeps its ceiling for that long: a restart of the agent must not let PV through.
        """
        for line in lines:
            device = self._pvs[line.device_id]
            if line.wrote and device.has_dead_man is not True:
                await device.write_ceiling(None)

    async def _write(self, write: CeilingWrite) -> None:
        outcome = await self._pvs[write.device_id].write_ceiling(write.ceiling_w)
        self.last[write.device_id] = outcome
        self._outcomes.append(outcome)
        if not outcome.ok:
            log.warning("ceiling_not_confirmed", device=write.device_id, reason=outcome.reason)
