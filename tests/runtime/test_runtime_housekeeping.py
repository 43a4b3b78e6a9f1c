"""The slow jobs, and the wall clock that they are reckoned by."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from agent.runtime import housekeeping


async def nothing():
    pass


@pytest.fixture
async def keeper():
    keeper = housekeeping.start({"status": nothing, "models": nothing})
    yield keeper
    keeper.stop()


def due_in_s(keeper):
    return [(job.next_run_time - datetime.now(UTC)).total_seconds() for job in keeper.scheduler.get_jobs()]


def sleep_for_a_day(keeper):
    """As it is after the wall clock was set back by a day."""
    for job in keeper.scheduler.get_jobs():
        job.modify(next_run_time=datetime.now(UTC) + timedelta(days=1))


async def test_a_step_of_the_wall_clock_delays_no_job(keeper):
    keeper.look(200_000.0, 10.0)
    sleep_for_a_day(keeper)
    keeper.look(200_001.0 - 86_400.0, 11.0)
    assert all(0.0 < seconds <= 60.0 for seconds in due_in_s(keeper))


async def test_a_clock_that_only_drifts_moves_no_job(keeper):
    keeper.look(200_000.0, 10.0)
    sleep_for_a_day(keeper)
    keeper.look(200_001.1, 11.0)
    assert all(seconds > 86_000.0 for seconds in due_in_s(keeper))


class Part:
    """Has jobs, and notes that they were done."""

    def __init__(self):
        self.done = asyncio.Queue()

    async def job(self, word="method"):
        self.done.put_nowait(word)


async def test_every_job_is_awaited_a_lambda_that_gives_a_coroutine_too(monkeypatch):
    monkeypatch.setattr(housekeeping, "EVERY_S", 0.05)
    part = Part()
    keeper = housekeeping.start({"method": part.job, "lambda": lambda: part.job("lambda")})
    seen = set()
    async with asyncio.timeout(20.0):
        while seen != {"method", "lambda"}:
            seen.add(await part.done.get())
    keeper.stop()
