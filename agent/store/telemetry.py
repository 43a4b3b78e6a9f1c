"""telemetry.db: the bulk. Samples on their way into frames, the slot ledger, and the outbox to the cloud."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from agent.core.authority import Source
from agent.core.energy_paths import EnergyPaths
from agent.core.evidence import EvidenceRow
from agent.core.kept_text import moment, number, read_back, text_of
from agent.core.ledger import SlotRow
from agent.core.plan import Target
from agent.core.records import Sample, Stream
from agent.store import evidence, outbox
from agent.store.cells import BadCell, all_sound, maybe, whole
from agent.store.database import Database
from agent.store.outbox import Quota, StreamState

PAGE_BYTES = 8192
"""Three or four frames of a minute (2 kB) fill it well; in 4 kB most would lie alone."""
MAX_FRAME_SAMPLES = 600
MAX_STAGED_SAMPLES = 100_000
"""Samples that wait for a frame, about a day at 1 Hz; beyond it the oldest go."""
STAGED_CHECK_EVERY = 1_000
KEEP_SLOTS = 200_000
"""Eleven years of half hours."""

_SAMPLE_FIELDS = tuple(f.name for f in fields(Sample) if f.name != "points")
SAMPLE_COLUMNS = ", ".join((*_SAMPLE_FIELDS, "points"))
_SLOT_FIELDS = tuple(f.name for f in fields(SlotRow) if f.name not in ("closed", "paths"))
_SLOT_KINDS: dict[str, Callable[[object], object]] = {
    "start_utc_s": moment, "end_utc_s": moment, "version": whole,
    "target": lambda cell: Target(text_of(cell)).value,
    "source": lambda cell: Source(text_of(cell)).value,
}  # fmt: skip
"""What each cell of a slot is, where it is not a number."""
_SLOT_NEEDS = ("start_utc_s", "end_utc_s", "target", "power_w", "source", "battery_wh", "covered_s", "grid_wh")
_PATH_FIELDS = tuple(f.name for f in fields(EnergyPaths))
_SLOT_COLUMNS = ", ".join((*_SLOT_FIELDS, "closed", *_PATH_FIELDS))
_SLOT_MARKS = ", ".join("?" for _ in (*_SLOT_FIELDS, "closed", *_PATH_FIELDS))
_SLOT_UPDATES = ", ".join(
    f"{name} = excluded.{name}" for name in (*_SLOT_FIELDS, "closed", *_PATH_FIELDS) if name != "start_utc_s"
)
# In its place, its key untouched: a row that is replaced costs the page of the index too, each second.
_PUT_SLOT = (
    f"INSERT INTO slots ({_SLOT_COLUMNS}) VALUES ({_SLOT_MARKS}) "  # noqa: S608 - constants
    f"ON CONFLICT (start_utc_s) DO UPDATE SET {_SLOT_UPDATES}"
)
_SAMPLE_MARKS = ", ".join("?" for _ in (*_SAMPLE_FIELDS, "points"))
BuildFrame = Callable[[int, Sequence[Sample]], bytes]
BuildFromFrames = Callable[[int, Sequence[tuple[int, bytes]]], bytes]


class TelemetryDb:
    """The tables of telemetry.db; runs on the writer thread. Losing the file never touches control."""

    def __init__(self, directory: Path, quota: Quota) -> None:
        self.database = Database(directory / "telemetry.db", durable=False, page_bytes=PAGE_BYTES)
        self._quota = quota
        self._held: dict[Stream, outbox.Held] = {}
        self.confirmed = 0
        """Messages that the cloud confirmed since the start."""
        self._appended = 0
        self._evidence_added = 0

    def start(self, lineage: str | None, floors: dict[Stream, tuple[int, int]]) -> str:
        """The lineage of the file as it is now. A file of another lineage begins above `floors`: (seq, id)."""
        with self.database.transaction(durable=True) as db:
            row = db.execute("SELECT value FROM meta WHERE key = 'lineage'").fetchone()
            found = str(row[0]) if row else None
            if found is None:
                found = secrets.token_hex(8)
                db.execute("INSERT INTO meta (key, value) VALUES ('lineage', ?)", (found,))
            _take_over_samples(db)
            if found != lineage:
                outbox.begin_streams(db, floors)
            else:
                outbox.begin_streams(db, dict.fromkeys(floors, (0, 0)))
        self._look_at_outbox()
        return found

    def _look_at_outbox(self) -> None:
        with self.database.failures_named():
            self._held = outbox.held(self.database.connection())

    # Streams and outbox

    def state(self, stream: Stream) -> StreamState:
        """The stream's last sequence, the last id announced, and what the cloud confirmed."""
        with self.database.failures_named():
            return outbox.state_of(self.database.connection(), stream)

    @property
    def outbox_depth(self) -> int:
        """Messages that wait for the cloud's word that it has them."""
        return sum(held.waiting for held in self._held.values())

    def has_room(self) -> bool:
        """False while so many acks and events wait that further ones stay in control.db for now."""
        return sum(self._held[stream].waiting for stream in (Stream.ACK, Stream.EVENT)) < self._quota.other_rows

    def enqueue(self, stream: Stream, build: Callable[[int], bytes], now_utc_s: float, announced_id: int) -> int:
        """The sequence of the message, durable: it never comes again with other content, even after a power cut."""
        with self.database.transaction(durable=True) as db:
            seq = outbox.insert(db, stream, build, now_utc_s, row_id=announced_id)
            db.execute("UPDATE streams SET announced_id = ? WHERE stream = ?", (announced_id, stream.value))
        self._look_at_outbox()
        return seq

    def pending(self, stream: Stream, after_seq: int, limit: int, up_to_seq: int | None) -> list[tuple[int, bytes]]:
        """Waiting messages above `after_seq` (and not above `up_to_seq`) in order, as (sequence, payload)."""
        db = self.database.connection()
        with self.database.failures_named():
            return outbox.pending(db, stream, after_seq, limit, up_to_seq)

    def kept(self, stream: Stream, after_seq: int, up_to_seq: int, limit: int) -> list[tuple[int, bytes]]:
        """Messages on disk above `after_seq` and not above `up_to_seq` in order, whether they wait or not."""
        db = self.database.connection()
        with self.database.failures_named():
            return outbox.kept(db, stream, after_seq, up_to_seq, limit)

    def count_kept(self, stream: Stream, from_seq: int, to_seq: int) -> int:
        """How many messages of the range are on disk."""
        db = self.database.connection()
        with self.database.failures_named():
            return outbox.count_kept(db, stream, from_seq, to_seq)

    def confirm(self, stream: Stream, seq: int) -> int | None:
        """Everything of the stream up to `seq` is the cloud's; the newest row announced by it."""
        with self.database.transaction() as db:
            row_id = outbox.confirm(db, stream, seq)
        waited = self.outbox_depth
        self._look_at_outbox()
        self.confirmed += waited - self.outbox_depth
        return row_id

    def forget(self, stream: Stream, seqs: Iterable[int]) -> int | None:
        """These messages were delivered; the newest row announced by them."""
        with self.database.transaction() as db:
            row_id = outbox.deliver(db, stream, seqs)
        waited = self.outbox_depth
        self._look_at_outbox()
        self.confirmed += waited - self.outbox_depth
        return row_id

    # Samples and frames

    def add_sample(self, sample: Sample) -> None:
        """The sample waits for its frame; it survives kill -9 (not a power cut) from here on."""
        with self.database.transaction() as db:
            values = (*(getattr(sample, name) for name in _SAMPLE_FIELDS), json.dumps(dict(sample.points)))
            db.execute(f"INSERT INTO staged ({SAMPLE_COLUMNS}) VALUES ({_SAMPLE_MARKS})", values)  # noqa: S608
            self._appended += 1
            if self._appended % STAGED_CHECK_EVERY == 0:
                db.execute("DELETE FROM staged WHERE id <= (SELECT max(id) FROM staged) - ?", (MAX_STAGED_SAMPLES,))

    def last_sample(self) -> Sample | None:
        """The newest sample that waits for its frame."""
        db = self.database.connection()
        with self.database.failures_named():
            row = db.execute(f"SELECT {SAMPLE_COLUMNS} FROM staged ORDER BY id DESC LIMIT 1").fetchone()  # noqa: S608
        return next(iter(samples_of([row])), None) if row else None

    def seal_frame(self, build: BuildFrame, now_utc_s: float, stream: Stream) -> int | None:
        """The sequence of the frame made of the oldest samples, or None when none wait.

        The samples go in the same transaction in which their frame comes. A frame holds one run of the agent and
        its times rise, so several calls may be needed to empty the stage.
        """
        with self.database.transaction(durable=True) as db:
            rows = db.execute(
                f"SELECT id, {SAMPLE_COLUMNS} FROM staged ORDER BY id LIMIT ?",  # noqa: S608 - constants
                (MAX_FRAME_SAMPLES,),
            ).fetchall()
            sound = all_sound(lambda row_id, *cells: (whole(row_id), sample_of(cells)), rows)
            samples = _first_run([sample for _, sample in sound])
            if not samples:
                return None
            outbox.make_room(db, self._quota, now_utc_s)
            span = (samples[0].at_utc_s, samples[-1].at_utc_s)
            seq = outbox.insert(db, stream, lambda seq: build(seq, samples), now_utc_s, span=span)
            db.execute("DELETE FROM staged WHERE id <= ?", (sound[len(samples) - 1][0],))
        self._look_at_outbox()
        return seq

    def seal_summary(self, build: BuildFromFrames, now_utc_s: float, frames: int) -> int | None:
        """The sequence of the frame that sums up full-rate frames, None when there is none that was not summed up.

        At most so many go into one, the oldest; the last one that did is remembered in the same transaction.
        """
        with self.database.transaction(durable=True) as db:
            after = outbox.state_of(db, Stream.TELEMETRY).announced_id
            found = outbox.kept(db, Stream.FULL_RATE, after, 2**62, frames)
            if not found:
                return None
            outbox.make_room(db, self._quota, now_utc_s)
            begins, ends = db.execute(
                "SELECT min(from_utc_s), max(to_utc_s) FROM frame_times WHERE stream = ? AND seq BETWEEN ? AND ?",
                (Stream.FULL_RATE.value, found[0][0], found[-1][0]),
            ).fetchone()
            seq = outbox.insert(db, Stream.TELEMETRY, lambda seq: build(seq, found), now_utc_s, span=(begins, ends))
            sql = "UPDATE streams SET announced_id = ? WHERE stream = ?"
            db.execute(sql, (found[-1][0], Stream.TELEMETRY.value))
        self._look_at_outbox()
        return seq

    def untold_gaps(self) -> list[tuple[int, str, float, int, int]]:
        """Dropped ranges that no event has named yet, as (id, stream, when, from, to)."""
        db = self.database.connection()
        with self.database.failures_named():
            return db.execute("SELECT id, stream, at_utc_s, from_seq, to_seq FROM gaps ORDER BY id").fetchall()

    def gap_told(self, gap_id: int) -> None:
        """The gap has its event."""
        with self.database.transaction() as db:
            db.execute("DELETE FROM gaps WHERE id = ?", (gap_id,))

    # Evidence of frequency response

    def add_evidence(self, rows: Sequence[EvidenceRow]) -> None:
        """The seconds are kept; they survive kill -9 (and with the next frame a power cut) from here on."""
        with self.database.transaction() as db:
            evidence.add(db, rows)
            before, self._evidence_added = self._evidence_added, self._evidence_added + len(rows)
            if before // evidence.CHECK_EVERY != self._evidence_added // evidence.CHECK_EVERY:
                evidence.forget(db)

    def evidence(self, from_utc_s: float, to_utc_s: float, limit: int) -> list[EvidenceRow]:
        """The seconds in `[from, to)`, oldest first."""
        db = self.database.connection()
        with self.database.failures_named():
            return evidence.read(db, from_utc_s, to_utc_s, limit)

    # Slot ledger

    def save_slot(self, row: SlotRow) -> None:
        """The slot is in the ledger as far as it came, in the place of an earlier state of the same slot."""
        with self.database.transaction() as db:
            db.execute(_PUT_SLOT, _slot_values(row))

    def close_slot(self, row: SlotRow, build: Callable[[int], bytes], now_utc_s: float) -> int:
        """The sequence of the message about a finished slot, which is in ledger and outbox, or in neither."""
        assert row.closed
        with self.database.transaction(durable=True) as db:
            db.execute(_PUT_SLOT, _slot_values(row))
            db.execute(
                "DELETE FROM slots WHERE start_utc_s <= "
                "(SELECT start_utc_s FROM slots ORDER BY start_utc_s DESC LIMIT 1 OFFSET ?)",
                (KEEP_SLOTS,),
            )
            outbox.make_room(db, self._quota, now_utc_s)
            seq = outbox.insert(db, Stream.LEDGER, build, now_utc_s)
        self._look_at_outbox()
        return seq

    def slots(self, from_utc_s: float, to_utc_s: float) -> list[SlotRow]:
        """The slots that begin in `[from, to)`, in order."""
        return self._slots("start_utc_s >= ? AND start_utc_s < ? ORDER BY start_utc_s", (from_utc_s, to_utc_s))

    def open_slot(self) -> SlotRow | None:
        """The newest slot, if it was not finished."""
        rows = self._slots("1 ORDER BY start_utc_s DESC LIMIT 1", ())
        return rows[0] if rows and not rows[0].closed else None

    def _slots(self, where: str, values: tuple[float, ...]) -> list[SlotRow]:
        with self.database.failures_named():
            return slots_where(self.database.connection(), where, values)


