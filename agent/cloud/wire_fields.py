"""What every message from the cloud is made of: strict types, times, versions, and how a fault is named.

`docs/contract.md` is the reference. What arrives is hostile until it parsed: nothing here raises on any bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema

from agent.cloud.document import printable
from agent.cloud.stamp import SCHEMA
from agent.core.admission import Refused

OUR_MAJOR, OUR_MINOR = 1, 0
SCHEMA_PATTERN = rf"^{OUR_MAJOR}\.\d{{1,4}}$"
SITE_ID_PATTERN = r"^[a-z0-9-]{1,64}$"
LARGEST_INTEGER = 2**53 - 1
"""The largest integer that every JSON reader keeps exactly (RFC 8259, section 6)."""
EARLIEST_YEAR, LATEST_YEAR = 2000, 2100
Unit = Literal["W", "kW", "MW"]
W_PER_UNIT: Mapping[Unit, float] = {"W": 1.0, "kW": 1e3, "MW": 1e6}

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


Time = Annotated[float, BeforeValidator(unix_time), WithJsonSchema({"type": "string", "format": "date-time"})]
Percent = Annotated[float, Field(ge=0, le=100)]
Version = Annotated[int, Field(ge=1, le=LARGEST_INTEGER)]
Sequence53 = Annotated[int, Field(ge=0, le=LARGEST_INTEGER)]


class Message(BaseModel):
    """What begins every message."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    document_schema: str = Field(alias="schema", pattern=SCHEMA_PATTERN, description="major and minor version")
    site_id: str = Field(pattern=SITE_ID_PATTERN, description="which site it is for")


_M = TypeVar("_M", bound=Message)


def validated(model: type[_M], content: dict[str, Any], site_id: str) -> _M | Refused:
    """The message, or the first thing that is wrong with it."""
    minor = _minor_version(content)
    if isinstance(minor, Refused):
        return minor
    if minor > OUR_MINOR:
        content = _known_only(model, content)
    try:
        message = model.model_validate(content)
    except ValidationError as error:
        return _first_fault(error)
    if message.site_id != site_id:
        return Refused("wrong_site", "site_id", f"this site is {site_id}, the document is for {message.site_id}")
    return message


def _known_only(model: type[BaseModel], content: dict[str, Any]) -> dict[str, Any]:
    """The content without the fields that a later minor version brought, in its parts and lists too."""
    known = {field.alias or name: field for name, field in model.model_fields.items()}
    kept: dict[str, Any] = {}
    for key, value in content.items():
        if key not in known:
            continue
        kept[key] = value
        annotation = known[key].annotation
        inside = next((part for part in (annotation, *get_args(annotation)) if _is_model(part)), None)
        if inside is not None and isinstance(value, dict):
            kept[key] = _known_only(inside, value)
        if inside is not None and isinstance(value, list):
            kept[key] = [_known_only(inside, entry) if isinstance(entry, dict) else entry for entry in value]
    return kept


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


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
    if fault["type"] == "too_long":
        return Refused("too_long", place, f"at most {fault['ctx']['max_length']} entries are taken")
    if fault["type"] == "finite_number":
        return Refused("bad_value", place, "NaN or infinity is not a number; send null where there is no value")
    return Refused("bad_value", place, printable(fault["msg"].removeprefix("Value error, "), 200))


def readable_version(content: dict[str, Any]) -> int | None:
    """The version of a document that is refused, where it can be read, for the answer."""
    version = content.get("version")
    return version if type(version) is int and 1 <= version <= LARGEST_INTEGER else None
