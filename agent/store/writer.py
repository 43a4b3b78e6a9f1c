"""The writer: the two databases together, synchronous, on the one thread that may touch them.

Acks and events are durable in control.db first and then announced: given a sequence and put into the outbox of
telemetry.db, which remembers the last id announced in the same transaction. A crash between the two is made good
at the next call or the next start, exactly once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeVar

from agent.core.events import Event, EventState, Severity
from agent.core.evidence import EvidenceRow
from agent.core.ledger import SlotRow
from agent.core.plan import PlanKind
from agent.core.records import CommandEnd, CommandRecord, Document, HeldDocument, Outcome, Sample, StorageFailed, Stream
from agent.store.control import SEQUENCE_BLOCK, SNAPSHOT_EVERY_S, ControlDb
from agent.store.database import Damaged
from agent.store.telemetry import BuildFrame, BuildFromFrames, TelemetryDb

ANNOUNCE_BATCH = 100
LINEAGE = "telemetry_lineage"

_R = TypeVar("_R")
EventData = Mapping[str, str | float | int | None]


class BuildAck(Protocol):
    """The payload of an ack; a bug in it is a bug of ours."""

    def __call__(self, seq: int, outcome: Outcome) -> bytes:
        """The message with this sequence."""


class BuildEvent(Protocol):
    """The payload of an event message."""

    def __call__(self, seq: int, event: Event) -> bytes:
        """The message with this sequence."""


class BuildLedger(Protocol):
    """The payload of a finished slot."""

    def __call__(self, seq: int, row: SlotRow) -> bytes:
        """The message with this sequence."""


@dataclass(frozen=True, slots=True)
class Announce:
    """How an outcome, an event and a slot look on the wire, given their sequence."""

    ack: BuildAck
    event: BuildEvent
    ledger: BuildLedger


class Writer:
    """All writes of one agent. `start` before anything else."""

    def __init__(
        self, control: ControlDb, telemetry: TelemetryDb, announce: Announce, utc_s: Callable[[], float]
    ) -> None:
        self.control = control
        self.telemetry_fault: str | None = None
        self._telemetry = telemetry
        self._announce_as = announce
        self.utc_s = utc_s
        self._started = False
        self._behind = True
        self._reserved: dict[Stream, int] = {}

    def start(self) -> None:
        """Telemetry is open if it can be; a loss of control.db is told, and what a crash left unannounced."""
        loss = self.control.loss_to_tell()
        if loss is not None:
            self.append_event(self._event("database_damaged", Severity.ALARM, loss))
            self.control.loss_told()
        self._catch_up()

    def close(self) -> None:
        """Both files are closed."""
        self.control.database.close()
        self._telemetry.database.close()

    @property
    def outbox_depth(self) -> int:
        """Messages that wait for the cloud's word that it has them; a plain number, safe to read from any thread."""
        return self._telemetry.outbox_depth

    @property
    def confirmed(self) -> int:
        """Messages that the cloud confirmed since the start; safe to read from any thread."""
        return self._telemetry.confirmed

    # Control: raises StorageFailed only for control.db

    def documents(self) -> list[HeldDocument]:
        """The documents held, newest version first within each kind; a damaged one is left out, and told."""
        sound = []
        for held in self.control.documents():
            if _as_written(held):
                sound.append(held)
                continue
            text = (
                f"the {held.kind} document, version {held.version}, is damaged on the disk and not used; "
                "the one before it counts until the cloud sends one. Check the disk"
            )
            version = held.version if type(held.version) is int else None
            data: EventData = {"kind": str(held.kind), "version": version}
            self.append_event(self._event("document_damaged", Severity.ALARM, text, data))
        return sound

    def save_document(self, content: Document, document: bytes, outcome: Outcome) -> None:
        """The document and its outcome are durable; the ack is in the outbox unless telemetry fails."""
        self.control.save_document(content, document, outcome, self._floor_id(Stream.ACK))
        self._announce(Stream.ACK)
        if content.kind is PlanKind.YEARLY:
            self._snapshot()

    def record_outcome(self, outcome: Outcome, once: bool) -> None:
        """The outcome is durable; the ack is in the outbox unless telemetry fails."""
        if self.control.add_outcome(outcome, self._floor_id(Stream.ACK), once=once):
            self._announce(Stream.ACK)

    def take_command(self, record: CommandRecord, ends: Sequence[CommandEnd]) -> CommandRecord | None:
        """As `ControlDb.take_command`. The acks are announced by `announce_acks`: the effect does not wait for them."""
        return self.control.take_command(record, ends, self._floor_id(Stream.ACK))

    def end_commands(self, ends: Sequence[CommandEnd]) -> None:
        """The terminal outcomes are durable; their acks are in the outbox unless telemetry fails."""
        self.control.end_commands(ends, self._floor_id(Stream.ACK))
        self._announce(Stream.ACK)

    def announce_acks(self) -> None:
        """Outcomes that have no message yet have one."""
        self._announce(Stream.ACK)

    def append_event(self, event: Event) -> None:
        """The event is durable; it is in the outbox unless telemetry fails."""
        self.control.add_event(event, self._floor_id(Stream.EVENT))
        self._announce(Stream.EVENT)

    def save_models(self, bodies: Mapping[str, str]) -> None:
        """The learned battery models are durable."""
        self.control.save_models(bodies, self.utc_s())

    def set_last_utc(self, key: str, utc_s: float) -> None:
        """The time is durable; once a day a snapshot of control.db is made too."""
        self.control.set_mark(key, repr(utc_s))
        age_s = self.control.snapshot_age_s(utc_s)
        if age_s is None or abs(age_s) > SNAPSHOT_EVERY_S:
            self._snapshot()

    def believe_clock(self, marks: Mapping[str, str]) -> None:
        """The marks are durable, and in the snapshot too: the one before would bring the wrong future back."""
        self.control.set_marks(marks)
        self._snapshot()

    def _snapshot(self) -> None:
        with suppress(StorageFailed):  # the one before is still there; the next day tries again
            self.control.snapshot()

    # Telemetry: raises StorageFailed("telemetry")

    def unfinished(self) -> tuple[Sample | None, SlotRow | None]:
        """The newest staged sample and the slot that ran, (None, None) when telemetry cannot be read."""
        try:
            return self._read(self._telemetry.last_sample), self._read(self._telemetry.open_slot)
        except StorageFailed:
            return None, None

    def append_sample(self, sample: Sample) -> None:
        """The sample is staged."""
        self._bulk(lambda: self._telemetry.add_sample(sample))
        self._catch_up()

    def seal_frame(self, build: BuildFrame, stream: Stream) -> int | None:
        """The staged samples became a frame; frames dropped for it are told as an event."""
        return self._seal(stream, lambda: self._telemetry.seal_frame(build, self.utc_s(), stream))

    def seal_summary(self, build: BuildFromFrames, frames: int) -> int | None:
        """Full-rate frames became one frame that sums them up; frames dropped for it are told as an event."""
        return self._seal(Stream.TELEMETRY, lambda: self._telemetry.seal_summary(build, self.utc_s(), frames))

    def _seal(self, stream: Stream, seal: Callable[[], int | None]) -> int | None:
        def numbered() -> int | None:
            self._ensure_reserved(stream)
            return seal()

        seq = self._bulk(numbered)
        self._tell_gaps()
        return seq

    def save_slot(self, row: SlotRow) -> None:
        """The slot is in the ledger; a finished one has its message in the outbox, in the same transaction."""
        if not row.closed:
            self._bulk(lambda: self._telemetry.save_slot(row))
            return
        build = partial(self._announce_as.ledger, row=row)

        def close() -> None:
            self._ensure_reserved(Stream.LEDGER)
            self._telemetry.close_slot(row, build, self.utc_s())

        self._bulk(close)
        self._tell_gaps()

    def add_evidence(self, rows: Sequence[EvidenceRow]) -> None:
        """The seconds of frequency response are kept."""
        self._bulk(lambda: self._telemetry.add_evidence(rows))

    def evidence(self, from_utc_s: float, to_utc_s: float, limit: int) -> list[EvidenceRow]:
        """The seconds of frequency response in `[from, to)`."""
        return self._read(lambda: self._telemetry.evidence(from_utc_s, to_utc_s, limit))

    def slots(self, from_utc_s: float, to_utc_s: float) -> list[SlotRow]:
        """The slots that begin in `[from, to)`."""
        return self._read(lambda: self._telemetry.slots(from_utc_s, to_utc_s))

    def last_seq(self, stream: Stream) -> int:
        """The highest sequence given out."""
        return self._read(lambda: self._telemetry.state(stream)).last_seq

    def pending(self, stream: Stream, after: int, limit: int, up_to: int | None) -> list[tuple[int, bytes]]:
        """Waiting messages above `after` and not above `up_to`."""
        return self._read(lambda: self._telemetry.pending(stream, after, limit, up_to))

    def kept(self, stream: Stream, after: int, up_to: int, limit: int) -> list[tuple[int, bytes]]:
        """Messages on disk above `after` and not above `up_to`."""
        return self._read(lambda: self._telemetry.kept(stream, after, up_to, limit))

    def count_kept(self, stream: Stream, from_seq: int, to_seq: int) -> int:
        """How many messages of the range are on disk."""
        return self._read(lambda: self._telemetry.count_kept(stream, from_seq, to_seq))

    def confirm(self, stream: Stream, seq: int) -> None:
        """Nothing up to `seq` waits any more."""
        self._settle(stream, self._bulk(lambda: self._telemetry.confirm(stream, seq)))

    def forget(self, stream: Stream, seqs: Sequence[int]) -> None:
        """These do not wait any more."""
        self._settle(stream, self._bulk(lambda: self._telemetry.forget(stream, seqs)))

    def _settle(self, stream: Stream, announced_id: int | None) -> None:
        if announced_id is not None:
            with suppress(StorageFailed):  # only a hint, for the day on which telemetry.db is lost
                self.control.settle(stream, announced_id)
        self._catch_up()

    def _read(self, job: Callable[[], _R]) -> _R:
        """The result of a job that only reads: a full disk does not look well because it can be read."""
        fault = self.telemetry_fault
        result = self._bulk(job)
        self.telemetry_fault = fault
        return result

    def _bulk(self, job: Callable[[], _R]) -> _R:
        """The result of a job on telemetry.db; a damaged file is replaced and the job done on the fresh one."""
        try:
            try:
                self._start_telemetry()
                result = job()
            except Damaged as damage:
                if damage.database != self._telemetry.database.name:
                    raise
                self._replace_telemetry(damage)
                result = job()
        except StorageFailed as failure:
            self.telemetry_fault = str(failure)
            raise
        self.telemetry_fault = None
        return result

    def _replace_telemetry(self, damage: Damaged) -> None:
        kept_as = self._telemetry.database.quarantine(self.utc_s())
        self._started = False
        self._start_telemetry()
        text = f"{damage}; it is kept as {kept_as.name} and a fresh one is in use. What was not sent is lost"
        self.append_event(self._event("database_damaged", Severity.WARNING, text))

    def _start_telemetry(self) -> None:
        if self._started:
            return
        lineage = self.control.mark(LINEAGE)
        floors = {stream: self.control.reserved(stream) for stream in Stream}
        found = self._telemetry.start(lineage, floors)
        self._reserved = {stream: reserved_to for stream, (reserved_to, _) in floors.items()}
        self._started = True
        if found == lineage:
            return
        self.control.set_mark(LINEAGE, found)
        for stream, (reserved_to, _) in floors.items():
            if reserved_to > 0 and self._telemetry.state(stream).last_seq == reserved_to:
                self._tell_jump(stream, reserved_to)

    def _tell_jump(self, stream: Stream, reserved_to: int) -> None:
        unsure_from = max(1, reserved_to - SEQUENCE_BLOCK + 1)
        text = (
            f"telemetry.db was lost: the {stream} stream goes on at {reserved_to + 1}; "
            f"sequences from {unsure_from} to {reserved_to} that have not arrived will not come"
        )
        data: EventData = {"stream": stream.value, "from": unsure_from, "to": reserved_to}
        self.append_event(self._event("sequence_jumped", Severity.WARNING, text, data))

    # Announcing

    def _floor_id(self, stream: Stream) -> int:
        """Row ids go on above this: also above those that were announced before control.db was restored."""
        try:
            return self._read(lambda: self._telemetry.state(stream)).announced_id
        except StorageFailed:
            return 0

    def _announce(self, stream: Stream) -> None:
        """Rows of control.db that have no message yet have one, unless telemetry fails: then later, exactly once."""
        try:
            self._bulk(lambda: self._announce_rows(stream))
        except StorageFailed:
            self._behind = True

    def _announce_rows(self, stream: Stream) -> None:
        while self._telemetry.has_room():
            after = self._telemetry.state(stream).announced_id
            messages = self._messages_after(stream, after)
            for row_id, build in messages:
                self._ensure_reserved(stream)
                self._telemetry.enqueue(stream, build, self.utc_s(), row_id)
            if not messages:
                return
        self._behind = True

    def _messages_after(self, stream: Stream, row_id: int) -> list[tuple[int, Callable[[int], bytes]]]:
        announce = self._announce_as
        if stream is Stream.ACK:
            outcomes = self.control.outcomes_after(row_id, ANNOUNCE_BATCH)
            return [(found, partial(announce.ack, outcome=outcome)) for found, outcome in outcomes]
        events = self.control.events_after(row_id, ANNOUNCE_BATCH)
        return [(found, partial(announce.event, event=event)) for found, event in events]

    def _ensure_reserved(self, stream: Stream) -> None:
        last_seq = self._telemetry.state(stream).last_seq
        if last_seq + 1 > self._reserved[stream]:
            self._reserved[stream] = self.control.reserve(stream, last_seq)

    def _catch_up(self) -> None:
        if self._behind:
            self._behind = False
            for stream in (Stream.ACK, Stream.EVENT):
                self._announce(stream)
            self._tell_gaps()

    def _tell_gaps(self) -> None:
        try:
            for gap_id, stream, at_utc_s, from_seq, to_seq in self._read(self._telemetry.untold_gaps):
                text = f"the outbox was full: {stream} messages {from_seq} to {to_seq} were dropped, oldest first"
                data: EventData = {"stream": stream, "from": from_seq, "to": to_seq}
                event = self._event(f"{stream}_dropped", Severity.WARNING, text, data)
                self.append_event(replace(event, at_utc_s=at_utc_s))
                self._bulk(partial(self._telemetry.gap_told, gap_id))
        except StorageFailed:
            self._behind = True

    def _event(self, code: str, severity: Severity, text: str, data: EventData | None = None) -> Event:
        return Event(self.utc_s(), EventState.NOTED, severity, code, "site", text, data or {})


def _as_written(held: HeldDocument) -> bool:
    """Whether a row of documents is what it was when it was stored; damage may change the kind of any cell too."""
    kinds = (str, int, str, float, bytes)
    cells = (held.kind, held.version, held.sha256, held.received_utc_s, held.document)
    return tuple(map(type, cells)) == kinds and hashlib.sha256(held.document).hexdigest() == held.sha256
