"""What a device role needs from a link, so that roles do not depend on how the bytes travel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

MAX_READ_REGISTERS = 125
"""Modbus Application Protocol V1.1b3, functions 3 and 4."""
MAX_WRITE_REGISTERS = 123
"""Modbus Application Protocol V1.1b3, function 16."""
ADDRESS_SPACE = 65536


class Registers(Protocol):
    """Registers of several unit ids behind one endpoint; every failure is a `DeviceError`."""

    @property
    def name(self) -> str:
        """The endpoint for people, such as `tcp://192.168.1.20:502`."""
        ...

    @property
    def generation(self) -> int:
        """The number of connections made so far: when it changes, another device may be at the other end."""
        ...

    async def read_holding(self, unit_id: int, address: int, count: int) -> tuple[int, ...]:
        """The `count` holding registers from `address` on (function 3)."""
        ...

    async def read_input(self, unit_id: int, address: int, count: int) -> tuple[int, ...]:
        """The `count` input registers from `address` on (function 4)."""
        ...

    async def write_register(self, unit_id: int, address: int, value: int, *, generation: int | None = None) -> None:
        """Write one register with function 6, once; only over connection number `generation` if that is given."""
        ...

    async def write_registers(
        self, unit_id: int, address: int, values: Sequence[int], *, generation: int | None = None
    ) -> None:
        """Write `values` from `address` on (16), once; only over connection number `generation` if that is given."""
        ...

    def pace(self, between_s: float, after_connect_s: float) -> None:
        """Leave at least so long between requests, and after connecting; of all who ask, the slowest wins."""
        ...
