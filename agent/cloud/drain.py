"""Empties the outbox over one connection: acks, events, slots, what is measured now, then history; little at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from agent.cloud.mqtt_link import MAX_IN_FLIGHT, Connection
from agent.cloud.on_request import AskedRanges, Resending
from agent.cloud.pace import Pace
from agent.cloud.topics import Topics
from agent.core.events import Event
from agent.core.records import StorageFailed, Stream

HISTORY_IN_FLIGHT = 10
"""Old frames take at most half of the window, so that what is measured now never waits behind them."""
DISK_RETRY_S = 5.0
NOTHING_NEW_S = 3600.0
"""Nobody needs to look sooner: whatever is new wakes the drain."""


class Outbox(Protocol):
    """What the cloud side needs of the store; each call may raise `StorageFailed`."""

    async def last_seq(self, stream: Stream) -> int:
        """The highest sequence given out."""

    async def pending(
        self, stream: Stream, after_seq: int, limit: int, up_to_seq: int | None = None
    ) -> Sequence[tuple[int, bytes]]:
        """Waiting messages in order."""

    async def kept(self, stream: Stream, after_seq: int, up_to_seq: int, limit: int) -> Sequence[tuple[int, bytes]]:
        """Messages on disk in order, whether they wait or not."""

    async def count_kept(self, stream: Stream, from_seq: int, to_seq: int) -> int:
        """How many messages of the range are on disk."""

    async def confirm(self, stream: Stream, seq: int) -> None:
        """The cloud has stored everything up to `seq`."""

    async def forget(self, stream: Stream, seqs: Iterable[int]) -> None:
        """These were delivered."""

    async def append_event(self, event: Event) -> None:
        """The event is kept and will be sent."""


async def happened_within(event: asyncio.Event, seconds: float) -> bool:
    """True once the event is set, False after so many seconds without it."""
    # Not asyncio.wait_for: up to Python 3.11 it loses a cancellation that comes together with the event.
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            return await event.wait()
    return False


@dataclass(slots=True)
class _Lane:
    """One topic's share of a stream: sequences above `after`, up to `up_to`."""

    stream: Stream
    topic: str
    after: int
    up_to: int | None
    window: int
    paced: bool = False
    """Old messages go no faster than the site file allows."""
    asked: Resending | None = None
    """The request that this lane serves: it sends what is kept, not only what waits."""
    in_flight: int = 0
    empty: bool = False


