"""Learned battery models on disk."""

import sqlite3

from store_values import NOW, open_store, plan


async def test_models_are_there_after_a_restart_the_newest_of_each_battery(reopen):
    store = await reopen()
    assert (await store.load()).models == {}
    await store.save_models({"a": "1", "b": "2"})
    await store.save_models({"a": "3"})
    store = await reopen()
    assert (await store.load()).models == {"a": "3", "b": "2"}


async def test_a_forgotten_model_does_not_come_back(reopen):
    store = await reopen()
    await store.save_models({"a": "1", "b": "2"})
    await store.forget_model("a")
    await store.forget_model("never-there")
    store = await reopen()
    assert (await store.load()).models == {"b": "2"}


async def test_a_control_file_of_version_1_gets_its_table_and_version_1_goes_on_with_it(tmp_path, reopen, monkeypatch):
    from agent.store import schema

    with monkeypatch.context() as before:
        before.setattr(schema, "MIGRATIONS", {**schema.MIGRATIONS, "control": schema.MIGRATIONS["control"][:1]})
        await (await open_store(tmp_path)).close()
    made, document, outcome = plan(1)
    with sqlite3.connect(tmp_path / "control.db") as db:
        db.execute("INSERT INTO plans VALUES ('rolling', 1, ?, ?, ?)", (made.sha256, NOW, document))
        columns = "at_utc_s, subject, kind, version, sha256, stage"
        db.execute(
            f"INSERT INTO outcomes ({columns}) VALUES (?, 'plan', 'rolling', 1, ?, 'stored')", (NOW, made.sha256)
        )
    store = await reopen()
    held = await store.load()
    assert (held.documents[0].version, held.models) == (1, {})
    assert await store.outcomes("rolling", 1, made.sha256) == [outcome]
    await store.save_models({"a": "1"})
    with sqlite3.connect(tmp_path / "control.db") as db:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert {"plans", "outcomes", "events", "decisions", "sequences", "meta"} < tables
        assert len(db.execute("SELECT kind, version, sha256, received_utc_s, document FROM plans").fetchall()) == 1
