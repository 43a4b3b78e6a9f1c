"""A battery with its inverter as a SunSpec device, of either generation: the 700 series, or model 124."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from dataclasses import replace

from agent.core.droop import DeviceDroop
from agent.core.snapshot import BatterySample, DroopOutcome, WriteOutcome
from drivers import battery_der, battery_storage
from drivers.battery_der import DerBattery
from drivers.battery_storage import StorageBattery
from drivers.errors import DeviceError
from drivers.profile.settings import OwnersSettings
from drivers.read_plan import ReadPlan, Reads, make_plan
from drivers.readings import or_stated
from drivers.registers import Registers
from drivers.session import Session
from drivers.setpoint import Heartbeat, Unwritable
from drivers.spec import DeviceSpec, Identity
from drivers.sunspec import Chain, require


class SunSpecBattery:
    """Readings and setpoints of one battery system; + is discharge, as SunSpec defines it."""

    def __init__(
        self, spec: DeviceSpec, link: Registers, clock: Callable[[], float], owners: OwnersSettings | None = None
    ) -> None:
        assert spec.role == "battery"
        self._owners = owners or OwnersSettings()
        self.spec = spec
        self._link = link
        self._clock = clock
        self.session = Session(spec, link, clock, self._prepare)
        self._battery: DerBattery | StorageBattery | None = None
        self.writing = asyncio.Lock()
        self._heartbeat = Heartbeat()

    @property
    def has_dead_man(self) -> bool | None:
        """Whether the device ends a setpoint by itself when they stop coming; None before it is identified.

        By model 704 it then goes to 0 W, by model 124 back to its own control.
        """
        return None if self._battery is None else self._battery.has_dead_man

    async def identify(self) -> Identity:
        """Find out who the device is and what it offers; errors are `DeviceError`s."""
        return await self.session.identify()

    async def points(self) -> Reads:
        """All that is polled, by model and point, for people; errors are `DeviceError`s."""
        return await self.session.poll()

    async def read(self) -> BatterySample:
        """The newest readings; errors are `DeviceError`s."""
        reads = await self.session.poll()
        assert self._battery is not None
        identity, sample = self.session.identity, self._battery.sample(reads)
        return replace(
            sample,
            serial=identity.serial if identity is not None else None,
            capacity_wh=or_stated(sample.capacity_wh, self.spec.capacity_wh, sample.power_w),
        )

    async def write_setpoint(self, power_w: float) -> WriteOutcome:
        """Make the device hold `power_w` (+ = discharge), rounded toward zero, and read back what it holds.

        Never raises a `DeviceError`: the outcome says what went wrong. Nothing is written twice; after a
        failure the caller decides from a fresh reading.
        """
        assert math.isfinite(power_w)
        async with self.writing:
            try:
                await self.session.ensure_identified()
                battery = self._battery
                assert battery is not None
                generation = self._link.generation
                # A device may take setpoints only from a controller that is alive; one that heard of us just now does
                # not make the setpoint wait.
                recent = self._heartbeat.recent(self._clock())
                if not recent:
                    await self._beat(generation)
                held, reason = await battery.hold(power_w, generation)
                if recent:
                    with contextlib.suppress(DeviceError):  # the next one is due within a second
                        await self._beat(generation)
            except (DeviceError, Unwritable) as error:
                held, reason = None, str(error)
        device_id, done_mono_s = self.spec.device_id, self._clock()
        return WriteOutcome(device_id, power_w, held, not reason, reason, done_mono_s)

    @property
    def has_heartbeat(self) -> bool:
        """Whether it wants to hear once a second that its controller is alive."""
        return self._heartbeat.wanted

    async def beat(self) -> None:
        """Count its heartbeats on; left out while something else is written, or while it is not known."""
        if self.writing.locked() or self.session.identity is None:
            return
        async with self.writing:
            with contextlib.suppress(DeviceError):  # the next setpoint tells what is wrong
                await self._beat(self._link.generation)

    async def _beat(self, generation: int) -> None:
        await self._heartbeat.beat(self._link, self.spec.unit_id, generation, self._clock())

    async def write_droop(
        self, wanted: DeviceDroop | None, respond_in_s: float, *, answering: bool = True
    ) -> DroopOutcome:
        """Make the device answer the frequency by itself around its setpoint, or (None) no longer; and read back.

        90 % of a step come within `respond_in_s`. Unless `answering`, the curve is only put ready. What the device does
        not confirm is switched off again. Never raises a `DeviceError`: the outcome says what went wrong.
        """
        assert wanted is None or (math.isfinite(wanted.dead_band_hz) and math.isfinite(wanted.droop))
        held: DeviceDroop | None = None
        off = False
        async with self.writing:
            try:
                await self.session.ensure_identified()
                battery = self._battery
                if isinstance(battery, DerBattery):
                    held, reason = await battery.droop.hold(
                        wanted, respond_in_s, self._link.generation, answering=answering
                    )
                    off = battery.droop.off
                else:
                    off = True
                    reason = "" if wanted is None else battery_storage.NO_DROOP
            except (DeviceError, Unwritable) as error:
                reason = str(error)
        return DroopOutcome(self.spec.device_id, wanted, held, not reason, off, reason, self._clock())

    async def give_back_droop(self) -> str:
        """Put back the droop that its owner had set before the first `write_droop`: why that failed, or "".

        Nothing is sent where nothing was overwritten. Never raises a `DeviceError`.
        """
        if not self._owners.of(self.spec.device_id):
            return ""
        async with self.writing:
            try:
                await self.session.ensure_identified()
                battery = self._battery
                if not isinstance(battery, DerBattery):
                    return battery_storage.NO_DROOP
                return await battery.droop.give_back(self._link.generation)
            except (DeviceError, Unwritable) as error:
                return str(error)

    async def release(self) -> WriteOutcome:
        """Leave the device at a held 0 W with its reversion armed.

        The control stays enabled: switching it off would hand the battery to whatever its own settings say.
        """
        return await self.write_setpoint(0.0)

    async def _prepare(self, chain: Chain) -> ReadPlan:
        """Model 704 is preferred: it takes watts, and its reversion goes to 0 W."""
        control = require(chain, (battery_der.MARK, battery_storage.MARK), (), self._link, self.spec.unit_id)
        battery = (
            DerBattery(self.spec, self._link, self._clock, chain, self._owners)
            if control.model_id == battery_der.MARK
            else StorageBattery(self.spec, self._link, self._clock, chain)
        )
        places = await battery.learn()
        self._battery = battery
        self._heartbeat = Heartbeat(
            chain.places(chain.first(715), ("ControllerHb",)) + chain.places(chain.first(802), ("CtrlHb",))
        )
        return make_plan(places)
