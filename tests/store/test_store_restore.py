"""control.db is damaged or gone: what takes its place, whole or not at all, however the agent is killed meanwhile."""

import sqlite3
from contextlib import contextmanager
from pathlib import Path

import pytest
from store_values import NOW, event, open_store, plan

from agent.core.plan import PlanKind
from agent.core.records import StorageFailed
from agent.store.control import ControlDb
from agent.store.database import Database
from agent.store.writer import Writer


class KilledHereError(Exception):
    """Stands for kill -9: nothing after it happens."""


@pytest.fixture
async def damaged(tmp_path):
    """A directory with a snapshot that holds yearly plan 7, and a file that is none."""
    store = await open_store(tmp_path)
    await store.save_document(*plan(7, PlanKind.YEARLY))
    await store.append_event(event("after the snapshot"))
    await store.close()
    (tmp_path / "control.db").write_bytes(b"nothing")
    return tmp_path


async def found(directory):
    store = await open_store(directory)
    held, events = await store.load(), await store.events(10)
    await store.close()
    return [(h.kind, h.version) for h in held.documents], held.commands_since_utc_s > NOW, [e.code for e in events]


STEPS = {
    "put aside": (Database, "quarantine", "after"),
    "the copy is begun": (Database, "transaction", "before"),
    "the copy is marked": (Database, "transaction", "after"),
    "renamed": (ControlDb, "replace_lost", "after"),
    "before it is told": (Writer, "append_event", "before"),
    "told": (ControlDb, "loss_told", "before"),
}


@pytest.mark.parametrize("step", STEPS)
async def test_killed_at_any_step_of_the_replacement_the_next_start_finishes_it(damaged, step, monkeypatch):
    owner, name, when = STEPS[step]
    whole = getattr(owner, name)

    def killed(*arguments, **more):
        if when == "after":
            done = whole(*arguments, **more)
            if name == "transaction":
                with done:
                    pass
        raise KilledHereError

    with monkeypatch.context() as here:
        here.setattr(owner, name, killed)
        with pytest.raises(KilledHereError):
            await open_store(damaged)
    documents, replays_refused, codes = await found(damaged)
    assert documents == [("yearly", 7)]
    assert replays_refused
    assert set(codes) == {"database_damaged"}
    assert len(codes) == (2 if step == "told" else 1), "rather twice than never"


async def test_a_log_that_was_left_beside_a_lost_file_is_not_read_into_the_snapshot(damaged):
    store = await open_store(damaged)
    await store.save_document(*plan(1))
    log = (damaged / "control.db-wal").read_bytes()
    await store.close()
    (damaged / "control.db").unlink()
    (damaged / "control.db-wal").write_bytes(log)
    documents, _, _ = await found(damaged)
    assert documents == [("yearly", 7)]


async def test_a_file_that_somebody_removed_is_restored_too(tmp_path):
    store = await open_store(tmp_path)
    await store.save_document(*plan(7, PlanKind.YEARLY))
    await store.close()
    (tmp_path / "control.db").unlink()
    assert await found(tmp_path) == ([("yearly", 7)], True, ["database_damaged"])


@pytest.mark.parametrize("size", [0, 1, 99])
async def test_a_file_that_was_cut_off_within_its_header_is_restored_and_not_begun_anew(tmp_path, size):
    store = await open_store(tmp_path)
    await store.save_document(*plan(7, PlanKind.YEARLY))
    await store.close()
    whole = (tmp_path / "control.db").read_bytes()
    (tmp_path / "control.db").write_bytes(whole[:size])
    assert await found(tmp_path) == ([("yearly", 7)], True, ["database_damaged"])


async def test_what_must_be_known_of_the_loss_is_in_the_file_that_is_renamed_whoever_reads_it_meanwhile(
    damaged, monkeypatch
):
    readers, transaction = [], Database.transaction

    @contextmanager
    def read_by_another(database, **more):
        with transaction(database, **more) as db:
            yield db
        readers.append(sqlite3.connect(database.path, check_same_thread=False))
        readers[-1].execute("SELECT count(*) FROM meta").fetchone()

    with monkeypatch.context() as here:
        here.setattr(Database, "transaction", read_by_another)
        await (await open_store(damaged)).close()
    for reader in readers:
        reader.close()
    assert (await found(damaged))[1], "commands of before are refused"


async def test_a_snapshot_that_is_damaged_too_gives_way_to_an_empty_file(damaged):
    (damaged / "control.snapshot.db").write_bytes(b"nothing either")
    documents, replays_refused, codes = await found(damaged)
    assert (documents, replays_refused, codes) == ([], True, ["database_damaged"])


HEADERS = {"schema format": 44, "file format": 18, "text encoding": 56, "page size": 16}


@pytest.mark.parametrize("byte", HEADERS.values(), ids=HEADERS)
async def test_a_header_that_says_what_cannot_be_is_damage_like_any_other(tmp_path, byte):
    store = await open_store(tmp_path)
    await store.save_document(*plan(7, PlanKind.YEARLY))
    await store.append_event(event("told"))
    await store.close()
    for name in ("control.db", "telemetry.db"):
        data = bytearray((tmp_path / name).read_bytes())
        data[byte : byte + 4] = b"\x7f\x7f\x7f\x7f"
        (tmp_path / name).write_bytes(data)
    documents, _, codes = await found(tmp_path)
    assert documents == [("yearly", 7)]
    assert codes.count("database_damaged") == 2


@pytest.mark.parametrize("spoilt", ["plans -> plaxs", "sha256 TEXT -> sha25x TEXT"])
async def test_a_schema_that_lacks_a_table_or_a_column_is_damage_too(tmp_path, spoilt):
    store = await open_store(tmp_path)
    await store.save_document(*plan(7, PlanKind.YEARLY))
    await store.close()
    old, new = spoilt.encode().split(b" -> ")
    data = (tmp_path / "control.db").read_bytes()
    (tmp_path / "control.db").write_bytes(data.replace(old, new))
    documents, _, codes = await found(tmp_path)
    assert (documents, codes) == ([("yearly", 7)], ["database_damaged"])


async def test_a_directory_that_never_had_a_file_has_lost_nothing(tmp_path):
    documents, replays_refused, codes = await found(tmp_path)
    assert (documents, replays_refused, codes) == ([], False, [])


async def test_what_takes_its_place_is_for_the_group_at_most(damaged):
    await found(damaged)
    assert (damaged / "control.db").stat().st_mode & 0o777 == 0o640
    assert not (damaged / "control.restoring").exists()


async def test_a_disk_that_is_full_meanwhile_is_told_and_the_next_start_goes_on(damaged, monkeypatch):
    with monkeypatch.context() as here:
        here.setattr(Path, "write_bytes", full)
        with pytest.raises(StorageFailed, match="No space"):
            await open_store(damaged)
    assert (await found(damaged))[0] == [("yearly", 7)]


def full(*_):
    raise OSError(28, "No space left on device")
