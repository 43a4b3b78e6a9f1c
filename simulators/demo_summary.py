"""The end of the demo: evidence gathered, checks judged, and the summary for people and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from simulators.cloud_messages import Sample
from simulators.demo_checks import (
    CLIPPED_SHARE,
    DELIVERY_TOLERANCE_KWH,
    LEDGER_TOLERANCE_KWH,
    Evidence,
    SlotResult,
    Verdict,
    takeover_delay_s,
)
from simulators.demo_show import ShowFacts, Stage
from simulators.demo_site import RATED_KW
from simulators.market import MarketClock, SpotPrices


def market_kwh(wh: float | None, clock: MarketClock) -> float | None:
    """Real energy of the fast site as energy of the market: half an hour of the same power."""
    return None if wh is None else round(wh * clock.factor / 1000.0, 3)


def clipped_slots(samples: Sequence[Sample], clock: MarketClock) -> dict[float, float]:
    """By slot start: how far, W, a limit moved the setpoint from the target, where it did so at all."""
    found: dict[float, float] = {}
    for row in samples:
        if row.target_w is None or row.setpoint_w is None:
            continue
        moved_w = abs(row.target_w - row.setpoint_w)
        if moved_w > CLIPPED_SHARE * RATED_KW * 1000.0:
            start = clock.slot_start(row.utc_s)
            found[start] = max(moved_w, found.get(start, 0.0))
    return found


def slot_results(
    rows: Sequence[dict[str, Any]], stage: Stage, prices: SpotPrices, facts: ShowFacts
) -> list[SlotResult]:
    """The agent's ledger beside the plant's truth."""
    clock, simulator = stage.clock, stage.simulator
    clipped = clipped_slots(stage.cloud.samples(), clock)
    results = []
    for row in rows:
        start, end = float(row["start_utc_s"]), float(row["end_utc_s"])
        battery_w = simulator.battery_w(start, end)
        results.append(
            SlotResult(
                start_utc_s=start,
                market=clock.market_text(start),
                price=prices.at(clock.market_s(start)),
                source=str(row["source"]),
                plan_version=row["plan_version"],
                target=str(row["target"]),
                planned_kwh=market_kwh(float(row["planned_wh"]), clock) or 0.0,
                delivered_kwh=market_kwh(row["delivered_wh"], clock),
                true_kwh=market_kwh(simulator.true_wh(start, end), clock),
                battery_kw=None if battery_w is None else round(battery_w / 1000.0, 1),
                soc_end_pct=row.get("soc_end_pct"),
                excused=_excuse(start, end, facts, clipped),
            )
        )
    return results


def _excuse(start: float, end: float, facts: ShowFacts, clipped: dict[float, float]) -> str | None:
    if any(outage.overlaps(start, end) for outage in facts.agent_outages):
        return "the agent was away"
    if start in clipped:
        named = ", ".join(sorted(facts.clips.get(start, set()))) or "not asked at that moment"
        return f"limit: {named}; setpoint up to {clipped[start] / 1000.0:.0f} kW off the target"
    return None


def summary(evidence: Evidence, verdicts: dict[str, Verdict], clock: MarketClock, broker: str) -> dict[str, Any]:
    """Everything as one JSON object; energies are kWh of the market."""
    counters, counts, facts = evidence.counters, evidence.counts, evidence.facts
    takeover = takeover_delay_s(evidence)
    return {
        "ok": all(verdict is None for verdict in verdicts.values()),
        "held": {name: verdict is None for name, verdict in verdicts.items()},
        "why_not": {name: verdict for name, verdict in verdicts.items() if verdict is not None},
        "market": {
            "slot_s": clock.slot_s,
            "factor": clock.factor,
            "note": "energies are kWh of the market: the fast site's energy times the factor",
        },
        "broker": broker,
        "slots_executed": len(evidence.slots),
        "slots": [asdict(slot) | {"on_plan": slot.on_plan} for slot in evidence.slots],
        "planned_kwh": round(sum(slot.planned_kwh for slot in evidence.slots), 3),
        "delivered_kwh": round(sum(slot.delivered_kwh or 0.0 for slot in evidence.slots), 3),
        "tolerance_kwh": {"delivered": DELIVERY_TOLERANCE_KWH, "ledger": LEDGER_TOLERANCE_KWH},
        "excused_slots": [
            {"market": slot.market, "why": slot.excused, "planned_kwh": slot.planned_kwh, "true_kwh": slot.true_kwh}
            for slot in evidence.slots
            if slot.excused is not None and not slot.on_plan
        ],
        "sources": dict(Counter(slot.source for slot in evidence.slots)),
        "ticks": counters["ticks"],
        "late_ticks": counters["late_ticks"],
        "writes": counters["writes"],
        "writes_verified": counters["writes_verified"],
        "writes_failed": counters["writes_failed"],
        "telemetry": {
            "frames_sealed": counters["frames_sealed"],
            "frames_sent": counts.telemetry_highest,
            "frames_received": counts.telemetry_frames,
            "samples": counts.samples,
            "gaps": counts.gaps,
            "duplicates": counts.duplicates,
            "redelivered": counts.redelivered,
            "conflicts": counts.conflicts,
            "malformed": counts.malformed,
        },
        "acks": counts.acks_by_stage,
        "rejections": list(counts.rejections),
        "plans_published": counts.versions,
        "agent_restarts": [
            {"time_to_control_s": None if span.end_utc_s is None else round(span.end_utc_s - span.start_utc_s, 2)}
            for span in facts.agent_outages
        ],
        "broker_outages": [
            {"length_s": None if span.end_utc_s is None else round(span.end_utc_s - span.start_utc_s, 2)}
            for span in facts.broker_outages
        ],
        "yearly_takeover_s": None if takeover is None else round(takeover, 3),
    }


def text(result: dict[str, Any]) -> str:
    """The summary for people, 80 columns."""
    telemetry, held = result["telemetry"], result["held"]
    lines = [
        f"{'market time':<18}{'JPY/kWh':>8} {'source':<8}{'planned':>9}{'delivered':>10}{'true':>9} kWh",
    ]
    for slot in result["slots"]:
        values = "".join(
            f"{'?' if value is None else format(value, '.1f'):>{width}}"
            for value, width in ((slot["planned_kwh"], 9), (slot["delivered_kwh"], 10), (slot["true_kwh"], 9))
        )
        mark = "" if slot["on_plan"] else " !" if slot["excused"] is None else " *"
        lines.append(f"{slot['market']:<18}{slot['price']:>8.2f} {slot['source']:<8}{values}{mark}")
    lines += [f"* {slot['market']}: {slot['why']}" for slot in result["excused_slots"]]
    restarts = ", ".join(f"{one['time_to_control_s']} s" for one in result["agent_restarts"])
    outages = ", ".join(f"{one['length_s']} s" for one in result["broker_outages"])
    lines += [
        "",
        f"slots      {result['slots_executed']}, by source {result['sources']}",
        f"ticks      {result['ticks']}, late {result['late_ticks']}",
        f"writes     {result['writes']}, verified {result['writes_verified']}, failed {result['writes_failed']}",
        f"telemetry  {telemetry['frames_sealed']} frames sealed, {telemetry['frames_received']} received by the cloud",
        f"           {telemetry['gaps']} gaps, {telemetry['duplicates']} duplicates",
        f"           {telemetry['redelivered']} delivered again, {telemetry['conflicts']} of them changed",
        f"acks       {result['acks']}",
        f"agent      killed, in control again after {restarts}",
        f"broker     {result['broker']}, killed for {outages}",
        f"yearly     took over {result['yearly_takeover_s']} s after the rolling plan ran out",
        "",
    ]
    lines += [f"  {'held  ' if ok else 'FAILED'}  {name.replace('_', ' ')}" for name, ok in held.items()]
    lines.append("everything held" if result["ok"] else "NOT everything held")
    return "\n".join(lines)
