"""Physical quantities as people write them: `"500 kW"`, `"30 min"`, `"10 %"`, parsed with their unit checked."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Annotated

from pydantic import BeforeValidator

_FORM = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*([A-Za-z%]+)")

UNITS: dict[str, dict[str, float]] = {
    "power": {"W": 1.0, "kW": 1e3, "MW": 1e6},
    "energy": {"Wh": 1.0, "kWh": 1e3, "MWh": 1e6},
    "time": {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0},
    "share": {"%": 1.0},
}
"""Factor from each unit to the one used inside: W, Wh, s, percent."""


def parse(text: object, dimension: str) -> float:
    """The value of `text` in W, Wh, s or percent; ValueError tells what was expected and how to write it."""
    units = UNITS[dimension]
    example = {"power": '"500 kW"', "energy": '"1.2 MWh"', "time": '"30 s"', "share": '"10 %"'}[dimension]
    wanted = f"a {dimension} in {', '.join(units)}, for example {example}"
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


Power = Annotated[float, BeforeValidator(_parser("power"))]
Time = Annotated[float, BeforeValidator(_parser("time"))]
Percent = Annotated[float, BeforeValidator(_parser("share"))]
