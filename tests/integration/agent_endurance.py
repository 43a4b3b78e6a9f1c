"""Half an hour of the real daemon at five times the pace of a site: `agent_endurance.py --minutes 30`.

Real process, real files, real broker, a simulated plant over real Modbus: five ticks, polls and samples a second, a frame a
second, plans and commands all the time; the broker flaps and the PV inverter dies, again and again. Every few seconds the process is
looked at from outside. After the warm-up nothing in it may grow: memory, open files, threads, tasks, write-ahead logs, log.

Prints one JSON object; exit code 1 when something grew, the last plan is not executed or the cloud misses anything.
"""

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import linear_regression

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]

from agent_kill_storm import Load, quiet_broker  # noqa: E402 - the paths come first
from integration_site import (  # noqa: E402
    PLANNING_SITE_FILE,
    PREFIX,
    Agent,
    CountingCloud,
    SitePlant,
    document,
    near,
    until,
)

FLAP_EVERY_S, FLAPS, DOWN_S, UP_S = 120.0, 5, 1.0, 2.0
DIE_EVERY_S, DEAD_S = 180.0, 30.0
LOOK_EVERY_S = 5.0
WARM_UP_SHARE = 0.4
"""Rings of rows (ten minutes) and caches are full after this share of half an hour."""
MOST = {
    "memory_mb": (6.0, "MB an hour"),
    "files": (12.0, "an hour"),
    "threads": (6.0, "an hour"),
    "tasks": (12.0, "an hour"),
}
"""What a straight line through the looks may rise; a leak of one file or task a flap is 150 an hour."""
MOST_WAL_MB = 17.0
MOST_LINES_RATIO = 1.3
"""Each plan, command, flap and death is some lines, at the end as at the beginning."""
PROGRAM = """
import asyncio, pathlib, signal
place = pathlib.Path({tasks!r})
signal.signal(signal.SIGUSR1, lambda *_: place.write_text(str(len(asyncio.all_tasks()))))
from agent.cli.main import main
main()
"""
"""The daemon as it is, which also says how many tasks it has when it is asked by a signal."""


@dataclass(frozen=True, slots=True)
class Look:
    """The process from outside at one moment."""

    at_s: float
    memory_mb: float
    files: int
    threads: int
    tasks: int
    wal_mb: float
    log_lines: int
    """Since the start."""


class PatientCloud(CountingCloud):
    """What it sends while the broker is away waits for it."""

    def send(self, payload, kind="rolling"):
        self.paho.publish(f"{PREFIX}cloud/plan/{kind}", payload, qos=1, retain=True)


class Endurance:
    """One site, left alone with its troubles."""

    def __init__(self, place, seed):
        self.broker = quiet_broker(place)
        self.plant, self.cloud = SitePlant(), PatientCloud(self.broker)
        self.agent = Agent(place, self.plant, broker=self.broker.url, text=PLANNING_SITE_FILE)
        self._tasks = place / "tasks"
        self.agent.program = [sys.executable, "-c", PROGRAM.format(tasks=str(self._tasks))]
        self.agent.start()
        until(lambda: self.agent.status()["cloud"]["connected"], "the broker knows the site")
        self._load = Load(self.cloud, random.Random(seed))
        self._ending = threading.Event()
        self._troubles = [threading.Thread(target=trouble) for trouble in (self._flap, self._die)]
        for thread in self._troubles:
            thread.start()
        self._began_s = time.monotonic()
        self.looks = []

    def _flap(self):
        while not self._ending.wait(FLAP_EVERY_S):
            for _ in range(FLAPS):
                self.broker.terminate()
                self._ending.wait(DOWN_S)
                self.broker.start()
                self._ending.wait(UP_S)

    def _die(self):
        while not self._ending.wait(DIE_EVERY_S):
            self.plant.faults["pv"].silent = True
            self._ending.wait(DEAD_S)
            self.plant.faults["pv"].silent = False

    def look(self):
        process = Path("/proc") / str(self.agent.process.pid)
        self._tasks.unlink(missing_ok=True)
        self.agent.process.send_signal(signal.SIGUSR1)
        tasks = until(lambda: self._tasks.exists() and self._tasks.read_text(), "it counts its tasks")
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        logs = (self.agent.folder / "store").glob("*-wal")
        self.looks.append(
            Look(
                at_s=time.monotonic() - self._began_s,
                memory_mb=int(status["VmRSS"].split()[0]) / 1024,
                files=len(list((process / "fd").iterdir())),
                threads=int(status["Threads"]),
                tasks=int(tasks),
                wal_mb=sum(log.stat().st_size for log in logs) / 1e6,
                log_lines=self.agent.log.read_bytes().count(b"\n"),
            )
        )

    def settle(self):
        """Troubles end; a last plan must be executed and everything must be at the cloud."""
        self._load.stop()
        self._end_troubles()
        self.cloud.send(document(self._load.version + 1, [40.0] * 300))
        self.cloud.ack(self._load.version + 1, "active")
        until(lambda: self.agent.status()["source"] == "rolling", "the last command is over")
        until(lambda: near(self.plant.battery_w, 40_000.0), "the battery does as the last plan says")
        until(lambda: self.agent.status()["cloud"]["outbox_depth"] <= 4, "all is at the cloud but the newest", 120.0)
        self.cloud.assert_complete()
        return self.agent.status()["counters"]

    def _end_troubles(self):
        self._ending.set()
        for thread in self._troubles:
            thread.join()

    def close(self):
        self._load.stop()
        self._end_troubles()
        for part in (self.agent, self.cloud, self.plant):
            part.close()
        self.broker.stop()


