"""Commands on disk: an id is taken once, has one terminal outcome, and is not forgotten while it could come again."""

import sqlite3

import pytest
from store_values import NOW, messages, open_store

from agent.core.admission import MAX_ISSUED_AHEAD_S
from agent.core.records import CommandEnd, CommandRecord, Stage, StorageFailed, Stream
from agent.store import commands

DONE = Stage.DONE


def record(command_id="c1", *, stage=Stage.ACCEPTED, received=NOW, expires=NOW + 60.0, sha256="a" * 64):
    return CommandRecord(command_id, sha256, "hold", received, expires, stage, b"{}", NOW + 60.0, received)


async def acks(store):
    await store.announce_acks()
    return [(ack["id"], ack["stage"], ack["subject"]) for _, ack in await messages(store, Stream.ACK)]


async def test_an_accepted_command_is_there_after_a_restart_until_it_ends(reopen):
    store = await reopen()
    assert await store.take_command(record()) is None
    store = await reopen()
    assert (await store.load()).commands == (record(),)
    assert await acks(store) == [("c1", "accepted", "command")], "told although nobody announced it before"
    await store.end_commands([CommandEnd("c1", DONE, NOW + 60.0, None, "words")])
    store = await reopen()
    assert (await store.load()).commands == ()
    assert await acks(store) == [("c1", "accepted", "command"), ("c1", "done", "command")]


async def test_the_same_id_is_not_taken_twice_and_tells_what_is_known(reopen):
    store = await reopen()
    await store.take_command(record())
    await store.end_commands([CommandEnd("c1", DONE, NOW + 9.0, "never_decided", "words")])
    known = await store.take_command(record(sha256="b" * 64), [CommandEnd("c1", Stage.FAILED, NOW)])
    assert (known.stage, known.reason, known.detail, known.sha256, known.document) == (
        DONE, "never_decided", "words", "a" * 64, None,
    )  # fmt: skip
    assert await acks(store) == [("c1", "accepted", "command"), ("c1", "done", "command")]


async def test_only_the_first_end_counts_and_only_of_what_was_accepted(reopen):
    store = await reopen()
    await store.take_command(record())
    await store.take_command(record("c2", stage=Stage.REJECTED))
    ends = [CommandEnd(name, stage, NOW) for name in ("c1", "c2", "c3") for stage in (DONE, Stage.FAILED)]
    await store.end_commands(ends)
    assert await acks(store) == [
        ("c1", "accepted", "command"),
        ("c2", "rejected", "command"),
        ("c1", "done", "command"),
    ]


async def test_a_command_and_those_that_end_with_it_are_kept_together_or_not_at_all(reopen, monkeypatch):
    store = await reopen()
    await store.take_command(record())
    with monkeypatch.context() as broken:
        broken.setattr(commands, "end", lambda *_: (_ for _ in ()).throw(RuntimeError("a bug")))
        with pytest.raises(RuntimeError):
            await store.take_command(record("c2"), [CommandEnd("c1", DONE, NOW)])
    assert [one.command_id for one in (await store.load()).commands] == ["c1"]
    await store.take_command(record("c2"), [CommandEnd("c1", DONE, NOW), CommandEnd("c2", DONE, NOW)])
    assert [ack[:2] for ack in await acks(store)] == [
        ("c1", "accepted"), ("c2", "accepted"), ("c1", "done"), ("c2", "done"),
    ]  # fmt: skip


async def test_an_id_is_forgotten_a_day_after_it_expired_and_not_while_it_is_in_force(reopen):
    store = await reopen()
    await store.take_command(record("open"))
    await store.take_command(record("old", stage=Stage.REJECTED))
    later = NOW + 60.0 + commands.KEEP_AFTER_EXPIRY_S
    await store.set_last_utc(later + 1.0)
    await store.take_command(record("n1", received=later, expires=later))
    assert await store.take_command(record("old", received=later)) is not None
    await store.take_command(record("n2", received=later + 1.0, expires=later))
    assert await store.take_command(record("old", received=later + 1.0)) is None
    assert await store.take_command(record("open", received=later + 1.0)) is not None


