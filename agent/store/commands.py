"""Commands in control.db: an id is taken once and has one terminal outcome, whatever happens in between."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from agent.core.kept_text import moment, text_of
from agent.core.records import CommandEnd, CommandRecord, Outcome, Stage, StorageFailed
from agent.store.cells import blob, maybe, time_kept

LAST_UTC = "last_trusted_utc_s"
"""Where the newest time known to be good is kept."""
KEEP_COMMANDS = 200_000
"""Ids remembered at most; while they are all still needed, no further command is taken."""
KEEP_AFTER_EXPIRY_S = 86_400.0
"""A command that expired so long ago would be refused for that alone, so its id may be forgotten."""
LOOKED_AT = 8
"""Oldest rows looked at for each new one: forgetting keeps pace with taking."""

_COLUMNS = (
    "command_id, sha256, type, received_utc_s, expires_utc_s, stage, document, until_utc_s, at_utc_s, "
    "reason, field, detail"
)
_MARKS = ", ".join("?" for _ in _COLUMNS.split(","))
InsertOutcome = Callable[[sqlite3.Connection, Outcome], None]


def take(
    db: sqlite3.Connection, record: CommandRecord, ends: Sequence[CommandEnd], insert_outcome: InsertOutcome
) -> CommandRecord | None:
    """None when the command is kept with its outcomes and those that end with it, else what is known under its id."""
    known = _known(db, record.command_id)
    if known is not None:
        return known
    _forget(db, min(record.received_utc_s, _known_good_utc_s(db)))
    (held,) = db.execute("SELECT coalesce(max(id) - min(id) + 1, 0) FROM commands").fetchone()
    if held >= KEEP_COMMANDS:
        raise StorageFailed("control", f"{held} commands of the last day are remembered, which is all that fit")
    values = (
        record.command_id, record.sha256, record.type, record.received_utc_s, record.expires_utc_s, record.stage.value,
        record.document, record.until_utc_s, record.at_utc_s, record.reason, record.field, record.detail,
    )  # fmt: skip
    db.execute(f"INSERT INTO commands ({_COLUMNS}) VALUES ({_MARKS})", values)  # noqa: S608 - constants
    insert_outcome(db, record.outcome)
    end(db, ends, insert_outcome)
    return None


def end(db: sqlite3.Connection, ends: Sequence[CommandEnd], insert_outcome: InsertOutcome) -> None:
    """Each accepted command has its terminal outcome; one that has it already keeps it."""
    for one in ends:
        changed = db.execute(
            "UPDATE commands SET stage = ?, at_utc_s = ?, reason = ?, detail = ?, document = NULL "
            "WHERE command_id = ? AND stage = ?",
            (one.stage.value, one.at_utc_s, one.reason, one.detail, one.command_id, Stage.ACCEPTED.value),
        ).rowcount
        if changed:
            record = _known(db, one.command_id)
            assert record is not None, "it was just changed"
            insert_outcome(db, record.outcome)


def accepted(db: sqlite3.Connection) -> list[CommandRecord]:
    """The commands without a terminal outcome, oldest first."""
    where = "WHERE stage = 'accepted' ORDER BY id"
    return [_record(row) for row in db.execute(f"SELECT {_COLUMNS} FROM commands {where}")]  # noqa: S608 - constants


def _known(db: sqlite3.Connection, command_id: str) -> CommandRecord | None:
    row = db.execute(f"SELECT {_COLUMNS} FROM commands WHERE command_id = ?", (command_id,)).fetchone()  # noqa: S608
    return _record(row) if row else None


def _known_good_utc_s(db: sqlite3.Connection) -> float:
    """The newest time of a clock that was proven: one that is wrong for a moment has nothing forgotten."""
    row = db.execute("SELECT value FROM meta WHERE key = ?", (LAST_UTC,)).fetchone()
    utc_s = time_kept(row[0]) if row else None
    return float("-inf") if utc_s is None else utc_s


def _forget(db: sqlite3.Connection, now_utc_s: float) -> None:
    db.execute(
        "DELETE FROM commands WHERE id IN (SELECT id FROM (SELECT id, stage, expires_utc_s FROM commands ORDER BY id "
        "LIMIT ?) WHERE stage != 'accepted' AND expires_utc_s < ?)",
        (LOOKED_AT, now_utc_s - KEEP_AFTER_EXPIRY_S),
    )


def _record(row: Sequence[Any]) -> CommandRecord:
    """The command; of one that the disk garbled its id alone, so that it is not taken again, and has no effect."""
    command_id, sha256, kind, received, expires, stage, document, until, at, reason, field, detail = row
    try:
        return CommandRecord(
            text_of(command_id), text_of(sha256), text_of(kind), moment(received), moment(expires), Stage(stage),
            maybe(blob, document), maybe(moment, until), moment(at), maybe(text_of, reason), maybe(text_of, field),
            maybe(text_of, detail),
        )  # fmt: skip
    except ValueError:
        kept = Stage.ACCEPTED if stage == Stage.ACCEPTED.value else Stage.FAILED
        garbled = "what was kept of this command is damaged on the disk"
        return CommandRecord(
            str(command_id), "", "unknown", 0.0, 0.0, kept, None, None, 0.0, "interrupted", None, garbled
        )  # fmt: skip
