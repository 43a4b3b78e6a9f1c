"""Whether a battery's readings stand still while it gives power: dead electronics behind registers that answer.

Real measurements flicker. A device whose values have changed all the time, and then for a minute not by a single bit
while it gives power, is not measuring any more. Only what this device has shown before counts: one whose registers
are so coarse that they often rest is never judged.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from agent.core.snapshot import BatterySample

UNCHANGED_S = 60.0
"""The fault matrix: bit-identical analogues for so long while power is commanded."""
TIMES_THE_LONGEST = 6.0
"""And so many times as long as the values ever rested before."""
CHANGES_UNTIL_JUDGED = 30
LEAST_ANALOGUES = 2


@dataclass(frozen=True, slots=True)
class Stillness:
    """What is known of how a device's values change while it gives power."""

    values: tuple[float, ...] = ()
    since_s: float = 0.0
    """Since when they are the same."""
    changes: int = 0
    longest_s: float = 0.0
    """The longest that they ever stayed the same, before now."""

    def looked(self, sample: BatterySample, now_s: float) -> Stillness:
        """After one more reading."""
        values = _analogues(sample)
        if not _gives_power(sample) or len(values) < LEAST_ANALOGUES:
            return replace(self, values=(), since_s=now_s)
        if values == self.values:
            return self
        if len(values) != len(self.values):
            return replace(self, values=values, since_s=now_s)
        longest_s = max(self.longest_s, now_s - self.since_s)
        return Stillness(values, now_s, self.changes + 1, longest_s)

    def frozen_s(self, now_s: float) -> float | None:
        """For how long its values have stood still, if that is beyond all that this device ever did; else None."""
        if self.changes < CHANGES_UNTIL_JUDGED or not self.values:
            return None
        still_s = now_s - self.since_s
        return still_s if still_s >= max(UNCHANGED_S, TIMES_THE_LONGEST * self.longest_s) else None


def _gives_power(sample: BatterySample) -> bool:
    return bool(sample.held_setpoint_w.value) and bool(sample.power_w.value)


def _analogues(sample: BatterySample) -> tuple[float, ...]:
    readings = (sample.power_w, sample.soc_pct, sample.temperature_c, sample.cell_min_v, sample.cell_max_v)
    return tuple(reading.value for reading in readings if reading.value is not None)
