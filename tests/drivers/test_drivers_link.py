"""The link against peers good and bad, on real sockets: typed errors, never a wrong value, never a crash."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
import time

import pytest
from drivers_peers import Clock, answering, next_request, peer, register_server, until

from drivers.endpoint import TcpEndpoint
from drivers.errors import BadReply, DeviceError, LinkDown, LinkTimeout, ModbusRefused
from drivers.link import Link

SHORT_S = 0.2
"""How long these tests wait for silence."""
LONG_S = 10.0
"""Longer than any test may take: who waits for this has not noticed the loss."""


@pytest.fixture(autouse=True)
def no_noise(caplog):
    """Nothing is logged, and no exception ends up at the event loop's handler (it would be logged)."""
    caplog.set_level(logging.WARNING)
    yield
    assert [record.getMessage() for record in caplog.records] == []


@pytest.fixture
async def open_link():
    links = []

    def make(port, *, timeout_s=LONG_S, clock=time.monotonic):
        links.append(Link(TcpEndpoint("127.0.0.1", port), timeout_s=timeout_s, clock=clock))
        return links[-1]

    yield make
    for link in links:
        await link.close()


async def test_registers_are_read_and_written(open_link):
    registers = dict.fromkeys(range(100, 300), 5)
    async with peer(register_server({1: registers, 2: {100: 9}})) as port:
        link = open_link(port)
        assert await link.read_holding(1, 100, 125) == (5,) * 125
        await link.write_registers(1, 100, [0, 65535])
        assert await link.read_holding(1, 99 + 1, 3) == (0, 65535, 5)
        assert await link.read_holding(2, 100, 1) == (9,)
        await link.write_registers(1, 100, list(range(123)))
        assert [registers[100 + i] for i in range(123)] == list(range(123))
        assert link.stats.requests == 5
        assert link.stats.failures == 0
        assert link.stats.connects == 1
        assert link.stats.last_latency_s > 0


@pytest.mark.parametrize(
    "ask",
    [
        lambda link: link.read_holding(1, 0, 126),
        lambda link: link.read_holding(1, 0, 0),
        lambda link: link.read_holding(1, 65535, 2),
        lambda link: link.read_holding(256, 0, 1),
        lambda link: link.write_registers(1, 0, [0] * 124),
        lambda link: link.write_registers(1, 0, []),
        lambda link: link.write_registers(1, 0, [65536]),
        lambda link: link.write_registers(1, 0, [-1]),
    ],
)
async def test_a_request_that_cannot_be_is_our_bug_and_is_never_sent(open_link, ask):
    link = open_link(1)
    with pytest.raises(AssertionError):
        await ask(link)
    assert link.stats.requests == 0


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 6, 10, 11, 0xF0])
async def test_a_refusal_names_code_endpoint_unit_and_register_and_keeps_the_connection(open_link, code):
    async with peer(answering(lambda asked: asked.frame(bytes([asked.pdu[0] | 0x80, code])))) as port:
        link = open_link(port)
        with pytest.raises(ModbusRefused, match=rf"tcp://127.0.0.1:{port} unit 3 register 77: .* {code} ") as refusal:
            await link.read_holding(3, 77, 2)
        assert refusal.value.code == code
        with pytest.raises(ModbusRefused):
            await link.write_registers(3, 77, [1])
        assert (link.stats.refusals, link.stats.failures, link.stats.connects) == (2, 2, 1)


