"""What each PV inverter is known to hold as its power ceiling, and whether it must be written to now.

A lower ceiling is written at once, a higher one after a pause, so that a cloud edge does not write every tick. A
ceiling is refreshed before the device's own timer ends it; without one, nothing is ever written. The limit of an
inverter that may be limited belongs to the agent: one that is found and not wanted (left over from before a restart,
or of somebody else) is released, one that went missing is written again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from agent.core.envelope_rules import PvRules
from agent.core.made_often import made_often
from agent.core.snapshot import CeilingOutcome, PvSample
from agent.core.writes import FIRST_RETRY_S, FOLLOW_SHARE, FOLLOW_WITHIN_S, LONGEST_RETRY_S, REFRESH_SHARE


class PvWriteReason(StrEnum):
    """Why a ceiling is written."""

    TIGHTER = "ceiling fell"
    LOOSER = "ceiling rose"
    RELEASE = "ceiling ended"
    REFRESH = "timer refresh"
    RETRY = "last write failed"
    LOST = "inverter holds something else"


@made_often
@dataclass(frozen=True, slots=True)
class PvLine:
    """The ledger line of one PV inverter."""

    device_id: str
    owned_w: float | None = None
    """The ceiling confirmed by read-back; None when the device holds none of ours."""
    wrote: bool = False
    """True once a ceiling was sent, confirmed or not, until its release is confirmed."""
    in_flight: bool = False
    failures: int = 0
    last_done_mono_s: float = float("-inf")
    obeyed_mono_s: float | None = None
    """When its power was last under the confirmed ceiling; None while there is none."""


@made_often
@dataclass(frozen=True, slots=True)
class PvState:
    """What limiting PV remembers from tick to tick."""

    lines: tuple[PvLine, ...] = ()
    ceiling_w: float | None = None
    """For all inverters that may be limited together; None = none."""
    rest_w: tuple[tuple[float, float], ...] = ()
    """What everything but them and the batteries gave lately, with its times."""
    kept_mono_s: float | None = None
    """When the export limit was last kept, as far as the setpoints can tell; None before the first tick."""


@dataclass(frozen=True, slots=True)
class CeilingWrite:
    """Asks the shell to write one inverter's ceiling (None = none), once, and to report the read-back."""

    device_id: str
    ceiling_w: float | None
    reason: PvWriteReason


def pv_settled(line: PvLine, held_w: float | None, done_mono_s: float, *, ok: bool) -> PvLine:
    """The line after a write ended; `held_w` is what was read back, None = no ceiling is in force."""
    if not ok:
        return replace(line, in_flight=False, failures=line.failures + 1, last_done_mono_s=done_mono_s)
    obeyed_mono_s = line.obeyed_mono_s if held_w is not None else None
    return PvLine(line.device_id, held_w, held_w is not None, last_done_mono_s=done_mono_s, obeyed_mono_s=obeyed_mono_s)


def pv_sent(line: PvLine) -> PvLine:
    """The line after its write was handed to the shell."""
    return replace(line, in_flight=True, wrote=True)


def pv_done(line: PvLine, outcome: CeilingOutcome) -> PvLine:
    """The line after the write that `outcome` tells of."""
    return pv_settled(line, outcome.held_w, outcome.done_mono_s, ok=outcome.ok)


def pv_watched(line: PvLine, now: PvSample, rules: PvRules, now_mono_s: float) -> PvLine:
    """The line after comparing the inverter's power with its confirmed ceiling."""
    if line.owned_w is None or now.power_w.value is None:
        return line
    if line.obeyed_mono_s is not None and now.power_w.value > line.owned_w + FOLLOW_SHARE * rules.rated_w:
        return line
    # Written out: `replace` costs a tick more than all of this function.
    return PvLine(
        line.device_id, line.owned_w, line.wrote, line.in_flight, line.failures, line.last_done_mono_s, now_mono_s
    )


def pv_not_following(line: PvLine, now_mono_s: float) -> bool:
    """True when a confirmed ceiling has been exceeded for `FOLLOW_WITHIN_S`."""
    since = line.obeyed_mono_s
    return line.owned_w is not None and since is not None and now_mono_s - since > FOLLOW_WITHIN_S


def pv_due(
    line: PvLine, ceiling_w: float | None, rules: PvRules, now_mono_s: float, now: PvSample | None = None
) -> PvWriteReason | None:
    """Why `ceiling_w` (None = no ceiling) must be written now, or None when nothing is to be done."""
    if line.in_flight:
        return None
    since_s = now_mono_s - line.last_done_mono_s
    if line.failures:
        pause_s = min(FIRST_RETRY_S * 2 ** min(line.failures - 1, 8), LONGEST_RETRY_S)
        wanted = line.wrote or ceiling_w is not None
        return PvWriteReason.RETRY if wanted and since_s >= pause_s else None
    strange = now is not None and _strange(line, rules, now)
    if ceiling_w is None:
        if line.wrote:
            return PvWriteReason.RELEASE
        return PvWriteReason.RELEASE if strange and since_s >= LONGEST_RETRY_S else None
    if line.owned_w is None or ceiling_w < line.owned_w - rules.dead_band_w:
        return PvWriteReason.TIGHTER
    if ceiling_w == 0.0 and line.owned_w != 0.0:
        return PvWriteReason.TIGHTER
    if strange and since_s >= FIRST_RETRY_S:
        return PvWriteReason.LOST
    if ceiling_w > line.owned_w + rules.dead_band_w and since_s >= rules.loosen_after_s:
        return PvWriteReason.LOOSER
    ends_by_itself = rules.dead_man_s is not None and (now is None or now.has_dead_man is not False)
    if ends_by_itself and rules.dead_man_s is not None and since_s >= rules.dead_man_s * REFRESH_SHARE:
        return PvWriteReason.REFRESH
    return None


def _strange(line: PvLine, rules: PvRules, now: PvSample) -> bool:
    """True when a reading newer than our last write shows another ceiling than ours, or one that is not ours."""
    if now.limited.value is None or now.limited.read_mono_s <= line.last_done_mono_s:
        return False
    if line.owned_w is None or now.limited.value == 0.0:
        return (line.owned_w is None) != (now.limited.value == 0.0)
    return now.ceiling_w.value is not None and abs(now.ceiling_w.value - line.owned_w) > max(rules.dead_band_w, 1.0)
