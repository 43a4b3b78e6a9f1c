"""Whether bytes from a Modbus TCP peer are the answer to the request in flight.

pymodbus takes transaction id 0 for any, raises inside its protocol callback on what it cannot decode, and drops long
input unseen. Each frame is therefore checked here instead. Frame: transaction id, protocol id 0, length, unit id,
function code, data (Modbus Messaging on TCP/IP V1.0b, chapter 3.1).
"""

from __future__ import annotations

import struct

from drivers.request import MAX_BUFFERED_BYTES, Checked, Request, answer_fault

HEADER = struct.Struct(">HHH")
"""Transaction id, protocol id and length; the length counts the bytes after these."""
HEADER_BYTES = HEADER.size
MIN_LENGTH = 3
"""Unit id, function code, and at least one byte."""
MAX_LENGTH = 254
"""Unit id and the longest PDU, 253 bytes."""


def check(data: bytes, request: Request | None, transaction_id: int) -> Checked:
    """The verdict on `data`, with `request` in flight as `transaction_id` (None: nothing is in flight).

    Transaction ids count up from 1 on each connection, so a smaller one (or the same, once the request has
    been given up) belongs to an answer that came too late.
    """
    if len(data) > MAX_BUFFERED_BYTES:
        return Checked(f"more than {MAX_BUFFERED_BYTES} bytes came unasked")
    at, late, answer, size = 0, 0, b"", len(data)
    while at < size:
        if any(data[at + 2 : at + 4]):
            return Checked(
                f"protocol id {int.from_bytes(data[at + 2 : at + 4].ljust(2, bytes(1)), 'big')} instead of 0"
            )
        if size - at < HEADER_BYTES:
            return Checked("", late, size - at, answer)
        received_id, _, length = HEADER.unpack_from(data, at)
        if not MIN_LENGTH <= length <= MAX_LENGTH:
            return Checked(f"a frame length of {length}")
        answers = request is not None and received_id == transaction_id
        if not answers and not 1 <= received_id <= transaction_id:
            return Checked(f"transaction id {received_id} instead of {transaction_id}")
        frame = data[at + HEADER_BYTES : at + HEADER_BYTES + length]
        if answers:
            assert request is not None
            fault = answer_fault(frame, length, request)
            if fault:
                return Checked(fault, late)
        if len(frame) < length:
            return Checked("", late, size - at, answer)
        if answers:
            answer = answer or frame
        else:
            late += 1
        at += HEADER_BYTES + length
    return Checked("", late, answer=answer)
