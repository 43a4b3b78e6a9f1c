"""What a connection must not do to those who use it: hide a cancellation, or fail in a way that nobody expects."""

from __future__ import annotations

import asyncio
import os
import time

import pytest
from drivers_registers import RawBank

from drivers.endpoint import SerialEndpoint, TcpEndpoint
from drivers.errors import LinkDown
from drivers.link import Link
from simulators.modbus_server import ModbusServer


async def test_a_task_that_is_cancelled_as_its_answer_comes_is_cancelled():
    """Else a task group waits for ever for a poller that was told to end."""
    async with ModbusServer({1: RawBank({0: 7})}) as server:
        link = Link(TcpEndpoint("127.0.0.1", server.port), clock=time.monotonic)
        asking = asyncio.ensure_future(link.read_holding(1, 0, 1))
        link.on_frame = lambda direction, _data, _mono_s: asking.cancel() if direction == "received" else None
        with pytest.raises(asyncio.CancelledError):
            await asking
        link.on_frame = None
        assert await link.read_holding(1, 0, 1) == (7,)
        await link.close()


async def test_a_port_that_refuses_its_settings_is_a_connection_that_cannot_be_made():
    """A pseudo-terminal knows no parity, and says so by an error that is no OSError."""
    ours, theirs = os.openpty()
    link = Link(SerialEndpoint(os.ttyname(theirs), 9600, "E"), clock=time.monotonic)
    with pytest.raises(LinkDown, match="Invalid argument"):
        await link.read_holding(1, 0, 1)
    await link.close()
    os.close(ours)
    os.close(theirs)
