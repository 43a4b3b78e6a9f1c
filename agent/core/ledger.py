"""The slot ledger: per slot what was promised, what was delivered, and the paths that the energy took.

Energies are Wh, those at one place positive toward the grid, those of a path >= 0; times are Unix seconds; None is a
value that was not known.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.core.authority import Source
from agent.core.energy_paths import NOTHING, EnergyPaths
from agent.core.plan import Slot, Target
from agent.core.slot_energy import UNPLANNED, SlotAccount, SlotRecord


@dataclass(frozen=True, slots=True)
class SlotRow:
    """One slot of the ledger, finished (`closed`) or as far as it came; planned against delivered."""

    start_utc_s: float
    end_utc_s: float
    target: str
    power_w: float
    source: str
    version: int | None
    delivered_wh: float | None
    """At the promised place: battery or connection point."""
    battery_wh: float
    covered_s: float
    """Seconds in which the power at the promised place was known."""
    soc_end_pct: float | None
    anchor_wh: float | None = None
    grid_wh: float = 0.0
    """Net energy through the connection point; by the meter's counters once the slot is closed and it has them."""
    planned_soc_end_pct: float | None = None
    closed: bool = True
    anchor_export_wh: float | None = None
    response_wh: float | None = None
    """The part of `delivered_wh` that was frequency response."""
    paths: EnergyPaths | None = None
    """None in a row that a version without energy paths wrote."""

    @property
    def planned_wh(self) -> float | None:
        """The energy promised for the whole slot; None where no plan had one for this time."""
        if self.source in UNPLANNED:
            return None
        return self.power_w * (self.end_utc_s - self.start_utc_s) / 3600.0

    @property
    def imbalance_wh(self) -> float | None:
        """Delivered beyond what was promised; frequency response is owed to the reserve and is no imbalance."""
        if self.delivered_wh is None or self.planned_wh is None:
            return None
        return self.delivered_wh - (self.response_wh or 0.0) - self.planned_wh

    @property
    def unsplit_wh(self) -> float | None:
        """What the meter counted and no path explains: energy of seconds in which a power was not known."""
        return self.grid_wh - self.paths.grid_wh if self.paths is not None else None


def slot_row(record: SlotRecord) -> SlotRow:
    """The ledger row of a finished slot."""
    slot = record.slot
    return SlotRow(
        start_utc_s=slot.start_utc_s,
        end_utc_s=slot.end_utc_s,
        target=slot.target.value,
        power_w=slot.promise_w,
        source=record.source.value,
        version=record.version,
        delivered_wh=record.delivered_wh,
        battery_wh=record.battery_wh,
        covered_s=record.covered_s,
        soc_end_pct=record.soc_end_pct,
        grid_wh=record.grid_wh,
        planned_soc_end_pct=slot.soc_end_pct,
        response_wh=record.response_wh,
        paths=record.paths,
    )


def open_slot_row(account: SlotAccount) -> SlotRow:
    """The ledger row of the slot that runs, so that a restart goes on counting where it was killed."""
    slot = account.slot
    return SlotRow(
        start_utc_s=slot.start_utc_s,
        end_utc_s=slot.end_utc_s,
        target=slot.target.value,
        power_w=slot.promise_w,
        source=account.source.value,
        version=account.version,
        delivered_wh=None,
        battery_wh=account.battery_wh,
        covered_s=account.covered_s,
        soc_end_pct=None,
        anchor_wh=account.anchor_wh,
        grid_wh=account.grid_wh,
        planned_soc_end_pct=slot.soc_end_pct,
        closed=False,
        anchor_export_wh=account.anchor_export_wh,
        response_wh=account.response_wh,
        paths=account.paths,
    )


def slot_account(row: SlotRow) -> SlotAccount:
    """The account that `open_slot_row` wrote down."""
    return SlotAccount(
        slot=Slot(row.start_utc_s, row.end_utc_s, row.power_w, Target(row.target), row.planned_soc_end_pct),
        source=Source(row.source),
        version=row.version,
        anchor_wh=row.anchor_wh,
        grid_wh=row.grid_wh,
        battery_wh=row.battery_wh,
        covered_s=row.covered_s,
        response_wh=row.response_wh or 0.0,
        paths=row.paths or NOTHING,
        anchor_export_wh=row.anchor_export_wh,
    )
