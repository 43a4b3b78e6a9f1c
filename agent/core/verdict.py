"""What has become of the setpoint that a battery was told: the one word that status and explanation give.

Read-back makes a setpoint owned; only measured power that follows makes it delivered. Everything else has a name too.
"""

from __future__ import annotations

from enum import StrEnum

from agent.core.rules import BatteryRules
from agent.core.snapshot import Quality, Reading
from agent.core.writes import WriteState, lost, not_following


class Verdict(StrEnum):
    """What is known of the last setpoint."""

    UNWRITTEN = "unwritten"
    """Nothing of ours: it was never written, or given back."""
    SETTLING = "settling"
    """A write is under way, or confirmed and the power is still on its way."""
    OWNED = "owned"
    """Confirmed by read-back, and measured power follows: delivered."""
    STALE = "stale"
    """Confirmed once, and nobody knows any more: not read for too long, or its dead-man has ended it."""
    EXTERNAL_CHANGE = "external_change"
    """It holds something else than we wrote: it restarted, or somebody else writes."""
    NOT_APPLIED = "not_applied"
    """The write failed, was not kept, or was kept and measured power does not follow."""


def verdict(state: WriteState, held: Reading, power: Reading, rules: BatteryRules, now_mono_s: float) -> Verdict:
    """The verdict on one battery at the tick of `now_mono_s`; `held` and `power` as they were read, however old."""
    held, power = held.at(now_mono_s), power.at(now_mono_s)
    if state.in_flight:
        return Verdict.SETTLING
    if state.owned_w is None and not state.failures:
        return Verdict.UNWRITTEN
    if held.quality is Quality.STALE or power.value is None:
        return Verdict.STALE
    if state.failures:
        return Verdict.NOT_APPLIED
    if lost(state, held, rules):
        return Verdict.EXTERNAL_CHANGE
    if now_mono_s - state.last_done_mono_s > rules.holds_for_s:
        return Verdict.STALE
    if state.following_since_mono_s == now_mono_s:  # as `watched` found it at this tick
        return Verdict.OWNED
    return Verdict.NOT_APPLIED if not_following(state, now_mono_s, rules) else Verdict.SETTLING
