"""What the site can do now: the bounds of each battery and of the connection point, each with its owner.

How they rank and what gives way to what is said in `agent.core.bounds`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from agent.core.allocate import Unit
from agent.core.bounds import CLIP_EPSILON_W, Bound, Clip, Rank, clamp, room
from agent.core.curtailment import ConnectionLimits, curtailment_bound
from agent.core.derating import FULL, NO_CELLS, Cells, Shares, derate, derating_bound
from agent.core.envelope_rules import DEFAULT_LIMITS, BatteryLimits
from agent.core.hybrid import inverter_bound
from agent.core.rules import REACTION_TICKS, BatteryRules, SiteRules
from agent.core.snapshot import BatterySample
from agent.core.soc_window import OPEN, Gates, SocNow, SocRules, gates, soc_bounds

__all__ = ["CLIP_EPSILON_W", "Bound", "Clip", "clamp"]


@dataclass(frozen=True, slots=True)
class BatteryMemory:
    """What the envelope of one battery remembers from tick to tick."""

    gates: Gates = OPEN
    shares: Shares | None = None
    """Derating shares of the last tick; None at the start."""


@dataclass(slots=True)
class BatteryMoment:
    """What the envelope of one battery depends on now besides its rules and readings.

    Made for every battery at every tick and kept nowhere: not frozen, which would cost four times as much.
    """

    mono_s: float
    dt_s: float
    """Since the last tick."""
    ahead_s: float
    """To the end of the slot, at least the reaction time (see `projection_s`)."""
    reaction_s: float
    outage_id: str | None = None
    refused: bool = False
    """It takes no setpoints."""
    stopped: str = ""
    """Why the safety latch stops it, "" when it does not."""
    may_hold_w: tuple[float, float] | None = None
    """The lowest and highest setpoint of ours that it may hold, whatever was read back of it so far."""
    """The setpoint of a write that is still under way, None when there is none."""
    capacity_wh: float | None = None
    """As learned; None = as the device states it."""
    one_way_efficiency: float | None = None
    """As learned; None = as the site file states it."""
    pv_w: float | None = None
    """Power of the PV behind the shared inverter; only used for DC-coupled batteries."""
    cells: Cells = NO_CELLS
    soc_margin_pct: float = 0.0
    reserve_released: bool = False
    swing_w: float = 0.0
    """This battery's part of the power that will even out before the slot's end, + toward the grid."""
    believed_pct: float | None = None
    """SoC by energy and readings together (`agent.core.battery_model`)."""


def battery_unit(
    rules: BatteryRules, limits: BatteryLimits, now: BatterySample, moment: BatteryMoment, memory: BatteryMemory
) -> tuple[Unit, BatteryMemory]:
    """One battery as it may be used now, and what to remember; `now` holds aged readings.

    A battery that is not read, not ready, in outage, without SoC or that refuses setpoints takes no part: one bound
    of 0, named as such.
    """
    owner = rules.device_id
    absent = _why_absent(now, moment)
    if absent:
        rest = (Bound(absent, owner, 0.0, 0.0),)
        # What a refusing battery does counts with PV and load, not among ours.
        doing_w = None if moment.refused else _doing(now, moment.may_hold_w)
        return Unit(owner, rest, room(rest), doing_w=doing_w), memory
    soc_pct, capacity_wh = now.soc_pct.value, moment.capacity_wh or now.capacity_wh.value
    assert soc_pct is not None, "a battery without SoC is absent"
    assert capacity_wh is not None, "a battery without capacity is absent"
    efficiency = moment.one_way_efficiency or rules.one_way_efficiency
    hard, charge_w, discharge_w = _power_bounds(rules, limits, now, moment)
    shares = memory.shares
    if limits.deratings:
        shares, limit = derate(limits.deratings, moment.cells, shares, moment.dt_s)
        if shares != FULL:
            hard.append(derating_bound(shares, limit, rules.rated_charge_w, rules.rated_discharge_w, owner))
    soc_rules = SocRules(
        rules.soc_min_pct,
        rules.soc_max_pct,
        efficiency,
        limits.reserve_pct,
        limits.taper_pct,
        limits.hysteresis_pct,
    )
    soc_now = SocNow(
        soc_pct,
        capacity_wh,
        moment.ahead_s,
        moment.reaction_s,
        charge_w,
        discharge_w,
        moment.soc_margin_pct,
        moment.reserve_released,
        moment.swing_w,
        moment.believed_pct,
    )
    closed = gates(soc_rules, soc_now, memory.gates, moment.mono_s)
    soft, band = _by_rank(soc_bounds(soc_rules, soc_now, closed, owner))
    bounds = (*soft, *hard, *band)
    unit = Unit(
        owner,
        bounds,
        room(bounds),
        capacity_wh,
        max(soc_pct - soc_rules.floor_pct, 0.0),
        max(rules.soc_max_pct - soc_pct, 0.0),
        limits.min_useful_w,
        _doing(now, moment.may_hold_w),
        efficiency,
    )
    if closed is memory.gates and shares is memory.shares:
        return unit, memory
    return unit, BatteryMemory(closed, shares)


def battery_bounds(rules: BatteryRules, now: BatterySample, ahead_s: float) -> tuple[Bound, ...]:
    """The bounds of one battery with default limits and no memory; `ahead_s` is the time to the slot's end."""
    moment = BatteryMoment(0.0, 0.0, ahead_s, min(ahead_s, float(REACTION_TICKS)))
    return battery_unit(rules, DEFAULT_LIMITS, now, moment, BatteryMemory())[0].bounds


def connection_bound(rules: SiteRules, others_w: float | None) -> Bound:
    """The room that the connection point leaves for the batteries, given PV and load (`others_w`) now."""
    limits = ConnectionLimits(rules.export_limit_w, rules.import_limit_w)
    return connection_bounds(rules, limits, others_w)[-1]


