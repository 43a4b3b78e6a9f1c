"""`ems devices scan` over real sockets, beside a running daemon and without one, on a network and on a serial line."""

import asyncio
import json
import os
import socket
import sys
import tomllib

import pytest
from integration_acme import MODE, acme_agent
from integration_site import ems, until

from agent.config import load as load_site
from drivers.profile.load import available, load
from simulators.profile_site import ProfileSite
from simulators.serial_line import SerialLine

HEAD = """\
schema = 1
[site]
id = "found-01"
[connection_point]
meter = "meter-1"
export_limit = "600 kW"
import_limit = "600 kW"
"""


def profile(name):
    return load(available(None)[name].path)


async def scan(*words, socket_path="/nonexistent"):
    """Exit code, stdout and stderr; the simulated devices live on in this loop meanwhile."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agent.cli.main", "devices", "scan", *words, "--socket", str(socket_path), "--pause", "0",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_what_is_found_can_be_pasted_into_a_site_file(tmp_path):
    async with (
        ProfileSite(profile("sunspec-battery")) as battery,
        ProfileSite(profile("sunspec-meter"), unit_id=3) as meter,
    ):
        battery_url = f"tcp://127.0.0.1:{battery.port}"
        first = await scan(battery_url.removeprefix("tcp://"), "--units", "1")
        second = await scan(f"127.0.0.1:{meter.port}", "--units", "3")
    assert [(code, err) for code, _, err in (first, second)] == [(0, ""), (0, "")]
    assert f"# {battery_url} unit 1: Simulated Battery serial SIM-BATTERY-1" in first[1]
    assert 'positive = "?"' in second[1]
    file = tmp_path / "site.toml"
    file.write_text(HEAD + first[1] + second[1])
    untouched = ems("config", "check", "--config", str(file))
    assert untouched.returncode == 1
    assert "positive" in untouched.stdout + untouched.stderr, "what only the site knows is asked for, never guessed"
    file.write_text((HEAD + first[1] + second[1]).replace('positive = "?"', 'positive = "export"'))
    site = load_site(file)
    battery_section, meter_section = site.device
    assert (battery_section.profile, battery_section.rated_power) == ("sunspec-battery", 5000.0)
    assert (meter_section.unit_id, meter_section.expected_serial) == (3, "SIM-METER-1")


async def test_for_programs_there_is_everything_and_one_device_is_told_once():
    units = dict.fromkeys((1, 2, 5), None)
    site = ProfileSite(profile("sungrow-sh"))
    bank, inputs = site.device.units[1], site.device.inputs[1]
    from simulators.modbus_server import ModbusServer

    async with ModbusServer(dict.fromkeys(units, bank), inputs=dict.fromkeys(units, inputs)) as server:
        code, out, _ = await scan(f"127.0.0.1:{server.port}", "--units", "1-5", "--json", "--timeout", "0.3")
        functions = {pdu[0] for _, pdu in server.asked}
    assert code == 0
    (found,) = json.loads(out)["result"]["found"]
    assert (found["unit_id"], found["also"], found["fits"][0]["profile"]) == (1, [2, 5], "sungrow-sh")
    assert found["identity"]["serial"] == "SIMULATED"
    assert [block["role"] for block in tomllib.loads(found["toml"])["device"]] == ["battery", "pv", "meter"]
    assert functions <= {3, 4}


async def test_a_serial_line_is_scanned_with_the_usual_settings():
    site = ProfileSite(profile("eastron-sdm630"), unit_id=2)
    async with SerialLine(site.device.units, inputs=site.device.inputs, baud=None) as line:
        code, out, _ = await scan(line.device, "--units", "1-2", "--timeout", "0.2")
    assert code == 0
    assert 'profile = "eastron-sdm630"' in out
    assert f'url = "serial://{line_path(out)}?baud=9600&parity=N"' in out
    assert "this is a guess" in out


def line_path(out):
    return out.split('url = "serial://', 1)[1].split("?", 1)[0]


def test_an_open_port_that_does_not_speak_modbus_is_told_and_nothing_found_is_exit_code_1():
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        done = ems("devices", "scan", f"127.0.0.1:{port}", "--units", "1", "--timeout", "0.1", "--socket", "/none")
    assert done.returncode == 1
    assert f"# tcp://127.0.0.1:{port}: open, but no unit id of 1 answers" in done.stdout
    assert "nothing was found" in done.stderr
    assert "next: check power, cable" in done.stderr


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("8.8.8.8",), "is no local address of this site"),
        (("10.0.0.0/16",), "a scan stops at 256"),
        (("127.0.0.1", "--units", "300"), "'300' is no unit id"),
        (("127.0.0.1", "--units", "5-1"), "'5-1' is no unit id"),
        (("127.0.0.1", "--units", "1-40"), "at most 32"),
    ],
)
def test_what_must_not_be_scanned_is_refused_with_exit_code_2(words, why):
    done = ems("devices", "scan", *words, "--socket", "/none")
    assert (done.returncode, why in done.stderr, "next: " in done.stderr) == (2, True, True)


def test_what_the_daemon_talks_to_is_left_alone_and_named(parts):
    acme = parts.acme()
    agent = acme_agent(parts.agent, parts.plant(), acme).start()
    until(lambda: acme.registers[MODE] == 1, "it is taken over")
    connections = agent.ask("devices")["result"][1]["link"]["connects"]
    done = ems("devices", "scan", f"127.0.0.1:{acme.port}", "--units", "7", socket_path=agent.socket)
    assert done.returncode == 1
    said = " ".join(done.stdout.replace("#", "").split())
    assert f"tcp://127.0.0.1:{acme.port}: left alone: the daemon talks to it (acme," in said
    by_name = ems("devices", "scan", f"localhost:{acme.port}", "--units", "7", socket_path=agent.socket)
    assert "left alone: the daemon talks to it" in by_name.stdout
    assert agent.ask("devices")["result"][1]["link"]["connects"] == connections


def test_a_bar_is_drawn_where_somebody_looks(tmp_path):
    import pty
    import subprocess

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "agent.cli.main", "devices", "scan", "127.0.0.1:1", "--socket", "/none"]
    done = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs, env={**os.environ, "TERM": "xterm"})
    done.wait(30)
    os.close(theirs)
    assert b"looking" in os.read(ours, 65536)
    os.close(ours)
    assert done.returncode == 1
