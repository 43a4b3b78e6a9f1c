"""What the cloud orders beside plans: awards, curtailments, outages, commands; written from docs/contract.md alone.

Powers are kW, times Unix seconds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from simulators.cloud_messages import SCHEMA, iso_utc, unix_s

KINDS = ("awards", "curtailments", "outages")


def award(award_id: str, product: str, power_kw: float, span_s: tuple[float, float], direction: str) -> dict[str, Any]:
    """Reserve that was sold."""
    return {"id": award_id, "product": product, "power": power_kw, "direction": direction, **_span(span_s)}


def curtailment(
    order_id: str, export_kw: float | None, import_kw: float | None, span_s: tuple[float, float]
) -> dict[str, Any]:
    """The most that may flow each way at the connection point; None = not touched."""
    return {"id": order_id, "export_limit": export_kw, "import_limit": import_kw, **_span(span_s)}


def outage(order_id: str, device: str | None, span_s: tuple[float, float]) -> dict[str, Any]:
    """A device, or with None the whole site, stays at 0."""
    return {"id": order_id, "device": device, **_span(span_s)}


def _span(span_s: tuple[float, float]) -> dict[str, str]:
    return {"start": iso_utc(span_s[0]), "end": iso_utc(span_s[1])}


def still_counts(entry: dict[str, Any], now_s: float) -> bool:
    """False once the order has ended: the document need not name it any more."""
    return unix_s(entry["end"]) > now_s


def order_document(site_id: str, kind: str, version: int, now_s: float, entries: Sequence[dict[str, Any]]) -> bytes:
    """All orders of one kind in force or to come."""
    unit = {} if kind == "outages" else {"unit": "kW"}
    head = {"schema": SCHEMA, "site_id": site_id, "kind": kind, "version": version, "issued_at": iso_utc(now_s)}
    return json.dumps({**head, **unit, kind: list(entries)}).encode()


def command(
    site_id: str, command_id: str, type_: str, *, now_s: float, valid_s: float, params: dict[str, Any]
) -> bytes:
    """One thing to do now; it may be taken for `valid_s`."""
    times = {"issued_at": iso_utc(now_s), "expires_at": iso_utc(now_s + valid_s)}
    return json.dumps(
        {"schema": SCHEMA, "site_id": site_id, "id": command_id, "type": type_, **times, "params": params}
    ).encode()
