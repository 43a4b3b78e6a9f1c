"""Reading a device by its profile outside of the daemon: who it is and every point, with nothing that could write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agent.core.snapshot import Quality
from drivers.codec import Value
from drivers.errors import DeviceError
from drivers.profile.codec import Raw
from drivers.profile.conditions import holds, told
from drivers.profile.reads import ProfileReads, Spots
from drivers.readings import judged
from drivers.registers import Registers


@dataclass(frozen=True, slots=True)
class PointRead:
    """One point as the device answered it."""

    name: str
    value: Value | None
    """In the profile's unit; None where the quality says why."""
    unit: str
    label: str | None
    """Of an enumeration or of bits."""
    raw: Raw | None
    registers: tuple[int, ...]
    age_s: float | None
    quality: str
    note: str
    """Why there is no value, where the device says so."""
    writable: bool = False
    """Whether it may be written by hand."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a device answered."""

    mismatch: tuple[str, ...]
    """Why it is not what the profile describes; empty when it is."""
    points: tuple[PointRead, ...]


class UnknownPoint(ValueError):  # noqa: N818  # named for what was asked
    """The profile has no such point."""


async def trial(spots: Spots, names: Sequence[str], link: Registers, clock: Callable[[], float]) -> Trial:
    """The points called `names` (all when there are none); `UnknownPoint`, or `DeviceError` if nobody answers."""
    profile = spots.profile
    for name in names:
        if name not in profile.points:
            raise UnknownPoint(f"the profile has no point {name!r}; it has {', '.join(profile.points)}")
        if not profile.points[name].readable:
            raise UnknownPoint(f"{name} can only be written")
    link.pace(profile.pacing.between_requests, profile.pacing.after_connect)
    wanted = list(names) or [name for name, point in profile.points.items() if point.readable]
    who = ProfileReads(spots, [condition.point for condition in profile.identity.check])
    seen = await who.read(link, 0, clock)
    mismatch = tuple(
        f"{told(profile, condition)} does not hold"
        for condition in profile.identity.check
        if not holds(profile, condition, seen)
    )
    points: dict[str, PointRead] = {}
    for unit in dict.fromkeys(spots[name].unit_id for name in wanted):
        points |= await _of_one_unit(spots, [name for name in wanted if spots[name].unit_id == unit], link, clock)
    return Trial(mismatch, tuple(points[name] for name in wanted))


async def _of_one_unit(
    spots: Spots, names: Sequence[str], link: Registers, clock: Callable[[], float]
) -> dict[str, PointRead]:
    """The points behind one unit id; where it does not answer each says so."""
    plan = ProfileReads(spots, names)
    try:
        seen = await plan.see(link, clock)
    except DeviceError as error:
        return {name: _silent(spots, name, str(error)) for name in names}
    found: dict[str, PointRead] = {}
    for name in names:
        if name not in seen:
            found[name] = _silent(spots, name, str(plan.refused.get(name, "was not read")))
            continue
        one, point = seen[name], spots.profile.points[name]
        quality = Quality.GOOD if one.read.value is not None else Quality.MISSING
        if quality is Quality.GOOD and point.plausible is not None:
            quality = judged(one.read, low=point.plausible[0], high=point.plausible[1]).quality
        label = spots[name].codec.label(one.read.value)
        age_s = clock() - one.read.read_mono_s
        value = one.read.value if quality is Quality.GOOD else None
        found[name] = PointRead(
            name, value, point.unit, label, one.raw, one.registers, age_s, quality.value, "", point.may_be_written
        )
    return found


def _silent(spots: Spots, name: str, why: str) -> PointRead:
    return PointRead(name, None, spots.profile.points[name].unit, None, None, (), None, Quality.MISSING.value, why)
