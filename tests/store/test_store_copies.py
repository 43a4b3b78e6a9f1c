"""Sound copies while the daemon writes, and a state that goes on elsewhere without repeating anything."""

import sqlite3
import stat

import pytest
from store_values import BUILD_FRAME, NOW, event, messages, open_store, plan, sample, slot

from agent.core.admission import MAX_ISSUED_AHEAD_S
from agent.core.records import CommandRecord, Stage, StorageFailed, Stream
from agent.store.control import SEQUENCE_BLOCK
from agent.store.copies import copy_database, refresh_snapshot
from agent.store.restored import go_on_elsewhere
from agent.store.schema import MIGRATIONS

LATER = NOW + 86_400.0


def rows(path, table):
    with sqlite3.connect(path) as db:
        return db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


async def test_a_copy_has_all_that_was_committed_while_the_store_goes_on(tmp_path):
    store = await open_store(tmp_path / "state")
    await store.save_document(*plan(7))
    copy_database(tmp_path / "state/control.db", tmp_path / "copy.db")
    await store.save_document(*plan(8))
    await store.close()
    assert rows(tmp_path / "copy.db", "plans") == 1
    assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == 0o640
    assert not list(tmp_path.glob("copy.db-*")), "one file, no log beside it"


def test_what_is_not_a_database_is_not_copied(tmp_path):
    (tmp_path / "control.db").write_bytes(b"x" * 5000)
    with pytest.raises(StorageFailed, match=r"control.db: "):
        copy_database(tmp_path / "control.db", tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


async def test_a_start_falls_back_on_the_refreshed_snapshot(tmp_path):
    store = await open_store(tmp_path)
    await store.save_document(*plan(7))
    assert refresh_snapshot(tmp_path)
    await store.close()
    (tmp_path / "control.db").write_bytes(b"nothing")
    store = await open_store(tmp_path)
    assert [held.version for held in (await store.load()).documents] == [7]
    await store.close()


def test_where_there_is_nothing_there_is_nothing_to_copy(tmp_path):
    assert not refresh_snapshot(tmp_path)


@pytest.fixture
async def state(tmp_path):
    """A site with a plan, two frames, an open command, a sample that waits for its frame, and a slot that runs."""
    store = await open_store(tmp_path)
    await store.save_document(*plan(7))
    await store.append_event(event("before"))
    for second in range(2):
        await store.append_sample(sample(NOW + second))
        await store.seal_frame(BUILD_FRAME)
    await store.append_sample(sample(NOW + 2))
    await store.save_slot(slot(closed=False))
    record = CommandRecord("c1", "a" * 64, "hold", NOW, NOW + 6e6, Stage.ACCEPTED, b"{}", NOW + 6e6, NOW)
    assert await store.take_command(record) is None
    await store.close()
    go_on_elsewhere(tmp_path, LATER, NOW, "restored here")
    return tmp_path


async def test_what_was_held_is_held(state):
    store = await open_store(state, now=LATER)
    assert [held.version for held in (await store.load()).documents] == [7]
    await store.close()


async def test_no_sequence_comes_twice_and_the_hole_is_told(state):
    """The lost gateway can have sent a message a second since the backup."""
    store = await open_store(state, now=LATER)
    await store.append_sample(sample(LATER))
    skipped = 86_400 + SEQUENCE_BLOCK
    assert await store.seal_frame(BUILD_FRAME) == 2 + skipped + 1
    told = [message for _, message in await messages(store, Stream.EVENT)]
    holes = {m["data"]["stream"]: m["data"] for m in told if m["code"] == "sequence_jumped"}
    assert holes["telemetry"] == {"stream": "telemetry", "from": 3, "to": 2 + skipped}
    assert set(holes) == {"telemetry", "ack", "event"}, "of streams that began"
    assert [m["text"] for m in told if m["code"] == "site_restored"] == ["restored here"]
    seqs = [seq for seq, _ in await messages(store, Stream.EVENT)]
    assert seqs[0] == 1
    assert min(seqs[1:]) == 1 + skipped + 1
    assert await store.verify_chain() is None, "no event was changed"
    await store.close()


async def test_commands_from_before_have_no_effect_a_second_time(state):
    store = await open_store(state, now=LATER)
    held = await store.load()
    assert held.commands == ()
    assert held.commands_since_utc_s == LATER + MAX_ISSUED_AHEAD_S
    await store.close()


async def test_what_was_half_done_is_left_to_the_gateway_that_did_it(state):
    store = await open_store(state, now=LATER)
    held = await store.load()
    assert held.open_slot is None
    assert await store.seal_frame(BUILD_FRAME) is None, "the sample is in a frame of the lost gateway"
    await store.close()


async def test_a_backup_without_telemetry_goes_on_above_it_too(tmp_path):
    store = await open_store(tmp_path)
    await store.append_sample(sample())
    await store.seal_frame(BUILD_FRAME)
    await store.close()
    for path in tmp_path.glob("telemetry.db*"):
        path.unlink()
    go_on_elsewhere(tmp_path, LATER, NOW, "restored here")
    for path in tmp_path.glob("telemetry.db*"):
        path.unlink()
    store = await open_store(tmp_path, now=LATER)
    await store.append_sample(sample(LATER))
    assert await store.seal_frame(BUILD_FRAME) > 86_400 + SEQUENCE_BLOCK
    await store.close()


async def test_a_state_of_a_much_later_version_is_refused(tmp_path):
    store = await open_store(tmp_path)
    await store.close()
    for ahead, fits in ((1, True), (2, False)):
        with sqlite3.connect(tmp_path / "control.db") as db:
            db.execute(f"PRAGMA user_version = {len(MIGRATIONS['control']) + ahead}")
        if fits:
            go_on_elsewhere(tmp_path, LATER, NOW, "restored here")
        else:
            with pytest.raises(StorageFailed, match="written by a later version"):
                go_on_elsewhere(tmp_path, LATER, NOW, "restored here")
