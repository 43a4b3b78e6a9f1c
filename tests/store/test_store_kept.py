"""What the store promises: durable when it says so, all or nothing, in order, within its limits."""

import asyncio
import json
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from store_values import BUILD_FRAME, NOW, event, messages, open_store, plan, sample, slot

from agent.core.plan import PlanKind
from agent.core.records import Outcome, Stage, StorageFailed, Stream
from agent.store import AlreadyRunning, Quota, control
from agent.store.control import KEEP_DOCUMENTS, SEQUENCE_BLOCK
from agent.store.store import MAX_WAITING_JOBS
from simulators.cloud_messages import column_values

ROOT = Path(__file__).parents[2]


class Place:
    """One directory, and stores on it one after another."""

    def __init__(self, directory):
        self.directory = directory
        self._store = None

    async def __call__(self, quota=None):
        await self.close()
        self._store = await open_store(self.directory, quota)
        return self._store

    async def close(self):
        store, self._store = self._store, None
        if store is not None:
            await store.close()


@pytest.fixture
async def place(tmp_path):
    place = Place(tmp_path / "state")
    yield place
    await place.close()


@pytest.fixture
async def store(place):
    return await place()


async def pragma(store, database, name):
    """What the writer's own connection says."""
    return (await store._run(lambda: database.connection().execute(f"PRAGMA {name}").fetchone()))[0]


class TestPlans:
    async def test_a_plan_is_there_after_a_restart_with_its_outcome_and_its_ack(self, place):
        store = await place()
        made, document, outcome = plan(17)
        await store.save_document(made, document, outcome)
        store = await place()
        (held,) = (await store.load()).documents
        assert (held.kind, held.version, held.sha256, held.document) == ("rolling", 17, made.sha256, document)
        assert await store.outcomes("rolling", 17, made.sha256) == [outcome]
        ((seq, ack),) = await messages(store, Stream.ACK)
        assert (seq, ack["stage"], ack["version"]) == (1, "stored", 17)

    async def test_the_plan_in_force_and_the_few_before_it_are_kept_per_kind(self, store):
        for version in range(1, KEEP_DOCUMENTS + 3):
            await store.save_document(*plan(version))
        await store.save_document(*plan(1, PlanKind.YEARLY))
        held = (await store.load()).documents
        assert [(h.kind, h.version) for h in held] == [
            *(("rolling", version) for version in range(KEEP_DOCUMENTS + 2, 2, -1)),
            ("yearly", 1),
        ]

    async def test_a_full_disk_refuses_the_plan_and_takes_it_again_when_there_is_room(self, store):
        await store.save_document(*plan(1))
        database = store._writer.control.database
        pages = await pragma(store, database, "page_count")
        await pragma(store, database, f"max_page_count = {pages}")
        with pytest.raises(StorageFailed, match="the disk is full") as failure:
            await store.save_document(*plan(2, size=20_000))
        assert failure.value.database == "control"
        assert [h.version for h in (await store.load()).documents] == [1]
        await pragma(store, database, "max_page_count = 100000")
        await store.save_document(*plan(2, size=20_000))
        assert [h.version for h in (await store.load()).documents] == [2, 1]

    async def test_what_was_promised_is_synchronised_with_the_disk_and_samples_are_not(self, store):
        control, telemetry = store._writer.control.database, store._writer._telemetry.database
        full, normal = 2, 1
        await store.save_document(*plan(1))
        assert await pragma(store, control, "synchronous") == full
        assert await pragma(store, telemetry, "synchronous") == full, "the ack has its sequence for good"
        await store.append_sample(sample())
        assert await pragma(store, telemetry, "synchronous") == normal
        await store.seal_frame(BUILD_FRAME)
        assert await pragma(store, telemetry, "synchronous") == full
        assert await pragma(store, control, "journal_mode") == "wal"


