"""Whether the frequency on site may move the battery: plausible, fresh and fine enough, or a named trouble.

Without a good frequency there is no response: the battery stays at its baseline and the award is told as not
answered. The last value is never held.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from agent.core.droop import MAX_AWAY_HZ, DroopTable
from agent.core.made_often import made_often
from agent.core.snapshot import Quality, Reading

BELIEVED_STEP_HZ = 1.0
"""From one reading to the next a step up to this is believed at once: the largest test step of a product is 0.5 Hz."""
CONFIRM_WITHIN_HZ = 0.5
"""A larger step is believed when the next reading stands as near to it as this; a single spike never is."""
STUCK_AFTER_S = 600.0
"""On a real day a frequency in steps of 10 mHz stands still for 83 s at most, in steps of 1 mHz for 10 s."""
LEAST_MAX_AGE_S = 1.0
MOST_MAX_AGE_S = 3.0
"""Two readings at 1 s may be lost before the response stops."""
MAX_AGE_SHARE = 0.3
"""A frequency older than this share of the time to full response cannot give that response in time."""


class Trouble(StrEnum):
    """Why a frequency is not acted on."""

    MISSING = "missing"
    STALE = "stale"
    IMPLAUSIBLE = "implausible"
    JUMPED = "jumped"
    TOO_COARSE = "too coarse"
    SUSPENDED = "suspended"
    """Not the frequency's fault: a safety latch, an override or a command says that awards are not answered."""
    TEST = "test"
    """Commissioning shifts the frequency on purpose, for an award that nobody sold: nothing of it was delivered."""


TROUBLE_TEXT: Mapping[Trouble, str] = {
    Trouble.MISSING: "the meter gives no frequency: check that it measures one and that its profile reads it",
    Trouble.STALE: "the frequency is too old for this product: check the meter's link and its poll period",
    Trouble.IMPLAUSIBLE: "the frequency cannot be true on this grid: check the meter's scale and the product's name",
    Trouble.JUMPED: "the frequency jumped further than a grid can move; it is believed once a second reading agrees",
    Trouble.TOO_COARSE: "the meter's frequency steps are too coarse for this product: use a finer meter",
    Trouble.SUSPENDED: "suspended by a safety latch, an override or a command: `ems explain` says by which",
    Trouble.TEST: "commissioning plays an award with a shifted frequency: this is no delivery",
}
"""For people: what is wrong and what to do. The battery stays at its baseline meanwhile."""


@made_often
@dataclass(frozen=True, slots=True)
class Frequency:
    """The frequency as far as it is believed; carried from tick to tick."""

    hz: float | None = None
    """None exactly when `trouble` says why."""
    read_mono_s: float = float("-inf")
    trouble: Trouble | None = Trouble.MISSING
    believed_hz: float | None = None
    """The last believed value, to judge the next step by; never acted on."""
    doubted_hz: float | None = None
    """The last reading when it was a step too large to believe."""
    since_mono_s: float = float("-inf")
    """When the believed value was first read as it is; it counts only while there is one."""


NO_FREQUENCY = Frequency()
"""Before the first reading."""


def watched(before: Frequency, reading: Reading, nominal_hz: float) -> Frequency:
    """The frequency after this reading (aged or not); the same value again when nothing new was read."""
    if reading.value is None:
        return Frequency(None, reading.read_mono_s, _TROUBLE_OF[reading.quality], before.believed_hz)
    if reading.read_mono_s == before.read_mono_s and before.trouble in _SETTLED:
        return before
    hz, at = reading.value, reading.read_mono_s
    # Written so that NaN is implausible too.
    if not abs(hz - nominal_hz) <= MAX_AWAY_HZ:
        return Frequency(None, at, Trouble.IMPLAUSIBLE, before.believed_hz)
    if before.believed_hz is not None and abs(hz - before.believed_hz) > BELIEVED_STEP_HZ:
        doubted_hz = before.doubted_hz
        if doubted_hz is None or abs(hz - doubted_hz) > CONFIRM_WITHIN_HZ:
            return Frequency(None, at, Trouble.JUMPED, before.believed_hz, hz)
    since_mono_s = before.since_mono_s if hz == before.hz else at
    return Frequency(hz, at, None, hz, None, since_mono_s)


_TROUBLE_OF = {
    Quality.GOOD: Trouble.MISSING,
    Quality.MISSING: Trouble.MISSING,
    Quality.STALE: Trouble.STALE,
    Quality.IMPLAUSIBLE: Trouble.IMPLAUSIBLE,
}
_SETTLED = (None, Trouble.JUMPED)
"""The very same reading cannot confirm itself, and need not be judged again."""


def stuck(now: Frequency) -> bool:
    """True when the meter has given the very same value for `STUCK_AFTER_S`, which no grid does.

    It is told and not acted on: a test with an injected frequency looks the same, and must be answered.
    """
    return now.hz is not None and now.read_mono_s - now.since_mono_s >= STUCK_AFTER_S


def max_age_s(table: DroopTable) -> float:
    """How old a frequency may be for this product: a share of its time to full response, 1 to 3 s."""
    return min(max(table.full_by_s * MAX_AGE_SHARE, LEAST_MAX_AGE_S), MOST_MAX_AGE_S)


def trouble(now: Frequency, table: DroopTable, mono_s: float, resolution_hz: float | None) -> Trouble | None:
    """What keeps this product from being answered at `mono_s`, or None when `now.hz` may be acted on.

    `resolution_hz` is the step of the meter's frequency register; None when the profile does not say, which is
    told by `ems doctor` and does not stop the response.
    """
    if now.trouble is not None:
        return now.trouble
    assert now.hz is not None, "a frequency without trouble has a value"
    if abs(now.hz - table.nominal_hz) > MAX_AWAY_HZ:
        return Trouble.IMPLAUSIBLE
    if mono_s - now.read_mono_s > max_age_s(table):
        return Trouble.STALE
    if resolution_hz is not None and resolution_hz > table.needed_resolution_hz:
        return Trouble.TOO_COARSE
    return None
