"""Reading the points of a profile: packed into as few requests as the device allows, bisected where it refuses one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from drivers.bisect import ASK_AGAIN_S, NOT_READABLE
from drivers.errors import DeviceError, ModbusRefused, UnitResting
from drivers.profile.codec import Codec, Raw, codec
from drivers.profile.model import Profile
from drivers.profile.place import INPUT, function_of, registers_of, wire_address
from drivers.read_plan import Read
from drivers.registers import Registers

NOT_THERE = frozenset({10, 11})
"""Those of a gateway behind which a unit id does not answer."""


@dataclass(frozen=True, slots=True)
class Spot:
    """A point where it lies for this device."""

    name: str
    codec: Codec
    unit_id: int
    function: int
    address: int
    end: int
    """The first register after it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One point as it was read: its registers, what they say, and what that means."""

    registers: tuple[int, ...]
    raw: Raw | None
    read: Read


class Spots:
    """The points of a profile for one device."""

    def __init__(self, profile: Profile, unit_id: int, unit_ids: Mapping[str, int]) -> None:
        self.profile = profile
        self.unit_id = unit_id
        """The device's own; some points may lie behind others."""
        units = profile.unit_ids | dict(unit_ids)
        self._all = {
            name: Spot(
                name,
                codec(profile, name),
                unit_id if point.unit_id is None else units[point.unit_id],
                function_of(profile, point),
                wire_address(profile, point),
                wire_address(profile, point) + registers_of(point),
            )
            for name, point in profile.points.items()
        }

    def __getitem__(self, name: str) -> Spot:
        """The point called `name`; asking for another one is a bug."""
        return self._all[name]

    def needed(self, names: Iterable[str]) -> list[Spot]:
        """The points with these names, and their scale factors; what cannot be read is left out."""
        wanted = dict.fromkeys(names)
        for name in tuple(wanted):
            factor = self.profile.points[name].scale_from
            if factor is not None:
                wanted[factor] = None
        return [self._all[name] for name in wanted if self.profile.points[name].readable]


class ProfileReads:
    """The requests of one poll. A point that the device refuses is left out for a while; the rest goes on.

    With `must_answer`, a device that refuses every point has failed: the refusal is raised, and all is asked again.
    """

    def __init__(self, spots: Spots, names: Iterable[str], *, must_answer: bool = False) -> None:
        self.refused: dict[str, ModbusRefused] = {}
        """Why a point is not asked for now, by name."""
        self._ask_again: dict[str, float] = {}
        """When it is asked for again, on the clock of the reads."""
        self.generation = 0
        """The connection over which the first request of the last read was answered."""
        self._spots = spots
        self._must_answer = must_answer
        self._whole = packs(spots.profile, spots.needed(names))
        self._blocks = self._whole

    async def read(self, link: Registers, unit_id: int, clock: Callable[[], float]) -> dict[str, Read]:  # noqa: ARG002
        """All points, each with the time at which its request was sent; errors are `DeviceError`s."""
        return {name: seen.read for name, seen in (await self.see(link, clock)).items()}

    async def see(self, link: Registers, clock: Callable[[], float]) -> dict[str, Seen]:
        """The same with registers and raw values."""
        for name in [name for name, at_s in self._ask_again.items() if clock() >= at_s]:
            del self._ask_again[name], self.refused[name]
            self._blocks = [*self._blocks, [self._spots[name]]]
        got: dict[str, tuple[tuple[int, ...], Raw | None, float]] = {}
        kept: list[list[Spot]] = []
        for index, block in enumerate(self._blocks):
            kept += await self._block(block, link, clock, got)
            self.generation = link.generation if index == 0 else self.generation
        if self._must_answer and not got and self.refused:
            error = next(iter(self.refused.values()))
            self.refused.clear()
            self._ask_again.clear()
            self._blocks = self._whole
            raise error
        self._blocks = kept
        return {name: self._meant(name, got) for name in got}

    async def _block(
        self,
        block: list[Spot],
        link: Registers,
        clock: Callable[[], float],
        got: dict[str, tuple[tuple[int, ...], Raw | None, float]],
    ) -> list[list[Spot]]:
        """The blocks that this one is read as from now on."""
        sent_mono_s = clock()
        try:
            registers = await _ask(link, block, self._spots.profile.reads.even_counts)
        except UnitResting:
            if block[0].unit_id != self._spots.unit_id:
                return [block]  # a part of the device is away, the rest goes on
            raise
        except ModbusRefused as refused:
            if refused.code in NOT_THERE and block[0].unit_id != self._spots.unit_id:
                return [block]  # a part of the device is away, the rest goes on
            if refused.code not in NOT_READABLE:
                raise
            if len(block) == 1:
                self.refused[block[0].name] = refused
                self._ask_again[block[0].name] = clock() + ASK_AGAIN_S
                return []
            half = len(block) // 2
            first = await self._block(block[:half], link, clock, got)
            return first + await self._block(block[half:], link, clock, got)
        start = block[0].address
        for spot in block:
            own = registers[spot.address - start : spot.end - start]
            got[spot.name] = (own, spot.codec.raw(own), sent_mono_s)
        return [block]

    def _meant(self, name: str, got: Mapping[str, tuple[tuple[int, ...], Raw | None, float]]) -> Seen:
        registers, raw, read_mono_s = got[name]
        spot = self._spots[name]
        factor = spot.codec.point.scale_from
        exponent: Raw | None = 0
        if factor is not None:
            exponent = got[factor][1] if factor in got else None
        value = spot.codec.value(raw, exponent if isinstance(exponent, int) else None)
        return Seen(registers, raw, Read(value, read_mono_s))


async def read_points(
    spots: Spots, names: Sequence[str], link: Registers, clock: Callable[[], float]
) -> dict[str, Read]:
    """These points now, outside of any poll; errors are `DeviceError`s, a refused point too."""
    plan = ProfileReads(spots, names)
    reads = await plan.read(link, 0, clock)
    for name, refused in plan.refused.items():
        raise DeviceError(f"{name} cannot be read: {refused}", endpoint=link.name, unit_id=spots[name].unit_id)
    return reads


async def _ask(link: Registers, block: Sequence[Spot], even: bool) -> tuple[int, ...]:
    first = block[0]
    count = max(spot.end for spot in block) - first.address
    count += count % 2 if even else 0
    ask = link.read_input if first.function == INPUT else link.read_holding
    return await ask(first.unit_id, first.address, count)


def packs(profile: Profile, spots: Iterable[Spot]) -> list[list[Spot]]:
    """The points in blocks of one request each, by unit id, table and address."""
    ordered = sorted(spots, key=lambda spot: (spot.unit_id, spot.function, spot.address))
    blocks: list[list[Spot]] = []
    for _, group in groupby(ordered, key=lambda spot: (spot.unit_id, spot.function, _stretch(profile, spot))):
        first_of_group = True
        for spot in group:
            if not first_of_group and _fits(profile, blocks[-1], spot):
                blocks[-1].append(spot)
            else:
                blocks.append([spot])
            first_of_group = False
    return blocks


def _stretch(profile: Profile, spot: Spot) -> int:
    """The block of the profile that the point lies in, where it states any."""
    offset = profile.defaults.address_offset
    for index, (first, last) in enumerate(profile.reads.blocks):
        if first + offset <= spot.address <= last + offset:
            return index
    return -1


def _fits(profile: Profile, block: Sequence[Spot], spot: Spot) -> bool:
    most = profile.reads.max_registers
    most -= most % 2 if profile.reads.even_counts else 0
    return spot.address - block[-1].end <= profile.reads.max_gap and spot.end - block[0].address <= most
