"""The slow jobs are called, whatever kind of callable they are."""

import asyncio

from agent.runtime import housekeeping


async def test_every_job_is_awaited_a_lambda_that_gives_a_coroutine_too(monkeypatch):
    monkeypatch.setattr(housekeeping, "EVERY_S", 0.05)
    called = asyncio.Queue()

    class Part:
        async def method(self, word="method"):
            called.put_nowait(word)

    part = Part()
    keeper = housekeeping.start({"method": part.method, "lambda": lambda: part.method("lambda")})
    seen = set()
    async with asyncio.timeout(20.0):
        while seen != {"method", "lambda"}:
            seen.add(await called.get())
    keeper.stop()