def settled(looks):
    """The looks after the warm-up."""
    return looks[int(WARM_UP_SHARE * len(looks)) :]


def rise_an_hour(looks, name):
    """The slope of a straight line through the looks after the warm-up."""
    after = settled(looks)
    return linear_regression([x.at_s / 3600.0 for x in after], [float(getattr(x, name)) for x in after]).slope


def lines_a_second(first, last):
    return (last.log_lines - first.log_lines) / (last.at_s - first.at_s)


def grows(looks):
    """What is not flat, for people."""
    found = []
    for name, (most, unit) in MOST.items():
        rise = rise_an_hour(looks, name)
        if rise > most:
            found.append(f"{name}: {rise:+.1f} {unit}, at most {most:g}")
    wal_mb = max(x.wal_mb for x in looks)
    if wal_mb > MOST_WAL_MB:
        found.append(f"write-ahead logs: {wal_mb:.1f} MB, at most {MOST_WAL_MB:g}")
    after = settled(looks)
    first, middle, last = after[0], after[len(after) // 2], after[-1]
    before_a_s, now_a_s = lines_a_second(first, middle), lines_a_second(middle, last)
    if now_a_s > MOST_LINES_RATIO * before_a_s:
        found.append(f"log: {60 * now_a_s:.0f} lines a minute, and {60 * before_a_s:.0f} before")
    return found


def endure(place, minutes, seed):
    """What so many minutes were, and what grew or was missing in the end."""
    site = Endurance(place, seed)
    try:
        end_s = time.monotonic() + 60.0 * minutes
        while time.monotonic() < end_s:
            site.look()
            if len(site.looks) % 60 == 0:
                print(f"{site.looks[-1].at_s / 60.0:.0f} min: {site.looks[-1]}", file=sys.stderr, flush=True)
            time.sleep(LOOK_EVERY_S)
        counters = site.settle()
    finally:
        site.close()
    looks = site.looks
    told = {"minutes": minutes, "ticks": counters["ticks"], "late_ticks": counters["late_ticks"]}
    told |= {"plans": site._load.version, "commands": len(site._load.commands)}
    told["frames"] = len(site.cloud.seqs("telemetry"))
    for field in fields(Look)[1:]:
        values = [getattr(look, field.name) for look in settled(looks)]
        told[field.name] = [round(min(values), 1), round(max(values), 1)]
    told |= {f"{name}_rise_an_hour": round(rise_an_hour(looks, name), 2) for name in MOST}
    return told, grows(looks)


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--minutes", type=float, default=30.0)
    options.add_argument("--seed", type=int, default=1)
    asked = options.parse_args()
    place = Path(tempfile.mkdtemp(prefix="days_"))
    try:
        told, wrong = endure(place, asked.minutes, asked.seed)
    finally:
        shutil.rmtree(place)
    print(json.dumps(told | {"grows": wrong}))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