BAD_ANSWERS = {
    "short": lambda asked: asked.frame(bytes([3, 2, 0, 1])),
    "long": lambda asked: asked.frame(bytes([3, 6, 0, 1, 0, 2, 0, 3])),
    "byte count wrong": lambda asked: asked.frame(bytes([3, 2, 0, 1, 0, 2])),
    "byte count beyond the frame": lambda asked: asked.frame(bytes([3, 200, 0, 1, 0, 2])),
    "no data": lambda asked: asked.frame(bytes([3, 0])),
    "other function": lambda asked: asked.frame(bytes([4, 4, 0, 1, 0, 2])),
    "unknown function": lambda asked: asked.frame(bytes([0x5A, 1, 2, 3])),
    "write echo for a read": lambda asked: asked.frame(bytes([16, 0, 100, 0, 2])),
    "exception of another function": lambda asked: asked.frame(bytes([0x90, 2])),
    "exception without code": lambda asked: asked.frame(bytes([0x83])),
    "future transaction": lambda asked: asked.frame(bytes([3, 4, 0, 1, 0, 2]), tid=asked.tid + 1),
    "transaction 0": lambda asked: asked.frame(bytes([3, 4, 0, 1, 0, 2]), tid=0),
    "other unit": lambda asked: asked.frame(bytes([3, 4, 0, 1, 0, 2]), unit=asked.unit + 1),
    "protocol id": lambda asked: asked.frame(bytes([3, 4, 0, 1, 0, 2]), protocol=1),
    "garbage": lambda asked: b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "much garbage": lambda asked: b"\xff" * 5000,
    "huge length": lambda asked: asked.tid.to_bytes(2, "big") + b"\0\0\xff\xff\1\3\4",
    "good answer, then garbage": lambda asked: asked.good() + b"garbage",
}


