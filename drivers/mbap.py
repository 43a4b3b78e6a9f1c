"""Whether bytes from a Modbus TCP peer are the answer to the request in flight.

pymodbus takes as answers some frames that are none (another function code, too few registers, transaction
id 0, a wrong echo), raises inside its protocol callback on others, and drops long input unseen. Each frame
is therefore checked here before pymodbus decodes it. Frame: transaction id, protocol id 0, length, unit id,
function code, data (Modbus Messaging on TCP/IP V1.0b, chapter 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass

READ_HOLDING = 3
READ_INPUT = 4
WRITE_SINGLE = 6
WRITE_MULTIPLE = 16
READS = frozenset((READ_HOLDING, READ_INPUT))
HEADER_BYTES = 6
"""Transaction id, protocol id and length; the length counts the bytes after these."""
MIN_LENGTH = 3
"""Unit id, function code, and at least one byte."""
MAX_LENGTH = 254
"""Unit id and the longest PDU, 253 bytes."""
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


@dataclass(frozen=True, slots=True)
class Checked:
    """The verdict on all bytes held: `fault` is empty when they may be decoded."""

    fault: str
    late: int = 0
    """Complete answers to earlier requests, which are to be skipped."""
    open_bytes: int = 0
    """Bytes of a frame that has not arrived whole."""


def check(data: bytes, request: Request | None, transaction_id: int) -> Checked:
    """The verdict on `data`, with `request` in flight as `transaction_id` (None: nothing is in flight).

    Transaction ids count up from 1 on each connection, so a smaller one (or the same, once the request has
    been given up) belongs to an answer that came too late.
    """
    if len(data) > MAX_BUFFERED_BYTES:
        return Checked(f"more than {MAX_BUFFERED_BYTES} bytes came unasked")
    at, late = 0, 0
    while at < len(data):
        header = data[at : at + HEADER_BYTES]
        if any(header[2:4]):
            return Checked(f"protocol id {int.from_bytes(header[2:4].ljust(2, bytes(1)), 'big')} instead of 0")
        if len(header) < HEADER_BYTES:
            return Checked("", late, len(data) - at)
        length = int.from_bytes(header[4:6], "big")
        if not MIN_LENGTH <= length <= MAX_LENGTH:
            return Checked(f"a frame length of {length}")
        received_id = int.from_bytes(header[0:2], "big")
        answers = request is not None and received_id == transaction_id
        if not answers and not 1 <= received_id <= transaction_id:
            return Checked(f"transaction id {received_id} instead of {transaction_id}")
        frame = data[at + HEADER_BYTES : at + HEADER_BYTES + length]
        if answers:
            assert request is not None
            fault = _answer_fault(frame, length, request)
            if fault:
                return Checked(fault, late)
        if len(frame) < length:
            return Checked("", late, len(data) - at)
        late += not answers
        at += HEADER_BYTES + length
    return Checked("", late)


def _answer_fault(frame: bytes, length: int, request: Request) -> str:
    """What is wrong with the (perhaps still incomplete) answer, or "" if nothing so far."""
    if len(frame) >= 1 and frame[0] != request.unit_id:
        return f"an answer of unit {frame[0]}"
    if len(frame) < 2:
        return ""
    if frame[1] == request.function | 0x80:
        return "" if length == MIN_LENGTH else f"an exception of {length} bytes instead of {MIN_LENGTH}"
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
