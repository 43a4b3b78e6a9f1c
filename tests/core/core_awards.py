"""Awards, tables and rooms for the tests of frequency response."""

from __future__ import annotations

from agent.core.awards import AwardBook, Sold, book
from agent.core.droop_products import CE_FCR_OFFSET, PRODUCTS
from agent.core.orders import Award, Direction
from agent.core.reserve import Room

T0 = 1_700_000_400.0 - 1_700_000_400 % 1800
"""A slot edge."""
HALF_HOUR_S = 1800.0


def award(
    award_id: str = "a1", product: str = "ce-fcr-offset", start: float = 0.0, end: float = HALF_HOUR_S,
    power_w: float = 100e3, direction: Direction = Direction.BOTH,
) -> Award:  # fmt: skip
    """An award that starts and ends so many seconds from T0."""
    return Award(award_id, product, T0 + start, T0 + end, power_w, direction)


def sold(*awards: Award, tables=PRODUCTS) -> tuple[Sold, ...]:
    return tuple(Sold(one, tables[one.product]) for one in awards)


def booked(*awards: Award, rated_w: float = 500e3) -> AwardBook:
    taken, refused = book(awards, PRODUCTS, rated_discharge_w=rated_w, rated_charge_w=rated_w)
    assert refused == ()
    return taken


def room(discharge_w=500e3, charge_w=500e3, give_wh=300e3, take_wh=300e3, round_trip=0.9) -> Room:
    return Room(discharge_w, charge_w, give_wh, take_wh, round_trip)


TABLE = CE_FCR_OFFSET