class Drain:
    """The sending side of one connection. A message is sent once, unless `again_above` asks for it."""

    def __init__(
        self,
        connection: Connection,
        outbox: Outbox,
        topics: Topics,
        *,
        live_above: int,
        forget_on_puback: bool,
        on_sent: Callable[[Stream, int], None],
        pace: Pace,
        asked: AskedRanges,
    ) -> None:
        self._connection = connection
        self._outbox = outbox
        self._forget_on_puback = forget_on_puback
        self._on_sent = on_sent
        self._topics = topics
        self._pace = pace
        self._asked = asked
        self._delivered: dict[Stream, list[int]] = {stream: [] for stream in Stream}
        self._wake = asyncio.Event()
        self.refused: str | None = None
        """Why the broker refused a message of this connection, if it did; such a message waits for the next one."""
        self._lanes: list[_Lane] = [
            _Lane(Stream.ACK, topics.edge("ack"), 0, None, MAX_IN_FLIGHT),
            _Lane(Stream.EVENT, topics.edge("event"), 0, None, MAX_IN_FLIGHT),
            _Lane(Stream.LEDGER, topics.edge("ledger"), 0, None, MAX_IN_FLIGHT),
            _Lane(Stream.TELEMETRY, topics.edge("telemetry"), live_above, None, MAX_IN_FLIGHT),
            _Lane(Stream.TELEMETRY, topics.edge("history"), 0, live_above, HISTORY_IN_FLIGHT, paced=True),
        ]
        self._asked_lane: _Lane | None = None

    def more(self) -> None:
        """There is something new in the outbox."""
        for lane in (*self._lanes, self._asked_lane):
            if lane is not None:
                lane.empty = False
        self._wake.set()

    def again_above(self, stream: Stream, seq: int) -> None:
        """All that waits above `seq` is sent once more; old frames as history, behind what is measured now."""
        *others, live, history = self._lanes
        if stream is Stream.TELEMETRY:
            history.after, history.up_to = seq, live.after
        else:
            for lane in others:
                lane.after = seq if lane.stream is stream else lane.after
        self.more()

    async def run(self) -> None:
        """Sends for ever; sleeps until there is something new or the window opens."""
        while True:
            self._wake.clear()
            try:
                await self.forget_delivered()
                sent = sum([await self._send(lane) for lane in self._lanes])
                sent += await self._send_asked()
            except StorageFailed:  # telemetry.db cannot be read just now: the broker is not the one to suffer
                await happened_within(self._wake, DISK_RETRY_S)
                continue
            if not sent:
                await happened_within(self._wake, self._pause_s())

    def _pause_s(self) -> float:
        """Until the pace lets the next old message go, or for as long as nothing is new."""
        held_back = [lane for lane in (*self._lanes, self._asked_lane) if lane is not None and lane.paced]
        waits = any(not lane.empty and lane.in_flight < lane.window for lane in held_back)
        # Without a wait it is the window that is shut: the broker's next word opens it.
        return (self._pace.wait_s() if waits else 0.0) or NOTHING_NEW_S

    async def _send_asked(self) -> int:
        """The oldest request is served until the broker has taken all of it, then the next."""
        lane = self._asked_lane
        if lane is None and self._asked.waiting:
            asked = self._asked.waiting[0]
            old = asked.stream in (Stream.TELEMETRY, Stream.FULL_RATE)
            topic = self._topics.edge("history" if old else asked.stream.value)
            lane = self._asked_lane = _Lane(
                asked.stream, topic, asked.from_seq - 1, asked.to_seq, HISTORY_IN_FLIGHT, paced=True, asked=asked
            )
        if lane is None or lane.asked is None:
            return 0
        sent = await self._send(lane)
        if sent or lane.in_flight or not lane.empty:
            return sent
        self._asked.waiting.remove(lane.asked)
        self._asked_lane = None
        return 1  # so that the next request is looked at

    async def forget_delivered(self) -> None:
        """What the broker took is forgotten, where that is enough."""
        for stream, seqs in self._delivered.items():
            if seqs:
                taken = tuple(seqs)
                await self._outbox.forget(stream, taken)
                del seqs[: len(taken)]

    async def _send(self, lane: _Lane) -> int:
        in_flight = sum(each.in_flight for each in (*self._lanes, self._asked_lane) if each is not None)
        room = min(MAX_IN_FLIGHT - in_flight, lane.window - lane.in_flight)
        if lane.paced and not lane.empty:
            room = min(room, self._pace.available(asyncio.get_running_loop().time()))
        if room <= 0 or lane.empty:
            return 0
        lane.empty = True  # unless told otherwise while the disk is asked
        if lane.asked is not None:
            messages = await self._outbox.kept(lane.stream, lane.after, lane.asked.to_seq, room)
        else:
            messages = await self._outbox.pending(lane.stream, lane.after, room, lane.up_to)
        if len(messages) == room:
            lane.empty = False
        if lane.paced:
            self._pace.took(len(messages))
        for seq, payload in messages:
            lane.after = max(lane.after, seq)
            lane.in_flight += 1
            self._on_sent(lane.stream, seq)
            taken = self._connection.publish(lane.topic, payload)
            taken.add_done_callback(partial(self._taken, lane, seq))
        return len(messages)

    def _taken(self, lane: _Lane, seq: int, taken: asyncio.Future[None]) -> None:
        lane.in_flight -= 1
        self._wake.set()
        if taken.cancelled():
            return
        why = taken.exception()
        if why is not None:
            self.refused = str(why)
        elif self._forget_on_puback:
            self._delivered[lane.stream].append(seq)
