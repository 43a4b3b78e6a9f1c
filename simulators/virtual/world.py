"""One site, its agent, its broker and its cloud in memory, on one virtual clock; the agent can be stopped and killed.

The agent is the real one, from its site file to its databases on disk. What is not in it: paho and its thread (the
broker's client stands in its place), the solver's own process (solved here, half a second later), the local socket's
clients, APScheduler. A kill leaves the files as they are at that instant.
"""

from __future__ import annotations

import asyncio
import gc
import math
import random
import shutil
import signal
import warnings
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from agent.app import Daemon
from agent.config import load
from agent.core.decision import Effects
from agent.core.replan_request import ReplanRequest, refusal
from agent.core.replan_rules import rule_plan
from agent.replan.check import check
from agent.replan.model import UnsolvedError, solve
from agent.replan.runner import Fallback, Replanned
from agent.runtime.control import ControlLoop
from agent.runtime.housekeeping import EVERY_S, Jobs
from agent.runtime.outside import Outside
from simulators.site import SimulatedSite, SiteClock, Truth
from simulators.virtual.broker import Broker
from simulators.virtual.cloud import VirtualCloud
from simulators.virtual.disk import Disk
from simulators.virtual.loop import VirtualLoop
from simulators.virtual.network import in_process
from simulators.virtual.process import Process
from simulators.virtual.site_file import SITE_ID, VirtualSite

EPOCH_UTC_S = 1_750_000_000.0
"""Unix time of virtual second 0: June 2025."""
SOLVE_S = 0.5
STOPPED_WITHIN_S = 15.0


