"""Curtailment orders in force now, and how much PV may give while an export limit binds.

The batteries absorb first: the bound at the connection point makes them charge. Only what they cannot take is taken
from PV, as a ceiling in W, which ends with the order. A load above an import order cannot be cut by the agent: the
batteries give what they can and the order is told as softened.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from agent.core.bounds import Bound, Rank
from agent.core.made_often import made_often
from agent.core.orders import Curtailment

RELEASE_SHARE = 1.05
"""A ceiling ends when it would lie this far above what the PV inverters can give; it begins below their rating."""


@made_often
@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """The limits at the connection point now, W, >= 0, and the order behind each ("" = the site's own limit)."""

    export_w: float
    import_w: float
    export_order: str = ""
    import_order: str = ""
    owner: str = "grid operator"
    """Whose word the tightest order is."""


def limits_now(
    export_limit_w: float, import_limit_w: float, orders: Sequence[Curtailment], utc_s: float
) -> ConnectionLimits:
    """The site's limits tightened by every order in force at `utc_s`; an order never widens them.

    A limit below 0 counts as 0 (no flow that way); one that is not a number has no effect.
    """
    export_w, import_w, export_order, import_order = export_limit_w, import_limit_w, "", ""
    for order in orders:
        if not order.start_utc_s <= utc_s < order.end_utc_s:
            continue
        if order.export_limit_w is not None and order.export_limit_w < export_w:
            export_w, export_order = max(order.export_limit_w, 0.0), order.order_id
        if order.import_limit_w is not None and order.import_limit_w < import_w:
            import_w, import_order = max(order.import_limit_w, 0.0), order.order_id
    return ConnectionLimits(export_w, import_w, export_order, import_order)


def curtailment_bound(limits: ConnectionLimits, most_others_w: float, least_others_w: float) -> Bound | None:
    """What the orders in force leave to the batteries, given PV and load; None without an order.

    `most_others_w` and `least_others_w` differ only while a silent battery may or may not still give power.
    """
    if not limits.export_order and not limits.import_order:
        return None
    upper_w = limits.export_w - most_others_w if limits.export_order else math.inf
    lower_w = -limits.import_w - least_others_w if limits.import_order else -math.inf
    names = dict.fromkeys(name for name in (limits.export_order, limits.import_order) if name)
    return Bound(f"curtailment {', '.join(names)}", limits.owner, lower_w, upper_w, Rank.CURTAILMENT)


def pv_ceiling_w(
    export_limit_w: float, load_w: float | None, batteries_lower_w: float, rated_w: float, before_w: float | None
) -> float | None:
    """What all PV together may give now, W, or None when it needs no ceiling.

    `batteries_lower_w` is the hardest charging (<= 0) that the batteries can do now, `before_w` the ceiling of the last
    tick. With the load unknown the worst case counts: none, and batteries that do nothing.
    """
    if load_w is None:
        ceiling_w = export_limit_w
    else:
        ceiling_w = export_limit_w - load_w - min(batteries_lower_w, 0.0)
    ceiling_w = max(ceiling_w, 0.0)
    ends_at_w = rated_w if before_w is None else rated_w * RELEASE_SHARE
    return None if ceiling_w >= ends_at_w else min(ceiling_w, rated_w)


def pv_shares_w(ceiling_w: float | None, rated_w: Sequence[float]) -> list[float | None]:
    """The ceiling of each PV inverter, in proportion to its rating."""
    total_w = sum(rated_w)
    if ceiling_w is None or total_w <= 0.0:
        return [None] * len(rated_w)
    return [ceiling_w * each_w / total_w for each_w in rated_w]
