"""Whose turn it is on a shared line: one at a time, waiting writes before waiting reads."""

from __future__ import annotations

import asyncio
from collections import deque

MAX_WAITING = 256
"""Far beyond one request per task of the agent: more means that someone forgot to wait."""


class Turns:
    """A lock with two lanes, fair within each lane."""

    def __init__(self) -> None:
        self._busy = False
        self._urgent: deque[asyncio.Future[None]] = deque()
        self._usual: deque[asyncio.Future[None]] = deque()

    async def take(self, *, urgent: bool) -> None:
        """Return when it is the caller's turn; the caller must `give` it back."""
        if not self._busy:
            self._busy = True
            return
        assert len(self._urgent) + len(self._usual) < MAX_WAITING
        lane = self._urgent if urgent else self._usual
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lane.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # given to us in the instant we were cancelled: pass it on
                self.give()
            elif turn in lane:
                lane.remove(turn)
            raise

    def give(self) -> None:
        """End the turn; the next in line has it."""
        assert self._busy
        for lane in (self._urgent, self._usual):
            while lane:
                turn = lane.popleft()
                if not turn.done():
                    turn.set_result(None)
                    return
        self._busy = False
