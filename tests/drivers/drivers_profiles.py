"""Profiles for the tests: small ones written here, and devices made of them on a raw server over a real socket."""

from __future__ import annotations

import struct
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from drivers_registers import RawBank

from drivers.device import Device, open_device
from drivers.endpoint import TcpEndpoint
from drivers.link import Link
from drivers.profile.load import load
from drivers.profile.model import Profile
from drivers.spec import DeviceSpec
from simulators.modbus_server import ModbusServer

ABOUT = """
schema = 1
[about]
maker = "Acme"
models = ["X1"]
source = "Acme map 1.4"
date = 2026-11-21
tried = "X1 in the test field"
"""
TAKEN_OVER = """
[identity]
check = [{ point = "kind", is = 7 }]
[points]
kind  = { address = 1, type = "u16" }
power = { address = 2, type = "i16", unit = "W", positive = "discharge" }
soc   = { address = 3, type = "u16", unit = "%" }
mode  = { address = 20, type = "enum16", write = "volatile", values = { own = 4, remote = 9, other = 2 } }
set   = { address = 21, type = "i16", unit = "W", positive = "discharge", write = "volatile" }
[battery]
power_w = "power"
soc_pct = "soc"
[battery.control]
dead_man = { none = "the map" }
save = { mode = "own" }
take_over = [{ write = { point = "mode", set = "remote" } }]
setpoint = [{ write = { point = "set", from = "power" } }]
release = [{ write = { point = "mode", from = "saved" } }]
"""
"""A battery whose owner's mode is overwritten, and put back."""
MODE = 20


def a_profile(folder: Path, text: str, name: str = "acme") -> Profile:
    """The profile that `text` describes; `ABOUT` comes before it."""
    path = folder / f"{name}.toml"
    path.write_text(ABOUT + text)
    return load(path)


@dataclass
class Bench:
    """A device under test, and what it is connected to."""

    device: Device
    holding: RawBank
    inputs: RawBank
    server: ModbusServer
    link: Link

    @property
    def faults(self):
        return self.server.faults[1]

    def another_run(self, settings=None, writes=None) -> Device:
        """The same device for a run of the agent that goes by these notes."""
        spec = DeviceSpec("dut", "battery", 1, profile=self.device.spec.profile)
        return open_device(spec, self.link, lambda: 50.0, settings, writes)

    def written(self) -> list[tuple[int, tuple[int, ...]]]:
        """What was written since the last call: first register and values."""
        writes, self.holding.writes = self.holding.writes, []
        return writes


class Disk:
    """The texts that were kept, with the mode that the device held at that moment."""

    def __init__(self):
        self.texts, self.held, self.registers = [], [], {}

    async def keep(self, text):
        self.texts.append(text)
        self.held.append(self.registers.get(MODE))


@asynccontextmanager
async def bench(
    profile: Profile,
    role: str,
    holding: Mapping[int, int],
    inputs: Mapping[int, int] | None = None,
    *,
    clock=time.monotonic,
    timeout_s: float = 5.0,
    **spec,
) -> AsyncIterator[Bench]:
    """The device of `role` made from `profile`, on a raw server with these registers."""
    bank = RawBank(dict(holding))
    separate = RawBank(dict(inputs or {}))
    async with ModbusServer({1: bank}, inputs={1: separate} if inputs is not None else None) as server:
        link = Link(TcpEndpoint("127.0.0.1", server.port), timeout_s=timeout_s, clock=clock)
        device = open_device(DeviceSpec("dut", role, 1, profile=profile, **spec), link, clock)
        try:
            yield Bench(device, bank, separate, server, link)
        finally:
            await link.close()


def words(kind: str, value: float, *, low_first: bool = False) -> list[int]:
    """The registers of a value in a `struct` code, worked out apart from the code under test."""
    data = struct.pack(f">{kind}", value)
    found = [data[at] * 256 + data[at + 1] for at in range(0, len(data), 2)]
    return found[::-1] if low_first else found


def letters(text: str, registers: int) -> list[int]:
    """The registers of a text, padded with NUL."""
    data = text.encode().ljust(2 * registers, b"\0")
    return [data[at] * 256 + data[at + 1] for at in range(0, len(data), 2)]


def bank_of(*stretches: tuple[int, list[int]]) -> dict[int, int]:
    """Registers by address from stretches of them."""
    return {start + index: value for start, values in stretches for index, value in enumerate(values)}
