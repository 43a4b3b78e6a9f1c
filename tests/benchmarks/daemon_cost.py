"""What the daemon costs on the demo's site at 1 Hz, and how soon it is in control: `make bench`.

The real daemon as its own process, with a simulated battery, PV and meter on Modbus TCP and a real broker; beside it, in
the same run, a bare pymodbus and paho script that reads the same devices once a second, publishes what it read and does
nothing else, and one that starts, writes one setpoint, reads it back and ends. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from agent.cli.client import Connection
from simulators.broker import Broker
from simulators.demo_processes import SimulatorProcess
from simulators.demo_site import SITE_ID
from simulators.site import SimulatedSite
from simulators.site_config import SiteConfig
from tests.benchmarks.figures import Figure

ROOT = Path(__file__).parents[2]
CONFIG = (ROOT / "config" / "site.example.toml").read_text()
STARTS = 7
SETTLE_S = 5
MAX_START_S = 1.5
"""To reach."""
BARE = """
import asyncio, json, sys
import paho.mqtt.client as mqtt
from pymodbus.client import AsyncModbusTcpClient
battery, gateway, broker = (int(port) for port in sys.argv[1:])
READS = {battery: ((1, 40070, 110), (1, 40190, 60), (1, 40300, 60)), gateway: ((2, 40070, 52), (3, 40070, 105))}
cloud = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
cloud.connect("127.0.0.1", broker)
cloud.loop_start()
async def main():
    lines = {port: AsyncModbusTcpClient("127.0.0.1", port=port) for port in READS}
    for line in lines.values():
        await line.connect()
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        seen = []
        for port, reads in READS.items():
            for unit, at, count in reads:
                seen += (await lines[port].read_holding_registers(at, count=count, device_id=unit)).registers
        cloud.publish("bare", json.dumps({"t": due, "seen": seen[:30]}), qos=1)
        due += 1.0
        await asyncio.sleep(max(0.0, due - loop.time()))
asyncio.run(main())
"""
BARE_START = """
import asyncio, sys
from pymodbus.client import AsyncModbusTcpClient
async def main():
    line = AsyncModbusTcpClient("127.0.0.1", port=int(sys.argv[1]))
    await line.connect()
    await line.write_registers(int(sys.argv[2]), [0, 0], device_id=1)
    await line.read_holding_registers(int(sys.argv[2]), count=2, device_id=1)
asyncio.run(main())
"""


def environment() -> dict[str, str]:
    """The environment of what is measured: as where it is installed, its bytecode is kept from one start to the next."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPYCACHEPREFIX": str(ROOT / "build" / "bytecode")}


def warm() -> None:
    """The daemon's bytecode is there: compiling it would count as the daemon's own time and memory."""
    subprocess.run([sys.executable, "-c", "import agent.cli.run, agent.app"], cwd=ROOT, env=environment(), check=True)


def simulator(folder: Path) -> SimulatorProcess:
    """The simulated devices as a process of their own, with a battery of 1 MWh."""
    config = folder / "simulator.toml"
    config.write_text("seed = 1\n[battery]\ncapacity_wh = 1000000.0\n")
    return SimulatorProcess(config, folder / "simulator.log")


def site_file(folder: Path, site: SimulatorProcess, broker_url: str) -> Path:
    """The example site file, pointed at the simulated devices."""
    text = CONFIG
    for old, new in (
        ("tcp://192.168.10.20:502", f"tcp://127.0.0.1:{site.battery_port}"),
        ("tcp://192.168.10.21:502", f"tcp://127.0.0.1:{site.gateway_port}"),
        ("mqtt://127.0.0.1:1883", broker_url),
        ("/var/lib/ems-agent", str(folder / "store")),
        ("/run/ems-agent/ems.sock", str(folder / "ems.sock")),
        ('positive = "import"', 'positive = "export"'),
        ('"example-01"', f'"{SITE_ID}"'),
    ):
        assert old in text, old
        text = text.replace(old, new)
    path = folder / "site.toml"
    path.write_text(text)
    return path


def cpu_s(pid: int) -> float:
    """User and system time of a process, to the nanosecond."""
    return time.clock_gettime(~pid << 3 | 2)  # CPUCLOCK_SCHED of linux/posix-timers_types.h, of another process


