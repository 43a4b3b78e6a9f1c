"""Keeps a flood of documents from filling the disk with answers: what is written is bounded, the rest is told."""

from __future__ import annotations

from enum import Enum, auto

from agent.core.records import Outcome

WINDOW_S = 60.0
MAX_PER_WINDOW = 30
"""Answers that are written in one window; a cloud that works sends a document every few minutes."""


class Written(Enum):
    """Whether an answer goes to disk and gets a sequence."""

    YES = auto()
    SAME_AGAIN = auto()
    """The same answer to the same document was written within the window."""
    FLOOD = auto()
    FLOOD_BEGINS = auto()
    """The first of a window that is too many: worth one event."""


class AnswerLimit:
    """Counts answers in windows of `WINDOW_S`."""

    def __init__(self) -> None:
        self._window_from_s = float("-inf")
        self._written: set[tuple[object, ...]] = set()
        self._flooded = False

    def judge(self, outcome: Outcome) -> Written:
        """Whether this answer is to be written, at the outcome's own time."""
        now_s = outcome.at_utc_s
        if not 0 <= now_s - self._window_from_s < WINDOW_S:
            self._window_from_s = now_s
            self._written.clear()
            self._flooded = False
        key = (outcome.kind, outcome.version, outcome.sha256, outcome.stage, outcome.reason, outcome.field)
        if key in self._written:
            return Written.SAME_AGAIN
        if len(self._written) >= MAX_PER_WINDOW:
            begins, self._flooded = not self._flooded, True
            return Written.FLOOD_BEGINS if begins else Written.FLOOD
        self._written.add(key)
        return Written.YES
