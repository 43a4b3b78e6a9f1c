"""The question for a re-planning, put together from what the agent holds: plans, orders, awards, battery, forecast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agent.core.awards import AwardBook
from agent.core.curtailment import limits_now
from agent.core.orders import Orders
from agent.core.outages import out_of_service
from agent.core.plan import Plan, PlanKind, Plans, Target
from agent.core.replan_request import MAX_SLOTS, ReplanRequest, ReplanSlot
from agent.core.replan_rules import DOUBT_SHARE
from agent.core.reserve import energy_kept_wh, power_kept_w

HORIZON_S = 48 * 3600.0
MIN_FIRST_SLOT_S = 1.0
"""A slot with less left than this is over: there is nothing to plan in it."""
FREE_SLOT_S = 1800.0
"""Length of the slots where no plan says one."""

Forecast = Callable[[float, float], tuple[float, float]]
"""Mean PV and load power (W, load <= 0) over `[start, end)`."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One battery: what it can do when no outage holds it, W >= 0."""

    device_id: str
    charge_w: float
    discharge_w: float


@dataclass(frozen=True, slots=True)
class Storage:
    """All batteries as one, as measured and learned; see `ReplanRequest` for the units."""

    units: tuple[Unit, ...]
    soc_pct: float
    soc_min_pct: float
    soc_max_pct: float
    capacity_wh: float
    charge_efficiency: float
    discharge_efficiency: float
    standby_w: float = 0.0


@dataclass(frozen=True, slots=True)
class Site:
    """What the site file says for a re-planning."""

    export_limit_w: float
    import_limit_w: float
    cycle_cost_per_kwh: float = 0.0


@dataclass(frozen=True, slots=True)
class Held:
    """What the agent holds from the cloud."""

    plans: Plans
    orders: Orders
    awards: AwardBook


@dataclass(frozen=True, slots=True)
class _Span:
    """`[start, end)` and the slot of a plan that decides in it, if any."""

    start: float
    end: float
    plan: Plan | None
    index: int


def request_at(utc_s: float, held: Held, storage: Storage, site: Site, forecast: Forecast) -> ReplanRequest:
    """The horizon from `utc_s` on, at most to the end of the last plan; without slots when there is none.

    A rolling slot is a promise. A yearly slot was never sold: with a price it is only worth that, without one its
    power is followed. The energy at the end is to be what the plan expects there, and each missing kWh costs the
    mean price; where no plan tells a SoC, what is left has the mean price.
    """
    spans = _spans(utc_s, held.plans)
    slots = tuple(_slot(span, held, storage, site, forecast) for span in spans)
    told = spans[-1].plan.soc_end_pct if spans and spans[-1].plan is not None else None
    soc_end_pct = told[spans[-1].index] if told is not None else None
    prices = [slot.price_per_kwh for slot in slots if slot.price_per_kwh is not None]
    mean_price = max(0.0, sum(prices) / len(prices)) if prices else 0.0
    worth = mean_price / storage.charge_efficiency
    if soc_end_pct is None:
        worth = max(0.0, mean_price * storage.discharge_efficiency - site.cycle_cost_per_kwh)
    return ReplanRequest(
        slots,
        storage.soc_pct,
        *_band_pct(storage),
        storage.capacity_wh,
        storage.charge_efficiency,
        storage.discharge_efficiency,
        site.cycle_cost_per_kwh,
        soc_end_pct,
        worth,
        storage.standby_w,
    )


def _band_pct(storage: Storage) -> tuple[float, float]:
    """The SoC band to plan in: as wide as the SoC now is outside of it, while that is too little to be sure of.

    Otherwise a reading of 4.6 % under a floor of 5 % would buy energy at a bad price. More than that is brought back.
    """
    low_pct, high_pct, doubt_pct = storage.soc_min_pct, storage.soc_max_pct, 100.0 * DOUBT_SHARE
    if 0.0 < low_pct - storage.soc_pct <= doubt_pct:
        low_pct = storage.soc_pct
    if 0.0 < storage.soc_pct - high_pct <= doubt_pct:
        high_pct = storage.soc_pct
    return low_pct, high_pct


