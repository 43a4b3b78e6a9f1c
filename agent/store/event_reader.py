"""The newest events straight from the disk, for when no daemon answers: never writes, never holds a lock for long."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from agent.store.examination import read_only


def newest_events(directory: Path, limit: int) -> list[dict[str, Any]]:
    """At most `limit` events, newest first, with `at_utc_s`; raises OSError, in words, where they cannot be read."""
    path = directory / "control.db"
    if not path.is_file():
        raise FileNotFoundError(f"there is no control.db in {directory}")
    try:
        with closing(read_only(path)) as connection:
            rows = connection.execute("SELECT at_utc_s, body FROM events ORDER BY id DESC LIMIT ?", (limit,)).fetchall()
    except sqlite3.Error as error:
        raise OSError(f"{path}: {error}") from error
    return [{"at_utc_s": at_utc_s, **json.loads(body)} for at_utc_s, body in rows]
