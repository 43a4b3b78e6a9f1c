"""Days of the whole shell on virtual time, and whether anything in it grows: memory, files, tasks, WAL, log.

`python -m simulators.virtual.endurance --days 7`: polls, plans, commands, a broker that flaps every few hours and a PV
inverter that dies for a while each day. `--away 0.2:30` takes the broker away for 30 days from day 0.2 on.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import linear_regression

from agent.config import load
from simulators.cloud_count import SampleCount, StreamCount
from simulators.invariants import revision
from simulators.virtual.cloud import STREAMS
from simulators.virtual.loop import VirtualLoop, run
from simulators.virtual.site_file import VirtualSite
from simulators.virtual.swarm import MEMORY
from simulators.virtual.watch import SETTLE_S, Watch
from simulators.virtual.world import World

DAY_S = 86_400.0
LOOK_EVERY_S = 3600.0
FLAP_EVERY_H, FLAPS, FLAP_S = 5, 30, 3.0
DIE_EVERY_H, DEAD_S = 24, 1200.0
COMMAND_EVERY_S = 900.0
WARM_UP_SHARE = 0.3
"""What fills once (rings of rows, learned days, caches) is full after this share of the run."""
DRAIN_S_PER_DAY = 360.0
"""A month of frames takes 36 minutes at 20 a second; this leaves five times as long."""
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
MOST_MB_A_DAY, MOST_OBJECTS_A_DAY, MOST_FILES, MOST_TASKS, MOST_WAL_MB, MOST_LINES_AN_HOUR = 1.0, 2_000, 2, 3, 17.0, 720


@dataclass(frozen=True, slots=True)
class Look:
    """The process at one moment."""

    day: float
    memory_mb: float
    objects: int
    files: int
    tasks: int
    wal_mb: float
    store_mb: float
    log_lines: int
    """Since the start."""


@dataclass
class Days:
    """What a run was."""

    looks: list[Look] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    ticks: int = 0
    late_ticks: int = 0
    frames: int = 0
    redelivered: int = 0
    digest: str = ""
    cpu_s: float = 0.0

    def settled(self) -> list[Look]:
        """The looks after the warm-up."""
        return self.looks[int(WARM_UP_SHARE * len(self.looks)) :]

    def slope(self, name: str) -> float:
        """How much `name` grows a day, by least squares over the looks after the warm-up; 0 where one look is all."""
        looks = self.settled()
        if len(looks) < 2:
            return 0.0
        return linear_regression([look.day for look in looks], [float(getattr(look, name)) for look in looks]).slope

    def grows(self) -> list[str]:
        """What is not flat, for people."""
        looks = self.settled()
        spread = {
            name: max(getattr(x, name) for x in looks) - min(getattr(x, name) for x in looks)
            for name in ("files", "tasks")
        }
        lines = [(b.log_lines - a.log_lines) / (24.0 * (b.day - a.day)) for a, b in pairwise(looks)]
        checks = [
            ("memory", self.slope("memory_mb"), MOST_MB_A_DAY, "MB a day"),
            ("Python objects", self.slope("objects"), MOST_OBJECTS_A_DAY, "a day"),
            ("open files, spread", spread["files"], MOST_FILES, ""),
            ("tasks, spread", spread["tasks"], MOST_TASKS, ""),
            ("write-ahead logs", max(x.wal_mb for x in looks), MOST_WAL_MB, "MB"),
            ("log", max(lines, default=0.0), MOST_LINES_AN_HOUR, "lines an hour"),
        ]
        return [f"{what}: {found:.2f} {unit}, at most {most:g}" for what, found, most, unit in checks if found > most]


class Endurance:
    """One run."""

    def __init__(self, days: float, tick_s: float, away: tuple[float, float] | None) -> None:
        self._days = days
        self._away = away
        self._site = VirtualSite(seed=7, tick_s=tick_s, poll_s=min(tick_s, 5.0), telemetry_mb=400)
        self.result = Days()

    def run(self) -> Days:
        """The whole run."""
        began_s = time.process_time()
        with tempfile.TemporaryDirectory(prefix="days", dir=MEMORY if MEMORY.is_dir() else None) as folder:
            run(lambda loop: self._story(loop, Path(folder)))
        self.result.cpu_s = time.process_time() - began_s
        return self.result

    async def _story(self, loop: VirtualLoop, folder: Path) -> None:
        world = World(loop, self._site, folder)
        # The cloud's memory is in this process too: it remembers no more than it needs to compare.
        world.cloud.streams = {name: StreamCount(remembered=500) for name in STREAMS}
        world.cloud.instants = SampleCount(remembered=5_000)
        watch = Watch(world, load(folder / "site.toml").rules())
        await world.start()
        world.start_agent()
        helpers = [asyncio.create_task(job) for job in (self._flap(world), self._die(world), self._command(world))]
        begin_s = loop.time()
        try:
            for hour in range(1, round(24 * self._days) + 1):
                self._go_away(world, hour)
                while loop.time() < begin_s + LOOK_EVERY_S * hour:
                    await asyncio.sleep(60.0)
                    world.check_agent()
                self._look(world, hour / 24.0)
                if hour % 24 == 0:
                    print(f"day {hour // 24}: {self.result.looks[-1].memory_mb:.0f} MB", file=sys.stderr, flush=True)
            for helper in helpers:
                helper.cancel()
            world.broker.go_up()
            await asyncio.sleep(SETTLE_S + (DRAIN_S_PER_DAY * self._away[1] if self._away else 0.0))
            watch.check_end()
            assert world.control is not None, "it ticks"
            self.result.late_ticks = world.control.counters.late_ticks
            await world.stop_agent()
        finally:
            for helper in helpers:
                helper.cancel()
            self.result.broken += watch.all_broken()
            self.result.ticks = watch.ticks
            streams = world.cloud.streams
            self.result.frames = streams["telemetry"].unique
            self.result.redelivered = sum(stream.redelivered for stream in streams.values())
            self.result.digest = world.cloud.digest.hexdigest()
            await world.close()

    def _is_away(self, hour: float) -> bool:
        return self._away is not None and self._away[0] <= hour / 24.0 < self._away[0] + self._away[1]

    def _go_away(self, world: World, hour: int) -> None:
        if self._is_away(hour - 1) and not world.broker.faults.down:
            world.broker.go_down()
        elif not self._is_away(hour - 1) and world.broker.faults.down:
            world.broker.go_up()

    def _look(self, world: World, day: float) -> None:
        gc.collect()
        store = world.folder / "store"
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.result.looks.append(
            Look(
                day=day,
                memory_mb=pages * PAGE_BYTES / 1e6,
                objects=len(gc.get_objects()),
                files=len(list(Path("/proc/self/fd").iterdir())),
                tasks=len(asyncio.all_tasks()),
                wal_mb=world.disk.wal_bytes() / 1e6,
                store_mb=sum(file.stat().st_size for file in store.iterdir()) / 1e6,
                log_lines=world.logs.lines,
            )
        )

    async def _flap(self, world: World) -> None:
        while True:
            await asyncio.sleep(FLAP_EVERY_H * 3600.0)
            for _ in range(FLAPS):
                world.broker.cut_all()
                await asyncio.sleep(FLAP_S)

    async def _die(self, world: World) -> None:
        while True:
            await asyncio.sleep(DIE_EVERY_H * 3600.0 - DEAD_S)
            world.plant.faults["pv"].silent = True
            await asyncio.sleep(DEAD_S)
            world.plant.faults["pv"].silent = False

    async def _command(self, world: World) -> None:
        while True:
            await asyncio.sleep(COMMAND_EVERY_S)
            if not world.broker.faults.down:
                world.cloud.send_command("hold", {"duration_s": 60.0}, lasts_s=60.0)


def _told(found: Days, days: float, tick_s: float) -> str:
    last = found.looks[-1]
    return (
        f"{days:g} days, tick {tick_s:g} s: {found.ticks} ticks, {found.late_ticks} late, {found.frames} frames at "
        f"the cloud ({found.redelivered} messages came again); memory {last.memory_mb:.0f} MB, "
        f"{found.slope('memory_mb'):+.2f} MB a day; objects {found.slope('objects'):+.0f} a day; files {last.files}, "
        f"tasks {last.tasks}; WAL at most {max(look.wal_mb for look in found.looks):.1f} MB, store "
        f"{last.store_mb:.1f} MB; log {last.log_lines / (24 * last.day):.1f} lines an hour; {found.cpu_s:.0f} s of "
        f"CPU; digest {found.digest[:12]} (revision {revision()})"
    )


def main(arguments: list[str] | None = None) -> int:
    """Runs the days; 1 when something grew or a rule was broken."""
    parser = argparse.ArgumentParser(prog="python -m simulators.virtual.endurance", description=__doc__)
    parser.add_argument("--days", type=float, default=7.0, help="simulated days (default 7)")
    parser.add_argument("--tick", type=float, default=1.0, help="seconds of a control tick, 1 to 10 (default 1)")
    parser.add_argument("--away", help="FROM:DAYS, when the broker is away")
    parser.add_argument("--json", type=Path, help="write all looks to this file")
    options = parser.parse_args(arguments)
    away = None
    if options.away:
        first, _, last = options.away.partition(":")
        away = (float(first), float(last))
    found = Endurance(options.days, options.tick, away).run()
    print(_told(found, options.days, options.tick))
    wrong = found.broken + ([] if away else found.grows())
    for what in wrong:
        print(f"  {what}")
    if options.json is not None:
        options.json.write_text(json.dumps(asdict(found), indent=1))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
