"""What the batteries will do slot by slot as things are: along the plans, within their room, with sold reserve kept."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from agent.core.awards import AwardBook
from agent.core.deliverability import BaselineSlot, physical_w, room_after, room_then
from agent.core.envelope import clamp
from agent.core.orders import Orders
from agent.core.reserve import Room, baseline_bounds

MOST_SLOTS = 600
"""48 hours of five minutes; what comes later is told later."""
POWER_SHARE = 0.02
"""A forecast that moves by less than this share of the largest power says nothing new."""
SOC_PCT = 2.0
"""The same of a state of charge."""


@dataclass(frozen=True, slots=True)
class Energy:
    """The energy that all batteries hold: SoC (None = not known), capacity from 0 to 100 %, efficiency of one way."""

    soc_pct: float | None
    capacity_wh: float
    one_way_efficiency: float

    def after(self, given_wh: float) -> Energy:
        """After so much energy at the terminals, given +."""
        if self.soc_pct is None or self.capacity_wh <= 0.0 or self.one_way_efficiency <= 0.0:
            return Energy(None, self.capacity_wh, self.one_way_efficiency)
        cells_wh = given_wh / self.one_way_efficiency if given_wh > 0.0 else given_wh * self.one_way_efficiency
        soc_pct = min(max(self.soc_pct - 100.0 * cells_wh / self.capacity_wh, 0.0), 100.0)
        return Energy(soc_pct, self.capacity_wh, self.one_way_efficiency)


@dataclass(frozen=True, slots=True)
class SlotAhead:
    """One slot: what the plan wants of the batteries and what they will do, W toward the grid, and the SoC after it."""

    start_utc_s: float
    end_utc_s: float
    planned_w: float
    power_w: float
    soc_end_pct: float | None


def slots_ahead(
    awards: AwardBook,
    baseline: Iterable[BaselineSlot],
    room: Room,
    energy: Energy,
    *,
    orders: Orders,
    rated_w_of: Mapping[str, float],
    spent_wh: float,
) -> tuple[SlotAhead, ...]:
    """Each slot of the baseline, in order; inside it the awards, outages and curtailments of their own times count."""
    found: list[SlotAhead] = []
    edges = _edges(awards, orders)
    for slot in baseline:
        given_wh = 0.0
        inside = edges[bisect_right(edges, slot.start_utc_s) : bisect_left(edges, slot.end_utc_s)]
        for start, end in pairwise([slot.start_utc_s, *inside, slot.end_utc_s]):
            lines = awards.at(start)
            there = room_then(room, start, orders, rated_w_of)
            soon = awards.starting(start, slot.end_utc_s)
            bounds = baseline_bounds(lines, soon, there, slot.end_utc_s - start, spent_wh)
            power_w = physical_w(clamp(slot.power_w, bounds)[0], there, end - start)
            room = room_after(room, power_w, end - start)
            part_wh = power_w * (end - start) / 3600.0
            energy, given_wh = energy.after(part_wh), given_wh + part_wh
        length_h = (slot.end_utc_s - slot.start_utc_s) / 3600.0
        found.append(SlotAhead(slot.start_utc_s, slot.end_utc_s, slot.power_w, given_wh / length_h, energy.soc_pct))
    return tuple(found)


def _edges(awards: AwardBook, orders: Orders) -> list[float]:
    """Every instant at which an award, an outage or a curtailment begins or ends, in order."""
    terms = [(line.award.start_utc_s, line.award.end_utc_s) for line in awards.sold]
    terms += [(outage.start_utc_s, outage.end_utc_s) for outage in orders.outages]
    terms += [(order.start_utc_s, order.end_utc_s) for order in orders.curtailments]
    return sorted({edge for term in terms for edge in term})


def tells_more(before: Sequence[SlotAhead], now: Sequence[SlotAhead], utc_s: float) -> bool:
    """True when the later forecast says something that the earlier does not: other slots, powers or SoC.

    That slots have ended, and time has passed of the one that runs, is nothing new.
    """
    earlier = {slot.end_utc_s: slot for slot in before if slot.end_utc_s > utc_s}
    if earlier.keys() != {slot.end_utc_s for slot in now}:
        return True
    largest_w = max((abs(slot.power_w) for slot in (*before, *now)), default=0.0)
    return any(_differs(earlier[slot.end_utc_s], slot, largest_w) for slot in now)


def _differs(before: SlotAhead, now: SlotAhead, largest_w: float) -> bool:
    if abs(now.power_w - before.power_w) > POWER_SHARE * largest_w:
        return True
    if now.soc_end_pct is None or before.soc_end_pct is None:
        return now.soc_end_pct is not before.soc_end_pct
    return abs(now.soc_end_pct - before.soc_end_pct) > SOC_PCT
