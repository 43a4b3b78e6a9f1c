"""When to re-plan here instead of waiting for the cloud, and the rule-based plan that is always possible.

Conditions that last (SoC away from the plan, plan not feasible, no rolling plan) must hold for a while, ask for one
run, and for another one only after `repeat_s` while they last. Changes (orders, limits) ask for one run each. Two
runs are never closer than `min_interval_s`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from agent.core.authority import Source
from agent.core.orders import Award, Curtailment, Orders, Outage
from agent.core.plan import Plan, Target
from agent.core.replan_request import (
    PlannedSlot,
    ReplanRequest,
    SlotRoom,
    physics_refusal,
    planned_slot,
    rooms,
)


class Occasion(StrEnum):
    """Why a re-planning is due."""

    SOC_AWAY = "soc_away"
    """The real SoC is not where the plan expects it."""
    INFEASIBLE = "infeasible"
    """The plan in force can no longer be executed."""
    NO_ROLLING_PLAN = "no_rolling_plan"
    """The site runs on the yearly plan."""
    ORDERS_CHANGED = "orders_changed"
    """Awards, curtailments or outages are not those of the last run."""
    LIMITS_CHANGED = "limits_changed"
    """What the devices or the connection point allow changed."""
    LAST_RUN_FAILED = "last_run_failed"
    """The last run gave only the rule-based plan."""


WORDS = {
    Occasion.SOC_AWAY: "SoC is away from the plan",
    Occasion.INFEASIBLE: "the plan cannot be kept",
    Occasion.NO_ROLLING_PLAN: "there is no rolling plan",
    Occasion.ORDERS_CHANGED: "awards, curtailments or outages changed",
    Occasion.LIMITS_CHANGED: "the power limits changed",
    Occasion.LAST_RUN_FAILED: "the last try gave only the rule-based plan",
}
"""Each occasion for people."""


@dataclass(frozen=True, slots=True)
class ReplanRules:
    """The site's choices."""

    soc_tolerance_pct: float = 3.0
    """SoC away from the plan by more than this counts; it is over below `REARM_SHARE` of it."""
    settle_s: float = 60.0
    """A condition must hold, and a changed limit stay, for this long: a noisy SoC or a flickering BMS limit is none."""
    min_interval_s: float = 300.0
    repeat_s: float = 1800.0
    """A condition that lasts asks again after this long."""
    limit_change_share: float = 0.05
    """A limit counts as changed when it moved by more than this share of the larger value."""


REARM_SHARE = 0.5
LIMIT_NOISE_W = 1.0
"""Between two limits near 0 a smaller step is no change."""
SHORTFALL_SHARE = 0.02
"""A slot counts as not feasible when it misses more than this share of what the battery could move in it."""
DOUBT_SHARE = 0.01
"""...and more than this share of the capacity: no SoC is known finer, and a plan to the very edge of the window is none
that cannot be kept."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What the watch looks at."""

    utc_s: float
    mono_s: float
    clock_trusted: bool
    source: Source
    """Of the cloud's plans, whatever a local plan makes of them; LOCAL_RULE when none has a slot."""
    soc_pct: float | None
    expected_soc_pct: float | None
    """Of the plan in force at this instant, a local one included; None when it tells none."""
    infeasible: bool
    """From `first_shortfall`; it need not be fresher than a minute."""
    orders: Orders
    limits_w: tuple[float, ...]
    """Charge, discharge, export, import."""


@dataclass(frozen=True, slots=True)
class ReplanWatch:
    """What one look leaves for the next; times are monotonic."""

    since: tuple[tuple[Occasion, float], ...] = ()
    """Since when each condition lasts."""
    answered: tuple[tuple[Occasion, float], ...] = ()
    """When the last run for a condition that still lasts began."""
    planned_orders: Orders | None = None
    planned_limits_w: tuple[float, ...] | None = None
    """Those of the last run, or of the first look."""
    last_run_mono_s: float | None = None
    failed: bool = False
    """The last run ended in a fallback: try again after the least interval."""


@dataclass(frozen=True, slots=True)
class Due:
    """Re-plan now, because of these."""

    occasions: tuple[Occasion, ...]


