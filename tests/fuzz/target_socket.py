"""Requests at the daemon's Unix socket: the whole daemon on virtual time, asked line by line.

Whoever is no operator only looks; an operator may do what they like, but one answer comes for each line, and the daemon
goes on. Left out is `broker_check` alone, which goes out onto the network.
"""

from __future__ import annotations

import asyncio
import atexit
import shutil
import tempfile
from pathlib import Path
from typing import Any

import orjson

import agent.app
from agent.runtime.local_socket import LocalSocket, Peer
from agent.runtime.roles import READING
from simulators.virtual.loop import VirtualLoop
from simulators.virtual.site_file import VirtualSite
from simulators.virtual.world import World
from tests.fuzz.targets import hold

SETTLED_S = 30.0
LONGEST_S = 600.0
"""Of virtual time for one answer: the longest that a request may wait for a device."""
AGED = 20_000
"""Requests to one daemon; then a fresh one, for what was asked of it stays."""
ANNA = Peer(1000, operator=True)
BEN = Peer(1001, operator=False)


class Asked:
    """A daemon that runs, and its socket."""

    def __init__(self) -> None:
        shm = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(prefix="fz", dir=shm if shm.is_dir() else None))
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        self.count = 0
        self.socket: LocalSocket | None = None
        self.loop = VirtualLoop()
        self.world = World(self.loop, VirtualSite(seed=7), self.folder)
        self._do(self._begin())

    async def _begin(self) -> None:
        real = agent.app.LocalSocket

        def caught(*values: Any) -> LocalSocket:
            self.socket = real(*values)
            return self.socket

        agent.app.LocalSocket = caught  # type: ignore[assignment,misc]
        try:
            await self.world.start()
            self.world.start_agent()
            await asyncio.sleep(SETTLED_S)
        finally:
            agent.app.LocalSocket = real  # type: ignore[misc]
        assert self.socket is not None
        self.socket._handlers.pop("broker_check")

    def answer(self, line: bytes, peer: Peer) -> dict[str, Any]:
        """What the daemon says to it."""
        self.count += 1
        assert self.socket is not None
        return self._do(asyncio.wait_for(self.socket._answer(line, peer), LONGEST_S))

    def close(self) -> None:
        """It is gone."""
        self._do(self.world.close())
        self.loop.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _do(self, job: Any) -> Any:
        asyncio.set_event_loop(self.loop)
        try:
            return self.loop.run_until_complete(job)
        finally:
            asyncio.set_event_loop(None)


ASKED: list[Asked] = []


def socket(payload: bytes) -> None:
    """One line, asked by somebody who may only look, then by an operator."""
    if not ASKED or ASKED[0].count > AGED:
        for old in ASKED:
            old.close()
        ASKED[:] = [Asked()]
    asked = ASKED[0]
    line = payload.replace(b"\n", b" ") + b"\n"
    told = asked.answer(line, BEN)
    try:
        request = orjson.loads(line)
    except orjson.JSONDecodeError:
        request = None
    command = request.get("cmd") if isinstance(request, dict) else None
    hold(not told["ok"] or command in READING, "who is no operator only looks")
    _one_answer(told)
    _one_answer(asked.answer(line, ANNA))
    asked.world.check_agent()


def _one_answer(told: dict[str, Any]) -> None:
    """It goes out as one line, and a refusal says what, why, and what to do next."""
    hold(b"\n" not in orjson.dumps(told), "an answer is one line")
    if not told["ok"]:
        error = told["error"]
        hold(all(isinstance(error[key], str) and error[key] for key in ("what", "why", "next")), "a refusal has words")


FUNCTIONS = {"socket": socket}
