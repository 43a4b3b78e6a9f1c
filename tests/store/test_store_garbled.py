"""Single cells that a disk garbled, which no check of the file notices: a start goes on, and nothing false counts."""

import sqlite3
from contextlib import closing

import pytest
from store_values import BUILD_FRAME, NOW, event, messages, open_store, plan, sample, slot

from agent.core.records import CommandRecord, Outcome, Stage, Stream
from agent.runtime.documents_held import documents_held
from agent.store.control_reader import newest_events
from tests.fuzz.cloud_messages import PLAN, SITE
from tests.fuzz.target_rows import fill


async def filled(directory):
    store = await open_store(directory)
    for version in (1, 2):
        await store.save_document(*plan(version))
    await store.take_command(CommandRecord("c1", "a" * 64, "hold", NOW, NOW + 60, Stage.ACCEPTED, b"{}", NOW + 60, NOW))
    await store.append_event(event("first"))
    await store.append_event(event("second"))
    await store.keep_override("{}")
    await store.set_last_utc(NOW)
    await store.save_models({"bess": "{}"})
    for second in range(3):
        await store.append_sample(sample(NOW + second))
    await store.save_slot(slot(closed=False))
    await store.close()


def garble(directory, name, sql, *values):
    with closing(sqlite3.connect(directory / f"{name}.db")) as db:
        assert db.execute(sql, values).rowcount == 1
        db.commit()


@pytest.mark.parametrize("text", [b"\xff\xfe\x00", b"nan", b"1e300", b"99999999999", b""])
async def test_a_garbled_time_is_none_and_the_start_goes_on(tmp_path, text):
    await filled(tmp_path)
    garble(tmp_path, "control", "UPDATE meta SET value = CAST(? AS TEXT) WHERE key = 'last_trusted_utc_s'", text)
    store = await open_store(tmp_path)
    held = await store.load()
    assert held.last_trusted_utc_s is None
    assert held.override == "{}"
    assert (await store.take_command(CommandRecord("c2", "b", "hold", NOW, NOW, Stage.DONE, None, None, NOW))) is None
    await store.close()


@pytest.mark.parametrize("cell", [b"\xff", 7, 1.5, b"{", b'{"state": "noted"}', b"9" * 5000])
async def test_a_garbled_event_says_that_it_was_there_and_the_others_are_told(tmp_path, cell):
    await filled(tmp_path)
    garble(tmp_path, "control", "UPDATE events SET body = ? WHERE id = 1", cell)
    with closing(sqlite3.connect(tmp_path / "telemetry.db")) as db:  # nothing was announced yet
        db.execute("DELETE FROM outbox WHERE stream = 'event'")
        db.execute("UPDATE streams SET announced_id = 0 WHERE stream = 'event'")
        db.commit()
    store = await open_store(tmp_path)
    assert [found.code for found in await store.events(5)] == ["second", "event_damaged"]
    assert await store.verify_chain() == 1
    await store.append_event(event("third"))
    assert [found["code"] for _, found in await messages(store, Stream.EVENT)] == ["event_damaged", "second", "third"]
    await store.close()


@pytest.mark.parametrize(
    ("column", "cell"), [("stage", "storad"), ("sha256", b"\x00"), ("version", "two"), ("at_utc_s", "x")]
)
async def test_a_garbled_outcome_is_left_out(tmp_path, column, cell):
    await filled(tmp_path)
    garble(tmp_path, "control", f"UPDATE outcomes SET {column} = ? WHERE id = 2", cell)
    store = await open_store(tmp_path)
    await store.record_outcome(Outcome(NOW, "rolling", 2, plan(2)[0].sha256, Stage.ACTIVE))
    assert Stage.ACTIVE in {found.stage for found in await store.outcomes("rolling", 2, plan(2)[0].sha256)}
    await store.close()


async def test_an_older_plan_whose_row_says_a_newer_version_is_not_in_force(tmp_path):
    store = await open_store(tmp_path)
    await fill(store)
    await store.close()
    garble(tmp_path, "control", "UPDATE plans SET version = 9 WHERE version = 5 AND kind = 'rolling'")
    store = await open_store(tmp_path)
    plans, _ = documents_held(await store.load(), SITE)
    assert plans.rolling.version == PLAN["version"] + 1 == 6
    await store.close()


