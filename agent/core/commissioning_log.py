"""What was seen during one step of commissioning, and what can be read off it: means, noise, arrival, crossings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, pstdev

from agent.core.commissioning_limits import (
    MOVED_SHARE,
    NO_MOVE_S,
    NOISE_SHARE,
    NOISE_SIGMAS,
    READINGS_AT_REST,
    READINGS_STEADY,
    READINGS_TAIL,
    REMAINING_SHARE,
    STEADY_S,
)


@dataclass(frozen=True, slots=True)
class Row:
    """One control tick; powers W, + toward the grid, None = not measured."""

    mono_s: float
    phase: str
    asked_w: float
    """The setpoint of the battery under trial, after every limit."""
    battery_w: float | None
    battery_mono_s: float
    meter_w: float | None
    """The connection point without PV and the other batteries: what the battery and the load do there."""
    meter_mono_s: float
    grid_w: float | None
    """The connection point as measured."""
    soc_pct: float | None
    net_wh: float | None
    """Exported less imported energy, by the meter's counters."""
    hz: float | None
    """As measured, nothing added."""
    written_mono_s: float
    """When a write of the setpoint last came to its end."""
    clips: str = ""
    """The limits that cut the setpoint."""


Point = tuple[float, float]
"""(monotonic time, value) of one reading."""


def of_phase(rows: Iterable[Row], *phases: str) -> tuple[Row, ...]:
    """The rows of these phases."""
    return tuple(row for row in rows if row.phase in phases)


def battery_points(rows: Iterable[Row]) -> list[Point]:
    """Each reading of the battery's power once, those taken before the first row left out."""
    return _fresh((row.mono_s, row.battery_mono_s, row.battery_w) for row in rows)


def meter_points(rows: Iterable[Row]) -> list[Point]:
    """The same of the connection point without PV and the other batteries."""
    return _fresh((row.mono_s, row.meter_mono_s, row.meter_w) for row in rows)


def _fresh(readings: Iterable[tuple[float, float, float | None]]) -> list[Point]:
    found: list[Point] = []
    begun_mono_s: float | None = None
    for at_mono_s, read_mono_s, value in readings:
        begun_mono_s = at_mono_s if begun_mono_s is None else begun_mono_s
        if value is None or read_mono_s < begun_mono_s or (found and read_mono_s <= found[-1][0]):
            continue
        found.append((read_mono_s, value))
    return found


def tail_mean(points: Sequence[Point], count: int = READINGS_TAIL) -> float | None:
    """The mean of the last readings; None where there are none."""
    return fmean(value for _, value in points[-count:]) if points else None


def noise_of(points: Sequence[Point]) -> float:
    """The standard deviation of the last readings from one to the next: a slow drift is none."""
    changes = [b[1] - a[1] for a, b in pairwise(points[-READINGS_AT_REST:])]
    return pstdev(changes) / math.sqrt(2.0) if len(changes) > 1 else 0.0


def restless_w(points: Sequence[Point]) -> float:
    """The standard deviation of the last readings, drift and all: what a load does by itself."""
    values = [value for _, value in points[-READINGS_AT_REST:]]
    return pstdev(values) if len(values) > 1 else 0.0


def arrived(rows: Sequence[Row], from_w: float, to_w: float, noise_w: float) -> bool:
    """True when the battery stands still after being told to go from `from_w` to `to_w`, wherever it stands.

    How far it has still to go is read off how it slows down, so that a slow device is not taken for a weak one.
    """
    points = battery_points(rows)
    if len(points) < READINGS_STEADY:
        return False
    step_w = abs(to_w - from_w)
    small_w = max(NOISE_SHARE * step_w, NOISE_SIGMAS * noise_w)
    count = max(READINGS_STEADY, sum(at_s > points[-1][0] - STEADY_S for at_s, _ in points))
    last = [value for _, value in points[-count:]]
    third = len(last) // 3
    first_w, second_w, third_w = (fmean(last[n * third : (n + 1) * third]) for n in range(3))
    moved_w = abs(third_w - from_w)
    if moved_w <= max(MOVED_SHARE * step_w, small_w) and rows[-1].mono_s - rows[0].mono_s < NO_MOVE_S:
        return step_w <= small_w
    before_w, latest_w = second_w - first_w, third_w - second_w
    if abs(latest_w) <= small_w:
        return True
    slowing = latest_w / before_w if before_w else math.inf
    if not 0.0 <= slowing < 1.0:
        return False
    return abs(latest_w) * slowing / (1.0 - slowing) <= REMAINING_SHARE * step_w


def crossing_s(points: Sequence[Point], level: float, *, rising: bool) -> float | None:
    """When the readings first passed `level`, on the line between two of them; None when they never did."""
    before: Point | None = None
    for at_s, value in points:
        if (value >= level) if rising else (value <= level):
            if before is None or value == before[1]:
                return at_s
            share = (level - before[1]) / (value - before[1])
            return before[0] + min(max(share, 0.0), 1.0) * (at_s - before[0])
        before = (at_s, value)
    return None


def settled_s(points: Sequence[Point], to_w: float, within_w: float) -> float | None:
    """From when on all readings lie within `within_w` of `to_w`; None when the last one does not."""
    since: float | None = None
    for at_s, value in points:
        if abs(value - to_w) > within_w:
            since = None
        elif since is None:
            since = at_s
    return since


def energy_wh(rows: Sequence[Row]) -> float:
    """Energy of the battery over these rows, Wh, + discharged."""
    points = battery_points(rows)
    return sum((b[0] - a[0]) * (a[1] + b[1]) / 2.0 for a, b in pairwise(points)) / 3600.0


def soc_steps(rows: Sequence[Row]) -> int:
    """How often the SoC was seen to change."""
    return sum(a != b for a, b in pairwise(_told(rows)))


def soc_change_pct(rows: Sequence[Row]) -> float | None:
    """How far the SoC moved over these rows."""
    told = _told(rows)
    return told[-1] - told[0] if len(told) > 1 else None


def soc_step_pct(rows: Sequence[Row]) -> float:
    """The smallest change of the SoC that was seen, 0 when it never changed."""
    return min((abs(b - a) for a, b in pairwise(_told(rows)) if a != b), default=0.0)


def _told(rows: Sequence[Row]) -> list[float]:
    return [row.soc_pct for row in rows if row.soc_pct is not None]
