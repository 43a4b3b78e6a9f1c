"""One connection to an endpoint, from opening to its loss; the only module that knows pymodbus' client.

pymodbus encodes, sends, and decodes. Every byte passes the checks of `drivers.mbap` or `drivers.rtu` first, in both
directions: a wire that was opened to read lets no request out that could write.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import termios
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Literal

from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.framer import FramerType
from pymodbus.pdu import ModbusPDU

from drivers import mbap, rtu
from drivers.endpoint import Endpoint, RtuTcpEndpoint, SerialEndpoint, TlsEndpoint, has_transactions
from drivers.request import READ_HOLDING, READS, WRITE_SINGLE, Checked, Request

MAX_BUFFERED_BYTES = 8192
"""Above the limit of `drivers.request`, so that it sees every byte; pymodbus by itself drops what exceeds 264."""
LINK_DECIDES = 2**31
"""Silences until pymodbus by itself takes the connection for half-open: never, the link knows which unit was asked."""
NO_TRANSACTION = 65535
"""pymodbus counts transactions from 1 to 65000: this one never matches, so that it skips what comes late."""

# Every failure leaves the link as a typed error and a counter; the library's own lines would repeat it
# at each poll of a dead device. Lower the level to debug the library.
logging.getLogger("pymodbus").setLevel(logging.CRITICAL)

Direction = Literal["sent", "received"]


class LostError(Exception):
    """The peer ended the connection, or the port is gone."""


class FaultyError(Exception):
    """The peer sent what cannot be an answer."""


class Wire:
    """One connection that can only read; never used again after `drop`.

    `on_trouble` is called as soon as it is lost, or brings what is not an answer; `show` with every byte.
    """

    may_write = False

    def __init__(
        self,
        endpoint: Endpoint,
        tls: ssl.SSLContext | None,
        on_trouble: Callable[[Wire, Exception], None],
        show: Callable[[Direction, bytes], None],
        owed: Callable[[], Iterable[Request]],
    ) -> None:
        self.open_bytes = 0
        """Bytes held of a frame that has not arrived whole."""
        self._late = 0
        self._held = 0
        self._endpoint = endpoint
        self._tls = tls
        self._on_trouble = on_trouble
        self._show = show
        self._owed = owed
        self._request: Request | None = None
        self._over: Exception | None = None
        self._made = asyncio.Event()
        self._opened: asyncio.BaseTransport | None = None
        self._client = self._made_client(endpoint)
        self._client.ctx.max_buffer_size = MAX_BUFFERED_BYTES
        self._client.ctx.max_until_disconnect = LINK_DECIDES

    def _made_client(self, endpoint: Endpoint) -> AsyncModbusTcpClient | AsyncModbusSerialClient:
        if isinstance(endpoint, SerialEndpoint):
            return AsyncModbusSerialClient(
                endpoint.device,
                baudrate=endpoint.baud,
                parity=endpoint.parity,
                stopbits=endpoint.stop_bits,
                retries=0,
                reconnect_delay=0,
                trace_packet=self._on_packet,
                trace_connect=self._on_connection,
            )
        # pymodbus' own TLS client leaves out the MBAP header, which Modbus/TCP Security keeps.
        return AsyncModbusTcpClient(
            endpoint.host,
            port=endpoint.port,
            framer=FramerType.RTU if isinstance(endpoint, RtuTcpEndpoint) else FramerType.SOCKET,
            retries=0,
            reconnect_delay=0,
            trace_packet=self._on_packet,
            trace_connect=self._on_connection,
        )

    async def connect(self, within_s: float) -> None:
        """Open the connection; `OSError` says why not (pymodbus' own connect would only say no)."""
        try:
            async with asyncio.timeout(within_s):
                self._opened = await self._open()
                # A serial port is opened at once, but its reader only when the loop comes round.
                await self._made.wait()
        except termios.error as error:  # the port does not know these settings; it is no OSError
            self.drop()
            raise OSError(*error.args) from error
        except BaseException:
            self.drop()
            raise
        if self._over is not None:
            raise ConnectionResetError(str(self._over))

    async def _open(self) -> asyncio.BaseTransport:
        ctx, endpoint = self._client.ctx, self._endpoint
        if isinstance(endpoint, TlsEndpoint):
            assert self._tls is not None
            transport, _ = await asyncio.get_running_loop().create_connection(
                ctx.handle_new_connection,
                endpoint.host,
                endpoint.port,
                ssl=self._tls,
                server_hostname=endpoint.server_name,
            )
            return transport
        transport, _ = await ctx.call_create()
        assert isinstance(transport, asyncio.BaseTransport)
        return transport

    async def read(self, request: Request, within_s: float) -> ModbusPDU:
        """The checked answer to `request`, perhaps a Modbus exception; without one pymodbus' `ModbusIOException`."""
        assert request.function in READS
        client, at, count, unit_id = self._client, request.address, request.count, request.unit_id
        if request.function == READ_HOLDING:
            return await self._exchange(
                request, within_s, client.read_holding_registers(at, count=count, device_id=unit_id)
            )
        return await self._exchange(request, within_s, client.read_input_registers(at, count=count, device_id=unit_id))

    async def _exchange(self, request: Request, within_s: float, answer: Awaitable[ModbusPDU]) -> ModbusPDU:
        self._request = request
        self._held = self.open_bytes = 0
        self._client.ctx.comm_params.timeout_connect = within_s
        try:
            reply = await answer
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # pymodbus waits by `wait_for`, which on Python 3.11 loses a cancellation that comes with the answer.
                raise asyncio.CancelledError
            return reply
        finally:
            self._request = None
            self._client.ctx.request_transaction_id = NO_TRANSACTION

    @property
    def over(self) -> bool:
        """Whether it is lost: not to be used again."""
        return self._over is not None

    def take_late(self) -> int:
        """The number of late answers skipped since the last call."""
        late, self._late = self._late, 0
        return late

    def drop(self) -> None:
        """Close the connection at once; what is still to be sent or received is lost."""
        self._over = self._over or LostError("the connection was closed on this side")
        transport = self._client.ctx.transport or self._opened
        if isinstance(transport, asyncio.WriteTransport):
            if self._made.is_set():
                transport.abort()
            else:  # a serial port whose reader is still to be set up: closed right after that
                asyncio.get_running_loop().call_soon(transport.abort)
        self._client.close()

    def _on_packet(self, sending: bool, data: bytes) -> bytes:
        """What may leave or reach pymodbus of `data`: all of it, or nothing once something in it is wrong."""
        if sending:
            function = data[7] if has_transactions(self._endpoint) else data[1]
            if not self.may_write and function not in READS:  # in words of its own: also without assertions
                raise AssertionError("a read-only wire was asked to write")
            self._show("sent", data)
            return data
        self._show("received", data[self._held :])
        self._held = len(data)
        if self._over is not None:
            return b""
        verdict = self._checked(data)
        if verdict.fault:
            self._fault(verdict.fault)
            return b""
        self._late += verdict.late
        self.open_bytes = verdict.open_bytes
        if has_transactions(self._endpoint):
            self._held = verdict.open_bytes
            return data
        if verdict.open_bytes:
            return b""
        answer = data[verdict.late_bytes :]
        self._held = verdict.late_bytes
        return answer

    def _checked(self, data: bytes) -> Checked:
        if has_transactions(self._endpoint):
            return mbap.check(data, self._request, self._client.ctx.next_tid)
        return rtu.check(data, self._request, self._owed())

    def _on_connection(self, connected: bool) -> None:
        self._made.set()
        if not connected and self._over is None:
            gone = (
                "the port is gone" if isinstance(self._endpoint, SerialEndpoint) else "the device closed the connection"
            )
            self._end(LostError(gone))

    def _fault(self, fault: str) -> None:
        """A wrong frame costs a TCP connection; on a serial line only the request, and the line then falls silent."""
        trouble = FaultyError(fault)
        if has_transactions(self._endpoint) or self._request is None:
            self._end(trouble)
            return
        self._fail(trouble)
        self._on_trouble(self, trouble)

    def _end(self, trouble: Exception) -> None:
        self._over = trouble
        self._fail(trouble)
        self._on_trouble(self, trouble)

    def _fail(self, trouble: Exception) -> None:
        """Fail the request in flight now: pymodbus by itself would wait for the whole timeout."""
        waiting = self._client.ctx.response_future
        if self._request is not None and not waiting.done():
            waiting.set_exception(trouble)


class WritingWire(Wire):
    """One connection that can also write."""

    may_write = True

    async def write(self, request: Request, values: Sequence[int], within_s: float) -> ModbusPDU:
        """The checked answer to `request` with these values, sent once; otherwise as `read`."""
        assert request.function not in READS
        client, at, unit_id = self._client, request.address, request.unit_id
        if request.function == WRITE_SINGLE:
            return await self._exchange(request, within_s, client.write_register(at, values[0], device_id=unit_id))
        return await self._exchange(request, within_s, client.write_registers(at, list(values), device_id=unit_id))
