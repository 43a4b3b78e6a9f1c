"""How a device answered lately: latencies, and errors by kind over the last hour; bounded, for people."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from drivers.errors import (
    BadReply,
    DeviceError,
    Frozen,
    IdentityMismatch,
    LinkDown,
    LinkTimeout,
    ModbusRefused,
    ModelMissing,
    NotSunSpec,
)

LATENCIES_KEPT = 300
"""Five minutes at one poll a second."""
WINDOW_MINUTES = 60
MINUTE_S = 60.0

KINDS: tuple[tuple[type[DeviceError], str], ...] = (
    (LinkTimeout, "timeout"),
    (LinkDown, "no connection"),
    (ModbusRefused, "refused"),
    (BadReply, "bad answer"),
    (IdentityMismatch, "wrong identity"),
    (NotSunSpec, "not SunSpec"),
    (ModelMissing, "model missing"),
    (Frozen, "frozen values"),
)


def kind_of(error: DeviceError) -> str:
    """The error in one or two words, the same for all errors that ask for the same action."""
    return next((name for kind, name in KINDS if isinstance(error, kind)), "other")


@dataclass(slots=True)
class _Minute:
    number: int
    polls: int = 0
    errors: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Lately:
    """The last hour of one device."""

    polls: int
    """Readings that were tried, failed ones among them."""
    errors: dict[str, int]
    """Failed ones by kind, the most frequent first."""
    latency_median_s: float | None
    latency_p95_s: float | None
    """Of the last `LATENCIES_KEPT` good readings of the whole device; None before the first."""

    @property
    def failed(self) -> int:
        """All errors together."""
        return sum(self.errors.values())

    @property
    def error_pct(self) -> float | None:
        """Errors as a share of the polls; None without polls."""
        return 100.0 * self.failed / self.polls if self.polls else None


class PollRecord:
    """Takes each poll of one device as it ends; times are monotonic s."""

    def __init__(self) -> None:
        self._latencies: deque[float] = deque(maxlen=LATENCIES_KEPT)
        self._minutes: deque[_Minute] = deque(maxlen=WINDOW_MINUTES)

    def good(self, now_mono_s: float, latency_s: float) -> None:
        """One reading came, `latency_s` after it was begun."""
        self._minute(now_mono_s).polls += 1
        self._latencies.append(latency_s)

    def failed(self, now_mono_s: float, error: DeviceError) -> None:
        """One reading did not come."""
        minute = self._minute(now_mono_s)
        minute.polls += 1
        minute.errors[kind_of(error)] += 1

    def lately(self, now_mono_s: float) -> Lately:
        """The hour before `now_mono_s`."""
        oldest = int(now_mono_s // MINUTE_S) - WINDOW_MINUTES
        minutes = [minute for minute in self._minutes if minute.number > oldest]
        errors: Counter[str] = Counter()
        for minute in minutes:
            errors.update(minute.errors)
        latencies = sorted(self._latencies)
        return Lately(
            polls=sum(minute.polls for minute in minutes),
            errors=dict(errors.most_common()),
            latency_median_s=_rank(latencies, 0.5),
            latency_p95_s=_rank(latencies, 0.95),
        )

    def _minute(self, now_mono_s: float) -> _Minute:
        number = int(now_mono_s // MINUTE_S)
        if not self._minutes or self._minutes[-1].number != number:
            self._minutes.append(_Minute(number))
        return self._minutes[-1]


def _rank(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that `share` of all do not exceed (nearest rank)."""
    return ordered[math.ceil(share * len(ordered)) - 1] if ordered else None
