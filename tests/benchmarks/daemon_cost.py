"""What the daemon costs on the demo's site at 1 Hz, and how soon it is in control: `make bench`.

The real daemon as its own process, with a simulated battery, PV and meter on Modbus TCP and a real broker, beside a
bare asyncio process that wakes once a second, as the measure of this machine. Prints one JSON object.
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

CONFIG = (Path(__file__).parents[2] / "config" / "site.example.toml").read_text()
STARTS = 5
BARE = "import asyncio\nasync def f():\n  while True: await asyncio.sleep(1)\nasyncio.run(f())"


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
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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


def start(config: Path, log: Path) -> tuple[subprocess.Popen[bytes], float]:
    """The daemon, and the seconds from starting the process to its first verified setpoint."""
    begun = time.monotonic()
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "agent.cli.main", "run", "--config", str(config)], stderr=stream
        )
    ask(config.parent / "ems.sock")
    return process, time.monotonic() - begun


def measure(seconds: int) -> dict[str, Any]:
    """All figures."""
    with tempfile.TemporaryDirectory() as name, Broker() as broker:
        folder = Path(name)
        simulator = folder / "simulator.toml"
        simulator.write_text("seed = 1\n[battery]\ncapacity_wh = 1000000.0\n")
        site = SimulatorProcess(simulator, folder / "simulator.log")
        try:
            config = site_file(folder, site, broker.url)
            starts = []
            for _ in range(STARTS):
                process, took_s = start(config, folder / "agent.log")
                starts.append(took_s)
                process.kill()
                process.wait()
            process, _ = start(config, folder / "agent.log")
            bare = subprocess.Popen([sys.executable, "-c", BARE])
            time.sleep(3)
            before = (cpu_s(process.pid), cpu_s(bare.pid), time.monotonic())
            time.sleep(seconds)
            after = (cpu_s(process.pid), cpu_s(bare.pid), time.monotonic())
            took_s = after[2] - before[2]
            maps = Path(f"/proc/{process.pid}/maps").read_text()
            status = ask(config.parent / "ems.sock")
            result = {
                "seconds": round(took_s, 1),
                "daemon_cpu_pct": round(100 * (after[0] - before[0]) / took_s, 2),
                "daemon_resident_mb": round(resident_mb(process.pid), 1),
                "bare_asyncio_cpu_pct": round(100 * (after[1] - before[1]) / took_s, 2),
                "bare_asyncio_resident_mb": round(resident_mb(bare.pid), 1),
                "scipy_loaded": "scipy" in maps,
                "ticks": status["counters"]["ticks"],
                "late_ticks": status["counters"]["late_ticks"],
                "cloud_connected": status["cloud"]["connected"],
                "start_to_verified_setpoint_s": {
                    "median": round(median(starts), 2), "worst": round(max(starts), 2), "of": STARTS,
                },
            }  # fmt: skip
            bare.kill()
            bare.wait()
            process.terminate()
            process.wait()
            return result
        finally:
            site.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    print(json.dumps(measure(parser.parse_args().seconds), indent=2))
