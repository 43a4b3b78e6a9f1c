"""A device that nobody here has seen: its profile written from a register list and the docs alone, under the daemon.

It runs twice: on a device written by hand from the register list, which knows nothing of the profile, and on the one
that is generated from the profile.
"""

import time
from pathlib import Path

import pytest
from integration_profile_plant import SITE_FILE, ProfilePlant
from integration_site import Agent, document, near, until

from drivers.profile.load import examine, load
from simulators.modbus_server import ILLEGAL_ADDRESS, ILLEGAL_VALUE, ModbusServer, RequestRefusedError
from tests.in_thread import InThread

PROFILE = Path(__file__).parent / "unseen" / "nordwind-ess.toml"
INIT, STANDBY, STARTING, RUNNING, FAULT = 0, 1, 2, 3, 4
START, STOP = 0x55AA, 0xAA55
AUTHORITY, COMMAND, ACKNOWLEDGE, DIRECTION, WATCHDOG = 100, 101, 102, 103, 108
"""Addresses on the wire: one less than in the register list."""
RATED_W = 60_000


def low_first(value):
    return [value & 0xFFFF, value >> 16 & 0xFFFF]


def letters(text, registers):
    data = text.encode().ljust(2 * registers, b"\0")
    return [data[at] * 256 + data[at + 1] for at in range(0, 2 * registers, 2)]


class Nordwind(InThread):
    """The device as its register list tells; it gives at once what it is told."""

    def __init__(self):
        self.state, self.authority, self.alarms = FAULT, 0, 0
        self.direction, self.charge_w, self.discharge_w = 0, 0, 0
        self.watchdog_s = 0
        self.key_switch, self.type = 1, "NW-ESS-60"
        self.eeprom_writes, self.log, self.expired = 0, [], 0
        self._fed_s = self._start_s = 0.0
        inputs = type("Inputs", (), {"read": staticmethod(self.read_inputs)})
        server = ModbusServer({1: self}, inputs={1: inputs})
        super().__init__(server)
        self.battery_port = self.gateway_port = server.port

    @property
    def power_w(self):
        """Positive takes power from the grid, as the maker has it."""
        self._live()
        if self.state != RUNNING or self.authority != 1 or self.key_switch != 1:
            return 0
        return {1: self.charge_w, 2: -self.discharge_w}.get(self.direction, 0)

    def _live(self):
        now_s = time.monotonic()
        if self.state == STARTING and now_s - self._start_s > 0.3:
            self.state = RUNNING
        if self.direction and self.watchdog_s and now_s - self._fed_s > self.watchdog_s:
            self.direction, self.expired = 0, self.expired + 1

    def inputs(self):
        power_w = self.power_w % (1 << 32)
        listed = {
            1: letters(self.type, 8), 9: letters("NW0815", 6), 15: letters("2.3", 2), 21: [self.state, self.key_switch],
            23: low_first(self.alarms), 31: low_first(power_w), 33: [0xFFFF, 0x7FFF], 35: [5001], 41: [555, 990],
            43: low_first(12_000), 45: low_first(RATED_W), 47: low_first(RATED_W), 49: [250, 3400, 3300],
            61: low_first(RATED_W),
        }  # fmt: skip
        return {start - 1 + index: word for start, words in listed.items() for index, word in enumerate(words)}

    def read_inputs(self, address, count):
        assert count <= 50, "the device takes no more"
        known = self.inputs()
        if not any(at in known for at in range(address, address + count)):
            raise RequestRefusedError(ILLEGAL_ADDRESS)
        return packed([known.get(at, 0) for at in range(address, address + count)])

    def read(self, address, count):
        held = [self.authority, 0, 0, self.direction, *low_first(self.charge_w), *low_first(self.discharge_w)]
        known = dict(enumerate([*held, self.watchdog_s], start=AUTHORITY))
        if any(at not in known for at in range(address, address + count)):
            raise RequestRefusedError(ILLEGAL_ADDRESS)
        return packed([known[at] for at in range(address, address + count)])

    def write(self, address, data):
        self._live()
        words = [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]
        self.log.append((address + 1, *words))
        if address == AUTHORITY and len(words) == 1:
            self.authority, self.eeprom_writes = words[0], self.eeprom_writes + 1
        elif address == COMMAND and words == [START] and self.state != FAULT:
            self.state, self._start_s = STARTING, time.monotonic()
        elif address == COMMAND and words == [STOP]:
            self.state = STANDBY
        elif address == ACKNOWLEDGE and words == [1]:
            self.state = STANDBY if self.state == FAULT else self.state
        elif address == DIRECTION and len(words) == 5:
            self.direction, self._fed_s = words[0], time.monotonic()
            self.charge_w, self.discharge_w = words[1] + (words[2] << 16), words[3] + (words[4] << 16)
        elif address == WATCHDOG and len(words) == 1 and 5 <= words[0] <= 300:
            self.watchdog_s, self._fed_s = words[0], time.monotonic()
        else:
            raise RequestRefusedError(ILLEGAL_VALUE)


def packed(registers):
    return b"".join(register.to_bytes(2, "big") for register in registers)


def an_agent(folder, device, dead_man="30 s"):
    made = Agent(folder, device, text=SITE_FILE, profile="nordwind-ess", dead_man=dead_man)
    (folder / "profiles").mkdir()
    (folder / "profiles" / "nordwind-ess.toml").write_text(PROFILE.read_text())
    return made


