"""The tables of control.db and telemetry.db, as migrations: each is applied once, in order, never edited later.

A migration only adds tables and columns that may be left empty, and no new kind of row to an old table, so that the
version of the agent before it can go on with the same files after a rollback.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils.db import Database

CONTROL_1 = """
CREATE TABLE plans (
  kind TEXT NOT NULL, version INTEGER NOT NULL, sha256 TEXT NOT NULL,
  received_utc_s REAL NOT NULL, document BLOB NOT NULL,
  PRIMARY KEY (kind, version)
);
CREATE TABLE outcomes (
  id INTEGER PRIMARY KEY, at_utc_s REAL NOT NULL, subject TEXT NOT NULL, kind TEXT NOT NULL, version INTEGER,
  sha256 TEXT NOT NULL, stage TEXT NOT NULL, reason TEXT, field TEXT, detail TEXT
);
CREATE INDEX outcomes_by_document ON outcomes (kind, version, sha256);
CREATE TABLE events (
  id INTEGER PRIMARY KEY, at_utc_s REAL NOT NULL, body TEXT NOT NULL, hash TEXT NOT NULL
);
CREATE TABLE decisions (id INTEGER PRIMARY KEY, at_utc_s REAL NOT NULL, body TEXT NOT NULL);
CREATE TABLE sequences (stream TEXT PRIMARY KEY, reserved_to INTEGER NOT NULL, settled_id INTEGER NOT NULL);
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""