class TestOutcomesAndEvents:
    async def test_a_stage_asked_for_once_is_written_once(self, store):
        outcome = Outcome(NOW, "rolling", 1, "a" * 64, Stage.ACTIVE)
        for _ in range(3):
            await store.record_outcome(outcome, once=True)
        assert len(await messages(store, Stream.ACK)) == 1
        await store.record_outcome(outcome)
        assert len(await messages(store, Stream.ACK)) == 2

    async def test_what_a_crash_left_unannounced_is_announced_at_the_next_start_exactly_once(self, place):
        store = await place()
        await store.append_event(event("first"))
        # As if killed between the two commits:
        await store._run(store._writer.control.add_event, event("second"), 0)
        await store._run(lambda: store._writer.control.add_outcome(plan(1)[2], 0, once=False))
        for _ in range(2):
            store = await place()
            assert [m["code"] for _, m in await messages(store, Stream.EVENT)] == ["first", "second"]
            assert [m["stage"] for _, m in await messages(store, Stream.ACK)] == ["stored"]

    async def test_events_come_back_newest_first_and_whole(self, store):
        for number in range(5):
            await store.append_event(event(f"e{number}", number=number, name="ü\ud800"))
        assert [e.code for e in await store.events(2)] == ["e4", "e3"]
        assert (await store.events(1))[0] == event("e4", number=4, name="ü\ud800")

    @pytest.mark.parametrize(
        ("tampering", "found"),
        [
            ("UPDATE events SET body = replace(body, 'e2', 'e9') WHERE id = 3", 3),
            ("UPDATE events SET at_utc_s = at_utc_s + 1 WHERE id = 2", 2),
            ("DELETE FROM events WHERE id = 3", 4),
            ("UPDATE events SET id = 9 WHERE id = 5", 9),
            ("SELECT 1", None),
        ],
    )
    async def test_an_event_changed_or_removed_behind_our_back_breaks_the_chain(self, place, tampering, found):
        store = await place()
        for number in range(5):
            await store.append_event(event(f"e{number}"))
        with sqlite3.connect(place.directory / "control.db") as thief:
            thief.execute(tampering)
        thief.close()
        assert await store.verify_chain() == found

    async def test_decisions_of_note_are_bounded(self, store, monkeypatch):
        monkeypatch.setattr(control, "KEEP_DECISIONS", 20)
        for number in range(25):
            await store.note_decision(NOW + number, {"number": number})
        kept = await store.decisions(100)
        assert [body["number"] for _, body in kept] == list(range(24, 4, -1))
        assert kept[0] == (NOW + 24, {"number": 24})

    async def test_the_last_trusted_time_is_kept(self, place):
        store = await place()
        assert (await store.load()).last_trusted_utc_s is None
        await store.set_last_utc(NOW + 0.125)
        store = await place()
        assert (await store.load()).last_trusted_utc_s == NOW + 0.125


