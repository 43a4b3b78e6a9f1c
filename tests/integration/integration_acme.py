"""A site of two batteries for the commands about devices: one SunSpec, one that a profile of the site describes."""

import asyncio
import threading

from simulators.modbus_server import ILLEGAL_ADDRESS, ModbusServer, RequestRefusedError

KIND, POWER, SOC, CAPACITY, MODE, SETPOINT, FAN, LIMIT, NAME_AT = 10, 11, 12, 13, 20, 21, 22, 23, 30
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
id = "acme"
role = "battery"
profile = "acme"
url = "tcp://127.0.0.1:{acme_port}"
unit_id = 7
poll = "200 ms"
timeout = "1 s"
rated_power = "100 kW"
dead_man = "30 s"
[[device]]
id = "grid-meter"
role = "meter"
url = "tcp://127.0.0.1:{gateway_port}"
unit_id = 3
poll = "200 ms"
timeout = "1 s"
positive = "export"
[store]
directory = "{state}"
[api]
socket = "{folder}/ems.sock"
operator_group = "{operator_group}"
"""
PROFILE = """\
schema = 1
[about]
maker = "Acme"
models = ["X1"]
source = "made up for a test"
date = 2026-11-21
[identity]
check = [{ point = "kind", is = 7 }]
model = "name"
[points]
kind = { address = 10, type = "u16" }
power = { address = 11, type = "i16", scale = 100, unit = "W", positive = "discharge" }
soc = { address = 12, type = "u16", unit = "%", plausible = [0, 100] }
capacity = { address = 13, type = "u16", unit = "kWh" }
mode = { address = 20, type = "enum16", write = "volatile", values = { own = 0, remote = 1 } }
setpoint = { address = 21, type = "i16", scale = 100, unit = "W", positive = "discharge", write = "volatile" }
fan = { address = 22, type = "u16", unit = "%", write = "volatile", write_range = [20, 80] }
limit = { address = 23, type = "u16", unit = "A", write = "stored", write_range = [0, 300] }
far = { address = 24, type = "u16", unit = "A", write = "volatile", verified = false }
free = { address = 25, type = "u16", unit = "A", write = "volatile" }
name = { address = 30, type = "string", length = 2 }
gone = { address = 40, type = "u16" }
[battery]
power_w = "power"
soc_pct = "soc"
capacity_wh = "capacity"
[battery.control]
dead_man = { none = "the manual names none" }
take_over = [{ write = { point = "mode", set = "remote" } }]
setpoint = [{ write = { point = "setpoint", from = "power" } }]
release = [{ write = { point = "mode", set = "own" } }]
stored_writes_per_day = 2
"""


class Acme:
    """The second battery by hand: it gives at once what its setpoint says, while its mode is remote."""

    def __init__(self):
        self.registers = {
            KIND: 7, POWER: 0, SOC: 50, CAPACITY: 200, MODE: 0, SETPOINT: 0, FAN: 40, LIMIT: 100, 24: 1, 25: 1,
            NAME_AT: 0x5831, NAME_AT + 1: 0,
        }  # fmt: skip
        self.writes = []
        """Address and value of each write that it took."""
        self.ignored = set()
        """Addresses that it acknowledges and does not apply."""
        self._ready, self._loop = threading.Event(), asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        assert self._ready.wait(5)

    def read(self, address, count):
        self.registers[POWER] = self.registers[SETPOINT] if self.registers[MODE] == 1 else 0
        try:
            return b"".join(self.registers[at].to_bytes(2, "big") for at in range(address, address + count))
        except KeyError:
            raise RequestRefusedError(ILLEGAL_ADDRESS) from None

    def write(self, address, data):
        for at in range(len(data) // 2):
            value = int.from_bytes(data[2 * at : 2 * at + 2], "big")
            self.writes.append((address + at, value))
            if address + at not in self.ignored:
                self.registers[address + at] = value

    def written_to(self, address):
        return [value for at, value in list(self.writes) if at == address]

    def _serve(self):
        async def run():
            self._stop = asyncio.Event()
            async with ModbusServer({7: self}) as self.server:
                self.port = self.server.port
                self._ready.set()
                await self._stop.wait()

        self._loop.run_until_complete(run())
        self._loop.close()

    def close(self):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(5)


def acme_agent(make_agent, plant, acme, text=SITE_FILE, **changes):
    """The daemon of that site, not started yet."""
    values = {"acme_port": acme.port, "operator_group": "ems-operator"} | changes
    agent = make_agent(plant, text=text, **values)
    (agent.folder / "profiles").mkdir()
    (agent.folder / "profiles" / "acme.toml").write_text(PROFILE)
    return agent
