"""The energy of the slot that runs now: what was promised, what is done, what power makes the rest true.

A `grid` slot is a promise of energy at the connection point. Its power is steered so that the remaining energy
spreads over the remaining time: `p = (E_plan - E_done) / t_left`. Near the end `t_left` is held at a floor, so
that a small rest never becomes a spike.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.authority import Source
from agent.core.energy_paths import NOTHING, EnergyPaths, added, scaled_to
from agent.core.made_often import made_often
from agent.core.plan import Slot, Target
from agent.core.snapshot import MeterSample

UNPLANNED = frozenset({Source.LOCAL_RULE, Source.NEUTRAL})
"""Under these nothing was promised; energy flows all the same, and settlement asks for it."""
UNPLANNED_SLOT_S = 1800.0
"""Time without a plan is accounted for up to each half-hour."""
TRACK_FLOOR_TICKS = 5
"""The remaining time counts as at least this many ticks; the loop through meter and device is slower than one."""
SPLIT_SHARE = 0.999
"""Paths that cover at least this share of a slot are those of the whole slot, and may be corrected to the meter."""
MAX_COUNTER_AGE_S = 5.0
"""An energy counter read longer ago than this is not carried forward by its power."""


@made_often
@dataclass(frozen=True, slots=True)
class SlotAccount:
    """One slot as executed so far. Energies in Wh, + toward the grid."""

    slot: Slot
    source: Source
    version: int | None
    anchor_wh: float | None
    """Net energy counter of the connection meter at the slot's start, None where it has none."""
    grid_wh: float = 0.0
    """Integrated meter power, used where there is no counter."""
    battery_wh: float = 0.0
    covered_s: float = 0.0
    """Seconds of the slot with measured power at the promised place."""
    response_wh: float = 0.0
    """Energy of frequency response within the slot: owed to the reserve, never made good by the tracker."""
    paths: EnergyPaths = NOTHING
    anchor_export_wh: float | None = None
    """Export counter of the connection meter at the slot's start; with `anchor_wh` it gives the import counter."""

    @property
    def planned(self) -> bool:
        """True when a plan promised this slot."""
        return self.source not in UNPLANNED

    def same_time(self, slot: Slot) -> bool:
        """True when `slot` is this slot, perhaps with a revised promise: the energy done so far still counts."""
        mine = self.slot
        if not self.planned:
            return mine.start_utc_s == slot.start_utc_s
        return (mine.start_utc_s, mine.end_utc_s, mine.target) == (
            slot.start_utc_s,
            slot.end_utc_s,
            slot.target,
        )

    def done_wh(self, counter_wh: float | None) -> float:
        """Energy delivered at the promised place; `counter_wh` is the net counter now, which beats integration."""
        if self.slot.target is Target.BATTERY:
            return self.battery_wh
        if self.anchor_wh is not None and counter_wh is not None:
            return counter_wh - self.anchor_wh
        return self.grid_wh


@dataclass(frozen=True, slots=True)
class SlotRecord:
    """One finished slot for the ledger: planned against delivered, Wh, + toward the grid."""

    slot: Slot
    source: Source
    version: int | None
    delivered_wh: float
    battery_wh: float
    covered_s: float
    soc_end_pct: float | None
    grid_wh: float
    """Net energy through the connection point: what the meter counted, else its power integrated."""
    response_wh: float = 0.0
    """The part of `delivered_wh` that was frequency response."""
    paths: EnergyPaths = NOTHING
    """Where the energy came from and went to; the grid's legs add up to the meter's counters where it has them."""


@made_often
@dataclass(frozen=True, slots=True)
class Flows:
    """The powers that count for an account, W, + toward the grid; None = not measured."""

    grid_w: float | None
    battery_w: float | None
    pv_w: float | None = None
    load_w: float | None = None
    response_w: float = 0.0
    has_pv: bool = True


