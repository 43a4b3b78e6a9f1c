"""Sound copies of the databases while the daemon writes them: SQLite's own backup, readers only."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from agent.core.records import StorageFailed
from agent.store.control import SNAPSHOT_FILE
from agent.store.database import FILE_MODE

DATABASES = ("control", "telemetry")


def copy_database(source: Path, target: Path) -> None:
    """`target` is the database as it was at one moment, checked, on disk; raises `StorageFailed`."""
    try:
        with (
            closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=5.0)) as reading,
            closing(sqlite3.connect(target)) as writing,
        ):
            # In one go, as of one moment: the daemon's writer is not held up, its log grows meanwhile.
            reading.backup(writing)
            # The copy is one file: what would be in a log beside it is in it.
            writing.execute("PRAGMA journal_mode = DELETE")
            (verdict,) = writing.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise StorageFailed(source.stem, f"the copy is damaged: {verdict}")
        descriptor = os.open(target, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.fchmod(descriptor, FILE_MODE)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except (sqlite3.Error, OSError) as error:
        with suppress(OSError):
            target.unlink(missing_ok=True)
        raise StorageFailed(source.stem, str(error)) from error


def refresh_snapshot(directory: Path) -> bool:
    """True when the snapshot that a start falls back on is of now; False where there is nothing to copy."""
    source = directory / "control.db"
    if not source.exists():
        return False
    fresh = directory / f"{SNAPSHOT_FILE}.copy"
    copy_database(source, fresh)
    owner = source.stat()
    with suppress(PermissionError):  # not root: it is ours already
        shutil.chown(fresh, owner.st_uid, owner.st_gid)
    fresh.replace(directory / SNAPSHOT_FILE)
    return True
