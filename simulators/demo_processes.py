"""The demo's processes: the simulated site with its truth, and the agent, which may be killed and started again."""

from __future__ import annotations

import bisect
import json
import socket
import sys
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulators.leash import Child

TRUTH_EVERY_S = 0.5
READY_TIMEOUT_S = 20.0
ASK_TIMEOUT_S = 1.0
MAX_TRUTHS = 20_000
"""Nearly three hours; older ones are forgotten."""


class DemoError(Exception):
    """The demo cannot go on; the text says what, why and where to look."""


def log_end(path: Path, most: int = 1500) -> str:
    """The end of a log file, for an error text."""
    return path.read_text(errors="replace")[-most:].strip() if path.exists() else "(no log)"


@dataclass(frozen=True, slots=True)
class Truth:
    """What the plant really did at one instant: W toward the grid, Wh of the meter's net counter, %."""

    utc_s: float
    grid_w: float
    battery_w: float
    soc_pct: float
    net_wh: float


class SimulatorProcess:
    """`python -m simulators.site`, and the truth it tells."""

    def __init__(self, config: Path, log: Path) -> None:
        """Start it, and return when its devices answer; raises DemoError with its log when they do not."""
        command = [sys.executable, "-m", "simulators.site", "--config", str(config)]
        self._child = Child([*command, "--truth-every", str(TRUTH_EVERY_S), "--exit-with-stdin"], log, pipes=True)
        self._ready = threading.Event()
        self._lock = threading.Lock()
        self._truths: list[Truth] = []
        self._ports = {"battery_port": 0, "gateway_port": 0}
        threading.Thread(target=self._read, name="truth", daemon=True).start()
        if not self._ready.wait(READY_TIMEOUT_S) or not self._ports["battery_port"]:
            self._child.stop()
            raise DemoError(f"the simulated site did not start; {log} says: {log_end(log)}")

    @property
    def battery_port(self) -> int:
        """Modbus TCP port of the battery."""
        return self._ports["battery_port"]

    @property
    def gateway_port(self) -> int:
        """Modbus TCP port of PV inverter and meter."""
        return self._ports["gateway_port"]

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._child.exit_code is None

    def stop(self) -> None:
        """End it. May be called again."""
        self._child.stop()

    def net_wh_at(self, utc_s: float) -> float | None:
        """The net exported energy at that instant; None when no truth was told for it."""
        found = self._between(utc_s - 1e-3, utc_s + 1e-3)
        return found[0].net_wh if found else None

    def true_wh(self, start_utc_s: float, end_utc_s: float) -> float | None:
        """The energy that really went through the connection point from one instant to another."""
        before, after = self.net_wh_at(start_utc_s), self.net_wh_at(end_utc_s)
        return None if before is None or after is None else after - before

    def battery_w(self, start_utc_s: float, end_utc_s: float) -> float | None:
        """The battery's true power, the mean of the instants told within the slot, its edges left out."""
        found = self._between(start_utc_s + 1e-3, end_utc_s - 1e-3)
        return sum(truth.battery_w for truth in found) / len(found) if found else None

    def _between(self, start_utc_s: float, end_utc_s: float) -> list[Truth]:
        with self._lock:
            low = bisect.bisect_left(self._truths, start_utc_s, key=lambda truth: truth.utc_s)
            high = bisect.bisect_right(self._truths, end_utc_s, key=lambda truth: truth.utc_s)
            return self._truths[low:high]

    def _read(self) -> None:
        for line in self._child.stdout:
            said = json.loads(line)
            if "ready" in said:
                self._ports = {name: said[name] for name in self._ports}
                self._ready.set()
                continue
            net_wh = said["export_wh"] - said["import_wh"]
            truth = Truth(said["utc_s"], said["grid_w"], said["battery_w"], said["soc_pct"], net_wh)
            with self._lock:
                self._truths.append(truth)
                del self._truths[:-MAX_TRUTHS]
        self._ready.set()


COUNTERS = ("ticks", "late_ticks", "writes", "writes_verified", "writes_failed", "frames_sealed")


class AgentProcess:
    """`ems run` in the demo: started, asked, killed, started again; its counters summed over its lives."""

    def __init__(self, config: Path, log: Path) -> None:
        """Nothing runs yet; `config` is the agent's site file, its socket lies beside it."""
        self._config, self._log = config, log
        self.socket_path = config.parent / "ems.sock"
        self._child: Child | None = None
        self._former: Counter[str] = Counter()
        self._last: dict[str, Any] | None = None
        self.starts = 0

    @property
    def pid(self) -> int | None:
        """The process id, None when it was never started."""
        return None if self._child is None else self._child.pid

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._child is not None and self._child.exit_code is None

    @property
    def counters(self) -> Counter[str]:
        """Its counters, summed over all lives, as far as the last status of each told."""
        return self._former + self._present()

    def start(self) -> None:
        """Start it; it is in control some time later."""
        assert not self.running, "the agent runs already"
        self._keep_counters()
        command = [sys.executable, "-m", "agent.cli.main", "run", "--config", str(self._config)]
        self._child = Child(command, self._log)
        self.starts += 1

    def kill(self) -> None:
        """SIGKILL, after a last look at its counters."""
        assert self._child is not None, "the agent was never started"
        self.status()
        self._child.kill()
        self._keep_counters()

    def stop(self) -> int | None:
        """SIGTERM, as systemd does; the exit code. May be called again."""
        if self._child is None:
            return None
        self._child.stop()
        return self._child.exit_code

    def failure(self) -> DemoError:
        """What to raise when it ended by itself."""
        code = None if self._child is None else self._child.exit_code
        return DemoError(f"the agent ended by itself (exit code {code}); {self._log} says: {log_end(self._log)}")

    def status(self) -> dict[str, Any] | None:
        """Its status now, or None when it does not answer."""
        found = self._ask({"cmd": "status"})
        if not isinstance(found, dict) or found.get("pid") != self.pid:
            return None
        self._last = found
        return found

    def slots(self, from_utc_s: float, to_utc_s: float) -> list[dict[str, Any]] | None:
        """Its ledger of the finished slots that a plan promised in that time, or None when it does not answer."""
        found = self._ask({"cmd": "slots", "from_utc_s": from_utc_s, "to_utc_s": to_utc_s})
        return [row for row in found if row["planned_wh"] is not None] if isinstance(found, list) else None

    def _present(self) -> Counter[str]:
        said = (self._last or {}).get("counters") or {}
        return Counter({name: int(said.get(name) or 0) for name in COUNTERS})

    def _keep_counters(self) -> None:
        self._former = self.counters
        self._last = None

    def _ask(self, request: dict[str, Any]) -> Any:
        """The result of one request; None when there is none."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
                line.settimeout(ASK_TIMEOUT_S)
                line.connect(str(self.socket_path))
                line.sendall(json.dumps(request).encode() + b"\n")
                with line.makefile("rb") as stream:
                    reply = json.loads(stream.readline())
        except (OSError, ValueError):
            return None
        return reply.get("result") if reply.get("ok") else None
