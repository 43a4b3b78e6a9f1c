"""From decoded points to readings: missing stays missing, the implausible is no number."""

from __future__ import annotations

import math
from collections.abc import Sequence

from agent.core.snapshot import NEVER, Quality, Reading
from drivers.read_plan import Read, Reads

POWER_MARGIN = 1.5
"""More than this multiple of the rating is not a measurement."""


def number(reads: Reads, key: str) -> float | None:
    """The point as a number, None if the device does not have it."""
    read = reads.get(key)
    return read.value if read is not None and isinstance(read.value, int | float) else None


def reading(reads: Reads, key: str, *, low: float = -math.inf, high: float = math.inf, sign: int = 1) -> Reading:
    """The point as a reading, times `sign`, IMPLAUSIBLE when its own value is outside `low` to `high`."""
    read = reads.get(key)
    if read is None:
        return NEVER
    return judged(read, low=low, high=high, sign=sign)


def judged(read: Read, *, low: float = -math.inf, high: float = math.inf, sign: int = 1) -> Reading:
    """One read as a reading, times `sign`, IMPLAUSIBLE when its own value is outside `low` to `high`."""
    value = read.value
    if value is None or isinstance(value, str):
        return Reading(None, read.read_mono_s, Quality.MISSING)
    if not low <= value <= high:
        return Reading(None, read.read_mono_s, Quality.IMPLAUSIBLE)
    return Reading(float(sign * value), read.read_mono_s)


def first_present(*readings: Reading) -> Reading:
    """The first reading that the device has at all, implausible or not; the last one if it has none."""
    for candidate in readings:
        if candidate.quality is not Quality.MISSING:
            return candidate
    return readings[-1]


def or_stated(seen: Reading, stated: float | None, like: Reading) -> Reading:
    """What the site file states where the device says nothing, as new as `like`; what it says, however odd, stays."""
    if stated is None or seen.quality is not Quality.MISSING or like.value is None:
        return seen
    return Reading(stated, like.read_mono_s)


def believable(power_w: Reading, *ratings_w: Reading) -> Reading:
    """The power, unless it is beyond `POWER_MARGIN` times the largest rating; without any rating it is believed."""
    most_w = POWER_MARGIN * max(rating_w.value or 0.0 for rating_w in ratings_w) or math.inf
    return power_w.within(-most_w, most_w)


def smallest(*readings: Reading) -> Reading:
    """The smallest of the values there are, as old as the oldest of them; missing if there are none."""
    present = [candidate for candidate in readings if candidate.value is not None]
    if not present:
        return readings[0]
    value = min(candidate.value for candidate in present if candidate.value is not None)
    return Reading(value, min(candidate.read_mono_s for candidate in present))


def ready(reads: Reads, states: Sequence[tuple[str, tuple[int, ...], bool]], needed: int) -> Reading:
    """1 when every state that the device tells allows power, 0 when one does not, missing when it tells none.

    Each state is a point and the values that it must have (True) or must not have (False). It must tell one of the
    first `needed` of them, else nothing is known.
    """
    if all(number(reads, key) is None for key, _, _ in states[:needed]):
        return reading(reads, states[0][0])
    told = [
        (state, (state.value in values) is wanted)
        for key, values, wanted in states
        if (state := reading(reads, key)).value is not None
    ]
    oldest_mono_s = min(state.read_mono_s for state, _ in told)
    return Reading(1.0 if all(allowed for _, allowed in told) else 0.0, oldest_mono_s)
