"""Whether a plan that arrived may come into force: accepted, a repeat, or refused with reason and field.

The wire layer has already turned the document into a `Plan` (or refused it); here the plan meets the site:
what it holds, what it can do, what time it is. The reasons are listed in `docs/contract.md`. Documents of orders
(awards, curtailments, outages) are judged in `agent.core.order_admission`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.core.orders import OrderDocument
from agent.core.plan import Plan, PlanKind, Plans, Target
from agent.core.reasons import REASONS
from agent.core.records import Stream
from agent.core.rules import SiteRules

RATING_MARGIN = 1.05
"""A plan beyond this multiple of the limit was made for another site, unit or sign (fault matrix, Plans)."""
MAX_ISSUED_AHEAD_S = 300.0
MAX_ROLLING_S = 48 * 3600.0
MAX_YEARLY_S = 366 * 86400.0


def replayable_before_utc_s(now_utc_s: float) -> float:
    """Where ids of commands were lost, one issued before this may come a second time, and is refused.

    A sender's clock may be ahead of ours by as much as is accepted.
    """
    return now_utc_s + MAX_ISSUED_AHEAD_S


@dataclass(frozen=True, slots=True)
class Accepted:
    """The document may be stored and come into force."""

    note: str | None = None
    """For people, told with the answer: what the site will do about something odd in it."""


@dataclass(frozen=True, slots=True)
class Repeated:
    """The very same document is held already: answer as before, change nothing."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The message has no effect; `reason` is one of the contract's codes, `field` the place, if there is one."""

    reason: str
    field: str | None
    detail: str

    def __post_init__(self) -> None:
        """Whoever meets a reason must find it in the contract."""
        assert self.reason in REASONS, self.reason


Verdict = Accepted | Repeated | Refused


@dataclass(frozen=True, slots=True)
class PlanLimits:
    """The largest powers that a plan for this site can mean, W, all >= 0."""

    discharge_w: float
    charge_w: float
    export_w: float
    import_w: float

    def of(self, target: Target) -> tuple[float, float]:
        """The lowest and highest power at this place, W toward the grid."""
        if target is Target.BATTERY:
            return -self.charge_w, self.discharge_w
        return -self.import_w, self.export_w

    def meant_w(self, target: Target) -> tuple[float, float]:
        """The same with the margin within which a power is clipped and not refused."""
        lower_w, upper_w = self.of(target)
        return lower_w * RATING_MARGIN, upper_w * RATING_MARGIN


def plan_limits(rules: SiteRules) -> PlanLimits:
    """What a plan for this site can mean: the ratings of all batteries, and the limits of the connection point."""
    discharge_w = sum(battery.rated_discharge_w for battery in rules.batteries)
    charge_w = sum(battery.rated_charge_w for battery in rules.batteries)
    return PlanLimits(discharge_w, charge_w, rules.export_limit_w, rules.import_limit_w)


def admit(plan: Plan, held: Plans, limits: PlanLimits, now_utc_s: float) -> Verdict:
    """The verdict on `plan` at `now_utc_s`, given the plans held and the site's limits."""
    return (
        of_this_version(plan, held.of(plan.kind))
        or issued_too_far_ahead(plan, now_utc_s)
        or _refuse_time(plan, now_utc_s)
        or _refuse_power(plan, limits)
        or Accepted()
    )


def of_this_version(document: Plan | OrderDocument, held: Plan | OrderDocument | None) -> Repeated | Refused | None:
    """The verdict where the version alone decides, against the document of its kind that is held."""
    if held is None or document.version > held.version:
        return None
    if document.version < held.version:
        detail = f"version {held.version} is held; version {document.version} is older and has no effect"
        return Refused("version_old", "version", detail)
    if document.sha256 == held.sha256:
        return Repeated()
    detail = f"version {document.version} is held with other content; send a higher version"
    return Refused("version_conflict", "version", detail)


def issued_too_far_ahead(document: Plan | OrderDocument, now_utc_s: float) -> Refused | None:
    """The refusal of a document from the future: one of the two clocks is wrong."""
    ahead_s = document.issued_utc_s - now_utc_s
    if ahead_s <= MAX_ISSUED_AHEAD_S:
        return None
    return Refused("from_the_future", "issued_at", f"issued {ahead_s:.0f} s ahead of the site's clock")


def _refuse_time(plan: Plan, now_utc_s: float) -> Refused | None:
    if plan.start_utc_s % plan.slot_s != 0:
        return Refused("misaligned", "start", f"start is not a whole multiple of slot_s = {plan.slot_s}")
    longest_s = MAX_ROLLING_S if plan.kind is PlanKind.ROLLING else MAX_YEARLY_S
    if plan.end_utc_s - plan.start_utc_s > longest_s:
        detail = f"a {plan.kind} plan covers at most {longest_s / 3600:.0f} h"
        return Refused("too_long", "power", detail)
    if plan.end_utc_s <= now_utc_s:
        return Refused("wholly_past", "start", "the last slot has ended already")
    return None


def _refuse_power(plan: Plan, limits: PlanLimits) -> Refused | None:
    lower_w, upper_w = limits.meant_w(plan.target)
    for index, power_w in enumerate(plan.power_w):
        if power_w is not None and not lower_w <= power_w <= upper_w:
            return beyond_rating(power_w, plan.target, limits, f"power[{index}]")
    return None


def refuse_power(power_w: float, target: Target, limits: PlanLimits, field: str) -> Refused | None:
    """The refusal of a power that this site cannot mean: it was made for another one, or in another unit or sign."""
    lower_w, upper_w = limits.meant_w(target)
    # Written so that NaN is refused too.
    return None if lower_w <= power_w <= upper_w else beyond_rating(power_w, target, limits, field)


def beyond_rating(power_w: float, target: Target, limits: PlanLimits, field: str) -> Refused:
    """The refusal in words."""
    lower_w, upper_w = limits.of(target)
    whose = "battery rating" if target is Target.BATTERY else "connection limit"
    detail = (
        f"{power_w / 1000:g} kW toward the grid is beyond {RATING_MARGIN:g} times the {whose} "
        f"({lower_w / 1000:g} to {upper_w / 1000:g} kW)"
    )
    return Refused("beyond_rating", field, detail)


def admit_watermark(stored: Mapping[Stream, int], highest_sent: Mapping[Stream, int]) -> Mapping[Stream, int] | Refused:
    """Up to where each stream is stored, as the cloud says; refused where it claims what was never sent.

    What is stored is deleted here: a watermark of another site would cost telemetry that nobody has.
    """
    for stream, seq in stored.items():
        sent = highest_sent.get(stream, seq)
        if seq > sent:
            detail = f"{stream.value} {seq} was never sent; the highest was {sent}"
            return Refused("bad_value", f"stored.{stream.value}", detail)
    return stored
