"""`ems commission` end to end: real processes and sockets; killed and resumed, a reversed meter, questions in a terminal."""

import dataclasses
import json
import os
import pty
import subprocess
import sys
import time

import pytest
from integration_site import STILL, document, ems, near, until

from simulators.sunspec_devices import MeterConfig

DEAD_MAN_S = 6.0
"""Long against a tick of 0.2 s on a busy machine, short to wait for."""
REST_W = 0.02 * 500_000.0


def led_until(agent, step, phase):
    """Leads the commissioning as the command does, until this phase of this step."""

    def there():
        now = agent.ask("commission_status", lead=True)["result"]["running"]
        assert now is not None, agent.ask("commission_status")["result"]
        return (now["step"], now["phase"]) == (step, phase)

    until(there, f"{step} comes to {phase}", deadline_s=60.0)


@pytest.mark.timeout(300)
def test_killed_in_the_middle_the_battery_comes_to_rest_and_the_rest_is_done_later(parts, mosquitto, tmp_path):
    broker = mosquitto()
    plant = parts.plant()
    parts.cloud(broker)
    agent = parts.agent(plant, broker, dead_man=f"{DEAD_MAN_S:g} s").start()
    agent.import_plan(document(1, [20.0] * 3600))
    until(lambda: near(plant.battery_w, 20_000.0), "the plan is executed")
    assert agent.ask("commission_start", confirmed=True, auto=True)["ok"]
    led_until(agent, "step_response:bess", "up")
    until(lambda: abs(plant.battery_w) > 90_000.0, "the step is made")
    agent.kill()
    until(lambda: near(plant.battery_w, 0.0, REST_W), "the dead-man ends it")
    agent.start()
    status = agent.status()
    assert (status["source"], status["commissioning"]["verdict"]) == ("rolling", "stopped")
    until(lambda: near(plant.battery_w, 20_000.0), "the plan decides again")

    told = ems(
        "commission", "--auto", "--resume", "--report", str(tmp_path), socket_path=agent.socket, timeout_s=200
    )  # fmt: skip
    assert told.returncode == 0, told.stdout + told.stderr
    assert "PASSED" in told.stdout
    assert "ok        dead-man of bess" in told.stdout
    assert "sign and scale of bess" not in told.stdout, "it passed before the kill"
    page = (tmp_path / "commissioning-test-01.html").read_text()
    assert page.count("<svg") >= 6
    assert "http://" not in page.replace('xmlns="http://www.w3.org/2000/svg"', "")
    content = json.loads((tmp_path / "commissioning-test-01.json").read_text())
    assert (content["verdict"], content["steps"][4]["step"]) == ("passed", "step_response:bess")
    assert len(content["steps"][4]["series"]) > 5

    until(lambda: agent.status()["source"] == "rolling", "the plan decides again")
    status = agent.status()
    measured = status["commissioning"]["measured"]["bess"]
    assert measured["serial"] == "SIM-BATTERY-1"
    assert abs(measured["dead_man_s"] - DEAD_MAN_S) < 3.0
    assert "proven   bess lag" in ems("status", socket_path=agent.socket).stdout
    limits = ems("config", "check", "--config", str(agent.file)).stdout
    assert "measured dead_man" in limits
    assert "(commissioned 20" in limits
    ended = until(lambda: agent.events("commissioning_ended")[1:], "the end is told")
    assert ended[-1]["data"]["result"] == "passed"
    rows = agent.evidence(time.time() - 300, time.time())
    assert {row["trouble"] for row in rows.values()} == {"test"}


def test_a_reversed_meter_is_named_with_what_to_do(parts):
    plant = parts.plant(config=dataclasses.replace(STILL, meter=MeterConfig(positive="import")))
    agent = parts.agent(plant, dead_man=f"{DEAD_MAN_S:g} s").start()
    told = ems("commission", "--auto", socket_path=agent.socket, timeout_s=110)
    text = " ".join(told.stdout.split())
    assert told.returncode == 1, text
    assert "FAILED: grid-meter is reversed: told to discharge the SoC of bess fell" in text
    assert 'turn "positive" of grid-meter in the site file' in text
    assert near(plant.battery_w, 0.0, REST_W)
    until(lambda: ("commissioning_failed", "site") in agent.conditions(), "it is told as long as it stands")
    again = ems("commission", "--last", "--json", socket_path=agent.socket)
    assert json.loads(again.stdout)["result"]["verdict"] == "failed"


def test_a_terminal_is_asked_before_each_movement_and_no_means_no(parts):
    plant = parts.plant()
    agent = parts.agent(plant, dead_man=f"{DEAD_MAN_S:g} s").start()
    refused = ems("commission", socket_path=agent.socket)
    assert (refused.returncode, "--auto" in refused.stderr) == (1, True), "nobody is there to answer"
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "agent.cli.main", "commission"]
    environment = {**os.environ, "EMS_SOCKET": str(agent.socket)}
    with subprocess.Popen(
        command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
    ) as asking:
        os.write(ours, b"y\n")
        until(lambda: _stage(agent) == "waiting", "it asks")
        assert near(plant.battery_w, 0.0, REST_W)
        os.write(ours, b"n\n")
        text = asking.communicate(timeout=30)[0].decode()
    os.close(ours)
    os.close(theirs)
    assert asking.returncode == 1
    assert "25 kW" in text
    assert "stopped by" in text
    assert near(plant.battery_w, 0.0, REST_W)


def _stage(agent):
    now = agent.ask("commission_status")["result"]["running"]
    return now["stage"] if now is not None else None
