"""Tells of messages that somebody should look at: forged, foreign, replayed, too many; never more than a few lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.core.events import Event, EventState, Severity

EVENT_CODE = "message_refused"
TOLD_EVERY_S = 60.0
"""A reason is told at once and then at most so often, with the number of those in between: a flood fills no disk."""
REASONS: Mapping[str, Severity] = {
    "unsigned": Severity.ALARM,
    "bad_signature": Severity.ALARM,
    "unknown_key": Severity.ALARM,
    "wrong_site": Severity.ALARM,
    "wrong_kind": Severity.WARNING,
    "version_old": Severity.WARNING,
    "id_conflict": Severity.ALARM,
    "command_expired": Severity.WARNING,
    "too_large": Severity.WARNING,
    "bad_compression": Severity.WARNING,
    "not_json": Severity.WARNING,
    "rate_limited": Severity.WARNING,
}
"""The reasons that a cloud in good order never gives. The others are mistakes in what a document says."""


@dataclass(slots=True)
class _Told:
    at_mono_s: float
    more: int = 0


class SecurityLog:
    """Decides which refusals become an event."""

    def __init__(self) -> None:
        self._told: dict[str, _Told] = {}

    def event(self, topic: str, reason: str | None, detail: str | None, utc_s: float, mono_s: float) -> Event | None:
        """The event to keep and send for one refused message; None where there is none, or it was told just now."""
        severity = REASONS.get(reason or "")
        if reason is None or severity is None:
            return None
        told = self._told.get(reason)
        if told is not None and mono_s - told.at_mono_s < TOLD_EVERY_S:
            told.more += 1
            return None
        more = told.more if told is not None else 0
        self._told[reason] = _Told(mono_s)
        others = f"; {more} more for this reason since it was last told" if more else ""
        text = f"a message on {topic} has no effect, {reason}: {detail}{others}"
        return Event(
            utc_s,
            EventState.NOTED,
            severity,
            EVENT_CODE,
            "cloud",
            text,
            {"reason": reason, "topic": topic, "more": more},
        )
