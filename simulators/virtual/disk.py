"""The agent's disk: full or slow when a fault says so. The files and SQLite are real."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from agent.core.records import StorageFailed
from agent.store.database import Database
from agent.store.writer import Writer
from simulators.virtual.loop import VirtualLoop

USUAL_S = 0.003
"""One job of the store, fsync included, on an ordinary disk."""
NO_LIMIT_PAGES = 2**31 - 2


class Disk:
    """Follows the store of whichever agent runs."""

    def __init__(self, loop: VirtualLoop, seed: int) -> None:
        draw = random.Random(f"disk {seed}")
        self.job_s = USUAL_S
        """How long each job of the store takes."""
        self._writer: Writer | None = None
        self._full = False
        loop.disk_s = lambda: self.job_s
        loop.disk_share = lambda: draw.choice((0.0, 0.9))
        loop.on_job = self._done

    def _done(self, job: Callable[..., Any], result: Any) -> None:
        opened = result[0] if isinstance(result, tuple) and result else None
        if isinstance(opened, Writer):
            self._writer = opened
            self.full(full=self._full)
        elif getattr(job, "__name__", "") == "close":
            self._writer = None

    @property
    def databases(self) -> list[Database]:
        """Those that are open, or would be opened again at their next use."""
        if self._writer is None:
            return []
        return [self._writer.control.database, self._writer._telemetry.database]  # noqa: SLF001 (looked at from outside)

    def full(self, *, full: bool) -> None:
        """No database can grow by a page, or each of them can again."""
        self._full = full
        for database in self.databases:
            try:
                connection = database.connection()
            except StorageFailed:
                continue
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count = {pages if full else NO_LIMIT_PAGES}")

    def wal_bytes(self) -> int:
        """Of both write-ahead logs together."""
        files = (database.path.with_name(f"{database.path.name}-wal") for database in self.databases)
        return sum(file.stat().st_size for file in files if file.exists())
