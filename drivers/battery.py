"""A battery with its inverter as a SunSpec DER (models 1, 701, 702, 704, 713; 715 and 802 where present).

Enumerations are those of the published models: 701.St 1 = on, 701.ConnSt 1 = connected, 701.InvSt 5 = shutting
down and 6 = fault, 802.State 3 = connected, 715/802.LocRemCtl 0 = remote.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import Final

from agent.core.snapshot import BatterySample, Quality, Reading, WriteOutcome
from drivers.errors import DeviceError
from drivers.read_plan import ReadPlan, Reads, make_plan
from drivers.readings import first_present, number, reading, smallest
from drivers.registers import Registers
from drivers.session import Session
from drivers.setpoint import CONTROL_POINTS, Heartbeat, SetpointControl, Unwritable, held_w
from drivers.spec import DeviceSpec, Identity
from drivers.sunspec import Chain, require

POINTS: Final[Mapping[int, tuple[str, ...]]] = {
    701: ("St", "InvSt", "ConnSt", "W"),
    702: ("WMaxRtg", "WChaRteMaxRtg", "WDisChaRteMaxRtg", "WMax", "WChaRteMax", "WDisChaRteMax"),
    704: ("WSetEna", "WSetMod", "WSet"),
    713: ("WHRtg", "SoC"),
    715: ("LocRemCtl",),
    802: ("SoC", "LocRemCtl", "State", "V", "CellVMax", "CellVMin", "AChaMax", "ADisChaMax"),
}
"""What each poll reads. Ratings are read along with the settings: they cost nothing and so never look stale."""
REQUIRED: Final[Mapping[int, tuple[str, ...]]] = {
    701: ("W",),
    702: ("WMaxRtg",),
    704: ("WSetEna", "WSetMod", "WSet", "WSet_SF"),
    713: ("SoC",),
}
STATES: Final = (
    ("701.St", (1,), True),
    ("701.ConnSt", (1,), True),
    ("701.InvSt", (5, 6), False),
    ("802.State", (3,), True),
    ("802.LocRemCtl", (0,), True),
    ("715.LocRemCtl", (0,), True),
)
"""For each state: the values that must be (True) or must not be (False) for power to be possible."""
CELL_MAX_V = 10.0
"""No battery cell of any chemistry reaches it."""
POWER_MARGIN = 1.5
"""More than this multiple of the rating is not a measurement."""


class SunSpecBattery:
    """Readings and setpoints of one battery system; + is discharge, as SunSpec defines it."""

    def __init__(self, spec: DeviceSpec, link: Registers, clock: Callable[[], float]) -> None:
        assert spec.role == "battery"
        self.spec = spec
        self._link = link
        self._clock = clock
        self._session = Session(spec, link, clock, self._prepare)
        self._control: SetpointControl | None = None
        self._writing = asyncio.Lock()
        self._heartbeat = Heartbeat()

    @property
    def has_dead_man(self) -> bool | None:
        """Whether the device reverts to 0 W by itself when setpoints stop coming; None before it is identified."""
        return None if self._control is None else self._control.has_dead_man

    async def identify(self) -> Identity:
        """Find out who the device is and what it offers; errors are `DeviceError`s."""
        return await self._session.identify()

    async def read(self) -> BatterySample:
        """The newest readings; errors are `DeviceError`s."""
        reads = await self._session.poll()
        widest_w = reading(reads, "702.WMaxRtg")
        discharge_w = first_present(reading(reads, "702.WDisChaRteMaxRtg"), widest_w)
        charge_w = first_present(reading(reads, "702.WChaRteMaxRtg"), widest_w)
        believable_w = POWER_MARGIN * max(discharge_w.value or 0.0, charge_w.value or 0.0) or math.inf
        return BatterySample(
            device_id=self.spec.device_id,
            power_w=reading(reads, "701.W", low=-believable_w, high=believable_w),
            soc_pct=first_present(
                reading(reads, "713.SoC", low=0.0, high=100.0), reading(reads, "802.SoC", low=0.0, high=100.0)
            ),
            capacity_wh=reading(reads, "713.WHRtg"),
            rated_discharge_w=discharge_w,
            rated_charge_w=charge_w,
            live_discharge_limit_w=_live_limit(reads, "WDisChaRteMax", "ADisChaMax"),
            live_charge_limit_w=_live_limit(reads, "WChaRteMax", "AChaMax"),
            ready=_ready(reads),
            held_setpoint_w=_held(reads),
            has_dead_man=self.has_dead_man,
            cell_min_v=reading(reads, "802.CellVMin", high=CELL_MAX_V),
            cell_max_v=reading(reads, "802.CellVMax", high=CELL_MAX_V),
        )

    async def write_setpoint(self, power_w: float) -> WriteOutcome:
        """Make the device hold `power_w` (+ = discharge), rounded toward zero, and read back what it holds.

        Never raises a `DeviceError`: the outcome says what went wrong. Nothing is written twice; after a
        failure the caller decides from a fresh reading.
        """
        assert math.isfinite(power_w)
        async with self._writing:
            try:
                await self._session.ensure_identified()
                control = self._control
                assert control is not None
                generation = self._link.generation
                await self._heartbeat.beat(self._link, self.spec.unit_id, generation)
                held, reason = await control.hold(power_w, generation)
            except (DeviceError, Unwritable) as error:
                held, reason = None, str(error)
        device_id, done_mono_s = self.spec.device_id, self._clock()
        return WriteOutcome(device_id, power_w, held, not reason, reason, done_mono_s)

    async def release(self) -> WriteOutcome:
        """Leave the device at a held 0 W with its reversion (to 0 W as well) armed.

        The control stays enabled: switching it off would hand the battery to whatever its own settings say.
        """
        return await self.write_setpoint(0.0)

    async def _prepare(self, chain: Chain) -> ReadPlan:
        unit_id = self.spec.unit_id
        models = {
            model_id: require(chain, (model_id,), names, self._link, unit_id) for model_id, names in REQUIRED.items()
        }
        control = SetpointControl(self.spec, self._link, self._clock, chain.places(models[704], CONTROL_POINTS))
        await control.learn()
        self._control = control
        self._heartbeat = Heartbeat(chain.places(chain.first(715), ("ControllerHb",)))
        return make_plan([chain.places(chain.first(model_id), names) for model_id, names in POINTS.items()])


def _ready(reads: Reads) -> Reading:
    """1 when every state that the device tells allows power, 0 when one does not, missing when it tells none."""
    if number(reads, "701.St") is None and number(reads, "701.ConnSt") is None:
        return reading(reads, "701.ConnSt")
    told = [
        (state, (state.value in states) is wanted)
        for key, states, wanted in STATES
        if (state := reading(reads, key)).value is not None
    ]
    oldest_mono_s = min(state.read_mono_s for state, _ in told)
    return Reading(1.0 if all(allowed for _, allowed in told) else 0.0, oldest_mono_s)


def _live_limit(reads: Reads, setting: str, current: str) -> Reading:
    """The smallest of the inverter's settings and of what the BMS allows now.

    The BMS states a DC current; times the DC voltage it is taken for the AC power, the losses between (a few
    percent) being the inverter's business.
    """
    limits = [reading(reads, f"702.{setting}"), reading(reads, "702.WMax")]
    amperes, volts = reading(reads, f"802.{current}"), number(reads, "802.V")
    if amperes.value is not None and volts is not None:
        limits.append(Reading(amperes.value * volts, amperes.read_mono_s))
    return smallest(*limits)


def _held(reads: Reads) -> Reading:
    setpoint = reading(reads, "704.WSet")
    held = held_w(reads)
    if held is None:
        return Reading(None, setpoint.read_mono_s, Quality.MISSING)
    return setpoint