TELEMETRY_1 = """
CREATE TABLE samples (
  id INTEGER PRIMARY KEY AUTOINCREMENT, boot_id TEXT NOT NULL, at_utc_s REAL NOT NULL,
  grid_w REAL, battery_w REAL, pv_w REAL, load_w REAL, soc_pct REAL, frequency_hz REAL,
  target_w REAL, setpoint_w REAL, source TEXT NOT NULL
);
CREATE TABLE slots (
  start_utc_s REAL PRIMARY KEY, end_utc_s REAL NOT NULL, target TEXT NOT NULL, power_w REAL NOT NULL,
  source TEXT NOT NULL, version INTEGER, delivered_wh REAL, battery_wh REAL NOT NULL, covered_s REAL NOT NULL,
  soc_end_pct REAL, anchor_wh REAL, grid_wh REAL NOT NULL, planned_soc_end_pct REAL, closed INTEGER NOT NULL
);
CREATE TABLE outbox (
  stream TEXT NOT NULL, seq INTEGER NOT NULL, created_utc_s REAL NOT NULL, row_id INTEGER, payload BLOB NOT NULL,
  PRIMARY KEY (stream, seq)
);
CREATE TABLE streams (
  stream TEXT PRIMARY KEY, last_seq INTEGER NOT NULL, announced_id INTEGER NOT NULL, confirmed_seq INTEGER NOT NULL
);
CREATE TABLE gaps (
  id INTEGER PRIMARY KEY, at_utc_s REAL NOT NULL, from_seq INTEGER NOT NULL, to_seq INTEGER NOT NULL
);
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""

CONTROL_2 = """
CREATE TABLE models (device_id TEXT PRIMARY KEY, saved_utc_s REAL NOT NULL, body TEXT NOT NULL);
"""

CONTROL_3 = """
CREATE TABLE commands (
  id INTEGER PRIMARY KEY, command_id TEXT NOT NULL UNIQUE, sha256 TEXT NOT NULL, type TEXT NOT NULL,
  received_utc_s REAL NOT NULL, expires_utc_s REAL NOT NULL, stage TEXT NOT NULL, document BLOB, until_utc_s REAL,
  at_utc_s REAL NOT NULL, reason TEXT, field TEXT, detail TEXT
);
CREATE INDEX open_commands ON commands (id) WHERE stage = 'accepted';
ALTER TABLE outcomes ADD COLUMN command_id TEXT;
"""

TELEMETRY_2 = """
ALTER TABLE slots ADD COLUMN anchor_export_wh REAL;
ALTER TABLE slots ADD COLUMN response_wh REAL;
ALTER TABLE slots ADD COLUMN pv_to_load_wh REAL;
ALTER TABLE slots ADD COLUMN pv_to_battery_wh REAL;
ALTER TABLE slots ADD COLUMN pv_to_grid_wh REAL;
ALTER TABLE slots ADD COLUMN battery_to_load_wh REAL;
ALTER TABLE slots ADD COLUMN battery_to_grid_wh REAL;
ALTER TABLE slots ADD COLUMN grid_to_load_wh REAL;
ALTER TABLE slots ADD COLUMN grid_to_battery_wh REAL;
ALTER TABLE slots ADD COLUMN split_s REAL;
ALTER TABLE gaps ADD COLUMN stream TEXT NOT NULL DEFAULT 'telemetry';
CREATE TABLE ledger_outbox (
  stream TEXT NOT NULL, seq INTEGER NOT NULL, created_utc_s REAL NOT NULL, row_id INTEGER, payload BLOB NOT NULL,
  PRIMARY KEY (stream, seq)
);
"""

TELEMETRY_3 = """
CREATE TABLE evidence (
  utc_s INTEGER PRIMARY KEY, frequency_hz REAL, power_w REAL, baseline_w REAL, award_up_w REAL NOT NULL,
  award_down_w REAL NOT NULL, response_w REAL, clock_trusted INTEGER NOT NULL, award_ids TEXT NOT NULL, trouble TEXT,
  ticks INTEGER NOT NULL
);
"""

TELEMETRY_4 = """
CREATE TABLE staged (
  id INTEGER PRIMARY KEY, boot_id TEXT NOT NULL, at_utc_s REAL NOT NULL,
  grid_w REAL, battery_w REAL, pv_w REAL, load_w REAL, soc_pct REAL, frequency_hz REAL,
  target_w REAL, setpoint_w REAL, source TEXT NOT NULL, points TEXT NOT NULL
);
CREATE TABLE full_rate_outbox (
  stream TEXT NOT NULL, seq INTEGER NOT NULL, created_utc_s REAL NOT NULL, row_id INTEGER, payload BLOB NOT NULL,
  PRIMARY KEY (stream, seq)
);
CREATE TABLE frame_times (
  stream TEXT NOT NULL, seq INTEGER NOT NULL, from_utc_s REAL NOT NULL, to_utc_s REAL NOT NULL,
  PRIMARY KEY (stream, seq)
) WITHOUT ROWID;
CREATE TABLE delivered (stream TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (stream, seq)) WITHOUT ROWID;
CREATE TABLE held (
  stream TEXT PRIMARY KEY, rows INTEGER NOT NULL, payload_bytes INTEGER NOT NULL, waiting INTEGER NOT NULL
);
"""

MIGRATIONS = {
    "control": (CONTROL_1, CONTROL_2, CONTROL_3),
    "telemetry": (TELEMETRY_1, TELEMETRY_2, TELEMETRY_3, TELEMETRY_4),
}
"""By database, oldest first; `PRAGMA user_version` of an up-to-date one is their number."""


def bring_up_to_date(connection: sqlite3.Connection, name: str) -> None:
    """The database has all its tables afterwards; an up-to-date one costs one PRAGMA."""
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found < len(MIGRATIONS[name]):
        _migrate(connection, name)


def lacking(connection: sqlite3.Connection, name: str) -> str | None:
    """A table or column that should be there and is not, as in a file whose schema is damaged; None when all are."""
    for table, columns in _columns(MIGRATIONS[name]).items():
        there = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        if not columns <= there:
            return f"{table} lacks {', '.join(sorted(columns - there))}"
    return None


@cache
def _columns(scripts: tuple[str, ...]) -> dict[str, set[str]]:
    with closing(sqlite3.connect(":memory:")) as empty:
        for script in scripts:
            empty.executescript(script)
        tables = [str(row[0]) for row in empty.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {table: {row[1] for row in empty.execute(f"PRAGMA table_info({table})")} for table in tables}


def _migrate(connection: sqlite3.Connection, name: str) -> None:
    # sqlite-utils imports numpy where it finds it, +27 MB and 200 ms that the daemon has no use for. `None` in
    # sys.modules makes that one import fail, which sqlite-utils provides for.
    hide_numpy = "numpy" not in sys.modules
    if hide_numpy:
        sys.modules["numpy"] = None  # type: ignore[assignment]
    try:
        from sqlite_utils.db import Database  # noqa: PLC0415 - 50 ms, needed only when there is something to do
        from sqlite_utils.migrations import Migrations  # noqa: PLC0415
    finally:
        if hide_numpy:
            del sys.modules["numpy"]

    migrations = Migrations(f"ems_{name}")

    for version, script in enumerate(MIGRATIONS[name], start=1):
        migrations(name="first_tables" if version == 1 else f"version_{version}")(_applying(script, version))
    migrations.apply(Database(connection))


def _applying(script: str, version: int) -> Callable[[Database], None]:
    def migration(db: Database) -> None:
        for statement in script.split(";\n"):
            if statement.strip():
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {version}")

    return migration
