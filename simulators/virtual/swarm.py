"""`make swarm`: random faults over random sites, the whole shell on virtual time, each seed the same again to the byte.

`python -m simulators.virtual.swarm --seeds 100 --hours 1` runs seeds 1 to 100. A seed that breaks a rule is printed
with the revision and added to the corpus, which the tests replay.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from agent.config import load
from simulators.invariants import revision
from simulators.virtual.faults import CRIPPLING, FIRST_BURST_S, Fault, Injector, Kind, drawn
from simulators.virtual.loop import StandsStillError, VirtualLoop, run
from simulators.virtual.site_file import VirtualSite
from simulators.virtual.watch import DEVICES_SETTLE_S, NORMAL_AFTER_S, SETTLE_S, Watch
from simulators.virtual.world import World

CORPUS = Path(__file__).parents[2] / "tests" / "simulators" / "swarm_corpus.json"
YEAR_S = 365.25 * 86_400.0
COMMAND_EVERY_S = 150.0
ORDERS_SHARE = 0.2
LOOK_EVERY_S = 20.0
MEMORY = Path("/dev/shm")  # noqa: S108 (only the parent of a fresh directory)
"""Where the files of a run lie, if there is such a place: fsync costs nothing there."""


@dataclass
class Result:
    """What one run was and found."""

    seed: int
    hours: float
    digest: str = ""
    broken: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    ticks: int = 0
    starts: int = 0
    commands: int = 0
    frames: int = 0
    cpu_s: float = 0.0


def site_of(seed: int, tick_s: float = 1.0) -> VirtualSite:
    """The site of a seed; it polls as often as it decides."""
    source = random.Random(f"virtual site {seed}")
    rated_kw = source.choice((50.0, 100.0, 500.0))
    return VirtualSite(
        seed=seed,
        rated_kw=rated_kw,
        capacity_kwh=rated_kw * source.choice((0.5, 1.0, 2.0, 4.0)),
        connection_kw=rated_kw * source.choice((0.6, 1.0, 1.5)),
        export_kw=rated_kw * source.choice((0.0, 0.6, 1.5)),
        pv_kw=rated_kw * source.choice((0.1, 0.6, 1.2)),
        load_kw=rated_kw * source.choice((0.05, 0.2)),
        battery_kind=source.choice(("der", "der", "storage")),
        initial_soc_pct=source.choice((5.5, 30.0, 50.0, 94.0)),
        replan=source.random() < 0.15,
        self_consumption=source.random() < 0.3,
        pv_limited=source.random() < 0.5,
        frame_s=source.choice((10, 60)),
        telemetry_mb=10,
        tick_s=tick_s,
        poll_s=tick_s,
    )


class Run:
    """One seed."""

    def __init__(self, seed: int, hours: float, *, tick_s: float = 1.0, kinds: tuple[Kind, ...] = tuple(Kind)) -> None:
        self.site = site_of(seed, tick_s)
        self.result = Result(seed, hours)
        self._bursts = drawn(seed, hours * 3600.0, kinds)
        self._random = random.Random(f"commands {seed}")

    @classmethod
    def again(cls, entry: dict[str, Any]) -> Run:
        """The run of an entry of the corpus: its own site and faults, whatever its seed gives by now."""
        run = cls(entry["seed"], entry["hours"], tick_s=entry["tick_s"])
        run.site = VirtualSite(**entry["site"])
        run._bursts = [
            [Fault(**{**fault, "kind": Kind(fault["kind"])}) for fault in burst] for burst in entry["bursts"]
        ]
        return run

    def entry(self, tick_s: float, found: str) -> dict[str, Any]:
        """What the corpus keeps of this run."""
        bursts = [[asdict(fault) for fault in burst] for burst in self._bursts]
        head = {"seed": self.site.seed, "hours": self.result.hours, "tick_s": tick_s, "found": found[:200]}
        return {**head, "site": asdict(self.site), "bursts": bursts}

    def run(self) -> Result:
        """The whole run, from a fresh disk to the last message."""
        began_s = time.process_time()
        parent = MEMORY if MEMORY.is_dir() else None
        with tempfile.TemporaryDirectory(prefix="swarm", dir=parent) as folder:
            try:
                run(lambda loop: self._story(loop, Path(folder)))
            except (Exception, asyncio.CancelledError, StandsStillError) as error:  # noqa: BLE001 (a finding, whatever it is)
                self.result.broken.append(f"{type(error).__name__}: {_root_of(error)}")
        self.result.cpu_s = time.process_time() - began_s
        gc.unfreeze()
        gc.collect()
        return self.result

    async def _story(self, loop: VirtualLoop, folder: Path) -> None:
        world = World(loop, self.site, folder)
        world.cloud.null_share = 0.0
        watch = Watch(world, load(folder / "site.toml").rules())
        injector = Injector(world)
        begin_s = loop.time()
        await world.start()
        world.start_agent()
        commanding = asyncio.create_task(self._command(world))
        try:
            await _pass_time(world, begin_s + FIRST_BURST_S)
            for burst in self._bursts:
                await self._burst(world, watch, injector, burst, begin_s)
                end_s = loop.time()
                await _pass_time(world, end_s + NORMAL_AFTER_S)
                watch.check_normal()
            commanding.cancel()
            await _pass_time(world, max(loop.time() + SETTLE_S, begin_s + self.result.hours * 3600.0))
            watch.check_end(disk_was_good=not {Kind.DISK_FULL.value, Kind.DISK_SLOW.value} & set(self.result.faults))
            await world.stop_agent()
        finally:
            commanding.cancel()
            result = self.result
            result.broken += watch.all_broken()
            watch.digest.update(world.cloud.digest.digest())
            result.digest, result.ticks, result.starts = watch.digest.hexdigest(), watch.ticks, world.starts
            result.commands = len(world.cloud.commands)
            result.frames = world.cloud.streams["telemetry"].unique
            await world.close()

    async def _burst(self, world: World, watch: Watch, injector: Injector, burst: list[Fault], begin_s: float) -> None:
        """Brings the faults of one burst and takes them back; something is looked at every second."""
        coming = sorted(burst, key=lambda fault: fault.start_s)
        active: list[Fault] = []
        self.result.faults.update(fault.kind.value for fault in burst)
        while coming or active:
            now_s = world.loop.time() - begin_s
            for fault in [one for one in active if one.end_s <= now_s]:
                active.remove(fault)
                await injector.end(fault)
            for fault in [one for one in coming if one.start_s <= now_s]:
                coming.remove(fault)
                active.append(fault)
                await injector.begin(fault)
                world.check_agent()
            for fault in active:
                await injector.goes_on(fault)
            if any(fault.kind in CRIPPLING for fault in active):
                watch.devices_good_from_s = world.loop.time() + DEVICES_SETTLE_S
            await asyncio.sleep(1.0 + 0.001 * self._random.randrange(0, 200))
            world.check_agent()

    async def _command(self, world: World) -> None:
        """A command now and then, whatever happens."""
        source, rated_kw = self._random, world.site.rated_kw
        while True:
            await asyncio.sleep(source.uniform(1.0, 2.0 * COMMAND_EVERY_S))
            if source.random() < ORDERS_SHARE:
                _order(world, source)
                continue
            seconds = source.choice((10.0, 60.0, 240.0))
            kind = source.choice(
                ("set_power", "set_power", "hold", "neutral", "release", "report", "live", "narrow_limits")
            )
            params: dict[str, object] = {"duration_s": seconds}
            if kind == "set_power":
                power_kw = rated_kw * source.choice((-1.0, -0.3, 0.2, 1.0, 3.0))
                params |= {"target": "battery", "power": power_kw, "unit": "kW", "positive": "export"}
            elif kind == "narrow_limits":
                params |= {"unit": "kW", "discharge_limit": rated_kw * source.random()}
            elif kind in ("release", "report"):
                params = {}
            world.cloud.send_command(kind, params, lasts_s=seconds if params else 0.0)


def _order(world: World, source: random.Random) -> None:
    """Orders of the grid operator, or an outage of the battery: soon over, so that everything can be normal again."""
    start_s, end_s = source.uniform(-30.0, 60.0), source.uniform(61.0, 200.0)
    if source.random() < 0.7:
        export_kw = world.site.rated_kw * source.choice((0.0, 0.3))
        world.cloud.publish_orders("curtailments", start_s, end_s, {"export_limit": export_kw, "import_limit": None})
    else:
        world.cloud.publish_orders("outages", start_s, end_s, {"device": "bess"})


async def _pass_time(world: World, until_s: float) -> None:
    while world.loop.time() < until_s:
        await asyncio.sleep(min(LOOK_EVERY_S, until_s - world.loop.time()))
        world.check_agent()


def _root_of(error: BaseException) -> str:
    """What is at the bottom of groups of errors."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    where = ""
    trace = error.__traceback__
    while trace is not None:
        where = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__} at {where}: {error}"


