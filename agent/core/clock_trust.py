"""Whether the wall clock may be believed: never when it is behind a time already seen.

The floor is the latest UTC of this run or, at start, the last one kept on disk. A gateway without a battery-backed
clock boots in the past; executing plans then would run yesterday's slots. A step back would run a slot twice.
"""

from __future__ import annotations

from dataclasses import dataclass

TOLERANCE_S = 2.0
"""A step back smaller than this is ordinary clock discipline."""


@dataclass(frozen=True, slots=True)
class ClockTrust:
    """The verdict, and the floor to judge the next reading by."""

    trusted: bool
    floor_utc_s: float
    why: str


def judge(utc_s: float, floor_utc_s: float) -> ClockTrust:
    """The verdict on a wall clock that shows `utc_s`."""
    if utc_s < floor_utc_s - TOLERANCE_S:
        why = f"the clock is {floor_utc_s - utc_s:.0f} s behind the last time known to be good"
        return ClockTrust(False, floor_utc_s, why)
    return ClockTrust(True, max(floor_utc_s, utc_s), "")
