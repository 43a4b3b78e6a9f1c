"""What the doctor sees of the databases, with and without a daemon that has them open."""

import os
import sqlite3
from contextlib import closing

from store_values import NOW, event, open_store, sample

from agent.store import examination
from agent.store import read_only as opening
from agent.store.examination import examined
from agent.store.schema import MIGRATIONS


def by_name(directory, now=NOW):
    return {found.name: found for found in examined(directory, now)}


async def made(directory):
    store = await open_store(directory)
    await store.set_last_utc(NOW - 40.0)
    await store.append_sample(sample(NOW - 5.0))
    return store


async def test_databases_in_use_are_sound_with_their_last_commit_and_nothing_is_changed(tmp_path):
    store = await made(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    found = by_name(tmp_path)
    assert {(one.damage, one.whole, one.problem) for one in found.values()} == {("", True, "")}
    assert found["control"].last_commit_age_s == 40.0
    assert found["telemetry"].last_commit_age_s == 5.0
    assert found["control"].wal_bytes > 0
    assert {name: one.version for name, one in found.items()} == {name: len(all_) for name, all_ in MIGRATIONS.items()}
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    await store.append_event(event())
    await store.close()


async def test_after_a_clean_stop_they_can_be_read_where_nothing_may_be_written(tmp_path, monkeypatch):
    await (await made(tmp_path)).close()
    assert not (tmp_path / "control.db-wal").exists()
    opened = opening._opened

    def as_somebody_who_may_only_read(uri):
        if "immutable" not in uri:
            raise sqlite3.OperationalError("unable to open database file")
        return opened(uri)

    monkeypatch.setattr(opening, "_opened", as_somebody_who_may_only_read)
    monkeypatch.setattr(opening.os, "access", lambda *_: False)
    assert by_name(tmp_path)["control"].last_commit_age_s == 40.0
    (tmp_path / "control.db-wal").write_bytes(b"somebody writes")
    assert "unable to open" in by_name(tmp_path)["control"].problem


async def test_a_damaged_file_is_told_as_such(tmp_path):
    await (await made(tmp_path)).close()
    path = tmp_path / "control.db"
    content = bytearray(path.read_bytes())
    content[4096:12288] = os.urandom(8192)
    path.write_bytes(content)
    (tmp_path / "telemetry.db").write_bytes(b"this is no database at all, but long enough to be looked at" * 20)
    found = by_name(tmp_path)
    assert found["control"].damage
    assert found["telemetry"].damage
    assert found["telemetry"].last_commit_age_s is None


def test_what_is_not_there_or_was_put_aside_is_named(tmp_path):
    (tmp_path / "control.db.damaged-20260101T000000Z").write_bytes(b"")
    with closing(sqlite3.connect(tmp_path / "control.db")) as old:
        old.execute("CREATE TABLE meta (key TEXT, value TEXT)")
        old.commit()
    found = by_name(tmp_path)
    assert "not there" in found["telemetry"].problem
    assert found["control"].quarantined == ("control.db.damaged-20260101T000000Z",)
    assert (found["control"].damage, found["control"].version, found["control"].last_commit_age_s) == ("", 0, None)


async def test_a_file_that_takes_too_long_is_read_as_far_as_it_goes(tmp_path, monkeypatch):
    store = await made(tmp_path)
    monkeypatch.setattr(examination, "CHECK_WITHIN_S", -1.0)
    monkeypatch.setattr(examination, "_STEPS_BETWEEN_LOOKS", 1)
    found = by_name(tmp_path)["control"]
    assert (found.damage, found.whole) == ("", False)
    await store.close()
