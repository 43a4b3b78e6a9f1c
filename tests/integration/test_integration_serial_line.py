"""Two meters on one serial line under the daemon: one dies, and the other keeps its cadence."""

import asyncio
import threading

import pytest
from integration_site import until

from drivers.profile.load import find
from simulators.profile_site import ProfileSite
from simulators.serial_line import SerialLine

METER = """\
[[device]]
id = "{name}"
role = "meter"
profile = "eastron-sdm630"
url = "{url}"
unit_id = {unit}
poll = "1 s"
timeout = "1 s"
positive = "import"
"""
SITE_FILE = """\
schema = 1
[site]
id = "{{site}}"
[connection_point]
meter = "first"
export_limit = "600 kW"
import_limit = "600 kW"
[[device]]
id = "bess"
role = "battery"
url = "tcp://127.0.0.1:{{battery_port}}"
rated_power = "500 kW"
dead_man = "30 s"
{meters}
[store]
directory = "{{state}}"
[api]
socket = "{{folder}}/ems.sock"
"""


class Line:
    """Meters 4 and 5 on a line of 19200 baud, in a thread of its own."""

    def __init__(self):
        self._ready, self._loop = threading.Event(), asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def _serve(self):
        async def run():
            self._stop = asyncio.Event()
            sites = [ProfileSite(find("eastron-sdm630", None), unit_id=unit) for unit in (4, 5)]
            units = {unit: bank for site in sites for unit, bank in site.device.units.items()}
            inputs = {unit: bank for site in sites for unit, bank in site.device.inputs.items()}
            async with SerialLine(units, inputs=inputs, baud=19_200) as line:
                self.url, self.faults = f"serial://{line.device}?baud=19200&parity=N", line.faults
                self._ready.set()
                await self._stop.wait()

        self._loop.run_until_complete(run())
        self._loop.close()

    def close(self):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(5)


@pytest.fixture
def line():
    made = Line()
    yield made
    made.close()


def test_a_meter_that_dies_on_a_serial_line_rests_and_the_other_one_keeps_its_cadence(parts, line):
    meters = "".join(METER.format(name=name, url=line.url, unit=unit) for name, unit in (("first", 4), ("second", 5)))
    agent = parts.agent(parts.plant(), text=SITE_FILE.format(meters=meters)).start()
    until(lambda: all(agent.device(name)["polls"] > 1 for name in ("first", "second")), "both are read")
    line.faults[5].silent = True
    until(lambda: ("unit_resting", "second") in agent.conditions(), "the dead one is told")
    before, uptime_s = agent.device("first"), agent.status()["uptime_s"]
    until(lambda: agent.status()["uptime_s"] > uptime_s + 4.0, "some seconds pass")
    after, passed_s = agent.device("first"), agent.status()["uptime_s"] - uptime_s
    assert after["failures"] == before["failures"]
    assert after["polls"] - before["polls"] > 0.6 * passed_s
    line.faults[5].silent = False
    until(lambda: agent.device("second")["health"] == "good", "it is found again by a trial", 60.0)
    until(lambda: ("unit_resting", "second") not in agent.conditions(), "and that is told")
