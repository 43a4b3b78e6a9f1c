"""The support bundle: what helps is in it, what is secret is not, whatever state the site is in."""

import hashlib
import io
import json
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest
from cli_site_file import BATTERY_ALONE
from typer.testing import CliRunner

from agent.cli import doctor
from agent.cli.bundle_content import thinned
from agent.cli.main import app
from agent.core.events import Event, EventState, Severity
from agent.core.records import Sample
from agent.store import Announce, Store

CANARIES = {
    "header": "canary-header-1", "header file": "canary-header-file-2", "password": "canary-password-3",
    "comment": "canary-comment-4", "key": "canarykeyline5AAAAAAAAAAAAAAAA", "credential": "canary-credential-6",
    "environment": "canary-environment-7", "unknown key": "canary-unknown-8", "address": "canary-address-9",
    "not a file": "canary-not-a-file-10", "proxy": "canary-proxy-11", "query": "canary-query-12",
}  # fmt: skip
GOOD = (
    """\
schema = 1
# the password is {comment}
[site]
id = "canary-site"
"""
    + BATTERY_ALONE
    + """\
[cloud]
broker = "wss://127.0.0.1:1/mqtt?signature={query}"
user = "site"
password_file = "{folder}/password"
headers = {{ X-Token = "{header}", X-Other = "file:{folder}/token" }}
[cloud.proxy]
url = "http://127.0.0.1:1"
user = "site"
password_file = "{folder}/proxy"
[cloud.tls]
certificate = "{folder}/key.pem"
key = "{folder}/key.pem"
[store]
directory = "{folder}/store"
[api]
socket = "{folder}/none.sock"
"""
)
BROKEN = GOOD.replace("[site]", 'password = "{unknown key}"\n[site]').replace(
    'user = "site"\npassword_file = "{folder}/proxy"',
    'user = "site"\npassword_file = "{not a file}"\ntoken = {{ deep = ["{unknown key}"] }}',
).replace("http://127", "http://me:{address}@127")  # fmt: skip
NOT_TOML = GOOD + 'broken = "http://me:{address}@h\nlong = "{unknown key}"\n'


