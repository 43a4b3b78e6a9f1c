"""Safe mode between disk, socket and control loop; what it is for is tried with a real daemon elsewhere."""

import json
from types import SimpleNamespace

import pytest
from runtime_commands import NOW, Clock

from agent.core.crash_loop import CRASHES, SAFE_FOR_S
from agent.core.records import StorageFailed
from agent.runtime.local_socket import Peer, Refusal
from agent.runtime.safe_mode import SafeMode
from agent.store import Held

OPERATOR, READER = Peer(0, operator=True), Peer(65534, operator=False)


class Disk:
    def __init__(self, crashes=0):
        self.kept = json.dumps({"unclean_utc_s": [NOW - i for i in range(crashes)], "safe_until_utc_s": None})
        self.failing = False

    async def keep_starts(self, text):
        if self.failing:
            raise StorageFailed("control", "the disk is full")
        self.kept = text

    @property
    def held(self):
        return Held((), None, None, None, None, starts=self.kept)


class Place:
    def __init__(self, disk, clock=None):
        self.disk, self.clock, self.told, self.acted = disk, clock or Clock(), [], []
        self.loop = SimpleNamespace(safe_mode="", act_now=lambda: self.acted.append(self.loop.safe_mode))
        self.safe = SafeMode(store=disk, control=self.loop, tell=self.told.append, clock=self.clock)

    async def begun(self):
        await self.safe.begin(self.disk.held)
        return self

    def tick(self):
        self.safe.after_tick(SimpleNamespace(decision=SimpleNamespace(mono_s=self.clock.mono_s())))

    async def end(self, peer=OPERATOR, **request):
        return await self.safe.handlers()["safe_mode_end"]({"reason": "mended", **request}, peer)


@pytest.fixture
async def safe():
    return await Place(Disk(CRASHES)).begun()


async def test_a_start_is_on_the_disk_before_anything_moves():
    place = await Place(Disk(2)).begun()
    assert json.loads(place.disk.kept)["unclean_utc_s"][-1] == place.clock.utc_s()
    assert len(json.loads(place.disk.kept)["unclean_utc_s"]) == 3
    assert (place.loop.safe_mode, place.safe.facts(), place.safe.conditions()) == ("", None, ())


async def test_safe_mode_ends_by_itself_and_says_so(safe):
    assert "at 0 kW until" in safe.loop.safe_mode
    safe.clock.pass_s(SAFE_FOR_S - 1.0)
    safe.tick()
    assert safe.loop.safe_mode
    safe.clock.pass_s(1.0)
    safe.tick()
    assert (safe.loop.safe_mode, safe.safe.conditions()) == ("", ())
    assert [event.code for event in safe.told] == ["safe_mode_ended"]


async def test_it_goes_on_over_a_crash_for_the_rest_of_its_time(safe):
    safe.clock.pass_s(SAFE_FOR_S - 100.0)
    again = await Place(safe.disk, safe.clock).begun()
    assert again.loop.safe_mode
    again.clock.pass_s(101.0)
    again.tick()
    assert not again.loop.safe_mode


async def test_a_clean_stop_ends_it(safe):
    await safe.safe.end_cleanly()
    assert not (await Place(safe.disk, safe.clock).begun()).loop.safe_mode


async def test_an_operator_ends_it_with_a_reason_and_the_battery_moves_at_once(safe):
    assert await safe.end() == {"ended": True, "kept": True}
    assert safe.acted == [""]
    assert safe.told[0].data == {"who": OPERATOR.name, "reason": "mended"}
    again = await Place(safe.disk, safe.clock).begun()
    assert not again.loop.safe_mode, "the count began anew"
    assert len(json.loads(safe.disk.kept)["unclean_utc_s"]) == 2


@pytest.mark.parametrize(
    ("peer", "reason"), [(READER, "mended"), (OPERATOR, " "), (OPERATOR, None), (OPERATOR, "x" * 201)]
)
async def test_nobody_else_ends_it_and_nobody_without_a_reason(safe, peer, reason):
    with pytest.raises(Refusal):
        await safe.end(peer, reason=reason)
    assert safe.loop.safe_mode


async def test_outside_safe_mode_there_is_nothing_to_end():
    place = await Place(Disk()).begun()
    with pytest.raises(Refusal, match="not in safe mode"):
        await place.end()


async def test_a_dead_disk_keeps_nobody_from_ending_it(safe):
    safe.disk.failing = True
    assert await safe.end() == {"ended": True, "kept": False}
    assert not safe.loop.safe_mode


@pytest.mark.parametrize("kept", ["", "[", "null", None, '{"unclean_utc_s": "no"}'])
async def test_what_cannot_be_read_from_the_disk_counts_nothing(kept):
    disk = Disk()
    disk.kept = kept
    assert not (await Place(disk).begun()).loop.safe_mode


async def test_crashes_of_another_version_do_not_count_and_the_change_is_told():
    """An update that crashed again and again goes back; the version before it is not held at 0 kW for that."""
    disk = Disk(CRASHES)
    disk.kept = json.dumps(json.loads(disk.kept) | {"software": "1.1"})
    place = Place(disk)
    await place.safe.begin(disk.held, "1.0")
    assert place.loop.safe_mode == ""
    assert [(event.code, event.data) for event in place.told] == [("software_changed", {"from": "1.1", "to": "1.0"})]
    kept = json.loads(disk.kept)
    assert (len(kept["unclean_utc_s"]), kept["software"]) == (1, "1.0")


async def test_crashes_of_this_version_count_and_nothing_changed():
    disk = Disk(CRASHES)
    disk.kept = json.dumps(json.loads(disk.kept) | {"software": "1.0"})
    place = Place(disk)
    await place.safe.begin(disk.held, "1.0")
    assert place.loop.safe_mode != ""
    assert place.told == []
