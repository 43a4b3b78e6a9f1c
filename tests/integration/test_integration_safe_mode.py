"""A daemon that dies again and again: it comes back, and after a crash loop it moves no power until it is told to."""

import pytest
from integration_site import document, ems, near, until

from agent.core.crash_loop import CRASHES


def crashed(agent, times):
    for _ in range(times):
        agent.start()
        agent.kill()


def discharging(parts, broker=None):
    """An agent with a plan that discharges the battery, just killed for the first time."""
    plant = parts.plant()
    agent = parts.agent(plant, broker).start()
    agent.import_plan(document(1, [80.0] * 3000))
    until(lambda: near(plant.battery_w, 80_000.0), "the battery discharges")
    agent.kill()
    return plant, agent


@pytest.mark.timeout(180)
def test_after_a_crash_loop_it_reads_and_reports_and_moves_no_power_until_an_operator_ends_it(parts, mosquitto):
    broker = mosquitto()
    plant, agent = discharging(parts, broker)
    crashed(agent, CRASHES - 2)
    assert agent.start().status()["source"] == "rolling", "five starts are not too many"
    agent.kill()
    cloud = parts.cloud(broker)
    reversions = plant.control.reversions
    agent.start()
    until(lambda: near(plant.battery_w, 0.0, 100.0), "the battery rests")
    assert plant.control.reversions == reversions, "by a setpoint, not by its dead-man"
    status = agent.status()
    assert (status["source"], status["setpoint_w"]) == ("safe_mode", 0.0)
    assert "until an operator runs ems safe-mode end" in status["safe_mode"]["why"]
    (alarm,) = (one for one in agent.events("safe_mode") if one["state"] == "raised")
    assert alarm["severity"] == "alarm"
    until(lambda: cloud.status["source"] == "safe_mode", "the cloud knows")
    cloud.command("set_power", "c-1", power=50.0, duration_s=60.0)
    assert cloud.command_ack("c-1", "rejected")["reason"] == "safe_mode"
    frames = len(cloud.seqs("telemetry"))
    until(lambda: len(cloud.seqs("telemetry")) > frames, "telemetry goes on")
    refused = ems("override", "set", "20", "--for", "1m", "--reason", "try", "--socket", str(agent.socket))
    assert refused.returncode == 1
    assert "ems safe-mode end" in refused.stderr
    assert near(plant.battery_w, 0.0, 100.0)
    done = ems("safe-mode", "end", "--reason", "new firmware", "--socket", str(agent.socket))
    assert (done.returncode, done.stderr) == (0, "")
    until(lambda: near(plant.battery_w, 80_000.0), "the plan is executed again")
    until(lambda: ("safe_mode", "site") not in agent.conditions(), "the alarm is over")
    assert agent.events("safe_mode_ended")[-1]["data"]["reason"] == "new firmware"
    agent.kill()
    assert agent.start().status()["source"] == "rolling", "the count began anew"


def test_a_clean_restart_ends_a_count_of_crashes(parts):
    _, agent = discharging(parts)
    crashed(agent, CRASHES - 2)
    agent.start()
    assert agent.terminate() == 0
    crashed(agent, 1)
    assert agent.start().status()["source"] == "rolling"
