"""Whether this agent starts again and again: then it reads and reports, and moves no power for a while (safe mode)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agent.core.kept_text import moment

CRASHES = 5
WITHIN_S = 600.0
"""A start that follows so many others within this time, none of which ended by a clean stop, is in safe mode."""
SAFE_FOR_S = 3600.0
"""Then power is moved again, and a new count begins."""


@dataclass(frozen=True, slots=True)
class Starts:
    """What is known at a start of those before, and of this one."""

    unclean_utc_s: tuple[float, ...] = ()
    """When this run and those right before it began that no clean stop ended."""
    safe_until_utc_s: float | None = None
    """The end of safe mode, None outside it."""


def started(before: Starts, utc_s: float) -> Starts:
    """With the start that happens now. A wall clock that was stepped ends no count that it might have to begin."""
    recent = tuple(at_s for at_s in before.unclean_utc_s if abs(utc_s - at_s) <= WITHIN_S)
    until_utc_s = before.safe_until_utc_s
    if until_utc_s is not None and not 0.0 < until_utc_s - utc_s <= SAFE_FOR_S:
        until_utc_s = None
    if len(recent) >= CRASHES:
        until_utc_s = utc_s + SAFE_FOR_S
    return Starts((*recent, utc_s)[-CRASHES:], until_utc_s)


def starts_record(starts: Starts) -> dict[str, Any]:
    """As it is kept on disk."""
    return {"unclean_utc_s": list(starts.unclean_utc_s), "safe_until_utc_s": starts.safe_until_utc_s}


def restored_starts(record: object) -> Starts:
    """What `starts_record` wrote; no starts where there is nothing, or nothing that can be read."""
    if not isinstance(record, dict):
        return Starts()
    until = record.get("safe_until_utc_s")
    try:
        return Starts(tuple(map(moment, record["unclean_utc_s"])), None if until is None else moment(until))
    except (KeyError, TypeError, ValueError):
        return Starts()
