"""The evidence of frequency response in telemetry.db: one row per second of an award, kept at least 60 days."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from agent.core.evidence import EvidenceRow
from agent.core.frequency import Trouble
from agent.core.kept_text import number, read_back, text_of
from agent.store.cells import all_sound, maybe, whole

KEEP_SECONDS = 60 * 86_400
"""Rows kept: 60 days of awards without a pause. Counted, not dated: a clock that jumps ahead erases none."""
CHECK_EVERY = 3_600
"""Rows from one look whether there are too many to the next."""

_COLUMNS = ", ".join(f.name for f in fields(EvidenceRow))
_MARKS = ", ".join("?" for _ in fields(EvidenceRow))


def add(db: sqlite3.Connection, rows: Sequence[EvidenceRow]) -> None:
    """The rows are in the table. Of one second with two rows (the clock was set back) the one with more ticks stays."""
    db.executemany(
        f"INSERT INTO evidence ({_COLUMNS}) VALUES ({_MARKS}) "  # noqa: S608 - our own names
        f"ON CONFLICT DO UPDATE SET ({_COLUMNS}) = ({', '.join(f'excluded.{c}' for c in _COLUMNS.split(', '))}) "
        "WHERE excluded.ticks > ticks",
        [_values(row) for row in rows],
    )


def forget(db: sqlite3.Connection) -> None:
    """All but the newest `KEEP_SECONDS` are gone."""
    db.execute(
        "DELETE FROM evidence WHERE utc_s <= (SELECT utc_s FROM evidence ORDER BY utc_s DESC LIMIT 1 OFFSET ?)",
        (KEEP_SECONDS,),
    )


def read(db: sqlite3.Connection, from_utc_s: float, to_utc_s: float, limit: int) -> list[EvidenceRow]:
    """The seconds in `[from, to)`, oldest first, at most `limit`."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM evidence WHERE utc_s >= ? AND utc_s < ? ORDER BY utc_s LIMIT ?",  # noqa: S608 - our own
        (from_utc_s, to_utc_s, limit),
    )
    return all_sound(_row, rows.fetchall())


def _values(row: EvidenceRow) -> tuple[object, ...]:
    return (
        row.utc_s,
        row.frequency_hz,
        row.power_w,
        row.baseline_w,
        row.award_up_w,
        row.award_down_w,
        row.response_w,
        row.clock_trusted,
        json.dumps(row.award_ids),
        row.trouble.value if row.trouble is not None else None,
        row.ticks,
    )


def _row(*cells: Any) -> EvidenceRow:
    utc_s, frequency_hz, power_w, baseline_w, up_w, down_w, response_w, trusted, award_ids, trouble, ticks = cells
    return EvidenceRow(
        whole(utc_s),
        maybe(number, frequency_hz),
        maybe(number, power_w),
        maybe(number, baseline_w),
        number(up_w),
        number(down_w),
        maybe(number, response_w),
        bool(whole(trusted)),
        tuple(map(text_of, read_back(text_of(award_ids)))),
        Trouble(trouble) if trouble is not None else None,
        whole(ticks),
    )
