"""How much of its rated power a battery may use at this temperature, cell voltage or SoC.

Curves are data of the site file, from the maker's sheet, charge and discharge apart. A share falls at once and
recovers slowly: a cell voltage springs back as soon as the power goes, and would ask for the power again.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from agent.core.bounds import Bound

RECOVERY_PER_S = 0.005
"""A derated share rises by at most this much of the rating per second: from 0 to full in 200 s."""
SHARE_WHEN_UNKNOWN = 0.5
"""Share of the rating while the quantity cannot be read, unless the site file says otherwise: neither blind full
power nor a stop because of one sensor; the battery's own live limits still hold."""


class Quantity(StrEnum):
    """What a curve is over."""

    TEMPERATURE_C = "temperature"
    CELL_MIN_V = "lowest cell voltage"
    CELL_MAX_V = "highest cell voltage"
    SOC_PCT = "SoC"


@dataclass(frozen=True, slots=True)
class Curve:
    """Share of rated power, 0 to 1, linear between `(at, share)` points, flat beyond the first and the last."""

    points: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        """Refuse a curve that means nothing."""
        places = [at for at, _ in self.points]
        if not places or any(not math.isfinite(at) for at in places):
            raise ValueError("a curve needs at least one point [value, share], all of them finite numbers")
        if any(after <= before for before, after in pairwise(places)):
            raise ValueError("the points of a curve must rise in value: sort them, and give each value once")
        if any(not 0.0 <= share <= 1.0 for _, share in self.points):
            raise ValueError("a share of rated power lies between 0 and 1")

    def share(self, at: float) -> float:
        """The share of rated power at `at`."""
        points = self.points
        index = bisect_right(points, (at, math.inf))
        if index == 0:
            return points[0][1]
        if index == len(points):
            return points[-1][1]
        (x0, y0), (x1, y1) = points[index - 1], points[index]
        return y0 + (y1 - y0) * (at - x0) / (x1 - x0)


@dataclass(frozen=True, slots=True)
class Derating:
    """One quantity and its curves; a direction without a curve is not derated by it."""

    quantity: Quantity
    charge: Curve | None = None
    discharge: Curve | None = None
    share_when_unknown: float = SHARE_WHEN_UNKNOWN

    def __post_init__(self) -> None:
        """Refuse a share that is none."""
        if not 0.0 <= self.share_when_unknown <= 1.0:
            raise ValueError("share_when_unknown lies between 0 and 1")


@dataclass(frozen=True, slots=True)
class Cells:
    """What is known of the cells now; None where it is not read."""

    temperature_c: float | None = None
    """Where charge and discharge curves need different ends of the pack, the one farther from the comfortable range."""
    cell_min_v: float | None = None
    cell_max_v: float | None = None
    soc_pct: float | None = None


NO_CELLS = Cells()


@dataclass(frozen=True, slots=True)
class Shares:
    """The shares in force, kept from tick to tick."""

    charge: float = 1.0
    discharge: float = 1.0


FULL = Shares()


def derate(deratings: tuple[Derating, ...], cells: Cells, before: Shares | None, dt_s: float) -> tuple[Shares, str]:
    """The shares now and the limit that set the lowest of them (empty when nothing is derated).

    `before` are the shares of the last tick, `dt_s` ago; None at the start, when the curve counts at once.
    """
    if not deratings and (before is None or before == FULL):
        return FULL, ""
    charge, discharge, limit = 1.0, 1.0, ""
    for item in deratings:
        at = _value(item.quantity, cells)
        on_charge = _share(item.charge, at, item.share_when_unknown)
        on_discharge = _share(item.discharge, at, item.share_when_unknown)
        if min(on_charge, on_discharge) < min(charge, discharge):
            limit = f"derating by {item.quantity}" if at is not None else f"derating: {item.quantity} unknown"
        charge, discharge = min(charge, on_charge), min(discharge, on_discharge)
    if before is not None:
        rise = RECOVERY_PER_S * max(dt_s, 0.0)
        charge, discharge = min(charge, before.charge + rise), min(discharge, before.discharge + rise)
    if not limit and min(charge, discharge) < 1.0:
        limit = "recovery from derating"
    return Shares(charge, discharge), limit


def lasting_shares(deratings: tuple[Derating, ...], temperature_c: float | None) -> Shares:
    """What the temperature leaves of the rating: it stays for hours, while voltage and SoC move with each plan."""
    by_temperature = tuple(item for item in deratings if item.quantity is Quantity.TEMPERATURE_C)
    return derate(by_temperature, Cells(temperature_c), None, 0.0)[0]


def derating_bound(shares: Shares, limit: str, rated_charge_w: float, rated_discharge_w: float, owner: str) -> Bound:
    """What these shares leave of the rating."""
    return Bound(limit, owner, -rated_charge_w * shares.charge, rated_discharge_w * shares.discharge)


def _value(quantity: Quantity, cells: Cells) -> float | None:
    if quantity is Quantity.TEMPERATURE_C:
        found = cells.temperature_c
    elif quantity is Quantity.CELL_MIN_V:
        found = cells.cell_min_v
    elif quantity is Quantity.CELL_MAX_V:
        found = cells.cell_max_v
    else:
        found = cells.soc_pct
    return found if found is not None and math.isfinite(found) else None


def _share(curve: Curve | None, at: float | None, when_unknown: float) -> float:
    if curve is None:
        return 1.0
    return when_unknown if at is None else curve.share(at)
