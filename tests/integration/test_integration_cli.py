"""The `ems` command against a running daemon, and without one."""

import json
import os
import subprocess
import sys

import pytest
from integration_site import SITE, document, ems, free_port, near, until

from agent.cli.text import fitted

PLAN = document(5, [100.0, -50.0] * 1000, soc_end_pct=[50.0] * 2000)


@pytest.fixture(scope="module")
def agent(module_parts):
    """A site on a plan, with a PV inverter that nobody can reach, so that there is something to complain about."""
    plant = module_parts.plant()
    agent = module_parts.agent(plant, pv_port=free_port()).start()
    agent.import_plan(PLAN)
    until(lambda: agent.status()["source"] == "rolling", "the plan is in force")
    until(lambda: len(agent.slots()) >= 3, "some slots are done")
    return agent


def told(agent, *arguments):
    """The output of a command that must succeed."""
    done = ems(*arguments, socket_path=agent.socket)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def told_json(agent, *arguments):
    reply = json.loads(told(agent, *arguments, "--json"))
    assert reply["ok"] is True
    return reply["result"]


@pytest.mark.parametrize("command", [("status",), ("explain",), ("plan", "show")], ids=" ".join)
def test_text_in_a_pipe_has_no_colours_and_fits_80_columns(agent, command):
    text = told(agent, *command)
    assert "\x1b" not in text
    assert [line for line in text.splitlines() if len(line) > 80] == []


def test_status_tells_who_decides_and_names_the_device_that_is_missing(agent):
    text = " ".join(told(agent, "status").split())
    assert SITE in text
    assert "rolling: rolling plan 5, slot" in text
    assert "pv failing" in text
    assert "Connection refused" in text
    assert "cloud NOT connected" in text
    assert "ALARM pv: no reading yet" in text
    facts = told_json(agent, "status")
    assert facts["site"] == SITE
    assert facts["pid"] == agent.process.pid
    assert facts["plans"]["rolling"]["version"] == 5
    assert ("device_silent", "pv") in {(c["code"], c["subject"]) for c in facts["conditions"]}


def test_explain_leads_from_the_plan_to_what_the_device_confirmed(agent):
    row = until(lambda: (r := told_json(agent, "explain"))["last_outcomes"] and r, "an outcome")
    assert row["source"] == "rolling"
    assert row["planned_w"] in (100_000.0, -50_000.0)
    assert row["target"] == "battery"
    assert row["last_outcomes"]["bess"]["confirmed"] is True
    text = told(agent, "explain")
    for word in ("because: rolling plan 5", "measured", "wanted", "aimed at", "setpoint", "read back  bess holds"):
        assert word in text


def test_plan_show_draws_past_and_coming_slots(agent):
    text = told(agent, "plan", "show")
    assert "rolling  version 5" in text
    assert "yearly   none" in text
    slots = told_json(agent, "plan", "show")["slots"]
    assert {"past", "now", "coming"} == {slot["when"] for slot in slots}
    past = [slot for slot in slots if slot["when"] == "past" and slot["source"] == "rolling"]
    assert all(slot["planned_w"] in (100_000.0, -50_000.0) for slot in past)
    assert slots == sorted(slots, key=lambda slot: slot["start"])


def test_a_plan_on_a_stick_is_taken_and_executed(parts, tmp_path):
    plant = parts.plant()
    agent = parts.agent(plant).start()
    file = tmp_path / "plan.json"
    file.write_bytes(document(1, [30.0] * 100))
    assert told(agent, "plan", "import", str(file)) == f"{file}: rolling plan 1 stored\n"
    until(lambda: near(plant.battery_w, 30_000.0), "it is executed")
    again = told_json(agent, "plan", "import", str(file))
    assert (again["version"], again["stage"]) == (1, "stored")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (document(4, [1.0] * 1000), "version_old at version: version 5 is held"),
        (document(6, [526.0] * 1000), "beyond_rating at power[0]"),
        (document(6, [1.0] * 1000, kind="hourly"), "bad_value at kind"),
        (b"\xff\xfe", "not_json"),
    ],
    ids=["older", "beyond the rating", "no such kind", "not a plan"],
)
def test_a_bad_plan_on_a_stick_is_refused_with_the_reason_and_exit_code_1(agent, tmp_path, content, reason):
    file = tmp_path / "plan.json"
    file.write_bytes(content)
    refused = ems("plan", "import", str(file), socket_path=agent.socket)
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"ems: plan import: {reason}")
    assert "next: what is in force stays" in refused.stderr
    as_json = ems("plan", "import", str(file), "--json", socket_path=agent.socket)
    assert as_json.returncode == 1
    assert json.loads(as_json.stdout)["error"]["why"].startswith(reason)
    assert agent.status()["plans"]["rolling"]["version"] == 5


