"""`ems telemetry export`: every sample once, from the disk alone."""

import asyncio
import csv
import io
import json
from functools import partial

import pytest
from typer.testing import CliRunner

from agent.cli.main import app
from agent.cloud.frame import summary_frame, telemetry_frame
from agent.cloud.messages import ack_message, event_message, ledger_message
from agent.core.records import Sample, Stream
from agent.store import Announce, Store, telemetry_reader
from agent.store.telemetry_reader import TelemetryReader, UnreadableStore

SITE, T0 = "demo-01", 1705287600.0
DURING = ("--from", "2024-01-15T03:00Z", "--to", "2024-01-15T04:00Z")


def sample(second, **points):
    return Sample("b1", T0 + second, 1.0, 2.0, 3.0, None, 50.0, 50.01, 2.0, 2.0, "rolling", points)


class Disk:
    """A state directory whose daemon may be up or down."""

    def __init__(self, directory):
        self.directory = directory
        self.store = None

    async def up(self):
        announce = Announce(
            ack=partial(ack_message, SITE), event=partial(event_message, SITE), ledger=partial(ledger_message, SITE)
        )
        self.store = await Store.open(self.directory, announce, lambda: T0)
        return self

    async def down(self):
        store, self.store = self.store, None
        if store is not None:
            await store.close()

    async def write(self, *samples, stream=Stream.TELEMETRY, seal=True):
        for one in samples:
            await self.store.append_sample(one)
        if seal:
            await self.store.seal_frame(partial(telemetry_frame, SITE, stream=stream), stream)

    async def export(self, *options):
        """The command in a thread of its own: a daemon in this process goes on."""
        arguments = ["telemetry", "export", "--store", str(self.directory), *options]
        return await asyncio.to_thread(CliRunner().invoke, app, arguments)


@pytest.fixture
async def disk(tmp_path):
    made = await Disk(tmp_path / "state").up()
    yield made
    await made.down()


def table(done):
    assert done.exit_code == 0, done.output
    return list(csv.DictReader(io.StringIO(done.stdout)))


@pytest.mark.parametrize("daemon", ["up", "down"])
async def test_every_sample_comes_once_those_that_wait_for_their_frame_too(disk, daemon):
    await disk.write(*(sample(i) for i in range(60)))
    await disk.write(*(sample(i) for i in range(60, 120)))
    await disk.write(*(sample(i) for i in range(120, 125)), seal=False)
    if daemon == "down":
        await disk.down()
    rows = table(await disk.export(*DURING))
    assert [row["time"] for row in rows[:2]] == ["2024-01-15T03:00:00.000Z", "2024-01-15T03:00:01.000Z"]
    assert len({row["time"] for row in rows}) == len(rows) == 125
    assert (rows[124]["grid_w"], rows[124]["load_w"], rows[124]["source"], rows[124]["boot_id"]) == (
        "1", "", "rolling", "b1",
    )  # fmt: skip


async def test_what_the_cloud_has_confirmed_is_still_there(disk):
    await disk.write(sample(0))
    await disk.store.confirm(Stream.TELEMETRY, 1)
    assert len(table(await disk.export(*DURING))) == 1


async def test_a_time_is_half_open_and_cuts_frames(disk):
    for minute in range(5):
        await disk.write(*(sample(minute * 60 + i) for i in range(60)))
    rows = table(await disk.export("--from", "2024-01-15T03:00:58Z", "--to", "2024-01-15T03:02:01Z"))
    assert (rows[0]["time"], rows[-1]["time"], len(rows)) == (
        "2024-01-15T03:00:58.000Z", "2024-01-15T03:02:00.000Z", 63,
    )  # fmt: skip


async def test_a_device_that_came_later_has_its_column_in_every_row(disk):
    await disk.write(sample(0, **{"bess.soc_pct": 41.5}))
    await disk.write(sample(60, **{"bess.soc_pct": 42.0, "pv.power_w": 7.0}))
    first, second = table(await disk.export(*DURING))
    assert (first["bess.soc_pct"], first["pv.power_w"]) == ("41.5", "")
    assert (second["bess.soc_pct"], second["pv.power_w"]) == ("42", "7")
    assert list(first)[:2] == ["time", "boot_id"]
    assert list(first)[-2:] == ["bess.soc_pct", "pv.power_w"]


async def test_as_lines_of_json_each_sample_has_the_columns_that_its_frame_has(disk):
    await disk.write(sample(0, **{"bess.soc_pct": 41.5}), sample(1))
    done = await disk.export(*DURING, "--format", "jsonl")
    first, second = map(json.loads, done.stdout.splitlines())
    assert (first["bess.soc_pct"], second["bess.soc_pct"], first["load_w"]) == (41.5, None, None)


