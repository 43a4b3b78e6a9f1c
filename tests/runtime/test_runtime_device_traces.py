"""Recordings of a link's frames: bounded in number, in time and in what they hold; the link is left alone after."""

from __future__ import annotations

import asyncio

import pytest

from agent.runtime.device_traces import FETCH_WITHIN_S, LEFT_ALONE_S, MAX_CHUNKS, MAX_TRACES, DeviceTraces
from agent.runtime.local_socket import Peer, Refusal
from drivers.device import DeviceSpec, open_device
from drivers.endpoint import TcpEndpoint
from drivers.link import Link

PEER = Peer(0, operator=True)
FRAME = bytes.fromhex("000100000006 01 03 0064 0002")


class Now:
    now_s = 1000.0

    def mono_s(self):
        return self.now_s

    def utc_s(self):
        return self.now_s + 1.7e9


class Bench:
    """Traces of one device, on a link that nobody is connected to."""

    def __init__(self):
        self.clock = Now()
        self.link = Link(TcpEndpoint("127.0.0.1", 1), clock=self.clock.mono_s)
        device = open_device(DeviceSpec("m", "meter", 1, positive="import"), self.link, self.clock.mono_s)
        self._asked = DeviceTraces({"m": device}, {"m": self.link}, self.clock).handlers()

    async def begin(self, seconds=60.0):
        return (await self._asked["device_trace"]({"device_id": "m", "seconds": seconds}, PEER))["trace"]

    async def more(self, number):
        return await self._asked["device_trace_more"]({"trace": number}, PEER)

    async def stop(self, number):
        return await self._asked["device_trace_stop"]({"trace": number}, PEER)

    def send(self, count=1):
        for _ in range(count):
            self.link.on_frame("sent", FRAME, self.clock.mono_s())


async def test_two_may_look_at_one_link_and_it_is_left_alone_when_both_have_gone():
    bench = Bench()
    first, second = await bench.begin(), await bench.begin()
    bench.send()
    await bench.stop(first)
    bench.send()
    assert [len((await bench.more(number))["frames"]) for number in (first, second)] == [1, 2]
    assert bench.link.on_frame is not None
    await bench.stop(second)
    assert bench.link.on_frame is None


async def test_a_trace_ends_by_itself_though_nobody_fetches_it():
    bench = Bench()
    number = await bench.begin(seconds=0.01)
    for _ in range(500):
        await asyncio.sleep(0.01)
        if bench.link.on_frame is None:
            break
    assert bench.link.on_frame is None
    assert (await bench.more(number))["over"]


async def test_what_nobody_fetches_is_dropped_from_the_oldest_on_and_counted():
    bench = Bench()
    number = await bench.begin()
    bench.send(MAX_CHUNKS + 3)
    await bench.stop(number)
    got, dropped = 0, None
    while not (reply := await bench.more(number))["over"]:
        got += len(reply["frames"])
    got, dropped = got + len(reply["frames"]), reply["dropped"]
    assert (got, dropped) == (MAX_CHUNKS, 3)


async def test_only_so_many_run_at_once_and_finished_ones_do_not_count():
    bench = Bench()
    running = [await bench.begin() for _ in range(MAX_TRACES)]
    with pytest.raises(Refusal, match="traces run already"):
        await bench.begin()
    await bench.stop(running[0])
    assert await bench.begin()


async def test_those_that_nobody_fetches_from_any_more_make_room_for_another():
    """As after the terminal of a technician was closed."""
    bench = Bench()
    looked_at, left_alone = await bench.begin(600.0), [await bench.begin(600.0) for _ in range(MAX_TRACES - 1)]
    bench.clock.now_s += LEFT_ALONE_S - 1.0
    await bench.more(looked_at)
    with pytest.raises(Refusal, match="traces run already"):
        await bench.begin()
    bench.clock.now_s += 1.0
    await bench.begin()
    bench.send()
    assert [(await bench.more(number))["over"] for number in left_alone] == [True] * (MAX_TRACES - 1)
    assert not (await bench.more(looked_at))["over"]


async def test_a_finished_trace_is_forgotten_after_a_while_and_when_there_are_newer_ones():
    bench = Bench()
    old = await bench.begin()
    await bench.stop(old)
    bench.clock.now_s += FETCH_WITHIN_S
    running = await bench.begin()
    with pytest.raises(Refusal, match="no trace 1 any more"):
        await bench.more(old)
    await bench.stop(running)
    for _ in range(MAX_TRACES):
        await bench.stop(await bench.begin())
    await bench.begin()
    with pytest.raises(Refusal, match="any more"):
        await bench.more(running)


async def test_frames_of_other_units_on_the_line_are_left_out_and_what_nobody_can_read_is_not():
    bench = Bench()
    number = await bench.begin()
    bench.link.on_frame("sent", bytes.fromhex("000100000006 09 03 0064 0002"), 0.0)
    bench.link.on_frame("received", b"\x00\x01\x00\x07\x00\x03", 0.0)
    bench.send()
    words = [frame["words"] for frame in (await bench.more(number))["frames"]]
    assert words == ["not a frame: its length cannot be", "read holding 100+2"]


async def test_a_frame_is_told_with_the_time_at_which_it_went():
    bench = Bench()
    number = await bench.begin()
    bench.send()
    bench.clock.now_s += 5.0
    (frame,) = (await bench.more(number))["frames"]
    assert (frame["mono_s"], frame["words"], frame["bytes"]) == (1000.0, "read holding 100+2", FRAME.hex())
    assert frame["at"] == "2023-11-14T22:30:00.000Z"
