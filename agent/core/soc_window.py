"""The power that keeps a battery's SoC inside its window: the band, the emergency reserve, the way to the slot's end.

Three bounds come from it, softest first:
- comfort: land on the limit at the slot's end instead of running flat out and being cut; once a limit is reached, that
  direction stays closed until the SoC has come back by the hysteresis and some time has passed;
- reserve: the SoC floor kept for outages of the grid;
- band: physics. Power fades over the last `taper_pct` before the limit, and is 0 at and beyond it.
A start outside the band leaves only the way back in; nothing forces that way to be taken.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.bounds import Bound, Rank

CLOSE_PCT = 0.05
"""A limit counts as reached this near to it: the taper alone would get there only after a very long time."""
REOPEN_AFTER_S = 60.0
"""A closed direction stays closed at least this long, however the reported SoC jumps."""
LARGEST_MARGIN_SHARE = 0.25
"""A margin for doubtful SoC takes at most this share of the band on each side, so that a band always remains."""


# These two are made for every battery at every tick and kept nowhere: not frozen, which would cost four times as much.
@dataclass(slots=True)
class SocRules:
    """The SoC window of one battery, percent of capacity."""

    min_pct: float
    max_pct: float
    one_way_efficiency: float
    """Share of the energy that survives one way between terminals and cells, 0..1."""
    reserve_pct: float | None = None
    """SoC floor kept for outages of the grid; None or below `min_pct` = none."""
    taper_pct: float = 1.0
    """Rated power fades linearly to 0 over this much SoC before a limit; 0 = no taper."""
    hysteresis_pct: float = 0.5
    """A direction that reached its limit opens again when the SoC is this far inside."""

    @property
    def floor_pct(self) -> float:
        """Where discharging ends in normal operation."""
        return self.min_pct if self.reserve_pct is None else max(self.min_pct, self.reserve_pct)


@dataclass(frozen=True, slots=True)
class Gates:
    """Which directions are closed because their limit was reached, and since when; kept from tick to tick."""

    discharge_closed_mono_s: float | None = None
    charge_closed_mono_s: float | None = None


OPEN = Gates()


@dataclass(slots=True)
class SocNow:
    """What the window is asked about."""

    soc_pct: float
    capacity_wh: float
    ahead_s: float
    """Time to the end of the slot, at least `reaction_s`."""
    reaction_s: float
    """Time until a new setpoint shows in the SoC: > 0."""
    rated_charge_w: float
    rated_discharge_w: float
    margin_pct: float = 0.0
    """Widened by the battery model when the SoC contradicts the energy balance."""
    reserve_released: bool = False
    """True while the grid is out, which is what the reserve is for."""
    swing_w: float = 0.0
    """Part of this tick's target that is expected to even out before the slot's end (clouds), + toward the grid."""
    believed_pct: float | None = None
    """The SoC by energy and readings together, from which the way to the slot's end is reckoned; None = `soc_pct`."""


def gates(rules: SocRules, now: SocNow, before: Gates, mono_s: float) -> Gates:
    """The gates at this tick."""
    low_pct, high_pct = _band(rules, now)
    if not now.reserve_released:
        low_pct = max(low_pct, rules.floor_pct)
    inside_low, inside_high = now.soc_pct - low_pct, high_pct - now.soc_pct
    if before is OPEN and inside_low > CLOSE_PCT and inside_high > CLOSE_PCT:
        return before
    hysteresis = min(rules.hysteresis_pct, (high_pct - low_pct) / 2.0)
    discharge = _gate(before.discharge_closed_mono_s, inside_low, hysteresis, mono_s)
    charge = _gate(before.charge_closed_mono_s, inside_high, hysteresis, mono_s)
    if discharge == before.discharge_closed_mono_s and charge == before.charge_closed_mono_s:
        return before
    return OPEN if discharge is None and charge is None else Gates(discharge, charge)


