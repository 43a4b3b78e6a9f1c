"""What binds the site besides plans: awards, curtailment orders, outages. They constrain every source of authority.

All powers are W; times are Unix seconds, intervals half-open. They come in documents, one of each kind, and a newer
document replaces the one before whole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Direction(StrEnum):
    """Which way an award may move the site: UP is toward the grid, for low frequency."""

    BOTH = "both"
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Award:
    """Primary reserve that was sold for `[start, end)`."""

    award_id: str
    product: str
    """Name of the droop table, a preset or the site's own."""
    start_utc_s: float
    end_utc_s: float
    power_w: float
    """Sold reserve, > 0, in each direction that it covers."""
    direction: Direction = Direction.BOTH


@dataclass(frozen=True, slots=True)
class Curtailment:
    """An order of the grid operator for `[start, end)`: at most this much at the connection point."""

    order_id: str
    start_utc_s: float
    end_utc_s: float
    export_limit_w: float | None = None
    """>= 0; None = the order does not touch export."""
    import_limit_w: float | None = None


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which a device (or with None the whole site) must stay at 0."""

    outage_id: str
    start_utc_s: float
    end_utc_s: float
    device_id: str | None = None


@dataclass(frozen=True, slots=True)
class Orders:
    """All orders in force or to come."""

    awards: tuple[Award, ...] = ()
    curtailments: tuple[Curtailment, ...] = ()
    outages: tuple[Outage, ...] = ()


NO_ORDERS = Orders()


class OrderKind(StrEnum):
    """What a document of orders holds."""

    AWARDS = "awards"
    CURTAILMENTS = "curtailments"
    OUTAGES = "outages"


@dataclass(frozen=True, slots=True)
class OrderDocument:
    """One versioned document: all awards, or all curtailment orders, or all outages that the cloud knows of."""

    kind: OrderKind
    version: int
    sha256: str
    """Hash of the document as it arrived, after decompression: the same version must always have the same hash."""
    issued_utc_s: float
    entries: tuple[Award, ...] | tuple[Curtailment, ...] | tuple[Outage, ...]
    """In the order of the document; empty when all were withdrawn."""

    @property
    def end_utc_s(self) -> float | None:
        """When the last entry ends; None without any."""
        return max((entry.end_utc_s for entry in self.entries), default=None)

    def running(self, utc_s: float) -> bool:
        """Whether any entry is in force at `utc_s`."""
        return any(entry.start_utc_s <= utc_s < entry.end_utc_s for entry in self.entries)


@dataclass(frozen=True, slots=True)
class OrderDocuments:
    """The documents of orders in force, at most one of each kind."""

    awards: OrderDocument | None = None
    curtailments: OrderDocument | None = None
    outages: OrderDocument | None = None

    def of(self, kind: OrderKind) -> OrderDocument | None:
        """The document of this kind."""
        match kind:
            case OrderKind.AWARDS:
                return self.awards
            case OrderKind.CURTAILMENTS:
                return self.curtailments
            case OrderKind.OUTAGES:
                return self.outages

    def replaced(self, document: OrderDocument) -> OrderDocuments:
        """These documents with `document` in the place of its kind."""
        match document.kind:
            case OrderKind.AWARDS:
                return replace(self, awards=document)
            case OrderKind.CURTAILMENTS:
                return replace(self, curtailments=document)
            case OrderKind.OUTAGES:
                return replace(self, outages=document)

    def after(self, utc_s: float) -> Orders:
        """All orders that have not ended at `utc_s`."""
        awards, curtailments, outages = (
            [entry for entry in document.entries if entry.end_utc_s > utc_s] if document is not None else []
            for document in (self.awards, self.curtailments, self.outages)
        )
        return Orders(
            tuple(entry for entry in awards if isinstance(entry, Award)),
            tuple(entry for entry in curtailments if isinstance(entry, Curtailment)),
            tuple(entry for entry in outages if isinstance(entry, Outage)),
        )
