"""The shell around PV ceilings: each outcome is told once, and at the end only what would stay is taken back."""

from __future__ import annotations

import asyncio

from agent.core.pv_limit import CeilingWrite, PvLine, PvWriteReason
from agent.core.snapshot import CeilingOutcome
from agent.runtime.pv_ceilings import PvCeilings


class Inverter:
    """Stands in for a driver: it takes every ceiling."""

    def __init__(self, has_dead_man):
        self.has_dead_man = has_dead_man
        self.told = []

    async def write_ceiling(self, ceiling_w):
        self.told.append(ceiling_w)
        return CeilingOutcome("pv", ceiling_w, ceiling_w, ok=True, reason="", done_mono_s=1.0)


async def test_an_outcome_is_told_once_and_kept_to_be_explained():
    ceilings = PvCeilings({"pv": Inverter(has_dead_man=True)})
    tasks = []

    def spawn(job):
        tasks.append(asyncio.ensure_future(job))
        return tasks[-1]

    ceilings.start((CeilingWrite("pv", 5e3, PvWriteReason.TIGHTER),), spawn)
    assert ceilings.outcomes() == ()
    await asyncio.gather(*tasks)
    (outcome,) = ceilings.outcomes()
    assert (outcome.held_w, ceilings.last) == (5e3, {"pv": outcome})
    assert ceilings.outcomes() == ()


async def test_at_the_end_only_a_ceiling_that_would_stay_for_ever_is_taken_back():
    timed, untimed, untouched = Inverter(True), Inverter(False), Inverter(False)
    ceilings = PvCeilings({"timed": timed, "untimed": untimed, "untouched": untouched})
    await ceilings.let_go((PvLine("timed", 5e3, wrote=True), PvLine("untimed", 5e3, wrote=True), PvLine("untouched")))
    assert (timed.told, untimed.told, untouched.told) == ([], [None], [])
