"""What PV and load together will do, as far as the site can know it: the cloud's plan, its own days, the present.

A slot sold at the connection point with the SoC that it leads to says what the cloud expects of PV and load. Where
no plan tells, the mean of past days at that time of day counts. Both are moved toward what is measured now, less and
less over two hours. Powers are W, positive toward the grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from agent.core.authority import Source, cloud_slot_at
from agent.core.plan import Plans, Target

BINS = 48
"""Half hours of the UTC day."""
BIN_S = 86_400.0 / BINS
MEMORY_S = 3600.0
"""A half hour of one day moves the mean by 1 - exp(-0.5) = 40 %: the last three days make most of it."""
PRESENT_FADES_S = 7200.0

Told = Callable[[float, float], float | None]
"""Mean power of PV and load over `[start, end)` as far as it is known."""


@dataclass(frozen=True, slots=True)
class DayProfile:
    """Mean power of PV and load by half hour of the day; None where nothing was measured yet."""

    others_w: tuple[float | None, ...] = (None,) * BINS

    def at(self, utc_s: float) -> float | None:
        """The mean for this time of day."""
        return self.others_w[_bin(utc_s)]

    def with_measured(self, utc_s: float, others_w: float, for_s: float) -> DayProfile:
        """The profile after `for_s` seconds with this power."""
        index = _bin(utc_s)
        before_w = self.others_w[index]
        weight = 1.0 - math.exp(-max(for_s, 0.0) / MEMORY_S)
        after_w = others_w if before_w is None else before_w + (others_w - before_w) * weight
        return DayProfile((*self.others_w[:index], after_w, *self.others_w[index + 1 :]))


def forecast_at(
    utc_s: float, now_w: float | None, told: Told, profile: DayProfile
) -> Callable[[float, float], tuple[float, float]]:
    """The forecast from `utc_s` on, as PV and load: what they make together, as PV when it feeds and load when not."""

    def base_w(start_utc_s: float, end_utc_s: float) -> float | None:
        known_w = told(start_utc_s, end_utc_s)
        return known_w if known_w is not None else profile.at((start_utc_s + end_utc_s) / 2.0)

    present_w = base_w(utc_s, utc_s + 1.0)
    ahead_w = now_w - present_w if now_w is not None and present_w is not None else 0.0

    def forecast(start_utc_s: float, end_utc_s: float) -> tuple[float, float]:
        others_w = base_w(start_utc_s, end_utc_s)
        if others_w is None:
            others_w = now_w or 0.0
        else:
            later_s = (start_utc_s + end_utc_s) / 2.0 - utc_s
            others_w += ahead_w * max(0.0, 1.0 - later_s / PRESENT_FADES_S)
        return max(others_w, 0.0), min(others_w, 0.0)

    return forecast


def told_by_plans(plans: Plans, capacity_wh: float, one_way_efficiency: float) -> Told:
    """What the cloud expects of PV and load, by the battery that it believes in: the stated one, not the learned."""

    def told(start_utc_s: float, _end_utc_s: float) -> float | None:
        found = cloud_slot_at(plans, start_utc_s)
        if found is None or found[1].target is not Target.GRID or found[1].soc_end_pct is None:
            return None
        slot = found[1]
        plan = plans.rolling if found[0] is Source.ROLLING else plans.yearly
        before = plan.slot_at(slot.start_utc_s - 1e-3) if plan is not None else None
        if before is None or before.soc_end_pct is None or slot.soc_end_pct is None:
            return None
        hours = (slot.end_utc_s - slot.start_utc_s) / 3600.0
        cells_w = (before.soc_end_pct - slot.soc_end_pct) / 100.0 * capacity_wh / hours
        battery_w = cells_w * one_way_efficiency if cells_w > 0.0 else cells_w / one_way_efficiency
        return slot.power_w - battery_w

    return told


def _bin(utc_s: float) -> int:
    return int(utc_s % 86_400.0 // BIN_S)
