"""A version of the agent goes on with the files of the version after it: what an update that goes back relies on."""

import re
import sqlite3
from pathlib import Path

import pytest
from store_values import BUILD_FRAME, open_store, plan, sample

from agent.store import control
from agent.store.schema import MIGRATIONS

STATEMENTS = [
    pytest.param(" ".join(statement.split()), id=f"{name} {number}: {' '.join(statement.split()[:5])}")
    for name, scripts in MIGRATIONS.items()
    for number, script in enumerate(scripts[1:], start=2)
    for statement in script.split(";\n")
    if statement.strip()
]
ADDS = re.compile(r"CREATE (TABLE|INDEX|UNIQUE INDEX) ")
ADDS_COLUMN = re.compile(r"ALTER TABLE \w+ ADD COLUMN ")


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_migration_only_adds_what_may_stay_empty(statement):
    """An older version inserts into its old columns only."""
    if ADDS_COLUMN.match(statement):
        assert "NOT NULL" not in statement or " DEFAULT " in statement
    else:
        assert ADDS.match(statement)


async def test_files_of_the_next_version_are_read_and_written(tmp_path):
    store = await open_store(tmp_path)
    await store.save_document(*plan(7))
    await store.close()
    for name, scripts in MIGRATIONS.items():
        with sqlite3.connect(tmp_path / f"{name}.db") as db:
            for table in [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]:
                if not table.startswith(("sqlite_", "_")):
                    db.execute(f"ALTER TABLE {table} ADD COLUMN of_the_next_version TEXT")
            db.execute("CREATE TABLE of_the_next_version (x)")
            db.execute(f"PRAGMA user_version = {len(scripts) + 1}")
    store = await open_store(tmp_path)
    assert [held.version for held in (await store.load()).documents] == [7]
    await store.save_document(*plan(8))
    await store.append_sample(sample())
    assert await store.seal_frame(BUILD_FRAME) == 1
    assert store.telemetry_fault is None
    await store.close()
    for name, scripts in MIGRATIONS.items():
        with sqlite3.connect(tmp_path / f"{name}.db") as db:
            assert db.execute("PRAGMA user_version").fetchone() == (len(scripts) + 1,), "the next version finds its own"


@pytest.mark.parametrize("path", sorted(Path(control.__file__).parent.glob("*.py")), ids=lambda path: path.name)
def test_every_insert_names_its_columns(path):
    """Else it fails once the next version has added one."""
    assert re.findall(r"INSERT (?:OR REPLACE )?INTO [\w{}().]+ VALUES", path.read_text()) == []
    assert "SELECT *" not in path.read_text()
