"""Another device than the site file and the profile describe: told everywhere, never written to; and the check of one."""

import json

import pytest
from integration_acme import FAN, KIND, MODE, SITE_FILE, acme_agent
from integration_site import ems, until


@pytest.fixture
def acme(parts):
    return parts.acme()


def test_a_device_that_is_none_of_its_profile_is_told_everywhere_and_never_written_to(parts, acme):
    acme.registers[KIND] = 8
    agent = acme_agent(parts.agent, parts.plant(), acme).start()
    raised = agent.told("wrong_identity", "acme")
    assert raised["severity"] == "alarm"
    assert "kind is 7 is expected, it says 8" in raised["text"]
    assert agent.device("acme")["health"] == "wrong_identity"
    assert ("wrong_identity", "acme") in agent.conditions()
    assert "WRONG_IDENTITY" in ems("devices", "list", socket_path=agent.socket).stdout
    refused = ems("devices", "write", "acme", "fan", "50", "--yes", socket_path=agent.socket)
    assert refused.returncode == 1
    assert "nothing is written to it" in refused.stderr
    checked = ems("devices", "check", "acme", socket_path=agent.socket)
    assert checked.returncode == 1
    assert checked.stdout.startswith("acme: NOT as it should be\nERROR    identity: ")
    until(lambda: agent.device("acme")["failures"] >= 3, "it is looked at again")
    assert acme.writes == []
    acme.registers[KIND] = 7
    agent.told("wrong_identity", "acme", "cleared")
    until(lambda: acme.registers[MODE] == 1, "and now it is taken over")
    assert agent.device("acme")["health"] == "good"


def test_a_sunspec_device_with_another_serial_number_is_never_written_to_either(parts, acme):
    text = SITE_FILE.replace('id = "bess"', 'id = "bess"\nexpected_serial = "SIM-BATTERY-2"')
    plant = parts.plant()
    agent = acme_agent(parts.agent, plant, acme, text=text).start()
    raised = agent.told("wrong_identity", "bess")
    assert "should have the serial 'SIM-BATTERY-2', but 'SIM-BATTERY-1' answers" in raised["text"]
    assert agent.listed("bess")["health"] == "wrong_identity"
    refused = ems("devices", "write", "bess", "704.WSetPct", "1", "--yes", socket_path=agent.socket)
    assert "nothing is written to it" in refused.stderr
    until(lambda: agent.device("bess")["failures"] >= 3, "it is looked at again")
    assert all(pdu[0] in (3, 4) for _, pdu in list(plant.site._battery_server.asked)), "only reads"
    until(lambda: acme.registers[MODE] == 1, "the other battery is led all the same")


def test_a_sound_device_passes_the_check_with_what_is_worth_knowing(parts, acme):
    agent = acme_agent(parts.agent, parts.plant(), acme).start()
    until(lambda: agent.device("acme")["health"] == agent.device("bess")["health"] == "good", "both are read")
    until(lambda: acme.registers[MODE] == 1, "it is taken over")
    done = ems("devices", "check", "acme", socket_path=agent.socket)
    assert (done.returncode, done.stderr) == (0, "")
    text = " ".join(done.stdout.split())
    assert text.startswith("acme: it is as it should be ok identity: Acme X1 ")
    assert "WARNING points: not offered: gone" in text
    assert "ok stored registers: 2 writes" in text
    assert "WARNING dead-man: it would hold its last setpoint for ever" in text
    assert all(len(line) < 80 for line in done.stdout.splitlines())
    found = json.loads(ems("devices", "check", "bess", "--json", socket_path=agent.socket).stdout)["result"]
    assert found["usable"] is True
    verdicts = {(one["what"], one["verdict"]) for one in found["found"]}
    assert {("identity", "ok"), ("rated power", "ok"), ("remote", "ok"), ("dead-man", "ok")} <= verdicts
    assert ("serial number", "warning") in verdicts
    unknown = ems("devices", "check", "none", socket_path=agent.socket)
    assert (unknown.returncode, "devices are bess, acme, grid-meter" in unknown.stderr) == (2, True)
    acme.registers[FAN], acme.registers[12] = 99, 101
    odd = ems("devices", "check", "acme", socket_path=agent.socket)
    assert odd.returncode == 1
    text = " ".join(odd.stdout.split())
    assert "ERROR points: cannot be true: soc" in text
    assert "WARNING limits: fan holds 99, outside of 20 to 80 %" in text


def test_a_nameplate_that_is_not_that_of_the_site_file_is_worth_a_warning(parts, acme):
    text = SITE_FILE.replace('rated_power = "500 kW"', 'rated_power = "400 kW"')
    agent = acme_agent(parts.agent, parts.plant(), acme, text=text).start()
    until(lambda: agent.device("bess")["health"] == "good", "it is read")
    text = " ".join(ems("devices", "check", "bess", socket_path=agent.socket).stdout.split())
    assert (
        "WARNING rated power: discharge: 400 kW in the site file, 500 kW by the device; the smaller one holds" in text
    )
