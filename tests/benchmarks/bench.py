"""`make bench`: every figure beside its bare reference of the same run, in build/bench.json and docs/performance.md.

`python -m tests.benchmarks.bench [--only PART ...] [--peers]`. What is not run this time keeps its last figures. Each part can
be run alone by its own command, which prints all that it found. Exit code 1 when a part failed or a figure is not where
it should be.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

from tests.benchmarks.figures import PAGE, RESULTS, Figure, keep, number, part, refreshed


class Part(NamedTuple):
    """One benchmark: `run` of a module's own measure, and how its figures are called there."""

    about: str
    module: str
    run: Callable[[Any], Any]
    seconds: int
    """About so long, for who waits."""
    arguments: str = ""
    figures: str = "figures"


PARTS = {
    "daemon": Part("the daemon on the demo's site", "daemon_cost", lambda m: m.measure(40), 75),
    "poll": Part("ten devices polled each second", "poll_cost", lambda m: m.measure(40), 190),
    "poll100": Part("a hundred", "poll_cost", lambda m: m.measure(25, 100), 90, " --devices 100"),
    "command": Part("the path of a command", "command_path", lambda m: m.measure(300), 45, figures="shown"),
    "droop": Part("from frequency to setpoint", "droop_path", lambda m: m.measure(120), 60, figures="shown"),
    "step": Part("one control tick", "step_time", lambda m: m.measure(100), 30),
    "replan": Part("planning anew", "replan_time", lambda m: m.both(), 45),
    "frames": Part("a day of telemetry", "frame_bytes", lambda m: m.measure(6.0, 1), 60),
    "day": Part("wire, disk and syncs of the demo's site", "wire_and_disk", lambda m: m.measure(180), 195),
    "simulate": Part("simulated days", "sim_speed", lambda m: m.measure(1), 40),
    "flood": Part("a flood of messages", "flood", lambda m: m.measure(20), 75),
    "cli": Part("the first answer of each command", "cli_answer", lambda m: m.measure(), 180),
    "year": Part("a year's plan", "year_plan", lambda m: asyncio.run(m.measure(m.RUNS)), 20),
}


def run(name: str) -> tuple[dict[str, Any], list[Figure]]:
    """What one part found, as it is kept, and its figures."""
    one = PARTS[name]
    module = import_module(f"tests.benchmarks.{one.module}")
    raw = one.run(module)
    found: list[Figure] = getattr(module, one.figures)(raw)
    notes = module.notes(raw) if hasattr(module, "notes") else []
    return part(f"python -m tests.benchmarks.{one.module}{one.arguments}", found, raw, notes), found


def say(text: str) -> None:
    """Progress, beside what is printed for programs."""
    print(text, file=sys.stderr, flush=True)


def line(figure: Figure) -> str:
    """One figure for who watches."""
    beside = f" ({number(figure.ratio)} x {figure.reference_what})" if figure.ratio else ""
    missed = (
        f"   MISSED: to reach {number(figure.to_reach)}" if figure.met is False and figure.to_reach is not None else ""
    )
    return f"    {figure.what}: {number(figure.value)} {figure.unit}{beside}{missed}"


def main() -> int:
    """0 when every part ran and every figure is where it should be."""
    parser = argparse.ArgumentParser(description="Every figure beside its bare reference of the same run.")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--peers", action="store_true", help="other gateways too, installed for it (peers.py)")
    options = parser.parse_args()
    failed, began_s = False, time.monotonic()
    for at, name in enumerate(options.only, 1):
        one = PARTS[name]
        say(f"[{at}/{len(options.only)}] {one.about}: about {one.seconds} s")
        try:
            found, figures = run(name)
        except (SystemExit, Exception) as error:  # noqa: BLE001  # the other parts still tell something
            say(f"    failed: {error}")
            failed = True
            continue
        keep({name: found})
        for figure in figures:
            say(line(figure))
        failed |= any(figure.met is False for figure in figures)
        for note in found["notes"]:
            say(f"    {note}")
    if options.peers:
        from tests.benchmarks import peers

        keep({"peers": peers.measured(say)})
    if PAGE.exists():
        PAGE.write_text(refreshed(PAGE.read_text(), keep({})))
    say(f"{RESULTS} and {PAGE} are written, after {time.monotonic() - began_s:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
