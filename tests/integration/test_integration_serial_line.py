"""Two meters on one serial line under the daemon: one dies, and the other keeps its cadence."""

import pytest
from integration_site import BATTERY, HEAD, TAIL, until

from drivers.profile.load import find
from simulators.profile_site import ProfileSite
from simulators.serial_line import SerialLine
from tests.in_thread import InThread

UNITS = {"grid-meter": 4, "second": 5}


def meter(name, url):
    return f"""\
[[device]]
id = "{name}"
role = "meter"
profile = "eastron-sdm630"
url = "{url}"
unit_id = {UNITS[name]}
poll = "1 s"
timeout = "1 s"
positive = "import"
"""


@pytest.fixture
def line():
    """Both meters on a line of 19200 baud."""
    devices = [ProfileSite(find("eastron-sdm630", None), unit_id=unit).device for unit in UNITS.values()]
    units = {unit: bank for device in devices for unit, bank in device.units.items()}
    inputs = {unit: bank for device in devices for unit, bank in device.inputs.items()}
    with InThread(SerialLine(units, inputs=inputs, baud=19_200)) as line:
        yield line


def test_a_meter_that_dies_on_a_serial_line_rests_and_the_other_one_keeps_its_cadence(parts, line):
    url = f"serial://{line.device}?baud=19200&parity=N"
    text = HEAD + BATTERY + "".join(meter(name, url) for name in UNITS) + TAIL
    agent = parts.agent(parts.plant(), text=text).start()
    until(lambda: all(agent.device(name)["polls"] > 1 for name in UNITS), "both are read")
    line.faults[5].silent = True
    until(lambda: ("unit_resting", "second") in agent.conditions(), "the dead one is told")
    before, uptime_s = agent.device("grid-meter"), agent.status()["uptime_s"]
    until(lambda: agent.status()["uptime_s"] > uptime_s + 4.0, "some seconds pass")
    after, passed_s = agent.device("grid-meter"), agent.status()["uptime_s"] - uptime_s
    assert after["failures"] == before["failures"]
    assert after["polls"] - before["polls"] > 0.6 * passed_s
    line.faults[5].silent = False
    until(lambda: agent.device("second")["health"] == "good", "it is found again by a trial", 60.0)
    until(lambda: ("unit_resting", "second") not in agent.conditions(), "and that is told")
