"""What a battery bank's own models add to a battery: 802 (bank), 803 (lithium-ion modules)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from agent.core.snapshot import Reading
from drivers.read_plan import Reads
from drivers.readings import number, reading

POINTS: Final[Mapping[int, tuple[str, ...]]] = {
    802: ("WHRtg", "SoC", "LocRemCtl", "State", "Evt1", "V", "CellVMax", "CellVMin", "AChaMax", "ADisChaMax"),
    803: ("ModTmpMax", "ModTmpMin"),
}
STATES: Final = (("802.State", (3,), True), ("802.LocRemCtl", (0,), True))
"""See `drivers.battery.ready`; 3 = connected, 0 = remote."""
CELL_MAX_V = 10.0
"""No battery cell of any chemistry reaches it."""
COMFORTABLE_C = 25.0
"""The farther from here, the more a lithium-ion cell is derated."""
COLDEST_C = -60.0
HOTTEST_C = 120.0
"""Beyond these a thermometer is broken, or the battery burnt."""


def soc_pct(reads: Reads) -> Reading:
    """State of charge of the bank."""
    return reading(reads, "802.SoC", low=0.0, high=100.0)


def cell_v(reads: Reads, point: str) -> Reading:
    """Lowest or highest cell voltage (CellVMin, CellVMax)."""
    return reading(reads, f"802.{point}", high=CELL_MAX_V)


def power_w(reads: Reads, point: str) -> list[Reading]:
    """The power that the bank allows now by its current limit AChaMax or ADisChaMax, as a list of one or none.

    A DC current times the DC voltage is taken for the AC power, the losses between (a few percent) being the
    inverter's business.
    """
    amperes, volts = reading(reads, f"802.{point}"), number(reads, "802.V")
    if amperes.value is None or volts is None:
        return []
    return [Reading(amperes.value * volts, amperes.read_mono_s)]


def temperature_c(reads: Reads) -> Reading:
    """The module temperature that is farther from comfortable."""
    hottest, coldest = (
        reading(reads, f"803.{point}", low=COLDEST_C, high=HOTTEST_C) for point in ("ModTmpMax", "ModTmpMin")
    )
    if hottest.value is None or coldest.value is None:
        return coldest if hottest.value is None and coldest.value is not None else hottest
    return hottest if hottest.value - COMFORTABLE_C >= COMFORTABLE_C - coldest.value else coldest
