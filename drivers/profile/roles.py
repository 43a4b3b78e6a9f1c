"""Battery, PV inverter and meter made from a profile: the same readings and setpoints as those of a SunSpec device."""

from __future__ import annotations

import asyncio
import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence

from agent.core.snapshot import (
    NEVER,
    BatterySample,
    CeilingOutcome,
    MeterSample,
    PvSample,
    Quality,
    Reading,
    WriteOutcome,
)
from drivers.errors import DeviceError
from drivers.profile.control import Outcome, ProfileControl
from drivers.profile.model import Battery, Condition, Control, Meter, Profile, Pv
from drivers.profile.reads import ProfileReads, Spots
from drivers.profile.session import ProfileSession
from drivers.profile.settings import OwnersSettings
from drivers.profile.trial import Trial, trial
from drivers.profile.values import ALARMS, Values, names_in
from drivers.profile.wear import StoredBudget, StoredWrites, Wear
from drivers.pv_ceiling import NO_BESIDE
from drivers.readings import believable, or_stated
from drivers.registers import Registers
from drivers.setpoint import Unwritable
from drivers.spec import DeviceSpec, Identity

CELL_MAX_V = 10.0
"""No battery cell of any chemistry reaches it."""
NO_READINGS = frozenset({"ready", "alarms", "control", "limit_covers"})
"""Keys of a role that are not made of points."""
HAND_WRITES_PER_DAY = 24
"""Of registers that wear out, where no control of the profile states a budget."""
MIN_FREQUENCY_HZ = 42.5
MAX_FREQUENCY_HZ = 69.0
"""The measuring range that IEC 61000-4-30 asks for, 50 and 60 Hz grids together."""


class _ProfileDevice(ABC):
    """What the roles share: the link's pace, the session, the registers of this device."""

    _control: ProfileControl | None = None

    def __init__(
        self,
        spec: DeviceSpec,
        link: Registers,
        clock: Callable[[], float],
        settings: OwnersSettings | None = None,
        writes: StoredWrites | None = None,
    ) -> None:
        assert spec.profile is not None
        self.spec = spec
        self._profile: Profile = spec.profile
        self._link = link
        self._clock = clock
        self.spots = Spots(self._profile, spec.unit_id, spec.unit_ids)
        self.writing = asyncio.Lock()
        """Held while something is written: what belongs together stays together."""
        self._settings = settings or OwnersSettings()
        self._writes = writes or StoredWrites(clock)
        self._wears_out = any(point.write == "stored" for point in self._profile.points.values())
        self._no_control_budget = StoredBudget(spec.device_id, HAND_WRITES_PER_DAY, self._writes)
        link.pace(self._profile.pacing.between_requests, self._profile.pacing.after_connect)
        self.session = self._session()

    @abstractmethod
    def _session(self) -> ProfileSession:
        """The session that polls what the role needs; made once, with the role's control where it has one."""

    @property
    def budget(self) -> StoredBudget:
        """How often its registers that wear out may still be written, by the agent and by hand together."""
        return self._control.budget if self._control is not None else self._no_control_budget

    @property
    def wear(self) -> Wear | None:
        """How much of that is used; None where no register of the profile wears out."""
        return self.budget.wear if self._wears_out else None

    @property
    def refused(self) -> dict[str, str]:
        """The points that the device does not offer now, by name, with its answer."""
        return self.session.refused

    async def identify(self) -> Identity:
        """Find out who the device is; `IdentityMismatch` if it is none that the profile is for."""
        return await self.session.identify()

    async def look(self, names: Sequence[str]) -> Trial:
        """The points called `names`, all when there are none, for people; see `drivers.profile.trial`."""
        return await trial(self.spots, names, self._link, self._clock)

    def _controlled(self, stated: Control | None) -> ProfileControl | None:
        """How the role is controlled, None where the profile does not state it."""
        if stated is None:
            return None
        return ProfileControl(
            self.spots, self.spec, self._link, self._clock, settings=self._settings, writes=self._writes
        )

    def _known(self, role: Battery | Pv | Meter, more: Sequence[str] = ()) -> ProfileSession:
        """The session that polls what the role is made of."""
        sources = [getattr(role, name) for name in type(role).model_fields if name not in NO_READINGS]
        names = [name for source in sources for name in names_in(source)]
        return ProfileSession(self.spec, self._link, self._clock, self.spots, [*names, *more])


