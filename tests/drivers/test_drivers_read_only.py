"""The read-only mode of commissioning: a link that was opened to read cannot send a write, by any way."""

from __future__ import annotations

import time

import pytest
from drivers_registers import RawBank

from drivers.endpoint import TcpEndpoint
from drivers.errors import ReadOnly
from drivers.link import Link
from drivers.request import Request
from drivers.wire import Wire, WritingWire
from simulators.modbus_server import ModbusServer

WRITING = (5, 6, 15, 16, 22, 23)


@pytest.fixture
async def reading():
    bank = RawBank({at: at for at in range(10)})
    async with ModbusServer({1: bank}) as server:
        link = Link(TcpEndpoint("127.0.0.1", server.port), timeout_s=5.0, clock=time.monotonic, read_only=True)
        yield link, bank, server
        await link.close()


async def test_registers_are_read_and_no_write_leaves(reading):
    link, bank, server = reading
    assert await link.read_holding(1, 3, 2) == (3, 4)
    assert await link.read_input(1, 3, 2) == (3, 4)
    for write in (link.write_register(1, 3, 9), link.write_registers(1, 3, [9, 9])):
        with pytest.raises(ReadOnly, match='read-only mode: nothing was written; take mode = "read_only" out of'):
            await write
    assert bank.writes == []
    assert [pdu[0] for _, pdu in server.asked] == [3, 4]


async def test_its_connection_has_no_way_to_write_and_its_gate_lets_no_writing_function_out(reading):
    link, _, server = reading
    await link.read_holding(1, 0, 1)
    wire = link._wire
    assert isinstance(wire, Wire)
    assert not isinstance(wire, WritingWire)
    assert not hasattr(wire, "write")
    for function in WRITING:
        with pytest.raises(AssertionError, match="a read-only wire was asked to write"):
            wire._send(bytes.fromhex("0001 0000 0006 01") + bytes((function, 0, 1, 0, 1)))
    with pytest.raises(AssertionError):
        await wire.read(Request(1, 6, 1, 1, 1), 1.0)
    assert [pdu[0] for _, pdu in server.asked] == [3]


@pytest.mark.parametrize("function", WRITING)
@pytest.mark.parametrize("head", [bytes.fromhex("0001 0000 0006 01"), b"\1"], ids=["TCP", "RTU"])
async def test_the_gate_knows_every_writing_function_in_both_framings(function, head):
    from drivers.endpoint import RtuTcpEndpoint

    endpoint = TcpEndpoint("h", 1) if len(head) > 1 else RtuTcpEndpoint("h", 1)
    frame = head + bytes((function, 0, 1, 0, 1, 0, 0))
    shown = []
    reader = Wire(endpoint, None, lambda *_: None, lambda *seen: shown.append(seen), list)
    with pytest.raises(AssertionError, match="read-only"):
        reader._send(frame)
    assert shown == []
    writer = WritingWire(endpoint, None, lambda *_: None, lambda *seen: shown.append(seen), list)
    writer._send(frame)
    assert shown == [("sent", frame)]
