"""What it costs the daemon to poll ten devices of four blocks of 50 registers each second, and how punctual it is.

The real daemon with control, store, and a real broker, on ten Modbus TCP devices in a process of their own; then with one
device dead, one that takes 5 s and one that answers garbage. Then what asks the same and does nothing with it: a bare
pymodbus script, and a C loop on libmodbus where gcc and libmodbus are installed. `--devices 100` polls as many healthy
ones. Prints one JSON object; exit code 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from simulators.broker import Broker
from tests.benchmarks.daemon_cost import ROOT, ask, cpu_s, environment, resident_mb, script, start, warm
from tests.benchmarks.figures import Figure
from tests.benchmarks.poll_server import DEVICES

PERIOD_S = 1.0
SETTLE_S = 5
MAX_CPU_PCT, MAX_RESIDENT_MB, MAX_DEVIATION_MS, MAX_DEVIATION_FAULTY_MS = 0.9, 60.0, 5.0, 10.0
FAULTS = {7: ("silent", "on"), 8: ("delay_s", "5"), 9: ("garbage", "on")}

POINTS = "\n".join(
    f'p{at} = {{ address = {at}, type = "i16", unit = "W", positive = "{sign}" }}'
    for at, sign in ((at, "export") for block in range(0, 400, 100) for at in (block, block + 49))
)
ALL = ", ".join(f'"p{at}"' for block in range(0, 400, 100) for at in (block, block + 49))
PROFILE = f"""schema = 1
[about]
maker = "Bench"
models = ["B"]
source = "none: a benchmark"
date = 2026-11-21
[identity]
check = [{{ point = "p0", at_least = 1, at_most = 100 }}]
[defaults]
function = 3
[reads]
max_registers = 50
max_gap = 50
[points]
{POINTS}
soc = {{ address = 48, type = "u16", scale = 5, unit = "%" }}
capacity = {{ address = 148, type = "u16", scale = 10, unit = "kWh" }}
hz = {{ address = 248, type = "u16", scale = 5, unit = "Hz" }}
setpoint = {{ address = 47, type = "i16", unit = "kW", positive = "discharge", write = "volatile" }}
"""
BATTERY = f"""[battery]
power_w = {{ sum = [{ALL}] }}
soc_pct = "soc"
capacity_wh = "capacity"
[battery.control]
dead_man = {{ none = "a benchmark" }}
setpoint = [{{ write = {{ point = "setpoint", from = "power" }} }}]
"""
PV = f"[pv]\npower_w = {{ sum = [{ALL}] }}\n"
METER = f'[meter]\npower_w = {{ sum = [{ALL}] }}\nfrequency_hz = "hz"\n'

BARE = """
import asyncio, sys
from pymodbus.client import AsyncModbusTcpClient
async def poll(port):
    client = AsyncModbusTcpClient("127.0.0.1", port=port)
    await client.connect()
    loop = asyncio.get_running_loop()
    next_s = loop.time()
    while True:
        for block in range(4):
            await client.read_holding_registers(100 * block, count=50, device_id=1)
        next_s += 1.0
        await asyncio.sleep(next_s - loop.time())
async def main():
    await asyncio.gather(*(poll(int(port)) for port in sys.argv[1:]))
