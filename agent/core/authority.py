"""Who decides now: the first layer of a fixed order that has something to say for this instant.

rolling plan -> yearly plan -> local rule -> neutral, resolved per slot: a slot missing from the rolling plan is
filled from the yearly one for that slot only. The last value is never held. Each plan is valid by its own
slots, not by how long ago the cloud was heard.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from agent.core.plan import Plan, Plans, Slot, Target
from agent.core.rules import LocalRule, SiteRules


class Source(StrEnum):
    """The layer whose word counts."""

    ROLLING = "rolling"
    YEARLY = "yearly"
    LOCAL_RULE = "local_rule"
    NEUTRAL = "neutral"


@dataclass(frozen=True, slots=True)
class Authority:
    """The deciding layer, what it wants, and why it is its turn."""

    source: Source
    target: Target
    power_w: float
    slot: Slot | None
    """The plan slot behind it; None for the local rule and neutral."""
    version: int | None
    why: str


def decide(rules: SiteRules, plans: Plans, utc_s: float, *, clock_trusted: bool, meter_good: bool) -> Authority:
    """The authority at `utc_s`. Plans need a trusted clock; a local rule at the meter needs the meter."""
    if not clock_trusted:
        reason = "the clock is not trusted, so no plan may run"
        return _from_local_rule(rules, reason, meter_good=meter_good)
    missing: list[str] = []
    for source, plan in ((Source.ROLLING, plans.rolling), (Source.YEARLY, plans.yearly)):
        slot = plan.slot_at(utc_s) if plan is not None else None
        if plan is not None and slot is not None:
            why = "; ".join([*missing, f"{source} plan {plan.version}, slot {span(slot)}"])
            return Authority(source, slot.target, slot.power_w, slot, plan.version, why)
        missing.append(_why_silent(source, plan, utc_s))
    return _from_local_rule(rules, "; ".join(missing), meter_good=meter_good)


def next_slots(plans: Plans, utc_s: float, count: int) -> list[tuple[Source, Slot]]:
    """The next `count` slots after the one at `utc_s`, layer by layer, as they would be decided then."""
    found: list[tuple[Source, Slot]] = []
    layers = [(s, p) for s, p in ((Source.ROLLING, plans.rolling), (Source.YEARLY, plans.yearly)) if p]
    if not layers:
        return found
    step_s = min(plan.slot_s for _, plan in layers)
    cursor_utc_s = (utc_s // step_s + 1) * step_s
    for _ in range(count):
        hit = next(((s, slot) for s, plan in layers if (slot := plan.slot_at(cursor_utc_s))), None)
        if hit is not None and (not found or found[-1][1].start_utc_s < hit[1].start_utc_s):
            found.append(hit)
        cursor_utc_s = hit[1].end_utc_s if hit is not None else cursor_utc_s + step_s
    return found


def _from_local_rule(rules: SiteRules, reason: str, *, meter_good: bool) -> Authority:
    if rules.local_rule is LocalRule.IDLE:
        return Authority(Source.LOCAL_RULE, Target.BATTERY, 0.0, None, None, f"{reason}; local rule: idle")
    if meter_good:
        why = f"{reason}; local rule: self-consumption"
        return Authority(Source.LOCAL_RULE, Target.GRID, 0.0, None, None, why)
    why = f"{reason}; self-consumption needs the meter at the connection point, which is not readable"
    return Authority(Source.NEUTRAL, Target.BATTERY, 0.0, None, None, why)


def _why_silent(source: Source, plan: Plan | None, utc_s: float) -> str:
    if plan is None:
        return f"no {source} plan held"
    if utc_s >= plan.end_utc_s:
        return f"{source} plan {plan.version} ended {_clock(plan.end_utc_s)}"
    if utc_s < plan.start_utc_s:
        return f"{source} plan {plan.version} begins only {_clock(plan.start_utc_s)}"
    return f"{source} plan {plan.version} has no slot for now"


def span(slot: Slot) -> str:
    """The slot's time for people, UTC: `03:00Z to 03:30Z`, with seconds only where it needs them."""
    return f"{_clock(slot.start_utc_s)} to {_clock(slot.end_utc_s)}"


def _clock(utc_s: float) -> str:
    form = "%H:%MZ" if utc_s % 60 == 0 else "%H:%M:%SZ"
    return datetime.fromtimestamp(utc_s, UTC).strftime(form)
