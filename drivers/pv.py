"""A PV inverter as a SunSpec device (model 701, 103 or 101)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from agent.core.snapshot import PvSample
from drivers.read_plan import ReadPlan, make_plan
from drivers.readings import reading
from drivers.registers import Registers
from drivers.session import Session
from drivers.spec import DeviceSpec, Identity
from drivers.sunspec import Chain, require

MODELS: Final = (701, 103, 101)
"""In the order in which they are preferred: 701 is the newest."""
POINTS: Final = ("W",)


class SunSpecPv:
    """Power of one PV inverter; + is generation, as SunSpec defines it."""

    def __init__(self, spec: DeviceSpec, link: Registers, clock: Callable[[], float]) -> None:
        assert spec.role == "pv"
        self.spec = spec
        self._link = link
        self._session = Session(spec, link, clock, self._prepare)
        self._prefix = ""

    async def identify(self) -> Identity:
        """Find out who the device is and what it offers; errors are `DeviceError`s."""
        return await self._session.identify()

    async def read(self) -> PvSample:
        """The newest readings; errors are `DeviceError`s."""
        reads = await self._session.poll()
        return PvSample(device_id=self.spec.device_id, power_w=reading(reads, f"{self._prefix}.W"))

    async def _prepare(self, chain: Chain) -> ReadPlan:
        model = require(chain, MODELS, POINTS, self._link, self.spec.unit_id)
        self._prefix = str(model.model_id)
        return make_plan([chain.places(model, POINTS)])
