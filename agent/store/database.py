"""One SQLite file with one writer: explicit transactions, typed failures, quarantine of a damaged file."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from agent.core.records import StorageFailed
from agent.store.cells import readable
from agent.store.schema import bring_up_to_date, lacking

FILE_MODE = 0o640
QUICK_CHECK_MAX_BYTES = 32 * 1024 * 1024
"""A larger file is not read through at start (about 1 s per GB); damage in it is met where it is read."""
CACHE_KIB = 256
"""Pages kept in memory: what is written is rarely read again."""
WAL_LIMIT_BYTES = 16 * 1024 * 1024
KEEP_QUARANTINED = 3
_SIDE_FILES = ("", "-wal", "-shm")

_WORDS = {
    sqlite3.SQLITE_FULL: "the disk is full; free some space",
    sqlite3.SQLITE_READONLY: "the disk is read-only; check the file system (dmesg) and remount it",
    sqlite3.SQLITE_IOERR: "the disk reports an I/O error; check it (dmesg) and replace it if it persists",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened; check owner and mode of the directory",
    sqlite3.SQLITE_BUSY: "another process holds the database; only `ems run` may write to it",
}
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Damaged(StorageFailed):
    """The file is not a sound database any more; only quarantine helps."""


class Database:
    """One database file, used from one thread. Closed after an I/O error and opened again, checked, at the next use.

    An fsync that failed is never tried again on the same connection: the kernel may have dropped the pages.
    """

    def __init__(self, path: Path, *, durable: bool, page_bytes: int = 4096) -> None:
        """`page_bytes` counts for a file that is made new; one that is there keeps its own."""
        self.path = path
        self._page_bytes = page_bytes
        self.name = path.stem
        self._durable = durable
        self._open: sqlite3.Connection | None = None
        self._synchronous = ""

    def connection(self) -> sqlite3.Connection:
        """The open connection; raises `Damaged` or `StorageFailed` when there can be none."""
        if self._open is None:
            with self.failures_named():
                self._open = self._connect()
        return self._open

    def close(self) -> None:
        """Nothing is open any more; safe to call twice."""
        connection, self._open = self._open, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    @contextmanager
    def transaction(self, *, durable: bool | None = None) -> Iterator[sqlite3.Connection]:
        """BEGIN IMMEDIATE ... COMMIT, all or nothing; when durable, it survives a power cut once this returns."""
        connection = self.connection()
        with self.failures_named():
            self._set_synchronous(connection, "FULL" if (self._durable if durable is None else durable) else "NORMAL")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def failures_named(self) -> Iterator[None]:
        """What SQLite raises inside comes out as `StorageFailed` or `Damaged`."""
        try:
            yield
        except sqlite3.ProgrammingError:
            raise  # our bug, not the disk's
        except sqlite3.Error as error:
            raise self._named(error) from error
        except OSError as error:
            raise StorageFailed(self.name, str(error)) from error

    def quarantine(self, now_utc_s: float) -> Path:
        """Where the damaged file went; a fresh one is made at the next use. Only the newest few are kept."""
        self.close()
        stamp = datetime.fromtimestamp(now_utc_s, UTC).strftime("%Y%m%dT%H%M%SZ")
        target = self.path.with_name(f"{self.path.name}.damaged-{stamp}")
        for side in _SIDE_FILES:
            with suppress(FileNotFoundError):
                Path(f"{self.path}{side}").replace(f"{target}{side}")
        old = sorted(p for p in self.path.parent.glob(f"{self.path.name}.damaged-*Z") if p != target)
        for path in old[: max(0, len(old) - KEEP_QUARANTINED + 1)]:
            for side in _SIDE_FILES:
                Path(f"{path}{side}").unlink(missing_ok=True)
        return target

    def put_aside(self) -> bool:
        """True when a damaged file was quarantined here before."""
        return any(self.path.parent.glob(f"{self.path.name}.damaged-*Z"))

    def remove(self) -> None:
        """Nothing of the file is left."""
        self.close()
        for side in _SIDE_FILES:
            Path(f"{self.path}{side}").unlink(missing_ok=True)

    def _connect(self) -> sqlite3.Connection:
        # Made here so that the mode holds whatever the umask; SQLite gives -wal and -shm the mode of the file.
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        os.fchmod(descriptor, FILE_MODE)
        os.close(descriptor)
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=1.0)
        connection.text_factory = readable  # else one garbled text makes its whole table unreadable
        try:
            self._look_through(connection)
            bring_up_to_date(connection, self.name)
            missing = lacking(connection, self.name)
            if missing is not None:
                raise Damaged(self.name, f"the file is damaged: {missing}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _look_through(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute(f"PRAGMA page_size = {self._page_bytes}")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
            self._synchronous = ""
            self._set_synchronous(connection, "FULL")
            if self.path.stat().st_size > QUICK_CHECK_MAX_BYTES:
                return
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.Error as error:
            # Not the disk and not our SQL: a header that says what cannot be, such as a format of another century.
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_ERROR:
                raise Damaged(self.name, f"the file is damaged: {error}") from error
            raise
        if verdict != "ok":
            raise Damaged(self.name, f"the file is damaged: {verdict}")

    def _set_synchronous(self, connection: sqlite3.Connection, level: str) -> None:
        if level != self._synchronous:
            connection.execute(f"PRAGMA synchronous = {level}")
            self._synchronous = level

    def _named(self, error: sqlite3.Error) -> StorageFailed:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _DAMAGE:
            self.close()
            return Damaged(self.name, f"the file is damaged: {error}")
        if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
            self.close()
        return StorageFailed(self.name, _WORDS.get(code, str(error)))
