"""What the store reads back: one cell of a sound state directory is replaced, and the agent starts from it.

An input is three lines: table.column, the kind of value (t text, b bytes, i whole number, r real, n none), and the value
to the end. What was damaged may be refused, told or left out; a start goes on, and nothing false comes into force.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import math
import shutil
import sqlite3
import struct
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from agent.cloud.messages import ack_message, event_message, ledger_message
from agent.cloud.stamp import iso
from agent.cloud.wire import parse_document
from agent.cloud.wire_command import ParsedCommand, parse_command
from agent.core.command import LONGEST_COMMAND_S
from agent.core.commissioning_record import Record, as_measured, failed_condition, record_json
from agent.core.commissioning_terms import DeviceFacts, Finding, Result, Word
from agent.core.crash_loop import Starts, started, starts_record
from agent.core.events import Event, EventState, Severity
from agent.core.evidence import EvidenceRow
from agent.core.latch import Alarm, Latch, latches_record, restored_latches
from agent.core.ledger import SlotRow, slot_account
from agent.core.measured import Measured
from agent.core.override import LONGEST_OVERRIDE_S, Override, override_record, restored_override
from agent.core.plan import LocalPlan, Slot, Target
from agent.core.records import DOCUMENT_KINDS, CommandRecord, Outcome, ParsedDocument, Sample, Stage, Stream
from agent.core.term import begun
from agent.replan.kept import Kept, kept_from_json, kept_json
from agent.runtime import commissioning, safe_mode, site_authority
from agent.runtime.award_report import evidence_line
from agent.runtime.clock import Clock
from agent.runtime.command_desk import CommandDesk, Reach
from agent.runtime.documents_held import documents_held
from agent.runtime.models import models_held
from agent.runtime.report import ledger_line
from agent.store import Announce, Quota, Store
from agent.store.held import load
from agent.store.opening import open_files
from agent.store.writer import Writer
from drivers.profile.settings import OwnersSettings
from drivers.profile.wear import StoredWrites
from tests.fuzz.cloud_messages import AWARD, COMMAND, HEAD, PLAN, SITE
from tests.fuzz.target_documents import NOW_UTC_S, RULES
from tests.fuzz.targets import hold

ANNOUNCE = Announce(
    ack=lambda seq, outcome: ack_message(SITE, seq, outcome),
    event=lambda seq, event: event_message(SITE, seq, event),
    ledger=lambda seq, row: ledger_message(SITE, seq, row),
)
SHM = Path("/dev/shm")
HOME = Path(tempfile.mkdtemp(prefix="fz", dir=SHM if SHM.is_dir() else None))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
DOCUMENTS: list[dict[str, Any]] = [
    PLAN | {"version": version, "power": [float(version), None], "soc_end_pct": [50.0, None], "price": [1.0, 2.0]}
    for version in (5, 6)
] + [{**HEAD, "kind": "awards", "unit": "kW", "awards": [AWARD]}]
COMMANDS = [
    COMMAND,
    COMMAND | {"id": "c-2", "type": "live", "params": {"duration_s": 60}},
    COMMAND | {"id": "c-3", "type": "narrow_limits", "params": {"duration_s": 600, "unit": "kW", "export_limit": 1.0}},
]
MODEL = {
    "stated_capacity_wh": 1e6, "stated_efficiency": 0.95, "charged_wh": 2e6, "charged_pct": 200.0, "discharged_wh": 1.9e6,
    "discharged_pct": 200.0, "lost_wh": 10.0, "rest_s": 60.0, "stretches": 3, "contradictions": 0, "serial": "S1",
}  # fmt: skip
MEASURED = Measured(NOW_UTC_S, 1.0, 3.0, 500.0, True, 58.0, "Maker", "X1", "S1", "1.0", "anna")
FACTS = DeviceFacts("bess", "battery", "tcp://192.0.2.1:502", "Maker", "X1", "S1", "1.0")
RECORD = Record(
    {"identity": Result(Word.FAILED, (Finding(Word.FAILED, "c", "t", "h"),), {"lag_s": None}, 1.0, 2.0, ((0.0, None),))},
    {"bess": MEASURED}, (FACTS,), Word.FAILED, "why", "anna", NOW_UTC_S, NOW_UTC_S + 9,
)  # fmt: skip
MARKS = {
    "override": override_record(
        Override(Target.BATTERY, 1e5, begun(NOW_UTC_S, 0.0, 1800.0), NOW_UTC_S, "anna", "a test")
    ),
    "latches": latches_record({"bess": Latch("bess", Alarm.E_STOP, NOW_UTC_S)}),
    "starts": starts_record(Starts((NOW_UTC_S,), None)) | {"software": "0.1.0"},
    "commissioning": record_json(RECORD),
    "owners_settings": {"bess": {"mode": 3.0}},
    "stored_writes": {"bess": [NOW_UTC_S]},
}


class Still:
    """A clock that stands at the time of the messages."""

    def utc_s(self) -> float:
        return NOW_UTC_S

    def mono_s(self) -> float:
        return 0.0

    async def sleep_until(self, mono_s: float) -> None:
        raise AssertionError("a start does not wait")


CLOCK: Clock = Still()


async def fill(store: Store) -> None:
    """One row of everything."""
    for document in DOCUMENTS:
        kind = next(kind for kind in DOCUMENT_KINDS if kind.value == document["kind"])
        parsed = parse_document(kind, json.dumps(document).encode(), SITE)
        assert isinstance(parsed, ParsedDocument), parsed
        found = parsed.content
        stored = Outcome(NOW_UTC_S, kind.value, found.version, found.sha256, Stage.STORED)
        await store.save_document(found, parsed.document, stored)
    for message in COMMANDS:
        taken = parse_command(json.dumps(message).encode(), SITE)
        assert isinstance(taken, ParsedCommand), taken
        one = taken.command
        until_s = NOW_UTC_S + (one.duration_s or 0.0)
        record = CommandRecord(
            one.command_id, one.sha256, one.type.value, NOW_UTC_S, one.expires_utc_s, Stage.ACCEPTED, taken.document, until_s,
            NOW_UTC_S,
        )  # fmt: skip
        await store.take_command(record)
    await store.append_event(Event(NOW_UTC_S, EventState.NOTED, Severity.INFO, "tested", "site", "a text", {"x": 1.5}))
    await store.note_decision(NOW_UTC_S, {"source": "rolling"})
    await store.set_last_utc(NOW_UTC_S - 60.0)
    await store.keep_replanning(
        kept_json(Kept(LocalPlan(NOW_UTC_S, (None, None), (SLOT,), by_rule=True, why="a test")))
    )
    keeps = (
        store.keep_override, store.keep_latches, store.keep_starts, store.keep_commissioning, store.keep_settings,
        store.keep_stored_writes,
    )  # fmt: skip
    for keep, content in zip(keeps, MARKS.values(), strict=True):
        await keep(json.dumps(content))
    await store.save_models({"bess": json.dumps(MODEL)})
    points = {"bess.power_w": 1.0}
    await store.append_sample(Sample("b1", NOW_UTC_S, 1.0, 2.0, 3.0, None, 50.0, 50.01, 2.0, 2.0, "rolling", points))
    row = SlotRow(NOW_UTC_S, NOW_UTC_S + 1800, "grid", 200.0, "rolling", 6, 1.0, 90.0, 10.0, 55.0, closed=False)
    await store.save_slot(row)
    seconds = EvidenceRow(
        int(NOW_UTC_S), 50.0, 1.0, 0.0, 1.0, 1.0, 0.5, clock_trusted=True, award_ids=("a-1",), trouble=None, ticks=1
    )
    await store.add_evidence([seconds])


SLOT = Slot(NOW_UTC_S, NOW_UTC_S + 1800.0, 5e3, Target.GRID, 49.5, 7e3)


async def _made() -> None:
    store = await Store.open(HOME, ANNOUNCE, CLOCK.utc_s)
    await fill(store)
    await store.close()


def _soft(writer: Writer) -> dict[str, sqlite3.Connection]:
    found = {"control": writer.control.database.connection(), "telemetry": writer._telemetry.database.connection()}
    for connection in found.values():
        connection.execute("PRAGMA synchronous = OFF")
    return found


asyncio.run(_made())
WRITER, _ = open_files(HOME, ANNOUNCE, CLOCK.utc_s, Quota())
OPEN = _soft(WRITER)
TABLES = {
    "control": ("plans", "commands", "outcomes", "events", "decisions", "sequences", "models", "meta"),
    "telemetry": ("staged", "slots", "evidence"),
}
PLACE = {table: name for name, tables in TABLES.items() for table in tables}
COLUMNS = {
    table: [row[1] for row in OPEN[name].execute(f"PRAGMA table_info({table})")] for table, name in PLACE.items()
}
MARK_KEYS = [row[0] for row in OPEN["control"].execute("SELECT key FROM meta")]
BEST = {"rolling": 6, "awards": 5}
"""The newest version of each kind."""
SOUND = load(WRITER)
SHA256S = {held.sha256 for held in SOUND.documents}
COMMANDS_OF = {
    taken.command.command_id: taken.command
    for message in COMMANDS
    if isinstance(taken := parse_command(json.dumps(message).encode(), SITE), ParsedCommand)
}


def row(payload: bytes) -> None:
    """See above; `meta.KEY` names the row of the table of marks."""
    where, _, rest = payload.partition(b"\n")
    kind, _, raw = rest.partition(b"\n")
    table, _, column = where.decode("latin-1").partition(".")
    value = _value(kind, raw)
    if table == "meta" and column in MARK_KEYS:
        _damaged("control", "UPDATE meta SET value = {} WHERE key = ?", value, (column,), "meta")
    elif column in COLUMNS.get(table, ()):
        rowid = "(SELECT max(rowid) FROM {})".format(table)  # noqa: UP032
        sql = f"UPDATE {table} SET {column} = {{}} WHERE rowid = {rowid}"
        _damaged(PLACE[table], sql, value, (), table)


def _value(kind: bytes, raw: bytes) -> tuple[str, object]:
    """How the value is written, and what."""
    if kind == b"b":
        return "?", raw
    if kind == b"i":
        return "?", int.from_bytes(raw[:8], "big", signed=True)
    if kind == b"r":
        return "?", struct.unpack(">d", raw[:8].ljust(8, b"\0"))[0]
    return ("NULL", None) if kind == b"n" else ("CAST(? AS TEXT)", raw)


def _damaged(name: str, sql: str, value: tuple[str, object], more: tuple[object, ...], table: str) -> None:
    """The row changed, everything read, the row as it was."""
    db = OPEN[name]
    before = db.execute(f"SELECT rowid, * FROM {table}").fetchall()
    mark, cell = value
    try:
        db.execute(sql.format(mark), (*(() if mark == "NULL" else (cell,)), *more))
    except sqlite3.Error:
        return  # such a cell cannot be: SQLite itself would call the file damaged
    try:
        READ[table]()
    finally:
        places = ", ".join("?" for _ in COLUMNS[table])
        db.execute(f"DELETE FROM {table}")
        db.executemany(f"INSERT INTO {table} (rowid, {', '.join(COLUMNS[table])}) VALUES (?, {places})", before)
        OPEN["control"].execute("DELETE FROM events WHERE id > 1")
        OPEN["telemetry"].execute("DELETE FROM outbox WHERE stream = 'event' AND seq > 1")


def _started() -> None:
    """A start, as far as commands and marks are concerned."""
    held = load(WRITER)
    _time(held.last_trusted_utc_s)
    hold(held.commands_since_utc_s >= 0.0, "ids are remembered from some time on")
    _commands(held)
    _marks(held)


def _documents() -> None:
    held = load(WRITER)
    for one in held.documents:
        hold(one.sha256 in SHA256S, "a document that was not stored is not used")
    plans, orders = documents_held(held, SITE)
    told = {event.code for event in WRITER.control.newest_events(10)}
    for found, best in ((plans.rolling, BEST["rolling"]), (orders.awards, BEST["awards"])):
        hold(found is None or found.version <= best, "no document counts for more than it is")
        hold((found is not None and found.version == best) or _as_told(held, told), "what is lost is told")


def _as_told(held: Any, told: set[str]) -> bool:
    """A damaged document is told; one whose row says another version or kind is just not used."""
    return (
        "document_damaged" in told
        or {one.version for one in held.documents} != {5, 6}
        or any(one.kind not in BEST for one in held.documents)
    )


def _commands(held: Any) -> None:
    queued: list[object] = []
    reach = Reach(queued.append, _never, lambda: True, list, lambda _: None, lambda: False, _never)  # type: ignore[arg-type]
    desk = CommandDesk(
        store=None, site_id=SITE, limits=lambda: None, clock=CLOCK, reach=reach, courtesy=lambda _: None,  # type: ignore[arg-type]
        on_answered=list,
    )  # fmt: skip
    desk.restore(held.commands, NOW_UTC_S)
    for one in desk.book.all:
        hold(one.command == COMMANDS_OF.get(one.command.command_id), "only a command that was taken is in force again")
        hold(one.term.until_mono_s <= min(one.command.duration_s or 0.0, LONGEST_COMMAND_S), "for the rest of its time")


async def _never(*_: object) -> Any:
    raise AssertionError("a start asks for nothing")


def _marks(held: Any) -> None:
    override = restored_override(site_authority._read(held.override), NOW_UTC_S, 0.0)
    if override is not None:
        hold(math.isfinite(override.power_w), "an override has a power")
        hold(0.0 < override.term.left_s(NOW_UTC_S, 0.0, clock_trusted=False) <= LONGEST_OVERRIDE_S, "and an end")
    _told(site_authority.override_facts(override))
    latches = restored_latches(site_authority._read(held.latches), ["bess"])
    _told(site_authority.latch_facts(latches))
    before, software = safe_mode._read(held.starts)
    _told([starts_record(started(before, NOW_UTC_S)), software])
    record = commissioning._read(held.commissioning)
    if record is not None:
        _told(record_json(record))
        failed_condition(record)
        rules, _ = as_measured(RULES, record.measured, (FACTS, replace(FACTS, device_id="bess", serial="S2")))
        for battery in rules.batteries:
            hold(battery.refreshed_within_s >= 0.0 and rules.reaction_s > 0.0, "what was measured is a time")
    settings, writes = OwnersSettings(), StoredWrites(CLOCK.utc_s)
    settings.restore(held.settings)
    writes.restore(held.stored_writes)
    hold(all(map(math.isfinite, settings.of("bess").values())), "a setting is a number")
    hold(writes.spent("bess") >= 0, "writes are counted")
    for model in models_held(held.models).values():
        hold(0 < model.one_way_efficiency <= 1 and 0 < model.capacity_wh < math.inf, "a model is of a battery")
    kept = kept_from_json(held.replanning)
    for slot in kept.local.slots if kept.local is not None else ():
        hold(math.isfinite(slot.power_w) and slot.start_utc_s < slot.end_utc_s, "a slot of a local plan is one")
        _told([iso(slot.start_utc_s), iso(slot.end_utc_s)])


def _told_again() -> None:
    """What people and the cloud ask for of control.db."""
    control = WRITER.control
    for event in control.newest_events(10):
        event_message(SITE, 1, event)
    for _, outcome in control.outcomes_after(0, 50):
        ack_message(SITE, 1, outcome)
    _told(control.newest_decisions(5))
    control.first_broken_event()
    for stream in Stream:
        control.reserved(stream)
    for command_id in COMMANDS_OF:
        record = next((one for one in control.open_commands() if one.command_id == command_id), None)
        if record is not None:
            ack_message(SITE, 1, record.outcome)


def _bulk() -> None:
    """What is read of telemetry.db, at a start and by people."""
    telemetry = WRITER._telemetry
    sample, slot = WRITER.unfinished()
    hold(sample is None or _told(asdict(sample)) is None, "a sample can be told")
    if slot is not None:
        account = slot_account(slot)
        hold(math.isfinite(account.slot.power_w) and account.slot.start_utc_s < account.slot.end_utc_s, "a slot is one")
    for found in telemetry.slots(0.0, 1e12):
        _told(ledger_line(found))
    for second in telemetry.evidence(0.0, 1e12, 10):
        _told(evidence_line(second))


def _told(content: object) -> None:
    """It goes into an answer: every number in it is one."""
    json.dumps(content, allow_nan=False, default=str)


def _time(utc_s: float | None) -> None:
    hold(utc_s is None or utc_s < 4_102_444_800.0, "a time that stops all plans for centuries is not believed")
    _told(None if utc_s is None else iso(utc_s))


READ = {
    **dict.fromkeys(("events", "outcomes", "decisions", "sequences"), _told_again),
    **dict.fromkeys(("staged", "slots", "evidence"), _bulk),
    **dict.fromkeys(("meta", "models"), _started),
    "plans": _documents,
    "commands": lambda: (_started(), _told_again()),
}
"""What is read after a cell of a table was damaged."""
FUNCTIONS = {"row": row}
