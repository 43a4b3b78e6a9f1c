"""A site on virtual time: real drivers, control loop and commissioning, over the registers of the simulated devices."""

from __future__ import annotations

import asyncio
import struct
from types import SimpleNamespace

from agent.config import SiteFile
from agent.core.plan import Plans
from agent.runtime.board import Board, DeviceHealth
from agent.runtime.commissioning import CommissioningSide
from agent.runtime.commissioning_facts import SiteFacts
from agent.runtime.control import ControlLoop
from agent.runtime.local_socket import Peer
from agent.runtime.poller import EndpointPoller, Polled
from drivers.device import open_device
from simulators.battery import BatteryConfig
from simulators.plant import GridConfig, LoadConfig, PvConfig
from simulators.site import SimulatedSite, SiteClock
from simulators.site_config import SiteConfig

T0 = 1_800_000_000.0
MONO0 = 1_000.0
QUIET = SiteConfig(
    battery=BatteryConfig(lag_s=0.5),
    pv=PvConfig(peak_w=100_000.0, performance_ratio=1.0, irradiance_w_per_m2=(500.0,)),
    load=LoadConfig(base_w=40_000.0, day_shape=(1.0,), noise_pct=2.0),
    grid=GridConfig(noise_hz=0.01),
)
OPERATOR = Peer(1000, operator=True)
VISITOR = Peer(1001, operator=False)


class VirtualClock:
    def __init__(self):
        self.t = 0.0

    def utc_s(self):
        return T0 + self.t

    def mono_s(self):
        return MONO0 + self.t

    async def sleep_until(self, _mono_s):
        await asyncio.sleep(0)


class BankLink:
    """The registers of simulated devices, without a wire."""

    name = "tcp://simulated:502"
    generation = 1
    connected = True
    read_only = False

    def __init__(self, banks):
        self.banks = banks
        self.writes = []

    async def read_holding(self, unit_id, address, count):
        data = self.banks[unit_id].read(address, count)
        return struct.unpack(f">{count}H", data)

    async def write_registers(self, unit_id, address, values, *, generation=None):
        self.writes.append((unit_id, address))
        self.banks[unit_id].write(address, struct.pack(f">{len(values)}H", *values))

    async def write_register(self, unit_id, address, value, *, generation=None):
        await self.write_registers(unit_id, address, (value,))

    def pace(self, between_s, after_connect_s):
        pass

    def unit(self, _unit_id):
        return SimpleNamespace(retry_in_s=None, failures_in_a_row=0)

    def retry_mono_s(self, _unit_id):
        return 0.0


def site_file(**changes):
    """The site as the agent is told of it."""
    battery = {"id": "bess", "role": "battery", "url": "tcp://simulated:502", "unit_id": 1, "rated_power": "500 kW"}
    content = {
        "schema": 1,
        "site": {"id": "virtual"},
        "connection_point": {"meter": "grid-meter", "export_limit": "600 kW", "import_limit": "600 kW", "load": True},
        "device": [
            battery | {"dead_man": "60 s"} | changes.get("battery", {}),
            {"id": "pv", "role": "pv", "url": "tcp://simulated:502", "unit_id": 2},
            {"id": "grid-meter", "role": "meter", "url": "tcp://simulated:502", "unit_id": 3, "positive": "export"}
            | changes.get("meter", {}),
        ],
        "control": {"tick": "1 s"} | changes.get("control", {}),
    }
    content["connection_point"] |= changes.get("point", {})
    if changes.get("alone"):
        content["device"] = content["device"][:1]
        content["connection_point"] = {"export_limit": "600 kW", "import_limit": "600 kW"}
    return SiteFile.model_validate(content)


class Disk:
    """What is kept."""

    def __init__(self):
        self.text = None

    async def keep_commissioning(self, text):
        self.text = text


class VirtualSite:
    """Runs tick by tick; `commission()` leads one to its end."""

    def __init__(self, config=QUIET, *, disk=None, cloud=None, **changes):
        self.clock = VirtualClock()
        self.site = SimulatedSite(config, clock=SiteClock(self.clock.utc_s, self.clock.mono_s))
        file = self.file = site_file(**changes)
        rules = file.rules()
        self.link = BankLink({1: self.site.battery, 2: self.site.pv, 3: self.site.meter})
        self.board = Board(rules)
        self.health, self.devices, polled = [], {}, []
        for section in file.device:
            device = open_device(file.spec(section), self.link, self.clock.mono_s)
            self.devices[section.id] = device
            self.health.append(DeviceHealth(section.id, "tcp://simulated:502"))
            polled.append(Polled(device, section.poll, self.health[-1], self.link))
        self.events = []
        self.poller = EndpointPoller(polled, self.board, self.clock, self.events.append)
        self.polled = polled
        self.control = ControlLoop(
            rules=rules,
            board=self.board,
            batteries={"bess": self.devices["bess"]},
            clock=self.clock,
            plans=Plans(),
            floor_utc_s=0.0,
            spawn=lambda job: asyncio.get_running_loop().create_task(job),
            started_mono_s=0.0,
        )
        self.disk = disk or Disk()
        self.cloud = cloud
        facts = SiteFacts(self.control, file.device, self.devices, self.health, lambda: self.cloud)
        self.side = CommissioningSide(self.disk, self.control, facts, self.events.append, self.clock)
        self.side.restore(self.disk.text)
        self.control.found_beside = self.side.conditions
        self.powers = []
        """(time, true battery power) after each tick."""
        self.evidence = []
        self.deaf = False
        self.each_tick = lambda: None

    async def tick(self):
        """Read every device, decide, write, let the plant live."""
        for one in self.polled:
            if not self.deaf:
                await self.poller._poll(one)
        self.after_tick(self.control.tick())
        for _ in range(12):
            await asyncio.sleep(0)
        self.clock.t = round(self.clock.t + self.control.period_s(), 6)
        self.site.advance_to_now()
        self.powers.append((self.clock.t, self.site.plant.battery_w))
        self.each_tick()

    def after_tick(self, effects):
        self.evidence += effects.evidence
        self.side.after_tick(effects)

    async def ask(self, cmd, peer=OPERATOR, **params):
        return await self.side.handlers()[cmd](params, peer)

    async def status(self, **params):
        return await self.ask("commission_status", **params)

    async def start(self, **options):
        self.control._after_tick = self.after_tick
        for _ in range(3):
            await self.tick()
        return await self.ask("commission_start", confirmed=True, **({"auto": True} | options))

    async def lead(self, most_s=1_500.0, until=lambda facts: facts["running"] is None):
        """Ticks until it is over."""
        begun_s = self.clock.t
        while not until(facts := await self.status(lead=True, full=True)):
            assert self.clock.t - begun_s < most_s, facts["running"]
            await self.tick()
        await self.keep()
        return facts

    async def keep(self):
        """What the background task does: the record goes to disk."""
        job = asyncio.create_task(self.side.run())
        for _ in range(5):
            await asyncio.sleep(0)
        job.cancel()

    async def commission(self, **options):
        await self.start(**options)
        return await self.lead()


def words(facts):
    return {step["step"]: step["word"] for step in facts["steps"]}


def codes(facts, *wanted):
    """The codes of the findings of these verdicts."""
    return {
        finding["code"]
        for step in facts["steps"]
        for finding in step["findings"]
        if finding["word"] in (wanted or ("failed",))
    }


def measures(facts, step):
    return next(one["measures"] for one in facts["steps"] if one["step"] == step)
