"""What the cloud keeps account of beside sequences, pure and bounded: how late things come, what became of commands."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from dataclasses import dataclass

SHORTEST_S, STEP = 1e-4, 1.1
"""Delays are counted in steps of 10 % from 0.1 ms on: as many counters as there are steps up to a month."""
REMEMBERED_COMMANDS = 20_000
SLACK_S = 60.0
"""How long after the end of its time the outcome of a command may come."""
ENDS = ("done", "failed", "expired", "rejected")


class Delays:
    """How late something comes, in bounded memory; percentiles are exact to a step."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self.count = 0
        self.worst_s = 0.0

    def take(self, seconds: float) -> None:
        """One more; clocks that disagree do not make it negative."""
        seconds = max(0.0, seconds)
        self._counts[0 if seconds <= SHORTEST_S else 1 + int(math.log(seconds / SHORTEST_S, STEP))] += 1
        self.count += 1
        self.worst_s = max(self.worst_s, seconds)

    def add(self, other: Delays) -> None:
        """All of another count too."""
        self._counts.update(other._counts)
        self.count += other.count
        self.worst_s = max(self.worst_s, other.worst_s)

    def percentile_s(self, percent: float) -> float | None:
        """So many percent were not later than this, rounded up to a step; None when nothing came."""
        wanted = self.count * percent / 100.0
        for step in sorted(self._counts):
            wanted -= self._counts[step]
            if wanted <= 1e-9:
                return min(self.worst_s, SHORTEST_S * STEP**step)
        return None

    def facts(self) -> dict[str, float | int | None]:
        """For --json; seconds."""
        p50, p90, p99 = (self.percentile_s(percent) for percent in (50, 90, 99))
        worst_s = self.worst_s if self.count else None
        found = {"p50_s": p50, "p90_s": p90, "p99_s": p99, "worst_s": worst_s}
        return {"count": self.count} | {name: None if s is None else round(s, 4) for name, s in found.items()}


@dataclass(slots=True)
class _Sent:
    at_s: float
    overdue_s: float
    """From here on its outcome is missed."""
    accepted: bool = False
    end: str | None = None


class CommandAccount:
    """Every command that was sent, against the promise that each has exactly one outcome."""

    def __init__(self) -> None:
        self.sent = 0
        self.ends: Counter[str] = Counter()
        self.twice = 0
        """Outcomes of a command that had one: forbidden."""
        self.answers = Delays()
        """From sending to accepted or rejected."""
        self._by_id: OrderedDict[str, _Sent] = OrderedDict()
        self.unanswered_forgotten = 0
        self.believed = 0
        """Accepted although it was late or forged: forbidden."""
        self._forbidden: OrderedDict[str, None] = OrderedDict()

    def forbid(self, command_id: str) -> None:
        """A command that must never be accepted."""
        self._forbidden[command_id] = None
        if len(self._forbidden) > REMEMBERED_COMMANDS:
            self._forbidden.popitem(last=False)

    def send(self, command_id: str, now_s: float, lasts_s: float) -> None:
        """A command goes out whose outcome is due `lasts_s` from now at the latest."""
        self.sent += 1
        self._by_id[command_id] = _Sent(now_s, now_s + lasts_s + SLACK_S)
        if len(self._by_id) > REMEMBERED_COMMANDS:
            _, oldest = self._by_id.popitem(last=False)
            self.unanswered_forgotten += oldest.end is None

    def take(self, command_id: str | None, stage: str, now_s: float) -> None:
        """An answer that came with a sequence of its own; those to somebody else's commands are no matter here."""
        self.believed += command_id in self._forbidden and stage == "accepted"
        known = self._by_id.get(command_id or "")
        if known is None:
            return
        if not known.accepted and known.end is None:
            self.answers.take(now_s - known.at_s)
        if stage not in ENDS:
            known.accepted = True
        elif known.end is None:
            known.end = stage
            self.ends[stage] += 1
        else:
            self.twice += 1

    @property
    def open(self) -> int:
        """Commands without an outcome yet."""
        return self.sent - sum(self.ends.values())

    def overdue(self, now_s: float) -> int:
        """Commands whose outcome should have come."""
        late = sum(1 for one in self._by_id.values() if one.end is None and now_s > one.overdue_s)
        return late + self.unanswered_forgotten