asyncio.run(main())
"""


class Devices:
    """The devices as a process."""

    def __init__(self, count: int = DEVICES) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.poll_server", str(count)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert self._process.stdout is not None
        self.ports: list[int] = json.loads(self._process.stdout.readline())

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def report(self) -> list[list[float]]:
        """The times at which each device was polled since the last report."""
        self.say("report")
        assert self._process.stdout is not None
        found: list[list[float]] = json.loads(self._process.stdout.readline())
        return found

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def site_file(folder: Path, ports: list[int], broker: str) -> Path:
    """One battery, one meter, all others PV inverters."""
    roles = ["battery", "meter", *["pv"] * (len(ports) - 2)]
    (folder / "profiles").mkdir()
    for role, part in (("battery", BATTERY), ("meter", METER), ("pv", PV)):
        (folder / "profiles" / f"bench-{role}.toml").write_text(PROFILE + part)
    devices = "\n".join(
        f'[[device]]\nid = "d{index}"\nrole = "{role}"\nprofile = "bench-{role}"\nurl = "tcp://127.0.0.1:{port}"\n'
        f'poll = "1 s"\n' + ('rated_power = "500 kW"\n' if role == "battery" else "")
        for index, (role, port) in enumerate(zip(roles, ports, strict=True))
    )
    path = folder / "site.toml"
    path.write_text(
        f'schema = 1\n[site]\nid = "bench"\n[connection_point]\nmeter = "d1"\nexport_limit = "90 MW"\n'
        f'import_limit = "90 MW"\n{devices}\n[cloud]\nbroker = "{broker}"\n[store]\ndirectory = "{folder}/store"\n'
        f'[api]\nsocket = "{folder}/ems.sock"\n'
    )
    return path


def punctuality(polls: list[list[float]], seconds: float, of: list[int]) -> dict[str, Any]:
    """Missed polls, and how far the periods were from one second."""
    deviations = sorted(
        abs(after - before - PERIOD_S)
        for index in of
        for before, after in zip(polls[index], polls[index][1:], strict=False)
    )
    missed = sum(max(0, math.floor(seconds / PERIOD_S) - len(polls[index])) for index in of)
    return {
        "polls": sum(len(polls[index]) for index in of),
        "missed": missed,
        "deviation_median_ms": round(1000 * deviations[len(deviations) // 2], 2),
        "deviation_p99_ms": round(1000 * deviations[math.ceil(0.99 * len(deviations)) - 1], 2),
        "deviation_max_ms": round(1000 * deviations[-1], 2),
    }


def watched(process: subprocess.Popen[bytes], devices: Devices, seconds: int, of: list[int]) -> dict[str, Any]:
    """What the process costs over so many seconds, and how punctual it polls."""
    devices.report()
    before, began_s = cpu_s(process.pid), time.monotonic()
    time.sleep(seconds)
    took_s, used_s = time.monotonic() - began_s, cpu_s(process.pid) - before
    polls = devices.report()
    return {
        "cpu_pct": round(100 * used_s / took_s, 2),
        "resident_mb": round(resident_mb(process.pid), 1),
        **punctuality(polls, took_s, of),
    }


class Missing(Exception):  # noqa: N818  # a finding, not a fault
    """What the C loop needs is not here; the text says what."""


def c_loop(folder: Path) -> Path:
    """The C loop, compiled; Missing says why it cannot be."""
    if shutil.which("gcc") is None or shutil.which("pkg-config") is None:
        raise Missing("gcc or pkg-config is not installed")
    found = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "libmodbus"], capture_output=True, text=True, check=False
    )
    if found.returncode:
        raise Missing("libmodbus is not installed (Debian: libmodbus-dev)")
    source, made = Path(__file__).parent / "bare_poll.c", folder / "bare_poll"
    subprocess.run(["gcc", "-O2", "-o", str(made), str(source), *found.stdout.split()], check=True)
    return made


def bare_c(folder: Path, devices: Devices, seconds: int) -> dict[str, Any]:
    """What the C loop costs, or why that is not known."""
    try:
        command = [str(c_loop(folder)), *map(str, devices.ports)]
    except Missing as missing:
        return {"missing": str(missing)}
    with subprocess.Popen(command) as process:
        try:
            time.sleep(SETTLE_S)
            return watched(process, devices, seconds, list(range(len(devices.ports))))
        finally:
            process.kill()


def measure(seconds: int, count: int = DEVICES) -> dict[str, Any]:
    """All figures; the faulty devices only among ten."""
    everybody = list(range(count))
    with tempfile.TemporaryDirectory() as name, Broker() as broker:
        folder = Path(name)
        warm()
        devices = Devices(count)
        daemon = bare = None
        try:
            config = site_file(folder, devices.ports, broker.url)
            for _ in range(2):  # the first start makes the databases, and what that takes stays in its memory
                if daemon is not None:
                    daemon.terminate()
                    daemon.wait()
                daemon, _took_s = start(config, folder / "agent.log")
            time.sleep(SETTLE_S)
            result: dict[str, Any] = {"devices": count, "healthy": watched(daemon, devices, seconds, everybody)}
            if count == DEVICES:
                for device, (fault, value) in FAULTS.items():
                    devices.say(f"{device} {fault} {value}")
                time.sleep(SETTLE_S)
                result["three_of_ten_faulty"] = watched(daemon, devices, seconds, everybody[:7])
                for device, (fault, _) in FAULTS.items():
                    devices.say(f"{device} {fault} off")
            result["late_ticks"] = ask(folder / "ems.sock")["counters"]["late_ticks"]
            daemon.terminate()
            daemon.wait()
            bare = script(BARE, *devices.ports)
            time.sleep(SETTLE_S)
            result["bare_pymodbus"] = watched(bare, devices, seconds, everybody)
            bare.kill()
            result["bare_libmodbus"] = bare_c(folder, devices, seconds)
        finally:
            for process in (daemon, bare):
                if process is not None and process.poll() is None:
                    process.kill()
                    process.wait()
            devices.stop()
    return result


def missed_targets(result: dict[str, Any]) -> list[str]:
    """The targets that were missed, in words."""
    if result["devices"] != DEVICES:
        return []  # nothing was promised
    healthy, faulty = result["healthy"], result["three_of_ten_faulty"]
    checks = (
        (healthy["cpu_pct"] <= MAX_CPU_PCT, f"cpu {healthy['cpu_pct']} % of {MAX_CPU_PCT}"),
        (healthy["resident_mb"] <= MAX_RESIDENT_MB, f"{healthy['resident_mb']} MB of {MAX_RESIDENT_MB}"),
        (
            healthy["deviation_p99_ms"] <= MAX_DEVIATION_MS,
            f"p99 {healthy['deviation_p99_ms']} ms of {MAX_DEVIATION_MS}",
        ),
        (healthy["missed"] == 0, f"{healthy['missed']} polls missed"),
        (
            faulty["deviation_p99_ms"] <= MAX_DEVIATION_FAULTY_MS,
            f"with faults: p99 {faulty['deviation_p99_ms']} ms of {MAX_DEVIATION_FAULTY_MS}",
        ),
        (faulty["missed"] == 0, f"with faults: {faulty['missed']} polls missed"),
    )
    return [text for kept, text in checks if not kept]


def figures(result: dict[str, Any]) -> list[Figure]:
    """The figures of `measure`."""
    few, healthy, bare = result["devices"] == DEVICES, result["healthy"], result["bare_pymodbus"]
    name, does = ("poll" if few else f"poll{result['devices']}"), "a bare pymodbus script that asks the same"
    what = f"{result['devices']} devices x 4 blocks x 50 registers at 1 Hz, everything on"
    found = [
        Figure(f"{name}.cpu", f"the daemon on {what}", healthy["cpu_pct"], "% of a core", bare["cpu_pct"], does,
               MAX_CPU_PCT if few else None),
        Figure(f"{name}.memory", "its memory", healthy["resident_mb"], "MB", bare["resident_mb"], does,
               MAX_RESIDENT_MB if few else None),
        Figure(f"{name}.deviation", "how far its period is from 1 s, p99", healthy["deviation_p99_ms"], "ms",
               bare["deviation_p99_ms"], does, MAX_DEVIATION_MS if few else None),
    ]  # fmt: skip
    if few:
        found.append(
            Figure("poll.faulty", "the same of seven beside a dead, a slow and a garbage device",
                   result["three_of_ten_faulty"]["deviation_p99_ms"], "ms", bare["deviation_p99_ms"], does,
                   MAX_DEVIATION_FAULTY_MS)
        )  # fmt: skip
    if "missing" not in result["bare_libmodbus"]:
        used = result["bare_libmodbus"]
        found.append(
            Figure(f"{name}.c", f"the daemon on {what}", healthy["cpu_pct"], "% of a core", used["cpu_pct"],
                   "a C loop on libmodbus that asks the same")
        )  # fmt: skip
    return found


def notes(result: dict[str, Any]) -> list[str]:
    """What could not be measured, and missed polls."""
    found = [f"{what}: {line}" for what, line in
             ((f"polling of {result['devices']} devices beside a C loop", result["bare_libmodbus"].get("missing")),)
             if line]  # fmt: skip
    if result["healthy"]["missed"]:
        found.append(f"polling of {result['devices']} devices: {result['healthy']['missed']} polls missed")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=40)
    parser.add_argument("--devices", type=int, default=DEVICES)
    options = parser.parse_args()
    found = measure(options.seconds, options.devices)
    found["missed_targets"] = missed_targets(found)
    print(json.dumps(found, indent=2))
    sys.exit(1 if found["missed_targets"] else 0)
