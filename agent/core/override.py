"""The technician's override: a power that somebody on site asks for, for a time, with a name and a reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agent.core.admission import PlanLimits, Refused, refuse_power
from agent.core.kept_text import moment, number, text_of
from agent.core.plan import Target
from agent.core.term import Term, resumed

DEFAULT_OVERRIDE_S = 1_800.0
LONGEST_OVERRIDE_S = 86_400.0
SHORTEST_OVERRIDE_S = 1.0
LONGEST_REASON = 200


@dataclass(frozen=True, slots=True)
class Override:
    """What is asked for, until when, by whom and why."""

    target: Target
    power_w: float
    """W, positive toward the grid."""
    term: Term
    set_utc_s: float
    who: str
    reason: str
    suspends_awards: bool = False
    """True when sold reserve is not answered meanwhile."""


def refuse_override(
    target: Target, power_w: float, duration_s: float, reason: str, limits: PlanLimits
) -> Refused | None:
    """Why this override cannot be, None when it can."""
    if not SHORTEST_OVERRIDE_S <= duration_s <= LONGEST_OVERRIDE_S:
        longest_h = LONGEST_OVERRIDE_S / 3600
        return Refused("bad_value", "for", f"it must end by itself: {SHORTEST_OVERRIDE_S:.0f} s to {longest_h:.0f} h")
    if not 0 < len(reason.strip()) <= LONGEST_REASON:
        return Refused("bad_value", "reason", f"a reason of 1 to {LONGEST_REASON} characters is needed")
    return refuse_power(power_w, target, limits, "power")


def override_record(override: Override) -> dict[str, Any]:
    """The override as it is kept on disk."""
    return {
        "target": override.target.value,
        "power_w": override.power_w,
        "until_utc_s": override.term.until_utc_s,
        "set_utc_s": override.set_utc_s,
        "who": override.who,
        "reason": override.reason,
        "suspends_awards": override.suspends_awards,
    }


def restored_override(record: object, at_least_utc_s: float, mono_s: float) -> Override | None:
    """The override that `override_record` wrote, with what is left of its time; None when it is over or unreadable."""
    if not isinstance(record, dict):
        return None
    try:
        override = Override(
            Target(record["target"]),
            number(record["power_w"]),
            resumed(moment(record["until_utc_s"]), at_least_utc_s, mono_s),
            moment(record["set_utc_s"]),
            text_of(record["who"]),
            text_of(record["reason"]),
            record["suspends_awards"] is True,
        )
    except (KeyError, ValueError):
        return None
    left_s = override.term.left_s(at_least_utc_s, mono_s, clock_trusted=False)
    return override if 0.0 < left_s <= LONGEST_OVERRIDE_S else None