def soc_bounds(rules: SocRules, now: SocNow, closed: Gates, owner: str) -> tuple[Bound, ...]:
    """The bounds that bite below the rating, softest first: comfort, reserve, band."""
    low_pct, high_pct = _band(rules, now)
    band_charge_w = _tapered(now.rated_charge_w, high_pct - now.soc_pct, rules, now, 1.0 / rules.one_way_efficiency)
    band_discharge_w = _tapered(now.rated_discharge_w, now.soc_pct - low_pct, rules, now, rules.one_way_efficiency)
    floor_pct, floor_w = low_pct, band_discharge_w
    found: list[Bound] = []
    if rules.floor_pct > low_pct and not now.reserve_released:
        floor_pct = rules.floor_pct
        above_pct = now.soc_pct - floor_pct
        floor_w = _tapered(now.rated_discharge_w, above_pct, rules, now, rules.one_way_efficiency)
    charge_w, discharge_w = _landing(rules, now, floor_pct, high_pct)
    if closed.charge_closed_mono_s is not None:
        charge_w = 0.0
    if closed.discharge_closed_mono_s is not None:
        discharge_w = 0.0
    if charge_w < band_charge_w or discharge_w < floor_w:
        found.append(Bound("SoC window to the slot's end", owner, -charge_w, discharge_w, Rank.COMFORT))
    if floor_w < band_discharge_w:
        limit = f"emergency reserve {floor_pct:g} %"
        found.append(Bound(limit, owner, -now.rated_charge_w, floor_w, Rank.RESERVE))
    if band_charge_w < now.rated_charge_w or band_discharge_w < now.rated_discharge_w:
        limit = f"SoC band {rules.min_pct:g} to {rules.max_pct:g} %"
        found.append(Bound(limit, owner, -band_charge_w, band_discharge_w))
    return tuple(found)


def _band(rules: SocRules, now: SocNow) -> tuple[float, float]:
    """The band's limits, drawn in by the margin."""
    if now.margin_pct <= 0.0:
        return rules.min_pct, rules.max_pct
    margin_pct = min(now.margin_pct, LARGEST_MARGIN_SHARE * (rules.max_pct - rules.min_pct))
    return rules.min_pct + margin_pct, rules.max_pct - margin_pct


def _tapered(rated_w: float, inside_pct: float, rules: SocRules, now: SocNow, terminal_share: float) -> float:
    """The power, >= 0, that fades before the limit and cannot cross it within the reaction time."""
    if inside_pct <= 0.0:
        return 0.0
    faded_w = rated_w * inside_pct / rules.taper_pct if inside_pct < rules.taper_pct else rated_w
    landing_w = inside_pct / 100.0 * now.capacity_wh * terminal_share * 3600.0 / now.reaction_s
    return min(faded_w, landing_w)


def _landing(rules: SocRules, now: SocNow, floor_pct: float, high_pct: float) -> tuple[float, float]:
    """The constant charge and discharge power, each >= 0, that land on the limits at the slot's end.

    The swing moves both: the mean over the slot lands, while a cloud may still be filled.
    """
    per_pct_w = now.capacity_wh / 100.0 * 3600.0 / now.ahead_s
    soc_pct = now.soc_pct if now.believed_pct is None else now.believed_pct
    charge_w = (high_pct - soc_pct) * per_pct_w / rules.one_way_efficiency if high_pct > soc_pct else 0.0
    discharge_w = (soc_pct - floor_pct) * per_pct_w * rules.one_way_efficiency if soc_pct > floor_pct else 0.0
    if now.swing_w == 0.0:
        return charge_w, discharge_w
    return max(charge_w - now.swing_w, 0.0), max(discharge_w + now.swing_w, 0.0)


def _gate(closed_mono_s: float | None, inside_pct: float, hysteresis_pct: float, mono_s: float) -> float | None:
    """When this direction closed, None while it is open."""
    if closed_mono_s is None:
        return mono_s if inside_pct <= min(CLOSE_PCT, hysteresis_pct) else None
    if inside_pct >= hysteresis_pct and mono_s - closed_mono_s >= REOPEN_AFTER_S:
        return None
    return closed_mono_s