def one(seed: int, hours: float, tick_s: float) -> Result:
    """The result of one seed."""
    return Run(seed, hours, tick_s=tick_s).run()


def keep(result: Result, tick_s: float) -> None:
    """Adds a seed that broke a rule to the corpus."""
    corpus = json.loads(CORPUS.read_text())
    entry = Run(result.seed, result.hours, tick_s=tick_s).entry(tick_s, result.broken[0])
    if not any(old["bursts"] == entry["bursts"] and old["site"] == entry["site"] for old in corpus):
        corpus.append(entry)
        CORPUS.write_text(json.dumps(corpus, indent=1) + "\n")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m simulators.virtual.swarm", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="how many seeds (default 20)")
    parser.add_argument("--first", type=int, default=1, help="the first of them (default 1)")
    parser.add_argument("--hours", type=float, default=24.0, help="simulated hours of each (default 24)")
    parser.add_argument("--tick", type=float, default=1.0, help="seconds of a control tick, 1 to 5 (default 1)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default 1)")
    parser.add_argument("--twice", action="store_true", help="run each seed twice and compare the digests")
    parser.add_argument("--minutes", type=float, default=0.0, help="end after so many real minutes")
    parser.add_argument("--json", type=Path, help="write all results to this file")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Runs the seeds; 1 when any rule was broken."""
    options = _options(arguments)
    seeds = range(options.first, options.first + options.seeds)
    print(f"revision {revision()}, seeds {seeds[0]} to {seeds[-1]}, {options.hours:g} h each", flush=True)
    results: list[Result] = []
    stop_s = time.monotonic() + 60.0 * options.minutes if options.minutes else float("inf")
    # Forked, so that all seeds run the code of one moment; a few seeds a process, so that nothing adds up.
    with multiprocessing.get_context("fork").Pool(options.jobs, maxtasksperchild=10) as pool:
        for result in pool.imap_unordered(
            partial(_checked, hours=options.hours, tick_s=options.tick, twice=options.twice), seeds
        ):
            results.append(result)
            _tell(result, options.tick)
            if time.monotonic() > stop_s:
                break
    return _report(results, options)


def _checked(seed: int, hours: float, tick_s: float, twice: bool) -> Result:
    result = one(seed, hours, tick_s)
    if twice:
        again = one(seed, hours, tick_s)
        if again.digest != result.digest:
            result.broken.append(f"invariant 16: a second run gave {again.digest[:12]}, the first {result.digest[:12]}")
    return result


def _tell(result: Result, tick_s: float) -> None:
    verdict = "ok" if not result.broken else f"BROKEN ({len(result.broken)})"
    print(f"seed {result.seed}: {verdict}, {result.digest[:12]}, {result.cpu_s:.1f} s of CPU", flush=True)
    for what in result.broken[:5]:
        print(f"  {what}", flush=True)
    if result.broken:
        command = "python -m simulators.virtual.swarm"
        print(f"  again: {command} --first {result.seed} --seeds 1 --hours {result.hours:g} --tick {tick_s:g}")
        keep(result, tick_s)


def _report(results: list[Result], options: argparse.Namespace) -> int:
    simulated_s = sum(result.hours * 3600.0 for result in results)
    faults = sum((result.faults for result in results), Counter[str]())
    broken = [result.seed for result in results if result.broken]
    print(
        f"{len(results)} seeds, {simulated_s / YEAR_S:.4f} simulated years, {sum(faults.values())} faults, "
        f"{sum(r.starts for r in results)} starts, {sum(r.ticks for r in results)} ticks, "
        f"{sum(r.commands for r in results)} commands, {sum(r.frames for r in results)} frames at the cloud, "
        f"{sum(r.cpu_s for r in results):.0f} s of CPU; broken: {broken or 'none'} (revision {revision()})"
    )
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(result) for result in results], indent=1))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
