"""Every point of a SunSpec device by its name, with registers and unit: for people, and for writes by hand.

A point is named by model and name as published, such as `704.WSet`; one of a repeated group `714.Prt.1.DCW`; of a
second model with the same id `160#2.N`.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from drivers.codec import Value, number_code, packed, scale_factor, scaled, sentinel, text
from drivers.errors import ModbusRefused
from drivers.read_plan import Place
from drivers.registers import MAX_READ_REGISTERS, Registers
from drivers.sunspec import Chain
from drivers.sunspec_layout import Point, known_models, layout

MAX_GAP_REGISTERS = 16
"""Registers between two wanted points that are read along."""
HEADER = ("ID", "L")


@dataclass(frozen=True, slots=True)
class SunSpecSeen:
    """One point as it was read."""

    registers: tuple[int, ...]
    raw: int | float | str | None
    value: Value | None
    exponent: int
    """Of its scale factor; 0 where it has none."""
    read_mono_s: float
    refused: str = ""
    """The device's answer where it does not offer these registers."""


def catalogue(chain: Chain) -> dict[str, Place]:
    """All points of the models whose layout is known, in the order of the device's map."""
    places: dict[str, Place] = {}
    seen: Counter[int] = Counter()
    for model in chain.models:
        if model.model_id not in known_models():
            continue
        seen[model.model_id] += 1
        count = seen[model.model_id]
        prefix = f"{model.model_id}" if count == 1 else f"{model.model_id}#{count}"
        known = layout(model.model_id)
        points = [point for name, point in known.points.items() if name not in HEADER and point.type != "pad"]
        if known.group is not None:
            for index in range(1, known.groups_in(model.length) + 1):
                points += [known.grouped(index, name) for name in known.group.points]
        for point in points:
            if model.has(point):
                key = f"{prefix}.{point.name}"
                places[key] = Place(key, point, model.address + point.at)
    return places


async def see(
    places: Mapping[str, Place], names: Sequence[str], link: Registers, unit_id: int, clock: Callable[[], float]
) -> dict[str, SunSpecSeen]:
    """The points called `names` now; errors are `DeviceError`s, but what the device refuses only lacks a value."""
    factors = {name: _factor_of(places, name) for name in names}
    wanted = dict.fromkeys([*names, *(factor for factor in factors.values() if factor is not None)])
    found: dict[str, tuple[tuple[int, ...], float, str]] = {}
    for run in _runs(sorted((places[name] for name in wanted), key=lambda place: place.address)):
        first, sent_mono_s = run[0].address, clock()
        count = run[-1].address + run[-1].point.size - first
        try:
            registers = await link.read_holding(unit_id, first, count)
        except ModbusRefused as refused:
            found |= {place.key: ((), sent_mono_s, str(refused)) for place in run}
            continue
        for place in run:
            at = place.address - first
            found[place.key] = (registers[at : at + place.point.size], sent_mono_s, "")
    return {name: _seen(places, name, factors[name], found) for name in names}


def decoded(point: Point, registers: Sequence[int]) -> int | float | str | None:
    """What the registers say before scaling, None for "not implemented"."""
    raw = struct.unpack(f">{number_code(point)}", packed(registers))[0]
    if isinstance(raw, bytes):
        return text(raw)
    number: int | float = raw
    if number == sentinel(point) or (isinstance(number, float) and not math.isfinite(number)):
        return None
    return number


def value_of(point: Point, raw: float | str | None, exponent: int | None) -> Value | None:
    """The value in the point's unit; `exponent` is that of its scale factor, None where that has no value."""
    if raw is None or isinstance(raw, str) or point.sf is None:
        return raw
    usable = None if exponent is None else scale_factor(exponent)
    return None if usable is None else scaled(raw, usable)


def _factor_of(places: Mapping[str, Place], name: str) -> str | None:
    factor = places[name].point.sf
    if factor is None:
        return None
    key = f"{name.split('.', 1)[0]}.{factor}"
    return key if key in places else None


def _seen(
    places: Mapping[str, Place],
    name: str,
    factor: str | None,
    found: Mapping[str, tuple[tuple[int, ...], float, str]],
) -> SunSpecSeen:
    point, (registers, read_mono_s, refused) = places[name].point, found[name]
    if refused:
        return SunSpecSeen((), None, None, 0, read_mono_s, refused)
    raw = decoded(point, registers)
    exponent: int | float | str | None = 0
    if point.sf is not None:
        lies = found.get(factor) if factor is not None else None
        exponent = decoded(places[factor].point, lies[0]) if lies and lies[0] and factor is not None else None
    power = exponent if isinstance(exponent, int) else None
    return SunSpecSeen(registers, raw, value_of(point, raw, power), power or 0, read_mono_s)


def _runs(places: Sequence[Place]) -> list[list[Place]]:
    """The places, by address, in stretches of one request each."""
    runs: list[list[Place]] = []
    for place in places:
        if runs:
            first, last = runs[-1][0], runs[-1][-1]
            gap = place.address - (last.address + last.point.size)
            if gap <= MAX_GAP_REGISTERS and place.address + place.point.size - first.address <= MAX_READ_REGISTERS:
                runs[-1].append(place)
                continue
        runs.append([place])
    return runs