@pytest.mark.parametrize(
    ("column", "cell"), [("kind", 5), ("version", "two"), ("received_utc_s", "x"), ("document", 1)]
)
async def test_a_document_whose_row_is_garbled_is_not_used_and_told(tmp_path, column, cell):
    await filled(tmp_path)
    garble(tmp_path, "control", f"UPDATE plans SET {column} = CAST(? AS BLOB) WHERE version = 2", cell)
    store = await open_store(tmp_path)
    assert [found.version for found in (await store.load()).documents] == [1]
    assert (await store.events(1))[0].code == "document_damaged"
    await store.close()


@pytest.mark.parametrize(
    ("column", "cell"), [("document", "x"), ("until_utc_s", "x"), ("sha256", 5.5), ("type", b"\x01")]
)
async def test_a_garbled_command_comes_back_without_an_effect_and_its_id_stays_taken(tmp_path, column, cell):
    await filled(tmp_path)
    garble(
        tmp_path,
        "control",
        f"UPDATE commands SET {column} = CAST(? AS BLOB)"
        if column != "document"
        else "UPDATE commands SET document = ?",
        cell,
    )
    store = await open_store(tmp_path)
    (record,) = (await store.load()).commands
    assert (record.command_id, record.stage, record.document, record.until_utc_s) == ("c1", Stage.ACCEPTED, None, None)
    known = await store.take_command(CommandRecord("c1", "a" * 64, "hold", NOW, NOW, Stage.DONE, None, None, NOW))
    assert known is not None
    await store.close()


async def test_garbled_samples_and_slots_are_left_out_and_the_rest_is_sealed(tmp_path):
    await filled(tmp_path)
    garble(tmp_path, "telemetry", "UPDATE staged SET grid_w = 'much' WHERE id = 2")
    garble(tmp_path, "telemetry", "UPDATE slots SET source = 'nobody'")
    store = await open_store(tmp_path)
    held = await store.load()
    assert held.open_slot is None
    assert held.last_sample.at_utc_s == NOW + 2
    built = []
    await store.seal_frame(lambda seq, samples: built.extend(samples) or BUILD_FRAME(seq, samples))
    assert [found.at_utc_s - NOW for found in built] == [0.0, 2.0]
    assert await store.seal_frame(BUILD_FRAME) is None
    await store.close()


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE streams SET last_seq = 'x' WHERE stream = 'event'",
        "UPDATE held SET waiting = 'x' WHERE stream = 'event'",
    ],
)
async def test_telemetry_that_cannot_tell_where_it_stands_is_put_aside_and_told(tmp_path, sql):
    await filled(tmp_path)
    garble(tmp_path, "telemetry", sql)
    store = await open_store(tmp_path)
    assert "database_damaged" in {found.code for found in await store.events(5)}
    assert list(tmp_path.glob("telemetry.db.damaged-*"))
    await store.append_event(event("goes on"))
    assert [found["code"] for _, found in await messages(store, Stream.EVENT)][-1] == "goes on"
    await store.close()


async def test_a_sequence_or_model_that_is_garbled_counts_as_none(tmp_path):
    await filled(tmp_path)
    garble(tmp_path, "control", "UPDATE sequences SET reserved_to = 'x' WHERE stream = 'event'")
    garble(tmp_path, "control", "UPDATE models SET body = CAST(x'ff01' AS BLOB)")
    store = await open_store(tmp_path)
    assert (await store.load()).models == {}
    before = await store.last_seq(Stream.EVENT)
    await store.append_event(event("goes on"))
    assert await store.last_seq(Stream.EVENT) == before + 1
    await store.close()


@pytest.mark.parametrize("cell", [b"\xff\x00", b"{", b"[1]"])
async def test_people_who_look_see_the_other_events(tmp_path, cell):
    await filled(tmp_path)
    garble(tmp_path, "control", "UPDATE events SET body = CAST(? AS TEXT) WHERE id = 1", cell)
    assert [found["code"] for found in newest_events(tmp_path, 5)] == ["second"]