class TestTelemetry:
    async def test_samples_become_one_frame_and_leave_the_stage(self, place):
        store = await place()
        for second in range(3):
            await store.append_sample(sample(NOW + second))
        store = await place()
        assert (await store.load()).last_sample == sample(NOW + 2)
        assert await store.seal_frame(BUILD_FRAME) == 1
        assert await store.seal_frame(BUILD_FRAME) is None
        ((_, frame),) = await messages(store, Stream.TELEMETRY)
        assert column_values(frame["t_ms"]) == [0, 1000, 2000]
        assert (await store.load()).last_sample is None

    async def test_a_frame_is_of_one_boot_and_its_times_rise(self, store):
        for at, boot in [(0, "b1"), (1, "b1"), (2, "b2"), (1, "b2"), (2, "b2")]:
            await store.append_sample(sample(NOW + at, boot))
        while await store.seal_frame(BUILD_FRAME) is not None:
            pass
        frames = [(m["boot_id"], column_values(m["t_ms"])) for _, m in await messages(store, Stream.TELEMETRY)]
        assert frames == [("b1", [0, 1000]), ("b2", [0]), ("b2", [0, 1000])]

    async def test_a_frame_that_cannot_be_built_leaves_its_samples(self, store):
        await store.append_sample(sample())
        with pytest.raises(ZeroDivisionError):
            await store.seal_frame(lambda seq, samples: b"" * (1 // 0))
        assert await store.seal_frame(BUILD_FRAME) == 1

    async def test_the_outbox_gives_what_lies_between_and_forgets_what_is_confirmed(self, store):
        for second in range(10):
            await store.append_sample(sample(NOW + second))
            await store.seal_frame(BUILD_FRAME)
        seqs = [seq for seq, _ in await store.pending(Stream.TELEMETRY, 2, 3)]
        assert seqs == [3, 4, 5]
        assert [s for s, _ in await store.pending(Stream.TELEMETRY, 2, 30, up_to_seq=4)] == [3, 4]
        await store.confirm(Stream.TELEMETRY, 4)
        await store.forget(Stream.TELEMETRY, [7, 9])
        assert [s for s, _ in await store.pending(Stream.TELEMETRY, 0, 30)] == [5, 6, 8, 10]
        assert await store.last_seq(Stream.TELEMETRY) == 10

    async def test_a_full_outbox_drops_the_oldest_frames_and_tells_the_range(self, store, place):
        store = await place(Quota(rows=10, drop_share=0.3))
        for second in range(12):
            await store.append_sample(sample(NOW + second))
            await store.seal_frame(BUILD_FRAME)
        assert [s for s, _ in await store.pending(Stream.TELEMETRY, 0, 30)] == list(range(4, 13))
        ((_, told),) = await messages(store, Stream.EVENT)
        assert (told["code"], told["data"]) == ("telemetry_dropped", {"stream": "telemetry", "from": 1, "to": 3})

    async def test_the_quota_counts_bytes_too(self, place):
        store = await place(Quota(payload_bytes=5_000, drop_share=0.01))
        for second in range(40):
            await store.append_sample(sample(NOW + second))
            await store.seal_frame(BUILD_FRAME)
        waiting = await store.pending(Stream.TELEMETRY, 0, 100)
        assert sum(len(payload) for _, payload in waiting) < 5_000 + 1_000
        assert waiting[-1][0] == 40
        dropped = [m["data"] for _, m in await messages(store, Stream.EVENT)]
        assert [d["from"] for d in dropped] == [1, *(d["to"] + 1 for d in dropped[:-1])]
        assert dropped[-1]["to"] == waiting[0][0] - 1

    async def test_acks_and_events_are_never_dropped_but_wait_in_control_until_there_is_room(self, place):
        store = await place(Quota(other_rows=3))
        for number in range(8):
            await store.append_event(event(f"e{number}"))
        assert len(await messages(store, Stream.EVENT)) == 3
        seen = []
        while waiting := await messages(store, Stream.EVENT):
            seen += [m["code"] for _, m in waiting]
            await store.confirm(Stream.EVENT, waiting[-1][0])
        assert seen == [f"e{number}" for number in range(8)]

    async def test_the_ledger_keeps_the_open_slot_until_it_is_closed(self, place):
        store = await place()
        await store.save_slot(slot(closed=False, delivered=None))
        store = await place()
        assert (await store.load()).open_slot == slot(closed=False, delivered=None)
        await store.save_slot(slot())
        await store.save_slot(slot(NOW + 1800))
        assert (await store.load()).open_slot is None
        assert await store.slots(NOW, NOW + 1800) == [slot()]
        assert slot().planned_wh == 100.0


class TestFailure:
    async def test_a_full_telemetry_disk_harms_no_plan_and_its_acks_come_when_there_is_room(self, store):
        await store.append_sample(sample())
        telemetry = store._writer._telemetry.database
        await pragma(store, telemetry, f"max_page_count = {await pragma(store, telemetry, 'page_count')}")
        await store.append_event(event("large", **{f"part {i}": "x" * 400 for i in range(60)}))
        assert await messages(store, Stream.EVENT) == []
        assert "the disk is full" in store.telemetry_fault
        for version in range(1, 4):
            await store.save_document(*plan(version))
        with pytest.raises(StorageFailed) as failure:
            await asyncio.gather(*(store.append_sample(sample(NOW + second)) for second in range(500)))
        assert failure.value.database == "telemetry"
        await pragma(store, telemetry, "max_page_count = 100000")
        await store.append_sample(sample(NOW + 9_999))
        assert store.telemetry_fault is None
        assert [m["version"] for _, m in await messages(store, Stream.ACK)] == [1, 2, 3]
        assert [m["code"] for _, m in await messages(store, Stream.EVENT)] == ["large"]

    async def test_a_disk_that_stands_still_fails_calls_instead_of_piling_them_up(self, store):
        goes_on = threading.Event()
        stuck = asyncio.ensure_future(store._run(goes_on.wait))
        waiting = [asyncio.ensure_future(store.events(1)) for _ in range(MAX_WAITING_JOBS + 10)]
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert len(done) >= 1
        assert all("too slow" in str(task.exception()) for task in done)
        goes_on.set()
        await stuck
        await asyncio.gather(*waiting, return_exceptions=True)
        await store.append_event(event("after"))
        assert (await store.events(1))[0].code == "after"

    async def test_a_write_goes_through_though_its_caller_is_gone(self, store):
        call = asyncio.ensure_future(store.save_document(*plan(1)))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert [h.version for h in (await store.load()).documents] == [1]

    async def test_a_second_agent_is_refused_and_told_who_is_there(self, place, store):
        with pytest.raises(AlreadyRunning, match="systemctl stop") as refused:
            await open_store(place.directory)
        assert refused.value.pid == int((place.directory / "agent.lock").read_text())

    async def test_the_directory_and_its_files_are_for_the_group_at_most(self, place, store):
        await store.append_event(event())
        assert place.directory.stat().st_mode & 0o777 == 0o750
        modes = {path.name: oct(path.stat().st_mode & 0o777) for path in place.directory.iterdir()}
        assert set(modes.values()) == {"0o640"}, modes


class TestLoss:
    async def test_a_lost_telemetry_file_never_lets_a_sequence_come_twice(self, place):
        store = await place()
        for second in range(5):
            await store.append_sample(sample(NOW + second))
            await store.seal_frame(BUILD_FRAME)
        await store.save_document(*plan(1))
        await place.close()
        for path in place.directory.glob("telemetry.db*"):
            path.unlink()
        store = await place()
        assert (await store.load()).documents[0].version == 1
        await store.append_sample(sample())
        assert await store.seal_frame(BUILD_FRAME) == SEQUENCE_BLOCK + 1
        jumps = [m["data"] for _, m in await messages(store, Stream.EVENT) if m["code"] == "sequence_jumped"]
        expected = {"from": 1, "to": SEQUENCE_BLOCK}
        assert {"stream": "telemetry", **expected} in jumps
        ((seq, ack),) = await messages(store, Stream.ACK)
        assert (seq, ack["version"]) == (SEQUENCE_BLOCK + 1, 1), "the unsent ack comes again"

    async def test_acks_that_the_cloud_has_do_not_come_again_after_a_loss(self, place):
        store = await place()
        await store.save_document(*plan(1))
        await store.confirm(Stream.ACK, 1)
        await place.close()
        for path in place.directory.glob("telemetry.db*"):
            path.unlink()
        store = await place()
        assert await messages(store, Stream.ACK) == []

    @pytest.mark.parametrize("damage", [b"this is no database", b"\0" * 8192], ids=["text", "zeros"])
    async def test_a_damaged_telemetry_file_is_put_aside_and_told(self, place, damage):
        store = await place()
        await store.save_document(*plan(1))
        await place.close()
        (place.directory / "telemetry.db").write_bytes(damage)
        (place.directory / "telemetry.db-wal").unlink(missing_ok=True)
        store = await place()
        assert [path.read_bytes() for path in place.directory.glob("telemetry.db.damaged-*Z")] == [damage]
        assert "database_damaged" in [e.code for e in await store.events(10)]
        await store.append_sample(sample())
        assert await store.seal_frame(BUILD_FRAME) == 1, "no frame had been numbered yet"

    async def test_a_damaged_control_file_gives_way_to_the_last_snapshot(self, place):
        store = await place()
        await store.save_document(*plan(1))
        await store.save_document(*plan(7, PlanKind.YEARLY))  # makes the snapshot
        await store.append_event(event("after the snapshot"))
        await place.close()
        damaged = place.directory / "control.db"
        damaged.write_bytes(b"\xff" * damaged.stat().st_size)
        store = await place()
        assert store.opened.control_restored
        assert store.opened.control_quarantined.exists()
        assert [h.version for h in (await store.load()).documents] == [1, 7]
        assert [e.code for e in await store.events(10)] == ["database_damaged"]
        codes = [m["code"] for _, m in await messages(store, Stream.EVENT)]
        assert codes == ["after the snapshot", "database_damaged"], "ids go on above those announced"
        assert await store.verify_chain() is None

    @pytest.mark.parametrize("spoilt", ["CAST(replace(document, '2003', '9003') AS BLOB)", "'text'", "7", "x''"])
    async def test_a_document_that_is_not_what_it_was_is_not_used_and_told(self, place, spoilt):
        store = await place()
        await store.save_document(*plan(1))
        await store.save_document(*plan(2))
        await place.close()
        with sqlite3.connect(place.directory / "control.db") as disk:
            disk.execute(f"UPDATE plans SET document = {spoilt} WHERE version = 2")
        disk.close()
        store = await place()
        assert [h.version for h in (await store.load()).documents] == [1]
        assert [(e.code, e.data["version"]) for e in await store.events(10)] == [("document_damaged", 2)]
        await store.save_document(*plan(2))
        assert [h.version for h in (await store.load()).documents] == [2, 1], "sent again it counts again"

    async def test_a_damaged_control_file_without_a_snapshot_means_starting_empty(self, place):
        store = await place()
        await store.save_document(*plan(1))
        await place.close()
        (place.directory / "control.db").write_bytes(b"nothing")
        store = await place()
        assert (store.opened.control_restored, (await store.load()).documents) == (False, ())
        await store.save_document(*plan(2))
        assert [m["version"] for _, m in await messages(store, Stream.ACK)] == [1, 2]

    async def test_a_snapshot_is_made_once_a_day(self, place, store):
        snapshot = place.directory / "control.snapshot.db"
        await store.set_last_utc(NOW)
        first = snapshot.stat()
        await store.set_last_utc(first.st_mtime + 3600)
        assert snapshot.stat().st_ino == first.st_ino
        await store.set_last_utc(first.st_mtime + 86_401)
        assert snapshot.stat().st_ino != first.st_ino


class TestKilled:
    def test_twenty_kills_tear_nothing_lose_nothing_and_repeat_nothing(self):
        storm = [sys.executable, str(ROOT / "tests/store/kill_storm.py"), "--kills", "20"]
        done = subprocess.run(storm, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        result = json.loads(done.stdout)
        assert result["stored"] > 5, "on a busy machine many lives are short"
        assert {k: v for k, v in result.items() if k not in {"kills", "stored", "samples"}} == {
            "torn": 0,
            "lost": 0,
            "repeated": 0,
            "samples_lost": 0,
            "samples_doubled": 0,
        }

    def test_opening_the_store_does_not_load_numpy(self, tmp_path):
        code = (
            "import asyncio, sys; from pathlib import Path; from store_values import open_store; "
            f"asyncio.run(open_store(Path({str(tmp_path)!r}) / 'new')); assert 'numpy' not in sys.modules"
        )
        paths = f"{ROOT}:{Path(__file__).parent}"
        subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": paths}, check=True, timeout=30)
