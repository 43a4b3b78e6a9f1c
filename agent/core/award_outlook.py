"""What is to be told of awards beside the tick: those that will not be met, those that do not stand, how often to act.

Looked at once a minute, when the orders change and when something breaks: the market wants to know before the award
begins, while it can still be given back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import sqrt

from agent.core.authority import clock
from agent.core.awards import AwardBook, AwardRefused, sold_w
from agent.core.decision import Condition, Inputs, State
from agent.core.deliverability import Deliverability, baseline_ahead, deliverabilities
from agent.core.envelope import projection_s
from agent.core.events import Severity
from agent.core.frequency import TROUBLE_TEXT, Trouble, trouble
from agent.core.orders import NO_ORDERS, Curtailment, Orders
from agent.core.reserve import Room
from agent.core.reserve_duty import room_now
from agent.core.rules import SiteRules
from agent.core.site_view import view
from agent.core.slots_ahead import MOST_SLOTS, Energy, SlotAhead, slots_ahead
from agent.core.units import connection_limits, fleet_now, site_bounds
from agent.core.writes import refusing

DEAD_BAND_SHARE = 0.005
"""While awarded no change of setpoint larger than this share of the award waits: the response must be seen."""
PASSING = (Trouble.JUMPED,)
"""Over with the next reading: no reason to give an award back."""


def outlook(rules: SiteRules, state: State, inputs: Inputs) -> tuple[Deliverability, ...]:
    """The forecast for each award that has not ended, by start; `state` is the one after the tick of `inputs`.

    Without a trusted clock it is not known which awards are to come, and there is no forecast.
    """
    book = inputs.awards
    if not book.sold or not inputs.clock_trusted:
        return ()
    ahead = _as_it_is(rules, state, inputs)
    last_utc_s = max(line.award.end_utc_s for line in book.sold)
    found = deliverabilities(
        book,
        baseline_ahead(inputs.plans, inputs.utc_s, last_utc_s, ahead.others_w),
        ahead.room,
        inputs.utc_s,
        spent_wh=state.reserve.spent_wh,
        orders=ahead.orders,
        rated_w_of=ahead.rated_w_of,
        unanswered=_unanswered(rules, state, book),
    )
    times = _times_suspended(inputs)
    return tuple(_as_suspended(one, book, times) for one in found) if times else found


def _times_suspended(inputs: Inputs) -> list[tuple[float, float, str]]:
    """From when until when nobody will answer awards, and who said so."""
    at_utc_s, found = inputs.utc_s, []
    for one, who in ((inputs.override, "an override"), (inputs.order, "a command")):
        if one is None or one.term.until_utc_s <= at_utc_s:
            continue
        if one.suspends_awards:
            found.append((at_utc_s, one.term.until_utc_s, f"{who} suspends awards until {clock(one.term.until_utc_s)}"))
        at_utc_s = one.term.until_utc_s
    return found


def _as_suspended(one: Deliverability, book: AwardBook, times: Iterable[tuple[float, float, str]]) -> Deliverability:
    why = next((why for begin, end, why in times if one.start_utc_s < end and begin < one.end_utc_s), None)
    if why is None:
        return one
    power_w = next(line.award.power_w for line in book.sold if line.award.award_id == one.award_id)
    return replace(one, shortfall_w=power_w, met=False, why=f"short of {power_w / 1e3:.1f} kW: {why}")


def slots_outlook(rules: SiteRules, state: State, inputs: Inputs, until_utc_s: float) -> tuple[SlotAhead, ...]:
    """What the batteries will do in each slot that a plan has until then; nothing without a trusted clock."""
    if not inputs.clock_trusted:
        return ()
    ahead = _as_it_is(rules, state, inputs)
    baseline = baseline_ahead(inputs.plans, inputs.utc_s, until_utc_s, ahead.others_w, most=MOST_SLOTS)
    return slots_ahead(
        inputs.awards, baseline, ahead.room, ahead.energy,
        orders=ahead.orders, rated_w_of=ahead.rated_w_of, spent_wh=state.reserve.spent_wh,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Ahead:
    """What a forecast begins with."""

    others_w: float
    room: Room
    energy: Energy
    orders: Orders
    rated_w_of: Mapping[str, float]


def _as_it_is(rules: SiteRules, state: State, inputs: Inputs) -> _Ahead:
    now = view(rules, inputs, refusing(state.writes), state)
    # Orders of now say nothing about then: the forecast takes them at their own times.
    unbound = replace(inputs, orders=NO_ORDERS, narrowings=())
    ahead_s = projection_s(rules, None, inputs.utc_s)
    fleet = fleet_now(rules, state, unbound, now, ahead_s=ahead_s, dt_s=0.0, latches=state.latches)
    bounds = site_bounds(rules, unbound, now, state.writes, limits=connection_limits(rules, unbound))
    capacity_wh = sum(unit.capacity_wh for unit in fleet.units)
    room = room_now(zip(rules.batteries, now.batteries, fleet.units, strict=True), bounds)
    return _Ahead(
        others_w=now.others_w or 0.0,
        room=room,
        energy=Energy(now.soc_pct, capacity_wh, sqrt(room.round_trip)),
        orders=replace(inputs.orders, curtailments=inputs.orders.curtailments + as_orders(inputs)),
        rated_w_of={battery.device_id: battery.rated_discharge_w for battery in rules.batteries},
    )


def as_orders(inputs: Inputs) -> tuple[Curtailment, ...]:
    """The limits that the cloud narrowed at the connection point, with their own ends."""
    return tuple(
        Curtailment(one.name, inputs.utc_s, one.term.until_utc_s, one.limits.export_limit_w, one.limits.import_limit_w)
        for one in inputs.narrowings
    )


def _unanswered(rules: SiteRules, state: State, book: AwardBook) -> dict[str, str]:
    """Why the frequency on site is not good enough, by product."""
    frequency = state.reserve.frequency
    found: dict[str, str] = {}
    for product, table in {line.award.product: line.table for line in book.sold}.items():
        # Its age is no matter here: until an award is near the meter is read at leisure.
        bad = trouble(frequency, table, frequency.read_mono_s, rules.frequency_resolution_hz)
        if bad is not None and bad not in PASSING:
            found[product] = TROUBLE_TEXT[bad]
    return found


def notices(ahead: Iterable[Deliverability], refused: Iterable[AwardRefused], utc_s: float) -> tuple[Condition, ...]:
    """The conditions `award_short` and `award_refused` of these forecasts and refusals."""
    return (*(_short(one, utc_s) for one in ahead if not one.met), *(_refused(one) for one in refused))


def _short(one: Deliverability, utc_s: float) -> Condition:
    if utc_s >= one.start_utc_s:
        then = "it is in force: tell the market"
    elif utc_s < one.cancel_by_utc_s:
        then = f"it can be given back until {_clock(one.cancel_by_utc_s)}"
    else:
        then = f"it could be given back until {_clock(one.cancel_by_utc_s)}: tell the market"
    text = f"the award from {_clock(one.start_utc_s)} to {_clock(one.end_utc_s)} will be {one.why}; {then}"
    data: dict[str, str | float | int | None] = {
        "shortfall_kw": round(one.shortfall_w / 1e3, 3),
        "shortfall_kwh": round(one.shortfall_wh / 1e3, 3),
        "start": _iso(one.start_utc_s),
        "cancel_by": _iso(one.cancel_by_utc_s),
    }
    return Condition("award_short", one.award_id, Severity.ALARM, text, data)


def _refused(one: AwardRefused) -> Condition:
    text = f"this award has no effect any more ({one.reason}): {one.detail}; look at the site file, then send it anew"
    return Condition("award_refused", one.award_id, Severity.ALARM, text, {"reason": one.reason})


def awarded_rules(rules: SiteRules, book: AwardBook, utc_s: float) -> SiteRules:
    """The rules of this tick: while an award is in force dead bands are narrow, so that the response follows.

    All dead bands together are at most `DEAD_BAND_SHARE` of the award, shared as the batteries are rated.
    """
    lines = book.at(utc_s)
    if not lines:
        return rules
    rated_w = sum(battery.rated_discharge_w for battery in rules.batteries)
    per_w = DEAD_BAND_SHARE * max(sold_w(lines)) / rated_w if rated_w > 0.0 else 0.0
    narrowed = (
        replace(battery, dead_band_w=min(battery.dead_band_w, per_w * battery.rated_discharge_w))
        for battery in rules.batteries
    )
    return replace(rules, batteries=tuple(narrowed))


def _clock(utc_s: float) -> str:
    return datetime.fromtimestamp(utc_s, UTC).strftime("%Y-%m-%d %H:%MZ")


def _iso(utc_s: float) -> str:
    return datetime.fromtimestamp(utc_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
