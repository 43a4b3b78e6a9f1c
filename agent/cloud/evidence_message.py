"""Evidence of frequency response for the cloud: whole seconds, columnar, in bounded parts that name their command."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from agent.cloud.messages import rounded
from agent.cloud.stamp import SCHEMA, iso
from agent.core.evidence import EvidenceRow

_POWERS = ("power_w", "baseline_w", "award_up_w", "award_down_w", "response_w")


def evidence_message(
    site_id: str,
    command_id: str,
    part: int,
    rows: Sequence[EvidenceRow],
    span: tuple[float, float],
    *,
    last: bool,
) -> bytes:
    """The payload of `edge/evidence`: part `part` (from 1) of what the command asked for about `span`."""
    awards: list[list[str]] = []
    for row in rows:
        if list(row.award_ids) not in awards:
            awards.append(list(row.award_ids))
    columns: dict[str, list[Any]] = {name: [rounded(getattr(row, name), 1) for row in rows] for name in _POWERS}
    columns["frequency_hz"] = [rounded(row.frequency_hz, 4) for row in rows]
    columns["clock_trusted"] = [row.clock_trusted for row in rows]
    columns["awards"] = [awards.index(list(row.award_ids)) for row in rows]
    columns["trouble"] = [row.trouble for row in rows]
    columns["ticks"] = [row.ticks for row in rows]
    start = rows[0].utc_s if rows else None
    return orjson.dumps(
        {
            "schema": SCHEMA,
            "site_id": site_id,
            "id": command_id,
            "part": part,
            "last": last,
            "from": iso(span[0]),
            "to": iso(span[1]),
            "start": None if start is None else iso(start),
            "t_s": [row.utc_s - rows[0].utc_s for row in rows],
            "awards": awards,
            "columns": columns,
        }
    )