@pytest.mark.parametrize("bad", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
async def test_what_is_not_the_answer_is_never_a_value_and_ends_the_connection(open_link, bad):
    clock = Clock()

    async def script(reader, writer, connection):
        while True:
            asked = await next_request(reader)
            writer.write(bad(asked) if connection == 1 else asked.good())

    async with peer(script) as port:
        link = open_link(port, clock=clock)
        with pytest.raises(BadReply, match=rf"127.0.0.1:{port} unit 1 register 100: not an answer: .+; the connection"):
            await link.read_holding(1, 100, 2)
        assert link.stats.bad_replies == 1
        assert not link.connected
        clock.now_s += 1
        assert await link.read_holding(1, 100, 2) == (7, 7)
        assert link.stats.reconnects == 1


@pytest.mark.parametrize(
    "bad",
    [
        lambda asked: asked.frame(bytes([16, 0, 101, 0, 2])),
        lambda asked: asked.frame(bytes([16, 0, 100, 0, 1])),
        lambda asked: asked.frame(bytes([6, 0, 100, 0, 2])),
        lambda asked: asked.frame(bytes([3, 2, 0, 1])),
    ],
)
async def test_a_write_is_only_done_when_its_own_echo_comes(open_link, bad):
    async with peer(answering(bad)) as port:
        link = open_link(port)
        with pytest.raises(BadReply):
            await link.write_registers(1, 100, [1, 2])


async def test_a_write_is_sent_once_even_when_nobody_answers(open_link):
    seen = []

    async def silent(reader, writer, _):
        while True:
            seen.append(await next_request(reader))

    async with peer(silent) as port:
        link = open_link(port, timeout_s=SHORT_S)
        with pytest.raises(LinkTimeout, match="read back what it holds"):
            await link.write_registers(1, 100, [1, 2])
        with pytest.raises(LinkTimeout):  # the next request shows that nothing else came before it
            await link.read_holding(1, 0, 1)
        assert [asked.pdu[0] for asked in seen] == [16, 3]


async def test_the_third_silence_in_a_row_replaces_the_connection(open_link):
    clock = Clock()
    answers = iter((False, False, True, False, False, False))

    async def script(reader, writer, connection):
        while True:
            asked = await next_request(reader)
            if connection == 2 or next(answers):
                writer.write(asked.good())

    async with peer(script) as port:
        link = open_link(port, timeout_s=SHORT_S, clock=clock)
        for answered in (False, False, True, False, False):  # an answer in between begins the count again
            if answered:
                await link.read_holding(1, 0, 1)
                continue
            with pytest.raises(LinkTimeout, match=r"no answer within 0\.2 s"):
                await link.read_holding(1, 0, 1)
        assert link.connected
        with pytest.raises(LinkTimeout):
            await link.read_holding(1, 0, 1)
        assert not link.connected
        clock.now_s += 1
        assert await link.read_holding(1, 0, 1) == (7,)
        assert (link.stats.timeouts, link.stats.connects, link.stats.reconnects) == (5, 2, 1)


async def test_units_that_never_answered_are_dead_by_themselves_and_cost_their_neighbours_no_connection(open_link):
    async def script(reader, writer, _):
        while True:
            asked = await next_request(reader)
            if asked.unit == 9:
                writer.write(asked.good())

    async with peer(script) as port:
        link = open_link(port, timeout_s=SHORT_S, clock=Clock())
        assert await link.read_holding(9, 0, 1) == (7,)
        for unit in (1, 2, 3, 4, 5):
            with pytest.raises(LinkTimeout):
                await link.read_holding(unit, 0, 1)
        assert link.connected
        assert await link.read_holding(9, 0, 1) == (7,)
        assert link.stats.connects == 1


@pytest.mark.parametrize("how", ["FIN", "RST", "FIN in mid-answer"])
async def test_a_connection_lost_during_a_request_fails_it_at_once(open_link, how):
    async def script(reader, writer, _):
        asked = await next_request(reader)
        if how == "RST":
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if how == "FIN in mid-answer":
            writer.write(asked.good()[:-1])
        writer.close()

    async with peer(script) as port:
        link = open_link(port)
        with pytest.raises(LinkDown, match="closed the connection"):
            await asyncio.wait_for(link.read_holding(1, 0, 1), LONG_S / 2)
        assert not link.connected


async def test_a_connection_lost_while_idle_is_replaced_at_the_next_request(open_link):
    clock = Clock()
    hang_up = asyncio.Event()

    async def script(reader, writer, connection):
        writer.write((await next_request(reader)).good(connection))
        await hang_up.wait()

    async with peer(script) as port:
        link = open_link(port, clock=clock)
        assert await link.read_holding(1, 0, 1) == (1,)
        hang_up.set()
        await until(lambda: not link.connected)
        clock.now_s += 1
        assert await link.read_holding(1, 0, 1) == (2,)
        assert link.generation == 2


async def test_a_late_answer_is_never_taken_by_the_next_request(open_link):
    held = []

    async def script(reader, writer, _):
        while True:
            asked = await next_request(reader)
            if asked.address == 1:
                held.append(asked.good(fill=1))  # the first request stays without an answer for now
            else:
                writer.write(b"".join(held) + asked.good(fill=2))

    async with peer(script) as port:
        link = open_link(port, timeout_s=SHORT_S)
        with pytest.raises(LinkTimeout):
            await link.read_holding(1, 1, 2)
        assert await link.read_holding(1, 2, 2) == (2, 2)
        assert link.stats.late_replies == 1
        assert link.stats.connects == 1


async def test_a_late_answer_that_comes_while_idle_is_dropped(open_link):
    late_now, sent = asyncio.Event(), asyncio.Event()

    async def script(reader, writer, _):
        first = await next_request(reader)
        await late_now.wait()
        writer.write(first.good(fill=1))
        await writer.drain()
        sent.set()
        while True:
            writer.write((await next_request(reader)).good(fill=2))

    async with peer(script) as port:
        link = open_link(port, timeout_s=SHORT_S)
        with pytest.raises(LinkTimeout):
            await link.read_holding(1, 0, 2)
        late_now.set()
        await sent.wait()
        assert await link.read_holding(1, 0, 2) == (2, 2)
        assert link.stats.late_replies == 1


async def test_half_a_late_answer_costs_the_connection_because_its_rest_would_be_read_as_a_head(open_link):
    clock = Clock()
    arrived = asyncio.Event()

    async def script(reader, writer, connection):
        asked = await next_request(reader)
        if connection == 1:
            writer.write(asked.good(fill=1)[:9])
            arrived.set()
            await next_request(reader)
        writer.write(asked.good(fill=2))

    async with peer(script) as port:
        link = open_link(port, timeout_s=SHORT_S, clock=clock)
        with pytest.raises(LinkTimeout):
            await link.read_holding(1, 0, 2)
        await arrived.wait()
        with pytest.raises(LinkDown, match="the rest of a late answer never came"):
            await link.read_holding(1, 0, 2)
        clock.now_s += 1
        assert await link.read_holding(1, 0, 2) == (2, 2)


async def test_garbage_that_comes_unasked_ends_the_connection(open_link):
    async def script(reader, writer, _):
        writer.write((await next_request(reader)).good())
        writer.write(b"nobody asked for this")
        await reader.read()

    async with peer(script) as port:
        link = open_link(port)
        with contextlib.suppress(BadReply):  # if both came in one piece
            await link.read_holding(1, 0, 1)
        await until(lambda: not link.connected)
        assert link.stats.bad_replies == 1


async def test_a_second_answer_that_nobody_can_decode_is_dropped_without_a_word(open_link):
    async def script(reader, writer, _):
        asked = await next_request(reader)
        writer.write(asked.good(fill=1))
        await next_request(reader)  # so that the first answer has been taken by now
        writer.write(asked.frame(bytes([0x5A, 1, 2, 3])) + asked.frame(bytes([3, 200, 1])))
        late.set()
        await reader.read()

    late = asyncio.Event()
    async with peer(script) as port:
        link = open_link(port)
        assert await link.read_holding(1, 0, 1) == (1,)
        impatient = asyncio.ensure_future(link.read_holding(1, 0, 1))
        await late.wait()
        impatient.cancel()
        await asyncio.gather(impatient, return_exceptions=True)
        await until(lambda: link.stats.late_replies + link._wire._late == 2)
        assert link.connected


async def test_an_answer_that_comes_twice_and_broken_the_second_time_while_idle_is_dropped_without_a_word(open_link):
    again = asyncio.Event()

    async def script(reader, writer, _):
        asked = await next_request(reader)
        writer.write(asked.good(fill=1))
        await again.wait()
        writer.write(asked.frame(bytes([0x5A, 1, 2, 3])))
        await reader.read()

    async with peer(script) as port:
        link = open_link(port)
        assert await link.read_holding(1, 0, 1) == (1,)
        again.set()
        await until(lambda: link._wire._late == 1)
        assert link.connected


async def test_a_link_closed_while_it_connects_asks_nothing_any_more(open_link):
    async def script(reader, writer, _):
        assert await reader.read() == b""
        gone.set()

    gone = asyncio.Event()
    async with peer(script) as port:
        link = open_link(port)
        asking = asyncio.ensure_future(link.read_holding(1, 0, 1))
        await asyncio.sleep(0)
        await link.close()
        with pytest.raises(LinkDown, match="the link was closed"):
            await asking
        await asyncio.wait_for(gone.wait(), 5)


async def test_a_request_that_is_cancelled_leaves_the_link_usable(open_link):
    held = asyncio.Event()

    async def script(reader, writer, _):
        first = await next_request(reader)
        held.set()
        second = await next_request(reader)
        writer.write(first.good(fill=1) + second.good(fill=2))
        await reader.read()

    async with peer(script) as port:
        link = open_link(port)
        impatient = asyncio.ensure_future(link.read_holding(1, 0, 2))
        await held.wait()
        impatient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await impatient
        assert await link.read_holding(1, 0, 2) == (2, 2)
        assert link.stats.late_replies == 1


async def test_one_request_is_in_flight_at_a_time_and_waiting_writes_go_first(open_link):
    order, in_flight, go = [], 0, asyncio.Event()

    async def script(reader, writer, _):
        nonlocal in_flight
        while True:
            asked = await next_request(reader)
            in_flight += 1
            await go.wait()
            assert in_flight == 1
            assert not reader._buffer  # nothing was sent behind it
            order.append((asked.pdu[0], asked.address))
            in_flight -= 1
            writer.write(asked.good())

    async with peer(script) as port:
        link = open_link(port)
        reads = [asyncio.ensure_future(link.read_holding(1, address, 1)) for address in (1, 2, 3)]
        await until(lambda: in_flight == 1)
        write = asyncio.ensure_future(link.write_registers(2, 9, [1]))
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(*reads, write)
        assert order == [(3, 1), (16, 9), (3, 2), (3, 3)]


async def test_a_refused_connection_is_not_tried_again_before_a_back_off_that_doubles_up_to_5_s(open_link):
    clock = Clock()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refuses
        link = open_link(taken.getsockname()[1], clock=clock)
        for wait_s in (0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0):
            with pytest.raises(LinkDown, match="connecting failed: Connection refused; check that the device is on"):
                await link.read_holding(1, 0, 1)
            clock.now_s += wait_s - 0.01
            with pytest.raises(LinkDown, match=r"not connected .*Connection refused.*; the next attempt is allowed in"):
                await link.read_holding(1, 0, 1)
            clock.now_s += 0.02


async def test_a_caller_that_asks_again_and_again_during_the_back_off_does_not_starve_others(open_link):
    link = open_link(1, clock=Clock())
    others = 0

    async def other():
        nonlocal others
        while True:
            others += 1
            await asyncio.sleep(0)

    task = asyncio.ensure_future(other())
    for _ in range(50):
        with pytest.raises(LinkDown):
            await link.read_holding(1, 0, 1)
    task.cancel()
    assert others >= 49


async def test_only_an_answer_resets_the_back_off_not_a_mere_connection(open_link):
    clock = Clock()

    async def script(reader, writer, connection):
        if connection >= 4:
            while True:
                writer.write((await next_request(reader)).good())

    async with peer(script) as port:
        link = open_link(port, clock=clock)
        for wait_s in (0.2, 0.4, 0.8):
            with pytest.raises(LinkDown, match="closed the connection"):
                await link.read_holding(1, 0, 1)
            with pytest.raises(LinkDown, match=f"allowed in {wait_s} s"):
                await link.read_holding(1, 0, 1)
            clock.now_s += wait_s
        await link.read_holding(1, 0, 1)
        assert link._backoff_s == 0.2


async def test_a_name_that_is_no_host_is_a_typed_error(open_link):
    for host in ("a" * 70 + ".invalid", "..", "\x00"):
        link = Link(TcpEndpoint(host, 502), clock=Clock())
        with pytest.raises(LinkDown, match="connecting failed: "):
            await link.read_holding(1, 0, 1)


async def test_a_connection_attempt_that_hangs_ends_with_the_timeout(open_link):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with socket.socket() as first, socket.socket() as second:
            for filler in (first, second):
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
            link = open_link(full.getsockname()[1], timeout_s=SHORT_S)
            with pytest.raises(DeviceError):
                await asyncio.wait_for(link.read_holding(1, 0, 1), LONG_S)
            assert link.stats.failures == 1


async def test_a_write_bound_to_a_connection_is_not_sent_over_the_next_one(open_link):
    clock, seen = Clock(), []

    async def script(reader, writer, connection):
        asked = await next_request(reader)
        seen.append(asked)
        writer.write(asked.good())
        if connection == 2:
            await reader.read()

    async with peer(script) as port:
        link = open_link(port, clock=clock)
        await link.read_holding(1, 0, 1)
        await until(lambda: not link.connected)
        clock.now_s += 1
        with pytest.raises(LinkDown, match="nothing was written"):
            await link.write_registers(1, 0, [1], generation=1)
        await link.write_registers(1, 0, [2], generation=2)
        assert [asked.pdu[-1] for asked in seen if asked.pdu[0] == 16] == [2]


async def test_a_closed_link_stays_closed_and_its_socket_is_gone(open_link):
    gone = asyncio.Event()

    async def script(reader, writer, _):
        writer.write((await next_request(reader)).good())
        assert await reader.read() == b""
        gone.set()

    clock = Clock()
    async with peer(script) as port:
        link = open_link(port, clock=clock)
        await link.read_holding(1, 0, 1)
        await link.close()
        await asyncio.wait_for(gone.wait(), 5)
        clock.now_s += 60
        with pytest.raises(LinkDown, match="the link was closed"):
            await link.read_holding(1, 0, 1)
        await link.close()


async def test_every_byte_that_is_sent_or_comes_is_shown_once_to_who_wants_to_see_it(open_link):
    first_part = asyncio.Event()

    async def script(reader, writer, _):
        asked = await next_request(reader)
        writer.write(asked.good(fill=1)[:5])
        await first_part.wait()
        writer.write(asked.good(fill=1)[5:])
        writer.write((await next_request(reader)).good(fill=2))
        await reader.read()

    async with peer(script) as port:
        seen = []
        link = open_link(port, clock=Clock())
        link.on_frame = lambda *frame: seen.append(frame)
        asking = asyncio.ensure_future(link.read_holding(1, 100, 1))
        await until(lambda: len(seen) == 2)
        first_part.set()
        await asking
        await link.read_holding(1, 100, 1)
        link.on_frame = None
        assert seen == [
            ("sent", bytes.fromhex("000100000006 01 03 0064 0001"), 1000.0),
            ("received", bytes.fromhex("0001000000"), 1000.0),
            ("received", bytes.fromhex("05 01 03 02 0001"), 1000.0),
            ("sent", bytes.fromhex("000200000006 01 03 0064 0001"), 1000.0),
            ("received", bytes.fromhex("000200000005 01 03 02 0002"), 1000.0),
        ]
