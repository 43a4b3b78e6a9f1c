"""One line to the unit ids behind an endpoint: who goes first, how long to wait, and what an answer is worth.

One request is on the line at a time; waiting writes go before waiting reads. What carries the bytes is `drivers.wire`,
whether they are the answer `drivers.mbap` and `drivers.rtu`, how long a unit is waited for `drivers.patience`.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable, Sequence
from typing import TypeVar

from drivers.endpoint import DRAIN_S, Endpoint, RtuTcpEndpoint, SerialEndpoint, TlsEndpoint, has_transactions, parse_url
from drivers.errors import BadReply, DeviceError, LinkDown, LinkTimeout, ModbusRefused, ReadOnly, UnitResting
from drivers.link_facts import LinkStats, UnitFacts
from drivers.patience import Patience
from drivers.registers import ADDRESS_SPACE, MAX_READ_REGISTERS, MAX_WRITE_REGISTERS
from drivers.request import READ_HOLDING, READ_INPUT, READS, WRITE_MULTIPLE, WRITE_SINGLE, Answer, Request
from drivers.rtu import CRC_BYTES, Owed
from drivers.tls import TlsFiles, context_for
from drivers.turns import Turns
from drivers.wire import Direction, FaultyError, LostError, SilentError, Wire, WritingWire

FIRST_BACKOFF_S = 0.2
MAX_BACKOFF_S = 5.0
"""A half-open connection must be replaced within 5 s (fault matrix)."""
TIMEOUTS_BEFORE_DROP = 3
"""That many in a row and the connection counts as half-open (fault matrix)."""
GATEWAY_CODES = frozenset({10, 11})
"""Exceptions of a gateway whose unit does not answer."""
TLS_CONNECT_S = 5.0
"""A small device needs seconds for its part of a handshake; no request is waited for so long."""
MAX_NOISE_S = 1.0
"""A serial line that is not silent for its interval within this is not one to talk on."""

LEAVE_MODE = 'take mode = "read_only" out of [control] in the site file and restart the agent to let it write'
CHECK_CLIENTS = "check the device, and whether it allows this many clients"

_E = TypeVar("_E", bound=DeviceError)

OnFrame = Callable[[Direction, bytes, float], None]
"""Told the bytes that were sent or have just come (perhaps only a part of a frame), and when, monotonic s."""


class Link:
    """Registers of the unit ids behind one endpoint, one request at a time; errors are `DeviceError`s.

    Connects when first needed. After a failure of the connection nothing is tried before a back-off of 0.2 s, doubled
    up to 5 s by each further failure and reset by an answer; until then every request raises `LinkDown` at once. A
    unit that fails three times in a row rests (`drivers.patience`): reads of it raise `UnitResting` at once, one
    trial aside; writes always go out. `timeout_s` is the longest wait for an answer, `clock` the monotonic time in s.
    A link that is `read_only` opens wires that cannot write.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        timeout_s: float = 1.0,
        clock: Callable[[], float],
        tls: TlsFiles | None = None,
        read_only: bool = False,
    ) -> None:
        assert timeout_s > 0
        self.endpoint = endpoint
        self.name = str(endpoint)
        self.stats = LinkStats()
        self.read_only = read_only
        self.on_frame: OnFrame | None = None
        """Set while somebody wants to see the bytes; it must be quick and must not raise."""
        self._tls = context_for(tls) if isinstance(endpoint, TlsEndpoint) else None
        self._timeout_s = timeout_s
        self._clock = clock
        self._turns = Turns()
        self._wire: Wire | None = None
        self._down_why = ""
        self._backoff_s = FIRST_BACKOFF_S
        self._not_before_s = float("-inf")
        self._timeouts_in_a_row = 0
        self._answered_here: set[int] = set()
        self._closed = False
        self._between_s = 0.0
        self._after_connect_s = 0.0
        self._quiet_until_s = float("-inf")
        self._heard_s = float("-inf")
        self._silent_s = _silent_s(endpoint)
        self._units: dict[int, Patience] = {}
        self._owed: dict[int, Owed] = {}

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        timeout_s: float = 1.0,
        clock: Callable[[], float],
        tls: TlsFiles | None = None,
        read_only: bool = False,
    ) -> Link:
        """The link to the endpoint that `url` names; `BadEndpoint` says what is wrong with it."""
        return cls(parse_url(url), timeout_s=timeout_s, clock=clock, tls=tls, read_only=read_only)

    @property
    def generation(self) -> int:
        """The number of connections made so far: when it changes, another device may be at the other end."""
        return self.stats.connects

    @property
    def connected(self) -> bool:
        """Whether there is a connection now, as far as anybody can know."""
        return self._wire is not None

    def unit(self, unit_id: int) -> UnitFacts:
        """How this unit id does."""
        known = self._units.get(unit_id, Patience())
        return UnitFacts(
            known.word(),
            known.timeout_s(self._timeout_s),
            known.usual_s if known.samples else None,
            known.failures,
            max(0.0, known.retry_mono_s - self._clock()) if known.resting else None,
        )

    def retry_mono_s(self, unit_id: int) -> float:
        """Before this time reading this unit fails at once: there is no connection, or it rests."""
        down_until_s = self._not_before_s if self._wire is None else float("-inf")
        known = self._units.get(unit_id)
        return max(down_until_s, known.retry_mono_s if known is not None and known.resting else float("-inf"))

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
        await self._write(request, (value,), generation)

    async def write_registers(
        self, unit_id: int, address: int, values: Sequence[int], *, generation: int | None = None
    ) -> None:
        """Write `values` (at most 123) from `address` on in one frame, once, never again by itself.

        With `generation` given, only over that connection: `LinkDown` if another one took its place. `ReadOnly` on a
        link that is read-only.
        """
        assert 1 <= len(values) <= MAX_WRITE_REGISTERS
        assert all(0 <= value <= 0xFFFF for value in values)
        request = _checked_request(unit_id, WRITE_MULTIPLE, address, len(values))
        await self._write(request, values, generation)

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
        self._check_rest(request)
        await self._turns.take(urgent=False)
        try:
            self._check_rest(request)  # another request may have shown it meanwhile
            reply = await self._counted(request, None, None)
            return reply.registers
        finally:
            self._turns.give()

    async def _write(self, request: Request, values: Sequence[int], generation: int | None) -> None:
        if self.read_only:
            raise self._error(ReadOnly, "the agent is in its read-only mode: nothing was written", request, LEAVE_MODE)
        await self._turns.take(urgent=True)
        try:
            await self._counted(request, values, generation)
        finally:
            self._turns.give()

    async def _counted(self, request: Request, values: Sequence[int] | None, generation: int | None) -> Answer:
        try:
            self.stats.requests += 1
            return await self._answer(request, values, generation)
        except DeviceError:
            self.stats.failures += 1
            raise
        finally:
            self._quiet_until_s = max(self._quiet_until_s, self._clock() + self._between_s)

    async def _answer(self, request: Request, values: Sequence[int] | None, generation: int | None) -> Answer:
        await self._quiet(request)
        wire = await self._connected_wire(request)
        await self._quiet(request)
        if generation is not None and generation != self.generation:
            why = "the connection was replaced meanwhile, so nothing was written"
            raise self._error(LinkDown, why, request, "identify the device again")
        owed = self._owed.get(request.unit_id)
        if owed is not None and values is None and owed.ambiguous(request, self._clock()):
            other = owed.other_shape(request, self._clock())
            if other is None:
                self._unit_failed(request.unit_id, 0.0)
                raise self._error(
                    LinkTimeout, "an earlier answer may still come, and would look like this one", request, ""
                )
            await self._exchange(wire, other, None)
            await self._quiet(request)
        return await self._exchange(wire, request, values)

    async def _quiet(self, request: Request) -> None:
        """Return when the endpoint may be spoken to again."""
        began_s = self._clock()
        while True:
            now_s = self._clock()
            wait_s = max(self._quiet_until_s, self._heard_s + self._silent_s) - now_s
            if wait_s <= 0:
                return
            if now_s - began_s > MAX_NOISE_S and self._quiet_until_s <= now_s:
                why = "the line does not fall silent"
                raise self._error(
                    BadReply, why, request, "check for a second master, the termination and the baud rate"
                )
            await asyncio.sleep(wait_s)

    def _check_rest(self, request: Request) -> None:
        known = self._units.get(request.unit_id)
        if known is None or known.may_ask(self._clock()):
            return
        wait_s = max(0.0, known.retry_mono_s - self._clock())
        why = f"left alone after {known.failures} failures in a row"
        raise self._error(
            UnitResting, why, request, f"the next trial is in {wait_s:.1f} s; check power, cable and unit id"
        )

    async def _exchange(self, wire: Wire, request: Request, values: Sequence[int] | None) -> Answer:
        """The answer to one request on the line, and what it says about the unit."""
        unit_id = request.unit_id
        known = self._units.get(unit_id, Patience()).asked()
        self._units[unit_id] = known
        line_s = _line_s(self.endpoint, request)
        # A write may take its time, and is never asked again: it gets the longest wait.
        timeout_s = line_s + (known.timeout_s(self._timeout_s) if values is None else self._timeout_s)
        began_s = self._clock()
        try:
            reply = await self._reply(wire, request, values, timeout_s)
        except (LinkTimeout, BadReply):
            self._unit_failed(unit_id, self._clock() - began_s)
            raise
        except BaseException:
            self._units[unit_id] = self._units[unit_id].let_go()
            raise
        took_s = self._clock() - began_s
        self.stats.last_latency_s = took_s
        self._timeouts_in_a_row = 0
        self._answered_here.add(unit_id)
        self._backoff_s = FIRST_BACKOFF_S
        code = reply.refusal
        if code is None:
            self._units[unit_id] = known.answered(max(0.0, took_s - line_s))
            return reply
        self.stats.refusals += 1
        if code in GATEWAY_CODES:
            self._unit_failed(unit_id, took_s)
        else:
            self._units[unit_id] = known.answered(max(0.0, took_s - line_s))
        raise ModbusRefused(code, endpoint=self.name, unit_id=unit_id, address=request.address)

    def _unit_failed(self, unit_id: int, waited_s: float) -> None:
        shared = len(self._units) > 1
        self._units[unit_id] = self._units[unit_id].failed(self._clock(), waited_s, shared=shared)

    async def _reply(self, wire: Wire, request: Request, values: Sequence[int] | None, timeout_s: float) -> Answer:
        try:
            if values is None:
                reply = await wire.read(request, timeout_s)
            else:
                assert isinstance(wire, WritingWire)
                reply = await wire.write(request, values, timeout_s)
        except FaultyError as fault:
            closed = "the connection was closed; " if has_transactions(self.endpoint) else ""
            hint = f"{closed}check that nothing else answers at this address"
            self._owes(request)
            raise self._error(BadReply, f"not an answer: {fault}", request, hint) from fault
        except LostError as lost:
            self._drop(wire, str(lost))
            raise self._error(LinkDown, str(lost), request, CHECK_CLIENTS) from lost
        except SilentError as error:
            self._owes(request)
            raise self._timed_out(wire, request, timeout_s) from error
        except asyncio.CancelledError:
            self._owes(request)
            raise
        finally:
            self.stats.late_replies += wire.take_late()
            self.stats.local_echo = wire.echoes
        self._check_not_late(request, reply)
        return reply

    def _owes(self, request: Request) -> None:
        """An answer to `request` may still come; without transaction ids it would look like another one's."""
        if not has_transactions(self.endpoint):
            self._quiet_until_s = max(self._quiet_until_s, self._clock() + DRAIN_S)
            self._owed.setdefault(request.unit_id, Owed()).given_up(request, self._clock())

    def _check_not_late(self, request: Request, reply: Answer) -> None:
        """`LinkTimeout` if the reply, on a line without transaction ids, may be that to an earlier request."""
        owed = self._owed.get(request.unit_id)
        if owed is None:
            return
        if reply.refusal is not None and owed.refusal_may_be_late(request, self._clock()):
            owed.given_up(request, self._clock())
            raise self._error(LinkTimeout, "a refusal came that may belong to an earlier request", request, "")
        owed.answered()

    def _timed_out(self, wire: Wire, request: Request, timeout_s: float) -> LinkTimeout:
        self.stats.timeouts += 1
        # Where others answer, a unit that never did is dead by itself, and not the connection.
        self._timeouts_in_a_row += not self._answered_here or request.unit_id in self._answered_here
        if self._timeouts_in_a_row >= TIMEOUTS_BEFORE_DROP:
            self._drop(wire, f"no answer to {self._timeouts_in_a_row} requests in a row")
        hint = "check power, cable and unit id" if request.function in READS else "read back what it holds"
        return self._error(LinkTimeout, f"no answer within {timeout_s:.3g} s", request, hint)

    async def _connected_wire(self, request: Request) -> Wire:
        """The connection to use, made now if there is none and the back-off is over."""
        if self._wire is not None and self._wire.open_bytes and has_transactions(self.endpoint):
            # The end of a frame that nobody waits for any more would be taken for the head of the next one.
            self._drop(self._wire, "the rest of a late answer never came")
        if self._wire is not None:
            return self._wire
        wait_s = self._not_before_s - self._clock()
        if self._closed or wait_s > 0:
            await asyncio.sleep(0)  # a caller that asks again at once must not starve the others
            hint = "" if self._closed else f"the next attempt is allowed in {wait_s:.1f} s"
            raise self._error(LinkDown, f"not connected ({self._down_why})", request, hint)
        kind = Wire if self.read_only else WritingWire
        wire = kind(self.endpoint, self._tls, self._on_trouble, self._show, self._all_owed)
        try:
            await wire.connect(max(self._timeout_s, TLS_CONNECT_S) if self._tls else self._timeout_s)
        except (OSError, ValueError) as error:  # ValueError: no host can have such a name
            self._back_off(f"connecting failed: {_connect_fault(error)}")
            raise self._error(LinkDown, self._down_why, request, _connect_hint(self.endpoint)) from error
        if self._closed:
            wire.drop()
            raise self._error(LinkDown, self._down_why, request, "")
        self._wire = wire
        self._timeouts_in_a_row = 0
        self._answered_here.clear()
        self.stats.reconnects += self.stats.connects > 0
        self.stats.connects += 1
        self.stats.connected_mono_s = self._clock()
        self._quiet_until_s = self._clock() + self._after_connect_s
        return wire

    def _on_trouble(self, wire: Wire, trouble: Exception) -> None:
        """Called by the wire as soon as it is lost or brings something that is not an answer."""
        self.stats.bad_replies += isinstance(trouble, FaultyError)
        if wire.over:
            self._drop(wire, str(trouble))

    def _show(self, direction: Direction, data: bytes) -> None:
        self._heard_s = self._clock()
        if self.on_frame is not None:
            self.on_frame(direction, data, self._heard_s)

    def _all_owed(self) -> list[Request]:
        return [request for owed in self._owed.values() for request in owed.requests]

    def _drop(self, wire: Wire, why: str) -> None:
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


