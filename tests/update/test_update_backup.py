"""A site in one file, and onto another gateway."""

import hashlib
import io
import json
import os
import sqlite3
import stat
import tarfile

import pytest

from agent.store.control import ControlDb
from agent.update.backup import Origin, Places, back_up, missing_here, read_papers, restore
from agent.update.not_done import NotDone

MADE = 1_705_287_600.0
ORIGIN = Origin("demo-01", "1.0", "old-gateway", MADE)
OWNER = (os.geteuid(), os.getegid())


def gateway(folder):
    return Places(folder / "etc/ems-agent", folder / "var/lib/ems-agent", folder / "etc/systemd/drop-ins")


@pytest.fixture
def old(tmp_path):
    """A gateway with a site file, a key, a drop-in and both databases."""
    places = gateway(tmp_path / "old")
    (places.etc / "tls").mkdir(parents=True)
    places.state.mkdir(parents=True)
    places.drop_ins.mkdir(parents=True)
    (places.etc / "site.toml").write_text("[site]\nid = 'demo-01'\n")
    (places.etc / "tls/site.key").write_text("PRIVATE")
    (places.etc / "tls/site.key").chmod(0o600)
    (places.drop_ins / "serial.conf").write_text("[Service]\n")
    control = ControlDb(places.state)
    control.set_mark("colour", "blue")
    control.database.close()
    with sqlite3.connect(places.state / "telemetry.db") as db:
        db.execute("CREATE TABLE other (x)")
    (places.state / "agent.lock").write_text("1")
    (places.state / "telemetry.db").unlink()
    return places


@pytest.fixture
def new(tmp_path):
    places = gateway(tmp_path / "new")
    places.state.mkdir(parents=True)
    return places


@pytest.fixture
def made(old, tmp_path):
    path = tmp_path / "backup.tar.gz"
    back_up(path, old, ORIGIN, keys=True, telemetry=True)
    return path


def brought(path, places):
    restore(path, places, OWNER, MADE + 60.0, "new-gateway")


def test_a_site_comes_to_the_other_gateway_with_its_files_modes_and_state(made, new):
    brought(made, new)
    assert (new.etc / "site.toml").read_text() == "[site]\nid = 'demo-01'\n"
    assert (new.drop_ins / "serial.conf").exists()
    assert stat.S_IMODE((new.etc / "tls/site.key").stat().st_mode) == 0o600
    control = ControlDb(new.state)
    assert control.mark("colour") == "blue"
    assert [event.code for event in control.newest_events(10)] == ["site_restored"]
    assert "new-gateway from a backup of old-gateway" in control.newest_events(1)[0].text
    control.database.close()
    assert sorted(path.name for path in new.state.iterdir()) == ["control.db"]


def test_what_a_killed_backup_left_is_in_nobodys_way(old, tmp_path):
    (tmp_path / ".b.tar.gz.part").write_text("half")
    (tmp_path / ".b.tar.gz.part").chmod(0o644)
    back_up(tmp_path / "b.tar.gz", old, ORIGIN, keys=True, telemetry=True)
    assert stat.S_IMODE((tmp_path / "b.tar.gz").stat().st_mode) == 0o600
    assert not (tmp_path / ".b.tar.gz.part").exists()


def test_the_file_is_for_its_owner_alone(made):
    assert stat.S_IMODE(made.stat().st_mode) == 0o600


def test_its_papers_say_whose_it_is_and_of_when(made):
    papers = read_papers(made)
    assert (papers.site, papers.version, papers.host, papers.made_utc_s) == ("demo-01", "1.0", "old-gateway", MADE)
    assert sorted(papers.files) == [
        "drop_ins/serial.conf",
        "etc/site.toml",
        "etc/tls/site.key",
        "state/control.db",
    ]


