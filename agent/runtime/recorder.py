"""Writes down what the control loop did, behind it and never in its way.

The loop leaves each tick's effects in a bounded queue; here they become samples, frames, ledger slots, events and
decisions of note. A disk that does not keep up costs samples, counted, never a tick.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import structlog

from agent.core.decision import Condition, Decision, Effects
from agent.core.events import Event, Severity
from agent.core.evidence import EvidenceRow
from agent.core.ledger import SlotRow, open_slot_row, slot_row
from agent.core.records import Sample, StorageFailed, Stream
from agent.runtime.report import explanation
from agent.store import BuildFrame, BuildFromFrames, Store

log = structlog.get_logger(__name__)

MOST_SUMMED_UP = 120
"""Frames in one summary: two hours of them where the agent or the disk was away when it was due."""
MAX_WAITING = 600
"""Ticks whose record may wait for the disk: ten minutes at 1 Hz."""

MAX_EVIDENCE_WAITING = 3_600
"""Seconds of evidence that may wait for the disk."""
MAX_SLOTS_WAITING = 600
"""Finished slots that may wait for the disk, twelve days of half hours; beyond it the oldest go."""
SLOW_FROM = 60
"""Ticks whose record waits, from which on the disk is said not to keep up."""
EARLY_SHARE = 0.05
"""A tick this share of the period before its edge is counted as on it."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Summaries:
    """How full-rate frames become one frame of means, and how often, s."""

    every_s: float
    build: BuildFromFrames


