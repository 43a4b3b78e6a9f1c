"""Commands as the contract has them: one message per type, in W and positive toward the grid, or refused by name."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from agent.cloud.document import decompressed, json_object, printable
from agent.cloud.wire_fields import W_PER_UNIT, Message, Sequence53, Time, Unit, validated
from agent.core.admission import Refused
from agent.core.command import (
    LONGEST_COMMAND_S,
    LONGEST_LIVE_S,
    Command,
    CommandType,
    FcrEvidence,
    Hold,
    Live,
    NarrowLimits,
    Neutral,
    Params,
    Release,
    Report,
    Resend,
    SetPower,
)
from agent.core.plan import Target
from agent.core.records import Stream

MAX_COMMAND_BYTES = 16 * 1024
"""Before and after decompression: it is read between two ticks of the control loop, so a hostile one must be small."""
COMMAND_ID_PATTERN = r"^[A-Za-z0-9._:-]{1,64}$"

CommandId = Annotated[str, Field(pattern=COMMAND_ID_PATTERN)]
Duration = Annotated[float, Field(gt=0, le=LONGEST_COMMAND_S)]
LiveDuration = Annotated[float, Field(gt=0, le=LONGEST_LIVE_S)]
Limit = Annotated[float, Field(ge=0)]


class _Params(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)


class SetPowerParams(_Params):
    """A power in the cloud's unit and sign."""

    target: Literal["battery", "grid"] = Field(
        description="`battery`: power at the battery terminals. `grid`: power at the connection point"
    )
    power: float = Field(description="within 1.05 times the rating or the connection limit; every limit clips it")
    unit: Unit = Field(description="of `power`")
    positive: Literal["export", "import"] = Field(description="what a positive number means")
    duration_s: Duration = Field(description="from its acceptance on")

    def meant(self) -> SetPower:
        """In W, positive toward the grid."""
        sign = 1.0 if self.positive == "export" else -1.0
        # "+ 0.0" turns the -0.0 of an imported zero into a plain one
        return SetPower(Target(self.target), self.power * sign * W_PER_UNIT[self.unit] + 0.0, self.duration_s)


class HoldParams(_Params):
    """How long to rest."""

    duration_s: Duration = Field(description="from its acceptance on")

    def meant(self) -> Hold:
        """As the core has it."""
        return Hold(self.duration_s)


class NeutralParams(_Params):
    """How long to do nothing at all."""

    duration_s: Duration = Field(description="from its acceptance on")

    def meant(self) -> Neutral:
        """As the core has it."""
        return Neutral(self.duration_s)


class ReleaseParams(_Params):
    """Which command to end."""

    id: CommandId | None = Field(
        default=None, description="the command to end; without it the `set_power`, `hold` or `neutral` in force"
    )

    def meant(self) -> Release:
        """As the core has it."""
        return Release(self.id)


class NarrowLimitsParams(_Params):
    """Tighter limits in the cloud's unit."""

    unit: Unit = Field(description="of every limit")
    duration_s: Duration = Field(description="from its acceptance on")
    export_limit: Limit | None = Field(default=None, description="most that may leave the connection point")
    import_limit: Limit | None = Field(default=None, description="most that may enter at the connection point")
    discharge_limit: Limit | None = Field(default=None, description="most that all batteries together may give")
    charge_limit: Limit | None = Field(default=None, description="most that all batteries together may take")

    @model_validator(mode="after")
    def _narrows_something(self) -> Self:
        if all(
            limit is None for limit in (self.export_limit, self.import_limit, self.discharge_limit, self.charge_limit)
        ):
            raise ValueError("one of export_limit, import_limit, discharge_limit and charge_limit must be given")
        return self

    def meant(self) -> NarrowLimits:
        """In W."""

        def watts(limit: float | None) -> float | None:
            return None if limit is None else limit * W_PER_UNIT[self.unit]

        return NarrowLimits(
            self.duration_s,
            watts(self.export_limit),
            watts(self.import_limit),
            watts(self.discharge_limit),
            watts(self.charge_limit),
        )


class LiveParams(_Params):
    """How long to send a frame every second."""

    duration_s: LiveDuration = Field(description="from its acceptance on; a second one counts instead of the first")

    def meant(self) -> Live:
        """As the core has it."""
        return Live(self.duration_s)


class ResendParams(_Params):
    """A range of sequences, both ends included."""

    stream: Literal["telemetry", "full_rate", "ack", "event", "ledger"] = Field(description="what is wanted again")
    from_seq: Annotated[Sequence53, Field(ge=1)] = Field(description="the first")
    to_seq: Annotated[Sequence53, Field(ge=1)] = Field(description="the last; at most 100 000 at once")

    def meant(self) -> Resend:
        """As the core has it."""
        return Resend(Stream(self.stream), self.from_seq, self.to_seq)


class ReportParams(_Params):
    """Nothing to say."""

    def meant(self) -> Report:
        """As the core has it."""
        return Report()


class FcrEvidenceParams(_Params):
    """A time, its end not included."""

    from_: Time = Field(alias="from", description="the first second")
    to: Time = Field(description="up to here, not included; at most 7 days")

    def meant(self) -> FcrEvidence:
        """As the core has it."""
        return FcrEvidence(self.from_, self.to)