def _silent_s(endpoint: Endpoint) -> float:
    """The silence between frames on the line, s; the frames of Modbus TCP need none."""
    if isinstance(endpoint, SerialEndpoint):
        return endpoint.silent_s + endpoint.turnaround_s
    return endpoint.turnaround_s if isinstance(endpoint, RtuTcpEndpoint) else 0.0


def _line_s(endpoint: Endpoint, request: Request) -> float:
    """How long request and answer are on a serial line; a device cannot be quicker."""
    if not isinstance(endpoint, SerialEndpoint):
        return 0.0
    return endpoint.line_s(request.request_bytes + request.answer_bytes + 2 * CRC_BYTES) + endpoint.silent_s


def _connect_hint(endpoint: Endpoint) -> str:
    if isinstance(endpoint, SerialEndpoint):
        return "check that the adapter is plugged in, that no other program has the port, and its group (dialout)"
    if isinstance(endpoint, TlsEndpoint):
        return "check host and port, and the certificates on both sides: CA, name, dates"
    return "check that the device is on, cable, host and port, and its limit of clients"


def _connect_fault(error: OSError | ValueError) -> str:
    """The system's own words for why a connection was not made."""
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the device's certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__


def _checked_request(unit_id: int, function: int, address: int, count: int, value: int = 0) -> Request:
    assert 0 <= unit_id <= 255
    assert 0 <= address <= ADDRESS_SPACE - count
    return Request(unit_id, function, address, count, value)
