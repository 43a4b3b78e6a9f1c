"""The link on a serial line and over a converter: RTU frames, several units, late answers, noise."""

from __future__ import annotations

import time

import pytest
from drivers_registers import RawBank

from drivers.endpoint import RtuTcpEndpoint, SerialEndpoint
from drivers.errors import ModbusRefused
from drivers.link import Link
from simulators.modbus_server import ModbusServer
from simulators.serial_line import SerialLine

SHORT_S = 0.25


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
