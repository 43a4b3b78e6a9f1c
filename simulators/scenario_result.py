"""What a scenario came to, in numbers: the JSON of `ems simulate`, made from the record of the run and the references.

Money is in the currency of the prices. The revenue counts the energy of the batteries; sun and load earn and cost the
same in every run. What is left in the store at the end is valued at the mean price, so that runs can be compared.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from statistics import fmean
from typing import Any

from simulators.invariants import revision
from simulators.scenario import SECONDS_PER_DAY, START_SOC_PCT, Scenario
from simulators.scenario_cloud import Cloud, Optimum, informed, perfect_foresight, plain_execution
from simulators.scenario_run import YEARLY_AFTER_S, Run, RunRecord


@dataclass(frozen=True, slots=True)
class Result:
    """The run, the same without the tracker where that was asked, and the numbers of both."""

    record: RunRecord
    open_loop: RunRecord | None
    numbers: dict[str, Any]


def simulate(scenario: Scenario, progress: Callable[[str, float], None], *, references: bool = True) -> Result:
    """Runs the scenario, then again without the tracker, then the references; `progress` gets (what, share done)."""
    record = Run(scenario).run(lambda share: progress("agent", share))
    open_loop = None
    if scenario.target == "grid":
        open_loop = Run(scenario, open_loop=True).run(lambda share: progress("without tracker", share))
    money = _money(scenario, record, progress) if references else None
    return Result(record, open_loop, _numbers(scenario, record, open_loop, money))


def slot_errors(scenario: Scenario, record: RunRecord) -> dict[str, Any]:
    """Slot energy error, % of rated slot energy (connection rating times slot length)."""
    rating_w = max(scenario.rules.export_limit_w, scenario.rules.import_limit_w)
    rated_wh = rating_w * scenario.slot_s / 3600.0
    errors = sorted(
        100.0 * abs(slot.error_wh) / rated_wh for slot in record.slots if slot.error_wh is not None and rated_wh
    )
    if not errors:
        return {"slots": 0}
    return {
        "slots": len(errors),
        "mean_pct": _rounded(fmean(errors)),
        "p95_pct": _rounded(errors[min(len(errors) - 1, math.ceil(0.95 * len(errors)) - 1)]),
        "max_pct": _rounded(errors[-1]),
        "clipped_slots": sum(slot.clipped_ticks > 0 for slot in record.slots),
    }


def earned(record: RunRecord) -> Optimum:
    """What the agent earned."""
    revenue = sum(slot.price * slot.battery_wh for slot in record.slots) / 1000.0
    wear = record.scenario.wear_per_kwh * record.discharged_wh / 1000.0
    return Optimum(revenue, wear, record.stored_change_wh)


def valued(scenario: Scenario, optimum: Optimum) -> float:
    """Revenue less wear, and what is left in the store at the mean price."""
    mean_price = fmean(scenario.prices.per_kwh)
    return optimum.revenue - optimum.wear + optimum.stored_change_wh / 1000.0 * mean_price


def _money(scenario: Scenario, record: RunRecord, progress: Callable[[str, float], None]) -> dict[str, Any]:
    progress("informed optimum", 0.0)
    told = informed(scenario, START_SOC_PCT)
    progress("perfect foresight", 0.0)
    best = perfect_foresight(scenario, START_SOC_PCT)
    mine = earned(record)
    found: dict[str, Any] = {
        "revenue": _rounded(mine.revenue),
        "wear": _rounded(mine.wear),
        "net": _rounded(valued(scenario, mine)),
        "informed_revenue": _rounded(told.revenue),
        "informed_net": _rounded(valued(scenario, told)),
        "foresight_revenue": _rounded(best.revenue),
        "foresight_net": _rounded(valued(scenario, best)),
        "ratio_to_informed": _ratio(valued(scenario, mine), valued(scenario, told)),
        "ratio_to_foresight": _ratio(valued(scenario, mine), valued(scenario, best)),
        "ratio_basis": "revenue less wear, stored energy valued at the mean price",
    }
    if scenario.outages:
        plain = Run(scenario, plain_yearly=True).run(lambda share: progress("yearly plan without re-planning", share))
        found["yearly_plan_in_outages"] = _outages(scenario, record, plain)
    return found


def _outages(scenario: Scenario, record: RunRecord, plain: RunRecord) -> list[dict[str, Any]]:
    """Each outage's time on the yearly plan: the agent, the agent without re-planning, and an ideal execution."""
    yearly = Cloud(scenario).yearly(scenario.start_utc_s)
    told: list[dict[str, Any]] = []
    for (start_s, end_s), soc_pct in zip(scenario.outages, record.outage_soc_pct, strict=False):
        begin_s = math.ceil((start_s + YEARLY_AFTER_S) / scenario.slot_s) * scenario.slot_s
        if end_s - begin_s < scenario.slot_s:
            continue
        ideal = plain_execution(scenario, yearly, begin_s, end_s, soc_pct)
        told.append(
            {
                "from_h": _rounded(begin_s / 3600.0),
                "to_h": _rounded(end_s / 3600.0),
                "agent_net": _rounded(_earned_within(record, begin_s, end_s)),
                "plain_net": _rounded(_earned_within(plain, begin_s, end_s)),
                "ideal_net": _rounded(valued(scenario, ideal)),
            }
        )
    return told


