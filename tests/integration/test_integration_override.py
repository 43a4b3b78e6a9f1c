"""Override and safety latch end to end: the `ems` command, a real process, a battery that is seen to move and to rest."""

import json

import pytest
from integration_site import document, ems, near, until

MANUAL_SHUTDOWN = 1 << 6
PLAN_W = 20_000.0


@pytest.fixture
def site(parts):
    """(plant, agent) with a plan of 20 kW in force."""
    plant = parts.plant()
    agent = parts.agent(plant).start()
    agent.import_plan(document(1, [PLAN_W / 1e3] * 3600))
    until(lambda: near(plant.battery_w, PLAN_W), "the plan is executed")
    return plant, agent


def told(agent, *arguments):
    done = ems(*arguments, socket_path=agent.socket)
    return done.returncode, done.stdout + done.stderr


def newest(agent, code):
    """The newest event of this code, once there is one."""
    return until(lambda: agent.events(code), f"an event {code}")[-1]


def test_an_override_decides_over_a_restart_until_it_is_cleared(site):
    plant, agent = site
    code, text = told(agent, "override", "set", "-50", "--for", "20m", "--reason", "trying the charger")
    assert (code, "override -50.0 kW at the battery until" in text) == (0, True), text
    until(lambda: near(plant.battery_w, -50_000.0), "the battery charges")
    event = newest(agent, "override_set")
    assert (event["data"]["power_w"], event["data"]["reason"]) == (-50_000.0, "trying the charger")
    agent.kill()
    agent.start()
    status = agent.status()
    assert (status["source"], status["override"]["reason"]) == ("override", "trying the charger")
    assert "override -50.0 kW at the battery" in told(agent, "status")[1]
    assert "technician's override" in told(agent, "explain")[1].replace("\n", " ")
    assert told(agent, "override", "clear")[0] == 0
    until(lambda: near(plant.battery_w, PLAN_W), "the plan decides again")
    assert newest(agent, "override_ended")["data"]["cleared_by"]
    agent.kill()
    agent.start()
    assert agent.status()["override"] is None, "a restart does not bring it back"


def test_an_override_ends_by_itself(site):
    plant, agent = site
    assert told(agent, "override", "set", "30", "--for", "2s", "--reason", "a look")[0] == 0
    until(lambda: near(plant.battery_w, 30_000.0), "the override decides")
    until(lambda: near(plant.battery_w, PLAN_W), "the plan decides again")
    assert "cleared_by" not in newest(agent, "override_ended")["data"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["set", "10", "--for", "25h", "--reason", "x"], "it must end by itself"),
        (["set", "10", "--for", "soon", "--reason", "x"], "is not a time"),
        (["set", "9000", "--reason", "x"], "beyond 1.05 times the battery rating"),
        (["set", "10", "--at", "moon", "--reason", "x"], "a target (battery or grid)"),
        (["set", "10", "--reason", " "], "a reason of 1 to 200 characters"),
        (["clear"], "no override is set"),
    ],
)
def test_what_cannot_be_overridden_is_refused_in_words(site, arguments, why):
    _, agent = site
    code, text = told(agent, "override", *arguments)
    assert (code, why in " ".join(text.split())) == (1, True), text
    assert agent.status()["source"] == "rolling"


def test_an_emergency_stop_latches_over_override_and_restart_until_it_is_reset_on_site(site):
    plant, agent = site
    told(agent, "override", "set", "40", "--reason", "a test")
    until(lambda: near(plant.battery_w, 40_000.0), "the override decides")
    assert "no safety latch has fallen" in told(agent, "latch", "reset", "--reason", "none")[1]
    plant.raise_alarm(MANUAL_SHUTDOWN)
    until(lambda: near(plant.battery_w, 0.0, 100.0), "the battery rests")
    until(lambda: agent.status()["source"] == "latch", "the latch decides")
    assert ("safety_latched", "bess") in agent.conditions()
    code, text = told(agent, "latch", "reset", "--reason", "too early")
    assert (code, "the alarm stands: emergency stop" in text) == (1, True), text
    plant.raise_alarm(0)
    agent.kill()
    agent.start()
    status = agent.status()
    assert (status["source"], [latch["device_id"] for latch in status["latches"]]) == ("latch", ["bess"])
    assert near(plant.battery_w, 0.0, 100.0)
    until(lambda: told(agent, "latch", "reset", "--reason", "button released")[0] == 0, "fresh readings came")
    until(lambda: near(plant.battery_w, 40_000.0), "the override decides again")
    event = newest(agent, "latch_reset")
    assert (event["subject"], event["data"]["reason"]) == ("bess", "button released")
    assert json.loads(ems("status", "--json", socket_path=agent.socket).stdout)["result"]["latches"] == []
