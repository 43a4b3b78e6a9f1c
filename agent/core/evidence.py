"""The 1 s evidence of what an award called for and what was given, as values; the store keeps them 60 days.

A control tick may be faster than a second: its ticks are averaged into whole UTC seconds. A second without a tick
leaves a row of its own with `ticks = 0` and no measurements, so that a gap is seen and never filled in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from agent.core.awards import Sold, sold_w
from agent.core.frequency import Trouble
from agent.core.made_often import made_often

MAX_GAP_ROWS = 60
"""A longer hole (the process was down, the clock stepped) is left to the store's own gap record."""


@made_often
@dataclass(frozen=True, slots=True)
class EvidenceTick:
    """One control tick while awarded. Powers W toward the grid; None = not measured."""

    utc_s: float
    frequency_hz: float | None
    power_w: float | None
    """Measured battery power."""
    baseline_w: float
    """Battery power that would have been asked for without the response."""
    award_up_w: float
    """Sold toward the grid, >= 0."""
    award_down_w: float
    """Sold from the grid, >= 0."""
    response_w: float
    """Asked for on top of the baseline, after limits."""
    clock_trusted: bool
    award_ids: tuple[str, ...]
    trouble: Trouble | None = None
    """Why there was no response, if the frequency was not good."""


@dataclass(frozen=True, slots=True)
class EvidenceRow:
    """One whole UTC second: the means of its ticks, `None` where none of them measured."""

    utc_s: int
    frequency_hz: float | None
    power_w: float | None
    baseline_w: float | None
    award_up_w: float
    award_down_w: float
    response_w: float | None
    clock_trusted: bool
    """True when the clock was trusted at every tick."""
    award_ids: tuple[str, ...]
    trouble: Trouble | None
    """The last trouble within the second."""
    ticks: int


def evidence_tick(
    utc_s: float,
    lines: tuple[Sold, ...],
    *,
    frequency_hz: float | None,
    power_w: float | None,
    baseline_w: float,
    setpoint_w: float,
    clock_trusted: bool,
    trouble: Trouble | None,
) -> EvidenceTick:
    """The evidence of this tick; the response is what is left of the setpoint without the baseline."""
    up_w, down_w = sold_w(lines)
    ids = tuple(line.award.award_id for line in lines)
    response_w = setpoint_w - baseline_w
    return EvidenceTick(utc_s, frequency_hz, power_w, baseline_w, up_w, down_w, response_w, clock_trusted, ids, trouble)


@dataclass(frozen=True, slots=True)
class Gathering:
    """The ticks of the second that is not over yet."""

    second: int
    ticks: tuple[EvidenceTick, ...]


def gather(before: Gathering | None, tick: EvidenceTick | None) -> tuple[Gathering | None, tuple[EvidenceRow, ...]]:
    """What is gathered after this tick, and the rows of the seconds that are over.

    `None` as tick ends the evidence (no award any more): the open second is closed as it is. Seconds that were
    skipped between two ticks become rows without measurements. A clock that steps back closes the second too.
    """
    if tick is None:
        return None, (_row(before),) if before is not None else ()
    second = math.floor(tick.utc_s)
    if before is None:
        return Gathering(second, (tick,)), ()
    if second == before.second:
        return Gathering(second, (*before.ticks, tick)), ()
    rows = [_row(before)]
    skipped = range(before.second + 1, second)
    if 0 < len(skipped) <= MAX_GAP_ROWS:
        rows += [_gap(at, before.ticks[-1]) for at in skipped]
    return Gathering(second, (tick,)), tuple(rows)


def _row(gathered: Gathering) -> EvidenceRow:
    ticks, last = gathered.ticks, gathered.ticks[-1]
    return EvidenceRow(
        utc_s=gathered.second,
        frequency_hz=_mean([tick.frequency_hz for tick in ticks]),
        power_w=_mean([tick.power_w for tick in ticks]),
        baseline_w=_mean([tick.baseline_w for tick in ticks]),
        award_up_w=last.award_up_w,
        award_down_w=last.award_down_w,
        response_w=_mean([tick.response_w for tick in ticks]),
        clock_trusted=all(tick.clock_trusted for tick in ticks),
        award_ids=last.award_ids,
        trouble=next((tick.trouble for tick in reversed(ticks) if tick.trouble is not None), None),
        ticks=len(ticks),
    )


def _gap(second: int, last: EvidenceTick) -> EvidenceRow:
    return EvidenceRow(
        second, None, None, None, last.award_up_w, last.award_down_w, None, False, last.award_ids, None, 0
    )


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
