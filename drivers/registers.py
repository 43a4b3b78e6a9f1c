"""What a device role needs from a link, so that roles do not depend on how the bytes travel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

MAX_READ_REGISTERS = 125
"""Modbus Application Protocol V1.1b3, function 3."""
MAX_WRITE_REGISTERS = 123
"""Modbus Application Protocol V1.1b3, function 16."""
ADDRESS_SPACE = 65536


class Registers(Protocol):
    """Holding registers of several unit ids behind one endpoint; every failure is a `DeviceError`."""

    @property
    def name(self) -> str:
        """The endpoint for people, such as `tcp://192.168.1.20:502`."""
        ...

    @property
    def generation(self) -> int:
        """The number of connections made so far: when it changes, another device may be at the other end."""
        ...

    async def read_holding(self, unit_id: int, address: int, count: int) -> tuple[int, ...]:
        """The `count` registers from `address` on."""
        ...

    async def write_registers(
        self, unit_id: int, address: int, values: Sequence[int], *, generation: int | None = None
    ) -> None:
        """Write `values` from `address` on, once; only over connection number `generation` if that is given."""
        ...