async def test_on_a_metered_link_the_samples_are_exported_or_the_means_that_were_sent(disk):
    await disk.write(*(sample(i) for i in range(60)), stream=Stream.FULL_RATE)
    await disk.store.seal_summary(partial(_means), 10)
    assert len(table(await disk.export(*DURING))) == 60
    (mean,) = table(await disk.export(*DURING, "--means"))
    assert (mean["time"], mean["grid_w"], mean["grid_w.max"]) == ("2024-01-15T03:00:00.000Z", "1", "1")


def _means(seq, frames):
    return summary_frame(SITE, seq, frames, 60.0)


async def test_pages_are_put_together_without_a_seam(disk, monkeypatch):
    monkeypatch.setattr(telemetry_reader, "PAGE_FRAMES", 2)
    for minute in range(7):
        await disk.write(sample(minute * 60))
    assert len(table(await disk.export(*DURING))) == 7


async def test_a_frame_that_is_damaged_is_left_out_and_named(disk):
    await disk.write(sample(0))
    await disk.store.append_sample(sample(60))
    await disk.store.seal_frame(lambda _seq, _samples: b"damaged")
    done = await disk.export(*DURING)
    assert len(table(done)) == 1
    assert "telemetry 2 cannot be read" in done.stderr


async def test_a_frame_of_a_version_without_times_beside_is_found(disk):
    await disk.write(sample(0))
    await disk.store._run(
        lambda: disk.store._writer._telemetry.database.connection().execute("DELETE FROM frame_times")
    )
    assert len(table(await disk.export("--from", "2024-01-15T03:00Z", "--to", "2024-01-15T03:01Z"))) == 1


class TestNothing:
    async def test_a_time_without_samples_is_told_with_the_one_that_has_some(self, disk):
        await disk.write(sample(0), sample(9))
        done = await disk.export("--from", "2023-01-01", "--to", "2023-01-02")
        assert (done.exit_code, done.stdout) == (1, "")
        assert "next: ask for a time from 2024-01-15T03:00:00Z to 2024-01-15T03:00:09Z" in done.stderr

    async def test_an_empty_store_is_told(self, disk):
        done = await disk.export(*DURING)
        assert done.exit_code == 1
        assert "nothing was recorded yet" in done.stderr

    def test_a_directory_without_a_store_is_told(self, tmp_path):
        done = CliRunner().invoke(app, ["telemetry", "export", "--store", str(tmp_path)])
        assert done.exit_code == 1
        assert "there is no telemetry.db" in done.stderr
        assert "--store DIR" in done.stderr

    def test_the_place_may_be_in_the_environment(self, tmp_path):
        done = CliRunner().invoke(app, ["telemetry", "export"], env={"EMS_STORE": str(tmp_path / "there")})
        assert "there is no telemetry.db in" in done.stderr
        assert "/there" in done.stderr

    def test_a_damaged_file_is_told(self, tmp_path):
        (tmp_path / "telemetry.db").write_bytes(b"this is no database, by no means" * 99)
        done = CliRunner().invoke(app, ["telemetry", "export", "--store", str(tmp_path)])
        assert done.exit_code == 1
        assert "telemetry.db.damaged-*" in done.stderr

    async def test_a_file_of_an_older_version_is_told(self, disk):
        await disk.down()
        import sqlite3

        with sqlite3.connect(disk.directory / "telemetry.db") as db:
            db.execute("PRAGMA user_version = 3")
        with pytest.raises(UnreadableStore, match="older version"):
            TelemetryReader(disk.directory)

    def test_times_that_run_backwards_are_refused(self):
        done = CliRunner().invoke(app, ["telemetry", "export", "--from", "2024-01-02", "--to", "2024-01-01"])
        assert done.exit_code == 2
        assert "--from must lie before --to" in done.stderr

    async def test_a_file_that_this_user_may_not_read_is_told(self, disk, monkeypatch):
        def denied(*_arguments, **_options):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(telemetry_reader.Path, "open", denied)
        done = await disk.export(*DURING)
        assert done.exit_code == 1
        assert "next: ask as the user of the service: sudo -u ems-agent" in done.stderr


async def test_what_a_killed_daemon_left_in_its_write_ahead_log_is_read(disk, tmp_path):
    await disk.write(sample(0), sample(1))
    left = tmp_path / "left"
    left.mkdir()
    for name in ("telemetry.db", "telemetry.db-wal"):
        (left / name).write_bytes((disk.directory / name).read_bytes())
    disk.directory = left
    assert len(table(await disk.export(*DURING))) == 2
