"""Whether the points of a profile make sense: types, signs, sentinels, and that no two share a register."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from drivers.profile import units
from drivers.profile.model import ASK_SITE, TYPE_REGISTERS, Point, Profile
from drivers.profile.place import function_of, registers_of, wire_address
from drivers.profile.problem import Problem
from drivers.registers import ADDRESS_SPACE

INTEGER_TYPES = frozenset(kind for kind in TYPE_REGISTERS if kind[0] in "uieb")
SCALED_TYPES = frozenset(("u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64"))
LARGEST = 1e15
"""No quantity of a site has so large a scale or offset in any unit, nor so small a scale."""
SIGNED_TYPES = frozenset(("i16", "i32", "i64", "f32", "f64"))


def check_points(profile: Profile) -> Iterator[Problem]:
    """Everything that is wrong with the points, each by itself and side by side."""
    for name, point in profile.points.items():
        for reason in _reasons(profile, name, point):
            yield Problem(f"points.{name}", reason)
    yield from _overlaps(profile)
    yield from _blocks(profile)


def _reasons(profile: Profile, name: str, point: Point) -> Iterator[str]:
    yield from _form(point)
    yield from _scaling(profile, name, point)
    yield from _sign(profile, point)
    yield from _numbers(profile, point)
    yield from _access(profile, point)


def _form(point: Point) -> Iterator[str]:
    if point.type == "string" and point.length is None:
        yield "length is missing: a string states how many registers it has"
    if point.type != "string" and point.length is not None:
        yield f"length is for strings; {point.type} has {TYPE_REGISTERS[point.type]} registers"
    if point.values is not None and not point.type.startswith("enum"):
        yield f"values are for enum16 and enum32, not for {point.type}"
    if point.bits is not None and not point.type.startswith("bitfield"):
        yield f"bits are for bitfield16, bitfield32 and bitfield64, not for {point.type}"
    for label, bit in (point.bits or {}).items():
        if point.type.startswith("bitfield") and bit >= 16 * TYPE_REGISTERS[point.type]:
            yield f"bit {bit} ({label}) is outside a {point.type}"
    numbers = list((point.values or {}).values())
    twice = sorted({number for number in numbers if numbers.count(number) > 1})
    if twice:
        yield f"two labels stand for {twice[0]}: a value read back could not be told apart"


def _scaling(profile: Profile, name: str, point: Point) -> Iterator[str]:
    if point.scale == 0:
        yield "scale is 0, so every value would be 0; write 1 where the register holds the value itself"
    elif not 1 / LARGEST <= abs(point.scale) <= LARGEST or abs(point.offset) > LARGEST:
        yield f"scale must be within {1 / LARGEST:g} to {LARGEST:g}, and offset not beyond that"
    if point.type not in SCALED_TYPES and (point.scale != 1 or point.offset or point.scale_from is not None):
        yield f"a {point.type} has no scale and no offset"
    if point.scale_from is not None:
        factor = profile.points.get(point.scale_from)
        if factor is None:
            yield f"scale_from: there is no point {point.scale_from!r}"
        elif factor.type not in ("i16", "u16") or factor.scale != 1 or factor.scale_from is not None:
            yield f"scale_from: {point.scale_from!r} must be an i16 or u16 without a scale of its own"
        elif point.scale_from == name:
            yield "scale_from names the point itself"


def _sign(profile: Profile, point: Point) -> Iterator[str]:
    unit = units.UNITS.get(point.unit)
    if unit is None:
        yield f"unit {point.unit!r} is not known; write one of {', '.join(sorted(filter(None, units.UNITS)))}"
        return
    signed_current = unit.dimension == units.CURRENT and point.type in SIGNED_TYPES
    if point.positive is None and (unit.dimension == units.POWER or signed_current):
        yield (
            "positive is missing: state what a positive value means (discharge, charge, export, import, generation, "
            "consumption), or magnitude where there is no direction; vendors differ"
        )
    if point.positive == ASK_SITE and profile.meter is None:
        yield 'positive = "site" is for meters: only there the site file states it'
    if point.positive is not None and unit.dimension not in (units.POWER, units.CURRENT, units.SHARE):
        yield f"positive is for powers, currents and setpoints in percent, not for {point.unit or 'a plain number'}"


def _numbers(profile: Profile, point: Point) -> Iterator[str]:
    sentinels = point.sentinels if point.sentinels is not None else profile.defaults.sentinels.get(point.type, [])
    if point.type in INTEGER_TYPES:
        bits = 16 * TYPE_REGISTERS[point.type]
        for number in sentinels:
            if not -(1 << (bits - 1)) <= number < 1 << bits:
                yield f"the sentinel {number:#x} does not fit a {point.type}"
        for label, number in (point.values or {}).items():
            if not 0 <= number < 1 << bits:
                yield f"the value {number:#x} ({label}) does not fit a {point.type}"
    elif point.sentinels:
        yield f"a {point.type} has no sentinels: it is missing when it is no number, or empty"
    for key, stretch in (("plausible", point.plausible), ("write_range", point.write_range)):
        if stretch is not None and not stretch[0] < stretch[1]:
            yield f"{key}: the lowest, {stretch[0]:g}, must be less than the highest, {stretch[1]:g}"


def _access(profile: Profile, point: Point) -> Iterator[str]:
    if point.write is None:
        for key in ("write_function", "write_range"):
            if getattr(point, key) is not None:
                yield f'{key} is for writable points: add write = "volatile", "stored" or "command"'
        if not point.readable:
            yield "it is neither readable nor writable"
    elif point.function == 4:
        yield "function 4 reads input registers, which nobody can write; a writable point is a holding register (3)"
    elif point.type == "string":
        yield "a string is never written"
    elif point.write_function == 6 and TYPE_REGISTERS[point.type] > 1:
        yield f"function 6 writes one register, but {point.type} has {TYPE_REGISTERS[point.type]}; use 16"
    if point.unit_id is not None and point.unit_id not in profile.unit_ids:
        yield f"unit_id: {point.unit_id!r} is not in [unit_ids]"
    at = wire_address(profile, point)
    if not 0 <= at <= ADDRESS_SPACE - registers_of(point):
        yield f"its registers {at} to {at + registers_of(point) - 1} are outside of 0 to {ADDRESS_SPACE - 1}"


def _overlaps(profile: Profile) -> Iterator[Problem]:
    tables: dict[tuple[str | None, int], list[tuple[int, int, str]]] = defaultdict(list)
    for name, point in profile.points.items():
        at = wire_address(profile, point)
        tables[point.unit_id, function_of(profile, point)].append((at, at + registers_of(point), name))
    for spans in tables.values():
        spans.sort()
        reach, owner = spans[0][1], spans[0][2]
        for start, end, name in spans[1:]:
            if start < reach:
                yield Problem(f"points.{name}", f"overlaps {owner}: both have register {start}; check address and type")
            if end > reach:
                reach, owner = end, name


def _blocks(profile: Profile) -> Iterator[Problem]:
    reads = profile.reads
    if not reads.blocks:
        return
    offset = profile.defaults.address_offset
    spans = [(first + offset, last + offset) for first, last in reads.blocks]
    for (first, last), (shown, _) in zip(spans, reads.blocks, strict=True):
        if last < first:
            yield Problem("reads.blocks", f"the block from {shown} ends before it begins")
        elif last - first + 1 > reads.max_registers:
            count = last - first + 1
            yield Problem("reads.blocks", f"the block from {shown} has {count} registers, more than max_registers")
    for name, point in profile.points.items():
        at = wire_address(profile, point)
        if point.readable and not any(first <= at and at + registers_of(point) - 1 <= last for first, last in spans):
            yield Problem(f"points.{name}", "lies in none of reads.blocks, so that it could never be read")
    yield from _gaps(profile, spans)


def _gaps(profile: Profile, spans: list[tuple[int, int]]) -> Iterator[Problem]:
    limit = profile.reads.max_gap
    for first, last in spans:
        inside = sorted(
            (at, at + registers_of(point), name)
            for name, point in profile.points.items()
            if first <= (at := wire_address(profile, point)) <= last
        )
        if not inside:
            yield Problem("reads.blocks", f"there is no point in the block {first} to {last}", "warning")
        for (_, end, before), (start, _, name) in pairwise(inside):
            if start - end > limit:
                yield Problem(
                    f"points.{name}", f"{start - end} registers after {before}: max_gap allows {limit} in a block"
                )
