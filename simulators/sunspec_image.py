"""The registers of a SunSpec device as bytes: the model chain, scale factors, and "not implemented" by default.

Source: SunSpec Device Information Model Specification, and the layouts in `drivers/sunspec_models`. Points are named
`"704.WSet"`. Values are in the point's unit; the image applies the scale factor that `scale` has set.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drivers.sunspec_layout import HEADER_REGISTERS, Point, layout
from simulators.modbus_server import ILLEGAL_ADDRESS, RequestRefusedError

MARKER = b"SunS"
END = b"\xff\xff\x00\x00"
"""The end model: id 0xFFFF, length 0."""
MAX_INT16 = 0x7FFF
MAX_UINT16 = 0xFFFE
MIN_SCALE, MAX_SCALE = -10, 10


@dataclass(frozen=True, slots=True)
class PointType:
    """How a number lies in registers, and what says that it is not there.

    Written here anew, and not taken from the drivers: a mistake there must not hide behind the same one here.
    """

    code: struct.Struct
    missing: int
    wraps: bool = False
    """Accumulators roll over, everything else must fit."""


NUMBER_TYPES: Mapping[str, PointType] = {
    "int16": PointType(struct.Struct(">h"), -0x8000),
    "uint16": PointType(struct.Struct(">H"), 0xFFFF),
    "enum16": PointType(struct.Struct(">H"), 0xFFFF),
    "bitfield16": PointType(struct.Struct(">H"), 0xFFFF),
    "sunssf": PointType(struct.Struct(">h"), -0x8000),
    "pad": PointType(struct.Struct(">H"), 0x8000),
    "int32": PointType(struct.Struct(">i"), -0x80000000),
    "uint32": PointType(struct.Struct(">I"), 0xFFFFFFFF),
    "bitfield32": PointType(struct.Struct(">I"), 0xFFFFFFFF),
    "acc32": PointType(struct.Struct(">I"), 0, wraps=True),
    "uint64": PointType(struct.Struct(">Q"), 0xFFFFFFFFFFFFFFFF),
    "count": PointType(struct.Struct(">H"), 0xFFFF),
    "acc64": PointType(struct.Struct(">Q"), 0, wraps=True),
}
FLOAT = struct.Struct(">f")
FLOAT_MISSING = bytes((0x7F, 0xC0, 0, 0))
"""Not a number."""


def missing(point: Point) -> bytes:
    """The bytes that say that the point is not implemented."""
    if point.type == "string":
        return bytes(2 * point.size)
    if point.type == "float32":
        return FLOAT_MISSING
    number = NUMBER_TYPES[point.type]
    return number.code.pack(number.missing)


def finest_scale(largest: float, register_limit: int, finest: int = MIN_SCALE) -> int:
    """The smallest scale factor, at least `finest`, with which `largest` fits into a register."""
    if largest <= 0.0:
        return finest
    needed = math.ceil(math.log10(largest / register_limit))
    return min(max(needed, finest), MAX_SCALE)


class FixedRegisters:
    """Registers `base` and up that never change."""

    def __init__(self, base: int, data: bytes) -> None:
        self._base = base
        self._data = data

    def read(self, address: int, count: int) -> bytes:
        """The registers; refused with exception 2 outside the image."""
        begin, end = 2 * (address - self._base), 2 * (address - self._base + count)
        if begin < 0 or end > len(self._data):
            raise RequestRefusedError(ILLEGAL_ADDRESS)
        return self._data[begin:end]


class SunSpecImage:
    """The register image of one device; every point not set answers that it is not implemented."""

    def __init__(self, model_ids: Sequence[int], base_address: int, repeats: Mapping[int, int] | None = None) -> None:
        """`repeats`: how often each model repeats its group; its points are named `"160.module.2.DCW"`."""
        self.base_address = base_address
        self._points: dict[str, Point] = {}
        self._address: dict[str, int] = {}
        self._scale: dict[str, int] = {}
        self._numbers: dict[str, float] = {}
        """What each point was set to."""
        data = bytearray(MARKER)
        for model_id in model_ids:
            model = layout(model_id)
            start = base_address + len(data) // 2
            count = (repeats or {}).get(model_id, 0)
            length = model.length + (count * model.group.size if model.group is not None else 0)
            grouped = () if model.group is None else model.group.points
            points = [model.grouped(index, name) for index in range(1, count + 1) for name in grouped]
            body = bytearray(2 * (HEADER_REGISTERS + length))
            for point in (*model.points.values(), *points):
                name = f"{model_id}.{point.name}"
                self._points[name] = point
                self._address[name] = start + point.at
                body[2 * point.at : 2 * (point.at + point.size)] = missing(point)
            body[0:4] = struct.pack(">HH", model.model_id, length)
            data += body
        data += END
        self._data = data
        self._bare = bytes(data)

    def read(self, address: int, count: int) -> bytes:
        """The registers as last set; refused with exception 2 outside the image."""
        begin, end = 2 * (address - self.base_address), 2 * (address - self.base_address + count)
        if begin < 0 or end > len(self._data):
            raise RequestRefusedError(ILLEGAL_ADDRESS)
        return bytes(self._data[begin:end])

    def snapshot(self) -> FixedRegisters:
        """A copy that does not change any more."""
        return FixedRegisters(self.base_address, bytes(self._data))

    def without_values(self) -> FixedRegisters:
        """The chain of models with every point not implemented."""
        return FixedRegisters(self.base_address, self._bare)

    def address(self, name: str) -> int:
        """The first register of a point."""
        return self._address[name]

    def size(self, name: str) -> int:
        """The number of registers of a point."""
        return self._points[name].size

    def scale(self, name: str, factor: int) -> None:
        """Sets a scale factor point, such as `"701.W_SF"`, to 10 to the power of `factor`; float models have none."""
        if name not in self._points:
            return
        assert MIN_SCALE <= factor <= MAX_SCALE, (name, factor)
        self._scale[name] = factor
        self._numbers.clear()
        self._put(name, factor)

    def number(self, name: str, value: float) -> None:
        """Sets a point to a value in its unit, rounded to the register's resolution."""
        if self._numbers.get(name) == value:
            return  # devices show all their points at each access, and few of them have changed
        self._numbers[name] = value
        if self._points[name].type == "float32":
            self._set_bytes(name, FLOAT.pack(value))
        else:
            self._put(name, round(value / self.resolution(name)))

    def text(self, name: str, value: str) -> None:
        """Sets a text point."""
        point = self._points[name]
        data = value.encode("ascii")
        assert point.type == "string", name
        assert len(data) <= 2 * point.size, name
        self._set_bytes(name, data.ljust(2 * point.size, b"\0"))

    def decoded(self, name: str, data: bytes) -> float:
        """The value in the point's unit that `data` means, for data written to it."""
        raw: int = NUMBER_TYPES[self._points[name].type].code.unpack(data)[0]
        return raw * self.resolution(name)

    def resolution(self, name: str) -> float:
        """The step of a point's value in its unit: 10 to the power of its scale factor."""
        scale = self._points[name].sf
        if scale is None:
            return 1.0
        factor = self._scale[f"{name.partition('.')[0]}.{scale}"]
        return 10.0**factor

    def _put(self, name: str, raw: int) -> None:
        number = NUMBER_TYPES[self._points[name].type]
        if number.wraps:
            raw %= 1 << (8 * number.code.size)
        self._set_bytes(name, number.code.pack(raw))

    def _set_bytes(self, name: str, data: bytes) -> None:
        begin = 2 * (self._address[name] - self.base_address)
        self._data[begin : begin + len(data)] = data
