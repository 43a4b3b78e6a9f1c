"""A Modbus server on raw asyncio that also misbehaves on demand: Modbus TCP, inside TLS, or RTU frames over TCP.

Frames: MODBUS Messaging on TCP/IP V1.0b and MODBUS over Serial Line V1.02. Each connection is served in order, one
request at a time, so pipelined requests keep their order.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from collections.abc import Mapping
from typing import Literal

from simulators.modbus_units import (
    GARBAGE_BYTES,
    GATEWAY_TARGET_FAILED,
    ILLEGAL_ADDRESS,
    ILLEGAL_FUNCTION,
    ILLEGAL_VALUE,
    MAX_PDU_BYTES,
    READ_HOLDING,
    READ_INPUT,
    WRITE_MANY,
    WRITE_ONE,
    Faults,
    ReadOnlyBank,
    RegisterBank,
    RequestRefusedError,
    UnitServer,
)
from simulators.rtu_frames import CRC_BYTES, framed, is_whole, request_bytes

__all__ = [
    "GARBAGE_BYTES",
    "GATEWAY_TARGET_FAILED",
    "ILLEGAL_ADDRESS",
    "ILLEGAL_FUNCTION",
    "ILLEGAL_VALUE",
    "READ_HOLDING",
    "READ_INPUT",
    "WRITE_MANY",
    "WRITE_ONE",
    "Faults",
    "ModbusServer",
    "ReadOnlyBank",
    "RegisterBank",
    "RequestRefusedError",
]

HEADER = struct.Struct(">HHHB")
"""Transaction, protocol (0), length of what follows including the unit, unit."""
HEAD_BYTES = HEADER.size + 2
"""What a flipped bit may hit: the header, the function code and the byte count."""
HUGE_LENGTH = 0xFFFF


class ModbusServer(UnitServer):
    """Serves register banks by unit id on one TCP endpoint; port 0 takes a free one, see `port`."""

    def __init__(
        self,
        units: Mapping[int, RegisterBank],
        host: str = "127.0.0.1",
        port: int = 0,
        inputs: Mapping[int, RegisterBank] | None = None,
        *,
        framing: Literal["tcp", "rtu"] = "tcp",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(units, inputs)
        self._framing = framing
        self._tls = tls
        self._host = host
        self._wanted_port = port
        self._server: asyncio.Server | None = None
        self._sessions: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._deaf: set[asyncio.StreamWriter] = set()

    @property
    def port(self) -> int:
        """The port that clients connect to."""
        assert self._server is not None, "the server is not started"
        port = self._server.sockets[0].getsockname()[1]
        assert isinstance(port, int)
        return port

    async def start(self) -> None:
        """Begins to listen; raises OSError when the port is taken."""
        self._server = await asyncio.start_server(self._accept, self._host, self._wanted_port, ssl=self._tls)

    async def stop(self) -> None:
        """Stops listening and drops every connection."""
        if self._server is None:
            return
        self._server.close()
        self.drop_connections()
        sessions = list(self._sessions)
        for session in sessions:
            session.cancel()
        await asyncio.gather(*sessions, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    def drop_connections(self) -> None:
        """Resets every connection at once; clients may come back."""
        for writer in self._sessions.values():
            writer.transport.abort()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._sessions[session] = writer
        session.add_done_callback(self._sessions.pop)

    def half_open(self) -> None:
        """Connections that exist now are never answered again and never closed; new ones are served."""
        self._deaf |= set(self._sessions.values())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serve_one = self._serve_rtu if self._framing == "rtu" else self._serve_tcp
        held = bytearray()
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while await serve_one(reader, writer, held):
                    pass
        finally:
            self._deaf.discard(writer)
            writer.transport.abort()

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, held: bytearray) -> bool:
        """Answers the next request; False ends the connection."""
        transaction, protocol, length, unit = HEADER.unpack(await reader.readexactly(HEADER.size))
        if protocol != 0 or not 2 <= length <= MAX_PDU_BYTES + 1:
            return False
        request = await reader.readexactly(length - 1)
        faults = self._units.came(unit, request)
        if not await self._goes_on(unit, faults):
            return False
        if not faults.silent and writer not in self._deaf:
            answer = self._units.answer(unit, request, faults)
            frame = self._units.spoilt(_tcp_frame(transaction, unit, answer, faults), faults, HEAD_BYTES)
            await _send(writer, frame, faults, held)
        return True

    async def _serve_rtu(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, held: bytearray) -> bool:
        """The same for RTU frames; a frame that is broken is nobody's, as on a serial line."""
        frame = await reader.readexactly(2 + 5)
        frame += await reader.readexactly(request_bytes(frame) + CRC_BYTES - len(frame))
        unit, request = frame[0], frame[1:-CRC_BYTES]
        if not is_whole(frame) or unit not in self._units:
            return True
        faults = self._units.came(unit, request)
        if not await self._goes_on(unit, faults):
            return False
        if not faults.silent and writer not in self._deaf:
            named = (unit + 1) % 0x100 if faults.wrong_unit else unit
            answer = framed(named, self._units.answer(unit, request, faults))
            await _send(writer, self._units.spoilt(answer, faults), faults, held)
        return True

    async def _goes_on(self, unit: int, faults: Faults) -> bool:
        """After the wait that the unit takes; False ends the connection."""
        if faults.half_open:
            faults.half_open = False
            self.half_open()
        if faults.reboot:
            self._units.reboot(unit)
            self.drop_connections()
            return False
        if faults.delay_s > 0.0:
            await asyncio.sleep(faults.delay_s)
        return not faults.drop_connection


def _tcp_frame(transaction: int, unit: int, answer: bytes, faults: Faults) -> bytes:
    if faults.wrong_transaction:
        transaction = (transaction + 1) % 0x10000
    if faults.zero_transaction:
        transaction = 0
    if faults.wrong_unit:
        unit = (unit + 1) % 0x100
    length = HUGE_LENGTH if faults.huge_length else len(answer) + 1
    return HEADER.pack(transaction, int(faults.wrong_protocol), length, unit) + answer


async def _send(writer: asyncio.StreamWriter, frame: bytes, faults: Faults, held: bytearray) -> None:
    if faults.late:
        frame, held[:] = bytes(held), frame
    for at in range(0, len(frame), 1 if faults.trickle else max(1, len(frame))):
        writer.write(frame[at : at + 1] if faults.trickle else frame)
        await writer.drain()
        await asyncio.sleep(0)
