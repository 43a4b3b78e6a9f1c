"""Documents from the cloud as the contract has them: parsed strictly, in our units and sign, or refused by name.

`docs/contract.md` is the reference. What arrives is hostile until it parsed: nothing here raises on any bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from agent.cloud.document import decompressed, json_object
from agent.cloud.wire_fields import Message, Sequence53, readable_version, validated
from agent.cloud.wire_orders import order_document
from agent.cloud.wire_plan import plan
from agent.core.admission import Refused
from agent.core.orders import OrderKind
from agent.core.records import DOCUMENT_KINDS, Document, DocumentKind, ParsedDocument, Stream

MAX_WATERMARK_BYTES = 4096
"""It is read between two ticks of the control loop, so a hostile one must be small."""


class _Stored(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, defer_build=True)

    telemetry: Sequence53 | None = Field(default=None, description="of the stream `telemetry`")
    ack: Sequence53 | None = Field(default=None, description="of the stream `ack`")
    event: Sequence53 | None = Field(default=None, description="of the stream `event`")
    ledger: Sequence53 | None = Field(default=None, description="of the stream `ledger`")
    full_rate: Sequence53 | None = Field(default=None, description="may be there and changes nothing")


class WatermarkMessage(Message):
    """Up to where the cloud has stored each stream."""

    stored: _Stored = Field(
        description="the highest sequence up to which everything is stored; a stream may be left out"
    )


@dataclass(frozen=True, slots=True)
class RefusedDocument:
    """A document that has no effect, with what could still be read of it for the answer."""

    refused: Refused
    sha256: str
    version: int | None


def parse_document(kind: DocumentKind, payload: bytes, site_id: str) -> ParsedDocument | RefusedDocument:
    """What a payload from `cloud/plan/{kind}` says, in W and positive toward the grid, or why it is refused."""
    document = decompressed(payload)
    if isinstance(document, Refused):
        return RefusedDocument(document, hashlib.sha256(payload).hexdigest(), None)
    sha256 = hashlib.sha256(document).hexdigest()
    content = json_object(document)
    if isinstance(content, Refused):
        return RefusedDocument(content, sha256, None)
    parsed = _refuse_kind(content, kind) or _parsed(kind, content, sha256, site_id)
    if isinstance(parsed, Refused):
        return RefusedDocument(parsed, sha256, readable_version(content))
    return ParsedDocument(parsed, document)


def _parsed(kind: DocumentKind, content: dict[str, Any], sha256: str, site_id: str) -> Document | Refused:
    if isinstance(kind, OrderKind):
        return order_document(kind, content, sha256, site_id)
    return plan(content, sha256, site_id)


def _refuse_kind(content: dict[str, Any], kind: DocumentKind) -> Refused | None:
    """A document of another kind would only be refused for fields that it does not have."""
    found = content.get("kind")
    if found == kind.value or found not in DOCUMENT_KINDS:
        return None
    return Refused("wrong_kind", "kind", f"a document of kind {found} came on the topic of {kind.value}")


def document_kind(payload: bytes) -> DocumentKind | Refused:
    """The kind that a document gives itself, for one that came without a topic."""
    document = decompressed(payload)
    content = document if isinstance(document, Refused) else json_object(document)
    if isinstance(content, Refused):
        return content
    found = content.get("kind")
    kind = next((kind for kind in DOCUMENT_KINDS if kind.value == found), None)
    if kind is None:
        return Refused("bad_value", "kind", f"kind must be one of {', '.join(DOCUMENT_KINDS)}")
    return kind


def document_parser(site_id: str) -> Callable[[DocumentKind, bytes], Document | None]:
    """A reader of kept documents: what one says, or None when this version of the agent does not take it any more."""

    def parse(kind: DocumentKind, document: bytes) -> Document | None:
        parsed = parse_document(kind, document, site_id)
        return parsed.content if isinstance(parsed, ParsedDocument) else None

    return parse


def parse_watermark(payload: bytes, site_id: str) -> dict[Stream, int] | Refused:
    """Up to where the cloud has stored each stream that it names, or why the message is refused."""
    document = decompressed(payload)
    if isinstance(document, Refused):
        return document
    if len(document) > MAX_WATERMARK_BYTES:
        return Refused("too_large", None, f"{len(document)} bytes; a watermark has at most {MAX_WATERMARK_BYTES}")
    content = json_object(document)
    if isinstance(content, Refused):
        return content
    message = validated(WatermarkMessage, content, site_id)
    if isinstance(message, Refused):
        return message
    return {Stream(name): seq for name, seq in message.stored if seq is not None}
