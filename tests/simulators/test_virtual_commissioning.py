"""`ems commission` of batteries that only a profile describes: the whole daemon over Modbus frames, on virtual time."""

import asyncio
import dataclasses
import signal

import pytest

from agent.app import Daemon
from agent.config import load
from agent.runtime.local_socket import Peer
from agent.runtime.outside import Outside
from drivers.profile.load import find
from simulators.lying_battery import HONEST, Lies
from simulators.modbus_server import ModbusServer
from simulators.profile_site import HOUSE, ProfileSite
from simulators.sunspec_devices import MeterConfig, MeterDevice
from simulators.virtual.loop import run
from simulators.virtual.network import in_process
from simulators.virtual.process import Process
from simulators.virtual.world import Housekeeping, VirtualClock

OPERATOR = Peer(1000, operator=True)
RATED_W = HOUSE.battery.rated_discharge_w
BATTERY_PORT, METER_PORT = 5020, 5021
HUAWEI, SUNGROW, SOLAREDGE, KOSTAL = "huawei-sun2000-luna2000", "sungrow-sh", "solaredge-storedge", "kostal-plenticore"
DEAD_MAN_S = {HUAWEI: 60, SUNGROW: 30, SOLAREDGE: 30, KOSTAL: 60}
HONEST_METER = MeterConfig()
SITE_FILE = """\
schema = 1
[site]
id = "profiles"
[connection_point]
meter = "grid-meter"
export_limit = "10 kW"
import_limit = "10 kW"
load = true
[[device]]
id = "bess"
role = "battery"
profile = "{profile}"
url = "tcp://127.0.0.1:{battery_port}"
rated_power = "5 kW"
dead_man = "{dead_man_s} s"
{more}
[[device]]
id = "grid-meter"
role = "meter"
url = "tcp://127.0.0.1:{meter_port}"
unit_id = 3
positive = "export"
[store]
directory = "{folder}/store"
[api]
socket = "{folder}/ems.sock"
"""


class Commissioned:
    """What became of one commissioning."""

    def __init__(self, facts, took_s, power_w):
        self.verdict, self.took_s, self.power_w = facts["verdict"], took_s, power_w
        self.words = {step["step"]: step["word"] for step in facts["steps"]}
        self.findings = [(one["word"], one["code"], one["text"]) for step in facts["steps"] for one in step["findings"]]
        self.measured = facts["measured"]

    def codes(self, word):
        return {code for found, code, _ in self.findings if found == word}

    def text(self, code):
        return " ".join(text for _, found, text in self.findings if found == code)


def commissioned(folder, profile, *, lag_s=0.5, lies=HONEST, meter=HONEST_METER, more="", stands_there=None):
    """Commissions a site with this battery; `stands_there` is the profile of the device that really is there."""

    async def main(loop):
        config = dataclasses.replace(HOUSE, battery=dataclasses.replace(HOUSE.battery, lag_s=lag_s))
        there = find(stands_there or profile, None)
        site = ProfileSite(there, config=config, port=BATTERY_PORT, monotonic_s=loop.time, lies=lies)
        grid_meter = MeterDevice(site.plant, meter, 3, 40_000, site.advance_to_now)
        async with site, ModbusServer({3: grid_meter}, port=METER_PORT):
            outside = Outside(clock=VirtualClock(loop), housekeeper=Housekeeping)
            daemon = Daemon(load(file), outside)
            process = Process("agent")
            agent = in_process(process, lambda: asyncio.create_task(daemon.run()))
            facts, took_s = await led(loop, daemon)
            site.advance_to_now()
            result = Commissioned(facts, took_s, site.plant.battery_w)
            process.signals[signal.SIGTERM]()
            await agent
            return result

    file = folder / "site.toml"
    places = {"battery_port": BATTERY_PORT, "meter_port": METER_PORT, "folder": folder}
    file.write_text(SITE_FILE.format(profile=profile, dead_man_s=DEAD_MAN_S[profile], more=more, **places))
    return run(main)


async def led(loop, daemon):
    """Leads a commissioning to its end, as `ems commission --auto` does; its facts, and the seconds that it took."""
    await asyncio.sleep(10.0)
    ask = daemon._commissioning.handlers()
    begun_s = loop.time()
    await ask["commission_start"]({"confirmed": True, "auto": True}, OPERATOR)
    while (facts := await ask["commission_status"]({"lead": True, "full": True}, OPERATOR))["running"] is not None:
        assert loop.time() - begun_s < 1_500.0, facts["running"]
        await asyncio.sleep(1.0)
    return facts, loop.time() - begun_s


@pytest.mark.parametrize("profile", [HUAWEI, SUNGROW, SOLAREDGE, KOSTAL])
def test_a_healthy_battery_passes_within_five_minutes_and_rests_at_the_end(profile, tmp_path):
    found = commissioned(tmp_path, profile)
    assert found.verdict == "passed", found.findings
    assert found.took_s < 300.0
    assert abs(found.power_w) < 0.02 * RATED_W
    assert found.measured["bess"]["dead_man_s"] == pytest.approx(DEAD_MAN_S[profile], abs=3.0)
    assert {found.words[f"{step}:bess"] for step in ("sign_scale", "step_response", "dead_man")} == {"passed"}


LIES = {
    "reversed meter": ({"meter": MeterConfig(positive="import")}, {"meter_reversed"}),
    "reversed battery": ({"lies": Lies(told_factor=-1.0, shown_factor=-1.0)}, {"battery_reversed"}),
    "setpoint ten times too large": ({"lies": Lies(told_factor=10.0)}, {"setpoint_scale"}),
    "power shown ten times too large": ({"lies": Lies(shown_factor=10.0)}, {"battery_reading_scale"}),
    "dead dead-man": ({"lies": Lies(dead_man_works=False)}, {"dead_man_dead"}),
    "another serial number": ({"more": 'expected_serial = "THE-ORDERED-ONE"'}, {"wrong_device"}),
    "slow device": ({"lag_s": 12.0}, {"slow_device"}),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_found_and_named(lie, tmp_path):
    changes, codes = LIES[lie]
    found = commissioned(tmp_path, HUAWEI, **changes)
    assert found.verdict == "failed", found.findings
    assert found.codes("failed") & codes, found.findings
    assert abs(found.power_w) < 0.02 * RATED_W


@pytest.mark.parametrize(("profile", "stands_there"), [(HUAWEI, SUNGROW), (SUNGROW, HUAWEI)])
def test_the_device_of_another_maker_is_named_as_the_wrong_one(profile, stands_there, tmp_path):
    found = commissioned(tmp_path, profile, stands_there=stands_there)
    assert (found.verdict, found.codes("failed")) == ("failed", {"wrong_device"}), found.findings
