"""What the agent writes down: outcomes of documents, one sample per tick, slots of the ledger.

The store keeps these, the cloud link sends them; neither knows the other. Powers are W and energies Wh, positive
toward the grid; times are Unix seconds; None is a value that was not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from agent.core.authority import Source
from agent.core.orders import OrderDocument, OrderKind
from agent.core.plan import Plan, PlanKind, Slot, Target
from agent.core.slot_energy import SlotAccount, SlotRecord

DocumentKind = PlanKind | OrderKind
DOCUMENT_KINDS: tuple[DocumentKind, ...] = (*PlanKind, *OrderKind)
"""Everything that the cloud sends as a versioned document, one topic each."""
Document = Plan | OrderDocument


class Stream(StrEnum):
    """The numbered streams to the cloud; each has one sequence that rises by 1 and never repeats."""

    ACK = "ack"
    EVENT = "event"
    TELEMETRY = "telemetry"


class Stage(StrEnum):
    """How far a document came: RECEIVED, then REJECTED, or STORED, ACTIVE, and SUPERSEDED or EXPIRED."""

    RECEIVED = "received"
    REJECTED = "rejected"
    STORED = "stored"
    ACTIVE = "active"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one document; `version` is None when it could not be read."""

    at_utc_s: float
    kind: str
    version: int | None
    sha256: str
    stage: Stage
    reason: str | None = None
    """One of the contract's codes, only with REJECTED."""
    field: str | None = None
    detail: str | None = None
    subject: str = "plan"


@dataclass(frozen=True, slots=True)
class HeldDocument:
    """A document as it is kept: the bytes that the cloud sent (after decompression) and what identifies them."""

    kind: str
    version: int
    sha256: str
    received_utc_s: float
    document: bytes


@dataclass(frozen=True, slots=True)
class Sample:
    """The site at one control tick, one row of a telemetry frame."""

    boot_id: str
    at_utc_s: float
    grid_w: float | None
    battery_w: float | None
    pv_w: float | None
    load_w: float | None
    soc_pct: float | None
    frequency_hz: float | None
    target_w: float | None
    """The wanted battery power before limits."""
    setpoint_w: float | None
    """The battery power after limits."""
    source: str


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
    battery_wh: float
    covered_s: float
    soc_end_pct: float | None
    anchor_wh: float | None = None
    grid_wh: float = 0.0
    planned_soc_end_pct: float | None = None
    closed: bool = True

    @property
    def planned_wh(self) -> float:
        """The energy promised for the whole slot."""
        return self.power_w * (self.end_utc_s - self.start_utc_s) / 3600.0


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
        planned_soc_end_pct=slot.soc_end_pct,
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
    )


def slot_account(row: SlotRow) -> SlotAccount:
    """The account that `open_slot_row` wrote down."""
    slot = Slot(row.start_utc_s, row.end_utc_s, row.power_w, Target(row.target), row.planned_soc_end_pct)
    return SlotAccount(slot, Source(row.source), row.version, row.anchor_wh, row.grid_wh, row.battery_wh, row.covered_s)


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """A document that reads well: what it says, and the bytes (after decompression) that are to be kept."""

    content: Document
    document: bytes


class StorageFailed(Exception):  # noqa: N818 - an expected outcome, named for what happened
    """The disk refused: nothing of the call took effect. `database` is "control" or "telemetry"."""

    def __init__(self, database: str, why: str) -> None:
        super().__init__(f"{database}.db: {why}")
        self.database = database
        self.why = why
