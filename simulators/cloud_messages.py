"""The cloud's own reading of docs/contract.md: builds documents for a site, reads what a site sends.

Written from the contract alone, with no code of the agent, so that a misreading on either side shows. Powers are
kW toward the grid in plans and W in telemetry, times are Unix seconds.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import zstandard

SCHEMA = "1.0"
GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
MOST_BYTES = 64 * 1024 * 1024


class UnreadableError(Exception):
    """A message from the site that is not what the contract says; the text says what is wrong."""


def topic(site_id: str, rest: str) -> str:
    """The full topic of `rest`, for example `edge/status`."""
    return f"ems/v1/{site_id}/{rest}"


def iso_utc(utc_s: float) -> str:
    """Unix time as the contract writes it, to the millisecond."""
    return datetime.fromtimestamp(utc_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def unix_s(text: str) -> float:
    """Unix time of an ISO 8601 text; UnreadableError when it has no zone."""
    when = datetime.fromisoformat(text)
    if when.tzinfo is None:
        raise UnreadableError(f"time without a zone: {text}")
    return when.timestamp()


@dataclass(frozen=True, slots=True)
class PlanDocument:
    """A plan as the cloud thinks of it; lists have one entry per slot, None = no plan."""

    kind: str
    version: int
    issued_utc_s: float
    start_utc_s: int
    slot_s: int
    grid_kw: Sequence[float | None]
    soc_end_pct: Sequence[float | None]
    price: Sequence[float | None]

    @property
    def end_utc_s(self) -> int:
        """The end of the last slot."""
        return self.start_utc_s + self.slot_s * len(self.grid_kw)

    def encoded(self, site_id: str, *, packed: bool) -> bytes:
        """The document on the wire; `packed` as gzip, always the same bytes for the same document."""
        fields = {
            "schema": SCHEMA,
            "site_id": site_id,
            "kind": self.kind,
            "version": self.version,
            "issued_at": iso_utc(self.issued_utc_s),
            "start": iso_utc(self.start_utc_s),
            "slot_s": self.slot_s,
            "unit": "kW",
            "positive": "export",
            "target": "grid",
            "power": _rounded(self.grid_kw, 3),
            "soc_end_pct": _rounded(self.soc_end_pct, 2),
            "price": _rounded(self.price, 2),
        }
        raw = json.dumps(fields, separators=(",", ":"), allow_nan=False).encode()
        return gzip.compress(raw, mtime=0) if packed else raw


def _rounded(values: Sequence[float | None], digits: int) -> list[float | None]:
    return [None if value is None else round(value, digits) for value in values]


def watermark(site_id: str, stored: dict[str, int]) -> bytes:
    """The watermark document: per stream, everything up to this sequence is stored."""
    return json.dumps({"schema": SCHEMA, "site_id": site_id, "stored": stored}).encode()


def read_message(payload: bytes, site_id: str) -> dict[str, Any]:
    """The JSON object of a message from `site_id`; UnreadableError when it is not one, or of another schema."""
    try:
        message = json.loads(_unpacked(payload))
    except (ValueError, OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise UnreadableError(f"not JSON: {error}") from error
    if not isinstance(message, dict):
        raise UnreadableError("not a JSON object")
    if message.get("site_id") != site_id:
        raise UnreadableError(f"site_id is {message.get('site_id')!r}, on a topic of {site_id!r}")
    if not str(message.get("schema", "")).startswith("1."):
        raise UnreadableError(f"schema {message.get('schema')!r} is not 1.x")
    return message


def _unpacked(payload: bytes) -> bytes:
    if payload.startswith(GZIP_MAGIC):
        return gzip.decompress(payload)
    if payload.startswith(ZSTD_MAGIC):
        return zstandard.ZstdDecompressor().decompress(payload, max_output_size=MOST_BYTES)
    return payload


def column_values(column: Any) -> list[Any]:
    """The values of a column, which is a list of them, or of whole differences in units of 10^-digits."""
    if isinstance(column, list):
        return column
    total, values = 0, []
    for delta in column["deltas"]:
        total += delta or 0
        values.append(None if delta is None else total / 10 ** column["digits"])
    return values


@dataclass(frozen=True, slots=True)
class Sample:
    """One row of telemetry; None = not measured."""

    utc_s: float
    source: str | None
    soc_pct: float | None
    grid_w: float | None
    battery_w: float | None
    target_w: float | None
    """Wanted battery power before the site's limits."""
    setpoint_w: float | None


