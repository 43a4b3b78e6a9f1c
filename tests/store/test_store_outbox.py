"""What waits, what is kept for another time, and what goes first when there is no more room."""

import pytest
from store_values import BUILD_FRAME, NOW, SITE, event, messages, open_store, sample, slot

from agent.cloud.frame import summary_frame, telemetry_frame
from agent.core.records import Stream
from agent.store import Quota, schema
from agent.store.database import Database


@pytest.fixture
async def reopen(tmp_path):
    """Opens the store, the one before closed."""
    held = []

    async def again(quota=None):
        while held:
            await held.pop().close()
        held.append(await open_store(tmp_path, quota))
        return held[-1]

    yield again
    for store in held:
        await store.close()


async def frames(store, count, stream=Stream.TELEMETRY, begin=0):
    for i in range(begin, begin + count):
        await store.append_sample(sample(NOW + i))
        await store.seal_frame(BUILD_FRAME, stream)


async def kept(store, stream=Stream.TELEMETRY):
    return [seq for seq, _ in await store.kept(stream, 0, 2**62, 1000)]


async def waiting(store, stream=Stream.TELEMETRY):
    return [seq for seq, _ in await store.pending(stream, 0, 1000)]


async def gaps(store):
    data = [m["data"] for _, m in await messages(store, Stream.EVENT) if m["code"].endswith("_dropped")]
    return [(d["stream"], d["from"], d["to"]) for d in data]


class TestKept:
    async def test_what_the_cloud_has_does_not_wait_and_is_kept_over_a_restart(self, reopen):
        store = await reopen()
        await frames(store, 5)
        await store.confirm(Stream.TELEMETRY, 3)
        for _ in range(2):
            assert (await waiting(store), await kept(store)) == ([4, 5], [1, 2, 3, 4, 5])
            assert store.outbox_depth == 2
            store = await reopen()

    async def test_a_message_that_the_broker_took_out_of_turn_does_not_wait(self, reopen):
        store = await reopen()
        await frames(store, 6)
        await store.forget(Stream.TELEMETRY, [5, 6])
        assert (await waiting(store), store.outbox_depth) == ([1, 2, 3, 4], 4)
        store = await reopen()
        await store.forget(Stream.TELEMETRY, [1, 2, 2, 77])
        assert (await waiting(store), store.outbox_depth) == ([3, 4], 2)
        await store.forget(Stream.TELEMETRY, [3, 4])
        assert (await waiting(store), store.outbox_depth, await kept(store)) == ([], 0, [1, 2, 3, 4, 5, 6])

    async def test_a_watermark_that_goes_back_or_comes_twice_changes_nothing(self, reopen):
        store = await reopen()
        await frames(store, 4)
        for seq in (3, 3, 1):
            await store.confirm(Stream.TELEMETRY, seq)
            assert (await waiting(store), store.outbox_depth) == ([4], 1)

    async def test_events_slots_and_acks_are_kept_too(self, reopen):
        store = await reopen()
        await store.append_event(event("a"))
        await store.save_slot(slot())
        await store.confirm(Stream.EVENT, 1)
        await store.confirm(Stream.LEDGER, 1)
        assert (await kept(store, Stream.EVENT), await kept(store, Stream.LEDGER), store.outbox_depth) == ([1], [1], 0)
        assert await store.count_kept(Stream.EVENT, 1, 9) == 1


