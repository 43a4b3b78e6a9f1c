"""The derating tables of a battery: `[device.derating.temperature]` and its kin, from the maker's sheet."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from agent.core.derating import SHARE_WHEN_UNKNOWN, Curve, Derating, Quantity
from agent.quantity import Percent, SocPoint, TemperaturePoint, VoltagePoint
from agent.site_file.section import Section

MAX_POINTS = 32
COLDEST_C, HOTTEST_C = -60.0, 120.0
"""Nothing with cells in it works beyond."""
MAX_CELL_V = 10.0
"""No battery cell of any chemistry reaches it: a higher number is the voltage of a module or of the rack."""

Points = list[tuple[float, float]]


def _curve(points: Points) -> Points:
    """The same points, if they make a curve."""
    for _, percent in points:
        if not 0.0 <= percent <= 100.0:
            raise ValueError(f"{percent:g} % is not a share of rated power, which lies between 0 % and 100 %")
    Curve(tuple((at, percent / 100.0) for at, percent in points))
    return points


def _within(low: float, high: float, unit: str) -> AfterValidator:
    def check(point: tuple[float, float]) -> tuple[float, float]:
        if not low <= point[0] <= high:
            raise ValueError(f"{point[0]:g} {unit} is not within {low:g} to {high:g} {unit}")
        return point

    return AfterValidator(check)


Size = Field(min_length=1, max_length=MAX_POINTS)
TemperatureCurve = Annotated[
    list[Annotated[TemperaturePoint, _within(COLDEST_C, HOTTEST_C, "degC")]], Size, AfterValidator(_curve)
]
VoltageCurve = Annotated[list[Annotated[VoltagePoint, _within(0.0, MAX_CELL_V, "V")]], Size, AfterValidator(_curve)]
SocCurve = Annotated[list[Annotated[SocPoint, _within(0.0, 100.0, "%")]], Size, AfterValidator(_curve)]


class _Derating(Section):
    """Curves over one quantity; a direction without a curve is not derated by it."""

    when_unknown: Annotated[Percent, Field(ge=0, le=100)] = 100.0 * SHARE_WHEN_UNKNOWN

    def rule(self, quantity: Quantity) -> Derating:
        """The same as the core sees it."""
        charge, discharge = getattr(self, "charge", None), getattr(self, "discharge", None)
        return Derating(quantity, _shares(charge), _shares(discharge), self.when_unknown / 100.0)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if getattr(self, "charge", None) is None and getattr(self, "discharge", None) is None:
            raise ValueError("charge and discharge are both missing: state at least one curve, or remove the table")
        return self


class TemperatureDerating(_Derating):
    """By cell temperature."""

    charge: TemperatureCurve | None = None
    discharge: TemperatureCurve | None = None


class CellVoltageDerating(_Derating):
    """By the voltage of the lowest or the highest cell."""

    charge: VoltageCurve | None = None
    discharge: VoltageCurve | None = None


class SocDerating(_Derating):
    """By state of charge."""

    charge: SocCurve | None = None
    discharge: SocCurve | None = None


class DeratingSection(Section):
    """How much of its rating the battery may use, quantity by quantity."""

    temperature: TemperatureDerating | None = None
    cell_min_voltage: CellVoltageDerating | None = None
    cell_max_voltage: CellVoltageDerating | None = None
    soc: SocDerating | None = None

    def rules(self) -> tuple[Derating, ...]:
        """The curves that are given."""
        found = (
            (Quantity.TEMPERATURE_C, self.temperature),
            (Quantity.CELL_MIN_V, self.cell_min_voltage),
            (Quantity.CELL_MAX_V, self.cell_max_voltage),
            (Quantity.SOC_PCT, self.soc),
        )
        return tuple(table.rule(quantity) for quantity, table in found if table is not None)


def _shares(points: Points | None) -> Curve | None:
    return Curve(tuple((at, percent / 100.0) for at, percent in points)) if points is not None else None
