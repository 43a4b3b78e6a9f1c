"""Messages to the cloud as bytes, as the contract has them. Plain values in, JSON out; positive is toward the grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import orjson

from agent.cloud.document import printable
from agent.cloud.stamp import SCHEMA, iso
from agent.core.awards import NO_AWARDS, AwardBook
from agent.core.decision import Condition
from agent.core.deliverability import Deliverability
from agent.core.energy_paths import EnergyPaths
from agent.core.events import Event
from agent.core.ledger import SlotRow
from agent.core.orders import Award, OrderDocument, OrderDocuments, OrderKind
from agent.core.plan import Plan, Plans
from agent.core.records import Outcome, Stream
from agent.core.slots_ahead import SlotAhead

MOST_AWARDS_TOLD = 200
"""Four days of half hours; a status stays below 64 kB."""
LONGEST_TEXT = 500
"""Characters of a detail or an event's text on the wire; texts are for people."""
_ENERGY_DIGITS = 3
"""Of a Wh: rounding never shows in a sum."""
PATH_NAMES = tuple(field.name.removesuffix("_wh") for field in fields(EnergyPaths) if field.name != "split_s")


@dataclass(frozen=True, slots=True)
class Status:
    """What `edge/status` says."""

    at_utc_s: float
    source: str
    why: str
    plans: Plans
    devices: Mapping[str, str]
    """Device id to "good", or what is wrong with it."""
    conditions: Sequence[Condition]
    clock_trusted: bool
    clock_why: str
    software_version: str
    boot_id: str
    orders: OrderDocuments = field(default_factory=OrderDocuments)
    awards: AwardBook = NO_AWARDS
    outlook: Sequence[Deliverability] = ()
    """The newest forecast of the awards to come."""
    override: Mapping[str, Any] | None = None
    """What somebody on site asks for."""
    latches: Sequence[Mapping[str, Any]] = ()
    """The safety latches that fell."""
    commands: Sequence[Mapping[str, Any]] = ()
    """The commands in force."""


def status_message(site_id: str, status: Status) -> bytes:
    """The payload of `edge/status` while online."""
    return _packed(
        site_id,
        {
            "at": iso(status.at_utc_s),
            "online": True,
            "source": status.source,
            "why": printable(status.why, LONGEST_TEXT),
            "plans": {
                "rolling": plan_held(status.plans.rolling),
                "yearly": plan_held(status.plans.yearly),
                **orders_held(status.orders),
            },
            "local_plan": local_plan_held(status.plans),
            "awards": award_lines(status.awards, status.outlook),
            "devices": dict(status.devices),
            "conditions": [
                {
                    "code": condition.code,
                    "subject": condition.subject,
                    "severity": condition.severity.value,
                    "text": printable(condition.text, LONGEST_TEXT),
                }
                for condition in status.conditions
            ],
            "override": status.override,
            "latches": list(status.latches),
            "commands": list(status.commands),
            "clock": {"trusted": status.clock_trusted, "why": status.clock_why},
            "software": {"version": status.software_version, "boot_id": status.boot_id},
        },
    )


def will_message(site_id: str) -> bytes:
    """The payload of `edge/status` that the broker publishes when the connection breaks."""
    return _packed(site_id, {"online": False})


def ack_message(site_id: str, seq: int | None, outcome: Outcome) -> bytes:
    """The payload of `edge/ack`; without a sequence for what is told once and not repeated."""
    detail = outcome.detail
    return _packed(
        site_id,
        {
            "stream": Stream.ACK.value,
            "seq": seq,
            "at": iso(outcome.at_utc_s),
            "subject": outcome.subject,
            **({"id": outcome.command_id} if outcome.subject == "command" else {}),
            "kind": outcome.kind,
            "version": outcome.version,
            "sha256": outcome.sha256,
            "stage": outcome.stage.value,
            "reason": outcome.reason,
            "field": outcome.field,
            "detail": None if detail is None else printable(detail, LONGEST_TEXT),
        },
    )


def event_message(site_id: str, seq: int, event: Event) -> bytes:
    """The payload of `edge/event`."""
    return _packed(
        site_id,
        {
            "stream": Stream.EVENT.value,
            "seq": seq,
            "at": iso(event.at_utc_s),
            "state": event.state.value,
            "severity": event.severity.value,
            "code": event.code,
            "subject": event.subject,
            "text": printable(event.text, LONGEST_TEXT),
            "data": {key: printable(v, LONGEST_TEXT) if isinstance(v, str) else v for key, v in event.data.items()},
        },
    )


