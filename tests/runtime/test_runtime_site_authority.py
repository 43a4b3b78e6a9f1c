"""Override and latches between socket, disk and control loop, where the disk or the caller is not as it should be."""

import asyncio
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from runtime_commands import LIMITS, NOW, Clock

from agent.core.clock_trust import ClockTrust
from agent.core.decision import State
from agent.core.latch import Alarm, Latch
from agent.core.records import StorageFailed
from agent.core.snapshot import BatterySample, Reading
from agent.runtime.local_socket import Peer, Refusal
from agent.runtime.site_authority import SiteAuthority
from agent.store import Held

OPERATOR, READER = Peer(0, operator=True), Peer(65534, operator=False)
HELD = Held((), None, None, None, None)


class Disk:
    def __init__(self):
        self.override, self.latches, self.failing = None, None, False

    async def keep_override(self, text):
        self._check()
        self.override = json.loads(text)

    async def keep_latches(self, text):
        self._check()
        self.latches = json.loads(text)

    def _check(self):
        if self.failing:
            raise StorageFailed("control", "the disk is full")


class Loop:
    """What is needed of the control loop; `act_now` notes what was on disk when it was called."""

    def __init__(self, disk):
        self._disk = disk
        self.rules = SimpleNamespace(batteries=[SimpleNamespace(device_id="bess")])
        self.board = SimpleNamespace(batteries=(BatterySample("bess"),))
        self.override, self.state, self.read_only, self.safe_mode = None, State(), False, ""
        self.trust = ClockTrust(True, 0.0, "")
        self.acted = []

    def act_now(self):
        self.acted.append((self.override and self.override.power_w, self._disk.override))


class Place:
    def __init__(self, held=HELD):
        self.disk, self.clock, self.told = Disk(), Clock(), []
        self.loop = Loop(self.disk)
        self.authority = SiteAuthority(
            store=self.disk, control=self.loop, limits=lambda: LIMITS, tell=self.told.append, clock=self.clock
        )
        self.authority.restore(held)

    async def ask(self, cmd, peer=OPERATOR, **request):
        return await self.authority.handlers()[cmd](request, peer)

    def tick(self):
        decision = SimpleNamespace(utc_s=self.clock.utc, mono_s=self.clock.mono)
        self.authority.after_tick(SimpleNamespace(decision=decision))

    def codes(self):
        return [event.code for event in self.told]


@pytest.fixture
def place():
    return Place()


async def test_in_safe_mode_nothing_but_rest_can_be_asked_for(place):
    place.loop.safe_mode = "safe mode: crashed"
    with pytest.raises(Refusal, match="safe mode"):
        await place.ask("override_set", power_w=1000.0, reason="try")
    assert place.loop.override is None
    await place.ask("override_set", power_w=0.0, reason="to take it out")
    assert place.loop.override.power_w == 0.0


async def test_only_operators_take_over_and_reset(place):
    for cmd in ("override_set", "override_clear", "latch_reset"):
        with pytest.raises(Refusal, match="not an operator"):
            await place.ask(cmd, READER, power_w=1.0, reason="x")
    assert (place.loop.acted, place.told) == ([], [])


async def test_an_override_is_on_disk_before_it_acts_and_is_told_with_who_and_why(place):
    done = await place.ask("override_set", power_w=-5e3, reason=" a test ")
    assert (done["kept"], done["reason"], done["suspends_awards"]) == (True, "a test", False)
    assert place.loop.acted[0][1]["until_utc_s"] == NOW + 1800.0, "half an hour if nothing else is said"
    (event,) = place.told
    assert (event.code, event.data["reason"], event.data["who"]) == ("override_set", "a test", OPERATOR.name)


async def test_a_dead_disk_keeps_nobody_from_the_battery_and_is_told_and_made_good_later(place):
    place.disk.failing = True
    done = await place.ask("override_set", power_w=0.0, reason="stop")
    assert (done["kept"], place.loop.acted) == (False, [(0.0, None)])
    place.disk.failing = False
    running = asyncio.create_task(place.authority.run())
    place.tick()
    async with asyncio.timeout(20):
        while place.disk.override is None:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    running.cancel()
    assert place.disk.override["reason"] == "stop"


