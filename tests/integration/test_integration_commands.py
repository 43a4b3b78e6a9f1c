"""Commands end to end: a real broker, a real process, a battery that is seen to move."""

import pytest
from integration_site import command, document, near, until


@pytest.fixture(scope="module")
def site(module_parts, module_mosquitto):
    """(plant, agent, cloud) with a plan of 20 kW in force."""
    broker, plant = module_mosquitto(), module_parts.plant()
    cloud = module_parts.cloud(broker)
    agent = module_parts.agent(plant, broker).start()
    cloud.send(document(1, [20.0] * 3600))
    until(lambda: near(plant.battery_w, 20_000.0), "the plan is executed")
    return plant, agent, cloud


def test_set_power_moves_the_battery_until_its_time_is_over_and_then_the_plan_does(site):
    plant, agent, cloud = site
    cloud.command("set_power", "sp-1", power=-80.0, duration_s=2.0)
    until(lambda: near(plant.battery_w, -80_000.0), "the battery charges")
    status = agent.status()
    assert (status["source"], "sp-1" in status["why"]) == ("command", True)
    cloud.command_ack("sp-1", "done")
    until(lambda: near(plant.battery_w, 20_000.0), "the plan decides again")
    assert [ack["stage"] for ack in cloud.command_acks("sp-1")] == ["accepted", "done"]
    sources = [event["data"]["to"] for event in agent.events("source_changed")]
    assert sources[-2:] == ["command", "rolling"]
