"""Polling a SunSpec device that refuses some of its own registers: those are left out, the rest goes on."""

from __future__ import annotations

from collections.abc import Callable

from drivers.errors import ModbusRefused
from drivers.read_plan import Block, Read, ReadPlan
from drivers.registers import Registers

NOT_READABLE = frozenset({2, 3})
"""Modbus exceptions that say that registers cannot be read: illegal address, illegal value."""
ASK_AGAIN_S = 240.0
"""A refused point is tried again this often, by one request: a device may offer it only in some of its states, and what
has been put right must be seen within five minutes."""


class PollPlan:
    """The requests of each poll. A block that is refused is bisected down to the point that cannot be read.

    Such a point is missing from then on, and asked for again after a while, or at once by a new plan, that is over a
    new connection. A device that refuses everything has failed: the refusal is raised, and all is asked again.
    """

    def __init__(self, plan: ReadPlan) -> None:
        self.refused: dict[str, ModbusRefused] = {}
        """Why a point is not asked for, by name."""
        self._whole = plan.blocks
        self._blocks = plan.blocks
        self._left_out: dict[str, tuple[Block, float]] = {}
        """The points that are not asked for, and when each is again."""

    async def read(self, link: Registers, unit_id: int, clock: Callable[[], float]) -> dict[str, Read]:
        """All points, each with the time at which its request was sent; errors are `DeviceError`s."""
        began_s = clock()
        got: list[tuple[Block, tuple[int, ...], float]] = []
        kept: list[Block] = []
        for key in [key for key, (_, at_s) in self._left_out.items() if began_s >= at_s]:
            self._blocks += (self._left_out.pop(key)[0],)
            del self.refused[key]
        for block in self._blocks:
            kept += await self._block(block, link, unit_id, clock, got)
        if not got and self.refused:
            error = next(iter(self.refused.values()))
            self.refused.clear()
            self._left_out.clear()
            self._blocks = self._whole
            raise error
        self._blocks = tuple(kept)
        reads = {key: Read(None, began_s) for key in self.refused}
        for block, registers, sent_mono_s in got:
            block.decode(registers, sent_mono_s, reads)
        for block, registers, sent_mono_s in got:
            if block.scaled_elsewhere:  # where bisecting put the factor into a later block
                block.decode(registers, sent_mono_s, reads)
        return reads

    async def _block(
        self,
        block: Block,
        link: Registers,
        unit_id: int,
        clock: Callable[[], float],
        got: list[tuple[Block, tuple[int, ...], float]],
    ) -> list[Block]:
        """The blocks that this one is read as from now on."""
        sent_mono_s = clock()
        try:
            got.append((block, await link.read_holding(unit_id, block.address, block.count), sent_mono_s))
        except ModbusRefused as refused:
            if refused.code not in NOT_READABLE:
                raise
            if len(block.places) == 1:
                self.refused[block.places[0].key] = refused
                self._left_out[block.places[0].key] = block, clock() + ASK_AGAIN_S
                return []
            first, second = block.halves()
            return [
                *await self._block(first, link, unit_id, clock, got),
                *await self._block(second, link, unit_id, clock, got),
            ]
        return [block]