async def test_it_is_gone_in_the_tick_in_which_its_time_is_over_and_that_is_told_once(place):
    await place.ask("override_set", power_w=1.0, duration_s=5.0, reason="x")
    place.clock.pass_s(4.9)
    place.tick()
    assert place.loop.override is not None
    place.clock.pass_s(0.2)
    place.tick()
    place.tick()
    assert (place.loop.override, place.codes()) == (None, ["override_set", "override_ended"])


@pytest.mark.parametrize(
    "request_",
    [
        {"power_w": "5", "reason": "x"}, {"power_w": True, "reason": "x"}, {"power_w": float("nan"), "reason": "x"},
        {"reason": "x"}, {"power_w": 1.0}, {"power_w": 1.0, "reason": 5}, {"power_w": 1.0, "reason": "x", "target": 5},
        {"power_w": 1.0, "reason": "x", "duration_s": "60"}, {"power_w": 9e9, "reason": "x"},
    ],
)  # fmt: skip
async def test_nonsense_changes_nothing(place, request_):
    with pytest.raises(Refusal):
        await place.ask("override_set", **request_)
    assert (place.loop.override, place.loop.acted, place.disk.override) == (None, [], None)


async def test_a_site_that_may_not_write_cannot_be_overridden(place):
    place.loop.read_only = True
    with pytest.raises(Refusal, match="read-only"):
        await place.ask("override_set", power_w=1.0, reason="x")


async def test_control_characters_of_a_reason_reach_no_terminal(place):
    done = await place.ask("override_set", power_w=1.0, reason="a\x1b[2Jb")
    assert done["reason"] == "a?[2Jb"


async def test_a_latch_that_fell_is_written_down_and_stands_after_a_restart(place):
    place.loop.state = replace(place.loop.state, latches={"bess": Latch("bess", Alarm.BREAKER, NOW)})
    running = asyncio.create_task(place.authority.run())
    place.tick()
    async with asyncio.timeout(20):
        while not place.disk.latches:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    running.cancel()
    again = Place(replace(HELD, latches=json.dumps(place.disk.latches)))
    assert again.loop.state.latches == place.loop.state.latches
    assert [latch["alarms"] for latch in again.authority.facts()["latches"]] == ["breaker open"]


async def test_a_latch_is_reset_by_fresh_readings_only_and_with_a_reason():
    place = Place(replace(HELD, latches='[{"device_id": "bess", "alarms": 2, "since_utc_s": 1.0}]'))
    with pytest.raises(Refusal, match="fresh"):
        await place.ask("latch_reset", reason="done")
    fine = [Reading(value, place.clock.mono) for value in (0.0, 0.0)]
    place.loop.board.batteries = (BatterySample("bess", power_w=fine[0], alarms=fine[1]),)
    with pytest.raises(Refusal, match="reason"):
        await place.ask("latch_reset", reason="")
    done = await place.ask("latch_reset", reason="mended")
    assert (done, place.loop.state.latches, place.disk.latches) == ({"reset": ["bess"], "kept": True}, {}, [])
    assert (place.codes(), len(place.loop.acted)) == (["latch_reset"], 1)


async def test_latches_that_cannot_be_read_stop_every_battery():
    assert Place(replace(HELD, latches="torn")).loop.state.latches["bess"].alarms == Alarm.BMS_FAULT


async def test_an_override_whose_time_ran_out_while_the_agent_was_down_does_not_come_back(place):
    await place.ask("override_set", power_w=1.0, duration_s=60.0, reason="x")
    kept = replace(HELD, override=json.dumps(place.disk.override))
    assert Place(kept).loop.override.reason == "x"
    assert Place(replace(kept, last_trusted_utc_s=NOW + 61.0)).loop.override is None
