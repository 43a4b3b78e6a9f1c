"""`ems doctor`, metrics and support bundle at a whole site: with the daemon, without it, and never in its way."""

import getpass
import json
import tarfile
from pathlib import Path

import pytest
from integration_site import SITE_FILE, document, ems, free_port, until

from agent.runtime.roles import READING

PASSWORD = "canary-of-the-broker"


def doctor(agent, *options):
    """The findings by (area, what), and the exit code."""
    done = ems("doctor", "--config", str(agent.file), *options, "--json", socket_path=agent.socket)
    assert done.stderr == ""
    result = json.loads(done.stdout)["result"]
    assert done.returncode == (1 if result["failed"] else 0)
    return {(one["area"], one["what"]): one for one in result["findings"]}


@pytest.fixture(scope="module")
def site(module_parts, module_mosquitto):
    """A site with a broker that is told a password, and a PV inverter that nobody can reach."""
    plant = module_parts.plant()
    text = SITE_FILE.replace("[store]", 'user = "site"\npassword_file = "{folder}/password"\n[store]')
    agent = module_parts.agent(plant, module_mosquitto(), pv_port=free_port(), text=text)
    password = agent.folder / "password"
    password.write_text(PASSWORD + "\n")
    password.chmod(0o600)
    agent.start()
    until(lambda: agent.status()["cloud"]["connected"], "the broker has us")
    return agent


def test_the_doctor_tells_what_works_and_what_does_not_with_what_to_do(site):
    found = doctor(site)
    assert found["service", "daemon"]["grade"] == "ok"
    assert found["config", "site file"]["grade"] == "ok"
    assert found["database", "control.db"]["grade"] == "ok"
    assert found["database", "telemetry.db"]["grade"] == "ok"
    assert found["device", "bess identity"]["grade"] == "ok"
    assert found["device", "bess dead-man"]["grade"] == "ok"
    missing = found["device", "pv identity"]
    assert missing["grade"] == "failed"
    assert "Connection refused" in missing["text"]
    assert missing["todo"]
    assert found["plans", "rolling"]["grade"] == "warning"
    assert found["site", "safety latch"]["grade"] == "ok"


def test_the_broker_is_asked_through_the_daemons_session_which_goes_on(site):
    before = len(site.events("client_id_taken")) + len(site.events("connection_flaps"))
    found = doctor(site)
    for step in ("dns", "tcp", "login", "round trip"):
        assert found["broker", step]["grade"] == "ok", found["broker", step]
    assert "daemon's session" in found["broker", "login"]["text"]
    assert site.status()["cloud"]["connected"]
    assert len(site.events("client_id_taken")) + len(site.events("connection_flaps")) == before


def test_text_fits_80_columns_and_ends_in_a_count(site):
    done = ems("doctor", "--config", str(site.file), socket_path=site.socket)
    assert [line for line in done.stdout.splitlines() if len(line) > 80] == []
    assert "FAILED   device pv identity:" in done.stdout
    assert " failed, " in done.stdout.splitlines()[-1]
    assert "\x1b" not in done.stdout


def test_without_the_daemon_the_rest_is_checked_and_devices_only_when_asked(parts, mosquitto):
    agent = parts.agent(parts.plant(), mosquitto()).start()
    until(lambda: agent.status()["cloud"]["connected"], "the broker has us")
    agent.terminate()
    assert not list(agent.folder.glob("**/*.prom")), "old numbers must not look like new ones"
    found = doctor(agent)
    assert found["service", "daemon"]["grade"] == "failed"
    assert "systemctl" in found["service", "daemon"]["todo"]
    assert found["database", "control.db"]["grade"] == "ok"
    assert found["broker", "login"]["grade"] == "ok"
    assert found["broker", "round trip"]["grade"] == "ok"
    assert found["device", "all"]["grade"] == "unchecked"
    assert "--devices" in found["device", "all"]["text"]
    direct = doctor(agent, "--devices")
    assert direct["device", "bess identity"]["grade"] == "ok"
    assert direct["device", "grid-meter points"]["grade"] == "ok"


def test_devices_held_by_a_daemon_that_does_not_answer_are_left_alone(site, tmp_path):
    done = ems("doctor", "--config", str(site.file), "--devices", "--json", "--socket", str(tmp_path / "none.sock"))
    found = {(one["area"], one["what"]): one for one in json.loads(done.stdout)["result"]["findings"]}
    assert str(site.process.pid) in found["service", "daemon"]["text"]
    assert found["device", "all"]["grade"] == "unchecked"
    assert found["broker", "login"]["grade"] == "unchecked"
    assert site.status()["cloud"]["connected"]


def test_the_metrics_file_says_what_the_status_says(site):
    path = site.folder / "store" / "metrics" / "ems.prom"
    until(path.exists, "the metrics file")
    text = path.read_text()
    assert f'site="{site.status()["site"]}"' in text
    assert 'ems_device_up{device="bess"} 1' in text
    assert 'ems_condition{code="device_silent",subject="pv",severity="alarm"} 1' in text


def test_the_bundle_of_a_running_site_has_what_the_daemon_says_and_no_password(site, tmp_path):
    out = tmp_path / "bundle.tar.gz"
    done = ems("support-bundle", "--config", str(site.file), "--out", str(out), socket_path=site.socket)
    assert (done.returncode, done.stderr) == (0, "")
    with tarfile.open(out) as archive:
        files = {name.split("/", 1)[1]: archive.extractfile(name).read().decode() for name in archive.getnames()}
    status = json.loads(files["daemon/status.json"])
    assert status["pid"] == site.process.pid
    assert {"daemon/devices.json", "daemon/timeline.json", "ems.prom", "events.jsonl", "telemetry.csv"} <= set(files)
    process = Path(f"/proc/{site.process.pid}")
    elsewhere = [site.log.read_text(), (process / "cmdline").read_text(), (process / "environ").read_text()]
    assert [text for text in (*files.values(), *elsewhere, done.stdout) if PASSWORD in text] == []


def test_every_command_of_the_socket_is_either_for_looking_or_for_operators_and_none_is_forgotten(site):
    known = set(site.ask("?")["error"]["next"].removeprefix("the daemon knows: ").split(", "))
    assert known >= READING, "a command for looking that there is not"
    assert known - READING == {
        "plan_import", "override_set", "override_clear", "latch_reset", "model_reset", "device_write", "reload",
        "safe_mode_end", "clock_trust", "commission_start", "commission_go", "commission_stop",
    }  # fmt: skip


def test_whoever_brings_a_plan_is_in_the_events(site):
    site.import_plan(document(77, [0.0] * 10))
    (event,) = until(lambda: site.events("plan_imported"), "the event")
    assert event["data"]["who"] == getpass.getuser()
    assert event["data"]["version"] == 77
