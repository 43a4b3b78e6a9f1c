"""From the wanted power to each battery's setpoint: every bound in its rank, every cut and every sacrifice told.

Order: ramp, comfort and award bounds for the baseline; droop added; reserve, curtailment, connection point, physics for
the sum; then the split, paced so that no mix of old and new setpoints breaks a limit of the site.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.core.allocate import Unit, clips_of, paced, share_out
from agent.core.allocate_around import share_around, widened
from agent.core.bounds import CLIP_EPSILON_W, Bound, Clip, Softened, clamp, given_up, opponent, room
from agent.core.made_often import made_often
from agent.core.ramp import RampRules, RampState, ramp_bound


@made_often
@dataclass(frozen=True, slots=True)
class Request:
    """What is wanted of the batteries together, W, + toward the grid."""

    target_w: float
    droop_w: float = 0.0
    """Frequency response on top: not ramped, not held back by comfort."""
    award_bounds: tuple[Bound, ...] = ()
    """Room for the baseline that leaves sold reserve its headroom; rank AWARD."""
    by_device_w: Mapping[str, float] = field(default_factory=dict)
    """The part of `droop_w` that devices give by themselves on top of their setpoints."""


@dataclass(frozen=True, slots=True)
class DispatchState:
    """What dispatching remembers from tick to tick."""

    ramp: RampState | None = None
    in_use: frozenset[str] = frozenset()


@made_often
@dataclass(frozen=True, slots=True)
class Dispatch:
    """The setpoints of one tick and how they came about."""

    power_w: float
    """Sum of the shares."""
    baseline_w: float
    """After every bound, without droop."""
    shares_w: Mapping[str, float]
    clips: tuple[Clip, ...]
    softened: tuple[Softened, ...]
    held_back_w: float
    """Power that waits until batteries which give up their share have done so."""
    hard_lower_w: float
    """The most charging (<= 0) that the batteries can do now; PV need be limited only beyond it."""


def dispatch(
    request: Request,
    units: tuple[Unit, ...],
    site_bounds: tuple[Bound, ...],
    ramp: RampRules,
    state: DispatchState,
    *,
    mono_s: float,
) -> tuple[Dispatch, DispatchState]:
    """The setpoints at `mono_s`. `site_bounds` are those of curtailment and connection point, softest first."""
    clips: list[Clip] = []
    target_w = request.target_w
    if not math.isfinite(target_w):
        clips.append(Clip("the wanted power is not a number", "plan", 0.0, 0.0))
        target_w = 0.0
    ramped = ramp_bound(ramp, state.ramp, _measured(units), mono_s)
    soft, kept, hard = _together(units)
    ramp_bounds = (ramped,) if ramped is not None else ()
    base_w, cut = clamp(target_w, ramp_bounds)
    clips += cut
    base_w = _within(base_w, soft, units, clips)
    base_w, cut = clamp(base_w, request.award_bounds)
    clips += cut
    droop_w = request.droop_w if math.isfinite(request.droop_w) else 0.0
    total_w = _within(base_w + droop_w, kept, units, clips)
    total_w, cut = clamp(total_w, site_bounds)
    clips += cut
    total_w = _within(total_w, hard, units, clips)
    baseline_w = total_w
    if droop_w:
        baseline_w = _inside(clamp(_inside(base_w, kept), site_bounds)[0], hard)
    around = request.by_device_w if len(units) > 1 else None
    if around:
        shares_w, in_use = share_around(total_w, units, around, droop_w - sum(around.values()), state.in_use)
    else:
        shares_w, in_use = share_out(total_w, units, state.in_use)
    batteries = "what the batteries can do"
    softened = given_up(total_w, site_bounds, batteries)
    for bound in (*ramp_bounds, *request.award_bounds):
        by = opponent(bound.lower_w, bound.upper_w, site_bounds) or batteries
        softened += given_up(baseline_w, (bound,), by)
    by = opponent(*soft, site_bounds) or ("frequency response" if droop_w else "award")
    for unit in units:
        softened += given_up(shares_w[unit.device_id], unit.bounds, by)
    if len(units) > 1:
        doing = widened(units, around) if around else units
        shares_w = paced(shares_w, doing, *room(site_bounds).soft)
    power_w = sum(shares_w.values())
    done = Dispatch(
        power_w, baseline_w, shares_w, tuple(clips), softened, total_w - power_w if len(units) > 1 else 0.0, hard[0]
    )
    return done, DispatchState(RampState(baseline_w, mono_s) if ramped is not None else None, in_use)


def _together(units: tuple[Unit, ...]) -> tuple[tuple[float, float], tuple[float, float], tuple[float, float]]:
    """The room of all batteries: with every bound, without the soft ones, with physics alone."""
    s0 = s1 = k0 = k1 = h0 = h1 = 0.0
    for unit in units:
        found = unit.room
        s0 += found.soft[0]
        s1 += found.soft[1]
        k0 += found.kept[0]
        k1 += found.kept[1]
        h0 += found.hard[0]
        h1 += found.hard[1]
    return (s0, s1), (k0, k1), (h0, h1)


def _within(power_w: float, limits: tuple[float, float], units: tuple[Unit, ...], clips: list[Clip]) -> float:
    """`power_w` inside what the batteries can do together; a cut is told battery by battery."""
    after_w = _inside(power_w, limits)
    if abs(after_w - power_w) > CLIP_EPSILON_W:
        clips += clips_of(power_w, units)
    return after_w


def _inside(power_w: float, limits: tuple[float, float]) -> float:
    lower_w, upper_w = limits
    # As `min(max(power_w, lower_w), upper_w)`, at a third of the cost.
    at_least_w = lower_w if lower_w > power_w else power_w
    return upper_w if upper_w < at_least_w else at_least_w


def _measured(units: tuple[Unit, ...]) -> float | None:
    """The power of all batteries as set or measured, None when none of them is read."""
    total_w: float | None = None
    for unit in units:
        if unit.doing_w is not None:
            low_w, high_w = unit.doing_w
            total_w = (total_w or 0.0) + (low_w + high_w) / 2.0
    return total_w
