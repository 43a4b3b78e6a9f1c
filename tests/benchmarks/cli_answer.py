"""How soon each `ems` command that only reads says something, beside a bare process that asks the daemon the same.

The real daemon on the demo's site, with a broker; each command is a process of its own, one after the other, timed from its
start to its first byte of output and to its end, beside the processor time that it took: on a machine that others use too,
that is what compares. `python -m tests.benchmarks.cli_answer [--runs N]` prints every command.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from simulators.broker import Broker
from simulators.demo_processes import SimulatorProcess
from tests.benchmarks.daemon_cost import environment, site_file, start, warm
from tests.benchmarks.figures import Figure

RUNS = 10
MAX_FIRST_MS = 200.0
"""To reach, on an idle machine."""
LIVES_S = 75.0
"""So old is the daemon when it is asked: there is a frame, a slot and a few events."""
WITHIN_S = 60.0
BARE = """
import json, socket, sys
with socket.socket(socket.AF_UNIX) as line:
    line.connect(sys.argv[1])
    stream = line.makefile("rwb")
    stream.write(b'{"cmd": "status"}\\n')
    stream.flush()
    print(len(json.loads(stream.readline())))
"""


def commands(folder: Path) -> Iterator[list[str]]:
    """Every command that only reads, with what it must be given."""
    config, store = ["--config", str(folder / "site.toml")], ["--store", str(folder / "store")]
    now = datetime.now(UTC)
    then, until = (now + timedelta(seconds=shift_s) for shift_s in (-20, 1))
    span = ["--from", f"{then:%Y-%m-%dT%H:%M:%SZ}", "--to", f"{until:%Y-%m-%dT%H:%M:%SZ}"]
    yield ["--version"]
    yield ["--help"]
    yield ["status"]
    yield ["explain"]
    yield ["explain", f"{then:%Y-%m-%dT%H:%M:%SZ}", *store]
    yield ["events"]
    yield ["ledger"]
    yield ["plan", "show"]
    yield ["awards"]
    yield ["awards", "evidence", *span]
    yield ["model", "show"]
    yield ["devices", "list"]
    yield ["devices", "profiles"]
    yield ["devices", "read", "bess"]
    yield ["devices", "check", "bess"]
    yield ["devices", "schema"]
    yield ["config", "check", *config]
    yield ["commission", "--last"]
    yield ["telemetry", "export", *span, *store]
    yield ["report", *store, "--out", str(folder / "day.html")]
    yield ["contract", "export", str(folder / "contract")]
    yield ["doctor", *config]


def answered_ms(words: list[str], folder: Path) -> tuple[float, float, float]:
    """Milliseconds from the start of `ems WORDS` to its first byte, to its end, and of the processor."""
    asking = environment() | {"EMS_SOCKET": str(folder / "ems.sock"), "EMS_STORE": str(folder / "store")}
    return timed_ms([str(Path(sys.executable).with_name("ems")), *words], asking)


def timed_ms(command: list[str], variables: dict[str, str]) -> tuple[float, float, float]:
    """The same of any command; errors count as output."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun_s = time.monotonic()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=variables
    ) as process:
        assert process.stdout is not None
        first = os.read(process.stdout.fileno(), 1)
        first_s = time.monotonic() - begun_s
        process.stdout.read()
        process.wait(WITHIN_S)
    whole_s = time.monotonic() - begun_s
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    worked_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return 1e3 * (first_s if first else whole_s), 1e3 * whole_s, 1e3 * worked_s


def shown(words: list[str]) -> str:
    """A command for people, without its options and with what it was given as one word."""
    given = [word for word in words if not word.startswith(("/", "--")) or len(words) == 1]
    return " ".join(
        ["TIME" if word[:2] == "20" else word for word in given if given[0] == "explain" or word[:2] != "20"]
    )


@contextmanager
def living_daemon() -> Iterator[Path]:
    """The folder of a daemon on the demo's site that has run for a while."""
    with tempfile.TemporaryDirectory() as name, Broker() as broker:
        folder = Path(name)
        (folder / "simulator.toml").write_text("seed = 1\n[battery]\ncapacity_wh = 1000000.0\n")
        site = SimulatorProcess(folder / "simulator.toml", folder / "simulator.log")
        warm()
        daemon, _ = start(site_file(folder, site, broker.url), folder / "agent.log")
        try:
            time.sleep(LIVES_S)
            yield folder
        finally:
            daemon.terminate()
            daemon.wait()
            site.stop()


def measure(runs: int = RUNS) -> dict[str, Any]:
    """The median times of each command, and of the bare process."""
    with living_daemon() as folder:
        bare = [sys.executable, "-c", BARE, str(folder / "ems.sock")]
        found = {}
        for words in commands(folder):
            answered_ms(words, folder)  # bytecode and file cache are there from a start before
            times = [answered_ms(words, folder) for _ in range(runs)]
            found[shown(words)] = {
                "first_ms": round(median(first for first, _, _ in times), 1),
                "whole_ms": round(median(whole for _, whole, _ in times), 1),
                "processor_ms": round(median(worked for _, _, worked in times), 1),
            }  # fmt: skip
        bare_times = [timed_ms(bare, environment()) for _ in range(runs)]
        return {
            "commands": found,
            "bare_first_ms": round(median(first for first, _, _ in bare_times), 1),
            "bare_processor_ms": round(median(worked for _, _, worked in bare_times), 1),
            "runs": runs,
        }


def figures(result: dict[str, Any]) -> list[Figure]:
    """The median command, and the slowest."""
    found, bare = result["commands"], "a bare Python process that asks the daemon for its status"
    first_ms = {name: one["first_ms"] for name, one in found.items()}
    slowest = max(first_ms, key=lambda name: first_ms[name])
    worked_ms = median(one["processor_ms"] for one in found.values())
    return [
        Figure("cli.processor", f"processor time of `ems` commands that read, the median of {len(found)}",
               worked_ms, "ms", result["bare_processor_ms"], bare),
        Figure("cli.first", "time to their first output, the median of them",
               median(first_ms.values()), "ms", result["bare_first_ms"], bare, MAX_FIRST_MS),
        Figure("cli.slowest", f"... of the slowest, `ems {slowest}`", first_ms[slowest], "ms", result["bare_first_ms"],
               bare, MAX_FIRST_MS),
    ]  # fmt: skip


def notes(result: dict[str, Any]) -> list[str]:
    """Each command, the cheapest first."""
    found = sorted(result["commands"].items(), key=lambda one: one[1]["processor_ms"])
    told = [f"{name} {one['first_ms']:.0f} ({one['processor_ms']:.0f})" for name, one in found]
    about = f"First output of `ems ...`, ms, median of {result['runs']} (processor time of the whole command, ms)"
    return [f"{about}: {', '.join(told)}."]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    print(json.dumps(measure(parser.parse_args().runs), indent=2))
