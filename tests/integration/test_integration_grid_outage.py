"""The grid leaves: nothing is set against a battery that may run its island, and it comes back from rest by the ramp."""

from integration_site import SITE_FILE, document, near, until


def test_a_battery_that_the_grid_left_is_set_to_rest_and_comes_back_from_there_by_the_ramp(parts):
    plant = parts.plant()
    text = SITE_FILE.replace("[control]\n", '[control]\nramp_up = "40 kW/s"\n')
    agent = parts.agent(plant, text=text).start()
    agent.import_plan(document(1, [100.0] * 600))
    until(lambda: near(plant.battery_w, 100_000.0), "the plan is executed")
    plant.do(lambda: plant.site.set_ready(ready=False))
    until(lambda: ("not_ready", "bess") in agent.conditions(), "it is told")
    until(lambda: agent.status()["setpoint_w"] == 0.0, "nothing is asked of it")
    assert agent.status()["source"] == "rolling", "the plan stands"
    began = agent.status()["counters"]["writes"]
    ticks = agent.status()["counters"]["ticks"]
    until(lambda: agent.status()["counters"]["ticks"] > ticks + 20, "time passes")
    assert agent.status()["counters"]["writes"] <= began + 1, "and nothing is written against it"
    asked = plant.site._battery_server.asked
    asked.clear()
    plant.do(lambda: plant.site.set_ready(ready=True))
    until(lambda: near(plant.battery_w, 100_000.0), "the plan goes on")
    until(lambda: ("not_ready", "bess") not in agent.conditions(), "and it is told that it is over")
    steps = [request for unit, request in list(asked) if unit == 1 and request[0] in {6, 16}]
    assert len(steps) >= 3, "in steps of the ramp, not in one"
