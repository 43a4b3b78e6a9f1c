"""What a re-planning is asked and what it answers: one horizon of slots, one battery, the real SoC.

All batteries of the site count as one. Powers are W at the AC terminals or the connection point, positive toward the
grid, limits >= 0; energies Wh; prices per kWh in the market's currency; times Unix seconds. A value that is not known
is None, never 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from agent.core.made_often import made_often
from agent.core.plan import Slot, Target

MAX_SLOTS = 1000
"""48 h in 5-minute slots are 576; more than this is not solved in the time that we have."""
MAX_SLOT_S = 3600.0
MAX_POWER_W = 1e10
MAX_CAPACITY_WH = 1e11
MAX_STANDBY_PER_H = 0.02
"""Of the capacity per hour; a battery that loses more is broken, not to be planned."""
MAX_PRICE_PER_KWH = 1e6
"""Anything beyond is a wrong unit; it would also spoil the solver's numerics."""
MAX_UTC_S = 1e11


@made_often
@dataclass(frozen=True, slots=True)
class ReplanSlot:
    """One slot `[start, end)`: what was promised, what it is worth, what else happens, what is possible."""

    start_utc_s: float
    end_utc_s: float
    target: Target
    """Where `sold_w` is meant."""
    sold_w: float | None
    """Promised power; None = nothing is promised for this slot."""
    price_per_kwh: float | None
    imbalance_price_per_kwh: float | None
    """What a kWh of deviation from `sold_w` costs, either way; below 0 counts as 0."""
    pv_w: float
    load_w: float
    """Forecasts; `load_w` is <= 0 where it is a load."""
    charge_limit_w: float
    discharge_limit_w: float
    """What the batteries can do; 0 in an outage."""
    export_limit_w: float
    import_limit_w: float
    """Of the connection point, curtailment orders included."""
    award_up_w: float = 0.0
    award_down_w: float = 0.0
    """Power held free for primary reserve."""
    award_up_wh: float = 0.0
    award_down_wh: float = 0.0
    """Energy held ready for it at the terminals, from the slot's start to its end."""

    @property
    def hours(self) -> float:
        """Length of the slot."""
        return (self.end_utc_s - self.start_utc_s) / 3600.0

    @property
    def others_w(self) -> float:
        """PV and load together."""
        return self.pv_w + self.load_w

    @property
    def wanted_battery_w(self) -> float | None:
        """The battery power that would keep the promise."""
        if self.sold_w is None or self.target is Target.BATTERY:
            return self.sold_w
        return self.sold_w - self.others_w


@dataclass(frozen=True, slots=True)
class ReplanRequest:
    """The whole question. The slots follow each other without a hole; the first one begins now."""

    slots: tuple[ReplanSlot, ...]
    soc_now_pct: float
    soc_min_pct: float
    soc_max_pct: float
    capacity_wh: float
    charge_efficiency: float
    """From the terminals into the cells, 0..1."""
    discharge_efficiency: float
    """From the cells to the terminals, 0..1."""
    cycle_cost_per_kwh: float = 0.0
    """Wear, per kWh discharged at the terminals."""
    terminal_soc_pct: float | None = None
    """Wanted at the end, softly. None = each kWh left in the cells is worth `terminal_value_per_kwh`."""
    terminal_value_per_kwh: float = 0.0
    """What each kWh costs that is missing to `terminal_soc_pct` at the end."""
    standby_w: float = 0.0
    """What the cells lose at any time, over charge and discharge."""

    @property
    def energy_now_wh(self) -> float:
        """Energy in the cells now."""
        return self.capacity_wh * self.soc_now_pct / 100.0

    @property
    def energy_min_wh(self) -> float:
        """The lower edge of the SoC band."""
        return self.capacity_wh * self.soc_min_pct / 100.0

    @property
    def energy_max_wh(self) -> float:
        """The upper edge of the SoC band."""
        return self.capacity_wh * self.soc_max_pct / 100.0


