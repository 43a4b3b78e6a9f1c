"""The safety alarms of SunSpec batteries: which bits stop the agent, until somebody on site resets it.

| point | bits |
|---|---|
| 701.Alrm, Evt1 of 101 to 103 and 111 to 113 | 0 ground fault; 2 and 3 AC and DC disconnect; 6 manual shutdown |
| 802.Evt1 | 20 contactor error; 22 ground fault |
| 802.State | 99 = fault |

By the published models. Warnings, temperatures and voltages are no safety alarms: live limits and derating follow them.
A lost grid (bit 4) is none either: it ends by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from agent.core.latch import Alarm
from agent.core.snapshot import Reading
from drivers.read_plan import Reads
from drivers.readings import reading

INVERTER_BITS: Final[Mapping[int, Alarm]] = {
    0: Alarm.INSULATION,
    2: Alarm.BREAKER,
    3: Alarm.BREAKER,
    6: Alarm.E_STOP,
}
BANK_BITS: Final[Mapping[int, Alarm]] = {20: Alarm.BREAKER, 22: Alarm.INSULATION}
BANK_FAULT = 99
"""802.State."""


def safety_alarms(reads: Reads, inverter_point: str) -> Reading:
    """The sum of the alarms that stand, as old as the oldest point that tells any; missing where none does."""
    inverter, bank, state = (reading(reads, point) for point in (inverter_point, "802.Evt1", "802.State"))
    told = [each for each in (inverter, bank, state) if each.value is not None]
    if not told:
        return inverter
    found = _set(inverter, INVERTER_BITS) | _set(bank, BANK_BITS)
    if state.value == BANK_FAULT:
        found |= Alarm.BMS_FAULT
    return Reading(float(found), min(each.read_mono_s for each in told))


def _set(told: Reading, bits: Mapping[int, Alarm]) -> Alarm:
    found = Alarm(0)
    for bit, alarm in bits.items():
        if told.value is not None and int(told.value) >> bit & 1:
            found |= alarm
    return found