def _spans(utc_s: float, plans: Plans) -> list[_Span]:
    """The slots from `utc_s` on, the first one as far as it is left."""
    ends = [plan.end_utc_s for plan in (plans.rolling, plans.yearly) if plan is not None]
    start, until = utc_s, min(utc_s + HORIZON_S, max(ends, default=utc_s))
    spans: list[_Span] = []
    while start < until and len(spans) < MAX_SLOTS:
        span = _span_at(plans, start)
        if spans or span.end - span.start >= MIN_FIRST_SLOT_S:
            spans.append(span)
        start = span.end
    return spans


def _span_at(plans: Plans, utc_s: float) -> _Span:
    rolling, yearly = plans.rolling, plans.yearly
    if rolling is not None and (slot := rolling.slot_at(utc_s)) is not None:
        return _Span(utc_s, slot.end_utc_s, rolling, int((utc_s - rolling.start_utc_s) // rolling.slot_s))
    # A slot of the rolling plan may begin (or one that it left out end) before the yearly one is over.
    ends = [_next_edge(plan.start_utc_s, plan.slot_s, utc_s) for plan in (rolling, yearly) if plan is not None]
    end = min([*ends, _next_edge(0.0, FREE_SLOT_S, utc_s)])
    if yearly is not None and yearly.slot_at(utc_s) is not None:
        return _Span(utc_s, end, yearly, int((utc_s - yearly.start_utc_s) // yearly.slot_s))
    return _Span(utc_s, end, None, -1)


def _next_edge(start_utc_s: float, slot_s: float, utc_s: float) -> float:
    if utc_s < start_utc_s:
        return start_utc_s
    return start_utc_s + ((utc_s - start_utc_s) // slot_s + 1) * slot_s


def _slot(span: _Span, held: Held, storage: Storage, site: Site, forecast: Forecast) -> ReplanSlot:
    start, end, plan = span.start, span.end, span.plan
    orders, awards = held.orders, held.awards
    sold_w, price, imbalance = _promise(plan, span.index)
    pv_w, load_w = forecast(start, end)
    edges = [start, *_begun(orders, start, end)]
    limits = [limits_now(site.export_limit_w, site.import_limit_w, orders.curtailments, edge) for edge in edges]
    working = [
        unit
        for unit in storage.units
        if not any(out_of_service(orders.outages, edge, unit.device_id) for edge in edges)
    ]
    begins = [line.award.start_utc_s for line in awards.starting(start, end) if line.award.start_utc_s < end]
    awarded = [awards.at(edge) for edge in (start, *begins)]
    powers_w = [power_kept_w(lines) for lines in awarded]
    energies_wh = [energy_kept_wh(lines, 0.0) for lines in awarded]
    return ReplanSlot(
        start_utc_s=start,
        end_utc_s=end,
        target=plan.target if plan is not None else Target.BATTERY,
        sold_w=sold_w,
        price_per_kwh=price,
        imbalance_price_per_kwh=imbalance,
        pv_w=pv_w,
        load_w=load_w,
        charge_limit_w=sum(unit.charge_w for unit in working),
        discharge_limit_w=sum(unit.discharge_w for unit in working),
        export_limit_w=min(limit.export_w for limit in limits),
        import_limit_w=min(limit.import_w for limit in limits),
        award_up_w=max(up_w for up_w, _ in powers_w),
        award_down_w=max(down_w for _, down_w in powers_w),
        award_up_wh=max(up_wh for up_wh, _ in energies_wh),
        award_down_wh=max(down_wh for _, down_wh in energies_wh),
    )


def _promise(plan: Plan | None, index: int) -> tuple[float | None, float | None, float | None]:
    """Sold power, price and imbalance price of the plan's slot, as far as it tells them."""
    if plan is None:
        return None, None, None
    price = plan.price_per_kwh[index] if plan.price_per_kwh is not None else None
    if plan.kind is PlanKind.YEARLY and price is not None:
        return None, price, None
    imbalances = plan.imbalance_price_per_kwh
    return plan.power_w[index], price, imbalances[index] if imbalances is not None else None


def _begun(orders: Orders, start: float, end: float) -> list[float]:
    """Where an outage or curtailment begins inside the slot: its limits hold for the whole slot then."""
    begins = [order.start_utc_s for order in orders.curtailments] + [order.start_utc_s for order in orders.outages]
    return [begin for begin in begins if start < begin < end]
