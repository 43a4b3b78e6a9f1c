"""One run of a fleet: connect, send, plan for all, break all lines; what each took, in one object."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simulators.fleet import Habits, LightCloud, LightSite, Place, Tally, plan_document

DEADLINE_S = 120.0
"""Each phase ends by then, and says how many sites are missing."""
LOOK_EVERY_S = 0.1
TOLD_EVERY_S = 5.0
FILES_BESIDE = 200
CONNECTS_PER_S = 200.0


class FleetError(Exception):
    """The run cannot begin; the text says what to do."""


@dataclass(frozen=True, slots=True)
class FleetTask:
    """What one run is to do."""

    place: Place
    sites: int
    seconds: float = 30.0
    """Of steady traffic."""
    habits: Habits = field(default_factory=Habits)
    connects_per_s: float = CONNECTS_PER_S
    plan_slots: int = 96
    herd: bool = False
    """Break all lines at once, at the end."""
    prefix: str = "fleet"
    broker_pid: int | None = None
    seed: int = 1


class FleetRun:
    """A fleet at work."""

    def __init__(self, task: FleetTask, say: Callable[[str], None]) -> None:
        """Nothing is connected yet; `say` hears how far it is."""
        self._task, self._say = task, say
        self._tally = Tally()
        self._own_kb = _resident_kb(os.getpid())
        self._cloud = LightCloud(task.place, say)
        chance = random.Random(task.seed)
        self._sites = [
            LightSite(
                f"{task.prefix}-{number:06d}", task.place, task.habits, self._tally, random.Random(chance.random())
            )
            for number in range(task.sites)
        ]

    async def run(self) -> dict[str, Any]:
        """The figures; FleetError when the broker is not there."""
        _room_for_files(self._task.sites)
        try:
            await self._cloud.begin()
        except (OSError, TimeoutError) as error:
            place = self._task.place
            raise FleetError(f"no broker at {place.host}:{place.port}: {error or 'no answer'}") from error
        before = _resident_kb(self._task.broker_pid)
        try:
            found = {"sites": self._task.sites, "connect": await self._connect()}
            found["memory"] = self._memory(before)
            found["steady"] = await self._steady()
            found["plan"] = await self._plan()
            if self._task.herd:
                found["herd"] = await self._herd()
            found["account"] = await self._account()
        finally:
            await self._end()
        found["complete"] = self._complete(found)
        return found

    async def _connect(self) -> dict[str, Any]:
        begun_s = time.monotonic()
        for number, site in enumerate(self._sites):
            asyncio.get_running_loop().call_later(number / self._task.connects_per_s, site.connect)
        up = await self._until(self._up, self._task.sites, "connected")
        return {
            "connected": up,
            "seconds": round(time.monotonic() - begun_s, 2),
            "asked_per_s": self._task.connects_per_s,
            "refused": self._tally.refused,
            "answer": self._tally.connecting.facts(),
        }

    def _memory(self, broker_before_kb: int | None) -> dict[str, Any]:
        broker_kb, sites = _resident_kb(self._task.broker_pid), self._task.sites
        grown = None if broker_kb is None or broker_before_kb is None else (broker_kb - broker_before_kb) / sites
        own_kb = _resident_kb(os.getpid()) or 0
        return {
            "broker_kb_per_session": None if grown is None else round(grown, 1),
            "fleet_kb_per_site": None if self._own_kb is None else round((own_kb - self._own_kb) / sites, 1),
        }

    async def _steady(self) -> dict[str, Any]:
        for site in self._sites:
            site.begin_sending()
        begun_s, before, used = time.monotonic(), self._traffic(), self._cpu()
        until_s = begun_s + self._task.seconds
        told_s = begun_s
        while (now_s := time.monotonic()) < until_s:
            if now_s - told_s >= TOLD_EVERY_S:
                told_s = now_s
                self._say(f"{until_s - now_s:.0f} s of traffic left: {self._cloud.messages} messages at the cloud")
            await asyncio.sleep(min(1.0, until_s - now_s))
        took_s, after = time.monotonic() - begun_s, self._traffic()
        fleet_s, broker_s = (None if a is None or b is None else a - b for a, b in zip(self._cpu(), used, strict=True))
        messages, size, wire = ((b - a) / took_s for a, b in zip(before, after, strict=True))
        return {
            "seconds": round(took_s, 1),
            "messages_per_s": round(messages, 1),
            "payload_bytes_per_s": round(size),
            "wire_bytes_per_site_and_day": round(wire / self._task.sites * 86_400),
            "frame_to_cloud": self._cloud.delays.facts(),
            "publish_to_puback": self._tally.taken.facts(),
            "fleet_cpu_ms_per_site_and_s": _per_site_ms(fleet_s, self._task.sites, took_s),
            "broker_cpu_ms_per_site_and_s": _per_site_ms(broker_s, self._task.sites, took_s),
            "broker_cpu_us_per_message": None if not broker_s or not messages else round(
                1e6 * broker_s / (messages * took_s), 1
            ),
        }  # fmt: skip

    async def _plan(self) -> dict[str, Any]:
        now_s, version = time.time(), int(time.time())
        documents = [(site.site_id, plan_document(site.site_id, version, now_s, self._task.plan_slots))
                     for site in self._sites]  # fmt: skip
        begun_s, used = time.monotonic(), self._cpu()
        for number, (site_id, payload) in enumerate(documents):
            self._cloud.publish_plan(site_id, payload)
            if number % 100 == 99:
                await asyncio.sleep(0)  # the answers of the first come while the last go out
        stored = await self._until(lambda: self._cloud.stored_sites, self._task.sites, "plans stored")
        took_s = time.monotonic() - begun_s
        broker_s = None if (after := self._cpu()[1]) is None or used[1] is None else after - used[1]
        return {
            "bytes_each": len(documents[0][1]),
            "stored": stored,
            "seconds_to_all": round(took_s, 3),
            "plans_per_s": round(stored / took_s, 1),
            "published_to_stored": self._cloud.stored.facts(),
            "broker_cpu_us_per_plan": None if broker_s is None else round(1e6 * broker_s / self._task.sites, 1),
        }

    async def _herd(self) -> dict[str, Any]:
        ups, attempts = self._tally.ups_per_second, self._tally.attempts
        ups.clear()
        begun_s, used = time.monotonic(), self._cpu()
        for site in self._sites:
            site.cut()
        await asyncio.sleep(LOOK_EVERY_S)
        back = await self._until(self._up, self._task.sites, "connected again")
        took_s = time.monotonic() - begun_s
        broker_s = None if (after := self._cpu()[1]) is None or used[1] is None else after - used[1]
        return {
            "back": back,
            "seconds_to_all": round(took_s, 2),
            "spread_s": self._task.habits.link.spread_s,
            "most_in_one_second": max(ups.values(), default=0),
            "attempts": self._tally.attempts - attempts,
            "broker_cpu_us_per_connect": None if broker_s is None else round(1e6 * broker_s / self._task.sites, 1),
        }

    async def _account(self) -> dict[str, Any]:
        for site in self._sites:
            site.stop_sending()
        await self._until(lambda: -(self._waiting() + self._cloud.gaps()), 0, "all taken")
        return {
            "telemetry_messages": self._cloud.telemetry,
            "gaps": self._cloud.gaps(),
            "unconfirmed": self._waiting(),
            "redelivered": self._cloud.redelivered(),
            "connections_lost": self._tally.lost,
        }

    async def _end(self) -> None:
        for site in self._sites:
            site.end()
            if self._cloud.up:
                self._cloud.forget_plan(site.site_id)
        await asyncio.sleep(0.5)
        self._cloud.end()
        await asyncio.sleep(0)

    def _complete(self, found: dict[str, Any]) -> bool:
        sites, account = self._task.sites, found["account"]
        whole = [found["connect"]["connected"], found["plan"]["stored"], found.get("herd", {}).get("back", sites)]
        unwanted = 0 if self._task.herd else account["connections_lost"]
        return whole == [sites] * 3 and account["gaps"] == account["unconfirmed"] == unwanted == 0

    def _waiting(self) -> int:
        return sum(site.unconfirmed for site in self._sites)

    def _up(self) -> int:
        return sum(site.subscribed for site in self._sites)

    async def _until(self, count: Callable[[], int], wanted: int, words: str) -> int:
        """The count when it is what is wanted, or after the deadline; says how far it is."""
        begun_s = told_s = time.monotonic()
        while (have := count()) < wanted and (now_s := time.monotonic()) - begun_s < DEADLINE_S:
            if now_s - told_s >= TOLD_EVERY_S:
                told_s = now_s
                self._say(f"{words}: {have} of {wanted}")
            await asyncio.sleep(LOOK_EVERY_S)
        self._say(f"{words}: {have} of {wanted}")
        return have

    def _traffic(self) -> tuple[int, int, int]:
        """Messages and bytes at the cloud; bytes of all sites on the wire, both ways."""
        standing = sum(sum(site.bytes_now()) for site in self._sites)
        return self._cloud.messages, self._cloud.bytes, self._tally.bytes_out + self._tally.bytes_in + standing

    def _cpu(self) -> tuple[float, float | None]:
        """Seconds of processor time: of this process, of the broker where it is on this machine."""
        return time.process_time(), _cpu_s(self._task.broker_pid)


def _per_site_ms(used_s: float | None, sites: int, seconds: float) -> float | None:
    return None if used_s is None else round(1e3 * used_s / sites / seconds, 4)


def _room_for_files(sites: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = sites + FILES_BESIDE
    if soft < wanted <= hard or hard == resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    elif soft < wanted:
        raise FleetError(f"{sites} sites need {wanted} open files and this user may have {hard}: ulimit -Hn {wanted}")


def _fields(pid: int | None, name: str) -> Iterator[str]:
    if pid is not None:
        try:
            yield from Path(f"/proc/{pid}/{name}").read_text().splitlines()
        except OSError:
            return


def _resident_kb(pid: int | None) -> int | None:
    return next((int(line.split()[1]) for line in _fields(pid, "status") if line.startswith("VmRSS")), None)


def _cpu_s(pid: int | None) -> float | None:
    # proc(5): after the name in brackets, fields 14 and 15 of the whole are user and system time in ticks.
    found = [line.rpartition(")")[2].split() for line in _fields(pid, "stat")]
    return (int(found[0][11]) + int(found[0][12])) / os.sysconf("SC_CLK_TCK") if found else None
