"""Whether every award to come can be met: a forecast along the plan, with the shortfall in W and Wh.

The forecast does what the agent will do: it follows the plan's baseline, keeps what awards reserve from the moment
they are in force (`agent.core.reserve`), and stops at the SoC window. What is then missing at the start of an award, or
at any edge inside it, is its shortfall. Made once a minute; told to the cloud while the award can still be cancelled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import inf

from agent.core.awards import AwardBook, Sold
from agent.core.envelope import clamp
from agent.core.orders import Orders
from agent.core.plan import Plans, Target
from agent.core.reserve import Room, baseline_bounds, energy_kept_wh, power_kept_w

CANCEL_AHEAD_S = 3600.0
"""An award can be cancelled only for slots further ahead than this (EPRX)."""
TOLERANCE = 0.01
"""A shortfall up to this share of the award is within the noise of SoC and limits and counts as met."""


@dataclass(frozen=True, slots=True)
class BaselineSlot:
    """The battery power that is planned for `[start, end)`, W toward the grid."""

    start_utc_s: float
    end_utc_s: float
    power_w: float


@dataclass(frozen=True, slots=True)
class Deliverability:
    """What one award will be short of, at worst: power (with headroom) and energy at the terminals."""

    award_id: str
    start_utc_s: float
    end_utc_s: float
    shortfall_w: float
    shortfall_wh: float
    met: bool
    why: str
    """For people: what is missing, in kW and kWh; empty when met."""

    @property
    def cancel_by_utc_s(self) -> float:
        """Until when the market lets the award be given back (EPRX: an hour before it starts)."""
        return self.start_utc_s - CANCEL_AHEAD_S


def baseline_ahead(
    plans: Plans, now_utc_s: float, until_utc_s: float, others_w: float = 0.0, *, most: float = inf
) -> list[BaselineSlot]:
    """The planned battery power from now on, slot by slot: rolling plan, else yearly plan, else nothing (0 W).

    Where a local plan is laid over them, that is what will be done.

    A slot at the connection point asks the battery for what PV and load (`others_w`, as now) leave of it.
    """
    layers = [plan for plan in (plans.rolling, plans.yearly) if plan is not None]
    found: list[BaselineSlot] = []
    at = now_utc_s
    while layers and at < until_utc_s and len(found) < most:
        slot = next((slot for plan in layers if (slot := plan.slot_at(at)) is not None), None)
        if slot is None:
            starts = [p.start_utc_s for p in layers if p.start_utc_s > at]
            steps = [
                at - (at - p.start_utc_s) % p.slot_s + p.slot_s for p in layers if p.start_utc_s <= at < p.end_utc_s
            ]
            at = min([*starts, *steps], default=until_utc_s)
            continue
        slot = plans.local_slot_at(at) or slot
        power_w = slot.power_w - (others_w if slot.target is Target.GRID else 0.0)
        found.append(BaselineSlot(at, slot.end_utc_s, power_w))
        at = slot.end_utc_s
    return found


def deliverabilities(
    awards: AwardBook,
    baseline: Iterable[BaselineSlot],
    room: Room,
    now_utc_s: float,
    *,
    spent_wh: float = 0.0,
    orders: Orders | None = None,
    rated_w_of: Mapping[str, float] | None = None,
    unanswered: Mapping[str, str] | None = None,
) -> tuple[Deliverability, ...]:
    """The forecast for every award that has not ended at `now_utc_s`, by start.

    `room` is what the batteries can do now (all zero when none is known: everything is short); `orders` are outages
    and curtailments to come, `rated_w_of` the share that each battery has in an outage; `unanswered` names, by product,
    why the frequency on site is not good enough: such an award is short by all of it.
    """
    ahead = [line for line in awards.sold if line.award.end_utc_s > now_utc_s]
    if not ahead:
        return ()
    slots = sorted(baseline, key=lambda slot: slot.start_utc_s)
    orders = orders or Orders()
    worst: dict[str, tuple[float, float]] = {}
    edges = _edges(ahead, slots, orders, now_utc_s)
    index = 0
    for start, end in pairwise(edges):
        while index < len(slots) and slots[index].end_utc_s <= start:
            index += 1
        slot = slots[index] if index < len(slots) and slots[index].start_utc_s <= start else None
        lines = awards.at(start)
        there = room_then(room, start, orders, rated_w_of or {})
        # What the response took counts for the awards that are in force already, not for later ones.
        spent = spent_wh if all(line.award.start_utc_s <= now_utc_s for line in lines) else 0.0
        for line, short in _short(lines, there, spent):
            before = worst.get(line.award.award_id, (0.0, 0.0))
            worst[line.award.award_id] = (max(before[0], short[0]), max(before[1], short[1]))
        slot_end = slot.end_utc_s if slot is not None else end
        soon = awards.starting(start, slot_end)
        bounds = baseline_bounds(lines, soon, there, slot_end - start, spent)
        power_w = clamp(slot.power_w if slot is not None else 0.0, bounds)[0]
        room = room_after(room, physical_w(power_w, there, end - start), end - start)
    return tuple(_told(line, worst.get(line.award.award_id, (0.0, 0.0)), unanswered or {}) for line in ahead)


def _edges(ahead: list[Sold], slots: list[BaselineSlot], orders: Orders, now_utc_s: float) -> list[float]:
    """Every instant from now to the end of the last award at which anything changes."""
    last = max(line.award.end_utc_s for line in ahead)
    spans = [(line.award.start_utc_s, line.award.end_utc_s) for line in ahead]
    spans += [(slot.start_utc_s, slot.end_utc_s) for slot in slots]
    spans += [(outage.start_utc_s, outage.end_utc_s) for outage in orders.outages]
    spans += [(order.start_utc_s, order.end_utc_s) for order in orders.curtailments]
    edges = {edge for span in spans for edge in span}
    return [now_utc_s, *sorted(edge for edge in edges if now_utc_s < edge <= last)]


def room_then(room: Room, utc_s: float, orders: Orders, rated_w_of: Mapping[str, float]) -> Room:
    """The room with the outages and curtailments of that time."""
    if not orders.outages and not orders.curtailments:
        return room
    out = {o.device_id for o in orders.outages if o.start_utc_s <= utc_s < o.end_utc_s}
    if out:
        total_w = sum(rated_w_of.values())
        left_w = 0.0 if None in out else sum(w for device_id, w in rated_w_of.items() if device_id not in out)
        part = left_w / total_w if total_w > 0.0 else 0.0
        room = Room(
            room.discharge_w * part, room.charge_w * part, room.give_wh * part, room.take_wh * part, room.round_trip
        )
    for order in orders.curtailments:
        if order.start_utc_s <= utc_s < order.end_utc_s:
            lower_w = -order.import_limit_w if order.import_limit_w is not None else -room.charge_w
            room = room.within(lower_w, order.export_limit_w if order.export_limit_w is not None else room.discharge_w)
    return room


def _short(lines: tuple[Sold, ...], room: Room, spent_wh: float) -> list[tuple[Sold, tuple[float, float]]]:
    """What each award lacks (W, Wh) on top of those before it; the worse direction counts."""
    found: list[tuple[Sold, tuple[float, float]]] = []
    before = (0.0, 0.0, 0.0, 0.0)
    for count, line in enumerate(lines, 1):
        up_w, down_w = power_kept_w(lines[:count])
        give_wh, take_wh = energy_kept_wh(lines[:count], spent_wh)
        total = (
            max(up_w - room.discharge_w, 0.0),
            max(down_w - room.charge_w, 0.0),
            max(give_wh - max(room.give_wh, 0.0), 0.0),
            max(take_wh - max(room.take_wh, 0.0), 0.0),
        )
        mine = [now - then for now, then in zip(total, before, strict=True)]
        found.append((line, (max(mine[0], mine[1], 0.0), max(mine[2], mine[3], 0.0))))
        before = total
    return found


def physical_w(power_w: float, room: Room, for_s: float) -> float:
    """`power_w` as the limits and the SoC window let it run for that long."""
    hours = for_s / 3600.0
    upper_w = min(room.discharge_w, max(room.give_wh, 0.0) / hours)
    lower_w = -min(room.charge_w, max(room.take_wh, 0.0) / hours)
    return min(max(power_w, lower_w), upper_w)


def room_after(room: Room, power_w: float, for_s: float) -> Room:
    """The room after that baseline; what is given comes back smaller by the round trip."""
    energy_wh = power_w * for_s / 3600.0
    given_wh = energy_wh if energy_wh >= 0.0 else energy_wh * room.round_trip
    taken_wh = given_wh / room.round_trip
    return Room(room.discharge_w, room.charge_w, room.give_wh - given_wh, room.take_wh + taken_wh, room.round_trip)


def _told(line: Sold, short: tuple[float, float], unanswered: Mapping[str, str]) -> Deliverability:
    award = line.award
    short_w, short_wh = short
    reason = unanswered.get(award.product)
    if reason is not None:
        short_w, short_wh = max(line.kept_w()), max(line.kept_wh())
    met = short_w <= TOLERANCE * max(line.kept_w()) and short_wh <= TOLERANCE * max(line.kept_wh())
    why = (
        ""
        if met
        else f"short of {short_w / 1e3:.1f} kW and {short_wh / 1e3:.1f} kWh"
        + (f": {reason}" if reason is not None else "")
    )
    return Deliverability(award.award_id, award.start_utc_s, award.end_utc_s, short_w, short_wh, met, why)
