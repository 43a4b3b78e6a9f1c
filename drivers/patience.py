"""How long to wait for one unit, and when to leave it alone so that it does not cost the others on its line.

Pure decisions: the link passes the time in and keeps the state. A unit that failed three times in a row rests, and is
tried again with a single request (half-open); its first answer ends the rest. How long to wait for an answer follows
what was measured, as TCP does (RFC 6298), within a stated floor and ceiling, and doubles with each failure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

FAILURES_UNTIL_REST = 3
"""The fault matrix: a half-open connection is found within three failed reads."""
FIRST_REST_S = 1.0
LONGEST_REST_S = 5.0
"""The fault matrix: back within 5 s."""
LINE_SHARE = 0.05
"""On a shared line a unit that rests may take this share of the time of the line with its trials."""
LONGEST_SHARED_REST_S = 60.0
FLOOR_S = 0.3
"""Never less patient than this: a busy machine is late by itself."""
SAMPLES_UNTIL_SHORTER = 8
"""So many answers are measured before the wait becomes shorter than its ceiling."""

UnitWord = Literal["unknown", "answering", "failing", "resting", "probing"]


@dataclass(frozen=True, slots=True)
class Patience:
    """What is known of one unit."""

    samples: int = 0
    usual_s: float = 0.0
    """Its latency, smoothed."""
    spread_s: float = 0.0
    failures: int = 0
    """In a row."""
    retry_mono_s: float = float("-inf")
    """While it rests: when it may be tried again."""
    probing: bool = False
    """The one request that tries it is under way."""
    ever: bool = False
    """Whether it has answered at all."""

    @property
    def resting(self) -> bool:
        """Whether it failed so often that only single trials reach it."""
        return self.failures >= FAILURES_UNTIL_REST

    def word(self) -> UnitWord:
        """Its state for people."""
        if self.resting:
            return "probing" if self.probing else "resting"
        if self.failures:
            return "failing"
        return "answering" if self.ever else "unknown"

    def may_ask(self, now_s: float) -> bool:
        """Whether a request may go to it now."""
        return not self.resting or (not self.probing and now_s >= self.retry_mono_s)

    def timeout_s(self, ceiling_s: float) -> float:
        """How long to wait for its next answer: what it usually takes and four times its spread, at least the floor."""
        floor_s = min(FLOOR_S, ceiling_s)
        if self.samples < SAMPLES_UNTIL_SHORTER:
            return ceiling_s
        wanted_s = max(floor_s, self.usual_s + 4.0 * self.spread_s) * 2.0 ** min(self.failures, 16)
        return min(wanted_s, ceiling_s)

    def asked(self) -> Patience:
        """A request goes out."""
        return replace(self, probing=True) if self.resting else self

    def let_go(self) -> Patience:
        """The request ended without saying anything about the unit: given up by us, or the line was lost."""
        return replace(self, probing=False)

    def answered(self, latency_s: float) -> Patience:
        """It answered, after `latency_s`; a refusal is an answer."""
        if self.samples == 0:
            usual_s, spread_s = latency_s, latency_s / 2.0
        else:
            spread_s = 0.75 * self.spread_s + 0.25 * abs(latency_s - self.usual_s)
            usual_s = 0.875 * self.usual_s + 0.125 * latency_s
        return Patience(self.samples + 1, usual_s, spread_s, ever=True)

    def failed(self, now_s: float, waited_s: float, *, shared: bool) -> Patience:
        """No answer, or none that could be used, and that took the line for `waited_s`."""
        failures = self.failures + 1
        if failures < FAILURES_UNTIL_REST:
            return replace(self, failures=failures, probing=False)
        rest_s = min(FIRST_REST_S * 2.0 ** min(failures - FAILURES_UNTIL_REST, 16), LONGEST_REST_S)
        if shared:
            rest_s = min(max(rest_s, waited_s / LINE_SHARE), LONGEST_SHARED_REST_S)
        return replace(self, failures=failures, retry_mono_s=now_s + rest_s, probing=False)
