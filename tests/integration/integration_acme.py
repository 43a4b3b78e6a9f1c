"""A site of two batteries for the commands about devices: one SunSpec, one that a profile of the site describes."""

from integration_site import BATTERY, HEAD, METER, TAIL, until

from simulators.modbus_server import ILLEGAL_ADDRESS, ModbusServer, RequestRefusedError
from tests.in_thread import InThread

KIND, POWER, SOC, CAPACITY, MODE, SETPOINT, FAN, LIMIT, NAME_AT = 10, 11, 12, 13, 20, 21, 22, 23, 30
SITE_FILE = (
    HEAD
    + BATTERY
    + """\
[[device]]
id = "acme"
role = "battery"
profile = "acme"
url = "tcp://127.0.0.1:{acme_port}"
unit_id = 7
poll = "200 ms"
timeout = "{timeout}"
rated_power = "100 kW"
dead_man = "30 s"
"""
    + METER
    + TAIL
    + 'operator_group = "{operator_group}"\n'
)
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


class Acme(InThread):
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
        self.server = ModbusServer({7: self})
        super().__init__(self.server)
        self.port = self.server.port

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


def acme_agent(make_agent, plant, acme, text=SITE_FILE, **changes):
    """The daemon of that site, not started yet."""
    values = {"acme_port": acme.port, "operator_group": "ems-operator", "timeout": "1 s"} | changes
    agent = make_agent(plant, text=text, **values)
    (agent.folder / "profiles").mkdir()
    (agent.folder / "profiles" / "acme.toml").write_text(PROFILE)
    return agent


def in_control(agent, acme):
    """The same, started: all devices are read, and the second battery is taken over."""
    agent.start()
    until(lambda: all(device["health"] == "good" for device in agent.status()["devices"]), "all devices are read")
    until(lambda: acme.registers[MODE] == 1, "the second battery is taken over")
    return agent