def resident_mb(pid: int) -> float:
    """Resident memory."""
    line = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def ask(path: Path, deadline_s: float = 20.0) -> dict[str, Any]:
    """The daemon's status, as soon as it has one with a verified write."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        try:
            connection = Connection(path)
            reply = connection.ask("status")
            connection.close()
        except OSError:
            reply = {"ok": False}
        if reply["ok"] and reply["result"]["counters"]["writes_verified"]:
            return reply["result"]
        time.sleep(0.01)
    raise SystemExit("the daemon did not come into control")


def script(code: str, *arguments: object) -> subprocess.Popen[bytes]:
    """A bare script as a process of its own."""
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], env=environment())


def timed_s(code: str, *arguments: object) -> float:
    """Seconds from the start to the end of a bare script."""
    begun = time.monotonic()
    with script(code, *arguments) as process:
        assert process.wait() == 0, "the bare script failed"
    return time.monotonic() - begun


def start(config: Path, log: Path) -> tuple[subprocess.Popen[bytes], float]:
    """The daemon, and the seconds from starting the process to its first verified setpoint."""
    begun = time.monotonic()
    with log.open("ab") as stream:
        command = [sys.executable, "-m", "agent.cli.main", "run", "--config", str(config)]
        process = subprocess.Popen(command, stderr=stream, cwd=ROOT, env=environment())
    ask(config.parent / "ems.sock")
    return process, time.monotonic() - begun


def measure(seconds: int) -> dict[str, Any]:
    """All figures."""
    with tempfile.TemporaryDirectory() as name, Broker() as broker:
        folder = Path(name)
        site = simulator(folder)
        try:
            config = site_file(folder, site, broker.url)
            starts, bare_starts = [], []
            warm()
            setpoint = SimulatedSite(SiteConfig()).battery.image.address("704.WSet")
            for _ in range(STARTS):
                process, took_s = start(config, folder / "agent.log")
                starts.append(took_s)
                process.kill()
                process.wait()
                bare_starts.append(timed_s(BARE_START, site.battery_port, setpoint))
            process, _ = start(config, folder / "agent.log")
            port = int(broker.url.rsplit(":", 1)[1])
            bare = script(BARE, site.battery_port, site.gateway_port, port)
            time.sleep(SETTLE_S)
            before = (cpu_s(process.pid), cpu_s(bare.pid), time.monotonic())
            time.sleep(seconds)
            assert bare.poll() is None, "the bare script failed"
            after = (cpu_s(process.pid), cpu_s(bare.pid), time.monotonic())
            took_s = after[2] - before[2]
            maps = Path(f"/proc/{process.pid}/maps").read_text()
            status = ask(config.parent / "ems.sock")
            result = {
                "seconds": round(took_s, 1),
                "daemon_cpu_pct": round(100 * (after[0] - before[0]) / took_s, 3),
                "daemon_resident_mb": round(resident_mb(process.pid), 1),
                "bare_cpu_pct": round(100 * (after[1] - before[1]) / took_s, 3),
                "bare_resident_mb": round(resident_mb(bare.pid), 1),
                "scipy_loaded": "scipy" in maps,
                "ticks": status["counters"]["ticks"],
                "late_ticks": status["counters"]["late_ticks"],
                "cloud_connected": status["cloud"]["connected"],
                "start_to_verified_setpoint_s": {
                    "median": round(median(starts), 3), "worst": round(max(starts), 3), "of": STARTS,
                },
                "bare_start_to_setpoint_s": round(median(bare_starts), 3),
            }  # fmt: skip
            bare.kill()
            bare.wait()
            process.terminate()
            process.wait()
            return result
        finally:
            site.stop()


def figures(result: dict[str, Any]) -> list[Figure]:
    """The figures of `measure`."""
    bare = "a bare pymodbus and paho script that reads the same"
    started = result["start_to_verified_setpoint_s"]
    return [
        Figure("daemon.cpu", "the daemon on the demo's site (battery, PV, meter, broker) at 1 Hz",
               result["daemon_cpu_pct"], "% of a core", result["bare_cpu_pct"], bare),
        Figure("daemon.memory", "its memory", result["daemon_resident_mb"], "MB", result["bare_resident_mb"], bare),
        Figure("daemon.start", f"start of the process to the first verified setpoint, median of {started['of']}",
               started["median"], "s", result["bare_start_to_setpoint_s"],
               "a bare script that writes one setpoint and reads it back", MAX_START_S),
    ]  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=40)
    print(json.dumps(measure(parser.parse_args().seconds), indent=2))
