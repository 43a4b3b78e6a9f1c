"""A Modbus TCP server on raw asyncio that also misbehaves on demand.

Frames and exception codes: MODBUS Application Protocol V1.1b3 and MODBUS Messaging on TCP/IP V1.0b. Each
connection is served in order, one request at a time, so pipelined requests keep their order.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

READ_HOLDING = 0x03
READ_INPUT = 0x04
WRITE_ONE = 0x06
WRITE_MANY = 0x10
ILLEGAL_FUNCTION = 0x01
ILLEGAL_ADDRESS = 0x02
ILLEGAL_VALUE = 0x03
GATEWAY_TARGET_FAILED = 0x0B
MAX_READ_COUNT = 125
MAX_WRITE_COUNT = 123
MAX_PDU_BYTES = 253
HEADER = struct.Struct(">HHHB")
"""Transaction, protocol (0), length of what follows including the unit, unit."""
PAIR = struct.Struct(">HH")
GARBAGE_BYTES = 24
MAX_ASKED = 1000
"""Requests remembered."""


class RequestRefusedError(Exception):
    """The device refuses a request with a Modbus exception code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"Modbus exception {code}")
        self.code = code


class RegisterBank(Protocol):
    """The registers behind one unit id. Data are big-endian bytes, two per register."""

    def read(self, address: int, count: int) -> bytes:
        """The registers now; raises `RequestRefusedError`."""

    def write(self, address: int, data: bytes) -> None:
        """Writes all registers or none; raises `RequestRefusedError`."""

    def snapshot(self) -> ReadOnlyBank:
        """The registers as they are now, and stay."""

    def without_values(self) -> ReadOnlyBank:
        """The registers with every value not implemented."""

    def reboot(self) -> None:
        """The device starts anew: what was written is lost."""


class ReadOnlyBank(Protocol):
    """Registers that never change."""

    def read(self, address: int, count: int) -> bytes:
        """The registers; raises `RequestRefusedError`."""


@dataclass(slots=True)
class Faults:
    """What is wrong with one unit; set at any time, acts on the next request."""

    silent: bool = False
    """No answer at all."""
    delay_s: float = 0.0
    """Each answer comes so much later; requests behind it on the same connection wait."""
    garbage: bool = False
    """Random bytes instead of an answer."""
    short_reply: bool = False
    """A well-formed read answer with one register too few."""
    wrong_transaction: bool = False
    wrong_function: bool = False
    wrong_unit: bool = False
    wrong_echo: bool = False
    """A write is applied, but its answer names another address."""
    drop_connection: bool = False
    """The connection is closed instead of an answer."""
    exception: int | None = None
    """Every request is refused with this code."""
    frozen: bool = False
    """Reads answer the registers as they were when the fault was first met."""
    sentinels: bool = False
    """Reads answer that no value is implemented."""
    lie: bool = False
    """Writes are acknowledged and not applied."""
    reboot: bool = False
    """Once: the unit forgets what was written and every connection is dropped; resets itself."""


