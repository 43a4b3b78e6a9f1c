"""How well a response was given: the figures by which a market would judge it.

The promise at an instant is baseline + what the awards owe at that frequency. The measured power must lie, within
the tolerance, between the least and the most that was promised during the allowed response time before. The plain
distance to the promise of the same instant is told beside it, so that a wide window hides nothing.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agent.core.awards import Sold, expected_w
from agent.core.evidence import EvidenceRow
from agent.core.frequency import Trouble

TOLERANCE_SHARE = 0.01
"""Of the award: within this of what was promised counts as delivered."""
STEP_SHARE = 0.2
"""A promise that moves by this share of the award between two samples is a step whose response time is measured."""
HOLD_SHARE = 0.05
"""A step counts as long as the promise then stays within this share of the award."""
DONE_SHARE = 0.9
TIME_SLACK_S = 1e-9
"""Ticks of 0.1 s do not add up exactly in floating point."""


@dataclass(frozen=True, slots=True)
class ResponseSample:
    """What was promised and what was measured at one instant, W toward the grid; None = not measured."""

    at_s: float
    promised_w: float | None
    measured_w: float | None


@dataclass(frozen=True, slots=True)
class Compliance:
    """The judgement of one run; shares 0..1, errors in % of the award."""

    samples: int
    judged: int
    """Samples with promise and measurement."""
    within: int
    """Judged samples inside the tolerance after the allowed time."""
    error_mean_pct: float | None
    """Mean distance to the promise of the same instant."""
    error_max_pct: float | None
    miss_max_pct: float | None
    """Largest distance outside the tolerated window."""
    steps: int
    response_time_s: float | None
    """The longest time from a step to 90 % of it; infinite when one was never reached; None without a step."""

    @property
    def share_within(self) -> float | None:
        """Share of all samples that are within tolerance; what was not measured was not delivered."""
        return self.within / self.samples if self.samples else None


def samples_of(rows: Iterable[EvidenceRow], lines: tuple[Sold, ...]) -> Iterator[ResponseSample]:
    """The evidence rows as samples: the promise is worked out anew from frequency, baseline and awards.

    Seconds in which commissioning played an award are none.
    """
    for row in rows:
        if row.trouble is Trouble.TEST:
            continue
        promised_w = None
        if row.frequency_hz is not None and row.baseline_w is not None:
            promised_w = row.baseline_w + expected_w(lines, row.frequency_hz)
        yield ResponseSample(float(row.utc_s), promised_w, row.power_w)


def judge_response(samples: Iterable[ResponseSample], award_w: float, allowed_s: float) -> Compliance:
    """The judgement of `samples` in rising time, for `award_w` > 0 sold and `allowed_s` >= 0 to respond."""
    judge = Judge(award_w, allowed_s)
    for sample in samples:
        judge.hear(sample)
    return judge.verdict()


class Judge:
    """Judges a response sample by sample, in constant memory; `verdict` tells what it came to so far."""

    def __init__(self, award_w: float, allowed_s: float) -> None:
        """`award_w` > 0 was sold, and the response may take `allowed_s` >= 0."""
        assert award_w > 0.0, "an award is above 0"
        assert allowed_s >= 0.0, "a response takes time"
        self._award_w = award_w
        self._count = self._judged = self._within = 0
        self._error_sum_w = self._error_max_w = self._miss_max_w = 0.0
        self._low, self._high = _Window(allowed_s, -1.0), _Window(allowed_s, 1.0)
        self._clock = _StepClock(award_w)

    def hear(self, sample: ResponseSample, *, counts: bool = True) -> bool | None:
        """Whether this sample is within tolerance, None when it cannot be judged; samples come in rising time.

        One that does not count only fills the window of what was promised before: for the time until a response
        that has just been sold must be there.
        """
        self._count += counts
        if sample.promised_w is None:
            return None
        least_w = self._low.after(sample.at_s, sample.promised_w)
        most_w = self._high.after(sample.at_s, sample.promised_w)
        self._clock.after(sample)
        if sample.measured_w is None or not counts:
            return None
        self._judged += 1
        error_w = abs(sample.measured_w - sample.promised_w)
        miss_w = max(least_w - sample.measured_w, sample.measured_w - most_w, 0.0)
        self._error_sum_w += error_w
        self._error_max_w = max(self._error_max_w, error_w)
        self._miss_max_w = max(self._miss_max_w, miss_w)
        fine = miss_w <= TOLERANCE_SHARE * self._award_w
        self._within += fine
        return fine

    def verdict(self) -> Compliance:
        """The judgement of all samples so far."""
        percent, judged = 100.0 / self._award_w, self._judged
        return Compliance(
            samples=self._count,
            judged=judged,
            within=self._within,
            error_mean_pct=self._error_sum_w / judged * percent if judged else None,
            error_max_pct=self._error_max_w * percent if judged else None,
            miss_max_pct=self._miss_max_w * percent if judged else None,
            steps=self._clock.steps,
            response_time_s=self._clock.finished(),
        )


class _Window:
    """The most (sign +1) or least (sign -1) of the values of the last `length_s`, in constant time per value."""

    def __init__(self, length_s: float, sign: float) -> None:
        self._length_s, self._sign = length_s, sign
        self._falling: deque[tuple[float, float]] = deque()

    def after(self, at_s: float, value: float) -> float:
        falling, signed = self._falling, value * self._sign
        while falling and falling[-1][1] <= signed:
            falling.pop()
        falling.append((at_s, signed))
        while falling[0][0] < at_s - self._length_s - TIME_SLACK_S:
            falling.popleft()
        return falling[0][1] * self._sign


class _StepClock:
    """Times each step of the promise until the measurement has made 90 % of it."""

    def __init__(self, award_w: float) -> None:
        self._award_w = award_w
        self._last: ResponseSample | None = None
        self._from: tuple[float, float, float] | None = None
        """Start of the running step: instant, measured power before, promised power after."""
        self._worst_s: float | None = None
        self.steps = 0

    def after(self, sample: ResponseSample) -> None:
        last, promised_w = self._last, sample.promised_w
        self._last = sample
        if last is None or last.promised_w is None or promised_w is None:
            return
        if abs(promised_w - last.promised_w) >= STEP_SHARE * self._award_w and last.measured_w is not None:
            # The measurement before the step, so that a lagging device is not credited for an old movement.
            self.steps += self._from is None
            self._from = (sample.at_s, last.measured_w, promised_w)
        if self._from is None:
            return
        since_s, from_w, to_w = self._from
        if abs(promised_w - to_w) > HOLD_SHARE * self._award_w:
            # The promise moved on before this step was made: it measures nothing.
            self._from = None
            self.steps -= 1
            return
        if sample.measured_w is None:
            return
        if to_w == from_w or (sample.measured_w - from_w) / (to_w - from_w) >= DONE_SHARE:
            self._worst_s = max(self._worst_s or 0.0, sample.at_s - since_s)
            self._from = None

    def finished(self) -> float | None:
        """The longest time; infinite while a step is still open."""
        return math.inf if self._from is not None else self._worst_s