def slots_where(db: sqlite3.Connection, where: str, values: tuple[float, ...]) -> list[SlotRow]:
    """The slots of the ledger that meet a condition of ours."""
    rows = db.execute(f"SELECT {_SLOT_COLUMNS} FROM slots WHERE {where}", values).fetchall()  # noqa: S608
    return all_sound(_slot, rows)


def _take_over_samples(db: sqlite3.Connection) -> None:
    """Samples that a version before `staged` left, or one that was gone back to for a while, go into the next frame."""
    old = ", ".join(_SAMPLE_FIELDS)
    db.execute(f"INSERT INTO staged ({SAMPLE_COLUMNS}) SELECT {old}, '{{}}' FROM samples ORDER BY id")  # noqa: S608
    db.execute("DELETE FROM samples")


def sample_of(values: Sequence[Any]) -> Sample:
    """A row of `SAMPLE_COLUMNS` as the sample that it was; ValueError where it cannot be one."""
    told = dict(zip(_SAMPLE_FIELDS, values[:-1], strict=True))
    known: dict[str, Any] = {"boot_id": text_of(told.pop("boot_id")), "at_utc_s": moment(told.pop("at_utc_s"))}
    known |= {"source": text_of(told.pop("source"))} | {name: maybe(number, value) for name, value in told.items()}
    points = dict(read_back(text_of(values[-1]))).items()
    return Sample(**known, points={text_of(name): maybe(number, value) for name, value in points})