@made_often
@dataclass(frozen=True, slots=True)
class PlannedSlot:
    """One slot of the answer."""

    start_utc_s: float
    end_utc_s: float
    target: Target
    battery_w: float
    grid_w: float
    """With the forecast PV and load, PV limited where the connection point cannot take it."""
    soc_end_pct: float | None
    """None when the SoC now is not known."""

    @property
    def slot(self) -> Slot:
        """The same as a slot to execute, at the place of its promise."""
        power_w = self.battery_w if self.target is Target.BATTERY else self.grid_w
        return Slot(self.start_utc_s, self.end_utc_s, power_w, self.target, self.soc_end_pct)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request cannot be solved; `field` is the place, for example `slots[3].price_per_kwh`."""

    field: str
    why: str

    def __str__(self) -> str:
        return f"{self.field}: {self.why}"


def planned_slot(asked: ReplanSlot, battery_w: float, soc_end_pct: float | None) -> PlannedSlot:
    """The answer for one slot; PV is limited to what the connection point can take beside the battery."""
    grid_w = asked.others_w + battery_w
    surplus_w = max(0.0, grid_w - asked.export_limit_w)
    grid_w -= min(surplus_w, max(asked.pv_w, 0.0))
    if soc_end_pct is not None:
        soc_end_pct = max(soc_end_pct, 0.0)  # an empty battery loses nothing more
    return PlannedSlot(asked.start_utc_s, asked.end_utc_s, asked.target, battery_w, grid_w, soc_end_pct)


def refusal(request: ReplanRequest) -> Refusal | None:
    """Why this request is not handed to the solver, None when it may be."""
    return physics_refusal(request) or _money_refusal(request)


def physics_refusal(request: ReplanRequest) -> Refusal | None:
    """What makes even a rule-based plan impossible: the battery or the slots are not what they can be."""
    for name, low, high in (
        ("soc_now_pct", 0.0, 100.0),
        ("soc_min_pct", 0.0, 100.0),
        ("soc_max_pct", request.soc_min_pct, 100.0),
        ("capacity_wh", 1.0, MAX_CAPACITY_WH),
        ("charge_efficiency", 0.01, 1.0),
        ("discharge_efficiency", 0.01, 1.0),
        ("standby_w", 0.0, MAX_STANDBY_PER_H * request.capacity_wh),
    ):
        if why := _outside(getattr(request, name), low, high):
            return Refusal(name, why)
    if not 1 <= len(request.slots) <= MAX_SLOTS:
        return Refusal("slots", f"{len(request.slots)} slots; 1 to {MAX_SLOTS} can be planned")
    for index, slot in enumerate(request.slots):
        found = _slot_refusal(slot, request.slots[index - 1].end_utc_s if index else slot.start_utc_s)
        if found is not None:
            return Refusal(f"slots[{index}].{found.field}", found.why)
    return None


def _slot_refusal(slot: ReplanSlot, begins_utc_s: float) -> Refusal | None:
    for name, low in _POWERS:
        if why := _outside(getattr(slot, name), low, MAX_POWER_W):
            return Refusal(name, why)
    if slot.sold_w is not None and (why := _outside(slot.sold_w, -MAX_POWER_W, MAX_POWER_W)):
        return Refusal("sold_w", why)
    if why := _outside(slot.start_utc_s, 0.0, MAX_UTC_S):
        return Refusal("start_utc_s", why)
    if slot.start_utc_s != begins_utc_s:
        return Refusal("start_utc_s", "does not begin where the slot before ends")
    if not 0.0 < slot.end_utc_s - slot.start_utc_s <= MAX_SLOT_S:
        return Refusal("end_utc_s", f"the slot is not longer than 0 s and at most {MAX_SLOT_S:g} s")
    return None


_LIMITS = (
    "charge_limit_w", "discharge_limit_w", "export_limit_w", "import_limit_w",
    "award_up_w", "award_down_w", "award_up_wh", "award_down_wh",
)  # fmt: skip
_POWERS = (("pv_w", -MAX_POWER_W), ("load_w", -MAX_POWER_W), *((name, 0.0) for name in _LIMITS))
"""What each may be at least."""


def _money_refusal(request: ReplanRequest) -> Refusal | None:
    for name in ("cycle_cost_per_kwh", "terminal_value_per_kwh"):
        if why := _outside(getattr(request, name), 0.0, MAX_PRICE_PER_KWH):
            return Refusal(name, why)
    if request.terminal_soc_pct is not None and (why := _outside(request.terminal_soc_pct, 0.0, 100.0)):
        return Refusal("terminal_soc_pct", why)
    for index, slot in enumerate(request.slots):
        for name in ("price_per_kwh", "imbalance_price_per_kwh"):
            price = getattr(slot, name)
            if price is not None and (why := _outside(price, -MAX_PRICE_PER_KWH, MAX_PRICE_PER_KWH)):
                return Refusal(f"slots[{index}].{name}", why)
    return None


def _outside(value: float, low: float, high: float) -> str | None:
    if low <= value <= high:
        return None
    if not math.isfinite(value):
        return "is not a finite number; a value that is not known is null"
    return f"{value:g} is outside {low:g} to {high:g}"


WAY_BACK_S = 6 * 3600.0
"""A SoC outside its band is brought back at the best price of this time, not at any price at once."""


@made_often
@dataclass(frozen=True, slots=True)
class SlotRoom:
    """What the battery may do in one slot. Resting at 0 W is always inside: nothing can make a plan impossible."""

    lower_w: float
    upper_w: float
    must_w: float
    """Battery power asked for by the connection point: > 0 against too much import, < 0 against too much export."""
    band_low_wh: float
    band_high_wh: float
    """Energy in the cells at the slot's end: the SoC band, and the SoC of the start before the way back begins."""
    reserve_low_wh: float
    reserve_high_wh: float
    """Energy in the cells at the slot's end between these serves the awards around it."""


