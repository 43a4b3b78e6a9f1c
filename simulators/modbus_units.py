"""Modbus units that answer from register banks, and what can be wrong with each of them.

Function codes and exceptions: MODBUS Application Protocol V1.1b3. Framing is for the servers: `modbus_server` (TCP,
TLS, RTU over TCP) and `serial_line` (RTU).
"""

from __future__ import annotations

import random
import struct
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Protocol

from simulators.started import Started

READ_HOLDING = 0x03
READ_INPUT = 0x04
WRITE_ONE = 0x06
WRITE_MANY = 0x10
ILLEGAL_FUNCTION = 0x01
ILLEGAL_ADDRESS = 0x02
ILLEGAL_VALUE = 0x03
GATEWAY_TARGET_FAILED = 0x0B
MAX_READ_COUNT = 125
MAX_WRITE_COUNT = 123
MAX_PDU_BYTES = 253
PAIR = struct.Struct(">HH")
GARBAGE_BYTES = 24
MAX_ASKED = 1000
"""Requests remembered."""


class RequestRefusedError(Exception):
    """The device refuses a request with a Modbus exception code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"Modbus exception {code}")
        self.code = code


class RegisterBank(Protocol):
    """The registers behind one unit id. Data are big-endian bytes, two per register."""

    def read(self, address: int, count: int) -> bytes:
        """The registers now; raises `RequestRefusedError`."""

    def write(self, address: int, data: bytes) -> None:
        """Writes all registers or none; raises `RequestRefusedError`."""

    def snapshot(self) -> ReadOnlyBank:
        """The registers as they are now, and stay."""

    def without_values(self) -> ReadOnlyBank:
        """The registers with every value not implemented."""

    def reboot(self) -> None:
        """The device starts anew: what was written is lost."""


class ReadOnlyBank(Protocol):
    """Registers that never change."""

    def read(self, address: int, count: int) -> bytes:
        """The registers; raises `RequestRefusedError`."""


@dataclass(slots=True)
class Faults:
    """What is wrong with one unit; set at any time, acts on the next request."""

    silent: bool = False
    """No answer at all."""
    delay_s: float = 0.0
    """Each answer comes so much later; requests behind it on the same connection wait."""
    garbage: bool = False
    """Random bytes instead of an answer."""
    short_reply: bool = False
    """A well-formed read answer with one register too few."""
    long_reply: bool = False
    """A well-formed read answer with one register too many."""
    truncated: bool = False
    """The last byte of each answer never comes."""
    trickle: bool = False
    """Each answer comes byte by byte."""
    duplicate: bool = False
    """Each answer comes twice."""
    late: bool = False
    """Each answer is kept back, and sent before the answer to the next request."""
    flip_bits: int = 0
    """So many bits of each answer are flipped; on TCP, whose data are protected below Modbus, only of its head."""
    wrong_protocol: bool = False
    """TCP: another protocol id than 0."""
    huge_length: bool = False
    """TCP: the length field says 65535."""
    wrong_transaction: bool = False
    """TCP: the next transaction's id."""
    zero_transaction: bool = False
    """TCP: transaction id 0, which some clients take for any."""
    wrong_function: bool = False
    wrong_unit: bool = False
    wrong_echo: bool = False
    """A write is applied, but its answer names another address."""
    drop_connection: bool = False
    """The connection is closed instead of an answer."""
    exception: int | None = None
    """Every request is refused with this code."""
    frozen: bool = False
    """Reads answer the registers as they were when the fault was first met."""
    sentinels: bool = False
    """Reads answer that no value is implemented."""
    lie: bool = False
    """Writes are acknowledged and not applied."""
    half_open: bool = False
    """Once: connections that exist now are never answered again, new ones are; resets itself."""
    reboot: bool = False
    """Once: the unit forgets what was written and every connection is dropped; resets itself."""


def set_fault(faults: Faults, name: str, value: str) -> None:
    """Switch one fault by its name and a word (`on`, `off`, a number); `ValueError` says what is wrong."""
    known = [field.name for field in fields(Faults)]
    if name not in known:
        raise ValueError(f"{name!r} is not a fault; known: {', '.join(known)}")
    now = getattr(faults, name)
    if isinstance(now, bool):
        if value not in ("on", "off"):
            raise ValueError(f"{name} is on or off, not {value!r}")
        setattr(faults, name, value == "on")
    elif name == "exception":
        faults.exception = None if value == "off" else int(value, 0)
    else:
        setattr(faults, name, type(now)(0 if value == "off" else value))


