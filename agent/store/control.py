"""control.db: what must survive a power cut once it was said. Plans, outcomes, events, decisions of note, marks."""

from __future__ import annotations

import hashlib
import json
import math
import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from agent.core.events import Event, EventState, Severity
from agent.core.kept_text import moment, read_back, text_of
from agent.core.records import CommandEnd, CommandRecord, Document, HeldDocument, Outcome, Stage, Stream
from agent.store import commands
from agent.store.cells import all_sound, maybe, whole
from agent.store.database import FILE_MODE, Damaged, Database

KEEP_DOCUMENTS = 4
"""The document in force and the three before it, per kind."""
KEEP_OUTCOMES = 10_000
KEEP_DECISIONS = 1_000
SEQUENCE_BLOCK = 1_000
"""Sequences are promised ahead by this many; at most so large is the hole after telemetry.db was lost."""
SNAPSHOT_EVERY_S = 86_400.0
SNAPSHOT_FILE = "control.snapshot.db"
COMMANDS_SINCE = "commands_since_utc_s"
LOSS = "loss_to_tell"
HEADER_BYTES = 100
"""Of a database file; a sound one is longer."""

_OUTCOME_COLUMNS = "at_utc_s, subject, kind, version, sha256, stage, reason, field, detail, command_id"
_FIRST_HASH = "0" * 64


