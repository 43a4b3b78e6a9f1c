"""The registers of a device that a profile describes: where each point lies, and how a number lies in it.

Written here anew, and not taken from the drivers: a mistake there must not hide behind the same one here.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from drivers.profile.model import Point, Profile
from simulators.modbus_server import ILLEGAL_ADDRESS, RequestRefusedError

HOLDING, INPUT = 3, 4
SIZES = {"16": 1, "32": 2, "64": 4}
"""Registers by the number at the end of a type."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a point lies for this device."""

    name: str
    point: Point
    unit_id: int
    table: int
    """3: holding registers, 4: input registers."""
    address: int
    size: int
    low_first: bool
    bytes_swapped: bool

    @property
    def end(self) -> int:
        """The first register after it."""
        return self.address + self.size


def places_of(profile: Profile, unit_id: int, unit_ids: Mapping[str, int]) -> dict[str, Place]:
    """Where every point of the profile lies for a device with these unit ids."""
    units = {**profile.unit_ids, **unit_ids}
    defaults = profile.defaults
    found = {}
    for name, point in profile.points.items():
        is_text = point.type == "string"
        table = point.function or (HOLDING if point.write is not None else defaults.function)
        found[name] = Place(
            name=name,
            point=point,
            unit_id=unit_id if point.unit_id is None else units[point.unit_id],
            table=table,
            address=point.address + defaults.address_offset,
            size=(point.length or 1) if is_text else SIZES[point.type[-2:]],
            low_first=(point.word_order or defaults.word_order) == "low_first" and not is_text,
            bytes_swapped=(point.byte_order or defaults.byte_order) == "low_first",
        )
    return found


def to_bytes(place: Place, value: float | str, exponent: int = 0) -> bytes:
    """The bytes of a value in the point's unit; a number beyond what the register holds becomes its nearest end."""
    point = place.point
    if isinstance(value, str):
        data = value.encode("ascii")[: 2 * place.size].ljust(2 * place.size, b"\0")
    else:
        count = (value - point.offset) / (point.scale * 10.0**exponent)
        if point.type.startswith("f"):
            data = struct.pack(">f" if point.type == "f32" else ">d", count)
        else:
            bits = 16 * place.size
            low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 2) if point.type[0] == "i" else (0, (1 << bits) - 2)
            data = (min(max(round(count), low), high) % (1 << bits)).to_bytes(2 * place.size, "big")
    return _turned(place, data)


def from_bytes(place: Place, data: bytes, exponent: int = 0) -> float:
    """The value in the point's unit that `data` means."""
    point, data = place.point, _turned(place, data)
    if point.type.startswith("f"):
        count: float = struct.unpack(">f" if point.type == "f32" else ">d", data)[0]
        if not math.isfinite(count):
            return math.nan
    else:
        count = int.from_bytes(data, "big", signed=point.type[0] == "i")
    return count * (point.scale * 10.0**exponent) + point.offset


def _turned(place: Place, data: bytes) -> bytes:
    """From the order of the wire to the usual one, and back."""
    words = [data[at : at + 2] for at in range(0, len(data), 2)]
    if place.bytes_swapped:
        words = [word[::-1] for word in words]
    return b"".join(words[::-1] if place.low_first else words)


class Table:
    """One table of registers of one unit id; between two points that lie close they are 0, elsewhere there are none."""

    def __init__(self, places: Iterable[Place], max_gap: int) -> None:
        self.places = {place.address: place for place in places}
        self._data: dict[int, int] = {}
        last = None
        for place in sorted(self.places.values(), key=lambda place: place.address):
            if last is not None and place.address - last <= max_gap:
                self._data.update(dict.fromkeys(range(last, place.address), 0))
            self._data.update(dict.fromkeys(range(place.address, place.end), 0))
            last = place.end

    def read(self, address: int, count: int) -> bytes:
        """The registers; refused with exception 2 where the device has none."""
        try:
            return b"".join(self._data[at].to_bytes(2, "big") for at in range(address, address + count))
        except KeyError:
            raise RequestRefusedError(ILLEGAL_ADDRESS) from None

    def put(self, place: Place, data: bytes) -> None:
        """Put a point's bytes into its registers."""
        for index in range(place.size):
            self._data[place.address + index] = int.from_bytes(data[2 * index : 2 * index + 2], "big")

    def written(self, address: int, data: bytes) -> dict[str, tuple[Place, bytes]]:
        """The points that a write covers; refused with exception 2 if one is not writable or written in part."""
        found: dict[str, tuple[Place, bytes]] = {}
        at, end = address, address + len(data) // 2
        while at < end:
            place = self.places.get(at)
            if place is None or place.point.write is None or place.end > end:
                raise RequestRefusedError(ILLEGAL_ADDRESS)
            found[place.name] = (place, data[2 * (at - address) : 2 * (place.end - address)])
            at = place.end
        return found

    def copy(self) -> Frozen:
        """The registers as they are now, and stay."""
        return Frozen(dict(self._data))

    def blank(self) -> Frozen:
        """Every register at 0xFFFF, which most devices mean as "no value"."""
        return Frozen(dict.fromkeys(self._data, 0xFFFF))


class Frozen:
    """Registers that never change."""

    def __init__(self, data: dict[int, int]) -> None:
        self._data = data

    def read(self, address: int, count: int) -> bytes:
        """The registers; refused with exception 2 where the device has none."""
        try:
            return b"".join(self._data[at].to_bytes(2, "big") for at in range(address, address + count))
        except KeyError:
            raise RequestRefusedError(ILLEGAL_ADDRESS) from None


class Bank:
    """One table as the Modbus server wants it: brought up to date at each access, writes handed to the device."""

    def __init__(
        self,
        table: Table,
        refresh: Callable[[], None],
        take: Callable[[dict[str, tuple[Place, bytes]]], None],
        restart: Callable[[], None],
    ) -> None:
        self._table = table
        self._refresh = refresh
        self._take = take
        self._restart = restart

    def read(self, address: int, count: int) -> bytes:
        """The registers as the plant is now."""
        self._refresh()
        return self._table.read(address, count)

    def write(self, address: int, data: bytes) -> None:
        """Hand the points that are written to the device; it refuses all of them or none."""
        self._take(self._table.written(address, data))

    def snapshot(self) -> Frozen:
        """The registers as they are now, and stay."""
        self._refresh()
        return self._table.copy()

    def without_values(self) -> Frozen:
        """The registers with every value not implemented."""
        return self._table.blank()

    def reboot(self) -> None:
        """The device starts anew."""
        self._restart()
