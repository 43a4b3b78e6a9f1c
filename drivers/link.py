"""One Modbus TCP connection shared by the unit ids behind it; the only module that knows pymodbus.

pymodbus encodes, sends, and decodes. This module owns what must not be left to it: when to connect, how long
to wait, who goes first, and whether what came back is the answer (see `drivers.mbap`).
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ConnectionException, ModbusIOException
from pymodbus.pdu import ModbusPDU

from drivers.endpoint import Endpoint, parse_url
from drivers.errors import BadReply, DeviceError, LinkDown, LinkTimeout, ModbusRefused
from drivers.mbap import READ_HOLDING, READ_INPUT, READS, WRITE_MULTIPLE, WRITE_SINGLE, Request, check
from drivers.registers import ADDRESS_SPACE, MAX_READ_REGISTERS, MAX_WRITE_REGISTERS
from drivers.turns import Turns

FIRST_BACKOFF_S = 0.2
MAX_BACKOFF_S = 5.0
"""A half-open connection must be replaced within 5 s (fault matrix)."""
TIMEOUTS_BEFORE_DROP = 3
"""That many in a row and the TCP connection counts as half-open (fault matrix)."""
MAX_BUFFERED_BYTES = 8192
"""Above the limit of `drivers.mbap`, so that it sees every byte; pymodbus by itself drops what exceeds 264."""
NO_TRANSACTION = 65535
"""pymodbus counts transactions from 1 to 65000: this one never matches, so that it skips what comes late."""

# Every failure leaves this module as a typed error and a counter; the library's own lines would repeat it
# at each poll of a dead device. Lower the level to debug the library.
logging.getLogger("pymodbus").setLevel(logging.CRITICAL)

CHECK_CLIENTS = "check the device, and whether it allows this many clients"

_E = TypeVar("_E", bound=DeviceError)

OnFrame = Callable[[Literal["sent", "received"], bytes, float], None]
"""Told the bytes that were sent or have just come (perhaps only a part of a frame), and when, monotonic s."""


@dataclass(slots=True)
class LinkStats:
    """What has happened on a link since it was made; only the link writes it."""

    requests: int = 0
    failures: int = 0
    timeouts: int = 0
    connects: int = 0
    reconnects: int = 0
    bad_replies: int = 0
    refusals: int = 0
    late_replies: int = 0
    last_latency_s: float | None = None
    """From sending to the last good answer."""


class Link:
    """Registers of the unit ids behind one endpoint, one request at a time; errors are `DeviceError`s.

    Connects when first needed. After a failure nothing is tried before a back-off of 0.2 s, doubled up to
    5 s by each further failure and reset by an answer; until then every request raises `LinkDown` at once.
    `clock` is the monotonic time in s.
    """

    def __init__(self, host: str, port: int, *, timeout_s: float = 1.0, clock: Callable[[], float]) -> None:
        assert timeout_s > 0
        self.name = str(Endpoint(host, port))
        self.stats = LinkStats()
        self.on_frame: OnFrame | None = None
        """Set while somebody wants to see the bytes; it must be quick and must not raise."""
        self._host = host
        self._port = port
        self._timeout_s = timeout_s
        self._clock = clock
        self._turns = Turns()
        self._wire: _Wire | None = None
        self._down_why = ""
        self._backoff_s = FIRST_BACKOFF_S
        self._not_before_s = float("-inf")
        self._timeouts_in_a_row = 0
        self._closed = False
        self._between_s = 0.0
        self._after_connect_s = 0.0
        self._quiet_until_s = float("-inf")

    @classmethod
    def from_url(cls, url: str, *, timeout_s: float = 1.0, clock: Callable[[], float]) -> Link:
        """The link to the endpoint that `url` names; `BadEndpoint` says what is wrong with it."""
        endpoint = parse_url(url)
        return cls(endpoint.host, endpoint.port, timeout_s=timeout_s, clock=clock)

    @property
    def generation(self) -> int:
        """The number of connections made so far: when it changes, another device may be at the other end."""
        return self.stats.connects

    @property
    def connected(self) -> bool:
        """Whether there is a connection now, as far as anybody can know."""
        return self._wire is not None

    async def read_holding(self, unit_id: int, address: int, count: int) -> tuple[int, ...]:
        """The `count` (at most 125) holding registers from `address` on."""
        return await self._read(unit_id, READ_HOLDING, address, count)

    async def read_input(self, unit_id: int, address: int, count: int) -> tuple[int, ...]:
        """The `count` (at most 125) input registers from `address` on."""
        return await self._read(unit_id, READ_INPUT, address, count)

    async def write_register(self, unit_id: int, address: int, value: int, *, generation: int | None = None) -> None:
        """Write one register with function 6, once; `generation` as for `write_registers`."""
        assert 0 <= value <= 0xFFFF
        request = _checked_request(unit_id, WRITE_SINGLE, address, 1, value)
        await self._answer(request, (value,), generation)

    async def write_registers(
        self, unit_id: int, address: int, values: Sequence[int], *, generation: int | None = None
    ) -> None:
        """Write `values` (at most 123) from `address` on in one frame, once, never again by itself.

        With `generation` given, only over that connection: `LinkDown` if another one took its place.
        """
        assert 1 <= len(values) <= MAX_WRITE_REGISTERS
        assert all(0 <= value <= 0xFFFF for value in values)
        request = _checked_request(unit_id, WRITE_MULTIPLE, address, len(values))
        await self._answer(request, values, generation)

    def pace(self, between_s: float, after_connect_s: float) -> None:
        """Leave at least so long between requests, and after connecting; of all who ask, the slowest wins."""
        self._between_s = max(self._between_s, between_s)
        self._after_connect_s = max(self._after_connect_s, after_connect_s)

    async def close(self) -> None:
        """End the connection for good; later requests raise `LinkDown`."""
        self._closed = True
        if self._wire is not None:
            self._drop(self._wire, "the link was closed")
        self._down_why = "the link was closed"
        await asyncio.sleep(0)  # lets the loop close the socket

    async def _read(self, unit_id: int, function: int, address: int, count: int) -> tuple[int, ...]:
        assert 1 <= count <= MAX_READ_REGISTERS
        request = _checked_request(unit_id, function, address, count)
        reply = await self._answer(request, None, None)
        return tuple(reply.registers)

    async def _answer(self, request: Request, values: Sequence[int] | None, generation: int | None) -> ModbusPDU:
        await self._turns.take(urgent=values is not None)
        try:
            self.stats.requests += 1
            await self._quiet()
            wire = await self._connected_wire(request)
            await self._quiet()
            if generation is not None and generation != self.generation:
                why = "the connection was replaced meanwhile, so nothing was written"
                raise self._error(LinkDown, why, request, "identify the device again")
            began_s = self._clock()
            reply = await self._exchange(wire, request, values)
            self.stats.last_latency_s = self._clock() - began_s
            return reply
        except DeviceError:
            self.stats.failures += 1
            raise
        finally:
            self._quiet_until_s = max(self._quiet_until_s, self._clock() + self._between_s)
            self._turns.give()

    async def _quiet(self) -> None:
        """Return when the endpoint may be spoken to again."""
        wait_s = self._quiet_until_s - self._clock()
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    async def _exchange(self, wire: _Wire, request: Request, values: Sequence[int] | None) -> ModbusPDU:
        try:
            reply = await wire.exchange(request, values)
        except _FaultyError as fault:
            hint = "the connection was closed; check that nothing else answers at this address"
            raise self._error(BadReply, f"not an answer: {fault}", request, hint) from fault
        except (_LostError, ConnectionException) as lost:
            self._drop(wire, str(lost))
            raise self._error(LinkDown, str(lost), request, CHECK_CLIENTS) from lost
        except ModbusIOException as error:  # with the frames checked beforehand, only silence is left
            raise self._timed_out(wire, request) from error
        finally:
            self.stats.late_replies += wire.take_late()
        self._timeouts_in_a_row = 0
        self._backoff_s = FIRST_BACKOFF_S
        if reply.isError():
            self.stats.refusals += 1
            code = reply.exception_code
            raise ModbusRefused(code, endpoint=self.name, unit_id=request.unit_id, address=request.address)
        return reply

    def _timed_out(self, wire: _Wire, request: Request) -> LinkTimeout:
        self.stats.timeouts += 1
        self._timeouts_in_a_row += 1
        if self._timeouts_in_a_row >= TIMEOUTS_BEFORE_DROP:
            self._drop(wire, f"no answer to {self._timeouts_in_a_row} requests in a row")
        hint = "check power, cable and unit id" if request.function in READS else "read back what it holds"
        return self._error(LinkTimeout, f"no answer within {self._timeout_s:g} s", request, hint)

    async def _connected_wire(self, request: Request) -> _Wire:
        """The connection to use, made now if there is none and the back-off is over."""
        if self._wire is not None and self._wire.open_bytes:
            # The end of a frame that nobody waits for any more would be taken for the head of the next one.
            self._drop(self._wire, "the rest of a late answer never came")
        if self._wire is not None:
            return self._wire
        wait_s = self._not_before_s - self._clock()
        if self._closed or wait_s > 0:
            await asyncio.sleep(0)  # a caller that asks again at once must not starve the others
            hint = "" if self._closed else f"the next attempt is allowed in {wait_s:.1f} s"
            raise self._error(LinkDown, f"not connected ({self._down_why})", request, hint)
        wire = _Wire(self._host, self._port, self._timeout_s, self._on_trouble, self._show)
        try:
            await wire.connect()
        except (OSError, ValueError) as error:  # ValueError: no host can have such a name
            self._back_off(f"connecting failed: {_connect_fault(error)}")
            hint = "check that the device is on, cable, host and port, and its limit of clients"
            raise self._error(LinkDown, self._down_why, request, hint) from error
        if self._closed:
            wire.drop()
            raise self._error(LinkDown, self._down_why, request, "")
        self._wire = wire
        self._timeouts_in_a_row = 0
        self.stats.reconnects += self.stats.connects > 0
        self.stats.connects += 1
        self._quiet_until_s = self._clock() + self._after_connect_s
        return wire

    def _on_trouble(self, wire: _Wire, trouble: Exception) -> None:
        """Called by the wire as soon as it is lost or brings something that is not an answer."""
        self.stats.bad_replies += isinstance(trouble, _FaultyError)
        self._drop(wire, str(trouble))

    def _show(self, direction: Literal["sent", "received"], data: bytes) -> None:
        if self.on_frame is not None:
            self.on_frame(direction, data, self._clock())

    def _drop(self, wire: _Wire, why: str) -> None:
        wire.drop()
        if self._wire is wire:
            self._wire = None
            self._timeouts_in_a_row = 0
            self._back_off(why)

    def _back_off(self, why: str) -> None:
        self._down_why = why
        self._not_before_s = self._clock() + self._backoff_s
        self._backoff_s = min(2 * self._backoff_s, MAX_BACKOFF_S)

    def _error(self, kind: type[_E], what: str, request: Request, hint: str) -> _E:
        return kind(what, endpoint=self.name, unit_id=request.unit_id, address=request.address, hint=hint)


def _connect_fault(error: OSError | ValueError) -> str:
    """The system's own words for why a connection was not made."""
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__


