"""The running parts of one daemon: what follows each tick, what runs beside the control loop, and how they end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from agent.core.decision import Effects
from agent.runtime.cloud_side import CloudSide
from agent.runtime.commissioning import CommissioningSide
from agent.runtime.control import ControlLoop
from agent.runtime.models import LearnedModels
from agent.runtime.notify import Notifier
from agent.runtime.outside import Outside
from agent.runtime.recorder import Recorder
from agent.runtime.reload import Reloading
from agent.runtime.replan_side import ReplanSide
from agent.runtime.report import status_line
from agent.runtime.safe_mode import SafeMode
from agent.runtime.site_authority import SiteAuthority

log = structlog.get_logger(__name__)

NEUTRAL_WITHIN_S = 5.0
"""A stop waits this long for the batteries to confirm 0 kW; their dead-man covers the rest."""


@dataclass(frozen=True)
class Live:
    """All of them, wired."""

    control: ControlLoop
    cloud: CloudSide
    recorder: Recorder
    authority: SiteAuthority
    commissioning: CommissioningSide
    safe_mode: SafeMode
    models: LearnedModels
    replanning: ReplanSide | None
    reloading: Reloading

    def after_tick(self, outside: Outside, notifier: Notifier, look: Callable[[], None]) -> Callable[[Effects], None]:
        """What follows each whole tick, in this order; `look` is the housekeeping."""

        def after(effects: Effects) -> None:
            self.recorder.put(effects)
            self.authority.after_tick(effects)
            self.commissioning.after_tick(effects)
            self.safe_mode.after_tick(effects)
            self.cloud.after_tick(effects)
            look()
            if outside.watch is not None:
                outside.watch(self.control, effects)
            # Only a whole tick feeds the watchdog.
            line = partial(status_line, effects.decision, self.control.state.conditions.values())
            notifier.alive(line, effects.decision.mono_s)

        return after

    def beside(self) -> Iterator[tuple[str, Callable[[], Coroutine[Any, Any, None]]]]:
        """What runs for ever beside the control loop, by name."""
        yield "recorder", self.recorder.run
        yield "cloud", self.cloud.run
        yield "authority", self.authority.run
        yield "commissioning", self.commissioning.run

    async def end(self, polling: list[asyncio.Task[None]]) -> None:
        """The batteries at rest, polling over, everything on disk."""
        if not await self.control.neutral(NEUTRAL_WITHIN_S):
            log.warning("not_neutral", text="no confirmation of 0 kW: the dead-man ends the last setpoint")
        for task in polling:
            task.cancel()
        await self.models.save_now()
        await self.safe_mode.end_cleanly()
        await self.recorder.flush()
        await self.recorder.seal()