def look(rules: ReplanRules, watch: ReplanWatch, now: Situation) -> tuple[ReplanWatch, Due | None]:
    """The watch after this look, and whether a run is due; a run told as due counts as begun.

    Without a trusted clock or a SoC there is nothing to plan from: the conditions are watched, no run is due.
    """
    since = _lasting(rules, watch, now)
    lasting = dict(since)
    answered = tuple(pair for pair in watch.answered if pair[0] in lasting)
    watch = replace(
        watch,
        since=since,
        answered=answered,
        planned_orders=now.orders if watch.planned_orders is None else watch.planned_orders,
        planned_limits_w=now.limits_w if watch.planned_limits_w is None else watch.planned_limits_w,
    )
    if not since or not now.clock_trusted or now.soc_pct is None:
        return watch, None
    if watch.last_run_mono_s is not None and now.mono_s - watch.last_run_mono_s < rules.min_interval_s:
        return watch, None
    last_answer = dict(answered)
    found = tuple(
        occasion
        for occasion, began in since
        if now.mono_s - began >= _settle_s(rules, occasion)
        and (occasion not in last_answer or now.mono_s - last_answer[occasion] >= rules.repeat_s)
    )
    if not found:
        return watch, None
    # One run answers all that lasts, also what has not settled yet.
    return replace(
        watch,
        answered=tuple((occasion, now.mono_s) for occasion in lasting if occasion not in _CHANGES),
        since=tuple(pair for pair in since if pair[0] not in _CHANGES),
        planned_orders=now.orders,
        planned_limits_w=now.limits_w,
        last_run_mono_s=now.mono_s,
        failed=False,
    ), Due(found)


def ended(watch: ReplanWatch, *, failed: bool) -> ReplanWatch:
    """The watch once a run came to its end; a failed one (a fallback) is tried again."""
    return replace(watch, failed=failed)


def superseded(watch: ReplanWatch) -> ReplanWatch:
    """The watch under new plans of the cloud: what lasted under the old ones must settle, and may ask, anew."""
    return replace(watch, since=(), answered=(), failed=False)


_CHANGES = frozenset({Occasion.ORDERS_CHANGED, Occasion.LIMITS_CHANGED, Occasion.LAST_RUN_FAILED})
_AT_ONCE = frozenset({Occasion.ORDERS_CHANGED, Occasion.LAST_RUN_FAILED})


def _settle_s(rules: ReplanRules, occasion: Occasion) -> float:
    return 0.0 if occasion in _AT_ONCE else rules.settle_s


def _lasting(rules: ReplanRules, watch: ReplanWatch, now: Situation) -> tuple[tuple[Occasion, float], ...]:
    """The conditions that hold now, each with the time since when."""
    before = dict(watch.since)
    held: list[Occasion] = []
    if _soc_away(rules, now, was_away=Occasion.SOC_AWAY in before):
        held.append(Occasion.SOC_AWAY)
    if now.infeasible:
        held.append(Occasion.INFEASIBLE)
    if now.source is Source.YEARLY:
        held.append(Occasion.NO_ROLLING_PLAN)
    planned = watch.planned_orders
    if planned is not None and planned is not now.orders and _ahead(planned, now) != _ahead(now.orders, now):
        held.append(Occasion.ORDERS_CHANGED)
    if watch.planned_limits_w is not None and _changed(rules, watch.planned_limits_w, now.limits_w):
        held.append(Occasion.LIMITS_CHANGED)
    if watch.failed:
        held.append(Occasion.LAST_RUN_FAILED)
    return tuple((occasion, before.get(occasion, now.mono_s)) for occasion in held)


def _ahead(orders: Orders, now: Situation) -> list[Award | Curtailment | Outage]:
    """What still binds: an order that ended as it was told is no change."""
    everything: list[Award | Curtailment | Outage] = [*orders.awards, *orders.curtailments, *orders.outages]
    return [order for order in everything if order.end_utc_s > now.utc_s]


def _soc_away(rules: ReplanRules, now: Situation, *, was_away: bool) -> bool:
    """A SoC or an expectation that is missing for a moment neither starts nor ends it."""
    if now.soc_pct is None or now.expected_soc_pct is None:
        return was_away
    edge_pct = rules.soc_tolerance_pct * (REARM_SHARE if was_away else 1.0)
    return abs(now.soc_pct - now.expected_soc_pct) > edge_pct


def _changed(rules: ReplanRules, before_w: tuple[float, ...], now_w: tuple[float, ...]) -> bool:
    return before_w != now_w and any(
        abs(now - before) > max(rules.limit_change_share * max(abs(before), abs(now)), LIMIT_NOISE_W)
        for before, now in zip(before_w, now_w, strict=True)
    )


