"""Rows of the fault matrix that are about control, through the real daemon: `docs/reliability.md` lists them all."""

import pytest
from integration_site import SITE_FILE, document, ems, near, until

from simulators.modbus_units import ILLEGAL_ADDRESS, ILLEGAL_VALUE, RequestRefusedError

TWO_S = 2.0
HOLE = "802.State"


@pytest.mark.parametrize("code", [4, 0xF0])
def test_a_battery_that_answers_only_exceptions_is_a_device_fault_and_the_site_rests(site, code):
    plant, agent = site
    plant.faults["battery"].exception = code
    until(lambda: agent.device("bess")["failures"] >= 3, "three samples in a row fail")
    assert agent.device("bess")["health"] == "failing"
    agent.told("device_silent", "bess")
    assert agent.status()["setpoint_w"] == 0.0
    plant.faults["battery"].exception = None
    agent.told("device_silent", "bess", "cleared")
    until(lambda: near(plant.battery_w, 70_000.0), "the plan goes on")


def test_a_battery_behind_a_connection_that_went_half_open_is_back_within_the_time_of_a_good_reading(site):
    plant, agent = site
    before = agent.listed("bess")["link"]["reconnects"]
    plant.faults["battery"].half_open = True
    until(lambda: agent.listed("bess")["link"]["reconnects"] > before, "the connection is replaced")
    until(lambda: agent.device("bess")["health"] == "good", "and the battery is read again")
    assert agent.events("device_silent") == [], "no reading became too old"
    assert near(plant.battery_w, 70_000.0)


def test_a_unit_that_is_silent_behind_a_gateway_rests_and_its_neighbour_keeps_its_cadence(site):
    plant, agent = site
    plant.faults["pv"].silent = True
    alarm = agent.told("unit_resting", "pv")
    assert "left alone but for single trials" in alarm["text"]
    assert agent.listed("pv")["unit"]["state"] in ("resting", "probing")
    assert agent.listed("grid-meter")["unit"]["state"] == "answering"
    assert ("unit_resting", "pv") in agent.conditions()
    shown = ems("devices", "list", socket_path=agent.socket)
    assert "unit LEFT ALONE after" in shown.stdout
    assert "is left alone but for" in " ".join(ems("status", socket_path=agent.socket).stdout.split())
    before, uptime_s = agent.device("grid-meter"), agent.status()["uptime_s"]
    until(lambda: agent.status()["uptime_s"] > uptime_s + TWO_S, "some time passes")
    after, passed_s = agent.device("grid-meter"), agent.status()["uptime_s"] - uptime_s
    assert after["failures"] == before["failures"]
    assert after["polls"] - before["polls"] > 0.6 * passed_s / 0.2
    plant.faults["pv"].silent = False
    agent.told("unit_resting", "pv", "cleared")
    until(lambda: agent.device("pv")["health"] == "good", "it is read again")


@pytest.mark.parametrize(
    "fault", ["truncated", "duplicate", "late", "wrong_transaction", "zero_transaction", "flip_bits"]
)
def test_whatever_a_broken_line_brings_is_no_number_and_the_daemon_lives(site, fault):
    plant, agent = site
    setattr(plant.faults["meter"], fault, 3 if fault == "flip_bits" else True)
    seen = []

    def long_enough():
        seen.append(agent.status()["powers_w"]["grid"])
        device = agent.device("grid-meter")
        return device["failures"] >= 3 or (fault == "duplicate" and device["polls"] > 30)

    until(long_enough, "some readings fail, or come twice")
    true_w = plant.truth().grid_w
    assert all(value is None or near(value, true_w, 3_000.0) for value in seen), (true_w, seen)
    setattr(plant.faults["meter"], fault, 0 if fault == "flip_bits" else False)
    until(lambda: agent.device("grid-meter")["health"] == "good", "it is read again")
    assert agent.process.poll() is None