class ProfileBattery(_ProfileDevice):
    """Readings and setpoints of one battery system; + is discharge."""

    def _session(self) -> ProfileSession:
        assert self._profile.battery is not None
        self._role = role = self._profile.battery
        self._control = self._controlled(role.control)
        self._ready: list[Condition] = list(role.ready)
        if role.control is not None and role.control.remote is not None:
            self._ready.append(role.control.remote)
        alarmed = [condition.point for name in ALARMS for condition in getattr(role.alarms, name)]
        watched = [*(condition.point for condition in self._ready), *alarmed]
        return self._known(role, [*watched, *(self._control.names if self._control is not None else [])])

    @property
    def has_dead_man(self) -> bool | None:
        """Whether the device ends a setpoint by itself when they stop coming."""
        return None if self._control is None else self._control.has_dead_man

    async def read(self) -> BatterySample:
        """The newest readings; errors are `DeviceError`s."""
        reads = await self.session.poll()
        role, values, identity = self._role, Values(self._profile, reads), self.session.identity
        discharge_w = _magnitude(values.reading(role.rated_discharge_w))
        charge_w = _magnitude(values.reading(role.rated_charge_w))
        power_w = believable(values.reading(role.power_w), discharge_w, charge_w)
        return BatterySample(
            device_id=self.spec.device_id,
            serial=identity.serial if identity is not None else None,
            power_w=power_w,
            soc_pct=values.reading(role.soc_pct).within(0.0, 100.0),
            capacity_wh=or_stated(
                values.reading(role.capacity_wh).within(0.0, math.inf), self.spec.capacity_wh, power_w
            ),
            rated_discharge_w=discharge_w,
            rated_charge_w=charge_w,
            live_discharge_limit_w=_magnitude(values.reading(role.live_discharge_limit_w)),
            live_charge_limit_w=_magnitude(values.reading(role.live_charge_limit_w)),
            ready=values.ready(self._ready, power_w),
            held_setpoint_w=self._control.held(reads) if self._control is not None else NEVER,
            has_dead_man=self.has_dead_man,
            temperature_c=values.reading(role.temperature_c),
            cell_min_v=values.reading(role.cell_min_v).within(0.0, CELL_MAX_V),
            cell_max_v=values.reading(role.cell_max_v).within(0.0, CELL_MAX_V),
            alarms=values.alarms(role.alarms),
        )

    async def write_setpoint(self, power_w: float) -> WriteOutcome:
        """Make the device hold `power_w` (+ = discharge), rounded toward zero, and read back what it holds.

        Takes the device over first where that is needed. Never raises a `DeviceError`: the outcome says what went
        wrong. Nothing is written twice; after a failure the caller decides from a fresh reading.
        """
        assert math.isfinite(power_w)
        return await self._outcome(power_w, lambda control, generation: control.hold(power_w, generation))

    @property
    def has_heartbeat(self) -> bool:
        """Whether it wants to hear once a second that its controller is alive."""
        return self._control is not None and self._control.has_heartbeat

    async def beat(self) -> None:
        """Count its heartbeat on; left out while something else is written, or while it is not known."""
        if self._control is None or self.writing.locked() or self.session.identity is None:
            return
        async with self.writing:
            with contextlib.suppress(DeviceError):  # the next setpoint tells what is wrong
                await self._control.beat(self._link.generation)

    async def release(self) -> WriteOutcome:
        """Bring the device to 0 W, put its owner's settings back, and leave it to its own control."""
        return await self._outcome(0.0, lambda control, generation: control.release(generation, rest=True))

    async def _outcome(self, power_w: float, act: Callable[[ProfileControl, int], Awaitable[Outcome]]) -> WriteOutcome:
        held: float | None = None
        async with self.writing:
            try:
                await self.session.ensure_identified()
                if self._control is None:
                    reason = "its profile has no [battery.control]: it can only be looked at"
                else:
                    held, reason = await act(self._control, self._link.generation)
            except (DeviceError, Unwritable) as error:
                reason = str(error)
        return WriteOutcome(self.spec.device_id, power_w, held, not reason, reason, self._clock())


