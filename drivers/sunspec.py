"""Which SunSpec models a device has and where: the chain of models, walked from the marker "SunS".

A chain may be hostile or simply wrong, so that the walk is bounded: unknown models are skipped by their length,
repeated ones are kept, a model shorter than its layout lacks the points beyond its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from drivers.errors import ModbusRefused, ModelMissing, NotSunSpec
from drivers.read_plan import Place
from drivers.registers import ADDRESS_SPACE, Registers
from drivers.sunspec_layout import HEADER_REGISTERS, Point, layout

BASES: Final = (40000, 0, 50000)
"""Where the marker may be (SunSpec Device Information Model Specification), most usual first."""
MARKER: Final = (0x5375, 0x6E53)
"""The letters SunS."""
END_MODEL = 0xFFFF
NO_MODEL = 0
MAX_MODELS = 100
MAX_CHAIN_REGISTERS = 20_000
"""Well above any real map; a chain beyond either limit is cut there."""
NOT_HERE: Final = frozenset({1, 2, 3, 4})
"""Modbus exceptions that may mean just "no such registers" at a base or after the last model."""


@dataclass(frozen=True, slots=True)
class Model:
    """One model as found; `address` is that of its ID register."""

    model_id: int
    address: int
    length: int
    """Registers after ID and L, as the device states it."""

    def has(self, point: Point) -> bool:
        """Whether the point lies within the length that the device states."""
        return point.end <= self.length + HEADER_REGISTERS


@dataclass(frozen=True, slots=True)
class Chain:
    """The models of one device in the order of its map."""

    base_address: int
    models: tuple[Model, ...]
    cut_short: str
    """Why the walk ended before an end marker; "" for a chain as it should be."""
    generation: int
    """The connection over which the marker was found (see `Registers.generation`)."""

    def first(self, *model_ids: int) -> Model | None:
        """The first model with one of these ids, by order of `model_ids`, or None."""
        for model_id in model_ids:
            for model in self.models:
                if model.model_id == model_id:
                    return model
        return None

    def places(self, model: Model | None, names: Iterable[str]) -> list[Place]:
        """Where the named points of `model` are, with the scale factors they need; those it lacks are left out.

        A point of a repeated group is named `module.2.DCW`.
        """
        if model is None:
            return []
        known = layout(model.model_id)
        wanted = {name: known.point(name) for name in names}
        for point in list(wanted.values()):
            if point.sf is not None:
                wanted[point.sf] = known.points[point.sf]
        return [
            Place(f"{model.model_id}.{point.name}", point, model.address + point.at)
            for point in wanted.values()
            if model.has(point)
        ]


async def walk(link: Registers, unit_id: int, base_address: int | None = None) -> Chain:
    """The chain of models of a device; `base_address` is tried before the usual ones.

    `NotSunSpec` if there is no marker anywhere. Silence ends the search at once: it would be the same elsewhere.
    """
    bases = BASES if base_address is None else (base_address, *(base for base in BASES if base != base_address))
    found = []
    for base in bases:
        try:
            marker = await link.read_holding(unit_id, base, len(MARKER))
        except ModbusRefused as refused:
            if refused.code not in NOT_HERE:
                raise
            found.append(f"{base}: exception {refused.code}")
            continue
        if marker == MARKER:
            return await _walk_from(link, unit_id, base)
        found.append(f"{base}: 0x{marker[0]:04X} 0x{marker[1]:04X}")
    raise NotSunSpec(
        f"no SunSpec marker ({', '.join(found)})",
        endpoint=link.name,
        unit_id=unit_id,
        hint="check the unit id and that SunSpec is switched on; state base_address if the map is elsewhere",
    )


async def _walk_from(link: Registers, unit_id: int, base: int) -> Chain:
    generation = link.generation
    models: list[Model] = []
    at = base + len(MARKER)
    end = min(base + MAX_CHAIN_REGISTERS, ADDRESS_SPACE)
    while True:
        cut_short = ""
        if len(models) == MAX_MODELS:
            cut_short = f"more than {MAX_MODELS} models"
        elif at + HEADER_REGISTERS > end:
            cut_short = f"no end marker up to register {at}"
        if cut_short:
            return Chain(base, tuple(models), cut_short, generation)
        try:
            model_id, length = await link.read_holding(unit_id, at, HEADER_REGISTERS)
        except ModbusRefused as refused:
            if refused.code not in NOT_HERE:
                raise
            cut_short = f"register {at} was refused with exception {refused.code}"
            return Chain(base, tuple(models), cut_short, generation)
        if model_id == NO_MODEL:
            cut_short = f"no model id at register {at}"
        elif model_id != END_MODEL and at + HEADER_REGISTERS + length > end:
            cut_short = f"model {model_id} at register {at} states {length} registers"
        if cut_short or model_id == END_MODEL:
            return Chain(base, tuple(models), cut_short, generation)
        models.append(Model(model_id, at, length))
        at += HEADER_REGISTERS + length


def require(chain: Chain, model_ids: Sequence[int], names: Iterable[str], link: Registers, unit_id: int) -> Model:
    """The first model with one of these ids, by their order, if it has all the named points.

    Else `ModelMissing` says what lacks.
    """
    model = chain.first(*model_ids)
    if model is None:
        wanted = " or ".join(f"{model_id} ({layout(model_id).name})" for model_id in model_ids)
        ids = ", ".join(str(model.model_id) for model in chain.models) or "none"
        note = f" (the chain was cut short: {chain.cut_short})" if chain.cut_short else ""
        raise ModelMissing(
            f"SunSpec model {wanted} is missing; found: {ids}{note}",
            endpoint=link.name,
            unit_id=unit_id,
            hint="check the role and the unit id in the site file, and the firmware of the device",
        )
    points = layout(model.model_id).points
    lacking = [name for name in names if not model.has(points[name])]
    if lacking:
        raise ModelMissing(
            f"SunSpec model {model.model_id} has only {model.length} registers, without {', '.join(lacking)}",
            endpoint=link.name,
            unit_id=unit_id,
            address=model.address,
            hint="ask the maker for a firmware with the whole model",
        )
    return model
