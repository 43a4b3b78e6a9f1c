"""Turns on a shared line: one at a time, writes first, nobody forgotten."""

from __future__ import annotations

import asyncio

import pytest

from drivers.turns import Turns


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


def queue(turns, log, name, *, urgent):
    async def take():
        await turns.take(urgent=urgent)
        log.append(name)

    return asyncio.ensure_future(take())


async def test_waiting_writes_go_before_waiting_reads_and_each_in_order():
    turns, log = Turns(), []
    await turns.take(urgent=False)
    tasks = [queue(turns, log, name, urgent=name.startswith("w")) for name in ("r1", "r2", "w1", "w2")]
    for expected in (["w1"], ["w1", "w2"], ["w1", "w2", "r1"], ["w1", "w2", "r1", "r2"]):
        await settle()
        assert len(log) == len(expected) - 1
        turns.give()
        await settle()
        assert log == expected
    turns.give()
    await asyncio.gather(*tasks)
    await asyncio.wait_for(turns.take(urgent=False), 1)


async def test_one_that_gives_up_waiting_is_skipped():
    turns, log = Turns(), []
    await turns.take(urgent=True)
    quitter, patient = queue(turns, log, "quitter", urgent=True), queue(turns, log, "patient", urgent=False)
    await settle()
    quitter.cancel()
    await settle()
    turns.give()
    await patient
    assert log == ["patient"]


async def test_a_turn_given_to_one_that_is_cancelled_in_the_same_instant_is_passed_on():
    turns, log = Turns(), []
    await turns.take(urgent=True)
    quitter, patient = queue(turns, log, "quitter", urgent=True), queue(turns, log, "patient", urgent=False)
    await settle()
    turns.give()  # the turn is the quitter's now, but it has not run yet
    quitter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await quitter
    await asyncio.wait_for(patient, 1)
    assert log == ["patient"]


async def test_one_that_gives_up_in_the_very_instant_of_its_turn_is_skipped():
    turns, log = Turns(), []
    await turns.take(urgent=True)
    quitter, patient = queue(turns, log, "quitter", urgent=True), queue(turns, log, "patient", urgent=False)
    await settle()
    quitter.cancel()  # it is still in line, because it has not run yet
    turns.give()
    await asyncio.wait_for(patient, 1)
    assert log == ["patient"]
