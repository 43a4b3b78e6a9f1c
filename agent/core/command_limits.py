"""Limits that the cloud narrowed for a time: they join the envelope, and only ever make it tighter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent.core.bounds import Bound, Rank
from agent.core.command import NarrowLimits
from agent.core.curtailment import ConnectionLimits
from agent.core.term import Term

OWNER = "cloud command"


@dataclass(frozen=True, slots=True)
class Narrowing:
    """One narrow_limits command while it is in force."""

    command_id: str
    limits: NarrowLimits
    term: Term

    @property
    def name(self) -> str:
        """How its bounds are called."""
        return f"narrow_limits {self.command_id}"


def standing(narrowings: Sequence[Narrowing], utc_s: float, mono_s: float, *, clock_trusted: bool) -> list[Narrowing]:
    """Those whose time is not over; after a restart with a clock that may be wrong they stand a little longer."""
    return [one for one in narrowings if not one.term.over(utc_s, mono_s, clock_trusted=clock_trusted)]


def narrowed(limits: ConnectionLimits, narrowings: Sequence[Narrowing]) -> ConnectionLimits:
    """The limits at the connection point, tightened where a narrowing is tighter."""
    for one in narrowings:
        export_w, import_w = one.limits.export_limit_w, one.limits.import_limit_w
        if export_w is not None and export_w < limits.export_w:
            limits = replace(limits, export_w=max(export_w, 0.0), export_order=one.name, owner=OWNER)
        if import_w is not None and import_w < limits.import_w:
            limits = replace(limits, import_w=max(import_w, 0.0), import_order=one.name, owner=OWNER)
    return limits


def battery_limits_bound(narrowings: Sequence[Narrowing]) -> Bound | None:
    """The power that is left to all batteries together; None where no narrowing speaks of it."""
    upper_w, lower_w, names = math.inf, -math.inf, []
    for one in narrowings:
        discharge_w, charge_w = one.limits.discharge_limit_w, one.limits.charge_limit_w
        if discharge_w is None and charge_w is None:
            continue
        names.append(one.name)
        upper_w = min(upper_w, math.inf if discharge_w is None else max(discharge_w, 0.0))
        lower_w = max(lower_w, -math.inf if charge_w is None else -max(charge_w, 0.0))
    return Bound(", ".join(names), OWNER, lower_w, upper_w, Rank.CURTAILMENT) if names else None