def samples_of(rows: Iterable[tuple[Any, ...]]) -> list[Sample]:
    """The samples of these rows of `SAMPLE_COLUMNS`; what the disk garbled is left out."""
    return all_sound(lambda *cells: sample_of(cells), rows)


def _slot_values(row: SlotRow) -> tuple[object, ...]:
    paths = (None,) * len(_PATH_FIELDS) if row.paths is None else tuple(getattr(row.paths, f) for f in _PATH_FIELDS)
    return (*(getattr(row, f) for f in _SLOT_FIELDS), row.closed, *paths)


def _slot(*values: object) -> SlotRow:
    """The slot of a row; ValueError where it cannot be one."""
    count = len(_SLOT_FIELDS)
    told: dict[str, Any] = {
        name: _SLOT_KINDS.get(name, number)(value) if value is not None else None
        for name, value in zip(_SLOT_FIELDS, values[:count], strict=True)
    }
    if any(told[name] is None for name in _SLOT_NEEDS) or not told["start_utc_s"] < told["end_utc_s"]:
        raise BadCell("a slot has a time, a target and a source")
    paths = values[count + 1 :]
    split = None if None in paths else EnergyPaths(*map(number, paths))
    return SlotRow(**told, closed=bool(whole(values[count])), paths=split)


def _first_run(samples: Sequence[Sample]) -> Sequence[Sample]:
    """The leading samples of one boot whose times rise."""
    for index in range(1, len(samples)):
        before, this = samples[index - 1], samples[index]
        if this.boot_id != before.boot_id or this.at_utc_s <= before.at_utc_s:
            return samples[:index]
    return samples
