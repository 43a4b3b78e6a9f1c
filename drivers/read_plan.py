"""Which registers to read for a set of points, and how to decode them: made once, used at each poll."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from drivers.codec import Value, number_code, packed, scale_factor, scaled, sentinel, text
from drivers.registers import MAX_READ_REGISTERS, Registers
from drivers.sunspec_layout import Point

MAX_GAP_REGISTERS = 64
"""Unused registers inside one device's models that are read along rather than asked for separately: a request
costs as much as some hundred registers, on the wire and here."""


class Place(NamedTuple):
    """Where one wanted point of one model is."""

    key: str
    """The model and the point, such as `701.W`."""
    point: Point
    address: int


class Read(NamedTuple):
    """One point as read: None if the device does not have it."""

    value: Value | None
    read_mono_s: float
    """When the request that fetched it was sent."""


Reads = Mapping[str, Read]
"""What one poll brought, by key."""


class _Field(NamedTuple):
    key: str
    slot: int
    """Where the raw value is in what the block unpacks."""
    sentinel: int | None
    sf_slot: int | None
    """None: not scaled; -1: the scale factor is not in this block."""
    sf_key: str = ""
    """The scale factor, for where an earlier block of the same poll brought it."""


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive registers read by one request, with their decoder."""

    address: int
    count: int
    unpack: Callable[[bytes], tuple[int | float | bytes, ...]]
    fields: tuple[_Field, ...]
    places: tuple[Place, ...]

    @property
    def scaled_elsewhere(self) -> bool:
        """Whether a value here is scaled by a factor of another block."""
        return any(field.sf_slot == -1 for field in self.fields)

    def halves(self) -> tuple[Block, Block]:
        """The same points as two blocks."""
        half = len(self.places) // 2
        return _block(self.places[:half]), _block(self.places[half:])

    def decode(self, registers: Sequence[int], read_mono_s: float, into: dict[str, Read]) -> None:
        """Put the block's points into `into`."""
        raws = self.unpack(packed(registers))
        for key, slot, none, sf_slot, sf_key in self.fields:
            exponent = into.get(sf_key) if sf_slot == -1 else None
            into[key] = Read(_value(raws, slot, none, sf_slot, exponent), read_mono_s)


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """The requests of one poll, as few as possible."""

    blocks: tuple[Block, ...]

    async def read(self, link: Registers, unit_id: int, clock: Callable[[], float]) -> dict[str, Read]:
        """All points of the plan, each with the time at which its request was sent; errors are `DeviceError`s."""
        reads: dict[str, Read] = {}
        for block in self.blocks:
            sent_mono_s = clock()
            block.decode(await link.read_holding(unit_id, block.address, block.count), sent_mono_s, reads)
        return reads


def make_plan(models: Iterable[Sequence[Place]]) -> ReadPlan:
    """The plan for the places of each model; a model's values and scale factors share one request if they fit.

    `models` holds one sequence of places per model, its scale factor points among them. Of a model that is
    longer than one request, the scale factors (before the repeated groups, as published) are read first.
    """
    groups = [run for places in models for run in _runs(sorted(places, key=lambda place: place.address))]
    groups.sort(key=lambda group: group[0].address)
    merged: list[list[Place]] = []
    for group in groups:
        if merged and _fits(merged[-1], group):
            merged[-1].extend(group)
        else:
            merged.append(list(group))
    return ReadPlan(tuple(_block(places) for places in merged))


def _runs(places: Sequence[Place]) -> list[list[Place]]:
    """The places of one model cut into runs of at most one request each."""
    runs: list[list[Place]] = []
    for place in places:
        assert place.point.size <= MAX_READ_REGISTERS
        if runs and place.address + place.point.size - runs[-1][0].address <= MAX_READ_REGISTERS:
            runs[-1].append(place)
        else:
            runs.append([place])
    return runs


def _fits(places: Sequence[Place], more: Sequence[Place]) -> bool:
    gap = more[0].address - _end(places)
    return 0 <= gap <= MAX_GAP_REGISTERS and _end(more) - places[0].address <= MAX_READ_REGISTERS


def _end(places: Sequence[Place]) -> int:
    return max(place.address + place.point.size for place in places)


def _block(places: Sequence[Place]) -> Block:
    first, at = places[0].address, places[0].address
    codes = [">"]
    for place in places:
        assert place.address >= at, "points of one block do not overlap"
        codes.append(f"{2 * (place.address - at)}x{number_code(place.point)}")
        at = place.address + place.point.size
    slot_of = {place.key: slot for slot, place in enumerate(places)}
    fields = []
    for slot, (key, point, _) in enumerate(places):
        sf_slot, sf_key = None, ""
        if point.sf is not None:
            sf_key = f"{key.split('.', 1)[0]}.{point.sf}"
            sf_slot = slot_of.get(sf_key, -1)
        fields.append(_Field(key, slot, sentinel(point), sf_slot, sf_key))
    return Block(first, at - first, struct.Struct("".join(codes)).unpack, tuple(fields), tuple(places))


def _value(
    raws: tuple[int | float | bytes, ...], slot: int, none: int | None, sf_slot: int | None, earlier: Read | None
) -> Value | None:
    raw = raws[slot]
    if isinstance(raw, bytes):
        return text(raw)
    if raw == none or (isinstance(raw, float) and not math.isfinite(raw)):
        return None
    if sf_slot is None:
        return raw
    exponent = raws[sf_slot] if sf_slot >= 0 else None if earlier is None else earlier.value
    if not isinstance(exponent, int):
        return None
    usable = scale_factor(exponent)
    return None if usable is None else scaled(raw, usable)
