"""The orders that bind the site from now on, made from the documents held now and then, looked up at each tick."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agent.core.awards import NO_AWARDS, AwardBook, AwardRefused, book
from agent.core.droop_products import PRODUCTS
from agent.core.orders import NO_ORDERS, Award, OrderDocuments, Orders
from agent.core.rules import SiteRules


@dataclass(frozen=True, slots=True)
class OrdersInForce:
    """All orders that have not ended, and the awards among them that stand at this site."""

    orders: Orders = NO_ORDERS
    awards: AwardBook = NO_AWARDS
    refused: tuple[AwardRefused, ...] = ()
    """Awards of a document that was taken once and that do not stand any more: the site file was changed."""


NOTHING_IN_FORCE = OrdersInForce()


def in_force(rules: SiteRules, documents: OrderDocuments, utc_s: float) -> OrdersInForce:
    """What the documents say about the time from `utc_s` on."""
    orders = documents.after(utc_s)
    awards, refused = booked(rules, orders.awards)
    return OrdersInForce(orders, awards, refused)


def booked(rules: SiteRules, awards: Iterable[Award]) -> tuple[AwardBook, tuple[AwardRefused, ...]]:
    """The awards that stand at this site, by its ratings, its grid and its products, and the others with reasons."""
    return book(
        awards,
        {**PRODUCTS, **rules.products},
        rated_discharge_w=sum(battery.rated_discharge_w for battery in rules.batteries),
        rated_charge_w=sum(battery.rated_charge_w for battery in rules.batteries),
        nominal_hz=rules.nominal_hz,
    )
