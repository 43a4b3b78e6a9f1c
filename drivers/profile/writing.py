"""Carrying out the steps of a profile: values into registers, frames in order, waiting for what must come true."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from drivers.codec import OutOfRange, Rounding
from drivers.errors import DeviceError, ModbusRefused
from drivers.profile.conditions import holds, told
from drivers.profile.model import Control, Point, Step, Write
from drivers.profile.place import write_function_of
from drivers.profile.reads import Spot, Spots, read_points
from drivers.profile.units import SHARE, TIME, UNITS
from drivers.profile.values import Values, to_inside, toward_grid
from drivers.profile.wear import StoredBudget
from drivers.read_plan import Reads
from drivers.registers import Registers
from drivers.setpoint import Unwritable

LOOK_AGAIN_S = 0.25
"""Between two looks at a condition that is waited for."""
STILL_WORKING, BUSY = 5, 6
"""Modbus exceptions after which a write is not lost: read back until it shows; send it once more."""

Registers16 = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Given:
    """What the writes of a sequence may take."""

    power_w: float = 0.0
    dead_man_s: float = 0.0
    count: int = 0
    saved: Mapping[str, float] = field(default_factory=dict)
    reads: Reads = field(default_factory=dict)
    """The newest readings of the points that are 100 %."""
    ceiling: bool = False
    """The power is a ceiling: one beyond what the register can say is none, and written as its highest value."""


def literal(spots: Spots, write: Write) -> float | None:
    """The fixed value that is written, as a number in the point's unit; None where it comes from elsewhere."""
    if isinstance(write.set, str):
        return float((spots.profile.points[write.point].values or {})[write.set])
    return None if write.set is None else float(write.set)


def share_of(write: Write) -> Fraction:
    """The part of the setpoint that goes to this write: 0.333333 is meant as a third."""
    return Fraction(write.share).limit_denominator(1000)


def in_unit(spots: Spots, write: Write, power_w: float, reads: Reads) -> float:
    """The setpoint as `write` states it: in the point's unit and direction, its share of the whole."""
    point = spots.profile.points[write.point]
    share = share_of(write)
    power_w = power_w * share.numerator / share.denominator
    power_w = abs(power_w) if point.positive == "magnitude" else toward_grid(point, None) * power_w
    if UNITS[point.unit].dimension != SHARE:
        return power_w / to_inside(point)
    assert write.of is not None
    rating_w = Values(spots.profile, reads).point(write.of).value
    if not rating_w:
        raise Unwritable(f"{write.point}: {write.of}, which is 100 %, has no value")
    return 100.0 * power_w / abs(rating_w)


def registers_for(spots: Spots, write: Write, given: Given) -> Registers16:
    """What goes into the registers; `Unwritable` when it cannot be expressed."""
    codec = spots[write.point].codec
    exponent = _exponent(spots, write.point, given.reads)
    try:
        match write.from_:
            case "power":
                setpoint = in_unit(spots, write, given.power_w, given.reads)
                if given.ceiling:
                    setpoint = min(setpoint, _highest(codec.point))
                return codec.encode(setpoint, exponent, Rounding.TOWARD_ZERO)
            case "dead_man":
                return dead_man_registers(spots, write.point, given.dead_man_s)
            case "saved":
                return codec.encode(given.saved[write.point], exponent)
            case "count":
                return codec.encode(given.count % ((1 << (16 * codec.count)) - 1))
        value = literal(spots, write)
        assert value is not None, "the profile was checked"
        return codec.encode(value, exponent)
    except OutOfRange as error:
        raise Unwritable(str(error)) from error


def _highest(point: Point) -> float:
    """The highest ceiling that a point can take."""
    if point.write_range is not None:
        return float(point.write_range[1])
    return 100.0 if UNITS[point.unit].dimension == SHARE else math.inf


def dead_man_registers(spots: Spots, name: str, dead_man_s: float) -> Registers16:
    """The dead-man time, rounded down: never longer than the site file allows; `OutOfRange` if that is not possible."""
    codec = spots[name].codec
    unit = UNITS[codec.point.unit]
    assert unit.dimension == TIME
    value = dead_man_s / float(unit.factor)
    steps = codec.step()
    if steps and value < steps:
        raise OutOfRange(
            f"{name} counts in steps of {steps:g} {codec.point.unit}, longer than the dead_man of {dead_man_s:g} s "
            "in the site file; raise it there"
        )
    return codec.encode(value, rounding=Rounding.TOWARD_ZERO)


