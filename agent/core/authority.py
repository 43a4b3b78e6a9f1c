"""Who decides now: the first layer of a fixed order that has something to say for this instant.

safety latch -> safe mode -> commissioning -> technician's override -> command of the cloud -> rolling plan -> yearly
plan -> local rule -> neutral.
The first five stand until their own end (`Above`); plans are resolved per slot: a slot missing from the rolling plan
is filled from the yearly one for that slot only. The last value is never held. Each plan is valid by its own
slots, not by how long ago the cloud was heard. A slot is accounted for whoever decides in it.

A local plan is no layer of its own: it says what a slot of the rolling or yearly plan becomes here, for the very
documents that it was made from. Where they have no slot it has none, and a newer document ends it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache

from agent.core.made_often import made_often
from agent.core.override import Override
from agent.core.plan import Plan, Plans, Slot, Target
from agent.core.rules import LocalRule, SiteRules
from agent.core.term import Term
from agent.core.trial import Trial


class Source(StrEnum):
    """The layer whose word counts."""

    LATCH = "latch"
    """The safety latch: 0 kW until it is reset on site."""
    SAFE_MODE = "safe_mode"
    """The agent crashed again and again: 0 kW for a while (`agent.core.crash_loop`)."""
    COMMISSIONING = "commissioning"
    """`ems commission` tries the site; an operator leads it."""
    OVERRIDE = "override"
    """Somebody on site."""
    COMMAND = "command"
    """A command of the cloud: set_power, hold or neutral."""
    LOCAL_PLAN = "local_plan"
    """A re-planning of this site over the rolling or yearly plan."""
    ROLLING = "rolling"
    YEARLY = "yearly"
    LOCAL_RULE = "local_rule"
    NEUTRAL = "neutral"


@made_often
@dataclass(frozen=True, slots=True)
class Authority:
    """The deciding layer, what it wants, and why it is its turn."""

    source: Source
    target: Target
    power_w: float
    slot: Slot | None
    """The plan slot behind it; None for the local rule and neutral."""
    version: int | None
    """Of the cloud's plan behind it, also under a local plan."""
    why: str
    beneath: Authority | None = None
    """What would decide if nothing stood above the plans; None where it decides itself."""
    suspends_awards: bool = False
    """True when sold reserve is not answered meanwhile."""
    command_id: str | None = None
    """The command that decides."""

    @property
    def planning(self) -> Authority:
        """The layer of the plans: it owns the slot that is accounted for, also while something above it decides."""
        return self.beneath or self


@dataclass(frozen=True, slots=True)
class PowerOrder:
    """A command of the cloud that moves the batteries, while it is in force."""

    command_id: str
    words: str
    """What it asks for, for people."""
    target: Target
    power_w: float
    term: Term
    suspends_awards: bool = False


@dataclass(frozen=True, slots=True)
class Above:
    """What stands above the plans now, hardest first."""

    latch: str = ""
    """Why no battery of the site may move, "" while any may."""
    override: Override | None = None
    order: PowerOrder | None = None
    trial: Trial | None = None
    safe_mode: str = ""
    """Why the agent moves no power although it could, "" outside safe mode."""


NOTHING_ABOVE = Above()


def decide(
    rules: SiteRules,
    plans: Plans,
    utc_s: float,
    *,
    clock_trusted: bool,
    meter_good: bool,
    above: Above = NOTHING_ABOVE,
    mono_s: float = 0.0,
    before: Authority | None = None,
) -> Authority:
    """The authority at `utc_s`. Plans need a trusted clock; a local rule at the meter needs the meter.

    `before` is the layer of the plans at the last tick: while its slot runs it is the same one still.
    """
    beneath = _of_plans(rules, plans, utc_s, clock_trusted=clock_trusted, meter_good=meter_good, before=before)
    if above is NOTHING_ABOVE:
        return beneath
    if above.latch:
        why = f"the safety latch fell ({above.latch}): at 0 kW until somebody on site runs ems latch reset"
        return Authority(Source.LATCH, Target.BATTERY, 0.0, None, None, why, beneath, suspends_awards=True)
    if above.safe_mode:
        return Authority(
            Source.SAFE_MODE, Target.BATTERY, 0.0, None, None, above.safe_mode, beneath, suspends_awards=True
        )
    trial = above.trial
    if trial is not None:
        suspends = not trial.plays_award
        return Authority(Source.COMMISSIONING, Target.BATTERY, trial.power_w, None, None, trial.why, beneath, suspends)
    override = above.override
    if override is not None and not override.term.over(utc_s, mono_s, clock_trusted=clock_trusted):
        why = f"{override.who} overrides until {clock(override.term.until_utc_s)}: {override.reason}"
        return Authority(
            Source.OVERRIDE, override.target, override.power_w, None, None, why, beneath, override.suspends_awards
        )
    order = above.order
    if order is not None and order.term.stands(utc_s, mono_s, clock_trusted=clock_trusted):
        why = f"command {order.command_id}, {order.words}, until {clock(order.term.until_utc_s)}"
        return Authority(
            Source.COMMAND, order.target, order.power_w, None, None, why, beneath, order.suspends_awards,
            order.command_id,
        )  # fmt: skip
    return beneath