class Units:
    """Register banks by unit id, with the faults of each; answers are PDUs.

    Function 4 reads the bank of `inputs` where the unit has one, else the same registers as function 3.
    """

    def __init__(self, banks: Mapping[int, RegisterBank], inputs: Mapping[int, RegisterBank] | None = None) -> None:
        self.faults = {unit: Faults() for unit in banks}
        self.requests = 0
        """Requests that arrived whole, for tests and load measurements."""
        self.asked: deque[tuple[int, bytes]] = deque(maxlen=MAX_ASKED)
        """The newest of them: unit id, and function code with what follows it."""
        self._units = dict(banks)
        self._inputs = dict(inputs or {})
        self._frozen: dict[tuple[int, bool], ReadOnlyBank] = {}
        self._random = random.Random(0)

    def __contains__(self, unit: int) -> bool:
        return unit in self._units

    def came(self, unit: int, request: bytes) -> Faults:
        """Counts a request; what is wrong with the unit that it is for."""
        self.requests += 1
        self.asked.append((unit, request))
        return self.faults.get(unit) or Faults()

    def reboot(self, unit: int) -> None:
        """The unit starts anew, and the fault that says so is over."""
        self.faults[unit].reboot = False
        self._units[unit].reboot()

    def answer(self, unit: int, request: bytes, faults: Faults) -> bytes:
        """The PDU that answers `request`, right or wrong."""
        answer = self._answer(unit, request, faults)
        if faults.wrong_function:
            other = READ_INPUT if answer[0] == READ_HOLDING else READ_HOLDING
            answer = bytes((other,)) + answer[1:]
        if faults.short_reply and answer[0] in (READ_HOLDING, READ_INPUT):
            answer = bytes((answer[0], answer[1] - 2)) + answer[2:-2]
        if faults.long_reply and answer[0] in (READ_HOLDING, READ_INPUT):
            answer = bytes((answer[0], answer[1] + 2)) + answer[2:] + bytes(2)
        if faults.wrong_echo and answer[0] in (WRITE_ONE, WRITE_MANY):
            address, rest = PAIR.unpack(answer[1:])
            answer = answer[:1] + PAIR.pack((address + 1) % 0x10000, rest)
        return answer

    def spoilt(self, frame: bytes, faults: Faults, head_bytes: int | None = None) -> bytes:
        """The frame as it leaves; bits are flipped in its first `head_bytes`, anywhere if that is None."""
        if faults.garbage:
            frame = self._random.randbytes(GARBAGE_BYTES)
        if faults.flip_bits:
            bits = 8 * len(frame if head_bytes is None else frame[:head_bytes])
            flips = sum(1 << at for at in self._random.sample(range(bits), min(faults.flip_bits, bits)))
            number = int.from_bytes(frame, "big") ^ (flips << (8 * len(frame) - bits))
            frame = number.to_bytes(len(frame), "big")
        if faults.truncated:
            frame = frame[:-1]
        return 2 * frame if faults.duplicate else frame

    def _answer(self, unit: int, request: bytes, faults: Faults) -> bytes:
        try:
            if unit not in self._units:
                raise RequestRefusedError(GATEWAY_TARGET_FAILED)
            if faults.exception is not None:
                raise RequestRefusedError(faults.exception)
            match request[0]:
                case 0x03 | 0x04:
                    return self._read(unit, request, faults)
                case 0x06:
                    return self._write_one(unit, request, faults)
                case 0x10:
                    return self._write_many(unit, request, faults)
                case _:
                    raise RequestRefusedError(ILLEGAL_FUNCTION)
        except RequestRefusedError as refusal:
            return bytes((request[0] | 0x80, refusal.code))

    def _read(self, unit: int, request: bytes, faults: Faults) -> bytes:
        if len(request) != 5:
            raise RequestRefusedError(ILLEGAL_VALUE)
        address, count = PAIR.unpack(request[1:])
        if not 1 <= count <= MAX_READ_COUNT:
            raise RequestRefusedError(ILLEGAL_VALUE)
        data = self._readable(unit, request[0], faults).read(address, count)
        assert len(data) == 2 * count
        return bytes((request[0], len(data))) + data

    def _readable(self, unit: int, function: int, faults: Faults) -> ReadOnlyBank:
        separate = function == READ_INPUT and unit in self._inputs
        bank = self._inputs[unit] if separate else self._units[unit]
        key = (unit, separate)
        if not faults.frozen:
            self._frozen.pop(key, None)
        elif key not in self._frozen:
            self._frozen[key] = bank.snapshot()
        if faults.sentinels:
            return bank.without_values()
        return self._frozen.get(key) or bank

    def _write_one(self, unit: int, request: bytes, faults: Faults) -> bytes:
        if len(request) != 5:
            raise RequestRefusedError(ILLEGAL_VALUE)
        if not faults.lie:
            (address,) = struct.unpack_from(">H", request, 1)
            self._units[unit].write(address, request[3:5])
        return request

    def _write_many(self, unit: int, request: bytes, faults: Faults) -> bytes:
        if len(request) < 6:
            raise RequestRefusedError(ILLEGAL_VALUE)
        address, count = PAIR.unpack_from(request, 1)
        data = request[6:]
        if not 1 <= count <= MAX_WRITE_COUNT or request[5] != 2 * count or len(data) != 2 * count:
            raise RequestRefusedError(ILLEGAL_VALUE)
        if not faults.lie:
            self._units[unit].write(address, data)
        return request[:5]


class UnitServer(Started):
    """What serves units to clients."""

    def __init__(self, banks: Mapping[int, RegisterBank], inputs: Mapping[int, RegisterBank] | None) -> None:
        self._units = Units(banks, inputs)
        self.faults = self._units.faults

    @property
    def requests(self) -> int:
        """Requests that arrived whole, for tests and load measurements."""
        return self._units.requests

    @property
    def asked(self) -> deque[tuple[int, bytes]]:
        """The newest of them: unit id, and function code with what follows it."""
        return self._units.asked
