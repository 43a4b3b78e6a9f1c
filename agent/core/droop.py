"""How much of an award a frequency calls for: droop tables as data, piecewise linear in the deviation, both ways.

A table says which share of the award belongs to which distance from nominal, `points = ((hz, share), ...)`. Low
frequency asks for power toward the grid (+), high frequency for the mirror image (-). Two dead bands exist:

- offset: the first point lies at the edge of the dead band with share 0, so the response begins at 0 there;
- gate: the line goes through zero deviation and `gate_hz` mutes it inside, so the response steps at the edge.

The products of the markets are in `agent.core.droop_products`; a site may bring its own, which `faults` checks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from agent.core.orders import Award, Direction

MAX_AWAY_HZ = 5.0
"""No point of a table and no believable frequency is further from nominal: beyond, it is another unit or system."""
NOMINAL_HZ = (50.0, 60.0)
MAX_FULL_BY_S = 900.0
"""The slowest primary reserve is full within minutes (FCR-N: 3 min); more was meant in another unit."""
MAX_SUSTAIN_S = 4 * 3600.0
MAX_HEADROOM = 2.0
GATE_SLACK_HZ = 1e-6
"""Far below any meter's step: 50 Hz - 49.99 Hz in floating point must still count as the edge of a 10 mHz gate."""


@dataclass(frozen=True, slots=True)
class DroopTable:
    """One product: its curve and what it demands. Frequencies Hz, times s, shares of the award 0..1."""

    name: str
    nominal_hz: float
    points: tuple[tuple[float, float], ...]
    """(distance from nominal in Hz, share of the award), rising; beyond the last point its share stays."""
    full_by_s: float
    """The whole response must be there this long after the frequency moved."""
    sustain_s: float
    """A full response must last this long, in each direction sold."""
    gate_hz: float = 0.0
    """Up to and with this distance there is no response; 0 for an offset dead band or none."""
    half_by_s: float | None = None
    start_within_s: float | None = None
    power_headroom: float = 1.0
    """Power kept free per W sold."""
    opposite_headroom: float = 0.0
    """Power kept free in the direction that was not sold, per W sold (to refill after an activation)."""
    restore_within_s: float | None = None
    """Energy spent on an activation must be back after this time; None where the market does not say."""
    needed_resolution_hz: float = 0.010
    """The frequency must be known at least this finely."""
    least_droop: float = 0.0
    """The steepest curve that may be sold: change of frequency (share of nominal) per change of power (of rating)."""
    counted_with: str = ""
    """Products of one such name are paid for the same watts: at one time the largest counts, not the sum."""
    source: str = "site file"
    unsure: tuple[str, ...] = ()
    """Names of the fields that are known second-hand only: check them against the contract before selling."""

    @property
    def full_hz(self) -> float:
        """The distance from nominal at which the whole award is called."""
        return self.points[-1][0]

    @property
    def dead_band_hz(self) -> float:
        """The distance up to which nothing is called."""
        return self.gate_hz or self.points[0][0]


def share(table: DroopTable, away_hz: float) -> float:
    """The share of the award, 0..1, that `away_hz` >= 0 from nominal calls for."""
    if away_hz <= table.gate_hz + GATE_SLACK_HZ and table.gate_hz > 0.0:
        return 0.0
    before_hz, before = table.points[0]
    if away_hz <= before_hz:
        return before
    for at_hz, at in table.points:
        if away_hz < at_hz:
            return before + (at - before) * (away_hz - before_hz) / (at_hz - before_hz)
        before_hz, before = at_hz, at
    return before


def response_w(table: DroopTable, award: Award, frequency_hz: float) -> float:
    """The power toward the grid, W, on top of the baseline, that `award` owes at `frequency_hz`.

    Low frequency gives a positive, high frequency a negative power; 0 in a direction that was not sold. A frequency
    that cannot be one (not finite, further than `MAX_AWAY_HZ` from nominal) gives 0: nobody moves on nonsense.
    """
    below_hz = table.nominal_hz - frequency_hz
    if not -MAX_AWAY_HZ <= below_hz <= MAX_AWAY_HZ:
        return 0.0
    if below_hz >= 0.0:
        return 0.0 if award.direction is Direction.DOWN else share(table, below_hz) * award.power_w
    return 0.0 if award.direction is Direction.UP else -share(table, -below_hz) * award.power_w


@dataclass(frozen=True, slots=True)
class DeviceDroop:
    """The settings by which a device's own droop control (SunSpec 711) answers as the table asks."""

    dead_band_hz: float
    """DbOf and DbUf."""
    droop: float
    """KOf and KUf: change of frequency, share of nominal, for a change of power by the whole rating."""


