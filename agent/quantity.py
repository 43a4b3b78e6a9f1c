"""Physical quantities as people write them: `"500 kW"`, `"30 min"`, `"10 %"`, parsed with their unit checked."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

_FORM = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*([A-Za-z%°/]+)")

UNITS: dict[str, dict[str, float]] = {
    "power": {"W": 1.0, "kW": 1e3, "MW": 1e6},
    "energy": {"Wh": 1.0, "kWh": 1e3, "MWh": 1e6},
    "ramp": {"W/s": 1.0, "kW/s": 1e3, "kW/min": 1e3 / 60.0, "MW/min": 1e6 / 60.0},
    "time": {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0},
    "frequency": {"mHz": 1e-3, "Hz": 1.0},
    "temperature": {"degC": 1.0, "°C": 1.0},
    "voltage": {"mV": 1e-3, "V": 1.0},
    "share": {"%": 1.0},
}
"""Factor from each unit to the one used inside: W, Wh, W/s, s, Hz, degrees Celsius, V, percent."""
_EXAMPLES = {
    "power": '"500 kW"',
    "energy": '"1.2 MWh"',
    "ramp": '"5 kW/s"',
    "time": '"30 s"',
    "frequency": '"10 mHz"',
    "temperature": '"45 degC"',
    "voltage": '"3.55 V"',
    "share": '"10 %"',
}


def parse(text: object, dimension: str) -> float:
    """The value of `text` in the unit used inside; ValueError tells what was expected and how to write it."""
    units = UNITS[dimension]
    wanted = f"a {dimension} in {', '.join(units)}, for example {_EXAMPLES[dimension]}"
    if not isinstance(text, str):
        raise ValueError(f"write the unit with the number: {wanted}, not {text!r}")  # noqa: TRY004 (pydantic needs ValueError)
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not {wanted}")
    unit = match.group(2)
    if unit not in units:
        other = next((name for name, known in UNITS.items() if unit in known), None)
        kind = f"{unit!r} is a unit of {other}" if other else f"{unit!r} is not a known unit"
        raise ValueError(f"{kind}; this is {wanted}")
    value = float(match.group(1)) * units[unit]
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is too large")
    return value


def _parser(dimension: str) -> Callable[[object], object]:
    return lambda text: parse(text, dimension)


def _pair_parser(first: str, second: str) -> Callable[[object], object]:
    """For a point of a curve: `["45 degC", "100 %"]`."""
    example = f"[{_EXAMPLES[first]}, {_EXAMPLES[second]}]"

    def pair(value: object) -> object:
        if not isinstance(value, list) or len(value) != 2:
            raise ValueError(f"write a point as {example}, not {value!r}")
        return parse(value[0], first), parse(value[1], second)

    return pair


Power = Annotated[float, BeforeValidator(_parser("power"))]
Energy = Annotated[float, BeforeValidator(_parser("energy"))]
Ramp = Annotated[float, BeforeValidator(_parser("ramp"))]
Time = Annotated[
    float, BeforeValidator(_parser("time")), WithJsonSchema({"type": "string", "examples": ["200 ms", "30 s"]})
]
Frequency = Annotated[float, BeforeValidator(_parser("frequency"))]
Percent = Annotated[float, BeforeValidator(_parser("share"))]
TemperaturePoint = Annotated[tuple[float, float], BeforeValidator(_pair_parser("temperature", "share"))]
VoltagePoint = Annotated[tuple[float, float], BeforeValidator(_pair_parser("voltage", "share"))]
SocPoint = Annotated[tuple[float, float], BeforeValidator(_pair_parser("share", "share"))]
DroopPoint = Annotated[tuple[float, float], BeforeValidator(_pair_parser("frequency", "share"))]
