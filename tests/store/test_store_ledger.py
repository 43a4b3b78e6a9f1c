"""The slot ledger on disk, its messages, and files of the version before and after."""

import sqlite3

import pytest
from store_values import BUILD_FRAME, NOW, SITE, event, messages, open_store, sample, slot

from agent.cloud.messages import event_message
from agent.core.records import Stream
from agent.store import Quota, schema, telemetry
from agent.store.telemetry import TelemetryDb

V1_SLOT = (
    "INSERT OR REPLACE INTO slots (start_utc_s, end_utc_s, target, power_w, source, version, delivered_wh, battery_wh, "
    "covered_s, soc_end_pct, anchor_wh, grid_wh, planned_soc_end_pct, closed) VALUES "
    "(?, ?, 'grid', 200.0, 'rolling', 7, 100.0, 90.0, 1800.0, 55.0, NULL, 0.0, NULL, 1)"
)
"""What version 1 of telemetry.db is written with."""
V1_STREAMS = {"ack", "event", "telemetry"}


@pytest.fixture
async def reopen(tmp_path):
    opened = []

    async def again(quota=None):
        if opened:
            await opened.pop().close()
        opened.append(await open_store(tmp_path, quota))
        return opened[-1]

    yield again
    if opened:
        await opened.pop().close()


async def test_a_slot_is_told_when_it_is_finished_and_not_before(reopen):
    store = await reopen()
    await store.save_slot(slot(closed=False, delivered=None))
    assert await messages(store, Stream.LEDGER) == []
    await store.save_slot(slot())
    await store.save_slot(slot(NOW + 1800))
    told = await messages(store, Stream.LEDGER)
    assert [(seq, m["seq"], m["planned_wh"], m["imbalance_wh"]) for seq, m in told] == [
        (1, 1, 100, -3),
        (2, 2, 100, -3),
    ]
    assert store.outbox_depth == 2


async def test_the_running_slot_keeps_its_paths_over_a_restart(reopen):
    store = await reopen()
    await store.save_slot(slot(closed=False, delivered=None))
    store = await reopen()
    assert (await store.load()).open_slot == slot(closed=False, delivered=None)


async def test_each_second_of_a_running_slot_costs_the_disk_one_page(reopen, tmp_path):
    store = await reopen()
    await store.save_slot(slot(closed=False, delivered=0.0))
    log = tmp_path / "telemetry.db-wal"
    before = log.stat().st_size
    for delivered in range(1, 11):
        await store.save_slot(slot(closed=False, delivered=float(delivered)))
    page_bytes = telemetry.PAGE_BYTES + 24  # with the head of its frame in the log
    assert (log.stat().st_size - before) / page_bytes == 10


async def test_what_waits_is_still_there_after_a_restart_and_goes_with_the_watermark(reopen):
    store = await reopen()
    for number in range(4):
        await store.save_slot(slot(NOW + number * 1800))
    store = await reopen()
    assert store.outbox_depth == 4
    await store.confirm(Stream.LEDGER, 2)
    await store.forget(Stream.LEDGER, [4])
    assert [seq for seq, _ in await messages(store, Stream.LEDGER)] == [3]
    assert store.outbox_depth == 1
    await store.save_slot(slot(NOW + 9000))
    assert await store.last_seq(Stream.LEDGER) == 5


async def test_beyond_the_quota_the_oldest_slots_go_from_the_outbox_and_stay_in_the_ledger(reopen):
    store = await reopen(Quota(other_rows=10, drop_share=0.3))
    for number in range(12):
        await store.save_slot(slot(NOW + number * 1800))
    assert [seq for seq, _ in await messages(store, Stream.LEDGER)] == list(range(4, 13))
    ((_, told),) = await messages(store, Stream.EVENT)
    assert (told["code"], told["data"]) == ("ledger_dropped", {"stream": "ledger", "from": 1, "to": 3})
    assert len(await store.slots(NOW, NOW + 12 * 1800)) == 12
    assert store.outbox_depth == 10


async def test_a_message_that_cannot_be_built_leaves_no_slot_half_kept(reopen, monkeypatch):
    store = await reopen()

    def broken(seq, row):
        raise RuntimeError("a bug")

    monkeypatch.setattr(store._writer, "_announce_as", type(store._writer._announce_as)(broken, broken, broken))
    with pytest.raises(RuntimeError):
        await store.save_slot(slot())
    assert await store.slots(NOW, NOW + 1800) == []
    assert await store.last_seq(Stream.LEDGER) == 0


async def test_files_of_version_1_are_brought_forward_and_their_slots_have_no_paths(tmp_path, reopen, monkeypatch):
    with monkeypatch.context() as before:
        before.setattr(schema, "MIGRATIONS", {name: scripts[:1] for name, scripts in schema.MIGRATIONS.items()})
        await (await open_store(tmp_path)).close()
    with sqlite3.connect(tmp_path / "telemetry.db") as db:
        db.execute(V1_SLOT, (NOW, NOW + 1800))
    store = await reopen()
    await store.save_slot(slot(NOW + 1800))
    old, new = await store.slots(NOW, NOW + 3600)
    assert (old.paths, old.unsplit_wh, old.delivered_wh, old.closed) == (None, None, 100.0, True)
    assert new == slot(NOW + 1800)
    ((_, told),) = await messages(store, Stream.LEDGER)
    assert told["start"] == "2024-01-15T03:30:00.000Z"
    store = await reopen()
    assert len(await store.slots(NOW, NOW + 3600)) == 2


async def test_version_1_can_go_on_with_files_of_version_2(tmp_path, reopen):
    store = await reopen()
    await store.save_slot(slot())
    await store.append_sample(sample())
    await store.seal_frame(BUILD_FRAME)
    assert await store.last_seq(Stream.LEDGER) == 1
    await store.save_slot(slot(NOW + 1800, closed=False, delivered=None))
    with sqlite3.connect(tmp_path / "telemetry.db") as db:
        assert {stream for (stream,) in db.execute("SELECT stream FROM outbox")} <= V1_STREAMS
        db.execute(V1_SLOT, (NOW + 1800, NOW + 3600))
        db.execute("INSERT INTO outbox VALUES ('event', 9, ?, NULL, ?)", (NOW, event_message(SITE, 9, event())))
        db.execute("INSERT INTO gaps (at_utc_s, from_seq, to_seq) VALUES (?, 1, 2)", (NOW,))
        db.execute("INSERT INTO streams VALUES ('telemetry', 1, 0, 0) ON CONFLICT DO NOTHING")
    store = await reopen()
    assert [row.paths is None for row in await store.slots(NOW, NOW + 3600)] == [False, True]
    gaps = [m["data"] for _, m in await messages(store, Stream.EVENT) if m.get("code") == "telemetry_dropped"]
    assert gaps == [{"stream": "telemetry", "from": 1, "to": 2}], "a gap without a stream is one of telemetry"


def test_what_is_kept_each_second_costs_one_page_of_the_journal_for_the_sample_and_one_for_the_slot(tmp_path):
    telemetry = TelemetryDb(tmp_path, Quota())
    telemetry.start(None, dict.fromkeys(Stream, (0, 0)))
    (page_bytes,) = telemetry.database.connection().execute("PRAGMA page_size").fetchone()
    telemetry.database.connection().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for second in range(20):
        telemetry.add_sample(sample(NOW + second))
        telemetry.save_slot(slot(closed=False, delivered=None))
    written = (tmp_path / "telemetry.db-wal").stat().st_size
    telemetry.database.close()
    assert written <= 42 * (page_bytes + 24)
