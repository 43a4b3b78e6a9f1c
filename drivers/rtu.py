"""Whether bytes from a serial line are the answer to the request in flight, and which answers are still owed.

RTU frames (MODBUS over Serial Line V1.02, chapter 2.5) carry no transaction id and no length: unit id, function code,
data, CRC. An answer that comes after its request was given up looks like the answer to the next one of the same
shape. So the link remembers what each unit still owes, and asks for something of another shape first: devices
answer in order, so that its answer proves that nothing older can come.

An RS-485 adapter whose receiver stays on hears its own requests (local echo): those bytes come before the answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from pymodbus.framer.rtu import FramerRTU

from drivers.registers import ADDRESS_SPACE, MAX_READ_REGISTERS
from drivers.request import EXCEPTION_BYTES, MAX_BUFFERED_BYTES, READS, Checked, Request, answer_fault

CRC_BYTES = 2
MAX_LATE_S = 10.0
"""An answer that is later than this is not expected any more; twice the slowest device of the fault matrix."""
MAX_OWED = 16
"""Per unit; beyond it the oldest is forgotten. A unit that owes so many rests long before (`drivers.patience`)."""


def check(data: bytes, request: Request | None, owed: Iterable[Request] = ()) -> Checked:
    """The verdict on `data`, all that came since `request` was sent (None: nothing is in flight).

    Answers that other units still owed may come before it, and are skipped.
    """
    if len(data) > MAX_BUFFERED_BYTES:
        return Checked(f"more than {MAX_BUFFERED_BYTES} bytes came unasked")
    if request is None or not data:
        return Checked("", 0, len(data))
    if data[0] != request.unit_id:
        for older in owed:
            before = _judged(data[: _frame_bytes(data, older)], older)
            if not before.fault and before.open_bytes:
                return before
            if not before.fault:
                rest = check(data[_frame_bytes(data, older) :], request)
                return replace(rest, late=1)
    return _judged(data, request)


def echo_bytes(data: bytes, sent: bytes, *, echoes: bool) -> int:
    """How many of the first bytes of `data` are the request `sent` itself, heard back; fewer than it while it comes.

    What asks to read is never an answer: it is 8 bytes long, and answers to reads have an odd number. What is
    written may look like its answer (function 6: exactly), so that there it counts only on a line that is known to
    be one that `echoes`.
    """
    length = min(len(data), len(sent))
    may_be = echoes or sent[1] in READS
    return length if may_be and data[:length] == sent[:length] else 0


def _judged(data: bytes, request: Request) -> Checked:
    whole = _frame_bytes(data, request)
    fault = answer_fault(data[: whole - CRC_BYTES], whole - CRC_BYTES, request)
    if fault:
        return Checked(fault)
    if len(data) < whole:
        return Checked("", 0, len(data))
    if len(data) > whole:
        return Checked(f"{len(data) - whole} bytes after the answer")
    seen, due = data[-CRC_BYTES:], FramerRTU.compute_CRC(data[:-CRC_BYTES]).to_bytes(CRC_BYTES, "big")
    if seen != due:
        return Checked(f"a checksum {seen.hex()} instead of {due.hex()}")
    return Checked("", answer=data[:-CRC_BYTES])


def _frame_bytes(data: bytes, request: Request) -> int:
    refused = len(data) > 1 and data[1] == request.function | 0x80
    return (EXCEPTION_BYTES if refused else request.answer_bytes) + CRC_BYTES


def same_shape(one: Request, other: Request) -> bool:
    """Whether an answer to `one` could be taken for an answer to `other` of the same unit."""
    if one.function != other.function:
        return False
    return one.count == other.count if one.function in READS else one.echo == other.echo


@dataclass(slots=True)
class Owed:
    """The answers that one unit still owes; times are monotonic s."""

    _until: list[tuple[Request, float]] = field(default_factory=list)

    def given_up(self, request: Request, now_s: float) -> None:
        """No answer to `request` came in time: it may still come."""
        self._until = [*self._until, (request, now_s + MAX_LATE_S)][-MAX_OWED:]

    def answered(self) -> None:
        """An answer came that cannot belong to anything older: nothing older can come."""
        self._until.clear()

    def ambiguous(self, request: Request, now_s: float) -> bool:
        """Whether an answer to `request` could be that to an older one."""
        self._until = [(older, until_s) for older, until_s in self._until if until_s > now_s]
        return any(same_shape(older, request) for older, _ in self._until)

    @property
    def requests(self) -> list[Request]:
        """What it has not answered."""
        return [older for older, _ in self._until]

    def refusal_may_be_late(self, request: Request, now_s: float) -> bool:
        """Whether an exception could be the answer to an older request of the same function."""
        return any(older.function == request.function and until_s > now_s for older, until_s in self._until)

    def other_shape(self, request: Request, now_s: float) -> Request | None:
        """A read at the same place that no owed answer fits; None where there is no such."""
        assert request.function in READS
        for count in (*range(1, request.count), *range(request.count + 1, request.count + MAX_OWED + 2)):
            other = Request(request.unit_id, request.function, request.address, count)
            fits = count <= MAX_READ_REGISTERS and request.address + count <= ADDRESS_SPACE
            if fits and not self.ambiguous(other, now_s):
                return other
        return None
