"""Functions 4 and 6 over the link, and its pace, against a raw server on a real socket."""

from __future__ import annotations

import time

import pytest
from drivers_registers import RawBank

from drivers.endpoint import TcpEndpoint
from drivers.errors import BadReply, ModbusRefused
from drivers.link import Link
from simulators.modbus_server import ModbusServer


@pytest.fixture
async def raw():
    bank = RawBank({100: 7, 101: 8, 102: 9})
    async with ModbusServer({1: bank}) as server:
        link = Link(TcpEndpoint("127.0.0.1", server.port), timeout_s=5.0, clock=time.monotonic)
        yield link, bank, server
        await link.close()


async def test_input_registers_are_read_with_function_4(raw):
    link, _, server = raw
    assert await link.read_input(1, 100, 3) == (7, 8, 9)
    assert await link.read_holding(1, 101, 1) == (8,)
    assert [pdu[0] for _, pdu in server.asked] == [4, 3]


async def test_one_register_is_written_with_function_6(raw):
    link, bank, server = raw
    await link.write_register(1, 101, 0xBEEF)
    assert bank.registers[101] == 0xBEEF
    assert [pdu[0] for _, pdu in server.asked] == [6]
    with pytest.raises(ModbusRefused):
        await link.write_register(1, 5000, 1)


@pytest.mark.parametrize("fault", ["wrong_echo", "wrong_unit", "wrong_transaction", "garbage"])
async def test_a_false_answer_to_function_6_is_no_answer(raw, fault):
    link, _, server = raw
    setattr(server.faults[1], fault, True)
    with pytest.raises(BadReply):
        await link.write_register(1, 101, 3)


@pytest.mark.parametrize("fault", ["short_reply", "wrong_function"])
async def test_a_false_answer_to_function_4_is_no_answer(raw, fault):
    link, _, server = raw
    setattr(server.faults[1], fault, True)
    with pytest.raises(BadReply):
        await link.read_input(1, 100, 2)


async def test_a_paced_endpoint_is_left_alone_between_requests_and_after_connecting(raw):
    link, _, _ = raw
    link.pace(0.02, 0.05)
    link.pace(0.01, 0.0)  # another device here asks for less: the slowest counts
    began_s = time.monotonic()
    await link.read_input(1, 100, 1)
    first_s = time.monotonic()
    await link.read_input(1, 100, 1)
    await link.write_register(1, 100, 1)
    assert first_s - began_s >= 0.05
    assert time.monotonic() - first_s >= 0.04
