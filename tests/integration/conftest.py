"""One site per test, built from parts that a test may kill."""

import pytest
from integration_site import Agent, CountingCloud, SitePlant


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

    def _keep(self, part):
        self._made.append(part)
        return part

    def close(self):
        for part in sorted(self._made, key=lambda made: isinstance(made, SitePlant)):
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
