"""One connection to an endpoint, from opening to its loss; the only module that knows pymodbus' transport.

pymodbus opens and closes the connection, encodes and frames the requests, and carries the bytes both ways; its own way
from request to answer costs twice as much. Every byte passes the checks of `drivers.mbap` or `drivers.rtu`, and a wire
that was opened to read lets no request out that could write.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import termios
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Literal

from pymodbus.framer import FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU, ModbusPDU
from pymodbus.pdu.register_message import (
    ReadHoldingRegistersRequest,
    ReadInputRegistersRequest,
    WriteMultipleRegistersRequest,
    WriteSingleRegisterRequest,
)
from pymodbus.transport import CommParams, CommType, ModbusProtocol

from drivers import mbap, rtu
from drivers.endpoint import Endpoint, SerialEndpoint, TlsEndpoint, has_transactions
from drivers.request import READ_HOLDING, READS, WRITE_SINGLE, Answer, Checked, Request, answer_of

MAX_BUFFERED_BYTES = 8192
"""Above the limit of `drivers.request`, so that it sees every byte; pymodbus by itself drops what exceeds 516."""
LAST_TRANSACTION = 65000
"""Transaction ids count from 1 to this."""
READ_PDUS_KEPT = 1024
"""Encoded reads: a site asks for the same few again and again."""

DECODER = DecodePDU(is_server=False)
"""What the framers ask for; nothing is decoded by it."""
MBAP_FRAMER, RTU_FRAMER = FramerSocket(DECODER), FramerRTU(DECODER)

# Every failure leaves the link as a typed error and a counter; the library's own lines would repeat it
# at each poll of a dead device. Lower the level to debug the library.
logging.getLogger("pymodbus").setLevel(logging.CRITICAL)

Direction = Literal["sent", "received"]


class LostError(Exception):
    """The peer ended the connection, or the port is gone."""


class FaultyError(Exception):
    """The peer sent what cannot be an answer."""


class SilentError(Exception):
    """No answer came in time."""


class Line(ModbusProtocol):
    """The bytes of one connection: `heard` gets all that are held and says how many it is done with."""

    def __init__(self, endpoint: Endpoint, heard: Callable[[bytes], int], changed: Callable[[bool], None]) -> None:
        super().__init__(_comm_params(endpoint), is_server=False)
        self.max_buffer_size = MAX_BUFFERED_BYTES
        self._heard = heard
        self._changed = changed

    def callback_data(self, data: bytes, addr: tuple[str, int] | None = None) -> int:  # noqa: ARG002
        """The number of bytes that need not be held."""
        return self._heard(data)

    def callback_connected(self) -> None:
        """It can be used from now on."""
        self._changed(True)

    def callback_disconnected(self, exc: Exception | None) -> None:  # noqa: ARG002
        """It is lost."""
        self._changed(False)

    def callback_new_connection(self) -> ModbusProtocol:
        """Never called: nobody connects to us."""
        raise AssertionError("this side listens to nobody")


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
        self.echoes = False
        """Whether our own requests are heard back, as the last read showed; always False with transaction ids."""
        self._late = 0
        self._held = 0
        self._sent = b""
        self._endpoint = endpoint
        self._tls = tls
        self._on_trouble = on_trouble
        self._show = show
        self._owed = owed
        self._transactions = has_transactions(endpoint)
        self._framer = MBAP_FRAMER if self._transactions else RTU_FRAMER
        self._transaction_id = 0
        self._request: Request | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._over: Exception | None = None
        self._made = asyncio.Event()
        self._opened: asyncio.BaseTransport | None = None
        self._line = Line(endpoint, self._heard, self._on_connection)

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
        line, endpoint = self._line, self._endpoint
        if isinstance(endpoint, TlsEndpoint):
            assert self._tls is not None
            transport, _ = await asyncio.get_running_loop().create_connection(
                line.handle_new_connection,
                endpoint.host,
                endpoint.port,
                ssl=self._tls,
                server_hostname=endpoint.server_name,
            )
            return transport
        transport, _ = await line.call_create()
        assert isinstance(transport, asyncio.BaseTransport)
        return transport

    async def read(self, request: Request, within_s: float) -> Answer:
        """The checked answer to `request`, perhaps a Modbus exception; without one `SilentError`."""
        assert request.function in READS
        return await self._exchange(request, within_s, _read_pdu(request.function, request.address, request.count))

    async def _exchange(self, request: Request, within_s: float, pdu: bytes) -> Answer:
        if self._over is not None:
            raise LostError(str(self._over))
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[Answer] = loop.create_future()
        self._request, self._waiting = request, waiting
        self._held = 0
        self._transaction_id = self._transaction_id % LAST_TRANSACTION + 1
        silent = loop.call_later(within_s, self._fail, SilentError())
        try:
            self._send(self._framer.encode(pdu, request.unit_id, self._transaction_id))
            return await waiting
        finally:
            silent.cancel()
            self._request = self._waiting = None

    def _send(self, frame: bytes) -> None:
        """The gate through which every frame leaves."""
        function = frame[mbap.HEADER_BYTES + 1] if self._transactions else frame[1]
        if not self.may_write and function not in READS:  # in words of its own: also without assertions
            raise AssertionError("a read-only wire was asked to write")
        self._show("sent", frame)
        self._sent = frame
        self._line.send(frame)

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
        transport = self._line.transport or self._opened
        if isinstance(transport, asyncio.WriteTransport):
            if self._made.is_set():
                transport.abort()
            else:  # a serial port whose reader is still to be set up: closed right after that
                asyncio.get_running_loop().call_soon(transport.abort)
        self._line.close()

    def _heard(self, data: bytes) -> int:
        """How many bytes of `data`, all that are held, are done with."""
        if self._over is not None:
            return len(data)
        self._show("received", data[self._held :])
        self._held = len(data)
        verdict = self._checked(data)
        if verdict.fault:
            self._fault(verdict.fault)
            return 0
        self._late += verdict.late
        self.open_bytes = verdict.open_bytes
        if self._waiting is not None and verdict.answer and not self._waiting.done():
            assert self._request is not None
            self._waiting.set_result(answer_of(verdict.answer, self._request))
        # On a line without transaction ids, where an answer begins is known only once it is whole.
        done = len(data) - verdict.open_bytes if self._transactions or verdict.answer else 0
        self._held -= done
        return done

    def _checked(self, data: bytes) -> Checked:
        if self._transactions:
            return mbap.check(data, self._request, self._transaction_id)
        if self._request is None:
            return rtu.check(data, None)
        own = rtu.echo_bytes(data, self._sent, echoes=self.echoes)
        verdict = rtu.check(data[own:], self._request, self._owed())
        if self._request.function in READS:
            self.echoes = own == len(self._sent) or (self.echoes and not verdict.answer)
        return verdict

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
        if self._transactions or self._request is None:
            self._end(trouble)
            return
        self._fail(trouble)
        self._on_trouble(self, trouble)

    def _end(self, trouble: Exception) -> None:
        self._over = trouble
        self._fail(trouble)
        self._on_trouble(self, trouble)

    def _fail(self, trouble: Exception) -> None:
        """Fail the request in flight, now."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(trouble)


