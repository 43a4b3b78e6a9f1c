"""Whether a point of a device may be written by hand now, as far as the control of the site is concerned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.core.authority import Source


@dataclass(frozen=True, slots=True)
class HandWriteRefused:
    """Why not, and what to do next."""

    why: str
    hint: str


def refuse_hand_write(*, owned: bool, source: Source, awards: Sequence[str]) -> HandWriteRefused | None:
    """Why this write must wait, None when it may go out.

    `owned`: the control writes the point too. `source` decides at the site now. `awards` are those that are answered
    now: whatever is changed at a device then may cost the response that was sold.
    """
    if awards:
        why = f"the award {', '.join(awards)} is in force, and any change at a device may cost its response"
        hint = "wait until it ends (ems awards shows when), or suspend it: ems override set --suspend-awards"
        return HandWriteRefused(why, hint)
    if not owned or source is Source.OVERRIDE:
        return None
    if source is Source.LATCH:
        why = "the control owns this point, and the safety latch holds the batteries at 0 kW"
        return HandWriteRefused(why, "find the cause (ems status), then: ems latch reset")
    if source is Source.SAFE_MODE:
        why = "the control owns this point, and safe mode holds the batteries at 0 kW after a crash loop"
        return HandWriteRefused(why, "find the cause (journalctl -u ems-agent -p err), then: ems safe-mode end")
    if source is Source.COMMISSIONING:
        why = "the control owns this point, and the site is being commissioned"
        return HandWriteRefused(why, "wait until that is over, or end it: ems commission --stop")
    why = f"the control owns this point and writes it itself ({source} decides)"
    hint = 'take the site over first: ems override set 0 --for 10m --reason "..."; then write it within that time'
    return HandWriteRefused(why, hint)
