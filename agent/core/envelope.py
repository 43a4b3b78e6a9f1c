"""What the site can do now: bounds on battery power, each with its owner, and what they cut off.

Order of application, softest first, so that the last word is physics: connection point, then per battery
nameplate, live limits of its BMS, SoC window, state. When the connection point asks for more than the batteries
can do (PV above the export limit with a full battery), the batteries do what they can and the rest is reported.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from agent.core.rules import BatteryRules, SiteRules
from agent.core.snapshot import BatterySample

REACTION_TICKS = 5
"""The SoC projection looks at least this many ticks ahead: read, decide, write and the device's lag take some."""
CLIP_EPSILON_W = 1.0
"""A cut smaller than this is rounding, not a clip worth telling."""


@dataclass(frozen=True, slots=True)
class Bound:
    """Battery power must lie in `[lower_w, upper_w]`, says `owner`, because of `limit`."""

    limit: str
    owner: str
    lower_w: float
    upper_w: float


@dataclass(frozen=True, slots=True)
class Clip:
    """One bound at work: the power before and after it."""

    limit: str
    owner: str
    before_w: float
    after_w: float


def clamp(power_w: float, bounds: tuple[Bound, ...]) -> tuple[float, tuple[Clip, ...]]:
    """`power_w` after each bound in turn, the later one winning, and the clips on the way."""
    clips: list[Clip] = []
    for bound in bounds:
        after_w = min(max(power_w, bound.lower_w), bound.upper_w)
        if abs(after_w - power_w) > CLIP_EPSILON_W:
            clips.append(Clip(bound.limit, bound.owner, power_w, after_w))
        power_w = after_w
    return power_w, tuple(clips)


def battery_bounds(rules: BatteryRules, now: BatterySample, ahead_s: float) -> tuple[Bound, ...]:
    """The bounds of one battery; `now` holds aged readings, `ahead_s` is the time to the slot's end.

    A battery that is not read, not ready or without SoC takes no part: both bounds 0, named as such.
    """
    owner = rules.device_id
    if now.power_w.value is None or now.ready.value is None:
        return (Bound(f"readings {now.power_w.quality}", owner, 0.0, 0.0),)
    if now.ready.value != 1:
        return (Bound("not connected and running under remote control", owner, 0.0, 0.0),)
    if now.soc_pct.value is None or now.capacity_wh.value is None or now.capacity_wh.value <= 0:
        return (Bound(f"SoC or capacity {now.soc_pct.quality}", owner, 0.0, 0.0),)
    bounds = [Bound("nameplate in the site file", "site file", -rules.rated_charge_w, rules.rated_discharge_w)]
    rated_w = (now.rated_charge_w.value, now.rated_discharge_w.value)
    live_w = (now.live_charge_limit_w.value, now.live_discharge_limit_w.value)
    for limit, (charge_w, discharge_w) in (("nameplate", rated_w), ("live limit", live_w)):
        # A negative limit is a device in trouble; it allows nothing, and above all it forces nothing.
        lower_w = -max(charge_w, 0.0) if charge_w is not None else -math.inf
        upper_w = max(discharge_w, 0.0) if discharge_w is not None else math.inf
        bounds.append(Bound(limit, owner, lower_w, upper_w))
    bounds.append(_soc_window(rules, now.soc_pct.value, now.capacity_wh.value, ahead_s))
    return tuple(bounds)


def _soc_window(rules: BatteryRules, soc_pct: float, capacity_wh: float, ahead_s: float) -> Bound:
    """The constant power that would land on the SoC limit exactly `ahead_s` from now, either way.

    A start outside the band leaves only the way back in.
    """
    above_min_wh = max(0.0, (soc_pct - rules.soc_min_pct) / 100.0 * capacity_wh)
    below_max_wh = max(0.0, (rules.soc_max_pct - soc_pct) / 100.0 * capacity_wh)
    ahead_h = ahead_s / 3600.0
    discharge_w = above_min_wh * rules.one_way_efficiency / ahead_h
    charge_w = below_max_wh / rules.one_way_efficiency / ahead_h
    limit = f"SoC window {rules.soc_min_pct:g} to {rules.soc_max_pct:g} %"
    return Bound(limit, rules.device_id, -charge_w, discharge_w)


def connection_bound(rules: SiteRules, others_w: float | None) -> Bound:
    """The room that the connection point leaves for the batteries, given PV and load (`others_w`) now.

    With the meter lost PV and load are unknown: a site with either of them rests, since any battery power might
    break a limit; a site with the battery alone knows its connection power from the battery.
    """
    if others_w is None and not rules.battery_alone:
        return Bound("connection power unknown", rules.meter_id or "no meter", 0.0, 0.0)
    known_w = others_w or 0.0
    lower_w, upper_w = -rules.import_limit_w - known_w, rules.export_limit_w - known_w
    return Bound("connection limit", "site file", lower_w, upper_w)


def projection_s(rules: SiteRules, slot_end_utc_s: float | None, utc_s: float) -> float:
    """How far ahead the SoC must stay inside its window: to the slot's end, at least the reaction time."""
    reaction_s = REACTION_TICKS * rules.tick_s
    return reaction_s if slot_end_utc_s is None else max(slot_end_utc_s - utc_s, reaction_s)