class WritingWire(Wire):
    """One connection that can also write."""

    may_write = True

    async def write(self, request: Request, values: Sequence[int], within_s: float) -> Answer:
        """The checked answer to `request` with these values, sent once; otherwise as `read`."""
        assert request.function not in READS
        kind = WriteSingleRegisterRequest if request.function == WRITE_SINGLE else WriteMultipleRegistersRequest
        return await self._exchange(request, within_s, _encoded(kind(address=request.address, registers=list(values))))


@lru_cache(maxsize=READ_PDUS_KEPT)
def _read_pdu(function: int, address: int, count: int) -> bytes:
    kind = ReadHoldingRegistersRequest if function == READ_HOLDING else ReadInputRegistersRequest
    return _encoded(kind(address=address, count=count))


def _encoded(pdu: ModbusPDU) -> bytes:
    return bytes([pdu.function_code]) + pdu.encode()


def _comm_params(endpoint: Endpoint) -> CommParams:
    if isinstance(endpoint, SerialEndpoint):
        return CommParams(
            comm_type=CommType.SERIAL,
            host=endpoint.device,
            baudrate=endpoint.baud,
            bytesize=8,
            parity=endpoint.parity,
            stopbits=endpoint.stop_bits,
        )
    # pymodbus' own TLS client leaves out the MBAP header, which Modbus/TCP Security keeps.
    return CommParams(comm_type=CommType.TCP, host=endpoint.host, port=endpoint.port)
