"""The published layouts of SunSpec models, read once from `sunspec_models/model_<id>.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any, Final

HEADER_REGISTERS = 2
"""Model id and length come before the points; the length does not count them."""

TYPE_REGISTERS: Final[Mapping[str, int]] = {
    "int16": 1,
    "uint16": 1,
    "enum16": 1,
    "bitfield16": 1,
    "acc16": 1,
    "count": 1,
    "sunssf": 1,
    "pad": 1,
    "int32": 2,
    "uint32": 2,
    "enum32": 2,
    "bitfield32": 2,
    "acc32": 2,
    "float32": 2,
    "int64": 4,
    "uint64": 4,
    "bitfield64": 4,
    "acc64": 4,
    "float64": 4,
}
"""Registers per point type; strings state their own size."""


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a model; `at` counts registers from the model's ID register."""

    name: str
    at: int
    type: str
    size: int
    sf: str | None
    """The name of the scale factor point: the value is raw x 10^sf."""
    unit: str
    writable: bool

    @property
    def end(self) -> int:
        """The first register after the point, from the model's ID register."""
        return self.at + self.size


@dataclass(frozen=True, slots=True)
class Group:
    """Points that a model repeats to its end, once per port, string or curve."""

    name: str
    size: int
    """Registers of one repetition."""
    points: Mapping[str, Point]
    """Their `at` counts from the first register of the repetition."""


@dataclass(frozen=True, slots=True)
class Layout:
    """All points of one model, as published."""

    model_id: int
    name: str
    length: int
    """Registers after ID and L, without the repeated group."""
    points: Mapping[str, Point]
    group: Group | None = None

    def groups_in(self, length: int) -> int:
        """How many times the group fits into a model of `length` registers after ID and L."""
        return 0 if self.group is None else max(0, length - self.length) // self.group.size

    def point(self, name: str) -> Point:
        """The point `name`; one of a repeated group is named `module.2.DCW`."""
        if name in self.points:
            return self.points[name]
        _, index, inner = name.split(".", 2)
        return self.grouped(int(index), inner)

    def grouped(self, index: int, name: str) -> Point:
        """The point `name` of the group's repetition number `index`, the first being 1; `at` as for other points."""
        assert self.group is not None
        assert index >= 1
        point = self.group.points[name]
        start = HEADER_REGISTERS + self.length + (index - 1) * self.group.size
        return replace(point, name=f"{self.group.name}.{index}.{name}", at=start + point.at)


@cache
def known_models() -> tuple[int, ...]:
    """The ids of all models whose layout is here."""
    folder = resources.files("drivers") / "sunspec_models"
    return tuple(sorted(int(file.name[6:-5]) for file in folder.iterdir() if file.name.startswith("model_")))


@cache
def layout(model_id: int) -> Layout:
    """The layout of a model that this package knows; asking for another one is a bug."""
    source = resources.files("drivers") / "sunspec_models" / f"model_{model_id}.toml"
    table = tomllib.loads(source.read_text(encoding="utf-8"))
    points = _points(table["points"])
    assert table["id"] == model_id
    assert all(point.end <= table["length"] + HEADER_REGISTERS for point in points.values())
    scales = [point.sf for point in points.values()]
    group = None
    if "group" in table:
        group = Group(table["group"]["name"], table["group"]["size"], _points(table["group"]["points"]))
        assert all(point.end <= group.size for point in group.points.values())
        scales += [point.sf for point in group.points.values()]
    assert all(scale is None or points[scale].type == "sunssf" for scale in scales)
    return Layout(model_id, table["name"], table["length"], points, group)


def _points(rows: list[dict[str, Any]]) -> dict[str, Point]:
    """The rows of one table of the file as points."""
    points = {}
    for row in rows:
        size = row["size"] if row["type"] == "string" else TYPE_REGISTERS[row["type"]]
        points[row["name"]] = Point(
            name=row["name"],
            at=row["at"],
            type=row["type"],
            size=size,
            sf=row.get("sf"),
            unit=row.get("unit", ""),
            writable=row.get("writable", False),
        )
    return points