class VirtualClock:
    """The agent's clocks: the loop's, and a wall clock that can be set."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.step_s = 0.0
        """How far the wall clock is from the true time."""

    def utc_s(self) -> float:
        """Unix time, as the site believes it."""
        return EPOCH_UTC_S + self._loop.time() + self.step_s

    def mono_s(self) -> float:
        """Seconds that are never stepped."""
        return self._loop.time()

    async def sleep_until(self, mono_s: float) -> None:
        """Returns at `mono_s`."""
        await asyncio.sleep(max(0.0, mono_s - self._loop.time()))


class Housekeeping:
    """Each job once a minute, on virtual time."""

    def __init__(self, jobs: Jobs) -> None:
        self._tasks = [asyncio.ensure_future(self._repeat(job)) for job in jobs.values()]

    async def _repeat(self, job: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            await job()

    def look(self, utc_s: float, mono_s: float) -> None:
        """The wall clock does not matter here."""

    def stop(self) -> None:
        """No job is called any more."""
        for task in self._tasks:
            task.cancel()


async def solved_here(request: ReplanRequest, *, wall_limit_s: float) -> Replanned | Fallback:
    """The answer of the real solver and checker, after as long as the process of its own takes."""
    await asyncio.sleep(min(SOLVE_S, wall_limit_s))
    if (refused := refusal(request)) is not None:
        return Fallback(f"request refused: {refused}", rule_plan(request))
    try:
        proposal = solve(request)
        checked = check(request, proposal)
    except UnsolvedError as error:
        return Fallback(str(error), rule_plan(request))
    if isinstance(checked, str):
        return Fallback(checked, rule_plan(request))
    return Replanned(checked, proposal.used_milp)


class LogCount:
    """Counts log lines in the place of writing them; keeps the newest for people."""

    def __init__(self) -> None:
        self.lines = 0
        self.newest: list[str] = []

    def __call__(self, _logger: Any, method: str, event: Any) -> str:
        """One line."""
        self.lines += 1
        self.newest.append(f"{method}: {event}"[:400])
        del self.newest[:-50]
        raise structlog.DropEvent


class World:
    """Everything of one run. `start` first; the agent runs from `start_agent` on."""

    def __init__(self, loop: VirtualLoop, site: VirtualSite, folder: Path) -> None:
        self.loop = loop
        self.site = site
        self.folder = folder
        self.clock = VirtualClock(loop)
        self.random = random.Random(f"world {site.seed}")
        self.logs = LogCount()
        self.disk = Disk(loop, site.seed)
        self.cloud = VirtualCloud(
            loop,
            SITE_ID,
            site.seed,
            EPOCH_UTC_S,
            rated_kw=site.rated_kw,
            limit_kw=min(site.export_kw, site.connection_kw),
        )
        self.broker = self.cloud.broker = Broker(loop, site.seed, self.cloud.take)
        self.plant = SimulatedSite(
            site.plant(),
            clock=SiteClock(self.true_utc_s, loop.time, asyncio.sleep, tick_s=site.poll_s),
            truth_every_s=site.poll_s,
            on_truth=self._on_truth,
        )
        self.on_truth: list[Callable[[Truth], None]] = []
        self.on_tick: list[Callable[[ControlLoop, Effects], None]] = []
        self.starts = 0
        self.process: Process | None = None
        """The agent's, while it runs."""
        self.control: ControlLoop | None = None
        """The control loop of the newest tick."""
        self.down_since_s: float | None = loop.time()
        """Since when no agent runs."""
        self._deadline_s = math.inf
        """How long after SIGTERM the agent ends itself at the latest, once it said so."""
        self._logging_before = structlog.get_config()
        self._agent: asyncio.Task[None] | None = None
        self._cloud_task: asyncio.Task[None] | None = None
        structlog.configure(processors=[self.logs], cache_logger_on_first_use=False)
        # The agent's jitter between attempts to connect comes from here.
        random.seed(site.seed)
        (folder / "site.toml").write_text(site.agent(folder))

    def true_utc_s(self) -> float:
        """The time that the world keeps."""
        return EPOCH_UTC_S + self.loop.time()

    async def start(self) -> None:
        """Plant and cloud live from now on."""
        await self.plant.start()
        self._cloud_task = asyncio.create_task(self.cloud.run(), name="cloud")

    def start_agent(self) -> None:
        """The agent is started, as systemd would."""
        assert self._agent is None
        self.starts += 1
        self.process = Process(f"agent {self.starts}")
        self.down_since_s = None
        self._agent = in_process(self.process, lambda: asyncio.create_task(self._run_agent(), name="agent"))

    async def _run_agent(self) -> None:
        daemon = Daemon(
            load(self.folder / "site.toml"),
            Outside(
                clock=self.clock,
                new_id=lambda: f"boot{self.starts:012d}",
                open_client=self.broker.client,
                housekeeper=Housekeeping,
                solve=solved_here,
                end_within=lambda seconds: setattr(self, "_deadline_s", seconds),
                watch=self._ticked,
            ),
        )
        await daemon.run()

    async def stop_agent(self) -> None:
        """SIGTERM, and the agent has ended, by itself or by its own deadline; raises what it failed with."""
        assert self._agent is not None
        assert self.process is not None
        self._deadline_s = math.inf
        self.process.signals[signal.SIGTERM]()
        await asyncio.sleep(0.0)
        ended, _ = await asyncio.wait({self._agent}, timeout=min(self._deadline_s, STOPPED_WITHIN_S))
        if ended:
            self._agent.result()
            self._ended()
        elif self._deadline_s < STOPPED_WITHIN_S:
            await self.kill_agent()  # its own thread ends the process then, whatever it waits for
        else:
            raise TimeoutError(f"the agent did not end within {STOPPED_WITHIN_S:g} s of SIGTERM, nor set a deadline")

    async def kill_agent(self) -> None:
        """As kill -9: connections break, the files stay as they are at this instant, nothing else happens any more."""
        assert self._agent is not None
        assert self.process is not None
        store, kept = self.folder / "store", self.folder / "kept"
        if store.exists():
            shutil.copytree(store, kept)
        self.process.kill()
        # Its tasks still have to go somehow: they do so without a network, and on files that are thrown away.
        self._agent.cancel()
        with warnings.catch_warnings():
            # Who notices the cut before the end may still want to begin something, which then never runs.
            warnings.simplefilter("ignore", RuntimeWarning)
            with suppress(asyncio.CancelledError):
                await self._agent
            gc.collect()
        if kept.exists():
            shutil.rmtree(store)
            kept.rename(store)
        self._ended()

    def check_agent(self) -> None:
        """Raises what the agent failed with, if it did."""
        if self._agent is not None and self._agent.done():
            self._agent.result()
            raise AssertionError("the agent ended by itself")

    @property
    def running(self) -> bool:
        """Whether an agent runs."""
        return self._agent is not None

    def _ended(self) -> None:
        self._agent = self.process = self.control = None
        self.down_since_s = self.loop.time()

    async def close(self) -> None:
        """Everything has ended."""
        if self._agent is not None:
            if self._agent.done():
                self._agent.exception()
            else:
                await self.kill_agent()
        if self._cloud_task is not None:
            self._cloud_task.cancel()
            with suppress(asyncio.CancelledError):
                await self._cloud_task
        await self.plant.stop()
        structlog.configure(**self._logging_before)

    def _ticked(self, control: ControlLoop, effects: Effects) -> None:
        self.control = control
        for told in self.on_tick:
            told(control, effects)

    def _on_truth(self, truth: Truth) -> None:
        for told in self.on_truth:
            told(truth)
