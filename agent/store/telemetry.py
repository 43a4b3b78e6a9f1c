"""telemetry.db: the bulk. Samples on their way into frames, the slot ledger, and the outbox to the cloud."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from agent.core.energy_paths import EnergyPaths
from agent.core.evidence import EvidenceRow
from agent.core.ledger import SlotRow
from agent.core.records import Sample, Stream
from agent.store import evidence
from agent.store.database import Database

MAX_FRAME_SAMPLES = 600
MAX_STAGED_SAMPLES = 100_000
"""Samples that wait for a frame, about a day at 1 Hz; beyond it the oldest go."""
STAGED_CHECK_EVERY = 1_000
KEEP_SLOTS = 200_000
"""Eleven years of half hours."""

_SAMPLE_COLUMNS = ", ".join(f.name for f in fields(Sample))
_SLOT_FIELDS = tuple(f.name for f in fields(SlotRow) if f.name not in ("closed", "paths"))
_PATH_FIELDS = tuple(f.name for f in fields(EnergyPaths))
_SLOT_COLUMNS = ", ".join((*_SLOT_FIELDS, "closed", *_PATH_FIELDS))
_SLOT_MARKS = ", ".join("?" for _ in (*_SLOT_FIELDS, "closed", *_PATH_FIELDS))
_SAMPLE_MARKS = ", ".join("?" for _ in fields(Sample))


@dataclass(frozen=True, slots=True)
class Quota:
    """How much may wait for the cloud. At one frame a minute (5 kB), the default holds about 70 days."""

    rows: int = 200_000
    payload_bytes: int = 512 * 1024 * 1024
    other_rows: int = 50_000
    """Acks and events in the outbox; beyond it they wait in control.db, none is dropped. Slots of the ledger in the
    outbox too; beyond it the oldest go (they stay in the ledger itself)."""
    drop_share: float = 0.01
    """How much of the quota is freed at once, so that a long outage leaves few gap events."""


@dataclass(frozen=True, slots=True)
class StreamState:
    """Where one stream stands."""

    last_seq: int
    announced_id: int
    confirmed_seq: int


class TelemetryDb:
    """The tables of telemetry.db; runs on the writer thread. Losing the file never touches control."""

    def __init__(self, directory: Path, quota: Quota) -> None:
        self.database = Database(directory / "telemetry.db", durable=False)
        self._quota = quota
        self._rows_of: dict[Stream, int] = {}
        self._payload_bytes = 0
        self._appended = 0
        self._evidence_added = 0

    def start(self, lineage: str | None, floors: dict[Stream, tuple[int, int]]) -> str:
        """The lineage of the file as it is now. A file of another lineage begins above `floors`: (seq, id)."""
        with self.database.transaction(durable=True) as db:
            row = db.execute("SELECT value FROM meta WHERE key = 'lineage'").fetchone()
            found = str(row[0]) if row else None
            if found is None:
                found = secrets.token_hex(8)
                db.execute("INSERT INTO meta VALUES ('lineage', ?)", (found,))
            for stream, (reserved_to, announced_id) in floors.items():
                seq, announced = (0, 0) if found == lineage else (reserved_to, announced_id)
                db.execute(
                    "INSERT INTO streams VALUES (?1, ?2, ?3, 0) ON CONFLICT DO UPDATE SET "
                    "last_seq = max(last_seq, ?2), announced_id = max(announced_id, ?3)",
                    (stream.value, seq, announced),
                )
            self._count(db)
        return found

    def _count(self, db: sqlite3.Connection) -> None:
        self._rows_of = dict.fromkeys(Stream, 0)
        self._payload_bytes = 0
        for table in ("outbox", "ledger_outbox"):
            query = f"SELECT stream, count(*), coalesce(sum(length(payload)), 0) FROM {table} GROUP BY stream"  # noqa: S608
            for stream, rows, size in db.execute(query):
                self._rows_of[Stream(stream)] = rows
                self._payload_bytes += size

    # Streams and outbox

    def state(self, stream: Stream) -> StreamState:
        """The stream's last sequence, the last id announced, and what the cloud confirmed."""
        return self._state(self.database.connection(), stream)

    def _state(self, db: sqlite3.Connection, stream: Stream) -> StreamState:
        with self.database.failures_named():
            row = db.execute(
                "SELECT last_seq, announced_id, confirmed_seq FROM streams WHERE stream = ?", (stream.value,)
            ).fetchone()
        assert row is not None, "TelemetryDb.start makes a row for each stream"
        return StreamState(*row)

    @property
    def outbox_depth(self) -> int:
        """Messages that wait for the cloud's word that it has them."""
        return sum(self._rows_of.values())

    def has_room(self) -> bool:
        """False while so many acks and events wait that further ones stay in control.db for now."""
        return self._rows_of[Stream.ACK] + self._rows_of[Stream.EVENT] < self._quota.other_rows

    def enqueue(self, stream: Stream, build: Callable[[int], bytes], now_utc_s: float, announced_id: int) -> int:
        """The sequence of the message, durable: it never comes again with other content, even after a power cut."""
        with self.database.transaction(durable=True) as db:
            seq, size = self._insert(db, stream, build, now_utc_s, announced_id)
            db.execute("UPDATE streams SET announced_id = ? WHERE stream = ?", (announced_id, stream.value))
        self._holds_more(stream, 1, size)
        return seq

    def _insert(
        self,
        db: sqlite3.Connection,
        stream: Stream,
        build: Callable[[int], bytes],
        now_utc_s: float,
        row_id: int | None = None,
    ) -> tuple[int, int]:
        seq = self._state(db, stream).last_seq + 1
        payload = build(seq)
        sql = f"INSERT INTO {_outbox(stream)} VALUES (?, ?, ?, ?, ?)"  # noqa: S608 - our own names
        db.execute(sql, (stream.value, seq, now_utc_s, row_id, payload))
        db.execute("UPDATE streams SET last_seq = ? WHERE stream = ?", (seq, stream.value))
        return seq, len(payload)

    def _holds_more(self, stream: Stream, rows: int, payload_bytes: int) -> None:
        self._rows_of[stream] += rows
        self._payload_bytes += payload_bytes

    def pending(self, stream: Stream, after_seq: int, limit: int, up_to_seq: int | None) -> list[tuple[int, bytes]]:
        """Waiting messages above `after_seq` (and not above `up_to_seq`) in order, as (sequence, payload)."""
        db = self.database.connection()
        with self.database.failures_named():
            return db.execute(
                f"SELECT seq, payload FROM {_outbox(stream)} "  # noqa: S608 - our own names
                "WHERE stream = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
                (stream.value, after_seq, 2**62 if up_to_seq is None else up_to_seq, limit),
            ).fetchall()

    def confirm(self, stream: Stream, seq: int) -> int | None:
        """Everything of the stream up to `seq` is the cloud's and forgotten; the newest row announced by it."""
        with self.database.transaction() as db:
            gone = _delete_up_to(db, stream, seq)
            db.execute("UPDATE streams SET confirmed_seq = max(confirmed_seq, ?) WHERE stream = ?", (seq, stream.value))
        return self._forgotten(stream, gone)

    def forget(self, stream: Stream, seqs: Iterable[int]) -> int | None:
        """These messages were delivered and are forgotten; the newest row announced by them."""
        gone: list[tuple[int, int | None]] = []
        where = "WHERE stream = ? AND seq = ? RETURNING length(payload), row_id"
        sql = f"DELETE FROM {_outbox(stream)} {where}"  # noqa: S608 - our own names
        with self.database.transaction() as db:
            for seq in seqs:
                gone += db.execute(sql, (stream.value, seq)).fetchall()
        return self._forgotten(stream, gone)

    def _forgotten(self, stream: Stream, gone: Sequence[tuple[int, int | None]]) -> int | None:
        self._holds_more(stream, -len(gone), -sum(size for size, _ in gone))
        return max((row_id for _, row_id in gone if row_id is not None), default=None)

    # Samples and frames

    def add_sample(self, sample: Sample) -> None:
        """The sample waits for its frame; it survives kill -9 (not a power cut) from here on."""
        with self.database.transaction() as db:
            db.execute(f"INSERT INTO samples ({_SAMPLE_COLUMNS}) VALUES ({_SAMPLE_MARKS})", astuple(sample))  # noqa: S608
            self._appended += 1
            if self._appended % STAGED_CHECK_EVERY == 0:
                db.execute("DELETE FROM samples WHERE id <= (SELECT max(id) FROM samples) - ?", (MAX_STAGED_SAMPLES,))

    def last_sample(self) -> Sample | None:
        """The newest sample that waits for its frame."""
        db = self.database.connection()
        with self.database.failures_named():
            row = db.execute(f"SELECT {_SAMPLE_COLUMNS} FROM samples ORDER BY id DESC LIMIT 1").fetchone()  # noqa: S608
        return Sample(*row) if row else None

    def seal_frame(self, build: Callable[[int, Sequence[Sample]], bytes], now_utc_s: float) -> int | None:
        """The sequence of the frame made of the oldest samples, or None when none wait.

        The samples go in the same transaction in which their frame comes. A frame holds one run of the agent and
        its times rise, so several calls may be needed to empty the stage.
        """
        with self.database.transaction(durable=True) as db:
            rows = db.execute(
                f"SELECT id, {_SAMPLE_COLUMNS} FROM samples ORDER BY id LIMIT ?",  # noqa: S608 - constants
                (MAX_FRAME_SAMPLES,),
            ).fetchall()
            samples = _first_run([Sample(*row[1:]) for row in rows])
            if not samples:
                return None
            dropped = self._make_room(db, now_utc_s)
            seq, size = self._insert(db, Stream.TELEMETRY, lambda seq: build(seq, samples), now_utc_s)
            db.execute("DELETE FROM samples WHERE id <= ?", (rows[len(samples) - 1][0],))
        self._holds_more(Stream.TELEMETRY, 1 - len(dropped), size - sum(size for size, _ in dropped))
        return seq

    def _make_room(self, db: sqlite3.Connection, now_utc_s: float) -> list[tuple[int, int | None]]:
        """The oldest frames (size, None), dropped if the quota was reached; the gap waits to be told."""
        quota, frames = self._quota, self._rows_of[Stream.TELEMETRY]
        rows_over = sum(self._rows_of.values()) + 1 - quota.rows
        bytes_over = self._payload_bytes - quota.payload_bytes
        if frames == 0 or (rows_over <= 0 and bytes_over <= 0):
            return []
        share = max(quota.drop_share, bytes_over / max(1, self._payload_bytes))
        return _drop_oldest(db, Stream.TELEMETRY, max(1, rows_over, int(frames * share)), now_utc_s)

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
            db.execute(f"INSERT OR REPLACE INTO slots ({_SLOT_COLUMNS}) VALUES ({_SLOT_MARKS})", _slot_values(row))  # noqa: S608

    def close_slot(self, row: SlotRow, build: Callable[[int], bytes], now_utc_s: float) -> int:
        """The sequence of the message about a finished slot, which is in ledger and outbox, or in neither."""
        assert row.closed
        with self.database.transaction(durable=True) as db:
            db.execute(f"INSERT OR REPLACE INTO slots ({_SLOT_COLUMNS}) VALUES ({_SLOT_MARKS})", _slot_values(row))  # noqa: S608
            db.execute(
                "DELETE FROM slots WHERE start_utc_s <= "
                "(SELECT start_utc_s FROM slots ORDER BY start_utc_s DESC LIMIT 1 OFFSET ?)",
                (KEEP_SLOTS,),
            )
            dropped: list[tuple[int, int | None]] = []
            waiting = self._rows_of[Stream.LEDGER]
            if waiting >= self._quota.other_rows:
                dropped = _drop_oldest(db, Stream.LEDGER, max(1, int(waiting * self._quota.drop_share)), now_utc_s)
            seq, size = self._insert(db, Stream.LEDGER, build, now_utc_s)
        self._holds_more(Stream.LEDGER, 1 - len(dropped), size - sum(size for size, _ in dropped))
        return seq

    def slots(self, from_utc_s: float, to_utc_s: float) -> list[SlotRow]:
        """The slots that begin in `[from, to)`, in order."""
        return self._slots("start_utc_s >= ? AND start_utc_s < ? ORDER BY start_utc_s", (from_utc_s, to_utc_s))

    def open_slot(self) -> SlotRow | None:
        """The newest slot, if it was not finished."""
        rows = self._slots("1 ORDER BY start_utc_s DESC LIMIT 1", ())
        return rows[0] if rows and not rows[0].closed else None

    def _slots(self, where: str, values: tuple[float, ...]) -> list[SlotRow]:
        db = self.database.connection()
        with self.database.failures_named():
            rows = db.execute(f"SELECT {_SLOT_COLUMNS} FROM slots WHERE {where}", values).fetchall()  # noqa: S608
        return [_slot(row) for row in rows]