def last_reason(agent):
    """Why the last setpoint was not confirmed, "" if it was."""
    return agent.ask("explain")["result"]["last_outcomes"].get("bess", {"reason": ""})["reason"]


@pytest.fixture
def device():
    made = Nordwind()
    yield made
    made.close()


@pytest.fixture
def agent(tmp_path, device):
    made = an_agent(tmp_path, device, dead_man="5 s")
    yield made
    made.close()


def test_its_profile_has_less_than_60_lines_and_is_checked():
    assert len(PROFILE.read_text().splitlines()) < 60
    profile, problems = examine(PROFILE)
    assert profile is not None
    assert [problem.where for problem in problems] == ["about.tried"], "only that nobody has tried it on hardware"


def test_a_plan_drives_it_both_ways_its_watchdog_ends_what_a_dead_agent_left_and_its_owner_has_it_back(agent, device):
    agent.start()
    until(lambda: device.state == RUNNING, "the fault is acknowledged, it is taken over and started")
    assert [entry for entry in device.log if entry[0] < 104] == [(103, 1), (101, 1), (102, START)]
    agent.import_plan(document(1, [3.0] * 600))
    until(lambda: device.power_w == -3000, "it discharges")
    until(lambda: near(agent.status()["powers_w"]["battery"], 3000.0, 1.0), "and that is measured in our sign")
    status, explained = agent.status(), agent.ask("explain")["result"]
    assert status["soc_pct"] == 55.5
    assert agent.device("bess")["identity"] == "Nordwind NW-ESS-60 serial NW0815"
    until(lambda: agent.ask("explain")["result"]["verdicts"] == {"bess": "owned"}, "delivered")
    assert explained["last_outcomes"]["bess"]["confirmed"]
    agent.import_plan(document(2, [-4.5] * 600))
    until(lambda: device.power_w == 4500, "it charges")
    agent.kill()
    until(lambda: device.power_w == 0 and device.expired == 1, "its watchdog ends the setpoint")
    agent.start()
    until(lambda: device.power_w == 4500, "the next run goes on")
    assert agent.terminate() == 0
    assert (device.power_w, device.direction, device.authority) == (0, 0, 0)
    assert device.eeprom_writes == 2, "the register that wears out is written to take over and to give back"


def test_what_it_says_of_an_emergency_stop_stops_the_site_until_somebody_resets_it(agent, device):
    agent.start()
    agent.import_plan(document(1, [3.0] * 600))
    until(lambda: device.power_w == -3000, "it discharges")
    device.alarms = 1 << 5
    until(lambda: ("safety_latched", "bess") in agent.conditions(), "the latch falls")
    until(lambda: device.power_w == 0, "it rests")
    device.alarms = 0
    ticks = agent.status()["counters"]["ticks"]
    until(lambda: agent.status()["counters"]["ticks"] > ticks + 5, "the alarm is gone for a while")
    assert device.power_w == 0


def test_in_local_it_is_left_alone_and_told(agent, device):
    device.key_switch = 0
    agent.start()
    agent.import_plan(document(1, [3.0] * 600))
    until(lambda: ("not_ready", "bess") in agent.conditions(), "it is told")
    until(lambda: agent.device("bess")["polls"] > 10, "it is read on")
    assert device.log == []


def test_the_register_that_wears_out_is_written_within_its_days_budget_over_a_restart(agent, device):
    file = agent.folder / "profiles" / "nordwind-ess.toml"
    file.write_text(PROFILE.read_text() + "stored_writes_per_day = 3\n")

    def given_back(writes):
        """Somebody takes the device away; the agent takes it over again."""
        until(lambda: device.authority == 1, "it is under control")
        device.authority = 0
        until(lambda: device.eeprom_writes == writes and device.authority == 1, "it is taken over again")

    agent.start()
    given_back(2)
    agent.kill()
    agent.start()
    given_back(3)
    until(lambda: ("stored_writes_spent", "bess") in agent.conditions(), "it is told")
    device.authority = 0
    until(lambda: "are spent" in last_reason(agent), "and refused")
    assert (device.authority, device.eeprom_writes) == (0, 3)


def test_another_device_is_never_written_to(agent, device):
    device.type = "NE-ESS-60"
    agent.start()
    until(lambda: ("wrong_identity", "bess") in agent.conditions(), "it is told")
    until(lambda: agent.device("bess")["failures"] >= 3, "it is tried again")
    assert device.log == []


def test_the_device_that_is_generated_from_the_profile_runs_in_the_daemon_too(tmp_path):
    plant = ProfilePlant(load(PROFILE))
    agent = an_agent(tmp_path, plant)
    try:
        agent.start()
        agent.import_plan(document(1, [2.0] * 600))
        until(lambda: near(plant.battery_w, 2000.0, 50.0), "the plan is executed")
        until(lambda: agent.ask("explain")["result"]["verdicts"] == {"bess": "owned"}, "and delivered")
        agent.import_plan(document(2, [-2.0] * 600))
        until(lambda: near(plant.battery_w, -2000.0, 50.0), "the other direction too")
        assert agent.terminate() == 0
        assert plant.do(lambda: plant.site.device.value("authority")) == 0
    finally:
        agent.close()
        plant.close()
