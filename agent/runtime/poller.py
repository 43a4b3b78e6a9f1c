"""One task per Modbus endpoint: reads its devices in turn and leaves the newest samples on the board."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from agent.core.events import Event, EventState, Severity
from agent.core.snapshot import BatterySample
from agent.core.stillness import Stillness
from agent.runtime.board import Board, DeviceHealth, Sample
from agent.runtime.clock import Clock
from drivers.bisect import ASK_AGAIN_S
from drivers.device import Device
from drivers.errors import DeviceError, Frozen, IdentityMismatch, UnitResting
from drivers.link import Link
from drivers.spec import Identity

log = structlog.get_logger(__name__)

STRANGER_EVERY_S = 10.0
"""A device that answers, but not as what it should be, is looked at anew this often; one that does not answer is tried
again when its link allows it (`drivers.patience`)."""
FAILURES_UNTIL_STRANGE = 3
TOGETHER = 10
PHASE_S = 0.01
"""So many pollers begin together, which lets the process wake once for several answers (a quarter of its processor
time); the next so many a little later, so that the readings of large sites come on time too."""


@dataclass
class Polled:
    """One device in its poller."""

    device: Device
    period_s: float
    health: DeviceHealth
    link: Link
    identified: bool = False
    next_mono_s: float = 0.0
    stillness: Stillness = field(default_factory=Stillness)
    told_refused: set[str] = field(default_factory=set)
    """Points whose refusal was told."""

    def check_alive(self, sample: Sample, now_s: float) -> None:
        """`Frozen` when a battery's values stand still while it gives power; then they are not believed."""
        if not isinstance(sample, BatterySample):
            return
        self.stillness = self.stillness.looked(sample, now_s)
        still_s = self.stillness.frozen_s(now_s)
        self.health.frozen = None
        if still_s is not None:
            what = f"it gives power, and its values have not changed by a bit for {still_s:.0f} s"
            hint = "restart the device or its gateway: it repeats old values"
            frozen = Frozen(what, endpoint=self.link.name, unit_id=self.device.spec.unit_id, hint=hint)
            self.health.frozen = str(frozen)
            raise frozen

    @property
    def retry_mono_s(self) -> float:
        """Asking it before this time is in vain."""
        return self.link.retry_mono_s(self.device.spec.unit_id)

    @property
    def resting(self) -> str | None:
        """Why its unit is left alone now, None while it is not."""
        unit = self.link.unit(self.device.spec.unit_id)
        if unit.retry_in_s is None:
            return None
        return (
            f"unit {self.device.spec.unit_id} failed {unit.failures_in_a_row} times in a row and is left alone but for "
            f"single trials, so that it does not slow others on its line ({self.health.last_error})"
        )

    @property
    def answers(self) -> bool:
        """Whether its unit answers at all."""
        return self.link.connected and self.link.unit(self.device.spec.unit_id).failures_in_a_row == 0


