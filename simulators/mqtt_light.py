"""A light MQTT 5 client for asyncio, QoS 0 and 1: some thousand of them fit into one process.

Packets by the standard (OASIS, MQTT Version 5.0, chapter 3); numbers in comments are its sections.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

MAX_PACKET_BYTES = 2 * 1024 * 1024
RECEIVE_MAXIMUM = 16
"""As the agent asks for."""
WINDOW = 65_535
"""Unacknowledged messages to a broker that names no limit (3.2.2.3.3)."""
MOST_WAITING = 100_000
_RECEIVE_MAXIMUM = 0x21
# Of each property of a CONNACK (2.2.2.2): how many bytes; -1 = a text, -2 = two texts.
_PROPERTY_BYTES = {
    0x11: 4, 0x12: -1, 0x13: 2, 0x15: -1, 0x16: -1, 0x1A: -1, 0x1C: -1, 0x1F: -1, 0x21: 2, 0x22: 2, 0x24: 1, 0x25: 1,
    0x26: -2, 0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Hello:
    """What a client says when it connects."""

    client_id: str
    keepalive_s: int = 30
    session_expiry_s: int = 86_400
    will: tuple[str, bytes] | None = None
    user: str | None = None
    password: str | None = None
    receive_maximum: int = RECEIVE_MAXIMUM


class LightClient(asyncio.Protocol):
    """One connection. All callbacks come on the event loop; what waits is bounded."""

    def __init__(self, hello: Hello) -> None:
        """Give it to `loop.create_connection` as the protocol."""
        self._hello = hello
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._mid = 0
        self._window = WINDOW
        self._in_flight: dict[int, Any] = {}
        self._waiting: deque[tuple[str, bytes, bool, Any]] = deque(maxlen=MOST_WAITING)
        self._pinging: asyncio.TimerHandle | None = None
        self.bytes_out = self.bytes_in = 0
        self.up = False
        """The broker has accepted us."""
        self.on_up: Callable[[int], None] = lambda _reason: None
        """The broker's answer: 0 is good."""
        self.on_message: Callable[[str, bytes], None] = lambda _topic, _payload: None
        self.on_taken: Callable[[Any], None] = lambda _tag: None
        """The broker has a message of QoS 1; by the tag it was published with."""
        self.on_subscribed: Callable[[], None] = lambda: None
        self.on_down: Callable[[], None] = lambda: None

    # What we say

    def subscribe(self, topics: Sequence[str]) -> None:
        """QoS 1; `on_subscribed` follows."""
        filters = b"".join(_text(topic) + b"\x01" for topic in topics)
        self._send(0x82, struct.pack("!H", self._next_mid()) + b"\x00" + filters)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, tag: Any = None) -> None:
        """QoS 1; waits where the broker's window is full."""
        if len(self._in_flight) >= self._window:
            self._waiting.append((topic, payload, retain, tag))
            return
        mid = self._next_mid()
        self._in_flight[mid] = tag
        self._send(0x32 | retain, _text(topic) + struct.pack("!HB", mid, 0) + payload)

    def abort(self) -> None:
        """The line is cut: no goodbye, what is on its way is lost."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """A goodbye without the will."""
        if self._transport is not None and not self._transport.is_closing():
            self._send(0xE0, b"")
            self._transport.close()

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP, or TLS, is there: CONNECT (3.1)."""
        assert isinstance(transport, asyncio.Transport), "a stream"
        self._transport = transport
        hello = self._hello
        flags = 0x2C if hello.will else 0  # will, QoS 1, retained; never a clean start
        properties = struct.pack(
            "!BIBHBI", 0x11, hello.session_expiry_s, 0x21, hello.receive_maximum, 0x27, MAX_PACKET_BYTES
        )
        payload = _text(hello.client_id)
        if hello.will:
            payload += b"\x00" + _text(hello.will[0]) + struct.pack("!H", len(hello.will[1])) + hello.will[1]
        for flag, text in ((0x80, hello.user), (0x40, hello.password)):
            if text is not None:
                flags |= flag
                payload += _text(text)
        head = _text("MQTT") + struct.pack("!BBH", 5, flags, hello.keepalive_s)
        self._send(0x10, head + _varint(len(properties)) + properties + payload)
        self._ping_later()

    def data_received(self, data: bytes) -> None:
        """Whole packets are taken out of the stream."""
        self.bytes_in += len(data)
        self._buffer += data
        while (packet := self._next_packet()) is not None:
            self._take(*packet)

    def connection_lost(self, _why: Exception | None) -> None:
        """Gone, by us or by the other side."""
        self.up = False
        if self._pinging is not None:
            self._pinging.cancel()
        self.on_down()

    def _next_packet(self) -> tuple[int, bytes] | None:
        length, shift, place = 0, 0, 1
        while True:
            if place >= len(self._buffer):
                return None
            byte = self._buffer[place]
            length |= (byte & 0x7F) << shift
            place, shift = place + 1, shift + 7
            if not byte & 0x80:
                break
            if shift > 21:
                self._broken()
                return None
        if length > MAX_PACKET_BYTES:
            self._broken()
            return None
        if len(self._buffer) < place + length:
            return None
        packet = self._buffer[0], bytes(self._buffer[place : place + length])
        del self._buffer[: place + length]
        return packet

    def _broken(self) -> None:
        """What comes is no MQTT: nothing of it can be understood any more."""
        self._buffer.clear()
        self.abort()

    def _take(self, head: int, body: bytes) -> None:
        match head >> 4:
            case 0x2:  # CONNACK (3.2)
                reason = body[1] if len(body) > 1 else 0x80
                self.up = reason == 0
                self._window = _receive_maximum(body[2:]) or WINDOW
                self.on_up(reason)
            case 0x3:  # PUBLISH (3.3)
                self._take_message(head, body)
            case 0x4:  # PUBACK (3.4)
                if len(body) >= 2:
                    self._taken(struct.unpack_from("!H", body)[0])
            case 0x9:  # SUBACK (3.9)
                self.on_subscribed()
            case 0xE:  # DISCONNECT (3.14)
                self.abort()

    def _take_message(self, head: int, body: bytes) -> None:
        (size,) = struct.unpack_from("!H", body)
        topic, place = body[2 : 2 + size].decode(), 2 + size
        if head & 0x06:
            mid = body[place : place + 2]
            place += 2
            self._send(0x40, mid)
        length, used = _read_varint(body, place)
        self.on_message(topic, body[place + used + length :])

    def _taken(self, mid: int) -> None:
        if mid not in self._in_flight:
            return
        tag = self._in_flight.pop(mid)
        if self._waiting:
            topic, payload, retain, next_tag = self._waiting.popleft()
            self.publish(topic, payload, retain=retain, tag=next_tag)
        self.on_taken(tag)

    def _next_mid(self) -> int:
        while True:
            self._mid = self._mid % 65_535 + 1
            if self._mid not in self._in_flight:
                return self._mid

    def _send(self, head: int, body: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        packet = bytes((head,)) + _varint(len(body)) + body
        self.bytes_out += len(packet)
        self._transport.write(packet)

    def _ping_later(self) -> None:
        def ping() -> None:
            self._send(0xC0, b"")
            self._ping_later()

        self._pinging = asyncio.get_running_loop().call_later(self._hello.keepalive_s * 0.8, ping)


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("!H", len(raw)) + raw


def _varint(number: int) -> bytes:
    """Variable byte integer (1.5.5)."""
    found = bytearray()
    while True:
        number, low = divmod(number, 128)
        found.append(low | (0x80 if number else 0))
        if not number:
            return bytes(found)


def _read_varint(raw: bytes, place: int) -> tuple[int, int]:
    """The number at `place`, and how many bytes it takes."""
    number = used = 0
    while True:
        byte = raw[place + used]
        number |= (byte & 0x7F) << 7 * used
        used += 1
        if not byte & 0x80:
            return number, used


def _receive_maximum(raw: bytes) -> int | None:
    """How many unacknowledged messages the broker takes, of the properties of its CONNACK."""
    if not raw:
        return None
    length, place = _read_varint(raw, 0)
    end = place + length
    while place < end:
        name, place = raw[place], place + 1
        if name == _RECEIVE_MAXIMUM:
            return int(struct.unpack_from("!H", raw, place)[0])
        size = _PROPERTY_BYTES.get(name)
        if size is None:
            return None
        for _ in range(-size):
            place += 2 + int(struct.unpack_from("!H", raw, place)[0])
        place += max(0, size)
    return None
