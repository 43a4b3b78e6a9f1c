"""Writes by hand to a device that is described by a profile: what may be written, within which limits."""

from __future__ import annotations

from collections.abc import Callable

from drivers.codec import OutOfRange, Value
from drivers.profile.model import Control, Point, Profile
from drivers.profile.reads import ProfileReads
from drivers.profile.roles import ProfileBattery, ProfileMeter, ProfilePv
from drivers.profile.units import POWER, SHARE, UNITS
from drivers.written_point import PointRefused, PointWrite, listed, number_in, within

ProfileDevice = ProfileBattery | ProfilePv | ProfileMeter
STEPS = ("take_over", "setpoint", "charge", "discharge", "rest", "release")


async def prepare_profile(device: ProfileDevice, name: str, text: str, clock: Callable[[], float]) -> PointWrite:
    """What would be written to the point called `name`; see `drivers.point_write.prepare`."""
    profile = device.spots.profile
    point = _writable(profile, name)
    spot = device.spots[name]
    value = _meant(name, point, text)
    _limit(device, name, point, value)
    exponent = await _exponent(device, point, clock)
    try:
        registers = spot.codec.encode(value, exponent)
    except OutOfRange as error:
        raise PointRefused(str(error), "give a value inside") from error
    old, old_label = await seen_now(device, name, clock)
    new = spot.codec.value(spot.codec.raw(registers), exponent)
    assert isinstance(new, int | float), "the codec refuses what would mean no value"
    planned = PointWrite(
        name=name,
        unit=point.unit,
        old=old,
        old_label=old_label,
        new=new,
        new_label=spot.codec.label(new),
        unit_id=spot.unit_id,
        address=spot.address,
        registers=registers,
        kind=point.write or "volatile",
        owned=name in owned_points(profile),
        budget_left=device.budget.left if point.write == "stored" else None,
    )
    if planned.budget_left is not None and planned.budget_left <= 0 and not planned.changes_nothing:
        why = f"{name} is stored in the device and wears out: its writes of the last 24 h are spent"
        raise PointRefused(why, "wait, and find out who changes it again and again")
    return planned


async def seen_now(device: ProfileDevice, name: str, clock: Callable[[], float]) -> tuple[Value | None, str | None]:
    """What the point holds now and its label; None where it cannot be read."""
    point = device.spots.profile.points[name]
    if not point.readable:
        return None, None
    read = (await ProfileReads(device.spots, [name]).read(device.session.link, 0, clock)).get(name)
    value = None if read is None else read.value
    return value, device.spots[name].codec.label(value)


def owned_points(profile: Profile) -> frozenset[str]:
    """The points that the agent's own control writes."""
    found: set[str] = set()
    for role in (profile.battery, profile.pv):
        control: Control | None = role.control if role is not None else None
        if control is None:
            continue
        found |= {write.point for style in STEPS for step in getattr(control, style) for write in step.writes}
        found |= {name for name in (control.dead_man.point, control.heartbeat) if name is not None}
    return frozenset(found)


def _writable(profile: Profile, name: str) -> Point:
    can_be = [known for known, point in profile.points.items() if point.may_be_written]
    hint = f"its profile lets these be written: {listed(can_be)}"
    point = profile.points.get(name)
    if point is None:
        raise PointRefused(f"the profile has no point {name!r}", hint)
    if point.write is None:
        raise PointRefused(f"{name} is not declared writable in the profile", hint)
    if not point.verified:
        raise PointRefused(f"nobody has confirmed {name} yet (verified = false), such a point is never written", hint)
    return point


def _meant(name: str, point: Point, text: str) -> float | int:
    """The number that stands for what was written by a person: a number, a label, or labels of bits."""
    if point.values is not None:
        value = point.values.get(text)
        if value is None:
            value = next((number for number in point.values.values() if str(number) == text), None)
        if value is None:
            labels = ", ".join(f"{label} ({number})" for label, number in point.values.items())
            raise PointRefused(f"{name}: {text!r} is none of its values", f"write one of {labels}")
        return value
    if point.bits is not None:
        return _bits(name, point.bits, text)
    return number_in(text)


def _bits(name: str, bits: dict[str, int], text: str) -> int:
    labels = [] if text == "none" else [label.strip() for label in text.split(",")]
    if all(label in bits for label in labels):
        return sum({1 << bits[label] for label in labels})
    known = sum(1 << bit for bit in bits.values())
    value = number_in(text) if len(labels) == 1 and labels[0][:1].isdigit() else -1
    if not isinstance(value, int) or value < 0 or value & ~known:
        hint = f"write labels with commas between: {', '.join(bits)}; or none"
        raise PointRefused(f"{name}: {text!r} is not made of its bits", hint)
    return value


def _limit(device: ProfileDevice, name: str, point: Point, value: float) -> None:
    """`PointRefused` unless somebody stated limits, and the value is inside them."""
    if point.values is not None or point.bits is not None or point.write_range is not None:
        return  # a value of its own, or the codec knows the range
    unit = UNITS[point.unit]
    rated_w = device.spec.rated_w
    if unit.dimension == POWER and rated_w is not None:
        most = rated_w / float(unit.factor)
        within(name, value, (-most, most), point.unit, "the rated_power of the site file")
    elif unit.dimension == SHARE:
        within(name, value, (-100.0, 100.0), point.unit, "what a percentage can be")
    elif point.plausible is not None:
        low, high = point.plausible
        within(name, value, (low, high), point.unit, "the plausible range of the profile")
    else:
        why = f"nobody stated which values {name} may take"
        raise PointRefused(why, "state write_range in the profile, from the maker's manual")


async def _exponent(device: ProfileDevice, point: Point, clock: Callable[[], float]) -> int | None:
    """What the point's scale factor register says, 0 where it has none."""
    if point.scale_from is None:
        return 0
    read = (await ProfileReads(device.spots, [point.scale_from]).read(device.session.link, 0, clock)).get(
        point.scale_from
    )
    return read.value if read is not None and isinstance(read.value, int) else None