def advance(account: SlotAccount, dt_s: float, flows: Flows) -> SlotAccount:
    """The account `dt_s` later under these powers; what was not measured is not counted."""
    if dt_s <= 0.0:
        return account
    grid_w, battery_w = flows.grid_w, flows.battery_w
    at_place_w = battery_w if account.slot.target is Target.BATTERY else grid_w
    hours = dt_s / 3600.0
    split_w, load_w = battery_w, flows.load_w
    if not flows.has_pv and split_w is not None and load_w is not None and load_w > 0.0:
        # Battery and meter are not read at the same instant; what shows in between is no generation.
        split_w, load_w = split_w + load_w, 0.0
    return SlotAccount(
        account.slot,
        account.source,
        account.version,
        account.anchor_wh,
        account.grid_wh + (grid_w * hours if grid_w is not None else 0.0),
        account.battery_wh + (battery_w * hours if battery_w is not None else 0.0),
        account.covered_s + (dt_s if at_place_w is not None else 0.0),
        account.response_wh + flows.response_w * hours,
        added(account.paths, dt_s, split_w, flows.pv_w, load_w),
        account.anchor_export_wh,
    )


def unplanned_slot(utc_s: float, target: Target, before: SlotAccount | None) -> Slot:
    """The stretch without a plan at `utc_s`: from where the slot before ended, or from now, to the next half-hour."""
    if before is not None and not before.planned and before.slot.start_utc_s <= utc_s < before.slot.end_utc_s:
        return before.slot
    begin_utc_s = utc_s // UNPLANNED_SLOT_S * UNPLANNED_SLOT_S
    start_utc_s = utc_s
    if before is not None and begin_utc_s <= before.slot.end_utc_s <= utc_s:
        start_utc_s = before.slot.end_utc_s
    return Slot(start_utc_s, begin_utc_s + UNPLANNED_SLOT_S, 0.0, target)


def close(
    account: SlotAccount, counter_wh: float | None, export_counter_wh: float | None, soc_pct: float | None
) -> SlotRecord:
    """The ledger's record of a finished slot; net and export counter are those at its end."""
    paths, grid_wh = account.paths, account.grid_wh
    if account.anchor_wh is not None and counter_wh is not None:
        grid_wh = counter_wh - account.anchor_wh
        whole = paths.split_s >= SPLIT_SHARE * (account.slot.end_utc_s - account.slot.start_utc_s)
        if whole and account.anchor_export_wh is not None and export_counter_wh is not None:
            exported_wh = export_counter_wh - account.anchor_export_wh
            paths = scaled_to(paths, exported_wh, exported_wh - grid_wh)
    return SlotRecord(
        account.slot,
        account.source,
        account.version,
        account.done_wh(counter_wh),
        account.battery_wh,
        account.covered_s,
        soc_pct,
        grid_wh,
        account.response_wh,
        paths,
    )


def net_counter_wh(meter: MeterSample, at_mono_s: float) -> float | None:
    """Net exported energy at `at_mono_s`: the counters as read, carried there by the measured power."""
    exported, imported, power = meter.export_wh, meter.import_wh, meter.power_w
    if exported.value is None or imported.value is None or power.value is None:
        return None
    age_s = at_mono_s - exported.read_mono_s
    if abs(age_s) > MAX_COUNTER_AGE_S:
        return None
    return exported.value - imported.value + power.value * age_s / 3600.0


def export_counter_wh(meter: MeterSample, at_mono_s: float) -> float | None:
    """Exported energy at `at_mono_s`, by the same rules as `net_counter_wh`."""
    if net_counter_wh(meter, at_mono_s) is None:
        return None
    assert meter.export_wh.value is not None
    assert meter.power_w.value is not None
    return meter.export_wh.value + max(meter.power_w.value, 0.0) * (at_mono_s - meter.export_wh.read_mono_s) / 3600.0


def tracked_power_w(
    account: SlotAccount, utc_s: float, tick_s: float, counter_wh: float | None, reaction_s: float = 0.0
) -> float:
    """The connection power for now that brings the slot's energy home.

    What a battery cannot follow any more before the slot's end (`reaction_s`) is not asked of it.
    """
    left_s = max(account.slot.end_utc_s - utc_s, reaction_s, TRACK_FLOOR_TICKS * tick_s)
    missing_wh = account.slot.energy_wh - (account.done_wh(counter_wh) - account.response_wh)
    # Over the floor the plan's own power is already in `missing_wh` only for the true rest of the slot.
    true_left_s = account.slot.end_utc_s - utc_s
    ahead_of_plan_wh = missing_wh - account.slot.power_w * true_left_s / 3600.0
    return account.slot.power_w + ahead_of_plan_wh * 3600.0 / left_s