class ModbusServer:
    """Serves register banks by unit id on one TCP endpoint; port 0 takes a free one, see `port`.

    Function 4 reads the bank of `inputs` where the unit has one, else the same registers as function 3.
    """

    def __init__(
        self,
        units: Mapping[int, RegisterBank],
        host: str = "127.0.0.1",
        port: int = 0,
        inputs: Mapping[int, RegisterBank] | None = None,
    ) -> None:
        self.faults = {unit: Faults() for unit in units}
        self.requests = 0
        """Requests that arrived whole, for tests and load measurements."""
        self.asked: deque[tuple[int, bytes]] = deque(maxlen=MAX_ASKED)
        """The newest of them: unit id, and function code with what follows it."""
        self._units = dict(units)
        self._inputs = dict(inputs or {})
        self._host = host
        self._wanted_port = port
        self._server: asyncio.Server | None = None
        self._sessions: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._frozen: dict[tuple[int, bool], ReadOnlyBank] = {}
        self._random = random.Random(0)

    @property
    def port(self) -> int:
        """The port that clients connect to."""
        assert self._server is not None, "the server is not started"
        port = self._server.sockets[0].getsockname()[1]
        assert isinstance(port, int)
        return port

    async def start(self) -> None:
        """Begins to listen; raises OSError when the port is taken."""
        self._server = await asyncio.start_server(self._accept, self._host, self._wanted_port)

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

    async def __aenter__(self) -> Self:
        """Starts the server."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops the server."""
        await self.stop()

    def drop_connections(self) -> None:
        """Resets every connection at once; clients may come back."""
        for writer in self._sessions.values():
            writer.transport.abort()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._sessions[session] = writer
        session.add_done_callback(self._sessions.pop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while await self._serve_one(reader, writer):
                    pass
        finally:
            writer.transport.abort()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answers the next request; False ends the connection."""
        transaction, protocol, length, unit = HEADER.unpack(await reader.readexactly(HEADER.size))
        if protocol != 0 or not 2 <= length <= MAX_PDU_BYTES + 1:
            return False
        request = await reader.readexactly(length - 1)
        self.requests += 1
        self.asked.append((unit, request))
        faults = self.faults.get(unit) or Faults()
        if faults.reboot:
            faults.reboot = False
            self._units[unit].reboot()
            self.drop_connections()
            return False
        if faults.delay_s > 0.0:
            await asyncio.sleep(faults.delay_s)
        if faults.drop_connection:
            return False
        if not faults.silent:
            answer = self._answer(unit, request, faults)
            writer.write(self._framed(transaction, unit, answer, faults))
            await writer.drain()
        return True

    def _framed(self, transaction: int, unit: int, answer: bytes, faults: Faults) -> bytes:
        if faults.garbage:
            return self._random.randbytes(GARBAGE_BYTES)
        if faults.wrong_transaction:
            transaction = (transaction + 1) % 0x10000
        if faults.wrong_unit:
            unit = (unit + 1) % 0x100
        if faults.wrong_function:
            other = READ_INPUT if answer[0] == READ_HOLDING else READ_HOLDING
            answer = bytes((other,)) + answer[1:]
        if faults.short_reply and answer[0] in (READ_HOLDING, READ_INPUT):
            answer = bytes((answer[0], answer[1] - 2)) + answer[2:-2]
        if faults.wrong_echo and answer[0] in (WRITE_ONE, WRITE_MANY):
            address, rest = PAIR.unpack(answer[1:])
            answer = answer[:1] + PAIR.pack((address + 1) % 0x10000, rest)
        return HEADER.pack(transaction, 0, len(answer) + 1, unit) + answer

    def _answer(self, unit: int, request: bytes, faults: Faults) -> bytes:
        try:
            if unit not in self._units:
                raise RequestRefusedError(GATEWAY_TARGET_FAILED)
            if faults.exception is not None:
                raise RequestRefusedError(faults.exception)
            match request[0]:
                case 0x03 | 0x04:
                    return self._read(unit, request, faults)
                case 0x06:
                    return self._write_one(unit, request, faults)
                case 0x10:
                    return self._write_many(unit, request, faults)
                case _:
                    raise RequestRefusedError(ILLEGAL_FUNCTION)
        except RequestRefusedError as refusal:
            return bytes((request[0] | 0x80, refusal.code))

    def _read(self, unit: int, request: bytes, faults: Faults) -> bytes:
        if len(request) != 5:
            raise RequestRefusedError(ILLEGAL_VALUE)
        address, count = PAIR.unpack(request[1:])
        if not 1 <= count <= MAX_READ_COUNT:
            raise RequestRefusedError(ILLEGAL_VALUE)
        data = self._readable(unit, request[0], faults).read(address, count)
        assert len(data) == 2 * count
        return bytes((request[0], len(data))) + data

    def _readable(self, unit: int, function: int, faults: Faults) -> ReadOnlyBank:
        separate = function == READ_INPUT and unit in self._inputs
        bank = self._inputs[unit] if separate else self._units[unit]
        key = (unit, separate)
        if not faults.frozen:
            self._frozen.pop(key, None)
        elif key not in self._frozen:
            self._frozen[key] = bank.snapshot()
        if faults.sentinels:
            return bank.without_values()
        return self._frozen.get(key) or bank

    def _write_one(self, unit: int, request: bytes, faults: Faults) -> bytes:
        if len(request) != 5:
            raise RequestRefusedError(ILLEGAL_VALUE)
        if not faults.lie:
            (address,) = struct.unpack_from(">H", request, 1)
            self._units[unit].write(address, request[3:5])
        return request

    def _write_many(self, unit: int, request: bytes, faults: Faults) -> bytes:
        if len(request) < 6:
            raise RequestRefusedError(ILLEGAL_VALUE)
        address, count = PAIR.unpack_from(request, 1)
        data = request[6:]
        if not 1 <= count <= MAX_WRITE_COUNT or request[5] != 2 * count or len(data) != 2 * count:
            raise RequestRefusedError(ILLEGAL_VALUE)
        if not faults.lie:
            self._units[unit].write(address, data)
        return request[:5]
