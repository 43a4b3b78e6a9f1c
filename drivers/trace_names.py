"""Which points of a device a frame carries, by name and value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from drivers.codec import Value
from drivers.device import Device
from drivers.profile.codec import Codec
from drivers.profile.place import HOLDING, INPUT
from drivers.profile.reads import Spots
from drivers.profile.roles import ProfileBattery, ProfileMeter, ProfilePv
from drivers.read_plan import Place, Reads
from drivers.request import READ_INPUT
from drivers.sunspec_points import catalogue, decoded, value_of
from drivers.trace import Frame

Exponents = Callable[[str], int | None]


@dataclass(frozen=True, slots=True)
class Named:
    """One point in a frame."""

    name: str
    value: Value | None
    unit: str
    label: str | None


@dataclass(frozen=True, slots=True)
class _Known:
    """One point where it lies, and how its registers are read."""

    name: str
    unit_id: int
    table: int
    address: int
    count: int
    unit: str
    factor: str | None
    value: Callable[[Sequence[int], int | None], Value | None]
    label: Callable[[Value | None], str | None]


class PointNames:
    """Names the points in the frames of one device, as far as it is known."""

    def __init__(self, device: Device) -> None:
        self._device = device
        if isinstance(device, ProfileBattery | ProfilePv | ProfileMeter):
            self._known = list(_of_profile(device.spots))
        else:
            chain = device.session.chain
            places = [] if chain is None else catalogue(chain).values()
            self._known = [_of_sunspec(place, device.spec.unit_id) for place in places]

    @property
    def unit_ids(self) -> frozenset[int]:
        """The unit ids that the device answers under."""
        return frozenset({self._device.spec.unit_id, *(known.unit_id for known in self._known)})

    def of(self, frame: Frame) -> list[Named]:
        """The points that lie whole in the frame, in the order of their registers."""
        if frame.registers is None or frame.address is None:
            return []
        table = INPUT if frame.function == READ_INPUT else HOLDING
        first, registers = frame.address, frame.registers
        inside = [
            known
            for known in self._known
            if (known.unit_id, known.table) == (frame.unit_id, table)
            and known.address >= first
            and known.address + known.count <= first + len(registers)
        ]
        own = {known.name: registers[known.address - first :][: known.count] for known in inside}
        by_name = {known.name: known for known in inside}
        reads: Reads = self._device.session.newest

        def exponent(name: str) -> int | None:
            if name in own:
                value = by_name[name].value(own[name], 0)
            else:
                read = reads.get(name)
                value = None if read is None else read.value
            return value if isinstance(value, int) else None

        return [_named(known, own[known.name], exponent) for known in sorted(inside, key=lambda one: one.address)]


def _named(known: _Known, registers: Sequence[int], exponent: Exponents) -> Named:
    power = 0 if known.factor is None else exponent(known.factor)
    value = known.value(registers, power)
    return Named(known.name, value, known.unit, known.label(value))


def _of_sunspec(place: Place, unit_id: int) -> _Known:
    point = place.point
    factor = None if point.sf is None else f"{place.key.split('.', 1)[0]}.{point.sf}"

    def value(registers: Sequence[int], power: int | None) -> Value | None:
        return value_of(point, decoded(point, registers), power)

    return _Known(place.key, unit_id, HOLDING, place.address, point.size, point.unit, factor, value, lambda _: None)


def _of_profile(spots: Spots) -> Iterable[_Known]:
    for name, point in spots.profile.points.items():
        spot = spots[name]
        yield _Known(
            name,
            spot.unit_id,
            spot.function,
            spot.address,
            spot.codec.count,
            point.unit,
            point.scale_from,
            partial(_scaled, spot.codec),
            spot.codec.label,
        )


def _scaled(codec: Codec, registers: Sequence[int], power: int | None) -> Value | None:
    return codec.value(codec.raw(registers), power)
