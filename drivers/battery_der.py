"""A battery system by the SunSpec models of the 700 series: 701, 702, 704, 713, and 715 where present.

Enumerations are those of the published models: 701.St 1 = on, 701.ConnSt 1 = connected, 701.InvSt 5 = shutting
down and 6 = fault, 715.LocRemCtl 0 = remote.

On a hybrid (model 714 tells of PV and battery ports) 704.WSet is the power of both together. A battery setpoint is
then written on top of the PV power of that moment, and read back less the same: between two writes the battery takes
what PV moves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from agent.core.snapshot import BatterySample, DroopOffer, Quality, Reading
from drivers import bms
from drivers.alarms import safety_alarms
from drivers.dc_ports import DcPorts, dc_ports
from drivers.droop_control import DroopControl, answered_from_hz
from drivers.profile.settings import OwnersSettings
from drivers.read_plan import Place, Reads, make_plan
from drivers.readings import believable, first_present, reading, ready, smallest
from drivers.registers import Registers
from drivers.setpoint import CONTROL_POINTS, SetpointControl, Unwritable, held_w
from drivers.spec import DeviceSpec
from drivers.sunspec import Chain, require

MARK = 704
"""The model that tells this generation."""
POINTS: Final[Mapping[int, tuple[str, ...]]] = {
    701: ("St", "InvSt", "ConnSt", "Alrm", "W"),
    702: ("WMaxRtg", "WChaRteMaxRtg", "WDisChaRteMaxRtg", "WMax", "WChaRteMax", "WDisChaRteMax"),
    704: ("WSetEna", "WSetMod", "WSet"),
    713: ("WHRtg", "SoC"),
    715: ("LocRemCtl",),
    **bms.POINTS,
}
"""What each poll reads. Ratings are read along with the settings: they cost nothing and so never look stale."""
REQUIRED: Final[Mapping[int, tuple[str, ...]]] = {
    701: ("W",),
    702: ("WMaxRtg",),
    704: ("WSetEna", "WSetMod", "WSet", "WSet_SF"),
    713: ("SoC",),
}
STATES: Final = (
    ("701.ConnSt", (1,), True),
    ("701.St", (1,), True),
    ("701.InvSt", (5, 6), False),
    ("715.LocRemCtl", (0,), True),
    *bms.STATES,
)


class DerBattery:
    """Readings and setpoints by the 700 series; + is discharge, as SunSpec defines it."""

    def __init__(
        self, spec: DeviceSpec, link: Registers, clock: Callable[[], float], chain: Chain, owners: OwnersSettings
    ) -> None:
        self._spec = spec
        self._link = link
        self._clock = clock
        self._chain = chain
        models = {
            model_id: require(chain, (model_id,), names, link, spec.unit_id) for model_id, names in REQUIRED.items()
        }
        self._control = SetpointControl(spec, link, clock, chain.places(models[704], CONTROL_POINTS))
        self.droop = DroopControl(spec, link, clock, chain, owners)
        """The device's own frequency response."""
        self._ports = DcPorts()
        self._beside_w = 0.0
        """PV power that the setpoint last written includes."""

    @property
    def has_dead_man(self) -> bool:
        """Whether the device reverts to 0 W by itself when setpoints stop coming."""
        return self._control.has_dead_man

    async def learn(self) -> list[list[Place]]:
        """What each poll must read; errors are `DeviceError`s."""
        await self._control.learn()
        await self.droop.learn()
        self._ports = await dc_ports(self._chain, self._link, self._spec.unit_id, self._clock)
        if self._ports.hybrid and self._ports.pv and not self.droop.cannot:
            self.droop.cannot = "PV shares the inverter, whose droop would answer for both (models 711 and 714)"
        ports = list(self._ports.places) if self._ports.hybrid else []
        models = [self._chain.places(self._chain.first(model_id), names) for model_id, names in POINTS.items()]
        return [*models, ports, list(self.droop.watched)]

    def sample(self, reads: Reads) -> BatterySample:
        """One poll as a sample."""
        widest_w = reading(reads, "702.WMaxRtg")
        discharge_w = first_present(reading(reads, "702.WDisChaRteMaxRtg"), widest_w)
        charge_w = first_present(reading(reads, "702.WChaRteMaxRtg"), widest_w)
        power_w = self._ports.battery_w(reads) if self._ports.hybrid else reading(reads, "701.W")
        return BatterySample(
            device_id=self._spec.device_id,
            power_w=believable(power_w, discharge_w, charge_w),
            soc_pct=first_present(reading(reads, "713.SoC", low=0.0, high=100.0), bms.soc_pct(reads)),
            capacity_wh=first_present(reading(reads, "713.WHRtg"), reading(reads, "802.WHRtg")),
            rated_discharge_w=discharge_w,
            rated_charge_w=charge_w,
            live_discharge_limit_w=_live_limit(reads, "WDisChaRteMax", "ADisChaMax"),
            live_charge_limit_w=_live_limit(reads, "WChaRteMax", "AChaMax"),
            ready=ready(reads, STATES, needed=2),
            held_setpoint_w=self._held(reads),
            has_dead_man=self.has_dead_man,
            alarms=safety_alarms(reads, "701.Alrm"),
            temperature_c=bms.temperature_c(reads),
            cell_min_v=bms.cell_v(reads, "CellVMin"),
            cell_max_v=bms.cell_v(reads, "CellVMax"),
            own_droop_from_hz=answered_from_hz(reads),
            droop_offer=self._droop_offer(reads),
        )

    async def hold(self, power_w: float, generation: int) -> tuple[float | None, str]:
        """Write once and read back: what the device holds (None if unknown), and why that is not it, or ""."""
        beside_w = 0.0
        if self._ports.hybrid and self._ports.pv:
            reads = await make_plan([self._ports.places]).read(self._link, self._spec.unit_id, self._clock)
            pv_w = self._ports.pv_w(reads).value
            if pv_w is None:
                raise Unwritable(
                    f"{self._spec.device_id}: PV shares the inverter and its power cannot be read (model 714), "
                    "so that the inverter's setpoint is not known"
                )
            beside_w = pv_w
        self._beside_w = beside_w
        held, reason = await self._control.hold(power_w + beside_w, generation)
        return None if held is None else held - beside_w, reason

    def _droop_offer(self, reads: Reads) -> DroopOffer:
        """What the droop is per unit of is published as the rating; devices with a lower setting may mean that."""
        rated_w, set_w = reading(reads, "702.WMaxRtg").value, reading(reads, "702.WMax").value
        cannot = self.droop.cannot
        if not cannot and rated_w is None:
            cannot = "the device's rated power cannot be read (702.WMaxRtg), which its droop is per unit of"
        elif not cannot and set_w is not None and set_w != rated_w:
            cannot = (
                f"702.WMax ({set_w:g} W) is not 702.WMaxRtg ({rated_w:g} W): which one its droop means is not known"
            )
        return DroopOffer(cannot, rated_w or 0.0, self.droop.has_dead_man)

    def _held(self, reads: Reads) -> Reading:
        setpoint = reading(reads, "704.WSet")
        held = held_w(reads)
        if held is None:
            return Reading(None, setpoint.read_mono_s, Quality.MISSING)
        return Reading(held - self._beside_w, setpoint.read_mono_s)


def _live_limit(reads: Reads, setting: str, current: str) -> Reading:
    """The smallest of the inverter's settings and of what the BMS allows now."""
    limits = [reading(reads, f"702.{setting}"), reading(reads, "702.WMax")]
    return smallest(*limits, *bms.power_w(reads, current))
