"""The slow jobs: nothing here moves power or depends on when exactly it runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC

from apscheduler.schedulers.asyncio import AsyncIOScheduler

EVERY_S = 60


def start(jobs: dict[str, Callable[[], Awaitable[None]]]) -> AsyncIOScheduler:
    """A running scheduler that calls each job once a minute; late turns are merged into one."""
    scheduler = AsyncIOScheduler(timezone=UTC)
    for name, job in jobs.items():
        scheduler.add_job(
            job, "interval", seconds=EVERY_S, id=name, coalesce=True, misfire_grace_time=None, max_instances=1
        )
    scheduler.start()
    return scheduler
