"""Where a point is: its registers on the wire, its table, and the unit id it lies behind."""

from __future__ import annotations

from drivers.profile.model import TYPE_REGISTERS, Point, Profile

HOLDING, INPUT = 3, 4


def registers_of(point: Point) -> int:
    """How many registers the point has."""
    return (point.length or 1) if point.type == "string" else TYPE_REGISTERS[point.type]


def wire_address(profile: Profile, point: Point) -> int:
    """The address of its first register as it goes over the wire."""
    return point.address + profile.defaults.address_offset


def function_of(profile: Profile, point: Point) -> int:
    """The function that reads it: 3 (holding) or 4 (input). What is writable is a holding register."""
    if point.function is not None:
        return point.function
    return HOLDING if point.write is not None else profile.defaults.function


def write_function_of(profile: Profile, point: Point) -> int:
    """The function that writes it: 6 or 16; what has several registers goes with 16 by default."""
    if point.write_function is not None:
        return point.write_function
    return profile.defaults.write_function if registers_of(point) == 1 else 16
