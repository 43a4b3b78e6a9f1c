"""One Modbus request as far as its answer must agree with it, whatever the framing.

pymodbus takes as answers some that are none: another function code, too few registers, a wrong echo. So it sees no
answer: frames are checked against this (`drivers.mbap`, `drivers.rtu`) and read here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import NamedTuple

READ_HOLDING = 3
READ_INPUT = 4
WRITE_SINGLE = 6
WRITE_MULTIPLE = 16
READS = frozenset((READ_HOLDING, READ_INPUT))
EXCEPTION_BYTES = 3
"""Unit id, function code with its top bit set, exception code."""
MAX_BUFFERED_BYTES = 4096
"""More than a dozen frames while one answer is due is a flood, not an answer."""


@dataclass(frozen=True, slots=True)
class Request:
    """What was sent, as far as the answer must agree with it."""

    unit_id: int
    function: int
    address: int
    count: int
    value: int = 0
    """What was written by function 6."""

    @property
    def echo(self) -> bytes:
        """What the answer to a write repeats: the address, and the value (6) or the count (16)."""
        said = self.value if self.function == WRITE_SINGLE else self.count
        return self.address.to_bytes(2, "big") + said.to_bytes(2, "big")

    @property
    def answer_bytes(self) -> int:
        """Unit id and PDU of the answer, if it is no exception."""
        return 3 + 2 * self.count if self.function in READS else 2 + len(self.echo)

    @property
    def request_bytes(self) -> int:
        """Unit id and PDU of the request."""
        return 7 + 2 * self.count if self.function == WRITE_MULTIPLE else 6


@dataclass(frozen=True, slots=True)
class Checked:
    """The verdict on all bytes held: `fault` is empty when they may be decoded."""

    fault: str
    late: int = 0
    """Complete answers to earlier requests, which are to be skipped."""
    open_bytes: int = 0
    """Bytes of a frame that has not arrived whole."""
    answer: bytes = field(default=b"", compare=False)
    """Unit id and PDU of the answer to the request in flight; empty until it is whole."""


class Answer(NamedTuple):
    """What a checked answer says."""

    registers: tuple[int, ...] = ()
    refusal: int | None = None
    """The code of a Modbus exception; None = done as asked."""


def answer_of(answer: bytes, request: Request) -> Answer:
    """What `answer`, unit id and PDU as checked against `request`, says."""
    if answer[1] != request.function:
        return Answer(refusal=answer[2])
    return Answer(struct.unpack(f">{request.count}H", answer[3:])) if request.function in READS else Answer()


def answer_fault(frame: bytes, length: int, request: Request) -> str:
    """What is wrong with the answer, or "" if nothing so far; `frame` may still lack bytes of its `length`."""
    if len(frame) >= 1 and frame[0] != request.unit_id:
        return f"an answer of unit {frame[0]}"
    if len(frame) < 2:
        return ""
    if frame[1] == request.function | 0x80:
        return "" if length == EXCEPTION_BYTES else f"an exception of {length} bytes instead of {EXCEPTION_BYTES}"
    if frame[1] != request.function:
        return f"an answer to function {frame[1]} instead of {request.function}"
    if request.function in READS:
        bytes_due = 2 * request.count
        if length != 3 + bytes_due or frame[2:3] not in (b"", bytes([bytes_due])):
            got = frame[2] / 2 if len(frame) > 2 else (length - 3) / 2
            return f"an answer with {got:g} registers in {length} bytes instead of {request.count} registers"
        return ""
    echo = request.echo
    if length != 2 + len(echo) or not echo.startswith(frame[2:6]):
        return f"a write echo {frame[2:6].hex()} instead of {echo.hex()}"
    return ""
