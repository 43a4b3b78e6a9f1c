"""Controlling a device by its profile: take-over, setpoints verified by read-back, release of what was saved.

The order of a setpoint is: take-over where the device is not under control, dead-man, heartbeat, the sequence of
the direction, and what the device then holds. Nothing is written twice; after a failure the caller decides anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from agent.core.snapshot import Quality, Reading
from drivers.codec import OutOfRange
from drivers.errors import DeviceError, LinkTimeout, ModbusRefused
from drivers.profile.check_control import CYCLIC
from drivers.profile.conditions import holds, told
from drivers.profile.held import HeldState
from drivers.profile.model import Control
from drivers.profile.reads import ProfileReads, Spots
from drivers.profile.settings import OwnersSettings
from drivers.profile.wear import StoredBudget, StoredWrites
from drivers.profile.writing import (
    LOOK_AGAIN_S,
    Given,
    Registers16,
    Writer,
    dead_man_registers,
    in_unit,
    literal,
)
from drivers.read_plan import Reads
from drivers.registers import Registers
from drivers.setpoint import Unwritable
from drivers.spec import DeviceSpec

FLOAT_SLACK: Final = 1e-6
"""A device may round a 32-bit float on its way."""
LOOKS_WHILE_WORKING: Final = 9
"""Two seconds of looking at a device that said that it still works on a write (Modbus exception 5)."""
Outcome = tuple[float | None, str]
"""What the device holds, None if unknown or nothing; and why that is not what was wanted, or ""."""


class ProfileControl:
    """The control of one role of one device."""

    def __init__(
        self,
        spots: Spots,
        spec: DeviceSpec,
        link: Registers,
        clock: Callable[[], float],
        *,
        settings: OwnersSettings,
        writes: StoredWrites,
    ) -> None:
        control = getattr(spots.profile, spec.role).control
        assert isinstance(control, Control)
        self._spots = spots
        self._control = control
        self._role = spec.role
        self._where = f"{spec.role}.control"
        self._device_id = spec.device_id
        self._dead_man_s = float(spec.reversion_s)
        self._link = link
        self._clock = clock
        self._state = HeldState(spots, control)
        self.budget = StoredBudget(spec.device_id, control.stored_writes_per_day, writes)
        self._settings = settings
        self._keeps_dead_man = True
        """False once the device has shown, over this connection, that it does not keep its dead-man's time."""
        self._count = 0
        self._taken_over: int | None = None
        """The connection over which the device was taken over, or found under our control."""
        self._acknowledged: tuple[int, float, float] | None = None
        """Connection, power and time of the last setpoint where it cannot be read back."""

    @property
    def has_dead_man(self) -> bool:
        """Whether the device ends a setpoint by itself when they stop coming."""
        dead_man = self._control.dead_man
        return dead_man.none is None and not dead_man.fed_by_reads and self._keeps_dead_man

    @property
    def names(self) -> list[str]:
        """The points that each poll must read."""
        remote = [self._control.remote.point] if self._control.remote is not None else []
        return [*self._state.names, *remote]

    def held(self, reads: Reads) -> Reading:
        """The setpoint that the device holds; missing while it is not under our control.

        A poll that shows it out of control makes the next setpoint take over again.
        """
        if not self._state.under_control(reads):
            self._taken_over = None
        if self._control.confirm == "read_back":
            return self._state.power(reads)
        newest_s = max((read.read_mono_s for read in reads.values()), default=float("-inf"))
        return Reading(power_w, newest_s) if (power_w := self._still()) is not None else _missing(newest_s)

    def limited(self, reads: Reads) -> Reading:
        """1 while the device holds a limit, whoever wrote it, 0 while it holds what `release` leaves."""
        held = self.held(reads)
        readable = [name for name in self._state.names if self._spots.profile.points[name].readable]
        if any(name not in reads or reads[name].value is None for name in readable):
            return _missing(held.read_mono_s)
        free = held.value is None or self._state.released(reads)
        return Reading(0.0 if free else 1.0, held.read_mono_s)

    async def hold(self, power_w: float, generation: int) -> Outcome:
        """Make the device hold `power_w` (rounded toward zero) and read back what it holds.

        `Unwritable` when nothing could be written, `DeviceError` when the link failed beforehand.
        """
        writer = Writer(self._spots, self._link, self._clock, generation, self.budget)
        try:
            self._keeps_dead_man = self._keeps_dead_man or self._taken_over != generation
            if self._taken_over != generation or self._control.remote is not None:
                await self._ensure_control(writer, generation)
            reads = await self._ratings()
            given = self._given(power_w, reads)
            style = self._style(given)
            await self._arm(writer)
            began_s = self._clock()
            await writer.run(getattr(self._control, style), given, f"{self._where}.{style}")
            spent_s = self._clock() - began_s
        except (LinkTimeout, ModbusRefused) as error:
            self._taken_over = None
            return await self._held_after_failure(), str(error)
        limit_s = self._control.group_within
        if limit_s is not None and spent_s > limit_s:
            return None, f"the writes of one setpoint took {spent_s:.1f} s, the device wants them within {limit_s:g} s"
        return await self._confirmed(style, power_w, writer, generation)

    @property
    def has_heartbeat(self) -> bool:
        """Whether a register counts up while the agent controls."""
        return self._control.heartbeat is not None

    async def beat(self, generation: int) -> None:
        """Count the heartbeat on, while the device is under our control; errors are `DeviceError`s."""
        if self._taken_over == generation:
            await self._beat(Writer(self._spots, self._link, self._clock, generation, self.budget))

    async def release(self, generation: int, *, rest: bool) -> Outcome:
        """Put the owner's settings back and leave the device to its own control; nothing if it is there already.

        `rest`: it goes to 0 W first, and stays there where there is nothing to put back. Where it does not rest, its
        owner has it back all the same: that ends our setpoint too.
        """
        reads = await self._read([*self._state.names, *self._control.save])
        free = not self._state.ours(reads) if rest else self._state.released(reads)
        if self._taken_over is None and free:
            return None, ""
        no_rest = ""
        if rest:
            held_w, no_rest = await self.hold(0.0, generation)
            if not self._control.release:
                return held_w, no_rest
        writer = Writer(self._spots, self._link, self._clock, generation, self.budget)
        given = Given(dead_man_s=self._dead_man_s, saved=self._saved(), reads=reads)
        try:
            await writer.run(self._control.release, given, f"{self._where}.release")
        except (LinkTimeout, ModbusRefused) as error:
            return await self._held_after_failure(), str(error)
        self._taken_over = None
        self._acknowledged = None
        await asyncio.sleep(self._spots.profile.pacing.before_read_back)
        reason = self._differs(writer.written, await self._read(list(writer.written)))
        if not reason:
            await self._settings.put(self._device_id, {})
        return None, reason or no_rest

    async def _ensure_control(self, writer: Writer, generation: int) -> None:
        """Take the device over, unless it still is under our control."""
        control = self._control
        reads = await self._read([*self.names, *control.save])
        if control.remote is not None and not holds(self._spots.profile, control.remote, reads):
            wanted = told(self._spots.profile, control.remote)
            raise Unwritable(
                f"the device does not accept remote control ({wanted} does not hold): set it to remote at the device"
            )
        if self._taken_over == generation:
            return
        if self._state.told and self._state.under_control(reads):
            await self._save(reads, ours=True)
        else:
            await self._save(reads, ours=False)
            if control.take_over:
                given = Given(dead_man_s=self._dead_man_s, saved=self._saved(), reads=reads)
                await writer.run(control.take_over, given, f"{self._where}.take_over")
        self._taken_over = generation

    def _saved(self) -> dict[str, float]:
        """The owner's settings that are to be put back; where they are not known, what stands in for them."""
        standing_in = {name: self._number(name, default) for name, default in self._control.save.items()}
        return standing_in | self._settings.of(self._device_id)

    async def _save(self, reads: Reads, *, ours: bool) -> None:
        """Keep the owner's settings; what we wrote ourselves before a restart is not one of them."""
        saved = self._saved()
        written = {
            write.point: value
            for step in self._control.take_over
            for write in step.writes
            if (value := literal(self._spots, write)) is not None
        }
        for name in self._control.save:
            read = reads.get(name)
            found = read.value if read is not None and isinstance(read.value, int | float) else None
            if found is not None and not ours and found != written.get(name):
                saved[name] = float(found)
        await self._settings.put(self._device_id, saved)

    def _number(self, name: str, stated: str | float) -> float:
        values = self._spots.profile.points[name].values or {}
        return float(values[stated]) if isinstance(stated, str) else float(stated)

    async def _arm(self, writer: Writer) -> None:
        """Dead-man and heartbeat, before the setpoint that they guard."""
        dead_man = self._control.dead_man
        if dead_man.point is not None:
            try:
                values = dead_man_registers(self._spots, dead_man.point, self._dead_man_s)
            except OutOfRange as error:
                raise Unwritable(str(error)) from error
            try:
                if self._keeps_dead_man:
                    await writer.put(dead_man.point, values)
            except ModbusRefused:
                if not dead_man.if_kept:
                    raise
                self._keeps_dead_man = False
        await self._beat(writer)

    async def _beat(self, writer: Writer) -> None:
        if self._control.heartbeat is not None:
            codec = self._spots[self._control.heartbeat].codec
            self._count = (self._count + 1) % ((1 << (16 * codec.count - 1)) - 1)
            await writer.put(self._control.heartbeat, codec.encode(self._count))

    async def _ratings(self) -> Reads:
        """The points that setpoints in percent refer to, and the scale factors of what is written."""
        writes = [write for style in CYCLIC for step in getattr(self._control, style) for write in step.writes]
        names = [write.of for write in writes if write.of is not None]
        for write in writes:
            factor = self._spots.profile.points[write.point].scale_from
            if factor is not None:
                names.append(factor)
        return await self._read(names) if names else {}

    def _given(self, power_w: float, reads: Reads) -> Given:
        return Given(power_w, self._dead_man_s, self._count, self._saved(), reads, ceiling=self._role == "pv")

    def _style(self, given: Given) -> str:
        """The sequence for this power; a power below the register's step is rest."""
        style = self._state.style(given.power_w)
        if style in ("charge", "discharge"):
            writes = [w for step in getattr(self._control, style) for w in step.writes if w.from_ == "power"]
            steps = [self._spots[write.point].codec.step() for write in writes]
            values = [abs(in_unit(self._spots, write, given.power_w, given.reads)) for write in writes]
            if all(value < step for value, step in zip(values, steps, strict=True)):
                return "rest"
        return style

    async def _confirmed(self, style: str, power_w: float, writer: Writer, generation: int) -> Outcome:
        await asyncio.sleep(self._spots.profile.pacing.before_read_back)
        watched = self._names_to_confirm(writer)
        guards = [self._control.dead_man.point] if self._control.dead_man.point is not None else []
        for look in range(LOOKS_WHILE_WORKING if writer.working else 1):
            await asyncio.sleep(LOOK_AGAIN_S if look else 0.0)
            reads = await self._read([*self._state.names, *watched, *guards])
            if self._link.generation != generation:
                return None, "the connection was replaced before the setpoint was read back; read the device again"
            reason = self._differs({name: writer.written[name] for name in watched}, reads) or self._unarmed(reads)
            if not reason:
                break
        if not self._state.under_control(reads):
            self._taken_over = None
            reason = reason or "the device left our control while the setpoint was written; it is taken over again"
        if self._control.confirm == "acknowledgement":
            held_w = 0.0 if style == "rest" else power_w
            self._acknowledged = None if reason else (generation, held_w, self._clock())
            return (None if reason else held_w), reason
        return self._state.power(reads).value, reason

    def _names_to_confirm(self, writer: Writer) -> list[str]:
        points = self._spots.profile.points
        dead_man, beat = self._control.dead_man.point, self._control.heartbeat
        return [
            name
            for name in writer.written
            if points[name].readable and points[name].write != "command" and name not in (dead_man, beat)
        ]

    def _unarmed(self, reads: Reads) -> str:
        """Why the dead-man is not armed as it was written, or ""; it may count down meanwhile."""
        name = self._control.dead_man.point
        read = reads.get(name) if name is not None else None
        if name is None or read is None or not self._keeps_dead_man:
            return ""
        codec = self._spots[name].codec
        wanted = codec.value(codec.raw(dead_man_registers(self._spots, name, self._dead_man_s)))
        assert isinstance(wanted, int | float)
        if isinstance(read.value, int | float) and 0 < read.value <= wanted:
            return ""
        if self._control.dead_man.if_kept:
            self._keeps_dead_man = False
            return ""
        seen = codec.shown(read.value)
        return f"accepted but not applied: the dead-man {name} reads {seen} where {codec.shown(wanted)} was written"

    def _differs(self, written: dict[str, Registers16], reads: Reads) -> str:
        """The first point that does not hold what was written to it, or ""."""
        for name, registers in written.items():
            codec = self._spots[name].codec
            if not codec.point.readable or codec.point.write == "command":
                continue
            read = reads.get(name)
            wanted = codec.value(codec.raw(registers), self._exponent(name, reads))
            seen = None if read is None else read.value
            if not _same(wanted, seen):
                shown = "has no value" if seen is None else f"reads {codec.shown(seen)}"
                return (
                    f"accepted but not applied: {name} {shown} where {codec.shown(wanted)} was written; "
                    "check local/remote mode, the device's limits, and that no other client controls it"
                )
        return ""

    def _exponent(self, name: str, reads: Reads) -> int | None:
        factor = self._spots.profile.points[name].scale_from
        if factor is None:
            return 0
        read = reads.get(factor)
        return read.value if read is not None and isinstance(read.value, int) else None

    def _still(self) -> float | None:
        """The acknowledged setpoint while it can still be in force."""
        if self._acknowledged is None or self._acknowledged[0] != self._link.generation:
            return None
        dead_man = self._control.dead_man
        lasts_s = dead_man.fixed if dead_man.fixed is not None else self._dead_man_s
        if dead_man.none is None and self._clock() - self._acknowledged[2] > lasts_s:
            return None
        return self._acknowledged[1]

    async def _read(self, names: list[str]) -> Reads:
        readable = [name for name in dict.fromkeys(names) if self._spots.profile.points[name].readable]
        return await ProfileReads(self._spots, readable).read(self._link, 0, self._clock)

    async def _held_after_failure(self) -> float | None:
        """What the device holds after a failed write, which may have been carried out in part."""
        try:
            return self._state.power(await self._read(self._state.names)).value
        except DeviceError:
            return None


def _missing(read_mono_s: float) -> Reading:
    return Reading(None, read_mono_s, Quality.MISSING)


def _same(wanted: object, seen: object) -> bool:
    if isinstance(wanted, float) and isinstance(seen, int | float):
        return abs(wanted - seen) <= FLOAT_SLACK * max(abs(wanted), 1.0)
    return wanted == seen