def _outbox(stream: Stream) -> str:
    """Where the messages of a stream wait; the version before the ledger must not find a stream it does not know."""
    return "ledger_outbox" if stream is Stream.LEDGER else "outbox"


def _slot_values(row: SlotRow) -> tuple[object, ...]:
    paths = (None,) * len(_PATH_FIELDS) if row.paths is None else tuple(getattr(row.paths, f) for f in _PATH_FIELDS)
    return (*(getattr(row, f) for f in _SLOT_FIELDS), row.closed, *paths)


def _slot(values: tuple[Any, ...]) -> SlotRow:
    count = len(_SLOT_FIELDS)
    paths = values[count + 1 :]
    return SlotRow(
        **dict(zip(_SLOT_FIELDS, values[:count], strict=True)),
        closed=bool(values[count]),
        paths=None if None in paths else EnergyPaths(*paths),
    )


def _delete_up_to(db: sqlite3.Connection, stream: Stream, seq: int) -> list[tuple[int, int | None]]:
    """The messages deleted, as (payload size, row announced)."""
    where = "WHERE stream = ? AND seq <= ? RETURNING length(payload), row_id"
    return db.execute(f"DELETE FROM {_outbox(stream)} {where}", (stream.value, seq)).fetchall()  # noqa: S608


def _drop_oldest(db: sqlite3.Connection, stream: Stream, count: int, now_utc_s: float) -> list[tuple[int, int | None]]:
    """The oldest messages of the stream, deleted; the gap waits to be told."""
    oldest = f"SELECT seq FROM {_outbox(stream)} WHERE stream = ? ORDER BY seq LIMIT ?"  # noqa: S608 - our own names
    first, last = db.execute(f"SELECT min(seq), max(seq) FROM ({oldest})", (stream.value, count)).fetchone()  # noqa: S608
    sql = "INSERT INTO gaps (at_utc_s, from_seq, to_seq, stream) VALUES (?, ?, ?, ?)"
    db.execute(sql, (now_utc_s, first, last, stream.value))
    return _delete_up_to(db, stream, last)


def _first_run(samples: Sequence[Sample]) -> Sequence[Sample]:
    """The leading samples of one boot whose times rise."""
    for index in range(1, len(samples)):
        before, this = samples[index - 1], samples[index]
        if this.boot_id != before.boot_id or this.at_utc_s <= before.at_utc_s:
            return samples[:index]
    return samples
