"""From the answer of a re-planning to what the site executes: the answer laid over the slots of the cloud's plans.

The slots keep the times of the cloud's, so that the energy account of the slot that runs goes on, and each remembers
what the cloud's plan promised: delivery is measured against that.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.core.authority import cloud_slot_at
from agent.core.plan import LocalPlan, Plans, Slot, Target
from agent.core.replan_request import PlannedSlot

SAME_W = 1.0
"""A smaller difference from the cloud's plan is none."""


def overlay(
    plans: Plans, planned: Sequence[PlannedSlot], *, utc_s: float, soc_pct: float | None, by_rule: bool, why: str
) -> LocalPlan:
    """The local plan to execute, made at `utc_s`; where the cloud's plans have no slot it has none either."""
    slots: list[Slot] = []
    for index, answer in enumerate(planned):
        told = cloud_slot_at(plans, answer.start_utc_s)
        if told is not None:
            slots.append(_laid_over(told[1], answer.slot, runs=index == 0))
    return LocalPlan(utc_s, plans.basis, tuple(slots), by_rule, why, soc_pct)


def _laid_over(cloud: Slot, ours: Slot, *, runs: bool) -> Slot:
    """`ours` to execute; at the time of the cloud's slot where it is the rest of the one that `runs`.

    That one has delivered a part already. At the connection point its energy is what was promised, less (or
    more) what the re-planning changes in the rest of it; at the battery's terminals only the power counts.
    """
    start_utc_s, power_w = ours.start_utc_s, ours.power_w
    if runs and ours.end_utc_s == cloud.end_utc_s and start_utc_s > cloud.start_utc_s:
        start_utc_s = cloud.start_utc_s
        if ours.target is Target.GRID:
            rest = (ours.end_utc_s - ours.start_utc_s) / (cloud.end_utc_s - cloud.start_utc_s)
            power_w = cloud.power_w + (ours.power_w - cloud.power_w) * rest
    return Slot(start_utc_s, ours.end_utc_s, power_w, ours.target, ours.soc_end_pct, cloud.power_w)


def ended_because(local: LocalPlan, plans: Plans, utc_s: float | None) -> str | None:
    """Why `local` has no word any more, for people; None while it has. `utc_s` is None while time is not believed."""
    if plans.basis != local.basis:
        return "a new plan of the cloud decides"
    if utc_s is not None and utc_s >= local.end_utc_s:
        return "the local plan's last slot has ended"
    return None


def changed_slots(local: LocalPlan) -> int:
    """How many slots differ from the cloud's plan."""
    return sum(abs(slot.power_w - slot.promise_w) > SAME_W for slot in local.slots)


def changed_wh(local: LocalPlan) -> float:
    """Energy by which the slots differ from the cloud's plan, each either way, added up."""
    return sum(
        abs(slot.power_w - slot.promise_w) * (slot.end_utc_s - slot.start_utc_s) / 3600.0 for slot in local.slots
    )
