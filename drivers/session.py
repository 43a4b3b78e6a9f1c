"""Reading one SunSpec device over a connection that may be replaced at any time.

What was learnt about a device (its map, its identity) holds for the connection it was learnt over. After a
new connection it is learnt again before a value is believed or a register written: the device may have been
swapped, or restarted with another map.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from drivers.errors import IdentityMismatch, LinkDown
from drivers.read_plan import ReadPlan, Reads, make_plan
from drivers.registers import Registers
from drivers.spec import DeviceSpec, Identity
from drivers.sunspec import Chain, require, walk

COMMON_MODEL = 1
COMMON_POINTS: Final = ("Mn", "Md", "Vr", "SN")
RECHECK_EVERY_S = 60.0
"""How often the identity is read again over the same connection: behind a gateway a device can be swapped."""
MAX_ROUNDS = 2
"""A connection that is replaced during two rounds in a row is not one to work with."""


class Session:
    """The identity, the map and the polling of one device; errors are `DeviceError`s.

    `prepare` makes the poll's read plan from the chain of models (and may read more of the device for itself).
    """

    def __init__(
        self,
        spec: DeviceSpec,
        link: Registers,
        clock: Callable[[], float],
        prepare: Callable[[Chain], Awaitable[ReadPlan]],
    ) -> None:
        self.spec = spec
        self._link = link
        self._clock = clock
        self._prepare = prepare
        self._known: tuple[int, Identity] | None = None
        self._plan = ReadPlan(())
        self._common = ReadPlan(())
        self._checked_mono_s = 0.0
        self._learning = asyncio.Lock()

    @property
    def identity(self) -> Identity | None:
        """Who the device is, None while that is not known for the present connection."""
        if self._known is None or self._known[0] != self._link.generation:
            return None
        return self._known[1]

    async def identify(self) -> Identity:
        """Walk the models, read the identity and compare it with what the site file expects."""
        async with self._learning:
            return await self._learn()

    async def ensure_identified(self) -> Identity:
        """The identity, learnt again if the connection is new or the last look is long ago."""
        if self.identity is not None and self._clock() - self._checked_mono_s < RECHECK_EVERY_S:
            return self.identity
        async with self._learning:  # the poller and the writer may both find that it must be done
            identity = self.identity
            if identity is None:
                return await self._learn()
            seen = await self._read_identity(identity.base_address, identity.models, identity.cut_short)
            if seen != identity or self.identity is None:
                return await self._learn()
            return identity

    async def poll(self) -> Reads:
        """All points of the plan, read from the device that was identified."""
        for _ in range(MAX_ROUNDS):
            await self.ensure_identified()
            reads = await self._plan.read(self._link, self.spec.unit_id, self._clock)
            if self.identity is not None:
                return reads
        raise self._unstable()

    async def _learn(self) -> Identity:
        self._known = None
        for _ in range(MAX_ROUNDS):
            chain = await walk(self._link, self.spec.unit_id, self.spec.base_address)
            common = require(chain, (COMMON_MODEL,), (), self._link, self.spec.unit_id)
            self._common = make_plan([chain.places(common, COMMON_POINTS)])
            identity = await self._read_identity(
                chain.base_address, tuple(model.model_id for model in chain.models), chain.cut_short
            )
            self._compare(identity)
            self._plan = await self._prepare(chain)
            if self._link.generation == chain.generation:
                self._known = (chain.generation, identity)
                return identity
        raise self._unstable()

    async def _read_identity(self, base_address: int, models: tuple[int, ...], cut_short: str) -> Identity:
        reads = await self._common.read(self._link, self.spec.unit_id, self._clock)
        self._checked_mono_s = self._clock()
        manufacturer, model, firmware, serial = (_text(reads, name) for name in COMMON_POINTS)
        return Identity(manufacturer, model, serial, firmware, base_address, models, cut_short)

    def _compare(self, identity: Identity) -> None:
        spec = self.spec
        for what, expected, seen in (
            ("model", spec.expected_model, identity.model),
            ("serial", spec.expected_serial, identity.serial),
        ):
            if expected is not None and expected != seen:
                raise IdentityMismatch(
                    f"{spec.device_id} should have the {what} {expected!r}, but {seen!r} answers",
                    endpoint=self._link.name,
                    unit_id=spec.unit_id,
                    hint="check the address and the wiring, or correct the site file; nothing is written to it",
                )

    def _unstable(self) -> LinkDown:
        return LinkDown(
            "the connection is replaced faster than the device can be read",
            endpoint=self._link.name,
            unit_id=self.spec.unit_id,
            hint="check whether another client takes the device's only connection",
        )


def _text(reads: Reads, name: str) -> str | None:
    read = reads.get(f"{COMMON_MODEL}.{name}")
    return read.value if read is not None and isinstance(read.value, str) else None
