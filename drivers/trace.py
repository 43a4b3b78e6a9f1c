"""Modbus frames as they went over a link, decoded for people: what was asked of whom, and what came back.

Bytes come as they were sent or received, a received frame perhaps in parts. What cannot be a frame is shown as it
came. An answer does not say what it answers: that is known from the request before it (on TCP by its transaction id).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from pymodbus.framer.rtu import FramerRTU

from drivers.errors import EXCEPTION_MEANINGS
from drivers.mbap import HEADER_BYTES, MAX_LENGTH, MIN_LENGTH
from drivers.request import READ_HOLDING, READ_INPUT, READS, WRITE_MULTIPLE, WRITE_SINGLE

Direction = Literal["sent", "received"]
NAMES: Final = {
    READ_HOLDING: "read holding", READ_INPUT: "read input", WRITE_SINGLE: "write", WRITE_MULTIPLE: "write several",
}  # fmt: skip
CRC_BYTES = 2
EXCEPTION_BIT = 0x80
REMEMBERED = 32
"""Requests whose answers may still come."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. What it does not tell, and no request before it told, is None."""

    direction: Direction
    mono_s: float
    """When its last byte was sent, or had come."""
    data: bytes
    """All of it, as on the line."""
    unit_id: int | None = None
    function: int | None = None
    address: int | None = None
    count: int | None = None
    registers: tuple[int, ...] | None = None
    """That are read or written here."""
    exception: int | None = None
    fault: str = ""
    """Why this is no frame; "" when it is one."""
    echo: bool = False
    """The request itself, given back by the line."""

    @property
    def words(self) -> str:
        """What it asks for or answers, without the values."""
        if self.fault:
            return f"not a frame: {self.fault}"
        if self.echo:
            return "our own request heard back (local echo)"
        name = NAMES.get(self.function or 0, f"function {self.function}")
        where = "" if self.address is None else f" {self.address}"
        many = f"+{self.count}" if self.count not in (None, 1) else ""
        if self.exception is None:
            return f"{name}{where}{many}"
        meaning, _ = EXCEPTION_MEANINGS.get(self.exception, ("not a standard code", ""))
        return f"EXCEPTION {self.exception} ({meaning}) to {name}{where}{many}"


class FrameReader:
    """Makes frames of bytes; `rtu` says that they come as on a serial line."""

    def __init__(self, *, rtu: bool) -> None:
        self._rtu = rtu
        self._held = b""
        self._held_mono_s = 0.0
        self._asked: OrderedDict[int, Frame] = OrderedDict()
        """Requests by transaction id; on a serial line only the last one, as number 0."""

    def feed(self, direction: Direction, data: bytes, mono_s: float) -> list[Frame]:
        """The frames that are whole now."""
        if direction == "sent":
            broken = self._broken("the rest of it never came") if self._held else []
            return [*broken, self._sent(data, mono_s)]
        self._held += data
        self._held_mono_s = mono_s
        frames: list[Frame] = []
        while self._held:
            length = self._length()
            if length is None:
                break
            if length == 0:
                return frames + self._broken("its length cannot be")
            whole, self._held = self._held[:length], self._held[length:]
            frames.append(self._received(whole, mono_s))
        return frames

    def _broken(self, why: str) -> list[Frame]:
        held, self._held = self._held, b""
        return [Frame("received", self._held_mono_s, held, fault=why)]

    def _length(self) -> int | None:
        """Bytes of the frame that has begun, None while that or its end is not here, 0 when it is none."""
        held = self._held
        if self._rtu:
            length = len(self._requested()) if self._echoed(held) else _rtu_length(held)
        elif len(held) < HEADER_BYTES:
            return None
        else:
            says = int.from_bytes(held[4:6], "big")
            length = HEADER_BYTES + says if MIN_LENGTH <= says <= MAX_LENGTH and not any(held[2:4]) else 0
        return None if length is not None and length > len(held) else length

    def _requested(self) -> bytes:
        """The last request on a serial line, where an echo of it cannot be taken for its answer."""
        asked = self._asked.get(0)
        return asked.data if asked is not None and asked.function != WRITE_SINGLE else b""

    def _echoed(self, held: bytes) -> bool:
        """Whether what has come begins with that request, or is a beginning of it."""
        requested = self._requested()
        length = min(len(held), len(requested))
        return length > 0 and held[:length] == requested[:length]

    def _sent(self, data: bytes, mono_s: float) -> Frame:
        number, body = self._unwrapped(data)
        frame = _request(Frame("sent", mono_s, data), body)
        self._asked[number] = frame
        while len(self._asked) > REMEMBERED:
            self._asked.popitem(last=False)
        return frame

    def _received(self, data: bytes, mono_s: float) -> Frame:
        number, body = self._unwrapped(data)
        frame = Frame("received", mono_s, data, unit_id=body[0], function=body[1] & ~EXCEPTION_BIT)
        if self._rtu and data == self._requested():
            return replace(frame, echo=True)
        if self._rtu and not _crc_holds(data):
            return replace(frame, fault="its checksum is wrong")
        asked = self._asked.get(number)
        if asked is not None and (asked.unit_id, asked.function) == (frame.unit_id, frame.function):
            frame = replace(frame, address=asked.address, count=asked.count)
        return _answer(frame, body)

    def _unwrapped(self, data: bytes) -> tuple[int, bytes]:
        """Transaction number, and the bytes from the unit id to the end of the data."""
        if self._rtu:
            return 0, data[:-CRC_BYTES]
        return int.from_bytes(data[0:2], "big"), data[HEADER_BYTES:]


def _request(frame: Frame, body: bytes) -> Frame:
    if len(body) < 6:
        return replace(frame, fault="too short for a request")
    function, address, second = body[1], int.from_bytes(body[2:4], "big"), int.from_bytes(body[4:6], "big")
    frame = replace(frame, unit_id=body[0], function=function, address=address, count=second)
    if function == WRITE_SINGLE:
        return replace(frame, count=1, registers=(second,))
    if function == WRITE_MULTIPLE:
        return replace(frame, registers=_words(body[7:]))
    return frame


def _answer(frame: Frame, body: bytes) -> Frame:
    if body[1] & EXCEPTION_BIT:
        return replace(frame, exception=body[2])
    if frame.function in READS:
        return replace(frame, registers=_words(body[3:]))
    if frame.function in (WRITE_SINGLE, WRITE_MULTIPLE) and len(body) >= 6:
        second = int.from_bytes(body[4:6], "big")
        count = 1 if frame.function == WRITE_SINGLE else second
        registers = (second,) if frame.function == WRITE_SINGLE else None
        return replace(frame, address=int.from_bytes(body[2:4], "big"), count=count, registers=registers)
    return frame


def _words(data: Sequence[int]) -> tuple[int, ...]:
    pairs = bytes(data)
    return tuple(int.from_bytes(pairs[at : at + 2], "big") for at in range(0, len(pairs) - 1, 2))


def _rtu_length(held: bytes) -> int | None:
    """How long an answer on a serial line is by its own bytes; None while they do not tell, 0 for no answer."""
    if len(held) < 3:
        return None
    function = held[1]
    if function & EXCEPTION_BIT:
        return 3 + CRC_BYTES
    if function in READS:
        return 3 + held[2] + CRC_BYTES
    return 6 + CRC_BYTES if function in (WRITE_SINGLE, WRITE_MULTIPLE) else 0


def _crc_holds(data: bytes) -> bool:
    due = FramerRTU.compute_CRC(data[:-CRC_BYTES]).to_bytes(CRC_BYTES, "big")
    return data[-CRC_BYTES:] == due
