"""Documents of orders as the contract has them: awards, curtailments, outages, in W, or refused by name."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, FailFast, Field, model_validator

from agent.cloud.wire_fields import W_PER_UNIT, Message, Time, Unit, Version, validated
from agent.core.admission import Refused
from agent.core.orders import Award, Curtailment, Direction, OrderDocument, OrderKind, Outage

MOST_ENTRIES = 1000
"""Three weeks of half hours; each is looked at when the document comes, and once a minute."""

EntryId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")]
Limit = Annotated[float, Field(ge=0)]


class _Entry(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    id: EntryId = Field(
        description="1 to 64 of letters, digits and `. _ : -`; names it in conditions, status, evidence"
    )
    start: Time = Field(description="it counts from here")
    end: Time = Field(description="up to here, not included")

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> Self:
        if not self.start < self.end:
            raise ValueError("end must be later than start")
        return self


class AwardEntry(_Entry):
    """One award, still in the cloud's unit."""

    product: Name = Field(description="the droop table: a preset of the agent, or one of the site file")
    power: float = Field(gt=0, description="reserve sold, in each direction that it covers")
    direction: Literal["both", "up", "down"] = Field(
        description="`up`: more power toward the grid when the frequency is low"
    )


class CurtailmentEntry(_Entry):
    """One order of the grid operator, still in the cloud's unit."""

    export_limit: Limit | None = Field(default=None, description="the most that may flow out; null = not touched")
    import_limit: Limit | None = Field(default=None, description="the most that may flow in; one of the two is needed")

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.export_limit is None and self.import_limit is None:
            raise ValueError("export_limit or import_limit must be given: this order limits nothing")
        return self


class OutageEntry(_Entry):
    """A time in which a device, or with null the whole site, must stay at 0."""

    device: Name | None = Field(description="a device id of the site file; null = every battery of the site")


class _Orders(Message):
    version: Version = Field(description="as in a plan; versions count per kind")
    issued_at: Time = Field(description="when the cloud made it; at most 5 minutes ahead of the site's clock")


class AwardsMessage(_Orders):
    """All awards that the cloud knows of."""

    kind: Literal["awards"] = Field(description="must match the topic")
    unit: Unit = Field(description="of every `power`")
    awards: Annotated[list[AwardEntry], FailFast()] = Field(
        max_length=MOST_ENTRIES, description=f"all in force or to come, at most {MOST_ENTRIES}"
    )


class CurtailmentsMessage(_Orders):
    """All curtailment orders that the cloud knows of."""

    kind: Literal["curtailments"] = Field(description="must match the topic")
    unit: Unit = Field(description="of the limits")
    curtailments: Annotated[list[CurtailmentEntry], FailFast()] = Field(
        max_length=MOST_ENTRIES, description=f"all in force or to come, at most {MOST_ENTRIES}"
    )


class OutagesMessage(_Orders):
    """All outages that the cloud knows of."""

    kind: Literal["outages"] = Field(description="must match the topic")
    outages: Annotated[list[OutageEntry], FailFast()] = Field(
        max_length=MOST_ENTRIES, description=f"all in force or to come, at most {MOST_ENTRIES}"
    )


def order_document(kind: OrderKind, content: dict[str, Any], sha256: str, site_id: str) -> OrderDocument | Refused:
    """The orders in W, or why the document is refused."""
    entries: tuple[Award, ...] | tuple[Curtailment, ...] | tuple[Outage, ...]
    message: AwardsMessage | CurtailmentsMessage | OutagesMessage | Refused
    match kind:
        case OrderKind.AWARDS:
            message = validated(AwardsMessage, content, site_id)
            if isinstance(message, Refused):
                return message
            entries = tuple(_award(entry, W_PER_UNIT[message.unit]) for entry in message.awards)
        case OrderKind.CURTAILMENTS:
            message = validated(CurtailmentsMessage, content, site_id)
            if isinstance(message, Refused):
                return message
            entries = tuple(_curtailment(entry, W_PER_UNIT[message.unit]) for entry in message.curtailments)
        case OrderKind.OUTAGES:
            message = validated(OutagesMessage, content, site_id)
            if isinstance(message, Refused):
                return message
            entries = tuple(Outage(entry.id, entry.start, entry.end, entry.device) for entry in message.outages)
    return OrderDocument(kind, message.version, sha256, message.issued_at, entries)


def _award(entry: AwardEntry, factor: float) -> Award:
    direction = Direction(entry.direction)
    return Award(entry.id, entry.product, entry.start, entry.end, entry.power * factor, direction)


def _curtailment(entry: CurtailmentEntry, factor: float) -> Curtailment:
    def watts(limit: float | None) -> float | None:
        return None if limit is None else limit * factor

    return Curtailment(entry.id, entry.start, entry.end, watts(entry.export_limit), watts(entry.import_limit))