def _of_plans(
    rules: SiteRules, plans: Plans, utc_s: float, *, clock_trusted: bool, meter_good: bool, before: Authority | None
) -> Authority:
    if not clock_trusted:
        reason = "the clock is not trusted, so no plan may run"
        return _from_local_rule(rules, reason, meter_good=meter_good)
    missing: list[str] = []
    for source, plan in ((Source.ROLLING, plans.rolling), (Source.YEARLY, plans.yearly)):
        slot = plan.slot_at(utc_s) if plan is not None else None
        if plan is not None and slot is not None:
            ours = plans.local_slot_at(utc_s)
            if before is not None and before.slot is (ours or slot) and not missing:
                return before
            why = "; ".join([*missing, f"{source} plan {plan.version}, slot {span(slot)}"])
            if ours is not None and plans.local is not None:
                why = f"planned anew here at {clock(plans.local.made_utc_s)} ({plans.local.why}) over {why}"
                return Authority(Source.LOCAL_PLAN, ours.target, ours.power_w, ours, plan.version, why)
            return Authority(source, slot.target, slot.power_w, slot, plan.version, why)
        missing.append(_why_silent(source, plan, utc_s))
    return _from_local_rule(rules, "; ".join(missing), meter_good=meter_good)


def cloud_slot_at(plans: Plans, utc_s: float) -> tuple[Source, Slot] | None:
    """What the cloud's plans say for `utc_s`, whatever a local plan makes of it."""
    for source, plan in ((Source.ROLLING, plans.rolling), (Source.YEARLY, plans.yearly)):
        if plan is not None and (slot := plan.slot_at(utc_s)) is not None:
            return source, slot
    return None


def next_slots(plans: Plans, utc_s: float, count: int) -> list[tuple[Source, Slot]]:
    """The next `count` slots after the one at `utc_s`, layer by layer, as they would be decided then."""
    found: list[tuple[Source, Slot]] = []
    held = [plan for plan in (plans.rolling, plans.yearly) if plan is not None]
    if not held:
        return found
    step_s = min(plan.slot_s for plan in held)
    cursor_utc_s = (utc_s // step_s + 1) * step_s
    for _ in range(count):
        hit = cloud_slot_at(plans, cursor_utc_s)
        if hit is not None and (ours := plans.local_slot_at(cursor_utc_s)) is not None:
            hit = (Source.LOCAL_PLAN, ours)
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
        return f"{source} plan {plan.version} ended {clock(plan.end_utc_s)}"
    if utc_s < plan.start_utc_s:
        return f"{source} plan {plan.version} begins only {clock(plan.start_utc_s)}"
    return f"{source} plan {plan.version} has no slot for now"


def span(slot: Slot) -> str:
    """The slot's time for people, UTC: `03:00Z to 03:30Z`, with seconds only where it needs them."""
    return f"{clock(slot.start_utc_s)} to {clock(slot.end_utc_s)}"


@lru_cache(maxsize=64)
def clock(utc_s: float) -> str:
    """A time of day for people, UTC."""
    form = "%H:%MZ" if utc_s % 60 == 0 else "%H:%M:%SZ"
    return datetime.fromtimestamp(utc_s, UTC).strftime(form)
