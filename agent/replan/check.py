"""Whether a proposed plan may be used: replayed slot by slot against physics and limits, knowing nothing of the solver.

Accepted are only plans that the site can execute and that are not worse than the rule-based one.
"""

from __future__ import annotations

import math

from agent.core.replan_request import PlannedSlot, ReplanRequest, ReplanSlot, planned_slot
from agent.core.replan_rules import rule_plan
from agent.replan.cost import cost, weights
from agent.replan.problem import Proposal

SOC_TOLERANCE_PCT = 0.02
"""Between the SoC that the solver tells and the replay, and at the edges of the band."""
POWER_TOLERANCE_SHARE = 1e-6
POWER_TOLERANCE_W = 0.1
"""Over a limit by more than this (the larger of a share of the limit and a fixed step) is a breach."""
WORSE_SHARE = 1e-3
"""A plan may cost more than the rule-based one by this share of the money at stake; the solver's own gap is smaller."""
LEAST_AT_STAKE_KWH = 1e-3
"""Where limits of nearly 0 leave nothing to plan, rounding costs no money."""


def check(request: ReplanRequest, proposal: Proposal) -> tuple[PlannedSlot, ...] | str:
    """The plan to execute, or the reason why this proposal must not be."""
    count = len(request.slots)
    if len(proposal.battery_w) != count or len(proposal.soc_end_pct) != count:
        return f"{len(proposal.battery_w)} powers and {len(proposal.soc_end_pct)} SoC for {count} slots"
    if not all(map(math.isfinite, proposal.battery_w + proposal.soc_end_pct)):
        return "a power or SoC is not a finite number"
    return _physics(request, proposal) or _worse(request, proposal) or _planned(request, proposal)


def _planned(request: ReplanRequest, proposal: Proposal) -> tuple[PlannedSlot, ...]:
    rows = zip(request.slots, proposal.battery_w, proposal.soc_end_pct, strict=True)
    return tuple(planned_slot(slot, power_w, soc_pct) for slot, power_w, soc_pct in rows)


def _physics(request: ReplanRequest, proposal: Proposal) -> str | None:
    """The first breach of a limit, on the way from the real SoC under the net powers."""
    soc_pct = request.soc_now_pct
    for index, slot in enumerate(request.slots):
        power_w = proposal.battery_w[index]
        if breach := _power_breach(slot, power_w):
            return f"slots[{index}]: {power_w:.0f} W {breach}"
        hours = (slot.end_utc_s - slot.start_utc_s) / 3600.0
        if power_w >= 0.0:
            taken_wh = power_w * hours / request.discharge_efficiency
        else:
            taken_wh = power_w * hours * request.charge_efficiency
        rested_pct = soc_pct - 100.0 * request.standby_w * hours / request.capacity_wh
        before_pct, soc_pct = soc_pct, rested_pct - 100.0 * taken_wh / request.capacity_wh
        told_pct = proposal.soc_end_pct[index]
        if abs(told_pct - soc_pct) > SOC_TOLERANCE_PCT:
            return f"slots[{index}]: its power leads to {soc_pct:.2f} % SoC, not to {told_pct:.2f} %"
        # Outside the band only toward it, inside never out again.
        if soc_pct < min(request.soc_min_pct, rested_pct) - SOC_TOLERANCE_PCT:
            return f"slots[{index}]: SoC falls to {soc_pct:.2f} %, below {request.soc_min_pct:g} %"
        if soc_pct > max(request.soc_max_pct, before_pct) + SOC_TOLERANCE_PCT:
            return f"slots[{index}]: SoC rises to {soc_pct:.2f} %, above {request.soc_max_pct:g} %"
    return None


def _power_breach(slot: ReplanSlot, power_w: float) -> str | None:
    """What this battery power breaks: the device, the award's headroom, the connection point."""
    others_w = slot.pv_w + slot.load_w
    if _over(power_w, slot.discharge_limit_w) or _over(-power_w, slot.charge_limit_w):
        return "is beyond the battery's limits"
    if _over(-power_w, 0.0) and _over(slot.award_down_w - power_w, max(slot.charge_limit_w, slot.award_down_w)):
        return "leaves too little charging power for the award"
    if _over(power_w, 0.0) and not _only_relieves_import(slot, power_w):
        if _over(slot.award_up_w + power_w, max(slot.discharge_limit_w, slot.award_up_w)):
            return "leaves too little discharging power for the award"
        if _over(others_w + power_w + slot.award_up_w, slot.export_limit_w):
            return "exports too much, with the award's response"
    if _over(-power_w, 0.0) and _over(slot.award_down_w - others_w - power_w, slot.import_limit_w):
        return "imports too much, with the award's response"
    return None


def _only_relieves_import(slot: ReplanSlot, power_w: float) -> bool:
    """The load alone breaks the import limit and the battery gives no more than that excess."""
    return not _over(power_w, -slot.import_limit_w - slot.pv_w - slot.load_w)


def _over(value_w: float, limit_w: float) -> bool:
    return value_w > limit_w + max(POWER_TOLERANCE_W, POWER_TOLERANCE_SHARE * abs(limit_w))


def _worse(request: ReplanRequest, proposal: Proposal) -> str | None:
    by_rule = cost(request, [slot.battery_w for slot in rule_plan(request)])
    proposed = cost(request, proposal.battery_w)
    by = weights(request)
    at_stake = sum(max(slot.charge_limit_w, slot.discharge_limit_w) * slot.hours for slot in request.slots) / 1000.0
    tolerance = WORSE_SHARE * (by.unit * (at_stake + LEAST_AT_STAKE_KWH) + abs(by_rule))
    if proposed > by_rule + tolerance:
        return f"costs {proposed:.6g}, more than the rule-based plan's {by_rule:.6g}"
    return None
