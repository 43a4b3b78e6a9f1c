"""What the agent says of its awards: the same facts for the local socket and for the cloud."""

from __future__ import annotations

from typing import Any

from agent.cloud.messages import award_lines, orders_held
from agent.cloud.stamp import iso
from agent.core.evidence import EvidenceRow
from agent.runtime.control import ControlLoop


def award_facts(control: ControlLoop) -> dict[str, Any]:
    """The awards in force and to come with their forecast, what does not stand, and the response of this moment."""
    decision = control.decisions[-1]
    reserve = control.state.reserve
    running = control.in_force.awards.at(decision.utc_s) if control.trust.trusted else ()
    by_id = {line.award.award_id: line.table for line in control.in_force.awards.sold}
    lines = award_lines(control.in_force.awards, control.outlook)
    in_force = {line.award.award_id for line in running}
    now = None
    if running:
        trouble = reserve.frequency.trouble
        now = {
            "frequency_hz": reserve.frequency.hz,
            "trouble": trouble.value if trouble is not None else None,
            "response_w": reserve.response_w,
            "baseline_w": decision.baseline_w,
            "setpoint_w": decision.setpoint_w,
            "battery_w": decision.battery_w,
            "tick_s": control.period_s(),
        }
    return {
        "utc": iso(decision.utc_s),
        "documents": orders_held(control.order_documents),
        "awards": [
            {**line, "in_force": line["id"] in in_force, "full_by_s": by_id[line["id"]].full_by_s} for line in lines
        ],
        "refused": [
            {"id": one.award_id, "reason": one.reason, "field": one.field, "detail": one.detail}
            for one in control.in_force.refused
        ],
        "now": now,
    }


def evidence_line(row: EvidenceRow) -> dict[str, Any]:
    """One second of evidence."""
    return {
        "time": iso(row.utc_s),
        "frequency_hz": _rounded(row.frequency_hz, 4),
        "power_w": _rounded(row.power_w, 1),
        "baseline_w": _rounded(row.baseline_w, 1),
        "response_w": _rounded(row.response_w, 1),
        "award_up_w": row.award_up_w,
        "award_down_w": row.award_down_w,
        "award_ids": list(row.award_ids),
        "clock_trusted": row.clock_trusted,
        "trouble": row.trouble.value if row.trouble is not None else None,
        "ticks": row.ticks,
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits) + 0.0
