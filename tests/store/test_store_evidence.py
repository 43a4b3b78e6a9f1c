"""Evidence of frequency response on disk: every second once, in order, 60 days of it, unknown as unknown."""

from __future__ import annotations

import pytest
from store_values import NOW, open_store, sample

from agent.core.evidence import EvidenceRow
from agent.core.frequency import Trouble
from agent.store import evidence

SECOND = int(NOW)


def row(second=SECOND, *, ticks=5, power_w=40e3, trouble=None):
    return EvidenceRow(second, 49.9, power_w, 10e3, 50e3, 40e3, 30e3, True, ("a1", "a2"), trouble, ticks)


GAP = EvidenceRow(SECOND + 1, None, None, None, 50e3, 40e3, None, False, ("a1",), None, 0)


@pytest.fixture
async def store(tmp_path):
    store = await open_store(tmp_path / "state")
    yield store
    await store.close()


async def seconds(store, begin=0.0, end=2e9, limit=100):
    return [found.utc_s for found in await store.evidence(begin, end, limit)]


async def test_rows_are_as_they_were_also_after_a_restart(tmp_path):
    store = await open_store(tmp_path / "state")
    rows = (row(trouble=Trouble.TOO_COARSE), GAP)
    await store.add_evidence(rows)
    await store.close()
    store = await open_store(tmp_path / "state")
    found = await store.evidence(0, 2e9, 10)
    await store.close()
    assert tuple(found) == rows
    assert found[0].trouble is Trouble.TOO_COARSE
    assert found[1].clock_trusted is False


async def test_they_come_oldest_first_from_the_second_asked_for_up_to_before_the_last(store):
    await store.add_evidence([row(SECOND + i) for i in (3, 1, 2, 0)])
    assert await seconds(store) == [SECOND, SECOND + 1, SECOND + 2, SECOND + 3]
    assert await seconds(store, SECOND + 1, SECOND + 3) == [SECOND + 1, SECOND + 2]
    assert await seconds(store, limit=2) == [SECOND, SECOND + 1]


async def test_of_a_second_that_came_twice_the_better_measured_row_stays(store):
    await store.add_evidence([GAP])
    await store.add_evidence([row(SECOND + 1, power_w=7.0)])
    assert (await store.evidence(0, 2e9, 10))[0].power_w == 7.0
    await store.add_evidence([row(SECOND + 1, ticks=5, power_w=8.0), GAP])
    assert (await store.evidence(0, 2e9, 10))[0].power_w == 7.0


async def test_the_oldest_go_once_there_are_more_than_sixty_days_of_them_whatever_the_clock_says(store, monkeypatch):
    assert evidence.KEEP_SECONDS == 60 * 24 * 3600
    monkeypatch.setattr(evidence, "KEEP_SECONDS", 10)
    monkeypatch.setattr(evidence, "CHECK_EVERY", 4)
    for i in range(16):
        await store.add_evidence([row(SECOND + i)])
    assert await seconds(store) == [SECOND + i for i in range(6, 16)]
    await store.add_evidence([row(SECOND + 10_000_000)])
    assert len(await seconds(store)) == 11, "a clock that jumped ahead erases nothing by itself"


async def test_evidence_does_not_touch_samples_and_a_file_of_before_is_brought_up_to_date(tmp_path):
    store = await open_store(tmp_path / "state")
    await store.append_sample(sample())
    database = store._writer._telemetry.database

    def as_before():
        database.connection().executescript(
            "DROP TABLE evidence; DELETE FROM _sqlite_migrations WHERE name = 'version_3'; PRAGMA user_version = 2"
        )

    await store._run(as_before)
    await store.close()
    store = await open_store(tmp_path / "state")
    await store.add_evidence([row()])
    assert await seconds(store) == [SECOND]
    assert (await store.load()).last_sample == sample()
    await store.close()
