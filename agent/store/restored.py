"""A state directory brought back from a backup goes on without repeating what the lost gateway did after it."""

from __future__ import annotations

import math
from pathlib import Path

from agent.core.admission import replayable_before_utc_s
from agent.core.events import Event, EventState, Severity
from agent.core.records import StorageFailed, Stream
from agent.store.control import COMMANDS_SINCE, SEQUENCE_BLOCK, ControlDb
from agent.store.outbox import Quota, begin_streams, state_of
from agent.store.schema import MIGRATIONS
from agent.store.telemetry import TelemetryDb

MOST_PER_S = 1.0
"""Messages of one stream that the lost gateway can have sent since the backup; frames have at least 1 s."""


def go_on_elsewhere(directory: Path, now_utc_s: float, made_utc_s: float, text: str) -> None:
    """The databases in `directory` are those of the same site on another gateway, which has told an event with `text`.

    Sequences go on above all that the lost gateway can have used; each hole is told. Commands that were open are
    forgotten and those issued before now refused, for they may have had their effect. Raises `StorageFailed`.
    """
    control, telemetry = ControlDb(directory), TelemetryDb(directory, Quota())
    try:
        (schema,) = control.database.connection().execute("PRAGMA user_version").fetchone()
        if schema > len(MIGRATIONS["control"]) + 1:
            raise StorageFailed("control", "it was written by a later version of the agent; install that one first")
        skipped = SEQUENCE_BLOCK + math.ceil(max(0.0, now_utc_s - made_utc_s) * MOST_PER_S)
        holes: list[tuple[Stream, int, int]] = []
        with telemetry.database.transaction(durable=True) as db:
            begin_streams(db, dict.fromkeys(Stream, (0, 0)))
            # The lost gateway went on with these and sent what became of them.
            db.execute("DELETE FROM staged")
            db.execute("DELETE FROM slots WHERE closed = 0")
            announced_id = state_of(db, Stream.EVENT).announced_id
            for stream in Stream:
                # Without telemetry.db in the backup only control.db knows how far the sequences were.
                last_seq = state_of(db, stream).last_seq or control.reserved(stream)[0]
                if last_seq:
                    holes.append((stream, last_seq + 1, last_seq + skipped))
                    begin_streams(db, {stream: (last_seq + skipped, 0)})
        for stream, _, to_seq in holes:
            control.reserve(stream, to_seq)
        with control.database.transaction() as db:
            db.execute("DELETE FROM commands WHERE stage = 'accepted'")
        control.set_mark(COMMANDS_SINCE, repr(replayable_before_utc_s(now_utc_s)))
        noted = (EventState.NOTED, Severity.WARNING)
        control.add_event(Event(now_utc_s, *noted, "site_restored", "site", text, {}), announced_id)
        for stream, from_seq, to_seq in holes:
            told = f"the {stream} stream goes on at {to_seq + 1} on this gateway; what has not come will not come"
            data = {"stream": stream.value, "from": from_seq, "to": to_seq}
            control.add_event(Event(now_utc_s, *noted, "sequence_jumped", "site", told, data), announced_id)
    finally:
        control.database.close()
        telemetry.database.close()
