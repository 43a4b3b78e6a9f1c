"""Whether the wall clock may be believed: never when it is behind a time known to be good.

The floor is that time: at start the one kept on disk, then the newest one of a clock that has run on by itself for
a while. A gateway without a battery-backed clock boots in the past; executing plans then would run yesterday's slots.
A step back would run a slot twice. A step forward counts at once, since a clock that is set right looks the same; but
it is no floor before it has lasted: one wrong answer of a time server would stop all plans until that future has come.
A wrong future that did last is a floor, and nothing that comes over a network may take it away: whoever sets the clock
could have old messages count again. Only somebody on site can, with a watch in hand (`mistaken`, `set_right`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from agent.core.decision import Condition
from agent.core.events import Severity
from agent.core.made_often import made_often

TOLERANCE_S = 2.0
"""A step back smaller than this is ordinary clock discipline."""
PROVEN_AFTER_S = 600.0
"""A clock that ran on without a step for so long is right: time servers are asked every minute or so after a start."""
EARLIEST_UTC_S = 1_704_067_200.0
"""2024-01-01: before this software was written no clock is right. The floor of a gateway that never kept a time."""
TOLD_FROM_S = 60.0
"""Steps from this on are told."""
WATCH_WITHIN_S = 300.0
"""So far the clock may be from what somebody reads off a watch."""


@made_often
@dataclass(frozen=True, slots=True)
class ClockTrust:
    """The verdict, and what the next reading is judged by."""

    trusted: bool
    floor_utc_s: float
    why: str
    proven: bool = False
    """The clock has run on without a step for `PROVEN_AFTER_S`: its time may be kept as one known to be good."""
    ahead_s: float | None = None
    """Wall clock minus monotonic clock at the newest reading; None before the first."""
    since_mono_s: float = 0.0
    """Since when there was no step."""
    stepped_s: float = 0.0
    """The last step, forward where positive."""


def judge(utc_s: float, mono_s: float, before: ClockTrust) -> ClockTrust:
    """The verdict on a wall clock that shows `utc_s`."""
    floor_utc_s = before.floor_utc_s
    ahead_s, since_mono_s, stepped_s = utc_s - mono_s, before.since_mono_s, before.stepped_s
    if before.ahead_s is None:
        since_mono_s = mono_s
    elif abs(ahead_s - before.ahead_s) > TOLERANCE_S:
        since_mono_s, stepped_s = mono_s, ahead_s - before.ahead_s
    if utc_s < floor_utc_s - TOLERANCE_S:
        why = f"the clock is {floor_utc_s - utc_s:.0f} s behind the last time known to be good"
        return ClockTrust(False, floor_utc_s, why, False, ahead_s, since_mono_s, stepped_s)
    if mono_s - since_mono_s < PROVEN_AFTER_S:
        return ClockTrust(True, floor_utc_s, "", False, ahead_s, since_mono_s, stepped_s)
    return ClockTrust(True, max(floor_utc_s, utc_s), "", True, ahead_s, since_mono_s, 0.0)


def mistaken(trust: ClockTrust, utc_s: float, watch_utc_s: float) -> str | None:
    """Why a clock that shows `utc_s` is not to be believed on the word of somebody whose watch says `watch_utc_s`."""
    if trust.trusted:
        return "the clock is trusted already"
    if utc_s < EARLIEST_UTC_S:
        return "the clock shows a time before this software was written"
    if abs(utc_s - watch_utc_s) > WATCH_WITHIN_S:
        way = "ahead of" if utc_s > watch_utc_s else "behind"
        return f"the clock is {abs(utc_s - watch_utc_s):.0f} s {way} the time that you read off your watch"
    return None


def set_right(trust: ClockTrust, utc_s: float) -> ClockTrust:
    """The verdict once somebody on site said that `utc_s` is right: it is the floor, although one before was later."""
    return replace(trust, trusted=True, floor_utc_s=utc_s, why="", proven=False)


def step_noticed(trust: ClockTrust) -> tuple[Condition, ...]:
    """The condition that the clock was set lately by more than people should miss; none otherwise."""
    if abs(trust.stepped_s) < TOLD_FROM_S:
        return ()
    way = "forward" if trust.stepped_s > 0 else "back"
    text = f"the clock was set {way} by {abs(trust.stepped_s):.0f} s; look at the time service (timedatectl)"
    return (Condition("clock_stepped", "site", Severity.WARNING, text, {"by_s": round(trust.stepped_s, 1)}),)
