"""How soon the battery hears of the frequency: `python -m tests.benchmarks.droop_path [--steps 120]`.

From the instant at which the frequency at the meter changes to the instant at which the new setpoint is written at the
battery, under an award that asks for ten readings a second: the real daemon as its own process, a real broker, simulated
devices on Modbus TCP. What is beyond the wait for the next reading is what the agent takes: from the answer in which the
meter first tells the new frequency to the write. In the same run, turn by turn, a bare script in its own process reads
the register ten times a second, works out the same line and writes. Prints one JSON object; exit code 1 when a target is
missed.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.cli.client import Connection
from simulators.battery import BatteryConfig
from simulators.broker import Broker
from simulators.plant import GridConfig, LoadConfig, PvConfig
from simulators.site_config import SiteConfig
from tests.benchmarks.command_path import SITE_ID, Devices, cloud, figures
from tests.benchmarks.daemon_cost import environment, site_file, start
from tests.benchmarks.figures import Figure

BEYOND_MS = 10.0
"""To reach, median."""
PRODUCT, AWARD_KW = "gb-dc", 200.0
"""Full within 1 s, so that the agent reads and decides ten times a second."""
READ_EVERY_S = 0.1
LATE_S = 3.0
"""A change that moved nothing by then failed."""
STILL = SiteConfig(
    battery=BatteryConfig(capacity_wh=4_000_000.0, lag_s=0.05),
    pv=PvConfig(peak_w=0.0),
    load=LoadConfig(base_w=0.0),
    grid=GridConfig(noise_hz=0.0),
)
BARE = """
import socket, struct, sys, time
meter, hz, unit, battery, setpoint, battery_unit = (int(x) for x in sys.argv[1:7])
step_w = float(sys.argv[7])
def line(port):
    made = socket.create_connection(("127.0.0.1", port))
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made
reading, writing, told = line(meter), line(battery), None
due = time.monotonic()
while True:
    reading.sendall(struct.pack(">HHHBBHH", 1, 0, 6, unit, 3, hz, 1))
    seen = struct.unpack(">H", reading.recv(64)[9:11])[0] / 100.0
    power = -200000.0 * max(-1.0, min(1.0, (seen - 50.0) / 0.5))
    value = round(power / step_w)
    if value != told:
        told = value
        writing.sendall(struct.pack(">HHHBBHHB", 1, 0, 11, battery_unit, 16, setpoint, 2, 4) + struct.pack(">i", value))
        writing.recv(64)
    due += 0.1
    time.sleep(max(0.0, due - time.monotonic()))
"""


class Grid(Devices):
    """A still site in a thread, which notes when its meter first told each frequency and when its battery was written to."""

    def __init__(self) -> None:
        super().__init__(STILL)
        self.seen: dict[float, float] = {}
        """The first instant at which each frequency, Hz, was answered."""
        self._shown = self.site.plant.frequency_hz
        read = self.site.meter.read

        def noted(address: int, count: int) -> bytes:
            answer = read(address, count)
            at = self.site.meter.image.address(self.hz)
            if address <= at < address + count:
                self.seen.setdefault(round(self.site.plant.frequency_hz, 2), time.monotonic())
            return answer

        self.site.meter.read = noted  # type: ignore[method-assign]

    @property
    def hz(self) -> str:
        """The meter's point."""
        return "203.Hz"

    def step(self, frequency_hz: float) -> tuple[float, float]:
        """Seconds from the change to the write, and from the meter's answer to the write."""
        self.told.clear()
        self.seen.clear()
        begun_s = time.monotonic()
        self.site.plant.frequency_shift_hz = frequency_hz - 50.0
        while True:
            self.news.clear()
            seen_s = self.seen.get(frequency_hz)
            written_s = min(
                (at_s for at_s in self.told.values() if seen_s is not None and at_s >= seen_s), default=None
            )
            if seen_s is not None and written_s is not None:
                return written_s - begun_s, written_s - seen_s
            if time.monotonic() - begun_s > LATE_S:
                raise SystemExit(f"{frequency_hz:g} Hz moved nothing within {LATE_S:g} s")
            self.news.wait(0.05)