class EndpointPoller:
    """Polls the devices behind one endpoint, each at its own period, never faster than they answer."""

    def __init__(
        self,
        polled: Sequence[Polled],
        board: Board,
        clock: Clock,
        tell: Callable[[Event], None],
        *,
        phase_s: float = 0.0,
    ) -> None:
        """`phase_s` keeps the first requests of several pollers, and so all that follow, out of each other's way."""
        self._polled = list(polled)
        self._board = board
        self._clock = clock
        self._tell = tell
        self._phase_s = phase_s
        self._may_hurry = any(board.may_hurry(one.health.device_id) for one in self._polled)
        self._nap: asyncio.Task[None] | None = None
        if self._may_hurry:
            board.on_hurry = self._wake
        self.first_round = asyncio.Event()
        """Set when each device here was read, or failed, once."""

    async def run(self) -> None:
        """Polls for ever."""
        await self._clock.sleep_until(self._clock.mono_s() + self._phase_s)
        while True:
            now_s = self._clock.mono_s()
            self._hurry(now_s)
            due = min(self._polled, key=lambda polled: polled.next_mono_s)
            if not await self._slept_until(due.next_mono_s):
                continue
            started_s = self._clock.mono_s()
            await self._poll(due)
            waited = started_s if due.next_mono_s == 0.0 else due.next_mono_s
            # Fixed phase while the device keeps up; missed turns are skipped, not made up.
            due.next_mono_s = max(waited + self._pause_s(due), self._clock.mono_s(), due.retry_mono_s)
            if all(polled.health.polls + polled.health.failures for polled in self._polled):
                self.first_round.set()

    async def _slept_until(self, mono_s: float) -> bool:
        """Returns at that time, or sooner, and False, when turns must be looked at anew."""
        if not self._may_hurry:
            await self._clock.sleep_until(mono_s)
            return True
        self._nap = nap = asyncio.ensure_future(self._clock.sleep_until(mono_s))
        try:
            await asyncio.wait((nap,))
            if nap.cancelled():
                return False
            nap.result()
            return True
        finally:
            self._nap = None
            nap.cancel()

    def _wake(self) -> None:
        if self._nap is not None:
            self._nap.cancel()

    def _hurry(self, now_s: float) -> None:
        """Turns that are further away than they may be now, because an award begins, come sooner."""
        for polled in self._polled:
            if not polled.health.failures_in_a_row:
                polled.next_mono_s = min(polled.next_mono_s, now_s + self._pause_s(polled))

    def _pause_s(self, polled: Polled) -> float:
        health = polled.health
        if health.failures_in_a_row >= FAILURES_UNTIL_STRANGE and polled.answers:
            return STRANGER_EVERY_S
        return self._board.period_s(health.device_id, polled.period_s)

    async def _poll(self, polled: Polled) -> None:
        health = polled.health
        started_s = self._clock.mono_s()
        try:
            if not polled.identified:
                identity = await polled.device.identify()
                health.identity = _named(identity)
                polled.identified = True
                log.info("device_found", device=health.device_id, endpoint=health.endpoint, identity=health.identity)
            sample = await polled.device.read()
            polled.check_alive(sample, self._clock.mono_s())
            self._board.post(sample)
        except UnitResting:
            health.resting = polled.resting  # another device behind the same unit id found out; nothing was asked
        except DeviceError as error:
            health.failures += 1
            health.failures_in_a_row += 1
            health.last_error = str(error)
            health.record.failed(self._clock.mono_s(), error)
            if isinstance(error, IdentityMismatch):
                health.stranger = str(error)
            health.resting = polled.resting
            if health.failures_in_a_row == FAILURES_UNTIL_STRANGE:
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
            health.resting = None
            self._tell_refused(polled)

    def _tell_refused(self, polled: Polled) -> None:
        """NOTED once for each point that the device refuses to be read."""
        for name, refusal in polled.device.session.refusals.items():
            if name in polled.told_refused:
                continue
            polled.told_refused.add(name)
            text = (
                f"{name} cannot be read: {refusal}. The rest is read on; this point is left out, and asked for again "
                f"every {ASK_AGAIN_S / 60:.0f} minutes and at the next connection"
            )
            data = {"point": name, "address": refusal.address, "exception": refusal.code}
            device_id, utc_s = polled.health.device_id, self._clock.utc_s()
            self._tell(Event(utc_s, EventState.NOTED, Severity.WARNING, "point_refused", device_id, text, data))


def phase_s(index: int) -> float:
    """How much later than the first one the poller of this index begins."""
    return index // TOGETHER * PHASE_S


def _named(identity: Identity) -> str:
    """Who the device says it is, for people."""
    parts = [identity.manufacturer, identity.model]
    parts += [f"serial {identity.serial}" if identity.serial else None]
    parts += [f"firmware {identity.firmware}" if identity.firmware else None]
    return " ".join(part for part in parts if part) or "nameless"