async def test_a_clock_that_is_wrong_for_a_moment_has_no_id_forgotten(reopen):
    store = await reopen()
    await store.take_command(record("old", stage=Stage.REJECTED))
    later = NOW + 61.0 + commands.KEEP_AFTER_EXPIRY_S
    await store.take_command(record("n1", received=later))
    assert await store.take_command(record("old")) is not None, "no time was ever proven"
    await store.set_last_utc(NOW + 1.0)
    await store.take_command(record("n2", received=later))
    assert await store.take_command(record("old")) is not None
    await store.set_last_utc(later)
    await store.take_command(record("n3", received=later))
    assert await store.take_command(record("old")) is None


async def test_a_clock_that_somebody_says_is_right_is_kept_with_what_it_means_for_commands(reopen):
    store = await reopen()
    await store.set_last_utc(NOW + 900_000.0)
    await store.believe_clock(NOW, NOW + 300.0)
    held = await (await reopen()).load()
    assert (held.last_trusted_utc_s, held.commands_since_utc_s) == (NOW, NOW + 300.0)


async def test_the_snapshot_does_not_bring_the_wrong_future_back(tmp_path):
    store = await open_store(tmp_path)
    await store.set_last_utc(NOW + 900_000.0)
    await store.believe_clock(NOW, NOW + 300.0)
    await store.close()
    (tmp_path / "control.db").write_bytes(b"damaged " * 1000)
    (tmp_path / "control.db-wal").unlink(missing_ok=True)
    store = await open_store(tmp_path)
    assert (await store.load()).last_trusted_utc_s == NOW
    await store.close()


async def test_when_all_that_fits_is_still_needed_no_further_command_is_taken(reopen, monkeypatch):
    monkeypatch.setattr(commands, "KEEP_COMMANDS", 3)
    store = await reopen()
    for number in range(3):
        await store.take_command(record(f"c{number}", stage=Stage.REJECTED))
    with pytest.raises(StorageFailed, match="3 commands of the last day"):
        await store.take_command(record("one"))
    assert await store.take_command(record("c1")) is not None
    later = NOW + 61.0 + commands.KEEP_AFTER_EXPIRY_S
    await store.set_last_utc(later)
    assert await store.take_command(record("one", received=later)) is None


async def test_after_the_file_was_lost_commands_that_may_be_replays_are_told_by_their_time(tmp_path):
    store = await open_store(tmp_path)
    await store.take_command(record())
    assert (await store.load()).commands_since_utc_s == 0.0
    await store.close()
    (tmp_path / "control.db").write_bytes(b"damaged " * 1000)
    (tmp_path / "control.db-wal").unlink(missing_ok=True)
    store = await open_store(tmp_path)
    assert (await store.load()).commands_since_utc_s == NOW + MAX_ISSUED_AHEAD_S
    await store.close()


async def test_override_and_latches_are_kept_as_they_are(reopen):
    store = await reopen()
    held = await store.load()
    assert (held.override, held.latches) == (None, None)
    await store.keep_override('{"a": 1}')
    await store.keep_latches("[]")
    held = await (await reopen()).load()
    assert (held.override, held.latches) == ('{"a": 1}', "[]")


async def test_a_control_file_of_the_version_before_goes_on_with_its_outcomes(tmp_path, reopen):
    store = await reopen()
    await store.take_command(record())
    with sqlite3.connect(tmp_path / "control.db") as db:
        columns = "at_utc_s, subject, kind, version, sha256, stage"
        db.execute(f"INSERT INTO outcomes ({columns}) VALUES (?, 'plan', 'rolling', 1, 'aa', 'stored')", (NOW,))
    await store.announce_acks()
    assert [ack.get("id") for _, ack in await messages(store, Stream.ACK)] == ["c1", None]