def awards(now_s: float) -> bytes:
    """An award that runs."""
    start, end = (datetime.fromtimestamp(int(now_s) + by_s, UTC).isoformat() for by_s in (-1, 3600))
    award = {"id": "bench", "product": PRODUCT, "power": AWARD_KW, "direction": "both", "start": start, "end": end}
    issued = datetime.fromtimestamp(now_s, UTC).isoformat()
    document = {"schema": "1.0", "site_id": SITE_ID, "kind": "awards", "version": 1, "issued_at": issued, "unit": "kW"}
    return json.dumps(document | {"awards": [award]}).encode()


def await_award(path: Path) -> None:
    """Returns when the loop runs at the award's pace."""
    end_s = time.monotonic() + 20.0
    while time.monotonic() < end_s:
        connection = Connection(path)
        now = connection.ask("awards")["result"]["now"]
        connection.close()
        if now is not None and now["tick_s"] <= READ_EVERY_S:
            time.sleep(2.0)  # the meter is read at that pace too
            return
        time.sleep(0.05)
    raise SystemExit("the award did not come into force")


def measure(steps: int) -> dict[str, Any]:
    """All figures."""
    ours, bares, dice = Grid(), Grid(), random.Random(1)
    with tempfile.TemporaryDirectory() as name, Broker() as broker:
        folder = Path(name)
        config = site_file(folder, ours, broker.url)
        config.write_text(f'{config.read_text()}\n[[product]]\nname = "{PRODUCT}"\n')
        process, _ = start(config, folder / "agent.log")
        image = bares.site.battery.image
        arguments: list[float] = [bares.gateway_port, bares.site.meter.image.address(bares.hz), 3, bares.battery_port]
        arguments += [image.address("704.WSet"), 1, image.resolution("704.WSet")]
        bare = subprocess.Popen([sys.executable, "-c", BARE, *map(str, arguments)], env=environment())
        with cloud(broker.port, (ours, bares), (bare, process)) as client:
            client.publish(f"ems/v1/{SITE_ID}/cloud/plan/awards", awards(time.time()), qos=1, retain=True)
            await_award(config.parent / "ems.sock")
            found: dict[str, list[tuple[float, float]]] = {"agent": [], "bare": []}
            for number in range(steps):
                # Far enough from the step before, outside the product's dead band, and at no fixed phase.
                frequency_hz = round(50.0 + (-1) ** number * dice.uniform(0.25, 0.5), 2)
                for who, devices in (("agent", ours), ("bare", bares)):
                    time.sleep(dice.uniform(0.15, 0.25))
                    found[who].append(devices.step(frequency_hz))
    result: dict[str, Any] = {"steps": steps, "read_every_ms": READ_EVERY_S * 1000}
    for who, took in found.items():
        result[who] = {
            "change_to_write": figures([whole for whole, _ in took]),
            "beyond_the_reading": figures([beyond for _, beyond in took]),
        }
    beyond_ms = result["agent"]["beyond_the_reading"]["median_ms"]
    result["targets"] = {"beyond_the_reading_median_ms": BEYOND_MS}
    result["met"] = beyond_ms <= BEYOND_MS
    return result


def shown(result: dict[str, Any]) -> list[Figure]:
    """The figures of `measure`."""
    ours, bare, does = result["agent"], result["bare"], "a bare loop on raw sockets"
    return [
        Figure("droop.beyond", "frequency told by the meter to setpoint at the battery, median; ten readings a second",
               ours["beyond_the_reading"]["median_ms"], "ms", bare["beyond_the_reading"]["median_ms"], does, BEYOND_MS),
        Figure("droop.whole", "frequency changed to setpoint at the battery, median; the wait for the reading included",
               ours["change_to_write"]["median_ms"], "ms", bare["change_to_write"]["median_ms"], does),
    ]  # fmt: skip


def main() -> int:
    """0 when the target is met, 1 when not."""
    parser = argparse.ArgumentParser(description="How soon the battery hears of the frequency.")
    parser.add_argument("--steps", type=int, default=120)
    result = measure(parser.parse_args().steps)
    print(json.dumps(result, indent=2))
    return 0 if result["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