class ControlDb:
    """The tables of control.db; every method is one durable transaction and runs on the writer thread."""

    def __init__(self, directory: Path) -> None:
        self.database = Database(directory / "control.db", durable=True)
        self._snapshot_path = directory / SNAPSHOT_FILE

    # Plans and outcomes

    def documents(self) -> list[HeldDocument]:
        """The documents held, newest version first within each kind."""
        rows = self._all(
            "SELECT kind, version, sha256, received_utc_s, document FROM plans ORDER BY kind, version DESC"
        )
        return [HeldDocument(*row) for row in rows]

    def save_document(self, content: Document, document: bytes, outcome: Outcome, floor_id: int) -> None:
        """The document and its outcome, both or neither; of its kind the newest `KEEP_DOCUMENTS` stay."""
        with self.database.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO plans (kind, version, sha256, received_utc_s, document) VALUES (?, ?, ?, ?, ?)",
                (content.kind.value, content.version, content.sha256, outcome.at_utc_s, document),
            )
            db.execute(
                "DELETE FROM plans WHERE kind = ?1 AND version NOT IN "
                "(SELECT version FROM plans WHERE kind = ?1 ORDER BY version DESC LIMIT ?2)",
                (content.kind.value, KEEP_DOCUMENTS),
            )
            self._insert_outcome(db, outcome, floor_id)

    def add_outcome(self, outcome: Outcome, floor_id: int, *, once: bool) -> bool:
        """True when the outcome was written; with `once`, a stage that this document reached before is not."""
        with self.database.transaction() as db:
            if (
                once
                and db.execute(
                    "SELECT 1 FROM outcomes WHERE kind = ? AND version IS ? AND sha256 = ? AND stage = ?",
                    (outcome.kind, outcome.version, outcome.sha256, outcome.stage.value),
                ).fetchone()
            ):
                return False
            self._insert_outcome(db, outcome, floor_id)
            return True

    def _insert_outcome(self, db: sqlite3.Connection, outcome: Outcome, floor_id: int) -> None:
        row_id = _next_id(db, "outcomes", floor_id)
        db.execute(
            f"INSERT INTO outcomes (id, {_OUTCOME_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - constant
            (
                row_id,
                outcome.at_utc_s,
                outcome.subject,
                outcome.kind,
                outcome.version,
                outcome.sha256,
                outcome.stage.value,
                outcome.reason,
                outcome.field,
                outcome.detail,
                outcome.command_id,
            ),
        )
        db.execute("DELETE FROM outcomes WHERE id <= ?", (row_id - KEEP_OUTCOMES,))

    def outcomes(self, kind: str, version: int | None, sha256: str) -> list[Outcome]:
        """What became of one document, oldest first."""
        return [
            outcome
            for _, outcome in self._outcome_rows(
                "kind = ? AND version IS ? AND sha256 = ?", (kind, version, sha256), KEEP_OUTCOMES
            )
        ]

    def outcomes_after(self, row_id: int, limit: int) -> list[tuple[int, Outcome]]:
        """Outcomes written after the one with `row_id`, oldest first, with their ids."""
        return self._outcome_rows("id > ?", (row_id,), limit)

    def _outcome_rows(self, where: str, values: tuple[object, ...], limit: int) -> list[tuple[int, Outcome]]:
        rows = self._all(
            f"SELECT id, {_OUTCOME_COLUMNS} FROM outcomes WHERE {where} ORDER BY id LIMIT ?",  # noqa: S608 - constants
            (*values, limit),
        )
        return all_sound(_outcome, rows)

    # Commands

    def take_command(self, record: CommandRecord, ends: Sequence[CommandEnd], floor_id: int) -> CommandRecord | None:
        """None when the command is kept with its outcomes and those that end with it, else what is known of its id."""
        with self.database.transaction() as db:
            return commands.take(db, record, ends, lambda db, outcome: self._insert_outcome(db, outcome, floor_id))

    def end_commands(self, ends: Sequence[CommandEnd], floor_id: int) -> None:
        """Each of these has a terminal outcome, this one unless it had one before."""
        with self.database.transaction() as db:
            commands.end(db, ends, lambda db, outcome: self._insert_outcome(db, outcome, floor_id))

    def open_commands(self) -> list[CommandRecord]:
        """The commands without a terminal outcome, oldest first."""
        with self.database.failures_named():
            return commands.accepted(self.database.connection())

    # Events

    def add_event(self, event: Event, floor_id: int) -> None:
        """The event joins the chain: its hash covers the hash before it."""
        body = json.dumps(
            {
                "state": event.state.value,
                "severity": event.severity.value,
                "code": event.code,
                "subject": event.subject,
                "text": event.text,
                "data": {key: _writable(value) for key, value in event.data.items()},
            },
            sort_keys=True,
            separators=(",", ":"),
        )
        with self.database.transaction() as db:
            last = db.execute("SELECT hash FROM events ORDER BY id DESC LIMIT 1").fetchone()
            row_id = _next_id(db, "events", floor_id)
            digest = _chained(last[0] if last else _FIRST_HASH, row_id, event.at_utc_s, body)
            db.execute(
                "INSERT INTO events (id, at_utc_s, body, hash) VALUES (?, ?, ?, ?)",
                (row_id, event.at_utc_s, body, digest),
            )

    def events_after(self, row_id: int, limit: int) -> list[tuple[int, Event]]:
        """Events written after the one with `row_id`, oldest first, with their ids."""
        rows = self._all("SELECT id, at_utc_s, body FROM events WHERE id > ? ORDER BY id LIMIT ?", (row_id, limit))
        return [(row[0], _event(row[1], row[2])) for row in rows]

    def newest_events(self, limit: int) -> list[Event]:
        """The newest events, newest first."""
        rows = self._all("SELECT at_utc_s, body FROM events ORDER BY id DESC LIMIT ?", (limit,))
        return [_event(*row) for row in rows]

    def first_broken_event(self) -> int | None:
        """The id of the first event that was changed, removed or put in afterwards; None when the chain holds."""
        before = _FIRST_HASH
        rows = self.database.connection().execute("SELECT id, at_utc_s, body, hash FROM events ORDER BY id")
        for row_id, at_utc_s, body, digest in rows:
            if digest != _chained(before, row_id, at_utc_s, body):
                return int(row_id)
            before = digest
        return None

    # Decisions of note, sequences, marks

    def add_decision(self, at_utc_s: float, body: Mapping[str, object]) -> None:
        """The decision is kept among the newest `KEEP_DECISIONS`."""
        text = json.dumps(body, sort_keys=True, separators=(",", ":"))
        with self.database.transaction() as db:
            row_id = _next_id(db, "decisions", 0)
            db.execute("INSERT INTO decisions (id, at_utc_s, body) VALUES (?, ?, ?)", (row_id, at_utc_s, text))
            db.execute("DELETE FROM decisions WHERE id <= ?", (row_id - KEEP_DECISIONS,))

    def newest_decisions(self, limit: int) -> list[tuple[float, dict[str, object]]]:
        """The newest decisions with their times, newest first."""
        rows = self._all("SELECT at_utc_s, body FROM decisions ORDER BY id DESC LIMIT ?", (limit,))
        return all_sound(lambda at_utc_s, body: (moment(at_utc_s), dict(read_back(body))), rows)

    def reserved(self, stream: Stream) -> tuple[int, int]:
        """The highest sequence ever promised, and the id of the newest row that the cloud is known to have."""
        rows = self._all("SELECT reserved_to, settled_id FROM sequences WHERE stream = ?", (stream.value,))
        # A row that cannot be read is written anew above what telemetry.db has given out.
        found = all_sound(lambda reserved_to, settled_id: (whole(reserved_to), whole(settled_id)), rows)
        return found[0] if found else (0, 0)

    def reserve(self, stream: Stream, last_seq: int) -> int:
        """The new highest sequence that may be used; durable before any of them is."""
        reserved_to = last_seq + SEQUENCE_BLOCK
        with self.database.transaction() as db:
            db.execute(
                "INSERT INTO sequences (stream, reserved_to, settled_id) VALUES (?1, ?2, 0) "
                "ON CONFLICT DO UPDATE SET reserved_to = ?2",
                (stream.value, reserved_to),
            )
        return reserved_to

    def settle(self, stream: Stream, row_id: int) -> None:
        """The cloud has the messages of all rows up to `row_id`: they need not come again if telemetry.db is lost."""
        with self.database.transaction() as db:
            db.execute("UPDATE sequences SET settled_id = max(settled_id, ?) WHERE stream = ?", (row_id, stream.value))

    def mark(self, key: str) -> str | None:
        """The value kept under `key`."""
        rows = self._all("SELECT value FROM meta WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    def set_mark(self, key: str, value: str) -> None:
        """`value` is kept under `key`."""
        self.set_marks({key: value})

    def set_marks(self, marks: Mapping[str, str]) -> None:
        """Each value is kept under its key, all or none."""
        with self.database.transaction() as db:
            db.executemany("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", list(marks.items()))

    # Learned battery models

    def models(self) -> dict[str, str]:
        """What is kept of each battery's model, by device."""
        rows = self._all("SELECT device_id, body FROM models")
        return dict(all_sound(lambda device_id, body: (text_of(device_id), text_of(body)), rows))

    def save_models(self, bodies: Mapping[str, str], now_utc_s: float) -> None:
        """These models are kept in the place of earlier ones, all or none."""
        with self.database.transaction() as db:
            rows = [(device_id, now_utc_s, body) for device_id, body in bodies.items()]
            db.executemany("INSERT OR REPLACE INTO models (device_id, saved_utc_s, body) VALUES (?, ?, ?)", rows)

    def forget_model(self, device_id: str) -> None:
        """Nothing is kept of this battery's model."""
        with self.database.transaction() as db:
            db.execute("DELETE FROM models WHERE device_id = ?", (device_id,))

    # Snapshot

    def snapshot(self) -> None:
        """A sound copy beside the database; the one before it stays until the new one is on disk."""
        fresh = self._snapshot_path.with_suffix(".new")
        with self.database.failures_named():
            fresh.unlink(missing_ok=True)
            self.database.connection().execute("VACUUM INTO ?", (str(fresh),))
            descriptor = os.open(fresh, os.O_RDWR | os.O_CLOEXEC)
            try:
                os.fchmod(descriptor, FILE_MODE)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            fresh.replace(self._snapshot_path)

    def snapshot_age_s(self, now_utc_s: float) -> float | None:
        """How old the snapshot is by the file's own time; None when there is none."""
        with suppress(OSError):
            return now_utc_s - self._snapshot_path.stat().st_mtime
        return None

    def why_lost(self) -> str | None:
        """Why there is no file although there was one, in words; None when it is there or never was."""
        path = self.database.path
        # SQLite takes a file that ends within its header for a new one, and what is gone for never written.
        if path.exists() and path.stat().st_size >= HEADER_BYTES:
            return None
        return "the file is gone or empty" if self._snapshot_path.exists() or self.database.put_aside() else None

    def replace_lost(self, why: str, kept_as: Path, *, commands_since_utc_s: float) -> bool:
        """True when the newest snapshot took the place of the (quarantined) file, False when that was an empty one.

        Whole or not at all, with what must be known of the loss: it is made beside the place, and renamed into it.
        """
        assert not self.database.path.exists(), "quarantine first"
        beside = Database(self.database.path.with_name("control.restoring"), durable=True)
        restored = self._snapshot_path.exists()
        try:
            self._prepare(beside, why, kept_as, commands_since_utc_s, from_snapshot=restored)
        except Damaged:
            if not restored:
                raise
            restored = False
            self._prepare(beside, why, kept_as, commands_since_utc_s, from_snapshot=False)
        with self.database.failures_named():
            beside.path.replace(self.database.path)
        return restored

    def _prepare(
        self, beside: Database, why: str, kept_as: Path, commands_since_utc_s: float, *, from_snapshot: bool
    ) -> None:
        with self.database.failures_named():
            beside.remove()
            if from_snapshot:
                beside.path.write_bytes(self._snapshot_path.read_bytes())
        instead = "the last snapshot is in use" if from_snapshot else "a fresh one is in use and no plan is held"
        text = f"control.db: {why}; it is kept as {kept_as.name} and {instead}. Check the disk"
        with beside.transaction() as db:
            marks = [(COMMANDS_SINCE, repr(commands_since_utc_s)), (LOSS, text)]
            db.executemany("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", marks)
        with beside.failures_named():  # into the one file that is renamed, synchronised
            beside.connection().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        beside.close()

    def loss_to_tell(self) -> str | None:
        """What the last replacement of a lost file was about, until `loss_told`."""
        return self.mark(LOSS)

    def loss_told(self) -> None:
        """The loss is an event now."""
        with self.database.transaction() as db:
            db.execute("DELETE FROM meta WHERE key = ?", (LOSS,))

    def _all(self, sql: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        connection = self.database.connection()
        with self.database.failures_named():
            return connection.execute(sql, values).fetchall()


def _next_id(db: sqlite3.Connection, table: str, floor_id: int) -> int:
    """The next row id: above `floor_id` too, the last one that was announced, even after a restored snapshot."""
    (highest,) = db.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()  # noqa: S608 - our own names
    return max(int(highest), floor_id) + 1


def _chained(before: str, row_id: int, at_utc_s: float, body: str) -> str:
    return hashlib.sha256(f"{before}|{row_id}|{at_utc_s!r}|{body}".encode()).hexdigest()


def _event(at_utc_s: object, body: object) -> Event:
    """The event; in the place of one that the disk garbled, that it was there: the chain of hashes names it too."""
    try:
        at_s, content = moment(at_utc_s), read_back(text_of(body))
        return Event(
            at_s,
            EventState(content["state"]),
            Severity(content["severity"]),
            text_of(content["code"]),
            text_of(content["subject"]),
            text_of(content["text"]),
            {key: _datum(value) for key, value in content["data"].items()},
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        text = "an event stood here that is damaged on the disk and cannot be read. Check the disk"
        return Event(_date(at_utc_s), EventState.NOTED, Severity.WARNING, "event_damaged", "site", text, {})


def _writable(value: str | float | None) -> str | float | int | None:
    """What JSON has no word for is not known."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _datum(value: object) -> str | float | int | None:
    if value is not None and not isinstance(value, (str, int, float)):
        raise TypeError("what an event tells is flat")
    return value


def _date(at_utc_s: object) -> float:
    try:
        return moment(at_utc_s)
    except ValueError:
        return 0.0


def _outcome(*cells: object) -> tuple[int, Outcome]:
    row_id, at, subject, kind, version, sha256, stage, reason, field, detail, command_id = cells
    return whole(row_id), Outcome(
        moment(at), text_of(kind), maybe(whole, version), text_of(sha256), Stage(text_of(stage)),
        maybe(text_of, reason), maybe(text_of, field), maybe(text_of, detail), text_of(subject),
        maybe(text_of, command_id),
    )  # fmt: skip