def test_keys_can_stay_behind_and_are_then_named(old, new, tmp_path):
    path = tmp_path / "b.tar.gz"
    papers = back_up(path, old, ORIGIN, keys=False, telemetry=True)
    assert papers.left_out == ("etc/tls/site.key",)
    assert b"PRIVATE" not in b"".join(content for _, content in contents(path))
    brought(path, new)
    assert missing_here(read_papers(path), new) == [new.etc / "tls/site.key"]


def test_telemetry_can_stay_behind(old, tmp_path):
    with sqlite3.connect(old.state / "telemetry.db") as db:
        db.execute("CREATE TABLE other (x)")
    whole = back_up(tmp_path / "b.tar.gz", old, ORIGIN, keys=True, telemetry=True)
    small = back_up(tmp_path / "b.tar.gz", old, ORIGIN, keys=True, telemetry=False)
    assert set(whole.files) - set(small.files) == {"state/telemetry.db"}


def test_logs_of_a_former_state_do_not_reach_the_new_files(made, new):
    for name in ("control.db", "control.db-wal", "control.db-shm", "control.snapshot.db", "telemetry.db"):
        (new.state / name).write_bytes(b"of another site")
    brought(made, new)
    assert sorted(path.name for path in new.state.iterdir()) == ["control.db"]


def contents(path):
    with tarfile.open(path) as archive:
        return [(entry.name, archive.extractfile(entry).read()) for entry in archive]


def rewritten(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def changed(path, name, content):
    """The backup with one file changed or added, and, where its papers name it, its hash as it was."""
    files = dict(contents(path))
    files[name] = content
    rewritten(path, files.items())


@pytest.mark.parametrize("name", ["etc/site.toml", "state/control.db"])
def test_a_changed_file_is_found_before_anything_is_touched(made, new, name):
    changed(made, name, b"something else")
    with pytest.raises(NotDone, match=f"{name} is not what was backed up"):
        brought(made, new)
    assert not new.etc.exists()


def test_a_file_that_belongs_nowhere_is_refused(made, new):
    for name in ("etc/../../evil", "evil", "/etc/evil"):
        files = [(n, c) for n, c in contents(made) if "evil" not in n]
        papers = json.loads(files[0][1])
        papers["files"] = {n: h for n, h in papers["files"].items() if "evil" not in n}
        papers["files"][name] = hashlib.sha256(b"x").hexdigest()
        rewritten(made, [("backup.json", json.dumps(papers).encode()), *files[1:], (name, b"x")])
        with pytest.raises(NotDone, match="does not belong in it"):
            brought(made, new)


def test_a_missing_file_is_found(made, new):
    rewritten(made, contents(made)[:-1])
    with pytest.raises(NotDone, match=r"state/control.db is missing"):
        brought(made, new)


def test_half_a_backup_is_refused(made, new):
    made.write_bytes(made.read_bytes()[: made.stat().st_size // 2])
    with pytest.raises(NotDone):
        brought(made, new)
    assert not new.etc.exists()


@pytest.mark.parametrize("content", [b"", b"no archive"])
def test_something_else_is_not_a_backup(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(NotDone, match="is not a backup that this version reads"):
        read_papers(tmp_path / "x")


def test_where_it_cannot_be_written_the_former_backup_stays(old, tmp_path):
    target = tmp_path / "b.tar.gz"
    target.write_bytes(b"the former one")
    (old.state / "control.db").write_bytes(b"x" * 9000)
    with pytest.raises(NotDone, match="cannot be written"):
        back_up(target, old, ORIGIN, keys=True, telemetry=True)
    assert target.read_bytes() == b"the former one"
    assert [path.name for path in tmp_path.iterdir() if "ems-backup" in path.name or "part" in path.name] == []


def test_the_state_lies_where_the_site_file_says(tmp_path):
    site = tmp_path / "site.toml"
    assert Places.of(site).state == Places().state
    site.write_text("[store]\ndirectory = '/data/ems'\n")
    assert str(Places.of(site).state) == "/data/ems"
    assert Places.of(site).etc == tmp_path
