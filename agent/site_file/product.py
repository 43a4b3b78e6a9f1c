"""`[[product]]`: one reserve product that this site sells, a preset by its name or a droop table of its own."""

from __future__ import annotations

import difflib
from dataclasses import replace
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from agent.core.droop import MAX_FULL_BY_S, MAX_HEADROOM, MAX_SUSTAIN_S, DroopTable, faults
from agent.core.droop_products import PRODUCTS
from agent.quantity import DroopPoint, Frequency, Percent, Time
from agent.site_file.section import Name, Section

MAX_POINTS = 32
NOMINAL_UNTIL_KNOWN_HZ = 50.0
"""Stands in a table of the site's own until the site's nominal frequency is put there (`ProductSection.table`)."""


def _share(point: tuple[float, float]) -> tuple[float, float]:
    if not 0.0 <= point[1] <= 100.0:
        raise ValueError(f"{point[1]:g} % is not a share of the award, which lies between 0 % and 100 %")
    return point


Point = Annotated[DroopPoint, AfterValidator(_share)]


class ProductSection(Section):
    """One reserve product; what is not stated comes from the preset."""

    name: Name
    preset: str | None = None
    points: Annotated[list[Point], Field(min_length=2, max_length=MAX_POINTS)] | None = None
    gate: Annotated[Frequency, Field(ge=0)] | None = None
    full_by: Annotated[Time, Field(gt=0, le=MAX_FULL_BY_S)] | None = None
    half_by: Annotated[Time, Field(gt=0)] | None = None
    start_within: Annotated[Time, Field(gt=0)] | None = None
    sustain: Annotated[Time, Field(ge=1, le=MAX_SUSTAIN_S)] | None = None
    restore_within: Annotated[Time, Field(ge=1)] | None = None
    power_headroom: Annotated[Percent, Field(ge=100, le=100 * MAX_HEADROOM)] | None = None
    opposite_headroom: Annotated[Percent, Field(ge=0, le=100)] | None = None
    needed_resolution: Annotated[Frequency, Field(ge=0.0005, le=1)] | None = None
    least_droop: Annotated[Percent, Field(ge=0, le=100)] | None = None
    counted_with: str | None = None

    @model_validator(mode="after")
    def _makes_a_table(self) -> Self:
        if self.preset is not None and self.preset not in PRODUCTS:
            close = difflib.get_close_matches(self.preset, PRODUCTS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(PRODUCTS)}"
            raise ValueError(f"preset {self.preset!r} is not known; {hint}")
        if self.base is None:
            lacking = [key for key in ("points", "full_by", "sustain") if getattr(self, key) is None]
            if lacking:
                verb = "are" if len(lacking) > 1 else "is"
                raise ValueError(
                    f"{', '.join(lacking)} {verb} missing: {self.name!r} is no preset, so its whole table is needed "
                    f"(or a preset; there are: {', '.join(PRODUCTS)})"
                )
        for fault in faults(self.table(self.base.nominal_hz if self.base else NOMINAL_UNTIL_KNOWN_HZ)):
            raise ValueError(f"{key_of(fault.field)}: {fault.text}")
        return self

    @property
    def base(self) -> DroopTable | None:
        """The preset that this product starts from, None for a table of the site's own."""
        return PRODUCTS.get(self.preset if self.preset is not None else self.name)

    def stated(self) -> dict[str, Any]:
        """What the site file says itself, by field of `DroopTable`."""
        found: dict[str, Any] = {}
        for field, (key, factor) in _KEYS.items():
            value = getattr(self, key)
            if value is not None:
                found[field] = value * factor if factor is not None else value
        if self.points is not None:
            found["points"] = tuple((away_hz, percent / 100.0) for away_hz, percent in self.points)
        return found

    def table(self, nominal_hz: float) -> DroopTable:
        """The droop table at a grid of `nominal_hz`; a preset keeps its own nominal frequency."""
        stated = self.stated()
        base = self.base
        if base is None:
            return DroopTable(name=self.name, nominal_hz=nominal_hz, **stated)
        unsure = tuple(field for field in base.unsure if field.split("[")[0] not in stated)
        source = base.source if not stated else f"site file, after: {base.source}"
        return replace(base, name=self.name, source=source, unsure=unsure, **stated)


_KEYS: dict[str, tuple[str, float | None]] = {
    "gate_hz": ("gate", None),
    "full_by_s": ("full_by", None),
    "half_by_s": ("half_by", None),
    "start_within_s": ("start_within", None),
    "sustain_s": ("sustain", None),
    "restore_within_s": ("restore_within", None),
    "power_headroom": ("power_headroom", 0.01),
    "opposite_headroom": ("opposite_headroom", 0.01),
    "needed_resolution_hz": ("needed_resolution", None),
    "least_droop": ("least_droop", 0.01),
    "counted_with": ("counted_with", None),
}
"""Field of `DroopTable`: key of the site file, and what turns the one's unit into the other's."""


def key_of(field: str) -> str:
    """The site file's key for a field of `DroopTable`."""
    return _KEYS[field][0] if field in _KEYS else field
