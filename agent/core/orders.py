"""What binds the site besides plans: awards, curtailment orders, outages. They constrain every source of authority.

All powers are W; times are Unix seconds, intervals half-open.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Direction(StrEnum):
    """Which way an award may move the site: UP is toward the grid, for low frequency."""

    BOTH = "both"
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Award:
    """Primary reserve that was sold for `[start, end)`."""

    award_id: str
    product: str
    """Name of the droop table, a preset or the site's own."""
    start_utc_s: float
    end_utc_s: float
    power_w: float
    """Sold reserve, > 0, in each direction that it covers."""
    direction: Direction = Direction.BOTH


@dataclass(frozen=True, slots=True)
class Curtailment:
    """An order of the grid operator for `[start, end)`: at most this much at the connection point."""

    order_id: str
    start_utc_s: float
    end_utc_s: float
    export_limit_w: float | None = None
    """>= 0; None = the order does not touch export."""
    import_limit_w: float | None = None


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which a device (or with None the whole site) must stay at 0."""

    outage_id: str
    start_utc_s: float
    end_utc_s: float
    device_id: str | None = None


@dataclass(frozen=True, slots=True)
class Orders:
    """All orders in force or to come."""

    awards: tuple[Award, ...] = ()
    curtailments: tuple[Curtailment, ...] = ()
    outages: tuple[Outage, ...] = ()


NO_ORDERS = Orders()