def dead_man_misfit(spots: Spots, control: Control, dead_man_s: float) -> str:
    """Why the dead-man time of the site file does not suit the device, or ""."""
    dead_man = control.dead_man
    if dead_man.fixed is not None and dead_man.fixed < dead_man_s and not dead_man.fed_by_reads:
        return (
            f"the device ends a setpoint by itself after {dead_man.fixed:g} s: "
            f'state dead_man = "{dead_man.fixed:g} s" or less, so that it is refreshed in time'
        )
    if dead_man.point is not None:
        try:
            dead_man_registers(spots, dead_man.point, dead_man_s)
        except OutOfRange as error:
            return f"dead_man: {error}"
    return ""


def _exponent(spots: Spots, name: str, reads: Reads) -> int | None:
    factor = spots.profile.points[name].scale_from
    if factor is None:
        return 0
    read = reads.get(factor)
    return read.value if read is not None and isinstance(read.value, int) else None


class Writer:
    """Writes over one connection, and over no other."""

    def __init__(
        self, spots: Spots, link: Registers, clock: Callable[[], float], generation: int, budget: StoredBudget
    ) -> None:
        self._spots = spots
        self._link = link
        self._clock = clock
        self._generation = generation
        self._budget = budget
        self.written: dict[str, Registers16] = {}
        """What was acknowledged, by point."""
        self.working = False
        """The device has taken a write and still works on it: it shows later what it holds."""

    async def run(self, steps: Sequence[Step], given: Given, where: str) -> None:
        """All steps in order; `Unwritable` when a condition did not come true, else `DeviceError`s."""
        for step in steps:
            if step.when is not None:
                reads = await read_points(self._spots, [step.when.point], self._link, self._clock)
                if not holds(self._spots.profile, step.when, reads):
                    continue
            frames = [(write.point, registers_for(self._spots, write, given)) for write in step.writes]
            if step.one_frame:
                await self._send([self._spots[name] for name, _ in frames], [values for _, values in frames])
            else:
                for name, values in frames:
                    await self.put(name, values)
            if step.until is not None:
                await self._until(step, where)

    async def put(self, name: str, values: Registers16) -> None:
        """One point; one that is stored only where it holds something else, and within its budget."""
        spot = self._spots[name]
        if spot.codec.point.write == "stored" and await self._holds(spot, values):
            self.written[name] = values
            return
        await self._send([spot], [values])

    async def _send(self, spots: Sequence[Spot], frames: Sequence[Registers16]) -> None:
        for spot in spots:
            assert spot.codec.point.write is not None, "the profile was checked"
            if spot.codec.point.write == "stored":
                await self._budget.spend(spot.name)
        first = spots[0]
        values = [value for frame in frames for value in frame]
        try:
            await self._put(first, values)
        except ModbusRefused as refused:
            if refused.code == BUSY:  # it did not take the write, so that it may be sent once more
                await asyncio.sleep(LOOK_AGAIN_S)
                await self._put(first, values)
            elif refused.code == STILL_WORKING:
                self.working = True
            else:
                raise
        self.written.update(zip((spot.name for spot in spots), frames, strict=True))

    async def _put(self, spot: Spot, values: Sequence[int]) -> None:
        if len(values) == 1 and write_function_of(self._spots.profile, spot.codec.point) == 6:
            await self._link.write_register(spot.unit_id, spot.address, values[0], generation=self._generation)
        else:
            await self._link.write_registers(spot.unit_id, spot.address, values, generation=self._generation)

    async def _holds(self, spot: Spot, values: Registers16) -> bool:
        if not spot.codec.point.readable:
            return False
        try:
            return await self._link.read_holding(spot.unit_id, spot.address, spot.codec.count) == values
        except DeviceError:
            return False

    async def _until(self, step: Step, where: str) -> None:
        assert step.until is not None
        assert step.within is not None
        deadline_s = self._clock() + step.within
        for _ in range(math.ceil(step.within / LOOK_AGAIN_S) + 1):  # bounded, whatever the clock does
            reads = await read_points(self._spots, [step.until.point], self._link, self._clock)
            if holds(self._spots.profile, step.until, reads):
                return
            if self._clock() >= deadline_s:
                break
            await asyncio.sleep(LOOK_AGAIN_S)
        read = reads.get(step.until.point)
        value = None if read is None else read.value
        shown = self._spots[step.until.point].codec.shown(value)
        raise Unwritable(
            f"{where}: {told(self._spots.profile, step.until)} did not come true within {step.within:g} s, "
            f"it is {shown}; look at the device's own alarms and at its local/remote switch"
        )
