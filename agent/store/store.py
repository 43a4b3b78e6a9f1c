"""The store: what the agent keeps, behind one dedicated writer thread. The control loop never waits for the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar, TypeVarTuple

from agent.core.events import Event
from agent.core.evidence import EvidenceRow
from agent.core.ledger import SlotRow
from agent.core.records import CommandEnd, CommandRecord, Document, Outcome, Sample, StorageFailed, Stream
from agent.store.commands import LAST_UTC
from agent.store.control import COMMANDS_SINCE
from agent.store.held import (
    COMMISSIONING,
    LATCHES,
    OVERRIDE,
    REPLANNING,
    SETTINGS,
    STARTS,
    STORED_WRITES,
    Held,
    load,
)
from agent.store.instance_lock import InstanceLock
from agent.store.opening import Opened, open_files
from agent.store.outbox import Quota
from agent.store.telemetry import BuildFrame, BuildFromFrames
from agent.store.writer import Announce, Writer

MAX_WAITING_JOBS = 1_000
"""Calls that may wait for a slow disk, about 15 minutes of ticks; beyond it a call fails at once."""
DIRECTORY_MODE = 0o750

_Args = TypeVarTuple("_Args")
_R = TypeVar("_R")


class Store:
    """The two databases of one state directory. Methods raise `StorageFailed` and then had no effect."""

    def __init__(self, writer: Writer, executor: ThreadPoolExecutor, lock: InstanceLock, opened: Opened) -> None:
        self._writer = writer
        self._executor = executor
        self._lock = lock
        self._waiting = 0
        self.opened = opened
        """What was found at start; each finding is an event already."""

    @classmethod
    async def open(
        cls, directory: Path, announce: Announce, utc_s: Callable[[], float], quota: Quota | None = None
    ) -> Store:
        """The store of `directory` (made if need be); raises `AlreadyRunning` while another agent holds it."""
        lock = _locked(directory)
        executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        loop = asyncio.get_running_loop()
        try:
            writer, opened = await loop.run_in_executor(
                executor, open_files, directory, announce, utc_s, quota or Quota()
            )
        except BaseException:
            executor.shutdown(wait=False)
            lock.release()
            raise
        return cls(writer, executor, lock, opened)

    async def close(self) -> None:
        """Everything accepted so far is written, the files are closed, the directory is free."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._executor, self._writer.close)
        self._executor.shutdown(wait=True)
        self._lock.release()

    @property
    def telemetry_fault(self) -> str | None:
        """Why telemetry is not being kept just now; None while it is. Control goes on regardless."""
        return self._writer.telemetry_fault

    @property
    def outbox_depth(self) -> int:
        """Messages on disk that the cloud has not confirmed."""
        return self._writer.outbox_depth

    @property
    def confirmed(self) -> int:
        """Messages that the cloud confirmed since the start."""
        return self._writer.confirmed

    async def load(self) -> Held:
        """What a start begins with; a telemetry.db that cannot be read counts as empty."""
        return await self._run(load, self._writer)

    async def save_document(self, content: Document, document: bytes, outcome: Outcome) -> None:
        """The document and its `stored` outcome survive a power cut once this returns, and the ack is in the outbox."""
        await self._run(self._writer.save_document, content, document, outcome)

    async def record_outcome(self, outcome: Outcome, *, once: bool = False) -> None:
        """The outcome is durable and its ack queued; with `once`, a stage reached before is not written again."""
        await self._run(self._writer.record_outcome, outcome, once)

    async def outcomes(self, kind: str, version: int | None, sha256: str) -> Sequence[Outcome]:
        """What became of one document, oldest first."""
        return await self._run(self._writer.control.outcomes, kind, version, sha256)

    async def take_command(self, record: CommandRecord, ends: Sequence[CommandEnd] = ()) -> CommandRecord | None:
        """None when the command is durable with its outcome and `ends`; else what is known under its id, and no change.

        Nothing is announced yet: `announce_acks` follows once the command has its effect.
        """
        return await self._run(self._writer.take_command, record, tuple(ends))

    async def announce_acks(self) -> None:
        """The acks of all durable outcomes are in the outbox."""
        await self._run(self._writer.announce_acks)

    async def end_commands(self, ends: Sequence[CommandEnd]) -> None:
        """Each of these accepted commands has its terminal outcome, durable and queued; never a second one."""
        await self._run(self._writer.end_commands, tuple(ends))

    async def append_event(self, event: Event) -> None:
        """The event is durable, chained to the one before, and queued for the cloud."""
        await self._run(self._writer.append_event, event)

    async def events(self, limit: int) -> Sequence[Event]:
        """The newest events, newest first."""
        return await self._run(self._writer.control.newest_events, limit)

    async def verify_chain(self) -> int | None:
        """The id of the first event that was tampered with, None when all are as written."""
        return await self._run(self._writer.control.first_broken_event)

    async def note_decision(self, at_utc_s: float, body: Mapping[str, object]) -> None:
        """A decision worth keeping, as JSON-ready values; the newest thousand are kept."""
        await self._run(self._writer.control.add_decision, at_utc_s, body)

    async def decisions(self, limit: int) -> Sequence[tuple[float, dict[str, object]]]:
        """The newest decisions of note with their times, newest first."""
        return await self._run(self._writer.control.newest_decisions, limit)

    async def set_last_utc(self, utc_s: float) -> None:
        """A time the clock was trusted at: no earlier one is trusted again. Also makes the daily snapshot."""
        await self._run(self._writer.set_last_utc, LAST_UTC, utc_s)

    async def believe_clock(self, utc_s: float, commands_since_utc_s: float) -> None:
        """`utc_s` is right, although a later time was kept; commands issued before the other do not count any more."""
        marks = {LAST_UTC: repr(utc_s), COMMANDS_SINCE: repr(commands_since_utc_s)}
        await self._run(self._writer.believe_clock, marks)

    async def keep_replanning(self, text: str) -> None:
        """The local plan in force, to go on with after a restart; survives a power cut once this returns."""
        await self._run(self._writer.control.set_mark, REPLANNING, text)

    async def keep_settings(self, text: str) -> None:
        """The owners' settings that devices are taken over from; survive a power cut once this returns."""
        await self._run(self._writer.control.set_mark, SETTINGS, text)

    async def keep_stored_writes(self, text: str) -> None:
        """When registers that wear out were written; survives a power cut once this returns."""
        await self._run(self._writer.control.set_mark, STORED_WRITES, text)

    async def keep_override(self, text: str) -> None:
        """The technician's override, or that there is none; survives a power cut once this returns."""
        await self._run(self._writer.control.set_mark, OVERRIDE, text)

    async def keep_latches(self, text: str) -> None:
        """The safety latches that fell; survive a power cut once this returns."""
        await self._run(self._writer.control.set_mark, LATCHES, text)

    async def keep_commissioning(self, text: str) -> None:
        """The last commissioning and what it measured; survive a power cut once this returns."""
        await self._run(self._writer.control.set_mark, COMMISSIONING, text)

    async def keep_starts(self, text: str) -> None:
        """The last starts; survive a power cut once this returns."""
        await self._run(self._writer.control.set_mark, STARTS, text)

    async def save_models(self, bodies: Mapping[str, str]) -> None:
        """These learned battery models, by device, survive a power cut once this returns."""
        await self._run(self._writer.save_models, bodies)

    async def forget_model(self, device_id: str) -> None:
        """The learned model of this battery does not come back after a restart."""
        await self._run(self._writer.control.forget_model, device_id)

    async def append_sample(self, sample: Sample) -> None:
        """The sample survives kill -9 from here on (a power cut loses what no frame holds yet)."""
        await self._run(self._writer.append_sample, sample)

    async def seal_frame(self, build: BuildFrame, stream: Stream = Stream.TELEMETRY) -> int | None:
        """The sequence of the frame now on disk, None when no sample waits; call until None to empty the stage."""
        return await self._run(self._writer.seal_frame, build, stream)

    async def seal_summary(self, build: BuildFromFrames, frames: int) -> int | None:
        """The sequence of a telemetry frame made of so many full-rate frames at most; None when all are summed up."""
        return await self._run(self._writer.seal_summary, build, frames)

    async def save_slot(self, row: SlotRow) -> None:
        """The slot is in the ledger, finished or as far as it came."""
        await self._run(self._writer.save_slot, row)

    async def add_evidence(self, rows: Sequence[EvidenceRow]) -> None:
        """These seconds of frequency response are kept, 60 days of them; a power cut may cost those of a frame."""
        await self._run(self._writer.add_evidence, rows)

    async def evidence(self, from_utc_s: float, to_utc_s: float, limit: int) -> Sequence[EvidenceRow]:
        """The seconds of frequency response in `[from, to)`, oldest first, at most `limit`."""
        return await self._run(self._writer.evidence, from_utc_s, to_utc_s, limit)

    async def slots(self, from_utc_s: float, to_utc_s: float) -> Sequence[SlotRow]:
        """The ledger's slots that begin in `[from, to)`, in order."""
        return await self._run(self._writer.slots, from_utc_s, to_utc_s)

    async def last_seq(self, stream: Stream) -> int:
        """The highest sequence of the stream that was given out."""
        return await self._run(self._writer.last_seq, stream)

    async def pending(
        self, stream: Stream, after_seq: int, limit: int, up_to_seq: int | None = None
    ) -> Sequence[tuple[int, bytes]]:
        """Waiting messages above `after_seq` (and not above `up_to_seq`) in order, as (sequence, payload)."""
        return await self._run(self._writer.pending, stream, after_seq, limit, up_to_seq)

    async def kept(self, stream: Stream, after_seq: int, up_to_seq: int, limit: int) -> Sequence[tuple[int, bytes]]:
        """Messages on disk above `after_seq` and not above `up_to_seq` in order, whether they wait or not."""
        return await self._run(self._writer.kept, stream, after_seq, up_to_seq, limit)

    async def count_kept(self, stream: Stream, from_seq: int, to_seq: int) -> int:
        """How many messages of the range are on disk."""
        return await self._run(self._writer.count_kept, stream, from_seq, to_seq)

    async def confirm(self, stream: Stream, seq: int) -> None:
        """The cloud has stored everything up to `seq`: it does not wait any more."""
        await self._run(self._writer.confirm, stream, seq)

    async def forget(self, stream: Stream, seqs: Iterable[int]) -> None:
        """The broker has taken these messages, and that is enough for this site: they do not wait any more."""
        await self._run(self._writer.forget, stream, tuple(seqs))

    async def _run(self, job: Callable[[*_Args], _R], *args: *_Args) -> _R:
        if self._waiting >= MAX_WAITING_JOBS:
            raise StorageFailed("control", f"the disk is too slow: {self._waiting} writes wait already")
        self._waiting += 1
        try:
            future = asyncio.get_running_loop().run_in_executor(self._executor, job, *args)
            future.add_done_callback(self._one_less)
        except BaseException:
            self._waiting -= 1
            raise
        return await asyncio.shield(future)

    def _one_less(self, future: asyncio.Future[_R]) -> None:
        self._waiting -= 1
        if not future.cancelled():
            future.exception()  # the caller may be gone; its failure was still seen


def _locked(directory: Path) -> InstanceLock:
    if not directory.is_dir():
        directory.mkdir(mode=DIRECTORY_MODE, parents=True)
    return InstanceLock(directory)
