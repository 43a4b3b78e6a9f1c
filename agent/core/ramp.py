"""The rate limit of the battery setpoint; it holds for plans, never for droop, and gives way to every other bound."""

from __future__ import annotations

import math
from dataclasses import dataclass

from agent.core.bounds import Bound, Rank

LONGEST_GAP_S = 5.0
"""Time without ticks that counts for the ramp: after a pause of the machine the setpoint must not jump."""


@dataclass(frozen=True, slots=True)
class RampRules:
    """How fast the setpoint may move, W/s; None = no limit."""

    up_w_per_s: float | None = None
    """Toward the grid."""
    down_w_per_s: float | None = None
    """Away from it."""

    def __post_init__(self) -> None:
        """Refuse a rate at which nothing would ever move."""
        for rate in (self.up_w_per_s, self.down_w_per_s):
            if rate is not None and not rate > 0:
                raise ValueError("a ramp rate must be above 0 W/s; leave it out for no limit")


@dataclass(frozen=True, slots=True)
class RampState:
    """The baseline setpoint (without droop) of the last tick."""

    setpoint_w: float
    mono_s: float


def ramp_bound(rules: RampRules, before: RampState | None, measured_w: float | None, mono_s: float) -> Bound | None:
    """What the ramp leaves at `mono_s`, or None when it limits nothing.

    At the start the ramp begins where the batteries are (`measured_w`), or at 0 when that is not known.
    """
    if rules.up_w_per_s is None and rules.down_w_per_s is None:
        return None
    from_w = before.setpoint_w if before is not None else measured_w or 0.0
    dt_s = min(max(mono_s - before.mono_s, 0.0), LONGEST_GAP_S) if before is not None else 0.0
    upper_w = from_w + rules.up_w_per_s * dt_s if rules.up_w_per_s is not None else math.inf
    lower_w = from_w - rules.down_w_per_s * dt_s if rules.down_w_per_s is not None else -math.inf
    return Bound("ramp rate", "site file", lower_w, upper_w, Rank.RAMP)
