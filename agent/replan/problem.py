"""The wire between the agent and its solver process: requests and proposals as strict JSON, both ways."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NoReturn

from agent.core.plan import Target
from agent.core.replan_request import ReplanRequest, ReplanSlot

MAX_JSON_BYTES = 1024 * 1024
"""Either way; a request of `MAX_SLOTS` slots has about half of that."""

_OPTIONAL = frozenset({"sold_w", "price_per_kwh", "imbalance_price_per_kwh", "terminal_soc_pct"})


class MalformedError(Exception):
    """A document that is not what it should be; the text names the place and the reason."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the solver proposes, one entry per slot, not yet checked."""

    battery_w: tuple[float, ...]
    soc_end_pct: tuple[float, ...]
    used_milp: bool


def request_json(request: ReplanRequest) -> bytes:
    """The request as JSON; ValueError for NaN and infinities, which `refusal` would have found."""
    return json.dumps(asdict(request), allow_nan=False, separators=(",", ":")).encode()


def request_from_json(document: bytes) -> ReplanRequest:
    """The request in these bytes; MalformedError for anything that `request_json` would not have written."""
    content = _object(document)
    _check_names(content, ReplanRequest, "request")
    slots = content["slots"]
    if not isinstance(slots, list):
        raise MalformedError("slots: a list is wanted")
    scalars = {name: _number(value, name) for name, value in content.items() if name != "slots"}
    return ReplanRequest(slots=tuple(_slot(slot, f"slots[{i}]") for i, slot in enumerate(slots)), **scalars)  # type: ignore[arg-type]


def proposal_json(proposal: Proposal) -> bytes:
    """The proposal as JSON."""
    return json.dumps(asdict(proposal), allow_nan=False, separators=(",", ":")).encode()


def proposal_from_json(document: bytes) -> Proposal:
    """The proposal in these bytes; MalformedError also carries what the solver process says went wrong."""
    content = _object(document)
    if isinstance(error := content.get("error"), str):
        raise MalformedError(error[:500])
    _check_names(content, Proposal, "proposal")
    if not isinstance(content["used_milp"], bool):
        raise MalformedError("used_milp: true or false is wanted")
    return Proposal(
        _numbers(content["battery_w"], "battery_w"),
        _numbers(content["soc_end_pct"], "soc_end_pct"),
        content["used_milp"],
    )


def _slot(content: object, place: str) -> ReplanSlot:
    if not isinstance(content, dict):
        raise MalformedError(f"{place}: an object is wanted")
    _check_names(content, ReplanSlot, place)
    if content["target"] not in Target.__members__.values():
        raise MalformedError(f"{place}.target: battery or grid is wanted")
    numbers = {name: _number(value, f"{place}.{name}") for name, value in content.items() if name != "target"}
    return ReplanSlot(target=Target(content["target"]), **numbers)  # type: ignore[arg-type]


def _check_names(content: Mapping[str, Any], kind: type, place: str) -> None:
    wanted = {field.name for field in fields(kind)}
    if missing := wanted - content.keys():
        raise MalformedError(f"{place}: {min(missing)} is missing")
    if unknown := content.keys() - wanted:
        raise MalformedError(f"{place}: {min(unknown)[:80]!r} is not known")


def _number(value: object, place: str) -> float | None:
    if value is None and place.rpartition(".")[2] in _OPTIONAL:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise MalformedError(f"{place}: a finite number is wanted")
    return float(value)


def _numbers(values: object, place: str) -> tuple[float, ...]:
    if not isinstance(values, list):
        raise MalformedError(f"{place}: a list is wanted")
    numbers = [_number(value, f"{place}[{index}]") for index, value in enumerate(values)]
    return tuple(number for number in numbers if number is not None)


def _object(document: bytes) -> dict[str, Any]:
    if len(document) > MAX_JSON_BYTES:
        raise MalformedError(f"{len(document)} bytes; at most {MAX_JSON_BYTES} are taken")
    try:
        content = json.loads(document, parse_constant=_no_constant, object_pairs_hook=_without_double_keys)
    except (ValueError, RecursionError, OverflowError) as error:
        raise MalformedError(f"not JSON: {error}"[:500]) from error
    if not isinstance(content, dict):
        raise MalformedError("a JSON object is wanted")
    return content


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _without_double_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key comes twice")
    return content
