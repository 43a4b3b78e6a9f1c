"""What the agent writes down: outcomes of documents and one sample per tick (slots are in `ledger`).

The store keeps these, the cloud link sends them; neither knows the other. Powers are W and energies Wh, positive
toward the grid; times are Unix seconds; None is a value that was not known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from agent.core.orders import OrderDocument, OrderKind
from agent.core.plan import Plan, PlanKind

DocumentKind = PlanKind | OrderKind
DOCUMENT_KINDS: tuple[DocumentKind, ...] = (*PlanKind, *OrderKind)
"""Everything that the cloud sends as a versioned document, one topic each."""
Document = Plan | OrderDocument


class Stream(StrEnum):
    """The numbered streams to the cloud; each has one sequence that rises by 1 and never repeats."""

    ACK = "ack"
    EVENT = "event"
    TELEMETRY = "telemetry"
    LEDGER = "ledger"
    FULL_RATE = "full_rate"
    """Frames of every tick where the link is metered: kept on the site, sent when the cloud asks for them."""


class Stage(StrEnum):
    """How far a message of the cloud came.

    A document: RECEIVED, then REJECTED, or STORED, ACTIVE, and SUPERSEDED or EXPIRED. A command: RECEIVED, then
    REJECTED, or ACCEPTED, and DONE, FAILED or EXPIRED.
    """

    RECEIVED = "received"
    REJECTED = "rejected"
    STORED = "stored"
    ACTIVE = "active"
    ACCEPTED = "accepted"
    DONE = "done"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one document or command; `version` is None when it could not be read, and with a command."""

    at_utc_s: float
    kind: str
    version: int | None
    sha256: str
    stage: Stage
    reason: str | None = None
    """One of the contract's codes; with REJECTED always, and where a command ended without its effect."""
    field: str | None = None
    detail: str | None = None
    subject: str = "plan"
    command_id: str | None = None
    """Of a command, where it could be read."""


@dataclass(frozen=True, slots=True)
class CommandRecord:
    """One command as it is kept: what identifies it, and how far it came. An id is in the record once."""

    command_id: str
    sha256: str
    type: str
    """"unknown" where it could not be read."""
    received_utc_s: float
    expires_utc_s: float
    stage: Stage
    """ACCEPTED, or one of REJECTED, DONE, FAILED and EXPIRED, which are for ever."""
    document: bytes | None
    """As it arrived (after decompression), as long as it has no terminal outcome."""
    until_utc_s: float | None
    """When its effect ends, where that lasts."""
    at_utc_s: float
    """When the stage was reached."""
    reason: str | None = None
    field: str | None = None
    detail: str | None = None

    @property
    def outcome(self) -> Outcome:
        """The stage as it is told to the cloud."""
        return Outcome(
            self.at_utc_s, self.type, None, self.sha256, self.stage, self.reason, self.field, self.detail, "command",
            self.command_id,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class CommandEnd:
    """The terminal outcome of a command that was accepted."""

    command_id: str
    stage: Stage
    at_utc_s: float
    reason: str | None = None
    detail: str | None = None


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
    points: Mapping[str, float | None] = field(default_factory=dict)
    """What each device told, `device.point`: see `agent.core.points`."""


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
