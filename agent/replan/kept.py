"""What the re-planner keeps on disk, as JSON: the local plan in force and the means of past days."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from agent.core.forecast import BINS, DayProfile
from agent.core.kept_text import moment, number, read_back, text_of
from agent.core.plan import LocalPlan, Slot, Target
from agent.core.replan_request import MAX_SLOTS


@dataclass(frozen=True, slots=True)
class Kept:
    """What a start goes on with."""

    local: LocalPlan | None = None
    profile: DayProfile = DayProfile()  # noqa: RUF009 (frozen)


def kept_json(kept: Kept) -> str:
    """To be read by `kept_from_json`."""
    local = asdict(kept.local) if kept.local is not None else None
    content = {"local": local, "others_w": kept.profile.others_w}
    return json.dumps(content, allow_nan=False, separators=(",", ":"))


def kept_from_json(text: str | None) -> Kept:
    """What was kept; what does not read well (an older agent wrote it, or the disk garbled it) is left out."""
    try:
        content = read_back(text or "{}")
        if not isinstance(content, dict):
            return Kept()
    except ValueError:
        return Kept()
    return Kept(_local(content.get("local")), _profile(content.get("others_w")))


def _local(content: Any) -> LocalPlan | None:
    try:
        slots = tuple(_slot(slot) for slot in content["slots"])
        rolling, yearly = (None if sha256 is None else text_of(sha256) for sha256 in content["basis"])
        local = LocalPlan(
            moment(content["made_utc_s"]),
            (rolling, yearly),
            slots,
            content["by_rule"] is True,
            text_of(content["why"]),
            _optional(content["soc_pct"]),
        )
    except (KeyError, TypeError, ValueError):
        return None
    ordered = all(before.end_utc_s <= after.start_utc_s for before, after in pairwise(slots))
    return local if ordered and 0 < len(slots) <= MAX_SLOTS else None


def _slot(content: Any) -> Slot:
    start_utc_s, end_utc_s = moment(content["start_utc_s"]), moment(content["end_utc_s"])
    if not start_utc_s < end_utc_s:
        raise ValueError("a slot ends after it begins")
    return Slot(
        start_utc_s,
        end_utc_s,
        number(content["power_w"]),
        Target(content["target"]),
        _optional(content["soc_end_pct"]),
        _optional(content["promised_w"]),
    )


def _profile(content: Any) -> DayProfile:
    try:
        others_w = tuple(_optional(value) for value in content)
    except (TypeError, ValueError):
        return DayProfile()
    return DayProfile(others_w) if len(others_w) == BINS else DayProfile()


def _optional(value: Any) -> float | None:
    return None if value is None else number(value)
