"""A meter on a serial line under the daemon: listed, read and traced like any other device."""

import pytest
from integration_site import BATTERY, EASTRON, HEAD, TAIL, ems, until

from drivers.profile.load import find
from simulators.profile_site import ProfileSite
from simulators.serial_line import SerialLine
from tests.in_thread import InThread

SITE_FILE = HEAD + BATTERY + EASTRON + TAIL


@pytest.fixture(scope="module")
def meter():
    """A meter on a pseudo-terminal."""
    device = ProfileSite(find("eastron-sdm630", None), unit_id=4).device
    with InThread(SerialLine(device.units, inputs=device.inputs, baud=None)) as line:
        yield line


@pytest.fixture(scope="module")
def agent(module_parts, meter):
    url = f"serial://{meter.device}?baud=19200&parity=N"
    agent = module_parts.agent(module_parts.plant(), text=SITE_FILE, meter_url=url, meter_unit=4).start()
    until(lambda: agent.device("grid-meter")["health"] == "good", "the meter is read")
    return agent


def test_it_is_listed_with_its_line(agent, meter):
    text = ems("devices", "list", socket_path=agent.socket).stdout
    assert f"serial://{meter.device} unit 4, connected for " in text
    assert "profile eastron-sdm630" in text


def test_it_is_read_with_its_registers(agent):
    done = ems("devices", "read", "grid-meter", "frequency", socket_path=agent.socket)
    assert done.returncode == 0
    line = done.stdout.splitlines()[1]
    assert line.startswith("frequency  50")
    assert " Hz  [424" in line  # a float of about 50


def test_its_frames_are_decoded_though_they_name_no_transaction(agent):
    done = ems("devices", "trace", "grid-meter", "--seconds", "2", socket_path=agent.socket)
    assert (done.returncode, done.stderr) == (0, "")
    text = " ".join(done.stdout.split())
    assert "> unit 4 read input " in text
    assert ": frequency 50" in text or ", frequency 50" in text
    assert "not a frame" not in text


def test_a_scan_leaves_its_line_alone(agent, meter):
    done = ems("devices", "scan", meter.device, "--units", "4", socket_path=agent.socket)
    assert done.returncode == 1
    assert "left alone: the daemon talks to it" in " ".join(done.stdout.replace("#", "").split())