def read_samples(frame: dict[str, Any]) -> list[Sample]:
    """The rows of a telemetry frame; UnreadableError when columns are missing or of different lengths."""
    try:
        start, offsets = unix_s(frame["start"]), column_values(frame["t_ms"])
        columns = {name: column_values(column) for name, column in frame["columns"].items()}
        names = ("source", "soc_pct", "grid_w", "battery_w", "target_w", "setpoint_w")
        lengths = {name: len(column) for name, column in columns.items()}
        if any(length != len(offsets) for length in lengths.values()):
            raise UnreadableError(f"columns of {lengths} rows for {len(offsets)} times")
        rows = zip(offsets, *(columns[name] for name in names), strict=True)
        return [Sample(start + row[0] / 1000.0, *row[1:]) for row in rows]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnreadableError(f"telemetry frame: {type(error).__name__}: {error}") from error


PATHS = (
    "pv_to_load",
    "pv_to_battery",
    "pv_to_grid",
    "battery_to_load",
    "battery_to_grid",
    "grid_to_load",
    "grid_to_battery",
)
LEDGER_TOLERANCE_WH = 0.01
"""Energies come with three decimals."""


@dataclass(frozen=True, slots=True)
class LedgerSlot:
    """One finished slot as the site tells it; Wh, None = not known."""

    start_utc_s: float
    end_utc_s: float
    target: str
    source: str
    version: int | None
    planned_wh: float | None
    """None: no plan had a slot for this time."""
    delivered_wh: float | None
    imbalance_wh: float | None
    battery_wh: float
    grid_wh: float | None
    unsplit_wh: float | None
    paths_wh: dict[str, float] | None


def read_ledger_slot(message: dict[str, Any]) -> LedgerSlot:
    """The slot of an `edge/ledger` message; UnreadableError when it is not one or does not add up."""
    try:
        slot = LedgerSlot(
            unix_s(message["start"]),
            unix_s(message["end"]),
            message["target"],
            message["source"],
            message["version"],
            message["planned_wh"],
            message["delivered_wh"],
            message["imbalance_wh"],
            message["battery_wh"],
            message["grid_wh"],
            message["unsplit_wh"],
            message["paths_wh"],
        )
        _add_up(slot, message["response_wh"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnreadableError(f"ledger slot: {type(error).__name__}: {error}") from error
    return slot


def _add_up(slot: LedgerSlot, response_wh: float | None) -> None:
    if (slot.planned_wh is None or slot.delivered_wh is None) != (slot.imbalance_wh is None):
        raise UnreadableError(f"ledger slot: imbalance {slot.imbalance_wh} of planned {slot.planned_wh}")
    if slot.delivered_wh is not None and slot.imbalance_wh is not None and slot.planned_wh is not None:
        off_wh = slot.delivered_wh - (response_wh or 0.0) - slot.planned_wh - slot.imbalance_wh
        if abs(off_wh) > LEDGER_TOLERANCE_WH:
            raise UnreadableError(f"ledger slot: planned, delivered and imbalance are {off_wh:g} Wh apart")
    paths = slot.paths_wh
    if paths is None or slot.grid_wh is None or slot.unsplit_wh is None:
        return
    if set(paths) != set(PATHS) or min(paths.values()) < 0:
        raise UnreadableError(f"ledger slot: paths {paths}")
    net_wh = paths["pv_to_grid"] + paths["battery_to_grid"] - paths["grid_to_load"] - paths["grid_to_battery"]
    if abs(net_wh + slot.unsplit_wh - slot.grid_wh) > LEDGER_TOLERANCE_WH:
        raise UnreadableError(f"ledger slot: paths give {net_wh:g} Wh, the meter {slot.grid_wh:g} Wh")
