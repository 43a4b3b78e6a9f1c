"""What the battery really does: usable capacity, efficiency and standby loss, learned from energy and SoC.

One stretch of charging or discharging gives the terminal energy per percent of SoC:

    charging     a_c = E_in  / dSoC = C / (100 * eta)
    discharging  a_d = E_out / dSoC = C * eta / 100           (C capacity in Wh, eta one-way efficiency)

so that `eta = sqrt(a_d / a_c)` and `C = 100 * sqrt(a_c * a_d)`. dSoC is that of the straight line through all readings
of the stretch over its energy (least squares), so that the noise of single readings does not count. Each ratio is a sum
over many stretches with slow forgetting, begun with what device and site file state: noise averages out and a lie bends
it slowly. At rest the fall of SoC over time gives the standby loss. A jump of SoC (a BMS that recalibrates) ends a
stretch unlearned. A stretch that contradicts the estimate grossly is counted, and teaches a little if a battery like
that can be; two in a row say that SoC and energy do not belong together.

The SoC itself is believed less noisily than it is read: carried forward by the measured energy and drawn slowly
toward the readings. Plans are made from it, and slots land by it; the SoC band, which is safety, goes by what the
battery says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

from agent.core.made_often import made_often

MIN_STRETCH_PCT = 5.0
"""A shorter stretch says more about the noise of the SoC than about the battery."""
MAX_STRETCH_PCT = 40.0
"""A longer one is closed, so that the estimate moves while a large battery fills for hours."""
JUMP_PCT = 6.0
"""A change of SoC between two ticks beyond this (four times the noise of a poor BMS), and beyond three times what
the energy explains, is a jump."""
PRIOR_PCT = 150.0
"""The stated values weigh like this much SoC moved: one and a half full charges."""
MEMORY_PCT = 2000.0
"""Weight kept at most: twenty full charges, so that ageing is followed within weeks."""
GROSS_SHARE = 0.25
"""A stretch whose SoC moved this much more or less than expected contradicts the estimate."""
GROSS_WEIGHT = 0.25
"""What such a stretch weighs: a battery much smaller than stated is found within a dozen of them."""
CONTRADICTIONS_UNTIL_TOLD = 2
CAPACITY_BOUNDS = (0.5, 1.1)
"""Of the stated capacity."""
EFFICIENCY_BOUNDS = (0.80, 0.995)
BELIEF_S = 3600.0
"""Time constant with which the believed SoC is drawn to the readings: long against their noise, short against what an
error of capacity or efficiency adds up to."""
BELIEF_GAP_PCT = 5.0
"""Readings further than this from the belief are a battery that was recalibrated: they are believed at once."""
REST_SHARE = 0.002
"""Less power than this share of the capacity per hour is rest."""
BELIEF_S = 3600.0
"""Time constant with which the believed SoC is drawn to the readings: long against their noise, short against what an
error of the stated capacity and efficiency adds up to..."""
BELIEF_GROWTH, BELIEF_LONGEST_S = 0.1, 4 * 3600.0
"""...and longer by this share for each stretch learned, up to the last, since the energy is then the better witness."""
BELIEF_GAP_PCT = 5.0
"""Readings further than this from the belief are a battery that was recalibrated: they are believed at once."""
MIN_REST_S = 4 * 3600.0
MAX_REST_S = 24 * 3600.0
PRIOR_REST_S = 8 * 3600.0
"""The first estimate, no standby loss, weighs like this much rest."""
REST_MEMORY_S = 1000 * 3600.0
MAX_STANDBY_PER_H = 0.005
"""Standby loss is at most this share of the capacity per hour."""


class Doing(StrEnum):
    """What the battery does in the stretch at hand."""

    CHARGING = "charging"
    DISCHARGING = "discharging"
    RESTING = "resting"


@dataclass(frozen=True, slots=True)
class Ratio:
    """Energy over SoC, summed: Wh per percent."""

    energy_wh: float
    moved_pct: float

    @property
    def wh_per_pct(self) -> float:
        """The estimate."""
        return self.energy_wh / self.moved_pct

    def with_stretch(self, energy_wh: float, moved_pct: float) -> Ratio:
        """The sums after one more stretch; old ones fade once the memory is full."""
        keep = min(1.0, max(0.0, (MEMORY_PCT - moved_pct) / self.moved_pct))
        return Ratio(self.energy_wh * keep + energy_wh, self.moved_pct * keep + moved_pct)


class Stretch(NamedTuple):
    """The stretch in progress, with the sums of a straight line through its readings, each weighing by its time.

    One is made at every tick and battery: a tuple costs a third of a frozen dataclass.

    y is the SoC in percent since the start, x the terminal energy in Wh (>= 0), at rest the time in s.
    """

    doing: Doing
    start_soc_pct: float
    soc_pct: float
    net_wh: float = 0.0
    """Energy at the terminals, + = discharge."""
    seconds: float = 0.0
    x_s: float = 0.0
    y_s: float = 0.0
    xx_s: float = 0.0
    xy_s: float = 0.0

    @property
    def slope(self) -> float | None:
        """Percent per Wh, at rest per second; None where all readings are at one place."""
        spread = self.seconds * self.xx_s - self.x_s * self.x_s
        return (self.seconds * self.xy_s - self.x_s * self.y_s) / spread if spread > 0.0 else None


@made_often
@dataclass(frozen=True, slots=True)
class BatteryModel:
    """The estimate; `fresh_model` makes one, which is also what "reset" means."""

    stated_capacity_wh: float
    stated_efficiency: float
    charging: Ratio
    discharging: Ratio
    lost_wh: float = 0.0
    """At rest, within `rest_s`."""
    rest_s: float = PRIOR_REST_S
    stretches: int = 0
    """Learned from so far."""
    contradictions: int = 0
    """Stretches in a row that contradicted the estimate."""
    serial: str | None = None
    """Of the device that it was learned from, where it tells."""
    disputed_s: float = 0.0
    """For how long the device has stated another capacity."""
    stretch: Stretch | None = None
    believed_soc_pct: float | None = None
    """The SoC by energy and readings together; None while either is missing."""

    @property
    def one_way_efficiency(self) -> float:
        """Terminals to cells or back, bounded."""
        return _bounded(math.sqrt(self.discharging.wh_per_pct / self.charging.wh_per_pct), EFFICIENCY_BOUNDS)

    @property
    def capacity_wh(self) -> float:
        """Energy between 0 and 100 % SoC, bounded by what the device states."""
        stated_wh, (low, high) = self.stated_capacity_wh, CAPACITY_BOUNDS
        learned_wh = 100.0 * math.sqrt(self.discharging.wh_per_pct * self.charging.wh_per_pct)
        return _bounded(learned_wh, (low * stated_wh, high * stated_wh))

    @property
    def round_trip_efficiency(self) -> float:
        """In and out again."""
        return self.one_way_efficiency**2

    @property
    def standby_w(self) -> float:
        """Power lost at rest, bounded."""
        highest_w = MAX_STANDBY_PER_H * self.stated_capacity_wh
        return _bounded(self.lost_wh * 3600.0 / self.rest_s, (0.0, highest_w))

    @property
    def measured_share(self) -> float:
        """How much of capacity and efficiency is measured, 0 to 1; the rest is still what was stated."""
        return max(0.0, 1.0 - PRIOR_PCT / min(self.charging.moved_pct, self.discharging.moved_pct))

    @property
    def contradicted(self) -> bool:
        """True when SoC and energy do not belong together: tell, and widen the margins."""
        return self.contradictions >= CONTRADICTIONS_UNTIL_TOLD


def fresh_model(stated_capacity_wh: float, stated_efficiency: float, serial: str | None = None) -> BatteryModel:
    """The model that believes what it is told; capacity in Wh (> 0), one-way efficiency as a share (0..1)."""
    assert stated_capacity_wh > 0
    assert 0 < stated_efficiency <= 1
    per_pct_wh = stated_capacity_wh / 100.0
    charging = Ratio(per_pct_wh / stated_efficiency * PRIOR_PCT, PRIOR_PCT)
    discharging = Ratio(per_pct_wh * stated_efficiency * PRIOR_PCT, PRIOR_PCT)
    return BatteryModel(stated_capacity_wh, stated_efficiency, charging, discharging, serial=serial)


def observed(model: BatteryModel, dt_s: float, power_w: float | None, soc_pct: float | None) -> BatteryModel:
    """The model after `dt_s` at `power_w` (+ = discharge) ending at `soc_pct`; a missing value drops the stretch."""
    if power_w is None or soc_pct is None or dt_s <= 0.0:
        if model.stretch is None and model.believed_soc_pct is None:
            return model
        return replace(model, stretch=None, believed_soc_pct=None)
    doing = _doing(model, power_w)
    believed_pct = _believed(model, dt_s, power_w, soc_pct)
    stretch = model.stretch
    if stretch is None:
        return replace(model, stretch=Stretch(doing, soc_pct, soc_pct), believed_soc_pct=believed_pct)
    jumped_pct = abs(soc_pct - stretch.soc_pct)
    if jumped_pct > JUMP_PCT and jumped_pct > 3.0 * (abs(power_w) * dt_s / (36.0 * model.stated_capacity_wh)):
        return replace(model, stretch=Stretch(doing, soc_pct, soc_pct), believed_soc_pct=believed_pct)
    if doing is not stretch.doing:
        begun = Stretch(doing, soc_pct, soc_pct)
        return replace(_learned(model, stretch), stretch=begun, believed_soc_pct=believed_pct)
    grown = _grown(stretch, dt_s, power_w, soc_pct)
    if _long_enough(model, grown):
        begun = Stretch(doing, soc_pct, soc_pct)
        return replace(_learned(model, grown), stretch=begun, believed_soc_pct=believed_pct)
    # Every tick comes by here: a plain constructor costs a fifth of `replace`.
    return BatteryModel(
        model.stated_capacity_wh,
        model.stated_efficiency,
        model.charging,
        model.discharging,
        model.lost_wh,
        model.rest_s,
        model.stretches,
        model.contradictions,
        model.serial,
        model.disputed_s,
        grown,
        believed_pct,
    )


def _believed(model: BatteryModel, dt_s: float, power_w: float, soc_pct: float) -> float:
    """The belief of the last tick, carried on by the energy since and drawn toward the reading, 0..100 %."""
    believed_pct = model.believed_soc_pct
    if believed_pct is None:
        return soc_pct
    per_pct_wh = model.discharging.wh_per_pct if power_w > 0.0 else model.charging.wh_per_pct
    believed_pct -= (power_w / per_pct_wh + model.standby_w / model.stated_capacity_wh * 100.0) * dt_s / 3600.0
    away_pct = soc_pct - believed_pct
    if abs(away_pct) > BELIEF_GAP_PCT:
        return soc_pct
    belief_s = min(BELIEF_S * (1.0 + BELIEF_GROWTH * model.stretches), BELIEF_LONGEST_S)
    return _bounded(believed_pct + away_pct * (1.0 - math.exp(-dt_s / belief_s)), (0.0, 100.0))


def _doing(model: BatteryModel, power_w: float) -> Doing:
    if abs(power_w) <= REST_SHARE * model.stated_capacity_wh:
        return Doing.RESTING
    return Doing.DISCHARGING if power_w > 0 else Doing.CHARGING


def _grown(stretch: Stretch, dt_s: float, power_w: float, soc_pct: float) -> Stretch:
    doing, start_soc_pct, _, net_wh, seconds, x_s, y_s, xx_s, xy_s = stretch
    net_wh += power_w * dt_s / 3600.0
    seconds += dt_s
    x = seconds if doing is Doing.RESTING else abs(net_wh)
    y = soc_pct - start_soc_pct
    x_dt = x * dt_s
    return Stretch(
        doing, start_soc_pct, soc_pct, net_wh, seconds, x_s + x_dt, y_s + y * dt_s, xx_s + x * x_dt, xy_s + y * x_dt
    )


def _long_enough(model: BatteryModel, stretch: Stretch) -> bool:
    """By energy, not by SoC: the first noisy reading beyond a limit is always one that is too far out."""
    if stretch.doing is Doing.RESTING:
        return stretch.seconds >= MAX_REST_S
    return abs(stretch.net_wh) * 100.0 >= MAX_STRETCH_PCT * model.stated_capacity_wh


def _learned(model: BatteryModel, stretch: Stretch) -> BatteryModel:
    """The model after a finished stretch, when it is long enough to say something."""
    slope = stretch.slope
    if slope is None:
        return model
    if stretch.doing is Doing.RESTING:
        return _rested(model, stretch, slope)
    up = stretch.doing is Doing.CHARGING
    energy_wh = abs(stretch.net_wh)
    moved_pct = slope * energy_wh * (1.0 if up else -1.0)
    ratio = model.charging if up else model.discharging
    expected_pct = energy_wh / ratio.wh_per_pct
    if max(moved_pct, expected_pct) < MIN_STRETCH_PCT:
        return model
    # Compared by SoC moved: a SoC that stands still under real energy is a contradiction too.
    if abs(moved_pct - expected_pct) > GROSS_SHARE * expected_pct + 2.0:
        told = replace(model, contradictions=model.contradictions + 1)
        weight = GROSS_WEIGHT if _can_be(model, up, energy_wh, moved_pct) else 0.0
    else:
        told = replace(model, stretches=model.stretches + 1, contradictions=0)
        weight = 1.0
    if weight == 0.0:
        return told
    taught = ratio.with_stretch(energy_wh * weight, moved_pct * weight)
    return replace(told, charging=taught) if up else replace(told, discharging=taught)


def _can_be(model: BatteryModel, up: bool, energy_wh: float, moved_pct: float) -> bool:
    """Whether some battery within the bounds of capacity and efficiency would move so."""
    (small, large), (poor, good) = CAPACITY_BOUNDS, EFFICIENCY_BOUNDS
    low, high = (small / good, large / poor) if up else (small * poor, large * good)
    share = energy_wh * 100.0 / model.stated_capacity_wh
    return low * moved_pct <= share <= high * moved_pct


def _rested(model: BatteryModel, stretch: Stretch, slope: float) -> BatteryModel:
    if stretch.seconds < MIN_REST_S:
        return model
    # What left the cells and did not come out at the terminals.
    lost_wh = -slope * stretch.seconds / 100.0 * model.capacity_wh - stretch.net_wh
    keep = min(1.0, REST_MEMORY_S / (model.rest_s + stretch.seconds))
    return replace(model, lost_wh=(model.lost_wh + lost_wh) * keep, rest_s=(model.rest_s + stretch.seconds) * keep)


def _bounded(value: float, bounds: tuple[float, float]) -> float:
    low, high = bounds
    # Here and where each tick comes by: comparisons cost a third of `min` and `max`.
    return low if value < low else high if value > high else value
