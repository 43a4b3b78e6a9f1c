"""One task per Modbus endpoint: reads its devices in turn and leaves the newest samples on the board."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from agent.runtime.board import Board, DeviceHealth
from agent.runtime.clock import Clock
from drivers.device import Device
from drivers.errors import DeviceError, IdentityMismatch
from drivers.spec import Identity

log = structlog.get_logger(__name__)

PROBE_EVERY_S = 10.0
"""A device that failed `FAILURES_UNTIL_PROBING` times in a row is only tried this often,
so that it cannot hold up the others on its endpoint."""
FAILURES_UNTIL_PROBING = 3
LONGEST_NAP_S = 0.25
"""At least this often it is looked whether a device must be read sooner now."""


@dataclass
class Polled:
    """One device in its poller."""

    device: Device
    period_s: float
    health: DeviceHealth
    identified: bool = False
    next_mono_s: float = 0.0


class EndpointPoller:
    """Polls the devices behind one endpoint, each at its own period, never faster than they answer."""

    def __init__(self, polled: Sequence[Polled], board: Board, clock: Clock) -> None:
        self._polled = list(polled)
        self._board = board
        self._clock = clock
        self.first_round = asyncio.Event()
        """Set when each device here was read, or failed, once."""

    async def run(self) -> None:
        """Polls for ever."""
        while True:
            now_s = self._clock.mono_s()
            self._hurry(now_s)
            due = min(self._polled, key=lambda polled: polled.next_mono_s)
            if due.next_mono_s > now_s + LONGEST_NAP_S:
                await self._clock.sleep_until(now_s + LONGEST_NAP_S)
                continue
            await self._clock.sleep_until(due.next_mono_s)
            started_s = self._clock.mono_s()
            await self._poll(due)
            waited = started_s if due.next_mono_s == 0.0 else due.next_mono_s
            probing = due.health.failures_in_a_row >= FAILURES_UNTIL_PROBING
            # Fixed phase while the device keeps up; missed turns are skipped, not made up.
            period_s = self._board.period_s(due.health.device_id, due.period_s)
            due.next_mono_s = max(waited + (PROBE_EVERY_S if probing else period_s), self._clock.mono_s())
            if all(polled.health.polls + polled.health.failures for polled in self._polled):
                self.first_round.set()

    def _hurry(self, now_s: float) -> None:
        """Turns that are further away than they may be now, because an award begins, come sooner."""
        for polled in self._polled:
            if polled.health.failures_in_a_row < FAILURES_UNTIL_PROBING:
                period_s = self._board.period_s(polled.health.device_id, polled.period_s)
                polled.next_mono_s = min(polled.next_mono_s, now_s + period_s)

    async def _poll(self, polled: Polled) -> None:
        health = polled.health
        started_s = self._clock.mono_s()
        try:
            if not polled.identified:
                identity = await polled.device.identify()
                health.identity = _named(identity)
                polled.identified = True
                log.info("device_found", device=health.device_id, endpoint=health.endpoint, identity=health.identity)
            self._board.post(await polled.device.read())
        except DeviceError as error:
            health.failures += 1
            health.failures_in_a_row += 1
            health.last_error = str(error)
            health.record.failed(self._clock.mono_s(), error)
            if isinstance(error, IdentityMismatch):
                health.stranger = str(error)
            if health.failures_in_a_row == FAILURES_UNTIL_PROBING:
                # It may come back as another unit: find out who it is before it is trusted again.
                polled.identified = False
                log.warning("device_failing", device=health.device_id, endpoint=health.endpoint, error=str(error))
        else:
            health.polls += 1
            health.failures_in_a_row = 0
            health.last_error = None
            health.stranger = None
            health.read_mono_s = self._clock.mono_s()
            health.latency_s = health.read_mono_s - started_s
            health.record.good(health.read_mono_s, health.latency_s)


def _named(identity: Identity) -> str:
    """Who the device says it is, for people."""
    parts = [identity.manufacturer, identity.model]
    parts += [f"serial {identity.serial}" if identity.serial else None]
    parts += [f"firmware {identity.firmware}" if identity.firmware else None]
    return " ".join(part for part in parts if part) or "nameless"
