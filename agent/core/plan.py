"""Plans: versioned lists of half-open UTC slots, looked up by time, never by number.

Inside the agent a plan is always in W, positive toward the grid; the wire's own unit and sign are converted
on entry (`agent.cloud.wire`). Times are Unix seconds, which are UTC by definition.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field, replace
from enum import StrEnum

from agent.core.made_often import made_often


class PlanKind(StrEnum):
    """Which layer a plan fills."""

    ROLLING = "rolling"
    YEARLY = "yearly"


class Target(StrEnum):
    """Where the planned power is meant: at the battery terminals or at the connection point."""

    BATTERY = "battery"
    GRID = "grid"


@made_often
@dataclass(frozen=True, slots=True)
class Slot:
    """One slot `[start_utc_s, end_utc_s)` of a plan and the power promised for it."""

    start_utc_s: float
    end_utc_s: float
    power_w: float
    target: Target
    soc_end_pct: float | None = None
    promised_w: float | None = None
    """Under a local plan what the cloud's plan says for this slot; None = `power_w` is that."""

    @property
    def promise_w(self) -> float:
        """What the cloud's plan says, and what delivery is measured against."""
        return self.power_w if self.promised_w is None else self.promised_w

    @property
    def energy_wh(self) -> float:
        """The energy to be delivered in the whole slot, Wh, + toward the grid."""
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
    imbalance_price_per_kwh: tuple[float | None, ...] | None = None
    _made: dict[int, Slot] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Slots that were asked for: one slot stays one object, so that nobody takes it for a new one."""

    @property
    def end_utc_s(self) -> float:
        """The end of the last slot."""
        return self.start_utc_s + self.slot_s * len(self.power_w)

    def slot_at(self, utc_s: float) -> Slot | None:
        """The slot that holds `utc_s`, or None when the plan says nothing for that time."""
        index = int((utc_s - self.start_utc_s) // self.slot_s)
        if (made := self._made.get(index)) is not None:
            return made
        if not 0 <= index < len(self.power_w):
            return None
        power_w = self.power_w[index]
        if power_w is None:
            return None
        start = self.start_utc_s + index * self.slot_s
        soc_end = self.soc_end_pct[index] if self.soc_end_pct is not None else None
        made = self._made[index] = Slot(start, start + self.slot_s, power_w, self.target, soc_end)
        return made


@dataclass(frozen=True, slots=True)
class LocalPlan:
    """A re-planning made here, laid over the slots of the very plans that it was made from."""

    made_utc_s: float
    basis: tuple[str | None, str | None]
    """`Plans.basis` at that time: under any other plan of the cloud this one has no word."""
    slots: tuple[Slot, ...]
    """In order, with holes where no plan of the cloud has a slot."""
    by_rule: bool
    """True when there was no plan of the solver, and this is the rule-based one."""
    why: str
    """What made it necessary, for people."""
    soc_pct: float | None = None
    """When it was made."""

    @property
    def end_utc_s(self) -> float:
        """The end of the last slot."""
        return self.slots[-1].end_utc_s if self.slots else self.made_utc_s

    def slot_at(self, utc_s: float) -> Slot | None:
        """The slot that holds `utc_s`, or None."""
        index = bisect_right(self.slots, utc_s, key=_start_utc_s) - 1
        if index < 0 or utc_s >= self.slots[index].end_utc_s:
            return None
        return self.slots[index]

    def expected_soc_pct(self, utc_s: float) -> float | None:
        """The SoC that this plan expects at `utc_s`, straight between slot ends; None where it does not tell it."""
        slot = self.slot_at(utc_s)
        if slot is None or slot.soc_end_pct is None or utc_s < self.made_utc_s:
            return None
        begin_utc_s, begin_pct = self.made_utc_s, self.soc_pct
        if slot.start_utc_s > self.made_utc_s:
            before = self.slot_at(slot.start_utc_s - BEFORE_S)
            begin_utc_s, begin_pct = slot.start_utc_s, before.soc_end_pct if before is not None else None
        if begin_pct is None:
            return None
        share = (utc_s - begin_utc_s) / (slot.end_utc_s - begin_utc_s)
        return begin_pct + (slot.soc_end_pct - begin_pct) * share


BEFORE_S = 1e-3
"""A time this long before a slot is in the slot before it; no slot is shorter."""


def _start_utc_s(slot: Slot) -> float:
    return slot.start_utc_s


@dataclass(frozen=True, slots=True)
class Plans:
    """The plans in force, at most one of each kind."""

    rolling: Plan | None = None
    yearly: Plan | None = None
    local: LocalPlan | None = None

    @property
    def basis(self) -> tuple[str | None, str | None]:
        """Which documents of the cloud these are."""
        rolling, yearly = self.rolling, self.yearly
        return (rolling.sha256 if rolling is not None else None, yearly.sha256 if yearly is not None else None)

    def local_slot_at(self, utc_s: float) -> Slot | None:
        """What the local plan says for `utc_s`; None unless it was made from exactly these plans."""
        if self.local is None or self.local.basis != self.basis:
            return None
        return self.local.slot_at(utc_s)

    def with_local(self, local: LocalPlan | None) -> Plans:
        """These plans with this local plan over them."""
        return replace(self, local=local)

    def of(self, kind: PlanKind) -> Plan | None:
        """The plan of this kind."""
        return self.rolling if kind is PlanKind.ROLLING else self.yearly

    def replaced(self, plan: Plan) -> Plans:
        """These plans with `plan` in the place of its kind; a local plan ends with it."""
        if plan.kind is PlanKind.ROLLING:
            return Plans(plan, self.yearly)
        return Plans(self.rolling, plan)
