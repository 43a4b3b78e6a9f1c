"""The link on a serial line and over a converter: RTU frames, several units, late answers, noise."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest
from drivers_peers import Clock, until
from drivers_registers import RawBank

from drivers.endpoint import DRAIN_S, RtuTcpEndpoint, SerialEndpoint, TcpEndpoint
from drivers.errors import BadReply, DeviceError, LinkDown, LinkTimeout, ModbusRefused, UnitResting
from drivers.link import Link
from drivers.patience import LONGEST_SHARED_REST_S
from simulators.modbus_server import ModbusServer
from simulators.serial_line import SerialLine

SHORT_S = 0.4


def banks():
    return {unit: RawBank({at: 1000 * unit + at for at in range(200)}) for unit in (1, 2, 3)}


@pytest.fixture(params=["serial", "rtu+tcp"])
async def line(request):
    """A link, its banks, and the faults of each unit; over a pseudo-terminal and over TCP."""
    units = banks()
    if request.param == "serial":
        async with SerialLine(units, baud=None) as server:
            link = Link(SerialEndpoint(server.device, 115_200, "N"), timeout_s=SHORT_S, clock=time.monotonic)
            yield link, units, server
            await link.close()
    else:
        async with ModbusServer(units, framing="rtu") as server:
            link = Link(RtuTcpEndpoint("127.0.0.1", server.port), timeout_s=SHORT_S, clock=time.monotonic)
            yield link, units, server
            await link.close()


async def test_units_on_one_line_are_read_and_written(line):
    link, units, server = line
    assert await link.read_holding(1, 10, 3) == (1010, 1011, 1012)
    assert await link.read_input(2, 0, 125) == tuple(range(2000, 2125))
    await link.write_register(3, 5, 0xBEEF)
    await link.write_registers(3, 6, list(range(123)))
    assert units[3].registers[5] == 0xBEEF
    assert [units[3].registers[6 + at] for at in range(123)] == list(range(123))
    with pytest.raises(ModbusRefused) as refusal:
        await link.read_holding(1, 199, 2)
    assert refusal.value.code == 2
    assert [(unit, pdu[0]) for unit, pdu in server.asked] == [(1, 3), (2, 4), (3, 6), (3, 16), (1, 3)]
    assert link.stats.connects == 1


async def test_a_late_answer_is_never_taken_for_the_answer_to_a_request_of_the_same_shape(line):
    """The device answers each request only when the next one comes: without a transaction id, both look alike."""
    link, _, server = line
    server.faults[1].late = True
    with pytest.raises(LinkTimeout):
        await link.read_holding(1, 100, 2)
    server.faults[1].late = False
    server.faults[1].delay_s = SHORT_S + 0.2
    with pytest.raises(LinkTimeout):
        await link.read_holding(1, 0, 2)
    server.faults[1].delay_s = 0.0
    for address in (10, 20, 30):
        try:
            assert await link.read_holding(1, address, 2) == (1000 + address, 1001 + address)
        except DeviceError:
            continue


async def test_after_a_silence_another_shape_is_asked_first_so_that_an_older_answer_shows(line):
    link, _, server = line
    server.faults[1].silent = True
    with pytest.raises(LinkTimeout):
        await link.read_holding(1, 100, 2)
    server.faults[1].silent = False
    assert await link.read_holding(1, 0, 2) == (1000, 1001)
    assert [(pdu[2], pdu[4]) for _, pdu in server.asked] == [(100, 2), (0, 1), (0, 2)]
    assert await link.read_holding(1, 4, 2) == (1004, 1005)
    assert len(server.asked) == 4, "an answer of another shape proves that nothing older can come"


async def test_a_refusal_that_may_be_an_older_one_is_not_believed(line):
    link, _, server = line
    server.faults[1].silent = True
    with pytest.raises(LinkTimeout):
        await link.read_holding(1, 0, 2)
    server.faults[1].silent, server.faults[1].exception = False, 2
    with pytest.raises(LinkTimeout, match="may belong to an earlier request"):
        await link.read_holding(1, 50, 3)


async def test_a_write_whose_answer_is_lost_is_not_repeated(line):
    link, units, server = line
    server.faults[3].silent = True
    with pytest.raises(LinkTimeout, match="read back what it holds"):
        await link.write_register(3, 5, 1)
    server.faults[3].silent = False
    assert [pdu[0] for _, pdu in server.asked] == [6]
    assert await link.read_holding(3, 5, 1) == (units[3].registers[5],)


async def twice(link):
    """Two reads: a second copy of an answer comes into the next request."""
    assert await link.read_holding(1, 0, 2) == (1000, 1001)
    await link.read_holding(1, 1, 2)


BAD = ["garbage", "short_reply", "long_reply", "wrong_function", "wrong_unit", "duplicate"]


@pytest.mark.parametrize("fault", BAD)
async def test_what_is_not_the_answer_is_never_a_value_and_the_line_goes_on(line, fault):
    link, _, server = line
    setattr(server.faults[1], fault, True)
    with pytest.raises((BadReply, LinkTimeout)):
        await twice(link)
    setattr(server.faults[1], fault, False)
    assert await link.read_holding(2, 7, 2) == (2007, 2008)
    assert await link.read_holding(1, 7, 2) == (1007, 1008)
    assert link.stats.connects == 1, "a wrong frame does not cost a serial line its connection"


async def test_after_a_wrong_answer_the_line_is_left_to_fall_silent(line):
    link, _, server = line
    assert await link.read_holding(2, 0, 1) == (2000,)
    server.faults[1].garbage = True
    with pytest.raises(BadReply):
        await link.read_holding(1, 0, 2)
    failed_s = time.monotonic()
    assert await link.read_holding(2, 0, 1) == (2000,)
    assert time.monotonic() - failed_s > 0.9 * DRAIN_S


@pytest.mark.parametrize("bits", [1, 2, 3])
async def test_flipped_bits_are_never_a_value(line, bits):
    link, _, server = line
    server.faults[1].flip_bits = bits
    for at in range(6):
        with pytest.raises((BadReply, LinkTimeout, UnitResting)):
            await link.read_holding(1, at, 3)


async def test_a_truncated_or_trickling_answer_is_waited_for_and_no_longer_than_allowed(line):
    link, _, server = line
    server.faults[1].trickle = True
    assert await link.read_holding(1, 0, 20) == tuple(range(1000, 1020))
    server.faults[1].trickle, server.faults[1].truncated = False, True
    with pytest.raises(LinkTimeout):
        await link.read_holding(1, 0, 2)


async def test_a_dead_unit_costs_the_others_three_waits_and_then_hardly_anything(line):
    link, _, server = line
    server.faults[1].silent = True
    for _ in range(3):
        with pytest.raises(LinkTimeout):
            await link.read_holding(1, 0, 1)
        assert await link.read_holding(2, 0, 2) == (2000, 2001)
    asked = server.requests
    for _ in range(20):
        with pytest.raises(UnitResting, match="left alone after 3 failures in a row; the next trial is in"):
            await link.read_holding(1, 0, 1)
        assert await link.read_holding(2, 0, 2) == (2000, 2001)
    assert server.requests == asked + 20
    assert link.unit(1).state == "resting"
    assert link.unit(2).state == "answering"
    assert link.stats.connects == 1


async def test_a_unit_that_comes_back_is_found_by_one_trial():
    clock = Clock()
    units = banks()
    async with ModbusServer(units) as server:
        link = Link(TcpEndpoint("127.0.0.1", server.port), timeout_s=SHORT_S, clock=clock)
        assert await link.read_holding(2, 0, 1) == (2000,)
        server.faults[1].silent = True
        for _ in range(3):
            with pytest.raises(LinkTimeout):
                await link.read_holding(1, 0, 1)
        clock.now_s += LONGEST_SHARED_REST_S
        asked = server.requests
        trials = [asyncio.ensure_future(link.read_holding(1, 0, 1)) for _ in range(3)]
        outcomes = await asyncio.gather(*trials, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [LinkTimeout, UnitResting, UnitResting]
        assert server.requests == asked + 1, "one request tries it"
        server.faults[1].silent = False
        clock.now_s += LONGEST_SHARED_REST_S
        assert await link.read_holding(1, 0, 1) == (1000,)
        assert link.unit(1).state == "answering"
        await link.close()


async def test_a_write_goes_out_to_a_unit_that_rests():
    units = banks()
    async with ModbusServer(units) as server:
        link = Link(TcpEndpoint("127.0.0.1", server.port), timeout_s=SHORT_S, clock=Clock())
        server.faults[1].silent = True
        for _ in range(3):
            with pytest.raises(LinkTimeout):
                await link.read_holding(1, 0, 1)
        server.faults[1].silent = False
        link._not_before_s = 0.0
        await link.write_register(1, 3, 77)
        assert units[1].registers[3] == 77
        assert await link.read_holding(1, 3, 1) == (77,)
        await link.close()


async def test_a_gateway_that_does_not_reach_a_unit_lets_only_that_unit_rest():
    async with ModbusServer(banks()) as server:
        link = Link(TcpEndpoint("127.0.0.1", server.port), timeout_s=SHORT_S, clock=Clock())
        server.faults[1].exception = 11
        for _ in range(3):
            with pytest.raises(ModbusRefused):
                await link.read_holding(1, 0, 1)
        with pytest.raises(UnitResting):
            await link.read_holding(1, 0, 1)
        assert await link.read_holding(2, 0, 1) == (2000,)
        await link.close()


async def test_a_line_is_as_slow_as_its_baud_rate_and_is_waited_for_all_the_same():
    """125 registers at 2400 baud take 1.2 s on the wire, longer than the unit is waited for by itself."""
    async with SerialLine(banks(), baud=2400) as server:
        link = Link(SerialEndpoint(server.device, 2400, "N"), timeout_s=1.0, clock=time.monotonic)
        began_s = time.monotonic()
        assert await link.read_holding(1, 0, 125) == tuple(range(1000, 1125))
        assert time.monotonic() - began_s > 1.15
        assert link.unit(1).usual_s < 1.0, "the time on the wire is not the unit's"
        await link.close()


async def test_noise_before_a_request_is_waited_out_and_never_mixed_with_the_answer():
    async with SerialLine(banks(), baud=None) as server:
        link = Link(SerialEndpoint(server.device, 9600, "N"), timeout_s=SHORT_S, clock=time.monotonic)
        assert await link.read_holding(1, 0, 1) == (1000,)
        server.noise(bytes.fromhex("010304 0001"))
        await until(lambda: link._wire.open_bytes == 5)
        heard_s = link._heard_s
        assert await link.read_holding(1, 0, 2) == (1000, 1001)
        assert link._heard_s - heard_s >= 0.004, "three and a half characters of silence come first"
        await link.close()


async def test_a_port_that_is_not_there_taken_by_another_or_pulled_is_an_error_that_says_so():
    missing = Link(SerialEndpoint("/dev/ttyNOTHING7", 9600, "N"), clock=time.monotonic)
    with pytest.raises(LinkDown, match=r"serial:///dev/ttyNOTHING7 .*No such file or directory.*plugged in"):
        await missing.read_holding(1, 0, 1)
    await missing.close()
    async with SerialLine(banks(), baud=None) as server:
        first = Link(SerialEndpoint(server.device, 9600, "N"), timeout_s=SHORT_S, clock=time.monotonic)
        second = Link(SerialEndpoint(server.device, 9600, "N"), timeout_s=SHORT_S, clock=time.monotonic)
        assert await first.read_holding(1, 0, 1) == (1000,)
        with pytest.raises(LinkDown, match="no other program has the port"):
            await second.read_holding(1, 0, 1)
        await second.close()
        await server.stop()
        with pytest.raises(LinkDown):
            await first.read_holding(1, 0, 1)
        await first.close()


async def test_a_request_that_was_given_up_may_still_be_answered_and_is_told_apart_too(line):
    link, _, server = line
    server.faults[1].delay_s = 0.1
    impatient = asyncio.ensure_future(link.read_holding(1, 100, 2))
    await until(lambda: server.requests == 1)
    impatient.cancel()
    await asyncio.gather(impatient, return_exceptions=True)
    server.faults[1].delay_s = 0.0
    with contextlib.suppress(BadReply, LinkTimeout):  # the older answer may come in between, and is no answer
        assert await link.read_holding(1, 0, 2) == (1000, 1001)
    assert (0, 1) in [(pdu[2], pdu[4]) for _, pdu in server.asked], "another shape was asked first"


async def test_a_quick_unit_is_waited_for_less_when_read_and_as_long_as_ever_when_written_to():
    units = banks()
    async with ModbusServer(units) as server:
        link = Link(TcpEndpoint("127.0.0.1", server.port), timeout_s=2.0, clock=time.monotonic)
        for _ in range(20):
            await link.read_holding(1, 0, 1)
        assert link.unit(1).timeout_s < 1.0
        server.faults[1].delay_s = 1.0
        with pytest.raises(LinkTimeout):
            await link.read_holding(1, 0, 1)
        server.faults[1].delay_s = 1.2
        await link.write_register(1, 3, 77)
        assert units[1].registers[3] == 77
        await link.close()


@pytest.mark.parametrize(("neighbours", "least_s", "most_s"), [((), 0.0, 1.0), ((2,), 3.0, 60.0)])
async def test_a_dead_unit_rests_longer_where_it_would_slow_others(neighbours, least_s, most_s):
    async with ModbusServer(banks()) as server:
        link = Link(TcpEndpoint("127.0.0.1", server.port), timeout_s=SHORT_S, clock=time.monotonic)
        for unit in neighbours:
            await link.read_holding(unit, 0, 1)
        server.faults[1].silent = True
        for _ in range(3):
            with pytest.raises(LinkTimeout):
                await link.read_holding(1, 0, 1)
        assert least_s <= link.unit(1).retry_in_s <= most_s
        await link.close()


async def test_a_line_that_never_falls_silent_is_an_error_and_no_hang():
    async with SerialLine(banks(), baud=None) as server:
        link = Link(SerialEndpoint(server.device, 9600, "N", turnaround_s=0.5), timeout_s=SHORT_S, clock=time.monotonic)
        assert await link.read_holding(1, 0, 1) == (1000,)

        async def chatter():
            while True:
                server.noise(b"\x55")
                await asyncio.sleep(0.005)

        talking = asyncio.ensure_future(chatter())
        with pytest.raises(BadReply, match="the line does not fall silent; check for a second master"):
            await asyncio.wait_for(link.read_holding(1, 0, 1), 20)
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)
        await link.close()


@pytest.fixture
async def echoing():
    """A link on a line that gives back what is sent on it, with its banks."""
    units = banks()
    async with SerialLine(units, baud=None, echo=True) as server:
        link = Link(SerialEndpoint(server.device, 115_200, "N"), timeout_s=SHORT_S, clock=time.monotonic)
        yield link, units, server
        await link.close()


async def test_an_adapter_that_hears_its_own_requests_is_recognised_and_they_are_left_out(echoing):
    link, units, server = echoing
    assert await link.read_holding(1, 10, 3) == (1010, 1011, 1012)
    assert link.stats.local_echo
    await link.write_register(3, 5, 0xBEEF)
    await link.write_registers(3, 6, list(range(123)))
    assert await link.read_input(3, 5, 3) == (0xBEEF, 0, 1)
    assert [units[3].registers[6 + at] for at in range(123)] == list(range(123))
    with pytest.raises(ModbusRefused):
        await link.read_holding(1, 199, 2)
    assert (link.stats.failures, link.stats.bad_replies) == (1, 0)
    server.echo = False  # somebody switches it off at the adapter
    assert await link.read_holding(1, 10, 1) == (1010,)
    assert not link.stats.local_echo
    await link.write_register(3, 5, 1)
    assert (units[3].registers[5], link.stats.bad_replies) == (1, 0)


@pytest.mark.parametrize("write", ["write_register", "write_registers"])
async def test_the_echo_of_a_write_is_never_taken_for_its_answer(echoing, write):
    link, _, server = echoing
    assert await link.read_holding(3, 0, 1) == (3000,)
    server.faults[3].silent = True
    with pytest.raises(LinkTimeout, match="read back what it holds"):
        await getattr(link, write)(3, 5, 7 if write == "write_register" else [7])


async def test_a_broken_read_does_not_make_the_echo_of_a_write_its_answer(echoing):
    link, _, server = echoing
    assert await link.read_holding(1, 0, 1) == (1000,)
    server.echo, server.faults[1].garbage = False, True  # what comes first is not our request as it was sent
    with pytest.raises((BadReply, LinkTimeout)):
        await link.read_holding(1, 0, 1)
    server.echo, server.faults[1].garbage, server.faults[1].silent = True, False, True
    with pytest.raises(LinkTimeout):
        await link.write_register(1, 5, 7)


async def test_a_dead_unit_on_a_line_with_an_echo_is_silent_and_no_wrong_answer(echoing):
    link, _, server = echoing
    server.faults[1].silent = True
    for _ in range(2):
        with pytest.raises(LinkTimeout):
            await link.read_holding(1, 0, 1)
    assert await link.read_holding(2, 0, 2) == (2000, 2001)
    server.faults[1].silent = False
    assert await link.read_holding(1, 0, 1) == (1000,)
    assert link.stats.bad_replies == 0


@pytest.mark.parametrize("fault", BAD)
async def test_beside_an_echo_what_is_not_the_answer_is_no_value_either(echoing, fault):
    link, _, server = echoing
    setattr(server.faults[1], fault, True)
    with pytest.raises((BadReply, LinkTimeout)):
        await twice(link)
    setattr(server.faults[1], fault, False)
    assert await link.read_holding(2, 7, 2) == (2007, 2008)
    assert await link.read_holding(1, 7, 2) == (1007, 1008)