def rooms(request: ReplanRequest) -> tuple[SlotRoom, ...]:
    """The room of each slot, what clashes softened in this order.

    The device's limits and the SoC band stay. Award power beyond the device's limit is cut to it. Against too much
    import the battery may use the award's power, for the load cannot be cut; against too much export it may not, for
    PV can be limited. The battery never takes room at the connection point that PV or load or the award need.
    Award energy for both directions together beyond the band is cut in proportion.
    """
    back = _way_back(request)
    return tuple(_room(request, index, waits=index < back) for index in range(len(request.slots)))


def _way_back(request: ReplanRequest) -> int:
    """The slot in which a start outside the SoC band begins its way back: the best priced of the next hours."""
    start_wh, slots = request.energy_now_wh, request.slots
    if request.energy_min_wh <= start_wh <= request.energy_max_wh:
        return 0
    sign = 1.0 if start_wh < request.energy_min_wh else -1.0
    soon = [slot for slot in slots if slot.start_utc_s < slots[0].start_utc_s + WAY_BACK_S]
    prices = [slot.price_per_kwh for slot in soon]
    known = [sign * price for price in prices if price is not None]
    return known.index(min(known)) if len(known) == len(prices) else 0


def _room(request: ReplanRequest, index: int, *, waits: bool) -> SlotRoom:
    slot = request.slots[index]
    others_w = slot.others_w
    upper_w = min(
        max(0.0, slot.discharge_limit_w - slot.award_up_w),
        max(0.0, slot.export_limit_w - others_w - slot.award_up_w),
    )
    lower_w = -min(
        max(0.0, slot.charge_limit_w - slot.award_down_w),
        max(0.0, slot.import_limit_w + others_w - slot.award_down_w),
    )
    must_w = 0.0
    if others_w > slot.export_limit_w:
        must_w = slot.export_limit_w - others_w
    elif -others_w > slot.import_limit_w:
        must_w = -others_w - slot.import_limit_w
        upper_w = max(upper_w, min(slot.discharge_limit_w, must_w))
    after = request.slots[index + 1] if index + 1 < len(request.slots) else slot
    up_wh = max(slot.award_up_wh, after.award_up_wh) / request.discharge_efficiency
    down_wh = max(slot.award_down_wh, after.award_down_wh) * request.charge_efficiency
    band_low_wh, band_high_wh = request.energy_min_wh, request.energy_max_wh
    band_wh = band_high_wh - band_low_wh
    if waits and request.energy_now_wh < band_low_wh:
        drained_wh = request.standby_w * (slot.end_utc_s - request.slots[0].start_utc_s) / 3600.0
        band_low_wh, upper_w = request.energy_now_wh - drained_wh, min(upper_w, max(0.0, must_w))
    elif waits:
        band_high_wh, lower_w = request.energy_now_wh, max(lower_w, min(0.0, must_w))
    fits = min(1.0, band_wh / (up_wh + down_wh)) if up_wh + down_wh > 0.0 else 1.0
    low_wh = band_low_wh + up_wh * fits
    return SlotRoom(
        lower_w, upper_w, must_w, band_low_wh, band_high_wh, low_wh, max(low_wh, band_high_wh - down_wh * fits)
    )
