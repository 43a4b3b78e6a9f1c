"""From the points of a profile to the readings of a role: our units, our sign, missing and implausible kept apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from agent.core.latch import Alarm
from agent.core.snapshot import NEVER, Quality, Reading
from drivers.profile.conditions import holds
from drivers.profile.model import ASK_SITE, TOWARD_GRID, Alarms, Combined, Condition, Point, Profile, Source
from drivers.profile.units import UNITS
from drivers.read_plan import Reads
from drivers.readings import first_present, judged, smallest
from drivers.spec import Positive

ALARMS: Final = {
    "emergency_stop": Alarm.E_STOP,
    "breaker_open": Alarm.BREAKER,
    "bms_fault": Alarm.BMS_FAULT,
    "insulation_fault": Alarm.INSULATION,
}
"""What each key of `[battery.alarms]` means to the safety latch."""
FACTORS: Final = {name: float(unit.factor) for name, unit in UNITS.items()}


def names_in(source: Source | None) -> list[str]:
    """The points that a reading is made of."""
    if source is None:
        return []
    if isinstance(source, str):
        return [source]
    terms = source.sum or source.product or source.first or source.smallest or []
    return [name for term in terms for name in ([term] if isinstance(term, str) else term)]


def to_inside(point: Point) -> float:
    """Factor from the point's unit to the one used inside."""
    return FACTORS[point.unit]


def toward_grid(point: Point, positive: Positive | None) -> int:
    """Factor from the point's direction to ours; `positive` is what the site file says of a meter, where it does."""
    if positive is not None:
        return TOWARD_GRID[positive]
    assert point.positive != ASK_SITE, "the site file was checked"
    return TOWARD_GRID.get(point.positive or "", 1)


class Values:
    """Readings out of one poll. `positive` is what the site file says of a meter's power."""

    def __init__(self, profile: Profile, reads: Reads, positive: Positive | None = None) -> None:
        self._profile = profile
        self._reads = reads
        self._positive = positive

    def reading(self, source: Source | None) -> Reading:
        """The reading that the profile describes; NEVER where it describes none."""
        if source is None:
            return NEVER
        if isinstance(source, str):
            return self.point(source)
        return self._combined(source)

    def point(self, name: str) -> Reading:
        """One point in our unit, directed points in our sign."""
        read = self._reads.get(name)
        if read is None:
            return NEVER
        point = self._profile.points[name]
        low, high = point.plausible or (-math.inf, math.inf)
        seen = judged(read, low=low, high=high)
        if seen.value is None:
            return seen
        directed = point.positive in TOWARD_GRID or point.positive == ASK_SITE
        sign = toward_grid(point, self._positive) if directed else 1
        return Reading(_times(seen.value, sign, to_inside(point)), seen.read_mono_s)

    def ready(self, conditions: Sequence[Condition], power: Reading) -> Reading:
        """1 while all conditions hold, 0 when one does not, missing while one that could deny it has no value.

        Without conditions a battery that tells its power is ready.
        """
        if not conditions:
            return Reading(1.0, power.read_mono_s) if power.value is not None else power
        verdicts = [holds(self._profile, condition, self._reads) for condition in conditions]
        times = [read.read_mono_s for one in conditions if (read := self._reads.get(one.point)) is not None]
        read_mono_s = min(times, default=-math.inf)
        if False in verdicts:
            return Reading(0.0, read_mono_s)
        return Reading(None, read_mono_s, Quality.MISSING) if None in verdicts else Reading(1.0, read_mono_s)

    def alarms(self, alarms: Alarms) -> Reading:
        """The sum of the alarms that stand (`agent.core.latch.Alarm`); missing while no point tells any."""
        stated = [(ALARMS[name], condition) for name in ALARMS for condition in getattr(alarms, name)]
        verdicts = [(alarm, holds(self._profile, condition, self._reads)) for alarm, condition in stated]
        told = [read for _, condition in stated if (read := self._reads.get(condition.point)) is not None]
        if all(verdict is None for _, verdict in verdicts) or not told:
            return NEVER
        found = Alarm(0)
        for alarm, verdict in verdicts:
            found |= alarm if verdict else Alarm(0)
        return Reading(float(found), min(read.read_mono_s for read in told))

    def _combined(self, source: Combined) -> Reading:
        if source.sum is not None:
            return _joined((self.point(name) for name in source.sum), sum)
        if source.product is not None:
            return self._product(source.product)
        if source.first is not None:
            return first_present(*(self.point(name) for name in source.first))
        assert source.smallest is not None
        return smallest(
            *(self.point(term) if isinstance(term, str) else self._product(term) for term in source.smallest)
        )

    def _product(self, names: Iterable[str]) -> Reading:
        names = list(names)
        # A share counts as a part of one where it multiplies something else.
        shares = sum(UNITS[self._profile.points[name].unit].dimension == "share" for name in names)
        return _joined((self.point(name) for name in names), lambda values: math.prod(values) / 100.0**shares)


def _joined(readings: Iterable[Reading], join: Callable[[list[float]], float]) -> Reading:
    parts = list(readings)
    lacking = next((part for part in parts if part.value is None), None)
    if lacking is not None:
        return lacking
    values = [part.value for part in parts if part.value is not None]
    return Reading(join(values), min(part.read_mono_s for part in parts))


def _times(value: float, sign: int, factor: float) -> float:
    return float(sign * value) if factor == 1.0 else sign * value * factor
