"""Whether the demo held what it promised: every check is a pure function of the evidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from simulators.cloud_desk import CloudCounts
from simulators.cloud_messages import Sample
from simulators.demo_show import PLANS, ShowFacts
from simulators.demo_site import CONNECTION_KW, RATED_KW

CLEAR_POWER_KW = 0.5 * RATED_KW
"""A slot of clear charge or discharge has at least this mean power at the battery."""
CLEAR_SLOTS = 2
DELIVERY_TOLERANCE_KWH = 0.02 * CONNECTION_KW * 0.5
"""Delivered against planned energy of one slot: 2 % of what the connection can carry in half an hour."""
LEDGER_TOLERANCE_KWH = 0.01 * CONNECTION_KW * 0.5
"""The agent's ledger against the plant's truth, which adds the meter's age and resolution."""
CLIPPED_SHARE = 0.01
"""Target and setpoint further apart than this share of the rating: a limit was in the way."""
RESTART_LIMIT_S = 15.0
"""Back in control after kill -9 within this time (fault matrix)."""
TAKEOVER_TICKS = 2.0


@dataclass(frozen=True, slots=True)
class SlotResult:
    """One slot of the show; energies in kWh of the market, + toward the grid, at the connection point."""

    start_utc_s: float
    market: str
    price: float
    source: str
    plan_version: int | None
    target: str
    planned_kwh: float
    delivered_kwh: float | None
    """The agent's ledger."""
    true_kwh: float | None
    """The plant's own count."""
    battery_kw: float | None
    """True mean power of the battery, + = discharge."""
    soc_end_pct: float | None
    excused: str | None
    """Why the delivered energy may differ: a limit, or the agent was away."""

    @property
    def on_plan(self) -> bool:
        """Whether what was delivered is what was planned, within the tolerance."""
        return self.delivered_kwh is not None and abs(self.delivered_kwh - self.planned_kwh) <= DELIVERY_TOLERANCE_KWH


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything the checks look at."""

    slots: Sequence[SlotResult]
    slots_expected: int
    slot_s: int
    tick_s: float
    facts: ShowFacts
    counts: CloudCounts
    samples: Sequence[Sample]
    counters: Counter[str]
    outbox_depth: int | None
    drained: bool
    agent_starts: int
    final_source: str | None
    agent_exit_code: int | None


Verdict = str | None
"""None: the check held; else why not."""


def judge(evidence: Evidence) -> dict[str, Verdict]:
    """The verdict of every check, by name."""
    return {name: check(evidence) for name, check in CHECKS.items()}


def _clear_slots(evidence: Evidence, sign: int) -> int:
    return sum(slot.battery_kw is not None and sign * slot.battery_kw >= CLEAR_POWER_KW for slot in evidence.slots)


def _charged(evidence: Evidence) -> Verdict:
    found = _clear_slots(evidence, -1)
    return None if found >= CLEAR_SLOTS else f"{found} slots below {-CLEAR_POWER_KW:.0f} kW, wanted {CLEAR_SLOTS}"


def _discharged(evidence: Evidence) -> Verdict:
    found = _clear_slots(evidence, 1)
    return None if found >= CLEAR_SLOTS else f"{found} slots above {CLEAR_POWER_KW:.0f} kW, wanted {CLEAR_SLOTS}"


def _slots_complete(evidence: Evidence) -> Verdict:
    found = len({slot.start_utc_s for slot in evidence.slots})
    if found != evidence.slots_expected or found != len(evidence.slots):
        rows = f"{len(evidence.slots)} rows for {found} slots"
        return f"the ledger has {rows}, the show had {evidence.slots_expected}"
    return None


def _delivered_as_planned(evidence: Evidence) -> Verdict:
    off = [slot for slot in evidence.slots if not slot.on_plan and slot.excused is None]
    return _listed(off) if off else None


def _listed(slots: Sequence[SlotResult]) -> str:
    return "; ".join(
        f"{slot.market}: plan {_kwh(slot.planned_kwh)}, ledger {_kwh(slot.delivered_kwh)}, truth {_kwh(slot.true_kwh)}"
        for slot in slots
    )


def _kwh(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f} kWh"


def _ledger_agrees_with_truth(evidence: Evidence) -> Verdict:
    off = [
        slot
        for slot in evidence.slots
        if slot.delivered_kwh is None
        or slot.true_kwh is None
        or abs(slot.delivered_kwh - slot.true_kwh) > LEDGER_TOLERANCE_KWH
    ]
    return _listed(off) if off else None


def _plan_went_on_without_broker(evidence: Evidence) -> Verdict:
    outages = evidence.facts.broker_outages
    if not outages or any(outage.end_utc_s is None for outage in outages):
        return "the broker was not killed and brought back"
    within = [
        slot
        for slot in evidence.slots
        for outage in outages
        if outage.overlaps(slot.start_utc_s, slot.start_utc_s + evidence.slot_s)
    ]
    off = [slot for slot in within if slot.source != "rolling" or not (slot.on_plan or slot.excused)]
    if off or not within:
        return f"{len(off)} of {len(within)} slots were not on the rolling plan: {_listed(off)}"
    return None


def _same_plan_after_kill(evidence: Evidence) -> Verdict:
    facts = evidence.facts
    if facts.plan_before_kill is None or facts.plan_before_kill != facts.plan_after_kill:
        return f"the rolling plan was {facts.plan_before_kill} before and {facts.plan_after_kill} after"
    return None


def _back_in_control(evidence: Evidence) -> Verdict:
    for outage in evidence.facts.agent_outages:
        if outage.end_utc_s is None:
            return "the agent did not come back in control"
        if outage.end_utc_s - outage.start_utc_s > RESTART_LIMIT_S:
            return f"it took {outage.end_utc_s - outage.start_utc_s:.1f} s, the limit is {RESTART_LIMIT_S:.0f} s"
    return None if evidence.facts.agent_outages else "the agent was not killed"


def takeover_delay_s(evidence: Evidence) -> float | None:
    """From the end of the rolling plan to the first telemetry row that the yearly plan decided; None: never."""
    end_utc_s = evidence.facts.plan_end_utc_s
    if end_utc_s is None:
        return None
    times = [row.utc_s for row in evidence.samples if row.source == "yearly" and row.utc_s >= end_utc_s]
    return min(times) - end_utc_s if times else None


def _yearly_took_over(evidence: Evidence) -> Verdict:
    delay_s = takeover_delay_s(evidence)
    if delay_s is None:
        return "no telemetry row after the end of the rolling plan names the yearly plan"
    limit_s = TAKEOVER_TICKS * evidence.tick_s
    return None if delay_s <= limit_s else f"it took {delay_s:.2f} s, {TAKEOVER_TICKS:g} ticks are {limit_s:.2f} s"


def _rolling_came_back(evidence: Evidence) -> Verdict:
    return None if evidence.final_source == "rolling" else f"at the end {evidence.final_source} decides"


def _telemetry_complete(evidence: Evidence) -> Verdict:
    counts, sealed = evidence.counts, evidence.counters["frames_sealed"]
    if not evidence.drained:
        left = f"{evidence.outbox_depth} left in the outbox"
        return f"not drained: {left}, {sealed} frames sealed, {counts.telemetry_frames} received"
    wrong = {
        "gaps": counts.gaps,
        "gaps in acks, events or slots": counts.other_gaps,
        "duplicates": counts.duplicates,
        "conflicts": counts.conflicts,
        "malformed": counts.malformed,
    }
    found = ", ".join(f"{number} {name}" for name, number in wrong.items() if number)
    return found or None


def _outage_backfilled(evidence: Evidence) -> Verdict:
    for outage in evidence.facts.broker_outages:
        until = outage.end_utc_s or outage.start_utc_s
        rows = sum(outage.start_utc_s <= row.utc_s < until for row in evidence.samples)
        wanted = 0.8 * (until - outage.start_utc_s) / evidence.tick_s
        if rows < wanted:
            return f"{rows} telemetry rows of the outage have arrived, wanted at least {wanted:.0f}"
    return None


def _writes_verified(evidence: Evidence) -> Verdict:
    counters = evidence.counters
    unverified = counters["writes"] - counters["writes_verified"]
    # At each kill, and when the last status was taken, one write may have been under way.
    allowed = evidence.agent_starts
    if counters["writes_verified"] == 0 or unverified > allowed or counters["writes_failed"]:
        failed = counters["writes_failed"]
        return f"{counters['writes']} writes, {counters['writes_verified']} verified, {failed} failed"
    return None


def _plans_accepted(evidence: Evidence) -> Verdict:
    stored = {kind for kind, _, stage in evidence.counts.acks if stage == "stored"}
    if evidence.counts.rejections:
        return "; ".join(evidence.counts.rejections[:3])
    return None if stored >= set(PLANS) else f"only these were acknowledged as stored: {sorted(stored)}"


def _agent_ended_in_order(evidence: Evidence) -> Verdict:
    code = evidence.agent_exit_code
    return None if code == 0 else f"SIGTERM ended it with exit code {code}"


CHECKS: dict[str, Callable[[Evidence], Verdict]] = {
    "charged": _charged,
    "discharged": _discharged,
    "every_slot_in_ledger": _slots_complete,
    "delivered_as_planned": _delivered_as_planned,
    "ledger_agrees_with_truth": _ledger_agrees_with_truth,
    "plan_went_on_without_broker": _plan_went_on_without_broker,
    "same_plan_after_kill": _same_plan_after_kill,
    "back_in_control_after_kill": _back_in_control,
    "yearly_took_over_within_2_ticks": _yearly_took_over,
    "rolling_came_back": _rolling_came_back,
    "telemetry_complete": _telemetry_complete,
    "outage_backfilled": _outage_backfilled,
    "writes_verified": _writes_verified,
    "plans_accepted": _plans_accepted,
    "agent_ended_in_order": _agent_ended_in_order,
}