def _earned_within(record: RunRecord, begin_s: float, end_s: float) -> float:
    """What these slots earned, wear taken off, what they left in the store valued at the mean price."""
    scenario = record.scenario
    window = [slot for slot in record.slots if begin_s <= slot.start_s and slot.start_s + scenario.slot_s <= end_s]
    if not window:
        return 0.0
    revenue = sum(slot.price * slot.battery_wh for slot in window) / 1000.0
    wear = scenario.wear_per_kwh * sum(max(0.0, slot.battery_wh) for slot in window) / 1000.0
    return valued(scenario, Optimum(revenue, wear, window[-1].end_stored_wh - window[0].begin_stored_wh))


def _numbers(
    scenario: Scenario, record: RunRecord, open_loop: RunRecord | None, money: dict[str, Any] | None
) -> dict[str, Any]:
    told_kwh = scenario.sizes.capacity_wh / 1000.0
    invariants = record.invariants
    return {
        "site": scenario.rules.site_id,
        "revision": revision(),
        "seed": scenario.seed,
        "days": scenario.days,
        "start": datetime.fromtimestamp(scenario.start_utc_s, UTC).isoformat(),
        "tick_s": scenario.tick_s,
        "slot_s": scenario.slot_s,
        "target": scenario.target.value,
        "sizes": asdict(scenario.sizes),
        "truth": asdict(scenario.truth),
        "money": money,
        "slot_energy_error": {
            "with_tracker": slot_errors(scenario, record),
            "without_tracker": slot_errors(scenario, open_loop) if open_loop is not None else None,
            "unit": "% of connection rating times slot length",
        },
        "fcr": record.responses.numbers(scenario),
        "soc_pct": {"min": _rounded(record.soc_min_pct), "max": _rounded(record.soc_max_pct)},
        "throughput_kwh": _rounded((record.charged_wh + record.discharged_wh) / 1000.0),
        "cycles": _rounded(record.discharged_wh / 1000.0 / told_kwh),
        "writes_per_day": {device: _rounded(count / scenario.days) for device, count in record.writes.items()},
        "clipped_ticks": dict(record.clips.most_common()),
        "sources_ticks": dict(record.sources),
        "events": dict(record.events.most_common()),
        "faults": dict(record.faults),
        "documents": dict(record.documents),
        "replans": {
            "count": record.replan_runs,
            "why": dict(record.replans),
            "only_by_rule": dict(record.replan_fallbacks),
        },
        "violations": {
            "count": invariants.count,
            "by_invariant": dict(Counter(str(violation.number) for violation in invariants.violations)),
            "first": [asdict(violation) for violation in invariants.violations],
        },
        "hash": f"{record.hash:08x}",
        "wall_s": _rounded(record.wall_s),
        "sim_days_per_s": _rounded(scenario.days / record.wall_s),
        "cpu_s": _rounded(record.cpu_s),
        "us_per_tick": _rounded(1e6 * record.cpu_s / record.ticks),
        "simulated_s": scenario.days * SECONDS_PER_DAY,
    }


def _ratio(mine: float, other: float) -> float | None:
    return _rounded(mine / other) if other > 0 else None


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
