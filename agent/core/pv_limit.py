"""What each PV inverter is known to hold as its power ceiling, and whether it must be written to now.

A lower ceiling is written at once, a higher one after a pause, so that a cloud edge does not write every tick. A
ceiling is refreshed before the device's own timer ends it; without one, nothing is ever written.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from agent.core.envelope_rules import PvRules
from agent.core.writes import FIRST_RETRY_S, LONGEST_RETRY_S, REFRESH_SHARE


class PvWriteReason(StrEnum):
    """Why a ceiling is written."""

    TIGHTER = "ceiling fell"
    LOOSER = "ceiling rose"
    RELEASE = "ceiling ended"
    REFRESH = "timer refresh"
    RETRY = "last write failed"


@dataclass(frozen=True, slots=True)
class PvLine:
    """The ledger line of one PV inverter; it must survive a restart, or a forgotten ceiling would stay for ever."""

    device_id: str
    owned_w: float | None = None
    """The ceiling confirmed by read-back; None when the device holds none of ours."""
    wrote: bool = False
    """True once a ceiling was sent, confirmed or not, until its release is confirmed."""
    in_flight: bool = False
    failures: int = 0
    last_done_mono_s: float = float("-inf")


def pv_settled(line: PvLine, held_w: float | None, done_mono_s: float, *, ok: bool) -> PvLine:
    """The line after a write ended; `held_w` is what was read back, None = no ceiling is in force."""
    if not ok:
        return replace(line, in_flight=False, failures=line.failures + 1, last_done_mono_s=done_mono_s)
    return PvLine(line.device_id, held_w, wrote=held_w is not None, last_done_mono_s=done_mono_s)


def pv_sent(line: PvLine) -> PvLine:
    """The line after its write was handed to the shell."""
    return replace(line, in_flight=True, wrote=True)


def pv_due(line: PvLine, ceiling_w: float | None, rules: PvRules, now_mono_s: float) -> PvWriteReason | None:
    """Why `ceiling_w` (None = no ceiling) must be written now, or None when nothing is to be done."""
    if line.in_flight:
        return None
    since_s = now_mono_s - line.last_done_mono_s
    if line.failures:
        pause_s = min(FIRST_RETRY_S * 2 ** min(line.failures - 1, 8), LONGEST_RETRY_S)
        wanted = line.wrote or ceiling_w is not None
        return PvWriteReason.RETRY if wanted and since_s >= pause_s else None
    if ceiling_w is None:
        return PvWriteReason.RELEASE if line.wrote else None
    if line.owned_w is None or ceiling_w < line.owned_w - rules.dead_band_w:
        return PvWriteReason.TIGHTER
    if ceiling_w == 0.0 and line.owned_w != 0.0:
        return PvWriteReason.TIGHTER
    if ceiling_w > line.owned_w + rules.dead_band_w and since_s >= rules.loosen_after_s:
        return PvWriteReason.LOOSER
    if rules.dead_man_s is not None and since_s >= rules.dead_man_s * REFRESH_SHARE:
        return PvWriteReason.REFRESH
    return None