class ProfilePv(_ProfileDevice):
    """Power and ceiling of one PV inverter; + is generation."""

    def _session(self) -> ProfileSession:
        assert self._profile.pv is not None
        self._role = role = self._profile.pv
        self._control = self._controlled(role.control)
        self._beside = self._profile.beside_pv if self._control is not None else None
        self._beside_w = 0.0
        """Battery power that the limit last written includes."""
        return self._known(role, self._control.names if self._control is not None else [])

    @property
    def has_limit(self) -> bool:
        """Whether its power can be limited."""
        return self._control is not None

    @property
    def has_dead_man(self) -> bool | None:
        """Whether it ends a ceiling by itself when writes stop; None without a ceiling."""
        return None if self._control is None else self._control.has_dead_man

    async def read(self) -> PvSample:
        """The newest readings; errors are `DeviceError`s."""
        reads = await self.session.poll()
        limited = ceiling_w = NEVER
        if self._control is not None:
            limited = self._control.limited(reads)
            held = self._control.held(reads)
            told_w = None if held.value is None or limited.value != 1.0 else held.value - self._beside_w
            ceiling_w = Reading(told_w, held.read_mono_s, Quality.MISSING if told_w is None else Quality.GOOD)
        return PvSample(
            device_id=self.spec.device_id,
            power_w=Values(self._profile, reads).reading(self._role.power_w),
            limited=limited,
            ceiling_w=ceiling_w,
            has_limit=self.has_limit,
            has_dead_man=self.has_dead_man,
        )

    async def write_ceiling(self, ceiling_w: float | None) -> CeilingOutcome:
        """Make the inverter give at most `ceiling_w`, rounded down, or (None) all it can; and read back what it holds.

        Never raises a `DeviceError`: the outcome says what went wrong. Nothing is written twice.
        """
        assert ceiling_w is None or (math.isfinite(ceiling_w) and ceiling_w >= 0.0)
        held: float | None = None
        async with self.writing:
            try:
                await self.session.ensure_identified()
                generation = self._link.generation
                if self._control is None:
                    reason = "its profile has no [pv.control]: its power cannot be limited"
                elif ceiling_w is None:
                    held, reason = await self._control.release(generation, rest=False)
                else:
                    self._beside_w = await self._beside_now()
                    found, reason = await self._control.hold(max(ceiling_w + self._beside_w, 0.0), generation)
                    held = None if found is None else found - self._beside_w
            except (DeviceError, Unwritable) as error:
                reason = str(error)
        return CeilingOutcome(self.spec.device_id, ceiling_w, held, not reason, reason, self._clock())

    async def _beside_now(self) -> float:
        """What the battery on the same inverter gives now, where the limit covers both."""
        if self._beside is None:
            return 0.0
        reads = await ProfileReads(self.spots, names_in(self._beside)).read(self._link, self.spec.unit_id, self._clock)
        beside_w = Values(self._profile, reads).reading(self._beside).value
        if beside_w is None:
            raise Unwritable(NO_BESIDE)
        return beside_w


class ProfileMeter(_ProfileDevice):
    """Power, frequency and energy counters of one meter; + is toward the grid.

    What the site file states about the sign wins over the profile: the wiring may differ.
    """

    def _session(self) -> ProfileSession:
        assert self._profile.meter is not None
        self._role = self._profile.meter
        return self._known(self._role)

    async def read(self) -> MeterSample:
        """The newest readings; errors are `DeviceError`s."""
        reads = await self.session.poll()
        values = Values(self._profile, reads, self.spec.positive)
        return MeterSample(
            device_id=self.spec.device_id,
            power_w=values.reading(self._role.power_w),
            frequency_hz=values.reading(self._role.frequency_hz).within(MIN_FREQUENCY_HZ, MAX_FREQUENCY_HZ),
            export_wh=values.reading(self._role.export_wh),
            import_wh=values.reading(self._role.import_wh),
        )


ProfileDevice = ProfileBattery | ProfilePv | ProfileMeter


def open_profile_device(
    spec: DeviceSpec,
    link: Registers,
    clock: Callable[[], float],
    settings: OwnersSettings | None = None,
    writes: StoredWrites | None = None,
) -> ProfileDevice:
    """The device that `spec` describes by a profile; nothing is sent before it is first read or written."""
    match spec.role:
        case "battery":
            return ProfileBattery(spec, link, clock, settings, writes)
        case "pv":
            return ProfilePv(spec, link, clock, settings, writes)
        case "meter":
            return ProfileMeter(spec, link, clock, settings, writes)


def _magnitude(reading: Reading) -> Reading:
    """Limits and ratings are stated without a direction here, whatever the device's sign."""
    if reading.value is None:
        return reading
    return Reading(abs(reading.value), reading.read_mono_s)
