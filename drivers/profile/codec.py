"""Between the registers of a point and its value: type, word and byte order, scale, offset, "no value"."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from drivers.codec import MAX_SCALE, MIN_SCALE, OutOfRange, Rounding, Value, packed, text, whole
from drivers.profile.model import Point, Profile
from drivers.profile.place import registers_of

CODES: Final = {
    "u16": "H", "enum16": "H", "bitfield16": "H", "i16": "h",
    "u32": "I", "enum32": "I", "bitfield32": "I", "i32": "i",
    "u64": "Q", "bitfield64": "Q", "i64": "q",
    "f32": "f", "f64": "d",
}  # fmt: skip
"""The `struct` code of each type, in network order."""
Raw = int | float | str
"""What a register says before scaling; an integer as its type reads it."""


@dataclass(frozen=True, slots=True)
class Codec:
    """One point of one profile, ready to decode and encode."""

    name: str
    point: Point
    words_swapped: bool
    bytes_swapped: bool
    sentinels: frozenset[int]
    """As the type reads them."""
    scale: Fraction
    offset: Fraction
    count: int
    """How many registers it has."""
    unpack: Callable[[bytes], tuple[Any, ...]]
    """From bytes in network order."""
    as_is: bool
    """The value is what the register says: no scale, no offset."""
    step_up: int
    step_down: int
    """The scale as a fraction, for the polls."""

    def raw(self, registers: Sequence[int]) -> Raw | None:
        """What the registers say, None for "no value"."""
        data = packed(registers)
        if self.words_swapped or self.bytes_swapped:
            data = self._ordered(data)
        raw: int | float | bytes = self.unpack(data)[0]
        if isinstance(raw, int):
            return None if raw in self.sentinels else raw
        if isinstance(raw, bytes):
            return text(raw)
        return raw if math.isfinite(raw) else None

    def value(self, raw: Raw | None, exponent: int | None = 0) -> Value | None:
        """The value in the point's unit; `exponent` comes from its scale factor register, None if that has no value."""
        if raw is None or isinstance(raw, str):
            return raw
        if self.as_is:
            return raw
        # One division, so that 1234 tenths are 123.4 and not 123.40000000000001.
        if exponent == 0:
            scaled = raw * self.step_up / self.step_down
        else:
            scale = self._scale(exponent)
            if scale is None:
                return None
            scaled = raw * scale.numerator / scale.denominator
        if not math.isfinite(scaled):
            return None  # a double so large that its unit makes no number of it
        return float(Fraction(scaled) + self.offset) if self.offset else scaled

    def encode(self, value: float, exponent: int | None = 0, rounding: Rounding = Rounding.NEAREST) -> tuple[int, ...]:
        """The registers that mean `value`; `OutOfRange` if they cannot, or if that would mean "no value"."""
        if not math.isfinite(value):
            raise OutOfRange(f"{self.name}: {value} is not a number that can be written")
        scale = self._scale(exponent)
        if scale is None:
            raise OutOfRange(f"{self.name}: its scale factor has no value, so that nothing can be written")
        limits = self.point.write_range
        if limits is not None and not limits[0] <= value <= limits[1]:
            raise OutOfRange(f"{self._stated(value)} is refused: the device takes {limits[0]:g} to {limits[1]:g}")
        code = CODES[self.point.type]
        try:
            counts = float((Fraction(value) - self.offset) / scale)
        except OverflowError as error:
            raise OutOfRange(f"{self._stated(value)} does not fit a {self.point.type}") from error
        raw = counts if code in "fd" else whole(counts, rounding)
        if raw in self.sentinels:
            raise OutOfRange(f'{self._stated(value)} cannot be written: its register would mean "no value"')
        try:
            data = struct.pack(f">{code}", raw)
        except (struct.error, OverflowError) as error:
            raise OutOfRange(f"{self._stated(value)} does not fit a {self.point.type}") from error
        return struct.unpack(f">{self.count}H", self._ordered(data))

    def step(self, exponent: int | None = 0) -> float:
        """The resolution in the point's unit; 0 for a float."""
        scale = self._scale(exponent)
        return 0.0 if scale is None or self.point.type in ("f32", "f64") else abs(float(scale))

    def label(self, value: Value | None) -> str | None:
        """The label of an enumeration's value, the labels of the bits that are set; None where there is none."""
        if not isinstance(value, int):
            return None
        if self.point.values is not None:
            return next((label for label, number in self.point.values.items() if number == value), None)
        if self.point.bits is not None:
            return ", ".join(label for label, bit in self.point.bits.items() if value >> bit & 1) or "none"
        return None

    def shown(self, value: Value | None) -> str:
        """The value for people: its label where it has one."""
        return self.label(value) or (f"{value:g}" if isinstance(value, float) else str(value))

    def _scale(self, exponent: int | None) -> Fraction | None:
        if exponent is None or not MIN_SCALE <= exponent <= MAX_SCALE:
            return None
        return self.scale * Fraction(10) ** exponent if exponent else self.scale

    def _ordered(self, data: bytes) -> bytes:
        """The bytes of the registers in network order, and back again: both are the same exchange."""
        if self.bytes_swapped:
            data = b"".join(data[at : at + 2][::-1] for at in range(0, len(data), 2))
        if self.words_swapped:
            data = b"".join(data[at : at + 2] for at in range(len(data) - 2, -1, -2))
        return data

    def _stated(self, value: float) -> str:
        return f"{self.name}: {value:g}{' ' + self.point.unit if self.point.unit else ''}"


def codec(profile: Profile, name: str) -> Codec:
    """The codec of the point called `name`."""
    point, defaults = profile.points[name], profile.defaults
    sentinels = point.sentinels if point.sentinels is not None else defaults.sentinels.get(point.type, [])
    scale, count = Fraction(str(point.scale)), registers_of(point)
    code = f"{2 * count}s" if point.type == "string" else CODES[point.type]
    return Codec(
        name=name,
        point=point,
        words_swapped=(point.word_order or defaults.word_order) == "low_first" and point.type != "string" and count > 1,
        bytes_swapped=(point.byte_order or defaults.byte_order) == "low_first",
        sentinels=frozenset(_as_read(point, number) for number in sentinels),
        scale=scale,
        offset=Fraction(str(point.offset)),
        count=count,
        unpack=struct.Struct(f">{code}").unpack,
        as_is=point.scale_from is None and scale == 1 and point.offset == 0,
        step_up=scale.numerator,
        step_down=scale.denominator,
    )


def _as_read(point: Point, number: int) -> int:
    """A sentinel as the type reads it: 0xFFFF and -1 are the same registers."""
    bits = 16 * registers_of(point)
    number %= 1 << bits
    return number - (1 << bits) if point.type.startswith("i") and number >> (bits - 1) else number
