"""The receiving side of one connection: each kind of message in a lane of its own, none faster than a site can bear.

What is too fast waits, and the broker with it: a flood costs the sender, not the control loop. Nothing with QoS 1 is
lost by it but watermarks, of which only the newest counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from agent.cloud.intake import MAX_INBOUND, Inbound
from agent.cloud.pace import BURST_S, Pace
from agent.cloud.topics import Topics

COMMANDS_PER_S = 200.0
DOCUMENTS_PER_S = 200.0
WATERMARKS_PER_S = 50.0
"""In the long run; a second's worth may come at once. A cloud in order sends a few messages a minute."""
REST_S_PER_BYTE = 1e-7
"""After a document of a MiB, which took 15 ms to read, the lane rests for 0.1 s: the processor is for other things."""
LANE_LENGTH = MAX_INBOUND
"""So that as many documents as may come before the first is done with leave the way free for a command."""
LOOK_EVERY_S = 1.0


class Incoming(Protocol):
    """What is needed of a connection's intake."""

    dropped: int

    async def take(self) -> Inbound:
        """The next message."""


class Receiving:
    """Takes messages from `incoming`, has each handled by `take`, and then acknowledged."""

    def __init__(
        self,
        incoming: Incoming,
        topics: Topics,
        *,
        take: Callable[[Inbound], Awaitable[None]],
        acknowledge: Callable[[Inbound], None],
        too_many: Callable[[str, str], Awaitable[None]],
    ) -> None:
        """`too_many` hears of a topic on which more comes than is taken, and how that is met."""
        self._incoming = incoming
        self._topics = topics
        self._take = take
        self._acknowledge = acknowledge
        self._too_many = too_many
        self._commands: asyncio.Queue[Inbound] = asyncio.Queue(LANE_LENGTH)
        self._documents: asyncio.Queue[Inbound] = asyncio.Queue(LANE_LENGTH)
        self._watermark: Inbound | None = None
        self._watermark_came = asyncio.Event()

    async def run(self) -> None:
        """Receives for ever."""
        async with asyncio.TaskGroup() as lanes:
            lanes.create_task(self._serve(self._commands, COMMANDS_PER_S, rest_s_per_byte=0.0))
            lanes.create_task(self._serve(self._documents, DOCUMENTS_PER_S, rest_s_per_byte=REST_S_PER_BYTE))
            lanes.create_task(self._follow_watermarks())
            lanes.create_task(self._watch_unasked())
            while True:
                await self._sort(await self._incoming.take())

    async def _sort(self, message: Inbound) -> None:
        if message.topic == self._topics.watermark:
            if self._watermark is not None:
                self._acknowledge(self._watermark)
            self._watermark = message
            self._watermark_came.set()
        elif message.topic == self._topics.command:
            await self._commands.put(message)
        elif message.topic == self._topics.edge("status"):  # what the broker keeps, once, and perhaps our own behind it
            await self._take(message)
            self._acknowledge(message)
        else:
            await self._documents.put(message)

    async def _serve(self, lane: asyncio.Queue[Inbound], per_s: float, *, rest_s_per_byte: float) -> None:
        pace, loop = Pace(per_s, per_s * BURST_S), asyncio.get_running_loop()
        while True:
            message = await lane.get()
            if not pace.available(loop.time()):
                await self._too_many(
                    message.topic, f"more than {per_s:.0f} messages a second: they are taken no faster"
                )
                await asyncio.sleep(pace.wait_s())
            pace.took(1)
            await self._take(message)
            self._acknowledge(message)
            await asyncio.sleep(rest_s_per_byte * len(message.payload))

    async def _follow_watermarks(self) -> None:
        while True:
            await self._watermark_came.wait()
            self._watermark_came.clear()
            message, self._watermark = self._watermark, None
            assert message is not None, "set together"
            await self._take(message)
            self._acknowledge(message)
            await asyncio.sleep(1.0 / WATERMARKS_PER_S)

    async def _watch_unasked(self) -> None:
        told = 0
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            dropped = self._incoming.dropped
            if dropped > told:
                words = f"{dropped - told} messages with QoS 0 were dropped: they are for nobody who must be heard"
                told = dropped
                await self._too_many(f"{self._topics.prefix}cloud/#", words)