class TestRoom:
    async def test_what_the_cloud_has_goes_first_and_is_no_gap(self, reopen):
        store = await reopen(Quota(rows=10, drop_share=0.3))
        await frames(store, 10)
        await store.confirm(Stream.TELEMETRY, 5)
        await frames(store, 2, begin=10)
        assert await gaps(store) == []
        assert await waiting(store) == list(range(6, 13))
        assert await kept(store) == list(range(4, 13))

    async def test_then_frames_that_wait_with_one_gap_for_each_range(self, reopen):
        store = await reopen(Quota(rows=10, drop_share=0.3))
        await frames(store, 10)
        await store.confirm(Stream.TELEMETRY, 1)
        await frames(store, 2, begin=10)
        assert await gaps(store) == [("telemetry", 2, 4)]

    async def test_ranges_that_lie_apart_are_told_each_by_itself(self, reopen):
        store = await reopen(Quota(rows=10, drop_share=0.6))
        await frames(store, 10)
        await store.forget(Stream.TELEMETRY, [3])
        await frames(store, 2, begin=10)
        assert await gaps(store) == [("telemetry", 1, 2), ("telemetry", 4, 7)]
        assert store.outbox_depth == len(await waiting(store)) + 2, "and the two events"

    async def test_then_slots_and_never_events_or_outcomes(self, reopen):
        store = await reopen(Quota(rows=12, drop_share=0.5))
        for i in range(4):
            await store.append_event(event(f"e{i}"))
        for i in range(8):
            await store.save_slot(slot(NOW + i * 1800))
        assert await waiting(store, Stream.LEDGER) == list(range(1, 9))
        await store.save_slot(slot(NOW + 8 * 1800))
        assert await gaps(store) == [("ledger", 1, 6)]
        assert (await waiting(store, Stream.EVENT))[:4] == [1, 2, 3, 4]
        for i in range(9, 30):
            await store.save_slot(slot(NOW + i * 1800))
        codes = [m["code"] for _, m in await messages(store, Stream.EVENT)]
        assert codes[:4] == ["e0", "e1", "e2", "e3"]

    async def test_the_full_rate_goes_before_means_that_wait(self, reopen):
        store = await reopen(Quota(rows=10, drop_share=0.3))
        await frames(store, 8, Stream.FULL_RATE)
        for _ in range(2):
            await store.seal_summary(lambda seq, found: summary_frame(SITE, seq, found, 60.0), 4)
        await frames(store, 1, Stream.FULL_RATE, begin=8)
        assert await kept(store, Stream.FULL_RATE) == list(range(4, 10))
        assert await waiting(store) == [1, 2]
        assert await gaps(store) == []

    async def test_frames_that_wait_go_before_slots_that_wait(self, reopen):
        store = await reopen(Quota(rows=10, drop_share=0.3))
        for i in range(5):
            await store.save_slot(slot(NOW + i * 1800))
        await frames(store, 6)
        assert await gaps(store) == [("telemetry", 1, 3)]
        assert await waiting(store, Stream.LEDGER) == [1, 2, 3, 4, 5]

    async def test_the_full_rate_goes_before_means_that_the_cloud_has(self, reopen):
        store = await reopen(Quota(rows=10, drop_share=0.3))
        await frames(store, 5, Stream.FULL_RATE)
        await frames(store, 5, begin=5)
        await store.confirm(Stream.TELEMETRY, 5)
        await frames(store, 1, begin=10)
        assert await kept(store, Stream.FULL_RATE) == [4, 5]
        assert await kept(store) == [1, 2, 3, 4, 5, 6]

    async def test_the_times_of_a_frame_go_with_it(self, reopen):
        store = await reopen(Quota(rows=10, drop_share=0.3))
        await frames(store, 25)

        def timed():
            db = store._writer._telemetry.database.connection()
            return [seq for (seq,) in db.execute("SELECT seq FROM frame_times ORDER BY seq")]

        assert await store._run(timed) == await kept(store)

    async def test_bytes_count_over_a_restart_too(self, reopen):
        store = await reopen(Quota(payload_bytes=3_000, drop_share=0.01))
        await frames(store, 5)
        store = await reopen(Quota(payload_bytes=3_000, drop_share=0.01))
        await frames(store, 40, begin=5)
        held = await store.kept(Stream.TELEMETRY, 0, 2**62, 1000)
        assert sum(len(payload) for _, payload in held) <= 3_000 + 1_000
        assert held[-1][0] == 45

    async def test_few_small_messages_are_kept_of_those_that_the_cloud_has(self, reopen):
        store = await reopen(Quota(other_rows=10))
        for i in range(30):
            await store.append_event(event(f"e{i}"))
            await store.confirm(Stream.EVENT, i + 1)
        await frames(store, 25)
        assert len(await kept(store, Stream.EVENT)) < 12


class TestMetered:
    async def test_the_full_rate_never_waits(self, reopen):
        store = await reopen()
        await frames(store, 3, Stream.FULL_RATE)
        assert (await waiting(store, Stream.FULL_RATE), await kept(store, Stream.FULL_RATE)) == ([], [1, 2, 3])
        assert store.outbox_depth == 0
        await store.confirm(Stream.FULL_RATE, 2)
        await store.forget(Stream.FULL_RATE, [1, 3])
        assert (await kept(store, Stream.FULL_RATE), store.outbox_depth) == ([1, 2, 3], 0)

    async def test_each_full_rate_frame_is_summed_up_once_also_over_a_restart(self, reopen):
        store = await reopen()
        await frames(store, 5, Stream.FULL_RATE)
        seen = []

        def build(seq, found):
            seen.append((seq, [full for full, _ in found]))
            return b"means"

        assert await store.seal_summary(build, 3) == 1
        store = await reopen()
        assert await store.seal_summary(build, 3) == 2
        assert await store.seal_summary(build, 3) is None
        assert seen == [(1, [1, 2, 3]), (2, [4, 5])]

    async def test_a_summary_that_cannot_be_built_is_built_later(self, reopen):
        store = await reopen()
        await frames(store, 1, Stream.FULL_RATE)
        with pytest.raises(ZeroDivisionError):
            await store.seal_summary(lambda *_: b"" * (1 // 0), 3)
        assert await store.seal_summary(lambda *_: b"means", 3) == 1

    async def test_a_long_frame_leaves_nothing_behind(self, reopen):
        """A frame holds 600 samples; whoever seals asks until there is none."""
        store = await reopen()
        for i in range(650):
            await store.append_sample(sample(NOW + i))
        sealed = [await store.seal_frame(BUILD_FRAME) for _ in range(3)]
        assert sealed == [1, 2, None]


async def test_samples_that_an_older_version_left_become_a_frame(tmp_path, reopen, monkeypatch):
    with monkeypatch.context() as before:
        before.setattr(schema, "MIGRATIONS", {**schema.MIGRATIONS, "telemetry": schema.MIGRATIONS["telemetry"][:3]})
        older = Database(tmp_path / "telemetry.db", durable=False)
        row = "INSERT INTO samples (boot_id, at_utc_s, grid_w, source) VALUES ('old', ?, 7.0, 'idle')"
        with older.transaction() as db:
            db.execute(row, (NOW,))
        older.close()
    store = await reopen()
    assert await store.seal_frame(lambda seq, samples: telemetry_frame(SITE, seq, samples)) == 1
    ((_, frame),) = await messages(store, Stream.TELEMETRY)
    assert (frame["boot_id"], frame["columns"]["source"]) == ("old", ["idle"])


async def test_messages_that_a_version_which_does_not_count_left_are_counted(tmp_path, reopen):
    store = await reopen()
    await frames(store, 2)
    await store.confirm(Stream.TELEMETRY, 1)

    def as_before():
        with store._writer._telemetry.database.transaction() as db:
            db.execute("DELETE FROM held")

    await store._run(as_before)
    store = await reopen()
    assert (store.outbox_depth, await waiting(store)) == (1, [2])
