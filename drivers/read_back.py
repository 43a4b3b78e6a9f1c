"""Models of one device that are written once and read back: what a setpoint, a window of rates and a ceiling share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import ClassVar

from drivers.errors import DeviceError, LinkTimeout, ModbusRefused
from drivers.read_plan import Place, Reads, make_plan
from drivers.registers import Registers
from drivers.spec import DeviceSpec

Frames = Sequence[tuple[int, tuple[int, ...]]]
"""Address and registers of each frame, in the order in which they must be written."""


class ReadBack(ABC):
    """What the device holds is what it said when it was last read, never what was written to it."""

    _written: ClassVar[str]
    """What it holds, for people."""

    def __init__(
        self, spec: DeviceSpec, link: Registers, clock: Callable[[], float], places: Sequence[Sequence[Place]]
    ) -> None:
        """`places` are those that are read, one sequence per model; what is written lies in the first of them."""
        self._spec = spec
        self._link = link
        self._clock = clock
        first = places[0][0]
        self._address = first.address - first.point.at
        self._plan = make_plan(places)
        self._last: Reads = {}

    @abstractmethod
    def _held_w(self) -> float | None:
        """What the device held when it was last read, None if that is not known."""

    async def _read(self) -> Reads:
        return await self._plan.read(self._link, self._spec.unit_id, self._clock)

    async def _write(self, frames: Frames, generation: int) -> tuple[float | None, str] | None:
        """None when all is written and read back; else what the device holds (None if unknown), and what went wrong."""
        try:
            for address, values in frames:
                await self._link.write_registers(self._spec.unit_id, address, values, generation=generation)
        except (LinkTimeout, ModbusRefused) as error:
            # It may have been carried out in part.
            with suppress(DeviceError):
                self._last = await self._read()
                return self._held_w(), str(error)
            return None, str(error)
        self._last = await self._read()
        if self._link.generation != generation:
            return None, f"the connection was replaced before the {self._written} was read back; read the device again"
        return None