def connection_bounds(
    rules: SiteRules, limits: ConnectionLimits, others_w: float | None, silent_w: Sequence[float] = ()
) -> tuple[Bound, ...]:
    """The room that curtailment orders and the connection point leave for the batteries, softest first.

    `others_w` is everything at the connection point but the batteries that are read now. `silent_w` are the setpoints
    that batteries which fell silent may still hold: each may end at any moment, by the device's own dead-man, so the
    limits must hold with and without them.
    With the meter lost PV and load are unknown: a site with either of them rests, since any battery power might
    break a limit; a site with the battery alone knows its connection power from the battery.
    """
    if others_w is None and not rules.battery_alone:
        return (Bound("connection power unknown", rules.meter_id or "no meter", 0.0, 0.0, Rank.CONNECTION),)
    ups_w = downs_w = 0.0
    for move_w in silent_w:
        if move_w > 0.0:
            ups_w += move_w
        else:
            downs_w += move_w
    if others_w is None:
        least_w, most_w = downs_w, ups_w
    else:
        least_w, most_w = others_w - ups_w, others_w - downs_w
    upper_w, lower_w = rules.export_limit_w - most_w, -rules.import_limit_w - least_w
    if lower_w > upper_w:
        # Both cannot be kept for a silent battery: count what the meter shows now.
        now_w = others_w if others_w is not None else ups_w + downs_w
        upper_w, lower_w = rules.export_limit_w - now_w, -rules.import_limit_w - now_w
    connection = Bound("connection limit", "site file", lower_w, upper_w, Rank.CONNECTION)
    order = curtailment_bound(limits, most_w, least_w)
    return (connection,) if order is None else (order, connection)


def projection_s(rules: SiteRules, slot_end_utc_s: float | None, utc_s: float) -> float:
    """How far ahead the SoC must stay inside its window: to the slot's end, at least the reaction time."""
    reaction_s = rules.reaction_s
    return reaction_s if slot_end_utc_s is None else max(slot_end_utc_s - utc_s, reaction_s)


def _why_absent(now: BatterySample, moment: BatteryMoment) -> str:
    """Why this battery takes no part, "" when it does."""
    if moment.stopped:
        return f"safety latch: {moment.stopped}"
    if moment.outage_id is not None:
        return f"outage {moment.outage_id}"
    if moment.refused:
        return "it refuses setpoints"
    if now.power_w.value is None or now.ready.value is None:
        return f"readings {now.power_w.quality}"
    if now.ready.value != 1:
        return "not connected and running under remote control"
    soc_pct, capacity_wh = now.soc_pct.value, now.capacity_wh.value
    if soc_pct is None:
        return f"SoC {now.soc_pct.quality}"
    return f"capacity {now.capacity_wh.quality}" if capacity_wh is None else ""


def _power_bounds(
    rules: BatteryRules, limits: BatteryLimits, now: BatterySample, moment: BatteryMoment
) -> tuple[list[Bound], float, float]:
    """Shared inverter, nameplates and live limits, softest first; and the charge and discharge power they leave."""
    owner = rules.device_id
    charge_w, discharge_w = rules.rated_charge_w, rules.rated_discharge_w
    found: list[Bound] = []
    if limits.shared_inverter is not None:
        found.append(inverter_bound(limits.shared_inverter, moment.pv_w, owner))
    found.append(Bound("nameplate in the site file", "site file", -charge_w, discharge_w))
    for limit, charge, discharge in (
        ("nameplate", now.rated_charge_w, now.rated_discharge_w),
        ("live limit", now.live_charge_limit_w, now.live_discharge_limit_w),
    ):
        up_to_charge_w, up_to_discharge_w = charge.value, discharge.value
        lowers_charge = up_to_charge_w is not None and up_to_charge_w < charge_w
        lowers_discharge = up_to_discharge_w is not None and up_to_discharge_w < discharge_w
        if lowers_charge or lowers_discharge:
            # A missing limit is no limit of 0. A negative one is a device in trouble: it allows nothing, and above all
            # it forces nothing.
            most_charge_w = math.inf if up_to_charge_w is None else max(up_to_charge_w, 0.0)
            most_discharge_w = math.inf if up_to_discharge_w is None else max(up_to_discharge_w, 0.0)
            found.append(Bound(limit, owner, -most_charge_w, most_discharge_w))
            charge_w = most_charge_w if most_charge_w < charge_w else charge_w
            discharge_w = most_discharge_w if most_discharge_w < discharge_w else discharge_w
    return found, charge_w, discharge_w


def _by_rank(bounds: tuple[Bound, ...]) -> tuple[tuple[Bound, ...], tuple[Bound, ...]]:
    """The bounds softer than physics, and physics."""
    if not bounds:
        return (), ()
    return (bounds[:-1], bounds[-1:]) if bounds[-1].rank is Rank.PHYSICS else (bounds, ())


def _doing(now: BatterySample, may_hold_w: tuple[float, float] | None) -> tuple[float, float] | None:
    """The lowest and highest power the battery may be giving: as measured, as set, and as being set just now."""
    low_w = high_w = now.power_w.value
    if low_w is None or high_w is None:
        return None
    held_w = now.held_setpoint_w.value
    # Comparisons cost a third of `min` and `max`.
    if held_w is not None:
        low_w, high_w = held_w if held_w < low_w else low_w, held_w if held_w > high_w else high_w
    if may_hold_w is not None:
        lowest_w, highest_w = may_hold_w
        low_w, high_w = lowest_w if lowest_w < low_w else low_w, highest_w if highest_w > high_w else high_w
    return low_w, high_w
