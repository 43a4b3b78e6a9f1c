"""From decoded points to readings: missing stays missing, the implausible is no number."""

from __future__ import annotations

import math

from agent.core.snapshot import NEVER, Quality, Reading
from drivers.read_plan import Read, Reads


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


def smallest(*readings: Reading) -> Reading:
    """The smallest of the values there are, as old as the oldest of them; missing if there are none."""
    present = [candidate for candidate in readings if candidate.value is not None]
    if not present:
        return readings[0]
    value = min(candidate.value for candidate in present if candidate.value is not None)
    return Reading(value, min(candidate.read_mono_s for candidate in present))
