"""A battery system by the older SunSpec models: an inverter (101 to 103, 111 to 113), 120 and 124, more where present.

Enumerations are those of the published models: St 1 = off, 3 = starting, 6 = shutting down, 7 = fault; 123.Conn
1 = connected; 124.ChaSt 1 = off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from agent.core.snapshot import BatterySample, DroopOffer, Quality, Reading
from drivers import bms
from drivers.alarms import safety_alarms
from drivers.dc_ports import DcPorts, dc_ports
from drivers.pv import AC_MODELS
from drivers.rate_control import CONTROL_POINTS, RateControl
from drivers.read_plan import Place, Reads
from drivers.readings import believable, first_present, reading, ready, smallest
from drivers.registers import Registers
from drivers.spec import DeviceSpec
from drivers.sunspec import Chain, require

MARK = 124
"""The model that tells this generation."""
POINTS: Final[Mapping[int, tuple[str, ...]]] = {
    120: ("WRtg", "WHRtg", "MaxChaRte", "MaxDisChaRte"),
    121: ("WMax",),
    123: ("Conn",),
    124: ("WChaMax", "StorCtl_Mod", "ChaState", "ChaSt", "OutWRte", "InWRte"),
    715: ("LocRemCtl",),
    **bms.POINTS,
}
REQUIRED_124: Final = ("WChaMax", "StorCtl_Mod", "OutWRte", "InWRte", "InOutWRte_SF")
NO_DROOP = "a device of model 124 has no droop that the agent can set"


class StorageBattery:
    """Readings and setpoints by model 124 and those around it; + is discharge, as SunSpec defines it."""

    def __init__(self, spec: DeviceSpec, link: Registers, clock: Callable[[], float], chain: Chain) -> None:
        self._spec = spec
        self._link = link
        self._clock = clock
        self._chain = chain
        self._inverter = require(chain, AC_MODELS, ("W",), link, spec.unit_id)
        storage = require(chain, (MARK,), REQUIRED_124, link, spec.unit_id)
        self._control = RateControl(spec, link, clock, chain.places(storage, CONTROL_POINTS))
        self._ports = DcPorts()
        self._prefix = str(self._inverter.model_id)
        self._states = (
            (f"{self._prefix}.St", (1, 3, 6, 7), False),
            ("124.ChaSt", (1,), False),
            ("123.Conn", (1,), True),
            ("715.LocRemCtl", (0,), True),
            *bms.STATES,
        )

    @property
    def has_dead_man(self) -> bool:
        """Whether the device ends a setpoint by itself when they stop coming."""
        return self._control.has_dead_man

    async def learn(self) -> list[list[Place]]:
        """What each poll must read; errors are `DeviceError`s."""
        await self._control.learn()
        self._ports = await dc_ports(self._chain, self._link, self._spec.unit_id, self._clock)
        ports = list(self._ports.places) if self._ports.hybrid else []
        models = [self._chain.places(self._chain.first(model_id), names) for model_id, names in POINTS.items()]
        return [self._chain.places(self._inverter, ("St", "Evt1", "W")), *models, ports]

    def sample(self, reads: Reads) -> BatterySample:
        """One poll as a sample."""
        widest_w = reading(reads, "124.WChaMax")
        discharge_w = first_present(reading(reads, "120.MaxDisChaRte"), widest_w)
        charge_w = first_present(reading(reads, "120.MaxChaRte"), widest_w)
        power_w = self._ports.battery_w(reads) if self._ports.hybrid else reading(reads, f"{self._prefix}.W")
        return BatterySample(
            device_id=self._spec.device_id,
            power_w=believable(power_w, discharge_w, charge_w),
            soc_pct=first_present(reading(reads, "124.ChaState", low=0.0, high=100.0), bms.soc_pct(reads)),
            capacity_wh=first_present(reading(reads, "120.WHRtg"), reading(reads, "802.WHRtg")),
            rated_discharge_w=discharge_w,
            rated_charge_w=charge_w,
            live_discharge_limit_w=smallest(widest_w, reading(reads, "121.WMax"), *bms.power_w(reads, "ADisChaMax")),
            live_charge_limit_w=smallest(widest_w, *bms.power_w(reads, "AChaMax")),
            ready=ready(reads, self._states, needed=2),
            held_setpoint_w=self._held(reads),
            has_dead_man=self.has_dead_man,
            alarms=safety_alarms(reads, f"{self._prefix}.Evt1"),
            temperature_c=bms.temperature_c(reads),
            cell_min_v=bms.cell_v(reads, "CellVMin"),
            cell_max_v=bms.cell_v(reads, "CellVMax"),
            droop_offer=DroopOffer(NO_DROOP),
        )

    async def hold(self, power_w: float, generation: int) -> tuple[float | None, str]:
        """Write once and read back: what the device holds (None if unknown), and why that is not it, or ""."""
        return await self._control.hold(power_w, generation)

    def _held(self, reads: Reads) -> Reading:
        rate = reading(reads, "124.OutWRte")
        held = self._control.held_w(reads)
        if held is None:
            return Reading(None, rate.read_mono_s, Quality.MISSING)
        return Reading(held, rate.read_mono_s)
