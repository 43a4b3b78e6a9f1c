"""The rows of the fault matrix that a line meets, each provoked at the fault server and seen through the real link."""

from __future__ import annotations

import asyncio
import time

import pytest
from drivers_peers import Clock, until
from drivers_registers import RawBank

from drivers.endpoint import TcpEndpoint
from drivers.errors import BadReply, DeviceError, LinkDown, LinkTimeout, ModbusRefused, UnitResting
from drivers.link import MAX_BACKOFF_S, Link
from drivers.patience import FAILURES_UNTIL_REST
from simulators.modbus_server import ModbusServer

SHORT_S = 0.4
PATIENT_S = 10.0


@pytest.fixture
async def devices():
    """Three units behind one gateway, each register holding 1000 x unit + address; and links to it."""
    banks = {unit: RawBank({at: 1000 * unit + at for at in range(200)}) for unit in (1, 2, 3)}
    links = []
    async with ModbusServer(banks) as server:

        def link(timeout_s=SHORT_S, clock=time.monotonic):
            links.append(Link(TcpEndpoint("127.0.0.1", server.port), timeout_s=timeout_s, clock=clock))
            return links[-1]

        yield server, link
        for one in links:
            await one.close()


async def failed(link, kind, unit=1, count=2):
    with pytest.raises(kind) as failure:
        await link.read_holding(unit, 10, count)
    return failure.value


async def works(link, unit=1):
    assert await link.read_holding(unit, 10, 2) == (1000 * unit + 10, 1000 * unit + 11)


async def test_silence_ends_with_the_timeout_and_the_next_request_is_a_fresh_one(devices):
    server, link = devices
    one = link()
    await works(one)
    server.faults[1].silent = True
    began_s = time.monotonic()
    error = await failed(one, LinkTimeout)
    assert time.monotonic() - began_s < 2.0
    assert "no answer within 0.4 s" in str(error)
    server.faults[1].silent = False
    await works(one)


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 0xF0])
async def test_an_exception_is_an_answer_with_its_code_and_never_a_value_or_a_lost_connection(devices, code):
    server, link = devices
    one = link()
    server.faults[1].exception = code
    assert (await failed(one, ModbusRefused)).code == code
    await works(one, unit=2)
    server.faults[1].exception = None
    await works(one)
    assert one.stats.connects == 1


async def test_a_half_open_connection_is_found_within_three_reads_and_replaced_within_five_seconds(devices):
    server, link = devices
    clock = Clock()
    one = link(clock=clock)
    await works(one)
    server.half_open()
    for _ in range(3):
        assert one.connected
        await failed(one, LinkTimeout)
    assert not one.connected
    clock.now_s += MAX_BACKOFF_S
    await works(one)
    assert one.stats.reconnects == 1


BAD = [
    "garbage", "wrong_protocol", "wrong_transaction", "zero_transaction", "short_reply",
    "long_reply", "wrong_function", "wrong_unit",
]  # fmt: skip


@pytest.mark.parametrize("fault", BAD)
async def test_a_wrong_answer_is_dropped_and_costs_the_connection(devices, fault):
    server, link = devices
    clock = Clock()
    one = link(PATIENT_S, clock)
    await works(one)
    setattr(server.faults[1], fault, True)
    await failed(one, BadReply)
    assert not one.connected
    setattr(server.faults[1], fault, False)
    clock.now_s += MAX_BACKOFF_S
    await works(one)


async def test_a_huge_length_is_not_waited_for(devices):
    server, link = devices
    server.faults[1].huge_length = True
    assert "a frame length of 65535" in str(await failed(link(PATIENT_S), BadReply))


async def test_a_truncated_answer_is_waited_for_until_the_timeout_and_its_rest_is_never_a_head(devices):
    server, link = devices
    clock = Clock()
    one = link(clock=clock)
    server.faults[1].truncated = True
    await failed(one, LinkTimeout)
    await failed(one, LinkDown)
    server.faults[1].truncated = False
    clock.now_s += MAX_BACKOFF_S
    await works(one)


