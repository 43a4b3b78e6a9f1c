"""PV and load while battery and meter are not read at the same instant.

What the batteries do not explain at the meter is PV and load. But a meter read after a battery has moved, beside a
battery read before, shows the move as load; steering against it moves the battery back, and with a quick inverter the
site swings from limit to limit. So the power of the batteries at the meter's instant is reckoned: between the reading
before it and what came after, which is the next reading or, before there is one, the setpoint. How far along that way
the meter found them is learned, since it depends on inverters, polling and the meter's own averaging: what PV and load
do is no echo of our setpoints, so the share is right with which PV and load no longer seem to follow them.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.made_often import made_often

SAME_INSTANT_S = 0.02
"""Battery and meter read this close together show the same instant."""
REMEMBERED = 16
"""Readings and setpoints kept at most."""
FIRST_SHARE = 0.5
LEARNING = 0.2
"""Part of the error of the share that one move corrects."""
LEAST_MOVE_SHARE, LARGE_MOVE_SHARE = 0.01, 0.1
"""Of the batteries' rating. Smaller moves drown in the meter's noise and teach nothing; on larger ones a battery may
be slower than on those that taught."""
DOUBT = 0.25
"""Of a move that the meter may or may not show yet. Within it a change of PV and load is believed by half; while a
large move may be under way, nothing of what it may explain is."""

At = tuple[float, float]
"""Monotonic time, and the power then, W toward the grid."""


@made_often
@dataclass(frozen=True, slots=True)
class Pairing:
    """What one tick leaves for the next."""

    others_w: float
    """PV and load as believed, W toward the grid."""
    meter_mono_s: float
    led: tuple[str, ...]
    """The batteries that are told apart from PV and load."""
    readings: tuple[At, ...]
    """Their power together at the time of the oldest of their readings, oldest first."""
    share: float = FIRST_SHARE
    """How far the meter finds a move done: 0 as at the reading before it, 1 as at the next reading or as told."""


def paired(
    before: Pairing | None, told: tuple[At, ...], grid: At, batteries: At, *, led: tuple[str, ...], rated_w: float
) -> Pairing:
    """PV and load now, of the meter's reading and that of the batteries `led` together, at the oldest of theirs.

    `told` are the setpoints of the site up to now (`with_setpoint`), `rated_w` is the rating of its batteries together.
    """
    # At every tick of every site: plain loops and comparisons cost a third of generators, min and max.
    meter_mono_s, grid_w = grid
    if before is None or before.led != led:
        share = FIRST_SHARE if before is None else before.share
        return Pairing(grid_w - batteries[1], meter_mono_s, led, (batteries,), share)
    readings, share = before.readings, before.share
    if batteries[0] > readings[-1][0]:
        readings = (*readings[1 - REMEMBERED :], batteries)
    if meter_mono_s == before.meter_mono_s:
        return Pairing(before.others_w, meter_mono_s, led, readings, share)
    first = 0
    while first + 1 < len(readings) and readings[first + 1][0] <= meter_mono_s + SAME_INSTANT_S:
        first += 1
    # Only the reading before the meter's instant is needed, and what came later.
    readings = readings[first:]
    at_mono_s, from_w = readings[0]
    move_w = 0.0
    if meter_mono_s - at_mono_s > SAME_INSTANT_S:
        move_w = readings[1][1] - from_w if len(readings) > 1 else _ordered(told, from_w)
    still_w = grid_w - from_w
    others_w = still_w if move_w == 0.0 else _apart(before.others_w, still_w, move_w, share, rated_w)
    # What no move explains teaches nothing.
    changed_w = still_w - share * move_w - before.others_w
    if LEAST_MOVE_SHARE * rated_w <= abs(move_w) >= abs(changed_w):
        share = min(max(share + LEARNING * changed_w / move_w, 0.0), 1.0)
    return Pairing(others_w, meter_mono_s, led, readings, share)


def _apart(before_w: float, still_w: float, move_w: float, share: float, rated_w: float) -> float:
    """PV and load: `still_w` if the meter saw none of the move, less `move_w` if it saw all of it."""
    measured_w, moved_w = still_w - share * move_w, abs(move_w)
    large = moved_w > LARGE_MOVE_SHARE * rated_w
    expected_w = before_w if large else 0.5 * (before_w + measured_w)
    doubt_w = moved_w if large else DOUBT * moved_w
    low_w = max(measured_w - doubt_w, still_w if move_w < 0.0 else still_w - move_w)
    high_w = min(measured_w + doubt_w, still_w if move_w > 0.0 else still_w - move_w)
    return min(max(expected_w, low_w), high_w)


def with_setpoint(told: tuple[At, ...], now: Pairing, at_mono_s: float, setpoint_w: float) -> tuple[At, ...]:
    """The setpoints that the next tick needs: this one, those since the reading that counts, and the two before.

    The last one before that reading may still have been on its way then.
    """
    first = 0
    for at_s, _ in told:
        if at_s > now.readings[0][0]:
            break
        first += 1
    kept = told[first - 2 :] if first > 2 else told
    return (*kept[1 - REMEMBERED :], (at_mono_s, setpoint_w))


def _ordered(told: tuple[At, ...], from_w: float) -> float:
    """The move from `from_w` to the last setpoint, no larger than the setpoints moved.

    A battery that never follows them does not move either.
    """
    if not told:
        return 0.0
    low_w = high_w = last_w = told[-1][1]
    for _, power_w in told:
        if power_w < low_w:
            low_w = power_w
        elif power_w > high_w:
            high_w = power_w
    span_w = high_w - low_w
    return min(max(last_w - from_w, -span_w), span_w)
