"""Bounds on battery power, their rank, what they cut off and what had to be given up.

Bounds are applied softest first, so that the last word is the hardest. Where two of them leave no common power, the
softer one is broken, by as little as the harder one allows, and told as `Softened`. No clash ever means "all to zero".

| rank | what | broken only by |
|---|---|---|
| `PHYSICS` | state, outage, nameplate, live limits, derating, SoC band with its taper, shared inverter | nothing |
| `CONNECTION` | export and import limits of the connection point | physics |
| `CURTAILMENT` | orders of the grid operator in force now | the above |
| `RESERVE` | the SoC floor kept for outages of the grid | the above |
| `AWARD` | power and energy kept free for sold reserve; droop is added at this rank | the above |
| `COMFORT` | landing on the SoC limit at the slot's end, hysteresis at the limits | the above, and droop |
| `RAMP` | the rate limit of the setpoint | the above, and droop |
| (target) | what the plan wants | everything |

Within `PHYSICS` the order is: shared inverter, nameplate, live limits, derating, SoC band; a battery that takes no
part (state, outage) has one bound of 0 and no other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

from agent.core.made_often import made_often

CLIP_EPSILON_W = 1.0
"""A cut smaller than this is rounding, not a clip worth telling."""


class Rank(IntEnum):
    """How hard a bound is; the higher one wins (see the table above)."""

    RAMP = 0
    COMFORT = 1
    AWARD = 2
    RESERVE = 3
    CURTAILMENT = 4
    CONNECTION = 5
    PHYSICS = 6


_PHYSICS, _RESERVE = Rank.PHYSICS, Rank.RESERVE
"""Asked for every bound at every tick, and an enum looks its members up slowly."""


@made_often
@dataclass(frozen=True, slots=True)
class Bound:
    """Battery power must lie in `[lower_w, upper_w]`, says `owner`, because of `limit`."""

    limit: str
    owner: str
    lower_w: float
    upper_w: float
    rank: Rank = Rank.PHYSICS


@made_often
@dataclass(frozen=True, slots=True)
class Clip:
    """One bound at work: the power before and after it."""

    limit: str
    owner: str
    before_w: float
    after_w: float


@dataclass(frozen=True, slots=True)
class Softened:
    """A bound that had to be broken: what it asked for, what it got, and which harder limit stood against it."""

    limit: str
    owner: str
    rank: Rank
    lower_w: float
    upper_w: float
    given_w: float
    by: str

    @property
    def beyond_w(self) -> float:
        """How far the given power lies outside the bound, > 0."""
        return max(self.lower_w - self.given_w, self.given_w - self.upper_w)


@made_often
@dataclass(frozen=True, slots=True)
class Room:
    """The powers that one battery (or all together) may have, W, at three depths; each range holds the one before.

    `soft`: every bound kept. `kept`: only bounds of rank RESERVE and harder. `hard`: physics alone.
    """

    soft: tuple[float, float]
    kept: tuple[float, float]
    hard: tuple[float, float]


def clamp(power_w: float, bounds: tuple[Bound, ...]) -> tuple[float, tuple[Clip, ...]]:
    """`power_w` after each bound in turn, the later one winning, and the clips on the way."""
    clips: list[Clip] = []
    for bound in bounds:
        after_w = min(max(power_w, bound.lower_w), bound.upper_w)
        if abs(after_w - power_w) > CLIP_EPSILON_W:
            clips.append(Clip(bound.limit, bound.owner, power_w, after_w))
        power_w = after_w
    return power_w, tuple(clips)


def room(bounds: tuple[Bound, ...]) -> Room:
    """The room that `bounds` (softest first) leave; a bound that clashes with harder ones is moved to their edge."""
    lower_w, upper_w = -math.inf, math.inf
    kept: tuple[float, float] | None = None
    hard: tuple[float, float] | None = None
    for bound in reversed(bounds):
        rank = bound.rank
        if hard is None and rank is not _PHYSICS:
            hard = (lower_w, upper_w)
        if kept is None and rank < _RESERVE:
            kept = (lower_w, upper_w)
        low_w, high_w = lower_w, upper_w
        if bound.lower_w > low_w:
            lower_w = min(bound.lower_w, high_w)
        if bound.upper_w < high_w:
            upper_w = max(bound.upper_w, low_w)
    soft = (lower_w, upper_w)
    kept = kept or soft
    return Room(soft, kept, hard or kept)


def given_up(power_w: float, bounds: tuple[Bound, ...], by: str) -> tuple[Softened, ...]:
    """The bounds (softest first) that `power_w` breaks; `by` names what stood against them if none of them did."""
    found: list[Softened] = []
    for index, bound in enumerate(bounds):
        if bound.lower_w - CLIP_EPSILON_W <= power_w <= bound.upper_w + CLIP_EPSILON_W:
            continue
        name = opponent(bound.lower_w, bound.upper_w, bounds[index + 1 :]) or by
        found.append(Softened(bound.limit, bound.owner, bound.rank, bound.lower_w, bound.upper_w, power_w, name))
    return tuple(found)


def opponent(lower_w: float, upper_w: float, harder: tuple[Bound, ...]) -> str:
    """The hardest limit that leaves no power in `[lower_w, upper_w]`, "" when there is none."""
    for bound in reversed(harder):
        if bound.upper_w < lower_w or bound.lower_w > upper_w:
            return bound.limit
    return ""