async def test_an_answer_that_comes_byte_by_byte_is_taken_once_it_is_whole(devices):
    server, link = devices
    server.faults[1].trickle = True
    await works(link(PATIENT_S))


async def test_late_answers_are_never_those_of_later_requests(devices):
    """Each answer comes only with the next request: the first is late for ever, and so are all that follow."""
    server, link = devices
    one = link()
    server.faults[1].late = True
    for address in (10, 20):
        with pytest.raises(LinkTimeout):
            await one.read_holding(1, address, 2)
    assert one.stats.late_replies == 1
    server.faults[1].late = False
    await works(one, unit=2)


async def test_an_answer_that_comes_twice_is_taken_once(devices):
    server, link = devices
    one = link(PATIENT_S)
    server.faults[1].duplicate = True
    for address in (10, 20, 30):
        assert await one.read_holding(1, address, 1) == (1000 + address,)
    assert one.stats.connects == 1


@pytest.mark.parametrize("function", [6, 16])
async def test_a_write_with_another_echo_is_not_done(devices, function):
    server, link = devices
    server.faults[1].wrong_echo = True
    one = link(PATIENT_S)
    with pytest.raises(BadReply, match="a write echo"):
        await (one.write_register(1, 10, 5) if function == 6 else one.write_registers(1, 10, [5, 6]))


@pytest.mark.parametrize("bits", [1, 2, 5])
async def test_bits_that_flip_in_the_head_of_an_answer_never_give_a_value(devices, bits):
    server, link = devices
    clock = Clock()
    one = link(clock=clock)
    server.faults[1].flip_bits = bits
    for _ in range(10):
        await failed(one, DeviceError)
        clock.now_s += 60.0


async def test_a_connection_that_is_closed_instead_of_an_answer_fails_the_request_at_once(devices):
    server, link = devices
    server.faults[1].drop_connection = True
    assert "closed the connection" in str(await failed(link(PATIENT_S), LinkDown))


async def test_a_device_that_takes_five_seconds_has_one_request_in_flight_and_the_others_their_own_lane(devices):
    server, link = devices
    slow, quick = link(PATIENT_S), link(PATIENT_S)
    server.faults[1].delay_s = 5.0
    waiting = [asyncio.ensure_future(slow.read_holding(1, 10, 2)) for _ in range(3)]
    await until(lambda: server.requests == 1)
    for _ in range(50):
        await works(quick, unit=2)
    assert [unit for unit, _ in server.asked].count(1) == 1
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


@pytest.mark.parametrize(("fault", "value"), [("silent", True), ("exception", 11), ("exception", 10)])
async def test_behind_a_gateway_only_the_unit_that_fails_rests(devices, fault, value):
    server, link = devices
    one = link()
    await works(one, unit=2)
    setattr(server.faults[1], fault, value)
    for _ in range(FAILURES_UNTIL_REST):
        await failed(one, DeviceError)
        await works(one, unit=2)
    assert isinstance(await failed(one, DeviceError), UnitResting)
    await works(one, unit=2)
    await works(one, unit=3)
    assert (one.unit(1).state, one.unit(2).state) == ("resting", "answering")
    assert one.stats.connects == 1


async def test_a_refused_register_and_a_busy_device_do_not_let_a_unit_rest(devices):
    server, link = devices
    one = link()
    for code in (2, 6, 4):
        server.faults[1].exception = code
        for _ in range(2 * FAILURES_UNTIL_REST):
            await failed(one, ModbusRefused)
    assert one.unit(1).state == "answering"


async def test_a_device_that_reboots_is_another_connection_to_whoever_wants_to_write(devices):
    server, link = devices
    clock = Clock()
    one = link(PATIENT_S, clock)
    await works(one)
    known = one.generation
    server.faults[1].reboot = True
    await failed(one, LinkDown)
    clock.now_s += MAX_BACKOFF_S
    with pytest.raises(LinkDown, match="the connection was replaced meanwhile, so nothing was written"):
        await one.write_registers(1, 10, [5], generation=known)
    await works(one)
