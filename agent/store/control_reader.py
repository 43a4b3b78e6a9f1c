"""Events, decisions and documents straight from control.db, daemon or not: never writes, holds no lock for long."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from agent.core.kept_text import moment, read_back, text_of
from agent.store.cells import all_sound
from agent.store.read_only import read_only


def newest_events(directory: Path, limit: int) -> list[dict[str, Any]]:
    """At most `limit` events, newest first, with `at_utc_s`; raises OSError, in words, where they cannot be read."""
    return _bodies(directory, "SELECT at_utc_s, body FROM events ORDER BY id DESC LIMIT ?", (limit,))


def events_between(directory: Path, from_utc_s: float, to_utc_s: float) -> list[dict[str, Any]]:
    """The events in `[from, to)`, oldest first, as above."""
    sql = "SELECT at_utc_s, body FROM events WHERE at_utc_s >= ? AND at_utc_s < ? ORDER BY id"
    return _bodies(directory, sql, (from_utc_s, to_utc_s))


def decisions_between(directory: Path, from_utc_s: float, to_utc_s: float) -> list[dict[str, Any]]:
    """The decisions of note in `[from, to)`, oldest first, as above."""
    sql = "SELECT at_utc_s, body FROM decisions WHERE at_utc_s >= ? AND at_utc_s < ? ORDER BY id"
    return _bodies(directory, sql, (from_utc_s, to_utc_s))


def decision_at(directory: Path, utc_s: float) -> dict[str, Any] | None:
    """The last decision of note up to `utc_s`, which was in force then; None where none is kept; as above."""
    sql = "SELECT at_utc_s, body FROM decisions WHERE at_utc_s <= ? ORDER BY at_utc_s DESC, id DESC LIMIT 1"
    found = _bodies(directory, sql, (utc_s,))
    return found[0] if found else None


def newest_document(directory: Path, kind: str) -> tuple[int, bytes] | None:
    """Version and bytes of the newest document of a kind, as it was taken; None where none is held; as above."""
    rows = _rows(directory, "SELECT version, document FROM plans WHERE kind = ? ORDER BY version DESC LIMIT 1", (kind,))
    return (int(rows[0][0]), bytes(rows[0][1])) if rows else None


def _bodies(directory: Path, sql: str, values: tuple[float, ...]) -> list[dict[str, Any]]:
    """What the disk garbled is left out: the chain of hashes names such an event (`ems doctor`)."""
    return all_sound(_body, _rows(directory, sql, values))


def _body(at_utc_s: object, body: object) -> dict[str, Any]:
    return {"at_utc_s": moment(at_utc_s), **read_back(text_of(body))}


def _rows(directory: Path, sql: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
    path = directory / "control.db"
    if not path.is_file():
        raise FileNotFoundError(f"there is no control.db in {directory}")
    try:
        with closing(read_only(path)) as connection:
            return connection.execute(sql, values).fetchall()
    except sqlite3.Error as error:
        raise OSError(f"{path}: {error}") from error
