"""Keeps a flood of documents from filling the disk with answers: what is written is bounded, the rest is told."""

from __future__ import annotations

from enum import Enum, auto

from agent.core.records import Outcome

WINDOW_S = 60.0
MAX_PER_WINDOW = 30
"""Answers that are written in any `WINDOW_S`; a cloud that works sends a document every few minutes."""


class Written(Enum):
    """Whether an answer goes to disk and gets a sequence."""

    YES = auto()
    SAME_AGAIN = auto()
    """The same answer to the same document was written in the last `WINDOW_S`."""
    FLOOD = auto()
    FLOOD_BEGINS = auto()
    """The first that is too many, or the first after a minute of them: worth one event."""


class AnswerLimit:
    """Counts the answers of the last `WINDOW_S`."""

    def __init__(self) -> None:
        self._written_at_s: dict[tuple[object, ...], float] = {}
        self._flood_told_s = float("-inf")

    def judge(self, outcome: Outcome) -> Written:
        """Whether this answer is to be written, at the outcome's own time."""
        now_s = outcome.at_utc_s
        self._written_at_s = {key: at_s for key, at_s in self._written_at_s.items() if _lately(at_s, now_s)}
        key = (outcome.kind, outcome.version, outcome.sha256, outcome.stage, outcome.reason, outcome.field)
        if key in self._written_at_s:
            return Written.SAME_AGAIN
        if len(self._written_at_s) < MAX_PER_WINDOW:
            self._written_at_s[key] = now_s
            return Written.YES
        if _lately(self._flood_told_s, now_s):
            return Written.FLOOD
        self._flood_told_s = now_s
        return Written.FLOOD_BEGINS


def _lately(at_s: float, now_s: float) -> bool:
    """Within the last `WINDOW_S`; what the clock was set back behind is forgotten."""
    return 0 <= now_s - at_s < WINDOW_S
