"""A device that only a profile describes, under the whole daemon: taken over, driven by a plan, given back."""

from types import SimpleNamespace

import pytest
from integration_profile_plant import SITE_FILE
from integration_site import Agent, document, near, until

from simulators.modbus_server import ILLEGAL_ADDRESS, ModbusServer, RequestRefusedError
from tests.in_thread import InThread

SELF_CONSUMPTION, FORCED, EXTERNAL = 0, 2, 3
CHARGE, DISCHARGE, STOP = 0xAA, 0xBB, 0xCC
MODE, COMMAND, POWER, HEARTBEAT = 13049, 13050, 13051, 13079


class Inverter(InThread):
    """A hybrid inverter by hand: the battery does at once what the three registers say, in external mode only."""

    def __init__(self, mode):
        self.holding = {MODE: mode, COMMAND: STOP, POWER: 0, HEARTBEAT: 0}
        holding = SimpleNamespace(read=self._read, write=self._write)
        inputs = SimpleNamespace(read=lambda address, count: packed(self.inputs(address, count)))
        server = ModbusServer({1: holding}, inputs={1: inputs})
        super().__init__(server)
        self.battery_port = self.gateway_port = server.port

    @property
    def battery_w(self):
        sign = {CHARGE: -1, DISCHARGE: 1}.get(self.holding[COMMAND], 0)
        return sign * self.holding[POWER] if self.holding[MODE] == EXTERNAL else 0

    def inputs(self, address, count):
        power = self.battery_w % (1 << 32)
        known = {
            4999: 0xE03,
            5000: 100,
            5213: power & 0xFFFF,
            5214: power >> 16,
            5627: 100,
            5634: 50,
            5635: 50,
            5638: 960,
        }
        known |= {13019: 2000, 13022: 500, 13023: 1000, 13024: 250}
        return [known.get(at, 0) for at in range(address, address + count)]

    def _read(self, address, count):
        if any(at not in self.holding for at in range(address, address + count)):
            raise RequestRefusedError(ILLEGAL_ADDRESS)
        return packed([self.holding[at] for at in range(address, address + count)])

    def _write(self, address, data):
        assert len(data) == 2, "this device takes one register at a time"
        if address not in self.holding:
            raise RequestRefusedError(ILLEGAL_ADDRESS)
        self.holding[address] = int.from_bytes(data, "big")


def packed(registers):
    return b"".join(register.to_bytes(2, "big") for register in registers)


@pytest.fixture
def inverter():
    made = Inverter(FORCED)
    yield made
    made.close()


@pytest.fixture
def agent(inverter, tmp_path):
    made = Agent(tmp_path, inverter, text=SITE_FILE, profile="sungrow-sh")
    yield made
    made.close()


def test_a_plan_drives_it_and_a_clean_stop_gives_it_back(inverter, agent):
    agent.start()
    until(lambda: inverter.holding[MODE] == EXTERNAL, "it is taken over")
    agent.import_plan(document(1, [3.0] * 600))
    until(lambda: inverter.battery_w == 3000, "the plan is executed")
    assert inverter.holding[HEARTBEAT] == 30
    until(lambda: near(agent.status()["powers_w"]["battery"], 3000.0, 1.0), "and measured")
    device = agent.device("bess")
    assert (device["health"], device["identity"]) == ("good", "Sungrow SH10RT")
    shown_to_a_technician(agent)
    agent.import_plan(document(2, [-2.0] * 600))
    until(lambda: inverter.battery_w == -2000, "the other direction too")
    until(lambda: agent.status()["counters"]["writes_verified"] >= 3, "each setpoint is verified")
    assert agent.status()["counters"]["writes_failed"] == 0
    assert agent.terminate() == 0
    assert inverter.holding == {MODE: FORCED, COMMAND: STOP, POWER: 0, HEARTBEAT: 30}


def shown_to_a_technician(agent):
    """The running daemon shows the device over its own connection."""
    (line,) = agent.ask("devices")["result"]
    assert (line["device_id"], line["maker"], line["health"]) == ("bess", "Sungrow", "good")
    assert line["age_s"] < 5.0
    assert line["link"]["connects"] == 1
    found = agent.ask("device_read", device_id="bess", points=["battery_soc", "ems_mode"])["result"]
    assert found["identified"]
    assert [(p["point"], p["value"], p["label"]) for p in found["points"]] == [
        ("battery_soc", 50.0, None),
        ("ems_mode", 3, "external"),
    ]
    refused = agent.ask("device_read", device_id="bess", points=["none"])
    assert "the profile has no point 'none'" in refused["error"]["why"]
    refused = agent.ask("device_read", device_id="none")
    assert (refused["ok"], refused["error"]["next"]) == (False, "name one of bess")


def test_the_owners_mode_survives_that_the_agent_is_killed(inverter, agent):
    agent.start()
    until(lambda: inverter.holding[MODE] == EXTERNAL, "it is taken over")
    agent.kill()
    agent.start()
    until(lambda: agent.status()["counters"]["writes_verified"], "the next run goes on")
    assert agent.terminate() == 0
    assert inverter.holding[MODE] == FORCED, "not self-consumption, which stands in where nothing is known"


def test_another_inverter_at_its_address_is_never_written_to(inverter, agent):
    inverter.inputs = lambda address, count: [0] * count
    agent.start()
    until(
        lambda: (agent.device("bess")["last_error"] or "").find("nothing is written to it") > 0,
        "the mismatch is told",
    )
    until(lambda: agent.device("bess")["failures"] >= 3, "it is tried again")
    assert inverter.holding == {MODE: FORCED, COMMAND: STOP, POWER: 0, HEARTBEAT: 0}
