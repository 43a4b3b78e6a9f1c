"""PV and load while battery and meter are not read at the same instant.

What the batteries do not explain at the meter is PV and load. But a meter read after a battery has moved, beside a
battery read before, shows the move as load; steering against it moves the battery back, and with a quick inverter the
site swings from limit to limit. So the power of the batteries at the meter's instant is reckoned: between the reading
before it and what came after, which is the next reading or, before there is one, the setpoint. How far along that way
the meter found them is learned, since it depends on inverters, polling and the meter's own averaging: what PV and load
do is no echo of our setpoints, so the share is right with which PV and load no longer seem to follow them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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


@dataclass(frozen=True, slots=True)
class Pairing:
    """What one tick leaves for the next."""

    others_w: float
    """PV and load as believed, W toward the grid."""
    meter_mono_s: float
    led: frozenset[str]
    """The batteries that are told apart from PV and load."""
    readings: tuple[At, ...]
    """Their power together at the time of the oldest of their readings; oldest first, as the setpoints."""
    setpoints: tuple[At, ...] = ()
    """Of the site, by the time they were decided."""
    share: float = FIRST_SHARE
    """How far the meter finds a move done: 0 as at the reading before it, 1 as at the next reading or as told."""

    def told(self, at_mono_s: float, setpoint_w: float) -> Pairing:
        """With the setpoint of this tick."""
        # The last one before the oldest reading that counts may still have been on its way then.
        oldest_s = self.readings[0][0]
        first = sum(at <= oldest_s for at, _ in self.setpoints)
        kept = self.setpoints[max(first - 2, 0) :][-REMEMBERED:]
        return replace(self, setpoints=(*kept, (at_mono_s, setpoint_w)))


def paired(before: Pairing | None, grid: At, batteries: At, *, led: frozenset[str], rated_w: float) -> Pairing:
    """PV and load now, of the meter's reading and that of the batteries `led` together, at the oldest of theirs.

    `rated_w` is the rating of the site's batteries together.
    """
    meter_mono_s, grid_w = grid
    if before is None or before.led != led:
        share = FIRST_SHARE if before is None else before.share
        return Pairing(grid_w - batteries[1], meter_mono_s, led, (batteries,), share=share)
    readings = before.readings
    if batteries[0] > readings[-1][0]:
        readings = (*readings, batteries)
    if meter_mono_s == before.meter_mono_s:
        return replace(before, readings=readings[-REMEMBERED:])
    earlier = sum(at <= meter_mono_s + SAME_INSTANT_S for at, _ in readings)
    # Only the reading before the meter's instant is needed, and what came later.
    readings = readings[max(earlier - 1, 0) :]
    from_w, move_w = readings[0][1], 0.0
    if meter_mono_s - readings[0][0] > SAME_INSTANT_S:
        move_w = readings[1][1] - from_w if len(readings) > 1 else _ordered(before.setpoints, from_w)
    # Without the move, and with all of it.
    ends_w = (grid_w - from_w, grid_w - from_w - move_w)
    measured_w = ends_w[0] - before.share * move_w
    changed_w, moved_w, share = measured_w - before.others_w, abs(move_w), before.share
    if LEAST_MOVE_SHARE * rated_w <= moved_w >= abs(changed_w):
        share = min(max(share + LEARNING * changed_w / move_w, 0.0), 1.0)
    large = moved_w > LARGE_MOVE_SHARE * rated_w
    expected_w, doubt_w = before.others_w + (0.0 if large else 0.5 * changed_w), moved_w if large else DOUBT * moved_w
    low_w, high_w = max(measured_w - doubt_w, min(ends_w)), min(measured_w + doubt_w, max(ends_w))
    others_w = min(max(expected_w, low_w), high_w)
    return Pairing(others_w, meter_mono_s, led, readings[-REMEMBERED:], before.setpoints, share)


def _ordered(setpoints: tuple[At, ...], from_w: float) -> float:
    """The move from `from_w` to the last setpoint, no larger than the setpoints moved.

    A battery that never follows them does not move either.
    """
    if not setpoints:
        return 0.0
    powers_w = [power_w for _, power_w in setpoints]
    span_w = max(powers_w) - min(powers_w)
    return min(max(powers_w[-1] - from_w, -span_w), span_w)
