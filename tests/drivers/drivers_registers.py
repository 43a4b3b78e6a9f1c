"""A bank of plain registers for the raw Modbus server: what it was asked, and what it does when written to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from simulators.modbus_server import ILLEGAL_ADDRESS, RequestRefusedError


@dataclass
class RawBank:
    """Registers by address; what is not there is refused with exception 2."""

    registers: dict[int, int]
    reads: list[tuple[int, int]] = field(default_factory=list)
    writes: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    before_read: Callable[[], None] = lambda: None
    on_write: Callable[[int, tuple[int, ...]], None] = lambda address, values: None
    deaf: set[int] = field(default_factory=set)
    """Registers that acknowledge a write and keep what they had."""
    refused: set[int] = field(default_factory=set)
    """Registers that refuse every write with exception 3."""
    answers: dict[int, list[int]] = field(default_factory=dict)
    """Exceptions by register, each for one write: 5 takes it all the same, and shows it two reads later."""

    def read(self, address: int, count: int) -> bytes:
        self.before_read()
        self.reads.append((address, count))
        if self.later and len(self.reads) >= self.later[0]:
            self.registers.update(enumerate(self.later[2], start=self.later[1]))
        try:
            return b"".join(self.registers[at].to_bytes(2, "big") for at in range(address, address + count))
        except KeyError:
            raise RequestRefusedError(ILLEGAL_ADDRESS) from None

    def write(self, address: int, data: bytes) -> None:
        values = tuple(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))
        span = range(address, address + len(values))
        if any(at not in self.registers for at in span):
            raise RequestRefusedError(ILLEGAL_ADDRESS)
        if self.refused & set(span):
            raise RequestRefusedError(3)
        self.writes.append((address, values))
        code = self.answers[address].pop(0) if self.answers.get(address) else 0
        if code == 5:
            self.later = [len(self.reads) + 2, address, values]
        if code:
            raise RequestRefusedError(code)
        for at, value in zip(span, values, strict=True):
            if at not in self.deaf:
                self.registers[at] = value
        self.on_write(address, values)

    def snapshot(self) -> RawBank:
        return RawBank(dict(self.registers))

    def without_values(self) -> RawBank:
        return RawBank(dict.fromkeys(self.registers, 0xFFFF))

    def reboot(self) -> None:
        self.registers.update(self.at_start)

    def __post_init__(self) -> None:
        self.later = []
        self.at_start = dict(self.registers)
