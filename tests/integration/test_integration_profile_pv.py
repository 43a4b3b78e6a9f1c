"""A PV inverter that only a profile describes is limited by the daemon like a SunSpec one, and let go again."""

import pytest
from integration_site import SITE_FILE, near, until

from drivers.profile.load import load
from simulators.modbus_server import ModbusServer
from simulators.profile_device import ProfileDevice

PROFILE = """\
schema = 1
about = { maker = "Acme", models = ["P100"], source = "made up for a test", date = 2026-11-21 }
identity = { model = "model", check = [{ point = "model", matches = "P100" }] }
[points]
model = { address = 10, type = "string", length = 2 }
power = { address = 20, type = "u32", unit = "W", positive = "generation" }
most  = { address = 22, type = "u32", unit = "W", positive = "magnitude" }
limit = { address = 30, type = "u16", scale = 0.1, unit = "%", positive = "generation", write = "volatile" }
timer = { address = 31, type = "u16", unit = "s", write = "volatile" }
[pv]
power_w = "power"
"""
CONTROL = """\
[pv.control]
dead_man = { point = "timer", reverts_to = "own_control" }
setpoint = [{ write = { point = "limit", from = "power", of = "most" } }]
release = [{ write = { point = "limit", set = 100 } }]
"""
PV = """\
id = "pv"
profile = "acme-pv"
rated_power = "100 kW"
can_be_limited = true
raise_after = "1 s"
dead_man = "30 s"
"""


class Inverter:
    """The device beside the plant's others, fed by the same sun."""

    def __init__(self, plant, profile):
        self._plant = plant
        self.device = ProfileDevice(profile, plant.site.plant, plant.site.advance_to_now, 2)
        self._server = ModbusServer(self.device.units)
        plant.call(self._server.start())
        self.port = self._server.port

    def close(self):
        self._plant.call(self._server.stop())


@pytest.fixture
def site(parts, tmp_path):
    """A daemon on a site whose battery is stopped and that must not export; its PV has a profile with this control."""
    made = []

    def start(control):
        file = tmp_path / "acme-pv.toml"
        file.write_text(PROFILE + control)
        plant = parts.plant()
        inverter = Inverter(plant, load(file))
        made.append(inverter)
        plant.do(lambda: plant.site.set_ready(False))
        text = SITE_FILE.replace('export_limit = "600 kW"', 'export_limit = "0 kW"').replace('id = "pv"\n', PV)
        agent = parts.agent(plant, text=text, pv_port=inverter.port)
        (agent.folder / "profiles").mkdir()
        (agent.folder / "profiles" / "acme-pv.toml").write_text(PROFILE + control)
        return plant, inverter, agent.start()

    yield start
    for inverter in made:
        inverter.close()


def test_it_is_limited_while_nothing_may_go_out_and_lifted_when_the_battery_takes_it(site):
    plant, inverter, agent = site(CONTROL)
    until(lambda: near(plant.truth().pv_w, 29e3), "PV gives what the load takes, less its dead band")
    until(lambda: ("pv_limited", "pv") in agent.conditions(), "it is told")
    assert agent.ask("explain")["result"]["last_outcomes"]["pv"]["confirmed"]
    assert inverter.device.value("timer") == 30.0
    plant.do(lambda: plant.site.set_ready(True))
    until(lambda: near(plant.truth().pv_w, 50e3), "the battery absorbs, PV is let go")
    assert inverter.device.value("limit") == 100.0


def test_without_a_control_in_its_profile_it_is_named_as_one_that_cannot_be_limited(site):
    plant, _, agent = site("")
    event = until(lambda: agent.events("pv_cannot_be_limited"), "it is told")[0]
    assert "[pv.control] in its profile" in event["text"]
    assert near(plant.truth().pv_w, 50e3)
