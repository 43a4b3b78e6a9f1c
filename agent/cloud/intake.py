"""What comes in over one connection, held back before it can fill memory or take the control loop's time.

Messages with QoS 1 are never dropped: while there is no room the network thread waits, and the broker with it. Those
with QoS 0, which no cloud in order sends, are dropped beyond a few a second, before the event loop hears of them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from agent.cloud.pace import Pace

MAX_INBOUND = 16
"""Messages that were read from the line and not taken yet."""
UNASKED_PER_S = 20.0
"""Messages with QoS 0."""
_LOOK_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class Inbound:
    """One message from the cloud; it comes again until it is acknowledged."""

    topic: str
    payload: bytes
    mid: int
    qos: int
    retained: bool = False
    """True when the broker had it before we subscribed; False when somebody sends it now."""


class Intake:
    """Between the network thread, which offers, and the event loop, which takes."""

    def __init__(self, mono_s: Callable[[], float] | None = None) -> None:
        """`mono_s` is a monotonic clock that any thread may read; without one that of the event loop."""
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Queue[Inbound] = asyncio.Queue()
        self._room = threading.Semaphore(MAX_INBOUND)
        self._closed = threading.Event()
        self._unasked = Pace(UNASKED_PER_S)
        self._mono_s = mono_s or self._loop.time
        self._taken: dict[int, bool] = {}
        """Identifiers of messages that were taken, in their order, and whether they are done with."""
        self.dropped = 0
        """Messages with QoS 0 that were too many."""

    def offer(self, message: Inbound) -> None:
        """Hands a message over, from the network thread; waits for room where the message must not be lost."""
        if message.qos == 0 and not self._may_come_unasked():
            self.dropped += 1
            return
        while not self._room.acquire(timeout=_LOOK_EVERY_S):
            if self._closed.is_set():
                return
        with suppress(RuntimeError):  # the loop is closed: nobody is left to take it
            self._loop.call_soon_threadsafe(self._waiting.put_nowait, message)

    async def take(self) -> Inbound:
        """The next message."""
        message = await self._waiting.get()
        self._room.release()
        if message.qos > 0:
            self._taken[message.mid] = False
        return message

    def done(self, message: Inbound) -> list[int]:
        """The messages that may be acknowledged now that this one is done with: those before it are, too."""
        self._taken[message.mid] = True
        found = []
        for mid, is_done in self._taken.items():
            if not is_done:
                break
            found.append(mid)
        for mid in found:
            del self._taken[mid]
        return found

    def close(self) -> None:
        """The network thread waits for nobody any more."""
        self._closed.set()

    def _may_come_unasked(self) -> bool:
        if not self._unasked.available(self._mono_s()):
            return False
        self._unasked.took(1)
        return True