def test_a_setpoint_that_the_device_refuses_is_not_applied_and_told(site):
    plant, agent = site
    before = agent.status()["counters"]["writes_verified"]
    battery = plant.site.battery
    battery.write = refusing
    agent.import_plan(document(2, [20.0] * 600))
    agent.told("setpoint_refused", "bess")
    outcome = agent.ask("explain")["result"]["last_outcomes"]["bess"]
    assert (outcome["confirmed"], outcome["wanted_w"]) == (False, 20_000.0)
    assert "exception 3" in outcome["reason"]
    assert agent.status()["counters"]["writes_verified"] == before
    assert near(plant.battery_w, 70_000.0)
    del battery.write
    until(lambda: near(plant.battery_w, 20_000.0), "the plan goes on")


def test_a_battery_that_takes_five_seconds_fails_by_itself_and_the_others_keep_their_cadence(site):
    plant, agent = site
    plant.faults["battery"].delay_s = 5.0
    before = {device["device_id"]: device for device in agent.status()["devices"]}
    uptime_s = agent.status()["uptime_s"]
    until(lambda: agent.device("bess")["failures"] - before["bess"]["failures"] >= 3, "it is too slow three times")
    until(lambda: agent.status()["uptime_s"] > uptime_s + TWO_S, "some time passes")
    status = agent.status()
    passed_s = status["uptime_s"] - uptime_s
    for device in status["devices"][1:]:
        assert device["failures"] == before[device["device_id"]]["failures"]
        assert device["polls"] - before[device["device_id"]]["polls"] > 0.6 * passed_s / 0.2
    plant.faults["battery"].delay_s = 0.0
    until(lambda: agent.device("bess")["health"] == "good", "it is read again")
    until(lambda: near(plant.battery_w, 70_000.0), "and follows the plan")


def refusing(address, data):
    """Instead of a device's `write`."""
    raise RequestRefusedError(ILLEGAL_VALUE)


READ_ONLY = '[control]\nmode = "read_only"\n'


def test_in_the_read_only_mode_everything_is_read_and_decided_and_nothing_written(parts):
    plant = parts.plant()
    agent = parts.agent(plant, text=SITE_FILE.replace("[control]\n", READ_ONLY)).start()
    agent.import_plan(document(1, [90.0] * 600))
    until(lambda: agent.status()["target_w"] == 90_000.0, "the plan is decided")
    status = agent.status()
    assert status["mode"] == "read_only"
    assert ("read_only", "site") in agent.conditions()
    assert near(status["powers_w"]["pv"], 50_000.0)
    assert (status["counters"]["writes"], plant.battery_w) == (0, 0.0)
    assert agent.listed("bess")["link"]["read_only"] is True
    assert "read-only mode" in " ".join(ems("status", socket_path=agent.socket).stdout.split())
    assert agent.terminate() == 0
    written = [pdu[0] for _, pdu in plant.site._battery_server.asked if pdu[0] not in (3, 4)]
    assert written == []


def test_registers_that_a_device_refuses_are_told_once_and_the_rest_is_read(parts):
    plant = parts.plant()
    battery = plant.site.battery
    hole, whole = battery.image.address(HOLE), battery.read

    def read(address, count):
        if address <= hole < address + count:
            raise RequestRefusedError(ILLEGAL_ADDRESS)
        return whole(address, count)

    battery.read = read
    agent = parts.agent(plant).start()
    event = until(lambda: agent.events("point_refused"), "the refusal is told")[0]
    assert (event["subject"], event["data"]["point"]) == ("bess", HOLE)
    assert (event["data"]["address"], event["data"]["exception"]) == (hole, 2)
    polls = agent.device("bess")["polls"]
    until(lambda: agent.device("bess")["polls"] > polls + 10, "it is read on")
    assert len(agent.events("point_refused")) == 1
    assert agent.device("bess")["failures"] == 0
    assert near(agent.status()["soc_pct"], 50.0, 5.0)
    assert list(agent.listed("bess")["refused"]) == [HOLE]
    asked = [int.from_bytes(pdu[1:3], "big") for _, pdu in plant.site._battery_server.asked][-20:]
    assert hole not in asked
