"""The meter at the connection point, as a SunSpec device (models 201 to 204 and 211 to 214)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from agent.core.snapshot import MeterSample
from drivers.read_plan import ReadPlan, Reads, make_plan
from drivers.readings import reading
from drivers.registers import Registers
from drivers.session import Session
from drivers.spec import DeviceSpec, Identity
from drivers.sunspec import Chain, require

MODELS: Final = (203, 204, 202, 201, 213, 214, 212, 211)
"""Whole numbers first: their energy counters are exact, where 32-bit floats lose Wh as they grow."""
POINTS: Final = ("W", "Hz", "TotWhExp", "TotWhImp")
MIN_FREQUENCY_HZ = 42.5
MAX_FREQUENCY_HZ = 69.0
"""The measuring range that IEC 61000-4-30 asks for, 50 and 60 Hz grids together."""


class SunSpecMeter:
    """Power, frequency and energy counters of one meter.

    SunSpec does not fix the sign of a meter's power: `spec.positive` states it, "export" when a positive
    register means power toward the grid, "import" when it means power from the grid. The samples are always
    positive toward the grid. The counters are taken by their names, whatever the sign: exported is export.
    """

    def __init__(self, spec: DeviceSpec, link: Registers, clock: Callable[[], float]) -> None:
        assert spec.role == "meter"
        self.spec = spec
        self._link = link
        self.session = Session(spec, link, clock, self._prepare)
        self.writing = asyncio.Lock()
        assert spec.sunspec is not None
        self._sign = 1 if (spec.positive or spec.sunspec.positive) == "export" else -1
        self._prefix = ""

    async def identify(self) -> Identity:
        """Find out who the device is and what it offers; errors are `DeviceError`s."""
        return await self.session.identify()

    async def points(self) -> Reads:
        """All that is polled, by model and point, for people; errors are `DeviceError`s."""
        return await self.session.poll()

    async def read(self) -> MeterSample:
        """The newest readings; errors are `DeviceError`s."""
        reads = await self.session.poll()
        return MeterSample(
            device_id=self.spec.device_id,
            power_w=reading(reads, f"{self._prefix}.W", sign=self._sign),
            frequency_hz=reading(reads, f"{self._prefix}.Hz", low=MIN_FREQUENCY_HZ, high=MAX_FREQUENCY_HZ),
            export_wh=reading(reads, f"{self._prefix}.TotWhExp"),
            import_wh=reading(reads, f"{self._prefix}.TotWhImp"),
        )

    async def _prepare(self, chain: Chain) -> ReadPlan:
        model = require(chain, MODELS, ("W",), self._link, self.spec.unit_id)
        self._prefix = str(model.model_id)
        return make_plan([chain.places(model, POINTS)])