def _checked_request(unit_id: int, function: int, address: int, count: int, value: int = 0) -> Request:
    assert 0 <= unit_id <= 255
    assert 0 <= address <= ADDRESS_SPACE - count
    return Request(unit_id, function, address, count, value)


class _LostError(Exception):
    """The peer ended the connection."""


class _FaultyError(Exception):
    """The peer sent what cannot be an answer."""


class _Wire:
    """One TCP connection, from connecting to its loss; never used again after `drop`."""

    def __init__(
        self,
        host: str,
        port: int,
        timeout_s: float,
        on_trouble: Callable[[_Wire, Exception], None],
        show: Callable[[Literal["sent", "received"], bytes], None],
    ) -> None:
        self.open_bytes = 0
        """Bytes held of a frame that has not arrived whole."""
        self._late = 0
        self._timeout_s = timeout_s
        self._on_trouble = on_trouble
        self._show = show
        self._request: Request | None = None
        self._over: Exception | None = None
        self._client = AsyncModbusTcpClient(
            host,
            port=port,
            timeout=timeout_s,
            retries=0,
            reconnect_delay=0,
            trace_packet=self._on_packet,
            trace_connect=self._on_connection,
        )
        self._client.ctx.max_buffer_size = MAX_BUFFERED_BYTES

    async def connect(self) -> None:
        """Open the connection; `OSError` says why not (pymodbus' own connect would only say no)."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._client.ctx.call_create()
        except BaseException:
            self.drop()
            raise
        if self._over is not None:
            raise ConnectionResetError(str(self._over))

    async def exchange(self, request: Request, values: Sequence[int] | None) -> ModbusPDU:
        """The checked answer to `request`, which may be a Modbus exception."""
        self._request = request
        try:
            return await self._send(request, values)
        finally:
            self._request = None
            self._client.ctx.request_transaction_id = NO_TRANSACTION

    async def _send(self, request: Request, values: Sequence[int] | None) -> ModbusPDU:
        client, address, unit_id = self._client, request.address, request.unit_id
        if request.function == READ_HOLDING:
            return await client.read_holding_registers(address, count=request.count, device_id=unit_id)
        if request.function == READ_INPUT:
            return await client.read_input_registers(address, count=request.count, device_id=unit_id)
        assert values is not None
        if request.function == WRITE_SINGLE:
            return await client.write_register(address, values[0], device_id=unit_id)
        return await client.write_registers(address, list(values), device_id=unit_id)

    def take_late(self) -> int:
        """The number of late answers skipped since the last call."""
        late, self._late = self._late, 0
        return late

    def drop(self) -> None:
        """Close the socket at once; what is still to be sent or received is lost."""
        self._over = self._over or _LostError("the connection was closed on this side")
        transport = self._client.ctx.transport
        if isinstance(transport, asyncio.WriteTransport):
            transport.abort()
        self._client.close()

    def _on_packet(self, sending: bool, data: bytes) -> bytes:
        """What pymodbus may see of `data`: all of it, or nothing once something in it is wrong."""
        if sending:
            self._show("sent", data)
            return data
        self._show("received", data[self.open_bytes :])
        if self._over is not None:
            return b""
        verdict = check(data, self._request, self._client.ctx.next_tid)
        if verdict.fault:
            self._end(_FaultyError(verdict.fault))
            return b""
        self._late += verdict.late
        self.open_bytes = verdict.open_bytes
        return data

    def _on_connection(self, connected: bool) -> None:
        if not connected and self._over is None:
            self._end(_LostError("the device closed the connection"))

    def _end(self, trouble: Exception) -> None:
        """Fail the request in flight now: pymodbus by itself would wait for the whole timeout."""
        self._over = trouble
        waiting = self._client.ctx.response_future
        if self._request is not None and not waiting.done():
            waiting.set_exception(trouble)
        self._on_trouble(self, trouble)
