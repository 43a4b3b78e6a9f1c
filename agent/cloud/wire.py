"""Documents from the cloud as the contract has them: parsed strictly, in our units and sign, or refused by name.

`docs/contract.md` is the reference. What arrives is hostile until it parsed: nothing here raises on any bytes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field, ValidationError

from agent.cloud.document import decompressed, json_object, printable
from agent.core.admission import Refused
from agent.core.plan import Plan, PlanKind, Target
from agent.core.records import ParsedPlan, Stream

SCHEMA = "1.0"
OUR_MAJOR, OUR_MINOR = 1, 0
SITE_ID_PATTERN = r"^[a-z0-9-]{1,64}$"
LARGEST_INTEGER = 2**53 - 1
"""The largest integer that every JSON reader keeps exactly (RFC 8259, section 6)."""
CLOCK_GRAIN_S = 0.0005
"""Half a millisecond: the finest time that the contract writes."""
EARLIEST_YEAR, LATEST_YEAR = 2000, 2100
MOST_SLOTS = 172_800
"""48 hours of one second, or a year of three minutes; more does not fit into a document of real numbers."""
MAX_WATERMARK_BYTES = 4096
"""It is read between two ticks of the control loop, so a hostile one must be small."""
_W_PER_UNIT = {"W": 1.0, "kW": 1e3, "MW": 1e6}

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})", re.ASCII)


def unix_time(value: Any) -> float:
    """The Unix time, s, of an ISO 8601 time with its zone; raises ValueError with words for people."""
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise ValueError("a time like 2024-01-15T03:00:00Z is wanted, with Z or an offset")
    moment = datetime.fromisoformat(value)
    if not EARLIEST_YEAR <= moment.year < LATEST_YEAR:
        raise ValueError(f"the year must be from {EARLIEST_YEAR} to {LATEST_YEAR - 1}")
    return moment.timestamp()


Time = Annotated[float, BeforeValidator(unix_time)]
Percent = Annotated[float, Field(ge=0, le=100)]
Version = Annotated[int, Field(ge=1, le=LARGEST_INTEGER)]
Sequence53 = Annotated[int, Field(ge=0, le=LARGEST_INTEGER)]


class _Message(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    document_schema: str = Field(alias="schema")
    site_id: Annotated[str, Field(pattern=SITE_ID_PATTERN)]


class PlanMessage(_Message):
    """A plan document, still in the cloud's unit and sign."""

    kind: Literal["rolling", "yearly"]
    version: Version
    issued_at: Time
    start: Time
    slot_s: Annotated[int, Field(ge=1, le=3600)]
    unit: Literal["W", "kW", "MW"]
    positive: Literal["export", "import"]
    target: Literal["battery", "grid"]
    power: Annotated[list[float | None], FailFast(), Field(min_length=1, max_length=MOST_SLOTS)]
    slot_start: Annotated[list[Time] | None, FailFast()] = None
    soc_end_pct: Annotated[list[Percent | None] | None, FailFast()] = None
    price: Annotated[list[float | None] | None, FailFast()] = None
    imbalance_price: Annotated[list[float | None] | None, FailFast()] = None


