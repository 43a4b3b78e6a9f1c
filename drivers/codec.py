"""SunSpec values to and from registers: types, "not implemented" sentinels, scale factors.

Source: SunSpec Device Information Model Specification. Registers are big-endian, the high word first.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final

from drivers.sunspec_layout import Point

Value = float | int | str
"""A decoded point: scaled numbers are float, enumerations and bit fields int, text str."""

MIN_SCALE = -10
MAX_SCALE = 10
"""The range of a scale factor (SunSpec); anything else, the sentinel 0x8000 too, means that there is none."""
ROUNDING_SLACK = 1e-6
"""A number this close to a whole count of steps is that count: it comes from binary fractions such as 0.1."""

_NUMBER_CODES: Final[Mapping[str, str]] = {
    "int16": "h",
    "uint16": "H",
    "enum16": "H",
    "bitfield16": "H",
    "acc16": "H",
    "count": "H",
    "sunssf": "h",
    "pad": "H",
    "int32": "i",
    "uint32": "I",
    "enum32": "I",
    "bitfield32": "I",
    "acc32": "I",
    "float32": "f",
    "int64": "q",
    "uint64": "Q",
    "bitfield64": "Q",
    "acc64": "Q",
    "float64": "d",
}
_INTEGER_RANGES: Final[Mapping[str, tuple[int, int]]] = {
    code: (-(1 << (8 * size - 1)), (1 << (8 * size - 1)) - 1) if code.islower() else (0, (1 << (8 * size)) - 1)
    for code in "hHiIqQ"
    for size in (struct.calcsize(f">{code}"),)
}
_POWERS: Final[Mapping[int, float]] = {exponent: 10.0**exponent for exponent in range(MAX_SCALE + 1)}


class OutOfRange(ValueError):  # noqa: N818  # named for the value, not for a fault
    """The register cannot hold this value; the text names its limits."""


class Rounding(Enum):
    """How a value between two steps of a register is written."""

    NEAREST = "nearest"
    TOWARD_ZERO = "toward zero"
    """For powers: what was inside a limit stays inside."""


def number_code(point: Point) -> str:
    """The `struct` code of the point's raw value."""
    return f"{2 * point.size}s" if point.type == "string" else _NUMBER_CODES[point.type]


def sentinel(point: Point) -> int | None:
    """The raw number that means "not implemented", None where it is not a number of its own (text, float).

    An accumulator at 0 is "not implemented" (SunSpec): one that has just begun cannot be told from one that is
    not there, and a counter that is missing for a while costs less than one that stands at a false 0.
    """
    if point.type.startswith("acc"):
        return 0
    code = _NUMBER_CODES.get(point.type, "s")
    if code not in _INTEGER_RANGES:
        return None
    lowest, highest = _INTEGER_RANGES[code]
    return lowest if code.islower() else highest


def text(raw: bytes) -> str | None:
    """The text up to the first NUL, without blanks around it and without control characters; None if empty."""
    kept = raw.split(b"\0", 1)[0].decode("utf-8", errors="replace").strip()
    return "".join(character for character in kept if character.isprintable()) or None


def scale_factor(raw: int) -> int | None:
    """A usable scale factor, or None."""
    return raw if MIN_SCALE <= raw <= MAX_SCALE else None


def scaled(raw: float, exponent: int) -> float:
    """`raw` x 10^`exponent`, correctly rounded (dividing by 100 is exact where multiplying by 0.01 is not)."""
    return raw * _POWERS[exponent] if exponent >= 0 else raw / _POWERS[-exponent]


def step(exponent: int) -> float:
    """The resolution of a register with this scale factor, in the point's unit."""
    return scaled(1.0, exponent)


def encode(point: Point, value: float, exponent: int = 0, rounding: Rounding = Rounding.NEAREST) -> tuple[int, ...]:
    """The registers that make the number `value` of `point`; `OutOfRange` if they cannot, or would mean "none"."""
    code = _NUMBER_CODES[point.type]
    if not math.isfinite(value):
        raise OutOfRange(f"{point.name}: {value} is not a number that can be written")
    if code in "fd":
        raw: float = value
    else:
        raw = whole(scaled(value, -exponent), rounding)
        lowest, highest = _INTEGER_RANGES[code]
        if not lowest <= raw <= highest or (raw == sentinel(point) and raw != 0):
            unit = f" {point.unit}" if point.unit else ""
            limits = f"{scaled(lowest, exponent):g} to {scaled(highest, exponent):g}{unit}"
            raise OutOfRange(f"{point.name}: {value:g}{unit} does not fit, the register holds {limits}")
    try:
        packed = struct.pack(f">{code}", raw)
    except OverflowError as error:
        raise OutOfRange(f"{point.name}: {value:g} does not fit a {point.type}") from error
    return struct.unpack(f">{point.size}H", packed)


def whole(counts: float, rounding: Rounding) -> int:
    """`counts` as a whole number of steps."""
    nearest = round(counts)
    if rounding is Rounding.NEAREST or abs(counts - nearest) <= ROUNDING_SLACK:
        return nearest
    return math.trunc(counts)


def packed(registers: Sequence[int]) -> bytes:
    """The registers as bytes, the high byte first."""
    return struct.pack(f">{len(registers)}H", *registers)