def test_events_come_over_the_socket_newest_first(agent):
    events = agent.ask("events", limit=100)["result"]
    times = [event["at"] for event in events]
    assert times == sorted(times, reverse=True)
    assert ("source_changed", "site") in {(event["code"], event["subject"]) for event in events}
    assert len(agent.ask("events", limit=1)["result"]) == 1
    refused = agent.ask("events")
    assert refused["error"]["why"] == "limit must be a number"


def test_watch_prints_one_json_object_per_look(agent):
    command = [sys.executable, "-m", "agent.cli.main", "watch", "--json", "--every", "0.2"]
    environment = {**os.environ, "EMS_SOCKET": str(agent.socket)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as watching:
        looks = [json.loads(watching.stdout.readline()) for _ in range(2)]
        watching.kill()
    assert [look["ok"] for look in looks] == [True, True]
    first, second = (look["result"] for look in looks)
    assert first["site"] == SITE
    assert second["counters"]["ticks"] >= first["counters"]["ticks"]


def test_config_check_says_usable(agent):
    checked = ems("config", "check", "--config", str(agent.file))
    assert (checked.returncode, checked.stderr) == (0, "")
    first, *limits = checked.stdout.splitlines()
    assert first == f"{agent.file}: usable: site {SITE}, 1 battery, 1 pv, 1 meter"
    assert "  export_limit        600 kW" in limits
    as_json = json.loads(ems("config", "check", "--config", str(agent.file), "--json").stdout)
    facts = as_json["result"]
    assert (facts["usable"], facts["problems"], facts["site"], facts["devices"]) == (True, [], SITE, 3)
    assert facts["warnings"] == []


@pytest.mark.parametrize("command", [("status",), ("explain",), ("watch",), ("plan", "show")], ids=" ".join)
def test_without_a_daemon_a_command_ends_with_code_3_and_says_what_to_do(tmp_path, command):
    missing = tmp_path / "none.sock"
    refused = ems(*command, socket_path=missing)
    assert (refused.returncode, refused.stdout) == (3, "")
    assert str(missing) in refused.stderr
    assert "the daemon is not running" in refused.stderr
    assert "next: systemctl status ems-agent" in refused.stderr
    assert "\x1b" not in refused.stderr
    as_json = ems(*command, "--json", socket_path=missing)
    assert (as_json.returncode, as_json.stderr) == (3, "")
    reply = json.loads(as_json.stdout)
    assert reply["ok"] is False
    assert set(reply["error"]) == {"what", "why", "next"}


def test_a_daemon_that_was_killed_leaves_a_socket_that_is_explained(parts):
    agent = parts.agent(parts.plant()).start()
    agent.kill()
    refused = ems("status", socket_path=agent.socket)
    assert refused.returncode == 3
    assert "nobody listens there: the daemon was killed" in refused.stderr


def test_the_longest_lines_of_status_go_on_under_their_own_column():
    reason = "no good reading for 12 s (missing): " + "control at the connection point is open loop; " * 3
    assert all(len(line) <= 79 for line in fitted([f"ALARM    meter: {reason}"], 9))
    assert all(line.startswith(" " * 9) for line in fitted([f"ALARM    meter: {reason}"], 9)[1:])
    assert fitted(["", "short"], 9) == ["", "short"]
