"""A meter on a serial line under the daemon: listed, read and traced like any other device."""

import asyncio
import threading

import pytest
from integration_site import ems, until

from drivers.profile.load import find
from simulators.profile_site import ProfileSite
from simulators.serial_line import SerialLine

SITE_FILE = """\
schema = 1
[site]
id = "{site}"
[control]
tick = "200 ms"
[connection_point]
meter = "grid-meter"
export_limit = "600 kW"
import_limit = "600 kW"
[[device]]
id = "bess"
role = "battery"
url = "tcp://127.0.0.1:{battery_port}"
poll = "200 ms"
timeout = "1 s"
rated_power = "500 kW"
dead_man = "30 s"
[[device]]
id = "grid-meter"
role = "meter"
profile = "eastron-sdm630"
url = "{meter_url}"
unit_id = 4
poll = "500 ms"
timeout = "1 s"
positive = "import"
[store]
directory = "{state}"
[api]
socket = "{folder}/ems.sock"
"""


class SerialMeter:
    """A meter on a pseudo-terminal, in a thread of its own."""

    def __init__(self):
        self._ready, self._loop = threading.Event(), asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def _serve(self):
        async def run():
            self._stop = asyncio.Event()
            site = ProfileSite(find("eastron-sdm630", None), unit_id=4)
            async with SerialLine(site.device.units, inputs=site.device.inputs, baud=None) as line:
                self.device = line.device
                self._ready.set()
                await self._stop.wait()

        self._loop.run_until_complete(run())
        self._loop.close()

    def close(self):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(5)


@pytest.fixture(scope="module")
def meter():
    made = SerialMeter()
    yield made
    made.close()


@pytest.fixture(scope="module")
def agent(module_parts, meter):
    url = f"serial://{meter.device}?baud=19200&parity=N"
    agent = module_parts.agent(module_parts.plant(), text=SITE_FILE, meter_url=url).start()
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
