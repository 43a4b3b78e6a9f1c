"""A real daemon on a disk that misbehaves: control goes on from memory, nothing is promised that is not on disk, and it heals."""

import base64
import os
import sqlite3
import subprocess
import time

import pytest
from integration_site import document, near, slot_now, until
from integration_ticks import Ticks

from tests.disk_shim import Disk

FAULTS = {"full": Disk.full, "read-only": Disk.read_only, "fsync-eio": Disk.fsync_fails, "write-eio": Disk.writes_fail}


@pytest.fixture
def ticks():
    heard = Ticks()
    yield heard
    heard.close()


def swinging(version, power_kw):
    """A plan that changes its sign every second: who follows it is in control."""
    return document(version, [power_kw, -power_kw] * 300)


def follows(plant, power_kw):
    """The battery swings with the plan: three edges are seen."""
    for sign in (1, -1, 1):
        until(
            lambda sign=sign: near(plant.battery_w, sign * power_kw * 1000), f"the battery is at {sign * power_kw} kW"
        )


def site_on(parts, mosquitto, disk):
    """A site that follows a plan; its disk may be made to fail."""
    broker, plant = mosquitto(), parts.plant()
    cloud = parts.cloud(broker)
    agent = parts.agent(plant, broker)
    agent.environment = disk.environment(agent.folder / "store")
    agent.start()
    cloud.send(swinging(1, 40.0))
    cloud.ack(1, "active")
    follows(plant, 40.0)
    return plant, cloud, agent


@pytest.mark.parametrize("fault", FAULTS)
def test_while_the_disk_misbehaves_the_plan_goes_on_new_ones_are_refused_and_taken_afterwards(
    parts, mosquitto, tmp_path, fault
):
    disk = Disk(tmp_path)
    plant, cloud, agent = site_on(parts, mosquitto, disk)
    FAULTS[fault](disk)
    cloud.send(swinging(2, 90.0))
    refused = cloud.ack(2, "rejected")
    assert (refused["reason"], refused["seq"]) == ("storage_failed", None), "an answer that no disk keeps"
    reply = agent.ask("plan_import", document=base64.b64encode(swinging(2, 90.0)).decode())
    assert not reply["ok"]
    assert disk.failed > 0
    follows(plant, 40.0)
    until(lambda: ("disk_failing", "site") in agent.conditions(), "the disk is told as failing")
    disk.heal()
    until(lambda: ("disk_failing", "site") not in agent.conditions(), "the disk is well again")
    until(lambda: agent.events("disk_failing"), "and what was told is on record")
    cloud.send(swinging(2, 90.0))
    cloud.ack(2, "stored")
    follows(plant, 90.0)
    agent.kill()
    agent.start()
    assert agent.status()["plans"]["rolling"]["version"] == 2
    codes = [event["code"] for event in agent.ask("events", limit=500)["result"]]
    assert "database_damaged" not in codes


def test_on_a_file_system_that_is_truly_full_the_plan_goes_on_and_with_room_again_so_does_the_rest(parts, tmp_path):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", tmp_path], check=False)
    if mounted.returncode:
        pytest.skip("this user may not mount a small file system; the row is tested by the shim too")
    try:
        plant = parts.plant()
        agent = parts.agent(plant, state=tmp_path / "store").start()
        agent.import_plan(swinging(1, 40.0))
        filler = tmp_path / "filler"
        fill(filler)
        many = base64.b64encode(document(2, [90.0, -90.0] * 3000)).decode()
        until(lambda: not agent.ask("plan_import", document=many)["ok"], "a plan is refused")
        until(lambda: "full" in str(agent.status()["disk"]), "the disk is told as full")
        follows(plant, 40.0)
        filler.unlink()
        until(lambda: agent.ask("plan_import", document=many)["ok"], "a plan is taken again")
        follows(plant, 90.0)
        until(lambda: not agent.status()["disk"]["failing"], "the disk is well again")
        agent.close()
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


def fill(path):
    """Takes all the room there is, to the last byte."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(65_536))
        except OSError:
            pass
        try:
            while True:
                os.write(file.fileno(), b"x")
        except OSError:
            return


def test_a_disk_that_takes_seconds_for_each_fsync_costs_no_tick(parts, mosquitto, tmp_path, ticks):
    disk = Disk(tmp_path)
    broker, plant = mosquitto(), parts.plant()
    cloud = parts.cloud(broker)
    agent = parts.agent(plant, broker)
    agent.environment = disk.environment(agent.folder / "store") | ticks.environment
    agent.start()
    cloud.send(swinging(1, 40.0))
    cloud.ack(1, "active")
    disk.slow(5.0)
    began = time.time()
    cloud.send(swinging(2, 90.0))
    follows(plant, 40.0)
    assert not [ack for ack in list(cloud.acks) if (ack["version"], ack["stage"]) == (2, "stored")], (
        "nothing is promised"
    )
    until(lambda: ticks.since(began + 4.0), "ticks before the first fsync is over")
    assert len(ticks.since(began)) > 5, "ticks do not wait for the disk"
    disk.heal()
    cloud.ack(2, "stored")
    follows(plant, 90.0)


def test_a_reader_that_never_ends_holds_nothing_up(parts):
    plant = parts.plant()
    agent = parts.agent(plant).start()
    agent.import_plan(swinging(1, 40.0))
    reader = sqlite3.connect(f"file:{agent.folder}/store/telemetry.db?mode=ro", uri=True, isolation_level=None)
    reader.execute("BEGIN")
    seen = reader.execute("SELECT count(*) FROM staged").fetchone()
    version, log = 1, agent.folder / "store" / "telemetry.db-wal"
    grown = log.stat().st_size
    until(lambda: log.stat().st_size > grown, "the log grows beside the reader")
    version += 1
    agent.import_plan(swinging(version, 90.0))
    follows(plant, 90.0)
    assert reader.execute("SELECT count(*) FROM staged").fetchone() == seen, "it reads what was so when it began"
    reader.execute("COMMIT")
    reader.close()
    assert agent.status()["disk"]["failing"] == {}
    now = slot_now()
    until(lambda: now in agent.slots(), "slots are written on")


def test_on_sigterm_with_a_disk_that_hangs_the_battery_is_at_rest_and_the_process_gone_within_ten_seconds(
    parts, mosquitto, tmp_path
):
    disk = Disk(tmp_path)
    plant, _, agent = site_on(parts, mosquitto, disk)
    disk.slow(600.0)
    assert agent.terminate() == 1, "not everything is on disk"
    assert plant.control.wanted_w == 0.0
    assert "ended_unfinished" in agent.log.read_text()
    disk.heal()
    agent.start()
    follows(plant, 40.0)
