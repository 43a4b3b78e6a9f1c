"""The slow jobs: nothing here moves power or depends on when exactly it runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC
from typing import Protocol

from apscheduler.schedulers.asyncio import AsyncIOScheduler

EVERY_S = 60
STEP_S = 1.0
"""The wall clock moved against the monotonic one by more than this: it was set."""

Jobs = Mapping[str, Callable[[], Awaitable[None]]]


class Housekeeper(Protocol):
    """Calls each job once a minute."""

    def look(self, utc_s: float, mono_s: float) -> None:
        """To be told the time now and then, so that a clock that is set does not stop the jobs."""

    def stop(self) -> None:
        """No job is called any more."""


class Scheduled:
    """The jobs in an APScheduler, which reckons by the wall clock: after a step back by a day it would rest a day."""

    def __init__(self, scheduler: AsyncIOScheduler) -> None:
        self.scheduler = scheduler
        self._ahead_s: float | None = None

    def look(self, utc_s: float, mono_s: float) -> None:
        """Counts the minutes anew where the wall clock was set."""
        ahead_s = utc_s - mono_s
        if self._ahead_s is not None and abs(ahead_s - self._ahead_s) > STEP_S:
            for job in self.scheduler.get_jobs():
                job.reschedule("interval", seconds=EVERY_S)
        self._ahead_s = ahead_s

    def stop(self) -> None:
        """No job is called any more."""
        self.scheduler.shutdown(wait=False)


def start(jobs: Jobs) -> Scheduled:
    """A running scheduler that calls each job once a minute; late turns are merged into one."""
    scheduler = AsyncIOScheduler(timezone=UTC)
    for name, job in jobs.items():
        scheduler.add_job(
            _call,
            "interval",
            args=(job,),
            seconds=EVERY_S,
            id=name,
            coalesce=True,
            misfire_grace_time=None,
            max_instances=1,
        )
    scheduler.start()
    return Scheduled(scheduler)


async def _call(job: Callable[[], Awaitable[None]]) -> None:
    """APScheduler awaits only what is plainly a coroutine function: of a lambda it would drop the coroutine."""
    await job()
