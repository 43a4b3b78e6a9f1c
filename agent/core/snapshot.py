"""What the site looks like now: readings with age and quality, never bare numbers.

A value that was not implemented, not plausible or not read is `None`, never 0. Every power is in W and
positive toward the grid, every time `*_mono_s` is on the monotonic clock, `*_utc_s` is Unix time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from agent.core.droop import DeviceDroop
from agent.core.made_often import made_often

STALE_AFTER_S = 10.0
"""No control on data older than this (invariant 4 of the design)."""
BELIEVABLE = 1e15
"""No quantity of a site is beyond this in our units (a counter of 1000 TWh); NaN and infinities are out too."""


class Quality(StrEnum):
    """Whether a reading may be used."""

    GOOD = "good"
    STALE = "stale"
    """It was good, but is older than `STALE_AFTER_S`."""
    MISSING = "missing"
    """The device did not answer, or says that it has no such value (a sentinel)."""
    IMPLAUSIBLE = "implausible"
    """The device answered with something that cannot be true."""


_GOOD = Quality.GOOD
"""A dozen readings of every battery are asked at every tick, and an enum looks its member up slowly."""


@made_often
@dataclass(frozen=True, slots=True)
class Reading:
    """One value as read: `value` is None unless `quality` was GOOD when it was read."""

    value: float | None
    read_mono_s: float
    quality: Quality = Quality.GOOD

    def at(self, now_mono_s: float) -> Reading:
        """The same reading seen now: GOOD turns STALE with age, and IMPLAUSIBLE when it is no number."""
        if self.quality is not _GOOD:
            return self
        if now_mono_s - self.read_mono_s > STALE_AFTER_S:
            return Reading(None, self.read_mono_s, Quality.STALE)
        value = self.value
        if value is not None and -BELIEVABLE <= value <= BELIEVABLE:
            return self
        return Reading(None, self.read_mono_s, Quality.IMPLAUSIBLE)

    def within(self, low: float, high: float) -> Reading:
        """The same reading if it has a value from `low` to `high` or none at all, else IMPLAUSIBLE."""
        value = self.value
        # Written so that NaN is implausible too.
        if value is None or low <= value <= high:
            return self
        return Reading(None, self.read_mono_s, Quality.IMPLAUSIBLE)


def all_stand(readings: Iterable[Reading], now_mono_s: float) -> bool:
    """True when each of them seen now (`Reading.at`) is what it was when it was read, which is nearly always."""
    for reading in readings:
        if reading.quality is _GOOD:
            value = reading.value
            if value is None or not (
                now_mono_s - reading.read_mono_s <= STALE_AFTER_S and -BELIEVABLE <= value <= BELIEVABLE
            ):
                return False
    return True


NEVER = Reading(None, float("-inf"), Quality.MISSING)
"""The reading of a point that nobody has read yet."""


@dataclass(frozen=True, slots=True)
class DroopOffer:
    """Whether frequency response can be handed to a device's own droop."""

    cannot: str
    """Why not, for people; "" when it can."""
    rated_w: float = 0.0
    """The power that its droop is per unit of."""
    has_dead_man: bool = False
    """Whether the device ends the droop by itself when it is not written again."""


@made_often
@dataclass(frozen=True, slots=True)
class BatterySample:
    """The newest readings of one battery system (battery and its inverter)."""

    device_id: str
    power_w: Reading = NEVER
    """AC power at the battery terminals, + = discharge."""
    soc_pct: Reading = NEVER
    capacity_wh: Reading = NEVER
    """Energy between 0 and 100 % SoC."""
    rated_discharge_w: Reading = NEVER
    """Nameplate, >= 0."""
    rated_charge_w: Reading = NEVER
    """Nameplate, >= 0."""
    live_discharge_limit_w: Reading = NEVER
    """What the BMS allows now, >= 0."""
    live_charge_limit_w: Reading = NEVER
    """What the BMS allows now, >= 0."""
    ready: Reading = NEVER
    """1 when connected and able to follow a setpoint, 0 when not."""
    held_setpoint_w: Reading = NEVER
    """The setpoint the device holds now, read back; missing while it holds none (control not enabled)."""
    has_dead_man: bool | None = None
    """Whether the device returns to 0 W by itself when setpoints stop coming; None while that is not known."""
    temperature_c: Reading = NEVER
    """Of the cells; the one farther from the comfortable range where several are read."""
    cell_min_v: Reading = NEVER
    cell_max_v: Reading = NEVER
    serial: str | None = None
    """Of the device, as it says; None where it does not."""
    own_droop_from_hz: Reading = NEVER
    """The distance from nominal beyond which the device answers the frequency by itself; missing while it does not."""
    alarms: Reading = NEVER
    """Safety alarms that stand, as the sum of `agent.core.latch.Alarm`; missing where the device tells none."""
    droop_offer: DroopOffer | None = None
    """What the device offers of a droop of its own; None while that is not known."""


@made_often
@dataclass(frozen=True, slots=True)
class PvSample:
    """The newest readings of one PV inverter."""

    device_id: str
    power_w: Reading = NEVER
    """AC power, + = generation."""
    limited: Reading = NEVER
    """1 while the inverter holds a ceiling, whoever wrote it, 0 while it holds none."""
    ceiling_w: Reading = NEVER
    """That ceiling, read back; missing while it holds none."""
    has_limit: bool | None = None
    """Whether its power can be limited; None while that is not known."""
    has_dead_man: bool | None = None
    """Whether it ends a ceiling by itself when writes stop; None while that is not known."""


@made_often
@dataclass(frozen=True, slots=True)
class MeterSample:
    """The newest readings of the meter at the connection point."""

    device_id: str
    power_w: Reading = NEVER
    """+ = export."""
    frequency_hz: Reading = NEVER
    export_wh: Reading = NEVER
    """Energy counter toward the grid; monotonic but for a wrap or a device swap."""
    import_wh: Reading = NEVER


@made_often
@dataclass(frozen=True, slots=True)
class WriteOutcome:
    """What became of one setpoint write: `held_w` is what was read back, None if unknown."""

    device_id: str
    wanted_w: float
    held_w: float | None
    ok: bool
    """True only when the read-back equals what was wanted, within the register's resolution."""
    reason: str
    """Empty when ok; else what went wrong, for people."""
    done_mono_s: float


@dataclass(frozen=True, slots=True)
class DroopOutcome:
    """What became of one write of a device's own droop; None in `wanted` and `held` is no droop."""

    device_id: str
    wanted: DeviceDroop | None
    held: DeviceDroop | None
    """The curve that the device follows, as its registers hold it; None when it follows none or that is not known."""
    ok: bool
    """True only when the read-back equals what was wanted, within the register's resolution."""
    off: bool
    """True only when the read-back shows that the device follows no curve."""
    reason: str
    """Empty when ok; else what went wrong, for people."""
    done_mono_s: float


@dataclass(frozen=True, slots=True)
class CeilingOutcome:
    """What became of one write of a PV ceiling; None in `wanted_w` and `held_w` is no ceiling."""

    device_id: str
    wanted_w: float | None
    held_w: float | None
    ok: bool
    """True only when the read-back equals what was wanted, within the register's resolution."""
    reason: str
    """Empty when ok; else what went wrong, for people."""
    done_mono_s: float
