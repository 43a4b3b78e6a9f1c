"""Whether meter, battery and PV tell one story: what the last minutes of decisions say of signs, scales and balance.

Nothing is moved to find out: whatever moved anyway is looked at. Powers are W, + toward the grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from agent.core.decision import Decision
from agent.core.plan import Target

SETTLED_S = 5.0
"""From one look to the next: longer than the lag between two devices' readings."""
MOVE_SHARE = 0.05
"""Of the rating: smaller moves of the battery drown in the load."""
LEAST_MOVES = 3
"""Moves before anything is said of the meter."""


@dataclass(frozen=True, slots=True)
class MeterFollows:
    """How the connection meter answered moves of the batteries."""

    slope: float
    """Watts at the meter for each watt of the batteries: 1 where sign and scale are right, -1 where one is reversed."""
    moves: int
    closed_loop: bool
    """True when the batteries were led by the meter: then only a wrong sign shows, not a slope below 1."""


@dataclass(frozen=True, slots=True)
class Plausibility:
    """What the last minutes say; None where they say nothing."""

    seen_s: float
    """So long ago is the oldest decision that was looked at."""
    residual_w: float | None
    """Median of grid - battery - PV: the load (<= 0), or 0 where there is none."""
    follows: MeterFollows | None
    frequency_step_hz: float | None
    """Smallest difference between two frequencies that were read; the meter's resolution or coarser."""


def plausibility(rows: Sequence[Decision], rated_w: float) -> Plausibility:
    """What `rows` (oldest first) say of a site whose batteries are rated `rated_w` together."""
    residuals = [row.load_w for row in rows if row.load_w is not None]
    return Plausibility(
        rows[-1].mono_s - rows[0].mono_s if rows else 0.0,
        median(residuals) if residuals else None,
        _follows(rows, MOVE_SHARE * rated_w),
        _frequency_step_hz([row.frequency_hz for row in rows if row.frequency_hz is not None]),
    )


def _follows(rows: Sequence[Decision], least_w: float) -> MeterFollows | None:
    """Least squares through the origin of moves of the meter (less those of PV) over moves of the batteries."""
    product = square = 0.0
    moves, closed_loop = 0, False
    begin: Decision | None = None
    for row in rows:
        if begin is None:
            begin = row
        elif row.mono_s - begin.mono_s >= SETTLED_S:
            move = _move(begin, row)
            if move is not None and abs(move[0]) >= least_w:
                product += move[0] * move[1]
                square += move[0] * move[0]
                moves += 1
                closed_loop = closed_loop or Target.GRID in {begin.target, row.target}
            begin = row
    return MeterFollows(product / square, moves, closed_loop) if moves >= LEAST_MOVES else None


def _move(begin: Decision, end: Decision) -> tuple[float, float] | None:
    """How far the batteries moved, and how far the meter did beyond PV; None where one of them was not read."""
    before, after = (begin.battery_w, begin.pv_w, begin.grid_w), (end.battery_w, end.pv_w, end.grid_w)
    moved = [new - old for old, new in zip(before, after, strict=True) if old is not None and new is not None]
    return (moved[0], moved[2] - moved[1]) if len(moved) == len(before) else None


def _frequency_step_hz(seen_hz: Sequence[float]) -> float | None:
    # To the µHz: beyond it are the roundings of a division, not steps of a meter.
    steps = [after - before for before, after in pairwise(sorted({round(hz, 6) for hz in seen_hz}))]
    return min(steps) if steps else None
