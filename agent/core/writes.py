"""What each battery is known to hold, and whether it must be written to now.

A setpoint is owned only after read-back. It is written again when the target moved beyond the dead band,
when the device holds something else than we wrote (a reboot, another master), and well before the device's
dead-man would end it. Failed writes are repeated with a growing pause, never blindly: each is read back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from agent.core.made_often import made_often
from agent.core.rules import BatteryRules
from agent.core.snapshot import Reading, WriteOutcome

REFRESH_SHARE = 1 / 3
"""Written again after this share of the device's dead-man time (fault matrix: at most a third)."""
FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 10.0
FAILURES_UNTIL_ALARM = 3
REASSERTS_UNTIL_ALARM = 3
"""A device that loses our setpoint this often in a row is alarmed and written to every `LONGEST_RETRY_S`."""
FOLLOW_SHARE = 0.05
"""Measured power may differ from an owned setpoint by this share of the rating..."""
FOLLOW_WITHIN_S = 10.0
"""...for this long, before "accepted but not applied" is raised."""


class WriteReason(StrEnum):
    """Why a setpoint is written."""

    FIRST = "first write"
    CHANGED = "target moved"
    REFRESH = "dead-man refresh"
    LOST = "device holds something else"
    RETRY = "last write failed"


@made_often
@dataclass(frozen=True, slots=True)
class WriteState:
    """The ledger line of one battery."""

    device_id: str
    owned_w: float | None = None
    """The setpoint last read back from the device after our own write; None when we own none."""
    in_flight: bool = False
    maybe_w: tuple[float, float] | None = None
    """Lowest and highest setpoint that the device may hold of ours: what it confirmed last, and all that was sent since
    (a write that failed may have been taken). None before our first write."""
    failures: int = 0
    """Failed writes in a row."""
    reasserts: int = 0
    """Times in a row that the device was found to hold something else after a verified write."""
    last_done_mono_s: float = float("-inf")
    following_since_mono_s: float | None = None
    """When measured power was last near the owned setpoint; None before the first verified write."""
    rounded_w: float = 0.0
    """How far the owned setpoint lies from the one that was wanted, for the register holds only so fine steps."""


def refused(state: WriteState) -> bool:
    """True when the device takes no setpoints: its writes failed `FAILURES_UNTIL_ALARM` times in a row."""
    return state.failures >= FAILURES_UNTIL_ALARM


def refusing(writes: Sequence[WriteState]) -> frozenset[str]:
    """The devices that take no setpoints now."""
    return frozenset([line.device_id for line in writes if refused(line)])


def sent(state: WriteState, power_w: float, measured_w: float) -> WriteState:
    """The ledger line after a write of `power_w` was handed to the shell.

    What a device holds that refused several writes shows in its measured power; what it was sent no longer counts.
    """
    low_w, high_w = (measured_w, measured_w) if refused(state) else state.maybe_w or (power_w, power_w)
    maybe_w = (min(low_w, power_w), max(high_w, power_w))
    # Here and below every battery comes by at every tick: a plain constructor costs a third of `replace`.
    return WriteState(
        state.device_id, state.owned_w, True, maybe_w, state.failures, state.reasserts, state.last_done_mono_s,
        state.following_since_mono_s, state.rounded_w,
    )  # fmt: skip


def settled(state: WriteState, outcome: WriteOutcome) -> WriteState:
    """The ledger line after a write came to its end."""
    at, failures = outcome.done_mono_s, state.failures + 1
    if not outcome.ok:
        return WriteState(state.device_id, None, False, state.maybe_w, failures, state.reasserts, at, None)
    since = state.following_since_mono_s if state.following_since_mono_s is not None else at
    held_w = outcome.held_w if outcome.held_w is not None else outcome.wanted_w
    rounded_w = abs(held_w - outcome.wanted_w)
    return WriteState(
        state.device_id, outcome.held_w, False, (held_w, held_w), 0, state.reasserts, at, since, rounded_w
    )