def device_droop(table: DroopTable, award_w: float, rated_w: float) -> DeviceDroop | None:
    """What to set in a device of rating `rated_w` to delegate `award_w`; None when it cannot follow this curve.

    With the dead band at `d` and the whole award at `f`, droop = (f - d) / f0 * R / A. A device counts from the
    edge of its dead band, so a gate does not fit, nor does a curve with a knee. It goes on rising beyond the award.
    """
    if table.gate_hz > 0.0 or len(table.points) != 2 or not 0.0 < award_w <= rated_w:
        return None
    dead_band_hz = table.points[0][0]
    slope_hz = table.full_hz - dead_band_hz
    return DeviceDroop(dead_band_hz, slope_hz / table.nominal_hz * rated_w / award_w)


@dataclass(frozen=True, slots=True)
class TableFault:
    """One thing that is wrong with a table: the field, and for people what and what to do."""

    field: str
    text: str


def faults(table: DroopTable) -> tuple[TableFault, ...]:
    """Everything that is wrong with a site's own table; empty when it may be used."""
    if table.nominal_hz not in NOMINAL_HZ:
        return (TableFault("nominal_hz", f"{table.nominal_hz:g} is not a grid's frequency: write 50 or 60"),)
    found = [*_bad_points(table.points), *_bad_gate(table)]
    found += _out_of_range("full_by_s", table.full_by_s, 0.0, MAX_FULL_BY_S, "s")
    found += _out_of_range("sustain_s", table.sustain_s, 1.0, MAX_SUSTAIN_S, "s")
    for field, limit_s in (("half_by_s", table.half_by_s), ("start_within_s", table.start_within_s)):
        if limit_s is not None:
            found += _out_of_range(field, limit_s, 0.0, table.full_by_s, "s, at most full_by_s")
    if table.restore_within_s is not None:
        found += _out_of_range("restore_within_s", table.restore_within_s, 1.0, 86400.0, "s")
    found += _out_of_range("power_headroom", table.power_headroom, 1.0, MAX_HEADROOM, "times the award")
    found += _out_of_range("opposite_headroom", table.opposite_headroom, 0.0, 1.0, "times the award, not percent")
    found += _out_of_range("needed_resolution_hz", table.needed_resolution_hz, 0.0005, 1.0, "Hz")
    found += _out_of_range("least_droop", table.least_droop, 0.0, 1.0, "share of nominal frequency, not percent")
    return tuple(found)


def _bad_points(points: tuple[tuple[float, float], ...]) -> list[TableFault]:
    if len(points) < 2:
        return [TableFault("points", "a droop curve needs at least two points, for example (0.01, 0) and (0.2, 1)")]
    found: list[TableFault] = []
    for index, (away_hz, part) in enumerate(points):
        where = f"points[{index}]"
        found += _out_of_range(where, away_hz, 0.0, MAX_AWAY_HZ, "Hz from nominal, not mHz and not absolute")
        found += _out_of_range(where, part, 0.0, 1.0, "share of the award, not percent")
        if index and away_hz <= points[index - 1][0]:
            found.append(TableFault(where, "distances must rise from point to point; a step is written as a gate"))
        if index and part < points[index - 1][1]:
            found.append(TableFault(where, "shares must not fall: more deviation never calls for less"))
    if points[0][1] != 0.0:
        found.append(TableFault("points[0]", "the first share must be 0: the edge of the dead band, or nominal"))
    if points[-1][1] != 1.0:
        found.append(TableFault(f"points[{len(points) - 1}]", "the last share must be 1: the whole award"))
    return found


def _bad_gate(table: DroopTable) -> list[TableFault]:
    bad = _out_of_range("gate_hz", table.gate_hz, 0.0, MAX_AWAY_HZ, "Hz from nominal")
    if bad or table.gate_hz == 0.0 or not table.points:
        return bad
    if table.points[0][0] != 0.0:
        return [TableFault("gate_hz", "a gate needs a line through nominal: make the first point (0, 0)")]
    if table.gate_hz >= table.full_hz:
        return [TableFault("gate_hz", "the gate would mute the whole curve: it must lie below the last point")]
    return []


def _out_of_range(field: str, value: float, low: float, high: float, what: str) -> list[TableFault]:
    # NaN fails both comparisons, so it is told too.
    if math.isfinite(value) and low <= value <= high:
        return []
    return [TableFault(field, f"{value:g} is not within {low:g} to {high:g} ({what})")]
