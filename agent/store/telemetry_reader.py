"""Reads telemetry.db beside the daemon, or without one: never writes, never holds a lock for longer than a page."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from agent.core.evidence import EvidenceRow
from agent.core.ledger import SlotRow
from agent.core.records import Sample, Stream
from agent.store import evidence
from agent.store.cells import readable
from agent.store.outbox import table_of
from agent.store.telemetry import SAMPLE_COLUMNS, samples_of, slots_where

PAGE_FRAMES = 200
LONGEST_FRAME_S = 3600.0
"""Of a frame that was kept by a version without `frame_times`."""
BUSY_S = 5.0


class UnreadableStore(Exception):  # noqa: N818 - an expected outcome, named for what it is
    """There is nothing to read, or it cannot be read; the text says why, `hint` what to do next."""

    def __init__(self, why: str, hint: str) -> None:
        super().__init__(why)
        self.hint = hint


class TelemetryReader:
    """The frames of one state directory. Raises `UnreadableStore` wherever the disk or the file says no."""

    def __init__(self, directory: Path) -> None:
        path = directory / "telemetry.db"
        try:
            if not path.is_file():
                hint = "name the directory that the site file has as store.directory: --store DIR"
                raise UnreadableStore(f"there is no telemetry.db in {directory}", hint)
            with path.open("rb"):
                pass
        except PermissionError as error:
            hint = "ask as the user of the service: sudo -u ems-agent ems telemetry export ..."
            raise UnreadableStore(f"{path}: this user may not read it", hint) from error
        self._path = path
        self._open = self._connection()

    def close(self) -> None:
        """Nothing is open any more."""
        self._open.close()

    def frames(self, stream: Stream, from_utc_s: float, to_utc_s: float, up_to_seq: int) -> Iterator[tuple[int, bytes]]:
        """The frames that have anything in `[from, to)` as (sequence, payload), in order, up to a sequence."""
        first, last = self._range(stream, from_utc_s, to_utc_s)
        last = min(last, up_to_seq)
        sql = (
            f"SELECT seq, payload FROM {table_of(stream)} LEFT JOIN frame_times USING (stream, seq) "  # noqa: S608
            "WHERE stream = ?1 AND seq BETWEEN ?2 AND ?3 AND coalesce(to_utc_s, created_utc_s) >= ?4 "
            f"AND coalesce(from_utc_s, created_utc_s - {LONGEST_FRAME_S}) < ?5 ORDER BY seq LIMIT {PAGE_FRAMES}"
        )
        while page := self._all(sql, (stream.value, first, last, from_utc_s, to_utc_s)):
            yield from page
            first = page[-1][0] + 1

    def now(
        self, streams: Sequence[Stream], from_utc_s: float, to_utc_s: float
    ) -> tuple[dict[Stream, int], list[Sample]]:
        """The last sequence of each stream, and the samples that no frame holds yet, of one moment."""
        sql = f"SELECT {SAMPLE_COLUMNS} FROM staged WHERE at_utc_s >= ? AND at_utc_s < ? ORDER BY id"  # noqa: S608
        self._all("BEGIN", ())
        try:
            last = {Stream(name): int(seq) for name, seq in self._all("SELECT stream, last_seq FROM streams", ())}
            staged = samples_of(self._all(sql, (from_utc_s, to_utc_s)))
        finally:
            self._all("COMMIT", ())
        return {stream: last.get(stream, 0) for stream in streams}, staged

    def slots(self, from_utc_s: float, to_utc_s: float) -> list[SlotRow]:
        """The slots of the ledger that begin in `[from, to)`, in order."""
        try:
            return slots_where(
                self._open, "start_utc_s >= ? AND start_utc_s < ? ORDER BY start_utc_s", (from_utc_s, to_utc_s)
            )
        except sqlite3.Error as error:
            raise self._named(error) from error

    def evidence(self, from_utc_s: float, to_utc_s: float) -> list[EvidenceRow]:
        """The seconds of evidence in `[from, to)`, in order."""
        try:
            return evidence.read(self._open, from_utc_s, to_utc_s, -1)
        except sqlite3.Error as error:
            raise self._named(error) from error

    def extent(self) -> tuple[float, float] | None:
        """From when to when there is anything, Unix s; None when there is nothing."""
        ((first, last),) = self._all(
            "SELECT min(a), max(b) FROM (SELECT min(from_utc_s) a, max(to_utc_s) b FROM frame_times UNION ALL "
            "SELECT min(at_utc_s), max(at_utc_s) FROM staged)",
            (),
        )
        return None if first is None else (first, last)

    def _range(self, stream: Stream, from_utc_s: float, to_utc_s: float) -> tuple[int, int]:
        """The sequences to look at: a month of frames is not read to find an hour."""
        sql = "SELECT min(seq), max(seq) FROM frame_times WHERE stream = ? AND to_utc_s >= ? AND from_utc_s < ?"
        ((first, last),) = self._all(sql, (stream.value, from_utc_s, to_utc_s))
        ((timed,),) = self._all("SELECT min(seq) FROM frame_times WHERE stream = ?", (stream.value,))
        sql = f"SELECT min(seq), max(seq) FROM {table_of(stream)} WHERE stream = ? AND seq < ?"  # noqa: S608
        ((oldest, newest),) = self._all(sql, (stream.value, 2**62 if timed is None else timed))
        known = [seq for seq in (first, last, oldest, newest) if seq is not None]
        return (min(known), max(known)) if known else (1, 0)

    def _all(self, sql: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        try:
            return self._open.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise self._named(error) from error

    def _connection(self) -> sqlite3.Connection:
        try:
            found = sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=BUSY_S, isolation_level=None)
            found.text_factory = readable
            (version,) = found.execute("PRAGMA user_version").fetchone()
            found.execute("SELECT count(*) FROM streams").fetchone()
        except sqlite3.Error as error:
            raise self._named(error) from error
        if version < NEEDED_VERSION:
            found.close()
            hint = "start the daemon of this version once (systemctl start ems-agent): it brings the file up to date"
            raise UnreadableStore(f"{self._path} was written by an older version", hint)
        return found

    def _named(self, error: sqlite3.Error) -> UnreadableStore:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            hint = "the daemon puts a damaged file aside at its start; look for telemetry.db.damaged-* beside it"
        elif code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            hint = "ask as the user of the service: sudo -u ems-agent ems telemetry export ..."
        else:
            hint = "try again; if it stays, look at the disk (df, dmesg)"
        return UnreadableStore(f"{self._path}: {error}", hint)


NEEDED_VERSION = 4
"""Of the tables, from which on frames have their times beside them."""
