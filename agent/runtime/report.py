"""What the agent says of itself: the same facts for the local socket and for the cloud."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from agent.cloud.messages import local_plan_held, path_energies, plan_held, slot_energies_wh
from agent.cloud.stamp import iso
from agent.core.authority import Source, next_slots
from agent.core.decision import Condition, Decision
from agent.core.envelope import Clip
from agent.core.events import Severity
from agent.core.ledger import SlotRow
from agent.core.plan import Plans, Slot
from agent.core.snapshot import CeilingOutcome, WriteOutcome
from agent.core.verdict import Verdict

NEXT_SLOTS = 8
MOST_NAMED = 2
"""Conditions of one severity that the line for systemd names."""


def slot_coming(source: Source, slot: Slot) -> dict[str, Any]:
    """One future slot as it would be decided today."""
    return {
        "start": iso(slot.start_utc_s),
        "end": iso(slot.end_utc_s),
        "power_w": slot.power_w,
        "promised_w": slot.promise_w,
        "target": slot.target,
        "source": source,
        "soc_end_pct": slot.soc_end_pct,
    }


def condition(found: Condition) -> dict[str, str]:
    """One thing that is wrong now."""
    return {"code": found.code, "subject": found.subject, "severity": found.severity, "text": found.text}


def status_line(decision: Decision, conditions: Collection[Condition]) -> str:
    """Who decides, what the batteries do and how much is wrong, in one line for `systemctl status`."""
    soc = "unknown" if decision.soc_pct is None else f"{decision.soc_pct:.1f} %"
    power = "unknown" if decision.battery_w is None else f"{decision.battery_w / 1e3:+.1f} kW"
    told = f"{decision.source}: battery {power}, setpoint {decision.setpoint_w / 1e3:+.1f} kW, SoC {soc}"
    for severity in (Severity.ALARM, Severity.WARNING):
        found = [f"{one.code} {one.subject}" for one in conditions if one.severity is severity]
        if found:
            more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
            told += f"; {severity.upper()} {', '.join(found[:MOST_NAMED])}{more}"
    return told


def control_facts(decision: Decision, plans: Plans) -> dict[str, Any]:
    """The part of the status that comes from the last control tick."""
    slot = decision.slot
    return {
        "utc": iso(decision.utc_s),
        "source": decision.source,
        "why": decision.why,
        "powers_w": _powers_w(decision),
        "soc_pct": decision.soc_pct,
        "frequency_hz": decision.frequency_hz,
        "target_w": decision.target_w,
        "setpoint_w": decision.setpoint_w,
        "clips": [_clip(clip) for clip in decision.clips],
        "slot": None
        if slot is None
        else {
            "start": iso(slot.start_utc_s),
            "end": iso(slot.end_utc_s),
            "planned_w": slot.power_w,
            "promised_w": slot.promise_w,
            "target": slot.target,
            "source": decision.source,
            "planned_wh": slot.energy_wh,
            "done_wh": decision.slot_done_wh,
            "soc_end_pct": slot.soc_end_pct,
        },
        "next_slots": [slot_coming(source, coming) for source, coming in next_slots(plans, decision.utc_s, NEXT_SLOTS)],
        "plans": {"rolling": plan_held(plans.rolling), "yearly": plan_held(plans.yearly)},
        "local_plan": local_plan_held(plans),
    }


def explanation(
    decision: Decision,
    outcomes: Mapping[str, WriteOutcome | CeilingOutcome],
    verdicts: Mapping[str, Verdict] | None = None,
) -> dict[str, Any]:
    """Why the site does what it does: source, target, each clip, what was written, what the device confirmed."""
    return {
        "utc": iso(decision.utc_s),
        "source": decision.source,
        "why": decision.why,
        "target": decision.target,
        "planned_w": decision.planned_w,
        "target_w": decision.target_w,
        "clips": [_clip(clip) for clip in decision.clips],
        "setpoint_w": decision.setpoint_w,
        "shares_w": dict(decision.shares_w),
        "by_device_w": dict(decision.by_device_w),
        "pv_ceiling_w": decision.pv_ceiling_w,
        "writes": [asdict(write) for write in decision.writes],
        "last_outcomes": {
            device_id: {
                "wanted_w": outcome.wanted_w,
                "held_w": outcome.held_w,
                "confirmed": outcome.ok,
                "reason": outcome.reason,
                "age_s": round(decision.mono_s - outcome.done_mono_s, 3),
            }
            for device_id, outcome in outcomes.items()
        },
        "verdicts": dict(verdicts or {}),
        "powers_w": _powers_w(decision),
        "soc_pct": decision.soc_pct,
    }


def ledger_line(row: SlotRow) -> dict[str, Any]:
    """One slot of the ledger in full; `closed` is false for the one that runs."""
    return {
        "start": iso(row.start_utc_s),
        "end": iso(row.end_utc_s),
        "closed": row.closed,
        "target": row.target,
        "source": row.source,
        "version": row.version,
        **slot_energies_wh(row),
        "paths_wh": path_energies(row.paths),
        "covered_s": round(row.covered_s, 3),
        "planned_soc_end_pct": row.planned_soc_end_pct,
        "soc_end_pct": row.soc_end_pct,
    }


def slots_within(plans: Plans, from_utc_s: float, to_utc_s: float, most: int) -> Sequence[dict[str, Any]]:
    """What the plans say from one time to another, at most `most` slots."""
    found = next_slots(plans, from_utc_s - 1e-6, most)
    return [slot_coming(source, slot) for source, slot in found if slot.start_utc_s < to_utc_s]


def _powers_w(decision: Decision) -> dict[str, float | None]:
    return {
        "battery": decision.battery_w,
        "pv": decision.pv_w,
        "load": decision.load_w,
        "grid": decision.grid_w,
    }


def _clip(clip: Clip) -> dict[str, Any]:
    return {"limit": clip.limit, "owner": clip.owner, "before_w": clip.before_w, "after_w": clip.after_w}
