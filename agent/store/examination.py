"""Looks at the databases of a state directory without writing, whether a daemon has them open or not."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from agent.core.checkup import DatabaseFacts
from agent.store.read_only import read_only
from agent.store.schema import MIGRATIONS

SQLITE_VERSION = sqlite3.sqlite_version
CHECK_WITHIN_S = 10.0
"""For quick_check of one file; about 1 s per GB on a good disk."""
_STEPS_BETWEEN_LOOKS = 10_000
_LAST_COMMIT = {
    "control": "SELECT CAST(value AS REAL) FROM meta WHERE key = 'last_trusted_utc_s'",
    "telemetry": "SELECT max(at_utc_s) FROM staged",
}
"""When something was last committed that is committed all the time."""
_LAST_FRAME = "SELECT max(to_utc_s) FROM frame_times"


def examined(directory: Path, now_utc_s: float) -> tuple[DatabaseFacts, ...]:
    """What can be said of each database."""
    return tuple(_examined(directory, name, now_utc_s) for name in MIGRATIONS)


def _examined(directory: Path, name: str, now_utc_s: float) -> DatabaseFacts:
    path = directory / f"{name}.db"
    try:
        size = path.stat().st_size
        with path.open("rb"):
            pass
        wal = Path(f"{path}-wal")
        wal_bytes = wal.stat().st_size if wal.exists() else 0
        aside = tuple(sorted(found.name for found in directory.glob(f"{name}.db.damaged-*Z")))
    except FileNotFoundError:
        return DatabaseFacts(name, f"{path} is not there: was the agent ever started on this directory?")
    except OSError as error:
        return DatabaseFacts(name, f"{path}: {error.strerror}")
    try:
        connection = read_only(path)
    except sqlite3.Error as error:
        return DatabaseFacts(name, f"{path}: {error}", quarantined=aside)
    try:
        damage, whole = _quick_check(connection)
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        age_s = None if damage else _last_commit_age_s(connection, name, now_utc_s)
    except sqlite3.Error as error:
        damage, whole, version, age_s = str(error), True, 0, None
    finally:
        connection.close()
    known = len(MIGRATIONS[name])
    return DatabaseFacts(name, "", damage, whole, size, wal_bytes, age_s, int(version), known, aside)


def _quick_check(connection: sqlite3.Connection) -> tuple[str, bool]:
    """What is damaged (nothing: empty), and whether the file was read to its end."""
    end_s = time.monotonic() + CHECK_WITHIN_S
    connection.set_progress_handler(lambda: time.monotonic() > end_s, _STEPS_BETWEEN_LOOKS)
    try:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
            return "", False
        raise
    finally:
        connection.set_progress_handler(None, 0)
    return ("" if verdict == "ok" else str(verdict)), True


def _last_commit_age_s(connection: sqlite3.Connection, name: str, now_utc_s: float) -> float | None:
    asked = [_LAST_COMMIT[name], *([_LAST_FRAME] if name == "telemetry" else [])]
    try:
        found = [row[0] for sql in asked if (row := connection.execute(sql).fetchone()) is not None]
    except sqlite3.OperationalError:  # written by a version without these tables
        return None
    times = [float(at) for at in found if at is not None]
    return max(0.0, now_utc_s - max(times)) if times else None
