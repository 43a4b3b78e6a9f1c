"""A PV inverter as a SunSpec device (models 701, 101 to 103, 111 to 113), and its power limit (model 704 or 123).

On a hybrid with a battery its DC ports are read instead: the AC power is that of both.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Final

from agent.core.snapshot import NEVER, CeilingOutcome, PvSample, Reading
from drivers.dc_ports import DcPorts, dc_ports
from drivers.errors import DeviceError
from drivers.pv_ceiling import NO_BESIDE, CeilingControl, controls_of
from drivers.read_plan import ReadPlan, Reads, make_plan
from drivers.readings import reading
from drivers.registers import Registers
from drivers.session import Session
from drivers.setpoint import Unwritable
from drivers.spec import DeviceSpec, Identity
from drivers.sunspec import Chain, require

AC_MODELS: Final = (103, 102, 101, 113, 112, 111)
MODELS: Final = (701, *AC_MODELS)
"""In the order in which they are preferred: 701 is the newest."""
POINTS: Final = ("W",)


class SunSpecPv:
    """Power and ceiling of one PV inverter; + is generation, as SunSpec defines it."""

    def __init__(self, spec: DeviceSpec, link: Registers, clock: Callable[[], float]) -> None:
        assert spec.role == "pv"
        self.spec = spec
        self._link = link
        self._clock = clock
        self.session = Session(spec, link, clock, self._prepare)
        self._prefix = ""
        self._ports = DcPorts()
        self._ceiling: CeilingControl | None = None
        self._beside_w = 0.0
        """Battery power that the limit last written includes: on a hybrid it is that of the whole inverter."""
        self._prepared = False
        self.writing = asyncio.Lock()

    async def identify(self) -> Identity:
        """Find out who the device is and what it offers; errors are `DeviceError`s."""
        return await self.session.identify()

    async def points(self) -> Reads:
        """All that is polled, by model and point, for people; errors are `DeviceError`s."""
        return await self.session.poll()

    async def read(self) -> PvSample:
        """The newest readings; errors are `DeviceError`s."""
        reads = await self.session.poll()
        control = self._ceiling
        limited, ceiling_w = control.ceiling(reads) if control is not None else (NEVER, NEVER)
        if ceiling_w.value is not None:
            ceiling_w = Reading(ceiling_w.value - self._beside_w, ceiling_w.read_mono_s)
        return PvSample(
            device_id=self.spec.device_id,
            power_w=self._ports.pv_w(reads) if self._ports.hybrid else reading(reads, f"{self._prefix}.W"),
            limited=limited,
            ceiling_w=ceiling_w,
            has_limit=self.has_limit,
            has_dead_man=self.has_dead_man,
        )

    @property
    def has_limit(self) -> bool | None:
        """Whether its power can be limited; None before it is identified."""
        return self._ceiling is not None if self._prepared else None

    @property
    def has_dead_man(self) -> bool | None:
        """Whether it ends a ceiling by itself when writes stop; None while that is not known, or without a ceiling."""
        return self._ceiling.has_dead_man if self._ceiling is not None else None

    async def write_ceiling(self, ceiling_w: float | None) -> CeilingOutcome:
        """Make the inverter give at most `ceiling_w`, rounded down, or (None) all it can; and read back what it holds.

        Never raises a `DeviceError`: the outcome says what went wrong. Nothing is written twice.
        """
        assert ceiling_w is None or (math.isfinite(ceiling_w) and ceiling_w >= 0.0)
        held: float | None = None
        async with self.writing:
            try:
                await self.session.ensure_identified()
                if self._ceiling is None:
                    reason = "the inverter has no power limit among its SunSpec models (704 or 123)"
                elif ceiling_w is None:
                    held, reason = await self._ceiling.hold(None, self._link.generation)
                else:
                    self._beside_w = await self._beside_now()
                    found, reason = await self._ceiling.hold(
                        max(ceiling_w + self._beside_w, 0.0), self._link.generation
                    )
                    held = None if found is None else found - self._beside_w
            except (DeviceError, Unwritable) as error:
                reason = str(error)
        return CeilingOutcome(self.spec.device_id, ceiling_w, held, not reason, reason, self._clock())

    async def _beside_now(self) -> float:
        """What the battery on the same inverter gives now; errors are `DeviceError`s, or `Unwritable`."""
        if not self._ports.hybrid:
            return 0.0
        reads = await make_plan([self._ports.places]).read(self._link, self.spec.unit_id, self._clock)
        battery_w = self._ports.battery_w(reads).value
        if battery_w is None:
            raise Unwritable(NO_BESIDE)
        return battery_w

    async def _prepare(self, chain: Chain) -> ReadPlan:
        model = require(chain, MODELS, POINTS, self._link, self.spec.unit_id)
        self._prefix = str(model.model_id)
        self._ports = await dc_ports(chain, self._link, self.spec.unit_id, self._clock)
        self._ceiling = None
        for control in controls_of(self.spec, self._link, self._clock, chain):
            if await control.learn():
                self._ceiling = control
                break
        self._prepared = True
        ceiling = self._ceiling.places if self._ceiling is not None else ()
        ports = self._ports.places if self._ports.hybrid else ()
        return make_plan([chain.places(model, POINTS), *ceiling, ports])
