"""Opening a database that somebody else may be writing to, without ever writing."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from agent.store.cells import readable


def read_only(path: Path) -> sqlite3.Connection:
    """A connection that cannot write; without a daemon and without the right to make its side files too."""
    try:
        connection = _opened(f"file:{path}?mode=ro")
    except sqlite3.OperationalError:
        if Path(f"{path}-wal").exists() or os.access(path.parent, os.W_OK):
            raise
        # Closed cleanly: all of it is in the one file, and nobody writes.
        return _opened(f"file:{path}?mode=ro&immutable=1")
    return connection


def _opened(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, timeout=2.0, isolation_level=None)
    connection.text_factory = readable
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            connection.close()
            raise
    return connection