def ledger_message(site_id: str, seq: int, row: SlotRow) -> bytes:
    """The payload of `edge/ledger`: one finished slot."""
    assert row.closed, "a slot is told when it has ended"
    return _packed(
        site_id,
        {
            "stream": Stream.LEDGER.value,
            "seq": seq,
            "start": iso(row.start_utc_s),
            "end": iso(row.end_utc_s),
            "target": row.target,
            "source": row.source,
            "version": row.version,
            **{name: rounded(value, _ENERGY_DIGITS) for name, value in slot_energies_wh(row).items()},
            "paths_wh": path_energies(row.paths),
            "covered_s": rounded(row.covered_s, 3),
            "planned_soc_end_pct": rounded(row.planned_soc_end_pct, 3),
            "soc_end_pct": rounded(row.soc_end_pct, 3),
        },
    )


def forecast_message(
    site_id: str,
    at_utc_s: float,
    soc_pct: float | None,
    slots: Sequence[SlotAhead],
    awards: Sequence[Mapping[str, Any]],
) -> bytes:
    """The payload of `edge/forecast`: the slots from now on, and the `award_lines`."""
    return _packed(
        site_id,
        {
            "at": iso(at_utc_s),
            "soc_pct": rounded(soc_pct, 2),
            "slots": [
                {
                    "start": iso(slot.start_utc_s),
                    "end": iso(slot.end_utc_s),
                    "planned_w": rounded(slot.planned_w, 0),
                    "power_w": rounded(slot.power_w, 0),
                    "soc_end_pct": rounded(slot.soc_end_pct, 2),
                }
                for slot in slots
            ],
            "awards": list(awards),
        },
    )


def slot_energies_wh(row: SlotRow) -> dict[str, float | None]:
    """The energies of one slot by name; what is not split into paths is known at its end."""
    return {
        "planned_wh": row.planned_wh,
        "delivered_wh": row.delivered_wh,
        "response_wh": row.response_wh,
        "imbalance_wh": row.imbalance_wh,
        "battery_wh": row.battery_wh,
        "grid_wh": row.grid_wh if row.paths is not None else None,
        "unsplit_wh": row.unsplit_wh if row.closed else None,
    }


def path_energies(paths: EnergyPaths | None) -> dict[str, float | int | None] | None:
    """The seven paths by name, Wh; None where the slot was kept without them."""
    if paths is None:
        return None
    return {name: rounded(getattr(paths, f"{name}_wh"), _ENERGY_DIGITS) for name in PATH_NAMES}


def _packed(site_id: str, content: Mapping[str, Any]) -> bytes:
    return orjson.dumps({"schema": SCHEMA, "site_id": site_id, **content})


def plan_held(plan: Plan | None) -> dict[str, Any] | None:
    """Which plan is held and until when; None when there is none."""
    if plan is None:
        return None
    return {"version": plan.version, "sha256": plan.sha256, "end": iso(plan.end_utc_s)}


def orders_held(orders: OrderDocuments) -> dict[str, dict[str, Any] | None]:
    """Which documents of orders are held, and when the last of each ends (null without entries)."""
    return {kind.value: _orders_held(orders.of(kind)) for kind in OrderKind}


def _orders_held(document: OrderDocument | None) -> dict[str, Any] | None:
    if document is None:
        return None
    end_utc_s = document.end_utc_s
    end = iso(end_utc_s) if end_utc_s is not None else None
    return {"version": document.version, "sha256": document.sha256, "end": end}


def award_lines(awards: AwardBook, outlook: Sequence[Deliverability]) -> list[dict[str, Any]]:
    """The awards that have not ended with their forecast, by start, the first `MOST_AWARDS_TOLD`."""
    forecast = {one.award_id: one for one in outlook}
    return [_award_line(line.award, forecast.get(line.award.award_id)) for line in awards.sold[:MOST_AWARDS_TOLD]]


def _award_line(award: Award, forecast: Deliverability | None) -> dict[str, Any]:
    return {
        "id": award.award_id,
        "product": award.product,
        "start": iso(award.start_utc_s),
        "end": iso(award.end_utc_s),
        "power_w": award.power_w,
        "direction": award.direction.value,
        "met": None if forecast is None else forecast.met,
        "shortfall_w": None if forecast is None else rounded(forecast.shortfall_w, 1),
        "shortfall_wh": None if forecast is None else rounded(forecast.shortfall_wh, 1),
        "cancel_by": None if forecast is None else iso(forecast.cancel_by_utc_s),
    }


def local_plan_held(plans: Plans) -> dict[str, Any] | None:
    """The local plan in force over the plans of the cloud; None when there is none."""
    local = plans.local
    if local is None or local.basis != plans.basis:
        return None
    return {
        "made_at": iso(local.made_utc_s),
        "end": iso(local.end_utc_s),
        "by": "rules" if local.by_rule else "solver",
        "why": local.why,
    }


def rounded(value: float | None, digits: int) -> float | int | None:
    """The value with so many decimals, as an integer where there are none."""
    if value is None:
        return None
    short = round(float(value), digits)
    return int(short) if short.is_integer() else short
