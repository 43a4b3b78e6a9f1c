"""Reading one SunSpec device: its identity is model 1, its map the chain of models."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final

from drivers.bisect import PollPlan
from drivers.errors import IdentityMismatch, ModbusRefused
from drivers.known import MAX_ROUNDS, RECHECK_EVERY_S, KnownDevice, Learnt
from drivers.read_plan import ReadPlan, Reads, make_plan
from drivers.registers import Registers
from drivers.spec import DeviceSpec, Identity
from drivers.sunspec import Chain, require, walk

__all__ = ["MAX_ROUNDS", "RECHECK_EVERY_S", "Session"]

COMMON_MODEL = 1
COMMON_POINTS: Final = ("Mn", "Md", "Vr", "SN")


class Session(KnownDevice):
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
        super().__init__(spec, link, clock)
        assert spec.sunspec is not None
        self._stated = spec.sunspec
        if spec.profile is not None:
            link.pace(spec.profile.pacing.between_requests, spec.profile.pacing.after_connect)
        self._prepare = prepare
        self._common = ReadPlan(())
        self.chain: Chain | None = None
        """Its models, from the last time it was identified."""

    async def _look(self) -> Learnt:
        stated = self.spec.base_address if self.spec.base_address is not None else self._stated.base_address
        chain = await walk(self._link, self.spec.unit_id, stated)
        common = require(chain, (COMMON_MODEL,), (), self._link, self.spec.unit_id)
        self._common = make_plan([chain.places(common, COMMON_POINTS)])
        identity = await self._read_identity(
            chain.base_address, tuple(model.model_id for model in chain.models), chain.cut_short
        )
        self._check(chain, identity)
        self.chain = chain
        return Learnt(chain.generation, identity, PollPlan(await self._prepare(chain)))

    @property
    def refusals(self) -> dict[str, ModbusRefused]:
        """The points that the device refuses, by name, with its answer; for the present connection."""
        plan = self._known.plan if self._known is not None else None
        return dict(plan.refused) if isinstance(plan, PollPlan) else {}

    async def _glance(self, known: Identity) -> Identity:
        return await self._read_identity(known.base_address, known.models, known.cut_short)

    def _check(self, chain: Chain, identity: Identity) -> None:
        """`IdentityMismatch` when this is not what the site file and the profile state."""
        self.compare(identity)
        for what, wanted, seen in (
            ("maker", self._stated.maker, identity.manufacturer),
            ("model", self._stated.model, identity.model),
        ):
            if wanted is not None and (seen is None or re.fullmatch(wanted, seen) is None):
                raise self._stranger(f"the {what} should match {wanted!r}, but {seen!r} answers")
        for group in self._stated.models:
            if chain.first(*group) is None:
                wanted = " or ".join(str(model_id) for model_id in group)
                found = ", ".join(str(model_id) for model_id in identity.models) or "none"
                raise self._stranger(f"it should have SunSpec model {wanted}; found: {found}")

    def _stranger(self, why: str) -> IdentityMismatch:
        return IdentityMismatch(
            f"{self.spec.device_id} is none that its profile is for: {why}",
            endpoint=self._link.name,
            unit_id=self.spec.unit_id,
            hint="check the address and the profile in the site file; nothing is written to it",
        )

    async def _read_identity(self, base_address: int | None, models: tuple[int, ...], cut_short: str) -> Identity:
        reads = await self._common.read(self._link, self.spec.unit_id, self._clock)
        manufacturer, model, firmware, serial = (_text(reads, name) for name in COMMON_POINTS)
        return Identity(manufacturer, model, serial, firmware, base_address, models, cut_short)


def _text(reads: Reads, name: str) -> str | None:
    read = reads.get(f"{COMMON_MODEL}.{name}")
    return read.value if read is not None and isinstance(read.value, str) else None
