"""A real daemon whose wall clock is set, that boots in 1970 or sleeps: slots are UTC, timers are monotonic."""

import asyncio
import base64
import signal
import time

import pytest
from integration_site import TICK_S, document, near, slot_now, until

from agent.store import Announce, Store
from tests.clock_shim import WallClock

HALF_HOUR = 1800
BEYOND_STALE_S = 12.0


@pytest.fixture
def wall(tmp_path):
    return WallClock(tmp_path)


def site_with(parts, wall, *, last_time_s=None):
    """A plant and an agent that is not started; `last_time_s` is what a run before knew to be a good time."""
    plant = parts.plant()
    agent = parts.agent(plant)
    agent.environment = wall.environment
    if last_time_s is not None:
        asyncio.run(keep_time(agent.folder / "store", last_time_s))
    return plant, agent


async def keep_time(directory, utc_s):
    nothing = Announce(ack=lambda *_, **__: b"", event=lambda *_, **__: b"", ledger=lambda *_, **__: b"")
    store = await Store.open(directory, nothing, lambda: utc_s)
    await store.set_last_utc(utc_s)
    await store.close()


def at(plant, power_kw):
    until(lambda: near(plant.battery_w, power_kw * 1000), f"the battery is at {power_kw} kW")


def ticks_on(agent):
    ticks = agent.status()["counters"]["ticks"]
    until(lambda: agent.status()["counters"]["ticks"] > ticks + 2, "ticks go on")


@pytest.mark.parametrize("step_s", [3600, 86_400], ids=["an hour", "a day"])
def test_a_step_forward_and_back_again_costs_no_plan(parts, wall, step_s):
    plant, agent = site_with(parts, wall, last_time_s=time.time() - 60)
    agent.start()
    slots = step_s // HALF_HOUR
    agent.import_plan(document(1, [40.0] * slots + [90.0] * 6, start=slot_now(HALF_HOUR), slot_s=HALF_HOUR))
    at(plant, 40.0)
    wall.set_wrong(step_s)
    at(plant, 90.0)
    until(lambda: ("clock_stepped", "site") in agent.conditions(), "the step is told")
    ticks_on(agent)
    wall.set_wrong(0)
    at(plant, 40.0)
    status = agent.status()
    assert status["clock"]["trusted"]
    assert status["source"] == "rolling"
    assert status["counters"]["late_ticks"] * TICK_S < 60, "no tick was missed, the clock moved"
    agent.kill()
    agent.start()
    assert agent.status()["clock"]["trusted"], "the wrong future is not kept on disk"


@pytest.mark.parametrize("step_s", [3600, 86_400], ids=["an hour", "a day"])
def test_a_step_back_stops_the_plan_until_the_clock_is_right_and_no_slot_comes_twice(parts, wall, step_s):
    plant, agent = site_with(parts, wall, last_time_s=time.time() - 60)
    agent.start()
    slots = step_s // HALF_HOUR
    start = slot_now(HALF_HOUR) - step_s - HALF_HOUR
    agent.import_plan(document(1, [90.0] * slots + [40.0] * 4, start=start, slot_s=HALF_HOUR))
    at(plant, 40.0)
    wall.set_wrong(-step_s)
    at(plant, 0.0)
    until(lambda: ("clock_untrusted", "site") in agent.conditions(), "it is told")
    assert agent.status()["source"] == "local_rule"
    ticks_on(agent)
    assert near(plant.battery_w, 0.0), "what was done in that slot is not done again"
    wall.set_wrong(0)
    at(plant, 40.0)
    until(lambda: ("clock_untrusted", "site") not in agent.conditions(), "and ends")


def test_booted_in_1970_it_waits_for_the_time_and_then_executes_the_plan_without_a_restart(parts, wall):
    plant, agent = site_with(parts, wall, last_time_s=time.time() - 60)
    agent.start()
    agent.import_plan(document(1, [75.0] * 600))
    at(plant, 75.0)
    agent.kill()
    wall.set_to(100.0)
    agent.start()
    status = agent.status()
    assert (status["clock"]["trusted"], status["source"]) == (False, "local_rule")
    assert "behind the last time" in status["clock"]["why"]
    at(plant, 0.0)
    wall.set_wrong(0)
    at(plant, 75.0)
    assert agent.status()["plans"]["rolling"]["version"] == 1


def test_after_a_wrong_future_that_lasted_an_operator_with_a_watch_brings_the_plans_back_for_good(parts, wall):
    plant, agent = site_with(parts, wall, last_time_s=time.time() + 86_400)
    agent.start()
    agent.import_plan(document(1, [75.0] * 600))
    assert not agent.status()["clock"]["trusted"]
    refused = agent.ask("clock_trust", watch_utc_s=time.time() + 86_400, reason="the clock ran ahead")
    assert "behind the time that you read off your watch" in refused["error"]["why"]
    assert agent.status()["source"] == "local_rule"
    reply = agent.ask("clock_trust", watch_utc_s=time.time() + 60, reason="the clock ran ahead")
    assert reply["ok"], reply
    at(plant, 75.0)
    until(
        lambda: "clock_believed" in {event["code"] for event in agent.ask("events", limit=50)["result"]}, "it is told"
    )
    agent.kill()
    agent.start()
    assert agent.status()["clock"]["trusted"], "it is on the disk"
    at(plant, 75.0)


def test_slots_that_are_over_are_never_caught_up(parts):
    plant = parts.plant()
    agent = parts.agent(plant).start()
    begun = slot_now()
    agent.import_plan(document(1, [90.0] * 10 + [40.0] * 600, start=begun - 10))
    at(plant, 40.0)
    assert max(truth.battery_w for truth in list(plant.truths.values())) < 85_000.0
    over = document(2, [90.0] * 10, start=begun - 60)
    reply = agent.ask("plan_import", document=base64.b64encode(over).decode())
    assert not reply["ok"]
    assert "wholly_past" in reply["error"]["why"]


def test_after_a_pause_of_the_machine_everything_is_read_before_anything_is_written(parts):
    plant = parts.plant()
    agent = parts.agent(plant).start()
    agent.import_plan(document(1, [40.0] * 8 + [90.0] * 600))
    at(plant, 40.0)
    agent.process.send_signal(signal.SIGSTOP)
    paused = time.monotonic()
    asked = plant.site._battery_server.asked
    until(lambda: time.monotonic() - paused > BEYOND_STALE_S, "the readings are old")
    asked.clear()
    agent.process.send_signal(signal.SIGCONT)
    at(plant, 90.0)
    functions = [request[0] for unit, request in list(asked) if unit == 1]
    first_write = next(index for index, function in enumerate(functions) if function in {6, 16})
    assert functions[:first_write].count(3) >= 1, "it reads before it writes"
    counters = agent.status()["counters"]
    assert counters["late_ticks"] >= (BEYOND_STALE_S - 1) / TICK_S, "the pause is counted"