def expected_soc_pct(plan: Plan, utc_s: float) -> float | None:
    """The SoC that the plan expects at `utc_s`, straight between slot ends; None where it does not tell it."""
    if plan.soc_end_pct is None:
        return None
    place = (utc_s - plan.start_utc_s) / plan.slot_s
    index = int(place // 1)
    if not 0 <= index < len(plan.power_w) or index == 0:
        return None
    before_pct, end_pct = plan.soc_end_pct[index - 1], plan.soc_end_pct[index]
    if before_pct is None or end_pct is None:
        return None
    return before_pct + (end_pct - before_pct) * (place - index)


@dataclass(frozen=True, slots=True)
class Shortfall:
    """The first promised slot that cannot be kept, and by how much."""

    start_utc_s: float
    end_utc_s: float
    missing_wh: float
    """> 0: too little toward the grid."""


def first_shortfall(request: ReplanRequest) -> Shortfall | None:
    """The first slot whose promise the site cannot keep when it just goes on; None when the plan is feasible."""
    if physics_refusal(request) is not None:
        return None
    for asked, planned in zip(request.slots, _by_rule(request), strict=True):
        if asked.sold_w is None:
            continue
        kept_w = planned.battery_w if asked.target is Target.BATTERY else planned.grid_w
        missing_wh = (asked.sold_w - kept_w) * asked.hours
        rated_w = max(asked.charge_limit_w, asked.discharge_limit_w, abs(asked.sold_w))
        if abs(missing_wh) > max(SHORTFALL_SHARE * rated_w * asked.hours, DOUBT_SHARE * request.capacity_wh):
            return Shortfall(asked.start_utc_s, asked.end_utc_s, missing_wh)
    return None


def rule_plan(request: ReplanRequest) -> tuple[PlannedSlot, ...]:
    """A plan without an optimiser: keep each promise as far as the battery can, else rest. It never fails.

    From the real SoC, slot by slot: outside the SoC band or the awards' reserve only toward it; then the connection
    point; then the promise. When the request itself is nonsense (no SoC, negative capacity), every slot rests.
    """
    if physics_refusal(request) is not None:
        return tuple(
            PlannedSlot(slot.start_utc_s, slot.end_utc_s, Target.BATTERY, 0.0, 0.0, None) for slot in request.slots
        )
    return _by_rule(request)


def _by_rule(request: ReplanRequest) -> tuple[PlannedSlot, ...]:
    """The rule-based plan of a request that makes sense."""
    energy_wh = request.energy_now_wh
    planned: list[PlannedSlot] = []
    for asked, room in zip(request.slots, rooms(request), strict=True):
        # What the slot's standby loss takes is not there to be used.
        usable_wh = energy_wh - request.standby_w * asked.hours
        power_w = _rule_power_w(request, room, usable_wh, asked.wanted_battery_w or 0.0, asked.hours)
        energy_wh -= cell_wh(request, power_w, asked.hours)
        planned.append(planned_slot(asked, power_w, 100.0 * energy_wh / request.capacity_wh))
    return tuple(planned)


def cell_wh(request: ReplanRequest, battery_w: float, hours: float) -> float:
    """Energy that leaves the cells (> 0) or enters them (< 0) under this power at the terminals."""
    factor = 1.0 / request.discharge_efficiency if battery_w > 0.0 else request.charge_efficiency
    return (battery_w * factor + request.standby_w) * hours


def _rule_power_w(request: ReplanRequest, room: SlotRoom, energy_wh: float, wanted_w: float, hours: float) -> float:
    def out_w(down_to_wh: float) -> float:
        return max(0.0, energy_wh - down_to_wh) * request.discharge_efficiency / hours

    def in_w(up_to_wh: float) -> float:
        return max(0.0, up_to_wh - energy_wh) / request.charge_efficiency / hours

    low_wh, high_wh = room.reserve_low_wh, room.reserve_high_wh
    power_w = min(max(wanted_w, -in_w(high_wh)), out_w(low_wh))
    if energy_wh < low_wh:
        power_w = min(power_w, -in_w(low_wh))
    elif energy_wh > high_wh:
        power_w = max(power_w, out_w(high_wh))
    if room.must_w > 0.0:
        # The connection point comes before the award's energy: the load cannot be cut. Never before the band.
        power_w = max(power_w, min(room.must_w, out_w(request.energy_min_wh)))
    elif room.must_w < 0.0:
        power_w = min(power_w, -min(-room.must_w, in_w(high_wh)))
    return min(max(power_w, room.lower_w), room.upper_w)
