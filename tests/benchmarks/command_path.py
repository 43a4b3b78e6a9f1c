"""How soon a command moves: `python -m tests.benchmarks.command_path [--commands 500]`.

From the instant at which `set_power` is published to the instant at which the new setpoint is written at the device, with
the real daemon as its own process, a real broker, simulated devices on Modbus TCP, a signed command and the durable
commit of it. In the same run, turn by turn, a bare script in its own process does the same without any of that: it hears
the message and writes the register. Prints one JSON object; exit code 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import base64
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import paho.mqtt.client as mqtt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from simulators.broker import Broker
from simulators.site import SimulatedSite
from simulators.site_config import SiteConfig
from tests.benchmarks.daemon_cost import environment, site_file, start
from tests.benchmarks.figures import Figure
from tests.in_thread import InThread

MEDIAN_MS, P99_MS = 5.0, 15.0
"""To reach."""
SITE_ID = "demo-01"
LATE_S = 5.0
"""A command that moved nothing by then failed."""
PAUSE_S = 0.05
"""Between two commands, so that the rate limit is not what is measured."""
BARE = """
import socket, struct, sys, threading
import paho.mqtt.client as mqtt
port, device, address, unit = (int(x) for x in sys.argv[1:])
line = socket.create_connection(("127.0.0.1", device))
line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
def write(_client, _data, message):
    value = struct.pack(">i", int(message.payload))
    line.sendall(struct.pack(">HHHBBHHB", 1, 0, 11, unit, 16, address, 2, 4) + value)
    line.recv(64)
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
client.on_connect = lambda client, *_: client.subscribe("bare", qos=1)
client.on_subscribe = lambda *_: print("ready", flush=True)
client.on_message = write
client.connect("127.0.0.1", port)
client.loop_forever()
"""


class Devices(InThread):
    """A simulated site in a thread, which notes when its battery is told a setpoint."""

    def __init__(self, config: SiteConfig | None = None) -> None:
        self.site = SimulatedSite(config or SiteConfig())
        self.told: dict[float, float] = {}
        """The first instant of each setpoint, W."""
        self.news = threading.Event()
        super().__init__(self.site)
        write = self.site.battery.control.write

        def noted(points: Any, utc_s: float) -> None:
            if "WSet" in points:
                self.told.setdefault(points["WSet"], time.monotonic())
                self.news.set()
            write(points, utc_s)

        self.site.battery.control.write = noted  # type: ignore[method-assign]
        self.battery_port, self.gateway_port = self.site.battery_port, self.site.gateway_port

    def moved_s(self, power_w: float, begun_s: float) -> float:
        """Seconds from `begun_s` to the write of this setpoint; raises SystemExit when it does not come."""
        while power_w not in self.told:
            self.news.clear()
            if time.monotonic() - begun_s > LATE_S:
                raise SystemExit(f"{power_w:g} W was not written within {LATE_S:g} s")
            if power_w not in self.told:
                self.news.wait(0.5)
        return self.told[power_w] - begun_s


def encoded(raw: bytes) -> bytes:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def command(key: Ed25519PrivateKey, number: int, power_w: float) -> bytes:
    """A signed set_power."""
    now = datetime.now(UTC).timestamp()
    times = {
        name: datetime.fromtimestamp(at, UTC).isoformat() for name, at in (("issued_at", now), ("expires_at", now + 60))
    }
    params = {"target": "battery", "unit": "W", "positive": "export", "power": power_w, "duration_s": 60.0}
    content = {
        "schema": "1.0",
        "site_id": SITE_ID,
        "id": f"bench-{number}",
        "type": "set_power",
        **times,
        "params": params,
    }
    signed = encoded(b'{"alg":"Ed25519","kid":"bench"}') + b"." + encoded(json.dumps(content).encode())
    return signed + b"." + encoded(key.sign(signed))


def figures(seconds: list[float]) -> dict[str, float]:
    """Milliseconds."""
    cuts = quantiles(seconds, n=100)
    return {name: round(1000 * value, 3) for name, value in
            (("median_ms", median(seconds)), ("p99_ms", cuts[98]), ("max_ms", max(seconds)))}  # fmt: skip


@contextmanager
def cloud(port: int, devices: Sequence[Devices], children: Sequence[subprocess.Popen[bytes]]) -> Iterator[mqtt.Client]:
    """The cloud's client; at the end it is gone, and so are the processes and the devices."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        yield client
    finally:
        client.loop_stop()
        for child in children:
            child.terminate()
            child.wait()
        for one in devices:
            one.close()


def timed(client: mqtt.Client, topic: str, payload: bytes | str, devices: Devices, power_w: float) -> float:
    """Seconds from publishing to the write."""
    begun_s = time.monotonic()
    client.publish(topic, payload, qos=1)
    return devices.moved_s(power_w, begun_s)


def measure(commands: int) -> dict[str, Any]:
    """All figures."""
    key = Ed25519PrivateKey.generate()
    ours, bares = Devices(), Devices()
    with tempfile.TemporaryDirectory() as name, Broker() as broker:
        folder = Path(name)
        config = site_file(folder, ours, broker.url)
        public = base64.b64encode(key.public_key().public_bytes_raw()).decode()
        config.write_text(config.read_text() + f'\n[[cloud.signing_key]]\nid = "bench"\npublic_key = "{public}"\n')
        process, _ = start(config, folder / "agent.log")
        address = bares.site.battery.image.address("704.WSet")
        arguments = [str(value) for value in (broker.port, bares.battery_port, address, 1)]
        bare = subprocess.Popen([sys.executable, "-c", BARE, *arguments], stdout=subprocess.PIPE, env=environment())
        with cloud(broker.port, (ours, bares), (bare, process)) as client:
            assert bare.stdout is not None
            assert bare.stdout.readline() == b"ready\n"
            agent_s, bare_s = [], []
            topic = f"ems/v1/{SITE_ID}/cloud/command"
            for number in range(commands):
                power_w = 10_000.0 + 1_000.0 * number % 100_000 + number * 1_000.0 // 100_000
                agent_s.append(timed(client, topic, command(key, number, power_w), ours, power_w))
                time.sleep(PAUSE_S)
                bare_s.append(timed(client, "bare", str(int(power_w)), bares, power_w))
                time.sleep(PAUSE_S)
    found = figures(agent_s)
    return {
        "commands": commands,
        "signed_and_durable": found,
        "bare_script": figures(bare_s),
        "targets": {"median_ms": MEDIAN_MS, "p99_ms": P99_MS},
        "met": found["median_ms"] <= MEDIAN_MS and found["p99_ms"] <= P99_MS,
    }


def shown(result: dict[str, Any]) -> list[Figure]:
    """The figures of `measure`."""
    bare, ours = result["bare_script"], result["signed_and_durable"]
    does = "a bare script without signature and disk"
    return [
        Figure("command.median", "a published, signed command to its write at the device, durable commit included",
               ours["median_ms"], "ms", bare["median_ms"], does, MEDIAN_MS),
        Figure("command.p99", "the same, p99", ours["p99_ms"], "ms", bare["p99_ms"], does, P99_MS),
    ]  # fmt: skip


def main() -> int:
    """0 when the targets are met, 1 when not."""
    parser = argparse.ArgumentParser(description="How soon a command moves.")
    parser.add_argument("--commands", type=int, default=500)
    result = measure(parser.parse_args().commands)
    print(json.dumps(result, indent=2))
    return 0 if result["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
