"""Plans: versioned lists of half-open UTC slots, looked up by time, never by number.

Inside the agent a plan is always in W, positive toward the grid; the wire's own unit and sign are converted
on entry (`agent.cloud.wire`). Times are Unix seconds, which are UTC by definition.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class PlanKind(StrEnum):
    """Which layer a plan fills."""

    ROLLING = "rolling"
    YEARLY = "yearly"


class Target(StrEnum):
    """Where the planned power is meant: at the battery terminals or at the connection point."""

    BATTERY = "battery"
    GRID = "grid"


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot `[start_utc_s, end_utc_s)` of a plan and the power promised for it."""

    start_utc_s: float
    end_utc_s: float
    power_w: float
    target: Target
    soc_end_pct: float | None = None

    @property
    def energy_wh(self) -> float:
        """The energy promised for the whole slot, Wh, + toward the grid."""
        return self.power_w * (self.end_utc_s - self.start_utc_s) / 3600.0


@dataclass(frozen=True, slots=True)
class Plan:
    """One versioned plan document; `power_w[i]` covers `start + i*slot_s .. start + (i+1)*slot_s`, None = no plan."""

    kind: PlanKind
    version: int
    sha256: str
    """Hash of the document as it arrived, after decompression: the same version must always have the same hash."""
    issued_utc_s: float
    start_utc_s: float
    slot_s: int
    target: Target
    power_w: tuple[float | None, ...]
    soc_end_pct: tuple[float | None, ...] | None = None
    price_per_kwh: tuple[float | None, ...] | None = None

    @property
    def end_utc_s(self) -> float:
        """The end of the last slot."""
        return self.start_utc_s + self.slot_s * len(self.power_w)

    def slot_at(self, utc_s: float) -> Slot | None:
        """The slot that holds `utc_s`, or None when the plan says nothing for that time."""
        index = int((utc_s - self.start_utc_s) // self.slot_s)
        if not 0 <= index < len(self.power_w):
            return None
        power_w = self.power_w[index]
        if power_w is None:
            return None
        start = self.start_utc_s + index * self.slot_s
        soc_end = self.soc_end_pct[index] if self.soc_end_pct is not None else None
        return Slot(start, start + self.slot_s, power_w, self.target, soc_end)


@dataclass(frozen=True, slots=True)
class Plans:
    """The plans in force, at most one of each kind."""

    rolling: Plan | None = None
    yearly: Plan | None = None

    def replaced(self, plan: Plan) -> Plans:
        """These plans with `plan` in the place of its kind."""
        if plan.kind is PlanKind.ROLLING:
            return Plans(plan, self.yearly)
        return Plans(self.rolling, plan)