class Recorder:
    """The queue between the control loop and the store."""

    def __init__(
        self,
        *,
        store: Store,
        boot_id: str,
        frame_s: float,
        sample_s: float,
        build_frame: BuildFrame,
        points: Callable[[], Mapping[str, float | None]] = dict,
        summaries: Summaries | None = None,
        on_kept: Callable[[], None],
        on_sample: Callable[[Sample], None] = lambda _sample: None,
    ) -> None:
        """`sample_s` is the site's own tick: the quicker ones of an award leave no samples, but evidence per second.

        `points` are what the devices told, at the moment of the call. With `summaries` (a metered link) the frames of
        every sample stay on the site, and means of them are sent.
        """
        self._store = store
        self._boot_id = boot_id
        self._frame_s = frame_s
        self._sample_s = sample_s
        self._sample_number: int | None = None
        self._build_frame = build_frame
        self._points = points
        self._summaries = summaries
        self._stream = Stream.TELEMETRY if summaries is None else Stream.FULL_RATE
        self._on_kept = on_kept
        self._on_sample = on_sample
        self._waiting: deque[tuple[Effects, Mapping[str, float | None]]] = deque()
        self._events: deque[Event] = deque(maxlen=MAX_WAITING)
        self._evidence: deque[EvidenceRow] = deque(maxlen=MAX_EVIDENCE_WAITING)
        self._closed: deque[SlotRow] = deque(maxlen=MAX_SLOTS_WAITING)
        self._wake = asyncio.Event()
        self._frame_number: int | None = None
        self._summary_number: int | None = None
        self._noted: tuple[object, ...] = ()
        self._failing: dict[str, str] = {}
        self.samples_dropped = 0
        self.frames_sealed = 0

    def put(self, effects: Effects) -> None:
        """Takes over one tick's effects; returns at once."""
        for event in effects.events:
            self.tell(event)
        # Slack: a tick that comes a little early belongs to the edge that it was meant for.
        number = math.floor(effects.decision.utc_s / self._sample_s + EARLY_SHARE)
        self._evidence.extend(effects.evidence)
        if self._events or self._evidence:
            self._wake.set()
        if number == self._sample_number and effects.closed is None:
            return
        self._sample_number = number
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self.samples_dropped += 1
        self._waiting.append((effects, self._points()))
        self._wake.set()

    def tell(self, event: Event) -> None:
        """Takes over one event; logged now, on disk as soon as that takes it."""
        log.info(
            "event", code=event.code, subject=event.subject, state=event.state, text=event.text, data=dict(event.data)
        )
        self._events.append(event)
        self._wake.set()

    async def run(self) -> None:
        """Writes for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.flush()

    async def flush(self) -> None:
        """Returns when all that waits is written, or refused by the disk.

        Ticks that it refuses are counted as dropped; events, finished slots and evidence wait for the next tick.
        """
        takes = True
        while self._waiting or (takes and (self._events or self._closed or self._evidence)):
            kept = [await self._all(self._events, self._event), await self._all(self._closed, self._slot)]
            takes = all([*kept, await self._seconds()])
            if self._waiting:
                await self._tick(*self._waiting.popleft())

    async def _all(self, waiting: deque[_T], keep: Callable[[_T], Awaitable[bool]]) -> bool:
        """True when none waits any more; one that the disk refuses stays first in its queue."""
        while waiting:
            first = waiting[0]
            if not await keep(first):
                return False
            if waiting and waiting[0] is first:  # else the queue was full, and its first gave way meanwhile
                waiting.popleft()
        return True

    async def seal(self) -> None:
        """Seals what is staged into a frame now."""
        await self._guarded("frame", self._seal)

    async def _event(self, event: Event) -> bool:
        kept = await self._guarded("event", lambda: self._store.append_event(event))
        self._on_kept()
        return kept

    async def _slot(self, row: SlotRow) -> bool:
        return await self._guarded("slot", lambda: self._store.save_slot(row))

    async def _seconds(self) -> bool:
        """True when no second of evidence waits any more."""
        if not self._evidence:
            return True
        rows = tuple(self._evidence)
        self._evidence.clear()
        kept = await self._guarded("evidence", lambda: self._store.add_evidence(rows))
        if not kept:
            later = (*rows, *self._evidence)
            self._evidence.clear()
            self._evidence.extend(later)
        return kept

    async def _tick(self, effects: Effects, points: Mapping[str, float | None]) -> None:
        decision = effects.decision
        number = int(decision.utc_s // self._frame_s)
        if self._frame_number is not None and number != self._frame_number:
            await self.seal()
        self._frame_number = number
        if self._summaries is not None:
            await self._sum_up(self._summaries, decision.utc_s)
        sample = _sample(decision, self._boot_id, points)
        self._on_sample(sample)
        if not await self._guarded("sample", lambda: self._store.append_sample(sample)):
            self.samples_dropped += 1
        if effects.closed is not None:
            self._closed.append(slot_row(effects.closed))
        if effects.running is not None:
            so_far = open_slot_row(effects.running)
            await self._guarded("running slot", lambda: self._store.save_slot(so_far))
        # Of note: another decider, another slot, or another set of limits at work.
        note = (decision.source, decision.slot, tuple(clip.limit for clip in decision.clips))
        if note == self._noted:
            self._failing.pop("decision", None)  # the one that was refused is past, and none waits
        else:
            body = explanation(decision, {})
            if await self._guarded("decision", lambda: self._store.note_decision(decision.utc_s, body)):
                self._noted = note

    async def _seal(self) -> None:
        while await self._store.seal_frame(self._build_frame, self._stream) is not None:
            self.frames_sealed += 1
            self._on_kept()

    async def _sum_up(self, summaries: Summaries, utc_s: float) -> None:
        number = int(utc_s // summaries.every_s)
        before, self._summary_number = self._summary_number, number
        if before is None or number == before:
            return

        async def seal() -> None:
            while await self._store.seal_summary(summaries.build, MOST_SUMMED_UP) is not None:
                self._on_kept()

        await self._guarded("summary", seal)

    async def _guarded(self, what: str, write: Callable[[], Awaitable[object]]) -> bool:
        """True when it is written; logs once when the disk begins to refuse and once when it takes again."""
        try:
            await write()
        except StorageFailed as error:
            if self._failing.get(what) != error.why:
                self._failing[what] = error.why
                log.warning("not_kept", what=what, database=error.database, reason=error.why)
            return False
        if self._failing.pop(what, None) is not None:
            log.warning("kept_again", what=what)
        return True

    def conditions(self) -> tuple[Condition, ...]:
        """`disk_failing`: something cannot be written just now, or waits for long."""
        if not self._failing and len(self._waiting) < SLOW_FROM:
            return ()
        why = "; ".join(sorted(set(self._failing.values()))) or "the disk does not keep up"
        text = f"{why}. Control goes on from memory; plans and commands are refused and telemetry has gaps until then"
        return (Condition("disk_failing", "site", Severity.ALARM, text),)

    @property
    def failing(self) -> dict[str, str]:
        """What cannot be written just now, and why."""
        return dict(self._failing)


def _sample(decision: Decision, boot_id: str, points: Mapping[str, float | None]) -> Sample:
    return Sample(
        boot_id=boot_id,
        at_utc_s=decision.utc_s,
        grid_w=decision.grid_w,
        battery_w=decision.battery_w,
        pv_w=decision.pv_w,
        load_w=decision.load_w,
        soc_pct=decision.soc_pct,
        frequency_hz=decision.frequency_hz,
        target_w=decision.target_w,
        setpoint_w=decision.setpoint_w,
        source=decision.source.value,
        # Of one boot it never jumps, so that rows can be set right that were written while the clock was wrong.
        points={"mono_s": decision.mono_s, **points},
    )