def let_be(state: WriteState) -> WriteState:
    """The ledger line of a battery that commissioning leaves alone: it may hold our setpoint, and we do not own it."""
    return state if state.owned_w is None else replace(state, owned_w=None, following_since_mono_s=None)


def may_hold(state: WriteState, rules: BatteryRules, now_mono_s: float) -> tuple[float, float] | None:
    """The lowest and highest setpoint of ours that the device may hold now; None once its dead-man has ended it."""
    if not state.in_flight and now_mono_s - state.last_done_mono_s > rules.holds_for_s:
        return None
    return state.maybe_w


def lost(state: WriteState, held: Reading, rules: BatteryRules) -> bool:
    """True when a reading newer than our last write shows that the device no longer holds what we own."""
    if state.owned_w is None or state.in_flight or held.read_mono_s <= state.last_done_mono_s:
        return False
    return held.value is None or abs(held.value - state.owned_w) > max(rules.dead_band_w, 1.0)


def due(
    state: WriteState, target_w: float, held: Reading, rules: BatteryRules, now_mono_s: float
) -> WriteReason | None:
    """Why `target_w` must be written to this battery now, or None when nothing is to be done."""
    if state.in_flight:
        return None
    if state.failures:
        pause_s = min(FIRST_RETRY_S * 2 ** min(state.failures - 1, 8), LONGEST_RETRY_S)
        return WriteReason.RETRY if now_mono_s - state.last_done_mono_s >= pause_s else None
    if state.owned_w is None:
        return WriteReason.FIRST
    if lost(state, held, rules):
        stubborn = state.reasserts >= REASSERTS_UNTIL_ALARM
        pause_s = LONGEST_RETRY_S if stubborn else 0.0
        return WriteReason.LOST if now_mono_s - state.last_done_mono_s >= pause_s else None
    # Rest is exact: a target of 0 is written however small the step. What a register cannot hold is not tried again.
    small_w = max(rules.dead_band_w, state.rounded_w)
    if abs(target_w - state.owned_w) > small_w or (target_w == 0.0 and state.owned_w != 0.0):
        return WriteReason.CHANGED
    if now_mono_s - state.last_done_mono_s >= rules.refreshed_within_s * REFRESH_SHARE:
        return WriteReason.REFRESH
    return None


def watched(
    state: WriteState,
    held: Reading,
    power: Reading,
    rules: BatteryRules,
    now_mono_s: float,
    *,
    answer_w: tuple[float, float] = (0.0, 0.0),
) -> WriteState:
    """The ledger line after comparing what the device holds and does with the owned setpoint.

    `answer_w` is the least and the most that it may give by its own droop on top.
    """
    if state.reasserts and held.read_mono_s > state.last_done_mono_s and not lost(state, held, rules):
        state = replace(state, reasserts=0)
    if state.owned_w is None or state.following_since_mono_s is None or power.value is None:
        return state
    allowed_w = FOLLOW_SHARE * max(rules.rated_charge_w, rules.rated_discharge_w)
    if answer_w[0] - allowed_w <= power.value - state.owned_w <= answer_w[1] + allowed_w:
        return WriteState(
            state.device_id, state.owned_w, state.in_flight, state.maybe_w, state.failures, state.reasserts,
            state.last_done_mono_s, now_mono_s, state.rounded_w,
        )  # fmt: skip
    return state


def not_following(state: WriteState, now_mono_s: float, rules: BatteryRules) -> bool:
    """True when the device confirmed a setpoint but its power stayed away from it for longer than it takes.

    That is `FOLLOW_WITHIN_S`, or twice the settling time of a device that was found to be slower.
    """
    since = state.following_since_mono_s
    within_s = FOLLOW_WITHIN_S if rules.settling_s is None else max(FOLLOW_WITHIN_S, 2.0 * rules.settling_s)
    return state.owned_w is not None and since is not None and now_mono_s - since > within_s
