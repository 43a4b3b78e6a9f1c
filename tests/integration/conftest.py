"""One site per test, built from parts that a test may kill."""

import pytest
from integration_acme import Acme
from integration_site import Agent, CountingCloud, SitePlant, document, near, until

from tests.in_thread import InThread


class Parts:
    """Makes plants, agents and clouds, and ends them."""

    def __init__(self, new_folder):
        self._new_folder = new_folder
        self._made = []

    def plant(self, **options):
        return self._keep(SitePlant(**options))

    def agent(self, plant, broker=None, **options):
        if broker is not None:
            options["broker"] = broker.url
        return self._keep(Agent(self._new_folder("agent"), plant, **options))

    def cloud(self, broker, **options):
        return self._keep(CountingCloud(broker, **options))

    def acme(self):
        return self._keep(Acme())

    def _keep(self, part):
        self._made.append(part)
        return part

    def close(self):
        for part in sorted(self._made, key=lambda made: isinstance(made, InThread)):
            part.close()


@pytest.fixture
def parts(tmp_path_factory):
    made = Parts(tmp_path_factory.mktemp)
    yield made
    made.close()


@pytest.fixture(scope="module")
def module_parts(tmp_path_factory):
    made = Parts(tmp_path_factory.mktemp)
    yield made
    made.close()


@pytest.fixture
def site(parts):
    """A site without a cloud whose battery discharges 70 kW by plan."""
    plant = parts.plant()
    agent = parts.agent(plant).start()
    agent.import_plan(document(1, [70.0] * 600))
    until(lambda: near(plant.battery_w, 70_000.0), "the plan is executed")
    until(lambda: near(agent.status()["powers_w"]["battery"], 70_000.0), "and measured")
    until(lambda: near(agent.status()["powers_w"]["grid"], 90_000.0), "at the connection point too")
    return plant, agent