class CommandMessage(Message):
    """What every command has."""

    id: CommandId = Field(description="of your choice, once and for ever: 1 to 64 of letters, digits and `. _ : -`")
    issued_at: Time = Field(description="when the cloud made it; at most 5 minutes ahead of the site's clock")
    expires_at: Time = Field(description="taken later it has no effect; at most 24 h after `issued_at`")


class SetPowerMessage(CommandMessage):
    """A power for a time."""

    type: Literal["set_power"] = Field(description="what to do")
    params: SetPowerParams = Field(description="how")


class HoldMessage(CommandMessage):
    """The batteries rest; sold reserve is still answered."""

    type: Literal["hold"] = Field(description="what to do")
    params: HoldParams = Field(description="how")


class NeutralMessage(CommandMessage):
    """The batteries rest; nothing moves them."""

    type: Literal["neutral"] = Field(description="what to do")
    params: NeutralParams = Field(description="how")


class ReleaseMessage(CommandMessage):
    """An earlier command ends now."""

    type: Literal["release"] = Field(description="what to do")
    params: ReleaseParams = Field(description="how")


class NarrowLimitsMessage(CommandMessage):
    """Tighter limits for a time."""

    type: Literal["narrow_limits"] = Field(description="what to do")
    params: NarrowLimitsParams = Field(description="how")


class LiveMessage(CommandMessage):
    """A telemetry frame every second for a time."""

    type: Literal["live"] = Field(description="what to do")
    params: LiveParams = Field(description="how")


class ResendMessage(CommandMessage):
    """Sequences that are wanted once more."""

    type: Literal["resend"] = Field(description="what to do")
    params: ResendParams = Field(description="how")


class ReportMessage(CommandMessage):
    """The status is wanted now."""

    type: Literal["report"] = Field(description="what to do")
    params: ReportParams = Field(description="how")


class FcrEvidenceMessage(CommandMessage):
    """The seconds of frequency response of a time are wanted."""

    type: Literal["fcr_evidence"] = Field(description="what to do")
    params: FcrEvidenceParams = Field(description="how")


AnyCommandMessage = (
    SetPowerMessage
    | HoldMessage
    | NeutralMessage
    | ReleaseMessage
    | NarrowLimitsMessage
    | LiveMessage
    | ResendMessage
    | ReportMessage
    | FcrEvidenceMessage
)
COMMAND_MESSAGES: Mapping[CommandType, type[AnyCommandMessage]] = {
    CommandType.SET_POWER: SetPowerMessage,
    CommandType.HOLD: HoldMessage,
    CommandType.NEUTRAL: NeutralMessage,
    CommandType.RELEASE: ReleaseMessage,
    CommandType.NARROW_LIMITS: NarrowLimitsMessage,
    CommandType.LIVE: LiveMessage,
    CommandType.RESEND: ResendMessage,
    CommandType.REPORT: ReportMessage,
    CommandType.FCR_EVIDENCE: FcrEvidenceMessage,
}


@dataclass(frozen=True, slots=True)
class ParsedCommand:
    """A command that reads well, and the bytes (after decompression) that are to be kept."""

    command: Command
    document: bytes


@dataclass(frozen=True, slots=True)
class RefusedCommand:
    """A command that has no effect, with what could still be read of it for the answer."""

    refused: Refused
    sha256: str
    command_id: str | None = None
    """None where it cannot be read, or where the message is not for this site: the id is then not ours to answer."""
    type: CommandType | None = None


def parse_command(payload: bytes, site_id: str) -> ParsedCommand | RefusedCommand:
    """What a payload from `cloud/command` says, or why it is refused. Raises on no bytes."""
    sha256 = hashlib.sha256(payload).hexdigest()
    document = decompressed(payload) if len(payload) <= MAX_COMMAND_BYTES else None
    if isinstance(document, Refused):
        return RefusedCommand(document, sha256)
    if document is None or len(document) > MAX_COMMAND_BYTES:
        size = len(payload if document is None else document)
        detail = f"{size} bytes; a command has at most {MAX_COMMAND_BYTES}"
        return RefusedCommand(Refused("too_large", None, detail), sha256)
    sha256 = hashlib.sha256(document).hexdigest()
    content = json_object(document)
    if isinstance(content, Refused):
        return RefusedCommand(content, sha256)
    kind = _type(content)
    if isinstance(kind, Refused):
        return RefusedCommand(kind, sha256, _id(content, site_id))
    message = validated(COMMAND_MESSAGES[kind], content, site_id)
    if isinstance(message, Refused):
        return RefusedCommand(message, sha256, _id(content, site_id), kind)
    params: Params = message.params.meant()
    command = Command(message.id, kind, sha256, message.issued_at, message.expires_at, params)
    return ParsedCommand(command, document)


def _type(content: dict[str, Any]) -> CommandType | Refused:
    found = content.get("type")
    if found is None:
        return Refused("missing_field", "type", "type must be there")
    if found not in tuple(CommandType):
        known = ", ".join(CommandType)
        shown = printable(found) if isinstance(found, str) else f"a {type(found).__name__}"
        detail = f"{shown} is not a command of schema 1.0: {known}"
        return Refused("unknown_type", "type", detail)
    return CommandType(found)


def _id(content: dict[str, Any], site_id: str) -> str | None:
    found = content.get("id")
    ours = content.get("site_id") == site_id
    return found if ours and isinstance(found, str) and re.fullmatch(COMMAND_ID_PATTERN, found) else None
