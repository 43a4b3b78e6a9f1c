"""The units that a profile may state, and how each becomes the one used inside (W, Wh, V, A, Hz, s, %, degC)."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Final, NamedTuple


class Unit(NamedTuple):
    """What is measured, and the factor to the unit used inside."""

    dimension: str
    factor: Fraction


def _one(dimension: str, **factors: int | str) -> dict[str, Unit]:
    return {name: Unit(dimension, Fraction(factor)) for name, factor in factors.items()}


UNITS: Final[Mapping[str, Unit]] = {
    "": Unit("none", Fraction(1)),
    **_one("power", mW="1/1000", W=1, kW=1000, MW=1_000_000),
    **_one("apparent power", VA=1, kVA=1000),
    **_one("reactive power", var=1, kvar=1000),
    **_one("energy", Wh=1, kWh=1000, MWh=1_000_000),
    **_one("reactive energy", varh=1, kvarh=1000),
    **_one("charge", Ah=1),
    **_one("voltage", mV="1/1000", V=1, kV=1000),
    **_one("current", mA="1/1000", A=1),
    **_one("frequency", mHz="1/1000", Hz=1),
    **_one("time", ms="1/1000", s=1, min=60, h=3600),
    **_one("temperature", degC=1),
    **_one("resistance", ohm=1, kohm=1000),
    "%": Unit("share", Fraction(1)),
}

POWER, CURRENT, VOLTAGE, ENERGY, SHARE, TIME = "power", "current", "voltage", "energy", "share", "time"
FREQUENCY, TEMPERATURE = "frequency", "temperature"