class _Stored(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    telemetry: Sequence53 | None = None
    ack: Sequence53 | None = None
    event: Sequence53 | None = None


class WatermarkMessage(_Message):
    """Up to where the cloud has stored each stream."""

    stored: _Stored


@dataclass(frozen=True, slots=True)
class RefusedDocument:
    """A plan document that has no effect, with what could still be read of it for the answer."""

    refused: Refused
    sha256: str
    version: int | None


def parse_plan(kind: PlanKind, payload: bytes, site_id: str) -> ParsedPlan | RefusedDocument:
    """The plan in a payload from `cloud/plan/{kind}`, in W and positive toward the grid, or why it is refused."""
    document = decompressed(payload)
    if isinstance(document, Refused):
        return RefusedDocument(document, hashlib.sha256(payload).hexdigest(), None)
    sha256 = hashlib.sha256(document).hexdigest()
    content = json_object(document)
    if isinstance(content, Refused):
        return RefusedDocument(content, sha256, None)
    message = _validated(PlanMessage, content, site_id)
    if isinstance(message, Refused):
        return RefusedDocument(message, sha256, _readable_version(content))
    refused = _refuse_kind(message, kind) or _refuse_lengths(message) or _refuse_slot_starts(message)
    if refused is not None:
        return RefusedDocument(refused, sha256, message.version)
    return ParsedPlan(_plan(message, sha256), document)


def plan_kind(payload: bytes) -> PlanKind | Refused:
    """The kind that a document gives itself, for one that came without a topic."""
    document = decompressed(payload)
    content = document if isinstance(document, Refused) else json_object(document)
    if isinstance(content, Refused):
        return content
    kind = content.get("kind")
    if kind not in tuple(PlanKind):
        return Refused("bad_value", "kind", 'kind must be "rolling" or "yearly"')
    return PlanKind(kind)


def plan_parser(site_id: str) -> Callable[[PlanKind, bytes], Plan | None]:
    """A reader of kept documents: the plan, or None when this version of the agent does not take it any more."""

    def parse(kind: PlanKind, document: bytes) -> Plan | None:
        parsed = parse_plan(kind, document, site_id)
        return parsed.plan if isinstance(parsed, ParsedPlan) else None

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
    message = _validated(WatermarkMessage, content, site_id)
    if isinstance(message, Refused):
        return message
    stored = {stream: getattr(message.stored, stream.value) for stream in Stream}
    return {stream: seq for stream, seq in stored.items() if seq is not None}


_M = TypeVar("_M", bound=_Message)


def _validated(model: type[_M], content: dict[str, Any], site_id: str) -> _M | Refused:
    minor = _minor_version(content)
    if isinstance(minor, Refused):
        return minor
    if minor > OUR_MINOR:
        known = {field.alias or name for name, field in model.model_fields.items()}
        content = {key: value for key, value in content.items() if key in known}
    try:
        message = model.model_validate(content)
    except ValidationError as error:
        return _first_fault(error)
    if message.site_id != site_id:
        return Refused("wrong_site", "site_id", f"this site is {site_id}, the document is for {message.site_id}")
    return message


def _minor_version(content: dict[str, Any]) -> int | Refused:
    found = content.get("schema")
    match = _VERSION.fullmatch(found) if isinstance(found, str) else None
    if match is None:
        return Refused("schema_unsupported", "schema", f'a version like "{SCHEMA}" is wanted')
    if int(match[1]) != OUR_MAJOR:
        return Refused("schema_unsupported", "schema", f"this agent speaks {OUR_MAJOR}.x, not {printable(match[0])}")
    return int(match[2])


def _first_fault(error: ValidationError) -> Refused:
    """The first fault; its place in the contract's words: `power[7]`, `stored.ack`."""
    fault = error.errors(include_url=False, include_input=False)[0]
    place = ""
    for part in fault["loc"]:
        if isinstance(part, int):
            place += f"[{part}]"
        else:
            place += f".{part}" if place else part
    place = printable(place)
    if fault["type"] == "missing":
        return Refused("missing_field", place, f"{place} must be there")
    if fault["type"] == "extra_forbidden":
        return Refused("unknown_field", place, f"{place} is not part of schema {SCHEMA}; check the spelling")
    if fault["type"] == "too_long" and place == "power":
        return Refused("too_long", place, f"more than {MOST_SLOTS} slots")
    if fault["type"] == "finite_number":
        return Refused("bad_value", place, "NaN or infinity is not a number; send null where there is no value")
    return Refused("bad_value", place, printable(fault["msg"].removeprefix("Value error, "), 200))


def _readable_version(content: dict[str, Any]) -> int | None:
    version = content.get("version")
    return version if type(version) is int and 1 <= version <= LARGEST_INTEGER else None


def _refuse_kind(message: PlanMessage, kind: PlanKind) -> Refused | None:
    if message.kind == kind.value:
        return None
    return Refused("wrong_kind", "kind", f"a {message.kind} plan came on the topic of the {kind.value} plan")


def _refuse_lengths(message: PlanMessage) -> Refused | None:
    wanted = len(message.power)
    for name in ("slot_start", "soc_end_pct", "price", "imbalance_price"):
        values = getattr(message, name)
        if values is not None and len(values) != wanted:
            return Refused("wrong_length", name, f"{len(values)} values for {wanted} slots in power")
    return None


def _refuse_slot_starts(message: PlanMessage) -> Refused | None:
    for index, found in enumerate(message.slot_start or ()):
        wanted = message.start + index * message.slot_s
        if abs(found - wanted) > CLOCK_GRAIN_S:
            reason, words = ("gap", "after") if found > wanted else ("overlap", "before")
            detail = f"this slot begins {abs(found - wanted):g} s {words} the time that start and slot_s give"
            return Refused(reason, f"slot_start[{index}]", detail)
    return None


def _plan(message: PlanMessage, sha256: str) -> Plan:
    sign = 1.0 if message.positive == "export" else -1.0
    factor = sign * _W_PER_UNIT[message.unit]
    return Plan(
        kind=PlanKind(message.kind),
        version=message.version,
        sha256=sha256,
        issued_utc_s=message.issued_at,
        start_utc_s=message.start,
        slot_s=message.slot_s,
        target=Target(message.target),
        # "+ 0.0" turns the -0.0 of an imported zero into a plain one
        power_w=tuple(None if power is None else power * factor + 0.0 for power in message.power),
        soc_end_pct=None if message.soc_end_pct is None else tuple(message.soc_end_pct),
        price_per_kwh=None if message.price is None else tuple(message.price),
    )
