"""What the daemon puts on the wire and on the disk: `python -m tests.benchmarks.wire_and_disk [--seconds 180]`.

The real daemon on the demo's site at 1 Hz, frames of a minute. Its broker is reached through a relay that counts the bytes
both ways (MQTT with all its headers, without those of TCP and IP); what it writes to the disk is what the system counts,
and its syncs are counted by strace where that is installed and allowed. Beside it, through a relay of its own, a bare
script that publishes each second's sample as JSON. Prints one JSON object, scaled to a day.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from simulators.broker import Broker
from tests.benchmarks.daemon_cost import BARE, SETTLE_S, script, simulator, site_file, start
from tests.benchmarks.figures import Figure

DAY_S = 86_400.0


class Relay:
    """Passes a TCP connection on to the broker and counts its bytes, both ways together."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.bytes = 0
        self._lock = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                with self._lock:
                    self.bytes += len(data)
                other.sendall(data)
        other.close()

    def close(self) -> None:
        """Nobody new is let in."""
        self._server.close()


def written_bytes(pid: int) -> int:
    """What the process gave to the disk so far."""
    line = next(x for x in Path(f"/proc/{pid}/io").read_text().splitlines() if x.startswith("write_bytes"))
    return int(line.split()[1])


class Syncs:
    """Counts the syncs of a process from now on, where strace can."""

    def __init__(self, pid: int, log: Path) -> None:
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.missing = ""
        if shutil.which("strace") is None:
            self.missing = "strace is not installed"
            return
        command = ["strace", "-f", "-qq", "-e", "trace=fsync,fdatasync", "-o", str(log), "-p", str(pid)]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE)
        time.sleep(1.0)
        if self._process.poll() is not None:
            assert self._process.stderr is not None
            self.missing = f"strace may not: {self._process.stderr.read().decode().strip()}"

    def stop(self) -> int | None:
        """How many there were; None where nobody counted."""
        if self.missing or self._process is None:
            return None
        self._process.terminate()
        self._process.wait()
        return len(re.findall(r"\bf(?:data)?sync\(", self._log.read_text()))


def measure(seconds: int) -> dict[str, Any]:
    """All figures."""
    with tempfile.TemporaryDirectory() as name, Broker() as broker:
        folder = Path(name)
        site = simulator(folder)
        ours, bares = (Relay(int(broker.url.rsplit(":", 1)[1])) for _ in range(2))
        try:
            config = site_file(folder, site, f"mqtt://127.0.0.1:{ours.port}")
            process, _ = start(config, folder / "agent.log")
            bare = script(BARE, site.battery_port, site.gateway_port, bares.port)
            time.sleep(SETTLE_S)
            syncs = Syncs(process.pid, folder / "strace")
            began_s, before = time.monotonic(), (written_bytes(process.pid), ours.bytes, bares.bytes)
            time.sleep(seconds)
            took_s, after = time.monotonic() - began_s, (written_bytes(process.pid), ours.bytes, bares.bytes)
            counted = syncs.stop()
            assert bare.poll() is None, "the bare script failed"
            for child in (bare, process):
                child.terminate()
                child.wait()
        finally:
            site.stop()
            ours.close()
            bares.close()
    disk, wire, bare_wire = ((then - first) * DAY_S / took_s / 1e6 for first, then in zip(before, after, strict=True))
    return {
        "seconds": round(took_s, 1),
        "disk_mb_per_day": round(disk, 2),
        "wire_mb_per_day": round(wire, 2),
        "bare_wire_mb_per_day": round(bare_wire, 2),
        "syncs_per_hour": None if counted is None else round(counted * 3600 / took_s, 1),
        "syncs_missing": syncs.missing,
    }


def figures(result: dict[str, Any]) -> list[Figure]:
    """The figures of `measure`."""
    found = [
        Figure("day.wire", "MQTT of a day on the demo's site, all headers but TCP's", result["wire_mb_per_day"], "MB",
               result["bare_wire_mb_per_day"], "a bare script, one JSON message a second"),
        Figure("day.disk", "given to the disk in a day", result["disk_mb_per_day"], "MB"),
    ]  # fmt: skip
    if result["syncs_per_hour"] is not None:
        found.append(Figure("day.syncs", "syncs an hour", result["syncs_per_hour"], "an hour"))
    return found


def notes(result: dict[str, Any]) -> list[str]:
    """What could not be measured."""
    return [f"syncs an hour: {result['syncs_missing']}"] if result["syncs_missing"] else []


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=180)
    print(json.dumps(measure(parser.parse_args().seconds), indent=2))