SECRET_FILES = {"password": "password", "token": "header file", "proxy": "proxy", "credentials/broker": "credential"}


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder with secrets in files, in the environment and in the service's credentials."""
    (tmp_path / "credentials").mkdir()
    for name, canary in SECRET_FILES.items():
        (tmp_path / name).write_text(CANARIES[canary] + "\n")
    key = f"-----BEGIN PRIVATE KEY-----\n{CANARIES['key']}\n-----END PRIVATE KEY-----\n"
    (tmp_path / "key.pem").write_text(key)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    monkeypatch.setenv("BROKER_PASSWORD", CANARIES["environment"])
    monkeypatch.delenv("EMS_SOCKET", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def planted(text):
    """The canaries that can be found somewhere at a site with this file; what is only in a comment is nowhere else."""
    elsewhere = {canary for name, canary in SECRET_FILES.items() if f"/{name}" in text}
    elsewhere |= {"key", "environment", "credential"}
    return {CANARIES[name] for name in CANARIES if name in elsewhere or f"{{{name}}}" in text} - {CANARIES["comment"]}


async def leak(site, canaries):
    """A store whose events, and a journal whose lines, repeat them all."""
    told = " ".join(f"<{canary}>" for canary in sorted(canaries))
    (site / "bin").mkdir()
    program = site / "bin" / "journalctl"
    program.write_text(f"#!/bin/sh\nprintf '%s ' \"$@\" > {site}/argv\necho 'it says {told}'\n")
    program.chmod(0o755)
    announce = Announce(ack=lambda *_, **__: b"", event=lambda *_, **__: b"", ledger=lambda *_, **__: b"")
    store = await Store.open(site / "store", announce, lambda: 1.7e9)
    await store.append_event(Event(1.7e9, EventState.NOTED, Severity.INFO, "tested", "site", f"it says {told}", {}))
    for second in range(3):
        await store.append_sample(Sample("b", 1.7e9 + second, 1.0, 2.0, 3.0, -2.0, 50.0, 50.0, 2.0, 2.0, "rolling"))
    await store.close()


def bundle(site, text, *options):
    """The result of the command, and the files of the bundle by their names in it."""
    config = site / "site.toml"
    if text is not None:
        config.write_text(text.format(folder=site, **CANARIES))
    out = site / "bundle.tar.gz"
    out.unlink(missing_ok=True)
    done = CliRunner().invoke(app, ["support-bundle", "--config", str(config), "--out", str(out), *options])
    assert done.exception is None, done.output
    with tarfile.open(out) as archive:
        names = archive.getnames()
        assert len({name.split("/")[0] for name in names}) == 1
        return done, {name.split("/", 1)[1]: archive.extractfile(name).read().decode() for name in names}


@pytest.mark.parametrize("text", [GOOD, BROKEN, NOT_TOML], ids=["good", "broken", "not toml"])
async def test_no_secret_is_in_it_nor_in_what_is_printed_or_run(site, text):
    await leak(site, planted(text))
    done, files = bundle(site, text)
    secrets = planted(text) | {CANARIES["comment"]}
    assert {name: hits for name, content in files.items() if (hits := [c for c in secrets if c in content])} == {}
    assert [c for c in secrets if c in done.output] == []
    assert [c for c in secrets if c in (site / "argv").read_text()] == []
    # They were there to be found. Without a site file that can be read, nobody knows where the store is.
    repeating = ["journal.log", "events.jsonl"] if text is GOOD else ["journal.log"]
    assert [files[name].count("[removed]") for name in repeating] == [len(planted(text))] * len(repeating)


async def test_what_helps_is_in_it_and_the_manifest_names_each_file_with_its_digest(site):
    await leak(site, planted(GOOD))
    _, files = bundle(site, GOOD)
    manifest = files.pop("MANIFEST.txt")
    for name, content in files.items():
        line = next(line for line in manifest.splitlines() if f"  {name}: " in line)
        assert hashlib.sha256(content.encode()).hexdigest() in line
    assert {"site.toml", "doctor.txt", "doctor.json", "events.jsonl", "telemetry.csv", "journal.log"} <= set(files)
    assert {"versions.json", "schemas.json", "profiles/used.txt"} <= set(files)
    assert 'id = "canary-site"' in files["site.toml"]
    assert "FAILED   service daemon" in files["doctor.txt"]
    assert json.loads(files["events.jsonl"].splitlines()[-1])["code"] == "tested"
    assert "[removed]" in files["journal.log"]
    rows = files["telemetry.csv"].splitlines()
    assert rows[0].startswith("time,boot_id,")
    assert len(rows) == 4
    assert json.loads(files["schemas.json"])["tables"]["control"]["found"] >= 3
    assert "cloud.headers.X-Token: the value of a header" in manifest
    assert "daemon/status.json: " in manifest.split("could not be had")[1]


def test_a_secret_that_became_the_name_of_a_key_is_not_in_the_list_of_what_was_removed(site):
    text = GOOD.replace("[site]", '"{unknown key}" = "{unknown key}"\n[site]')
    done, files = bundle(site, text, "--json")
    assert "no key of the site file" in files["MANIFEST.txt"]
    assert "no key of the site file" in done.output
    assert [said for said in (*files.values(), done.output) if CANARIES["unknown key"] in said] == []


def test_without_a_site_file_there_is_still_a_bundle(site):
    _, files = bundle(site, None)
    assert "site.toml: " in files["MANIFEST.txt"].split("could not be had")[1]
    assert "doctor.txt" in files


def test_credentials_that_may_not_be_seen_are_no_reason_to_give_up(site, monkeypatch):
    def closed(_folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", closed)
    _, files = bundle(site, GOOD)
    assert "site.toml" in files


def test_a_fault_in_one_piece_costs_no_other(site, monkeypatch):
    def broken(*_args, **_options):
        raise KeyError("a fault of ours")

    monkeypatch.setattr(doctor, "gateway_facts", broken)
    _, files = bundle(site, GOOD)
    assert "doctor.txt: a fault while it was collected: KeyError" in files["MANIFEST.txt"]
    assert {"site.toml", "versions.json", "schemas.json"} <= set(files)


def test_json_tells_programs_what_was_written(site):
    done, files = bundle(site, GOOD, "--json")
    result = json.loads(done.stdout)["result"]
    assert {one["name"] for one in result["files"]} | {"MANIFEST.txt"} == set(files)
    assert "daemon/status.json" in result["left_out"]


def test_it_is_for_its_owner_only_and_standard_output_takes_it_where_the_disk_is_full(site):
    config = site / "site.toml"
    config.write_text(GOOD.format(folder=site, **CANARIES))
    bundle(site, GOOD)
    assert (site / "bundle.tar.gz").stat().st_mode & 0o777 == 0o600
    done = CliRunner().invoke(app, ["support-bundle", "--config", str(config), "--out", "-"])
    with tarfile.open(fileobj=io.BytesIO(done.stdout_bytes)) as archive:
        assert any(name.endswith("/MANIFEST.txt") for name in archive.getnames())


def test_a_place_that_cannot_be_written_is_refused_with_another_way(site):
    config = site / "site.toml"
    config.write_text(GOOD.format(folder=site, **CANARIES))
    done = CliRunner().invoke(app, ["support-bundle", "--config", str(config), "--out", str(site / "no/where.gz")])
    assert done.exit_code == 1
    assert "--out -" in done.stderr
    with suppress(FileNotFoundError):
        assert not list((site / "no").iterdir())


def test_a_day_is_thinned_to_a_row_a_minute_and_its_end_is_whole():
    def row(at_s):
        return {"time": f"2026-01-01T00:{at_s // 60:02d}:{at_s % 60:02d}Z"}

    end_s = 1_767_225_600 + 1500.0
    found = [r["time"] for r in thinned([row(at) for at in range(1500)], end_s)]
    assert found[:3] == ["2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z", "2026-01-01T00:02:00Z"]
    assert len(found) == 15 + 600
