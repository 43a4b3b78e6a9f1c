"""What the cloud may ask for beside the ordinary: a frame of every second for some minutes, messages once more."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from agent.core.admission import Refused
from agent.core.records import StorageFailed, Stream

LONGEST_LIVE_MINUTES = 60.0
MOST_ASKED = 8
"""Ranges that wait to be sent again; a cloud that lost more asks again when these have come."""


@dataclass(slots=True)
class LiveMode:
    """Whether the cloud wants to see every second just now; times are of one monotonic clock."""

    until_s: float = -math.inf
    _second: int | None = None

    def start(self, minutes: float, now_s: float) -> Refused | None:
        """On for so many minutes from now on; a second request counts instead of the first. 0 ends it."""
        if not 0.0 <= minutes <= LONGEST_LIVE_MINUTES:
            detail = f"{minutes:g}: from 0 to {LONGEST_LIVE_MINUTES:g} minutes, then ask again"
            return Refused("bad_value", "minutes", detail)
        self.until_s = now_s + minutes * 60.0
        return None

    def wants(self, now_s: float, at_utc_s: float) -> bool:
        """True once in every second of a live time."""
        second = math.floor(at_utc_s)
        if now_s >= self.until_s or second == self._second:
            return False
        self._second = second
        return True


@dataclass(frozen=True, slots=True)
class Resending:
    """A range that will be sent once more; `messages` of it are still kept."""

    stream: Stream
    from_seq: int
    to_seq: int
    messages: int


class Kept(Protocol):
    """What is asked of the store; each call may raise `StorageFailed`."""

    async def last_seq(self, stream: Stream) -> int:
        """The highest sequence given out."""

    async def count_kept(self, stream: Stream, from_seq: int, to_seq: int) -> int:
        """How many messages of the range are on disk."""


@dataclass(slots=True)
class AskedRanges:
    """The ranges to be sent once more, oldest request first; a range leaves when the broker has taken it all."""

    waiting: deque[Resending] = field(default_factory=deque)

    async def ask(self, store: Kept, stream: str, from_seq: int, to_seq: int) -> Resending | Refused:
        """Puts a range in line, or says why not."""
        if stream not in tuple(Stream):
            return Refused("bad_value", "stream", f"one of {', '.join(Stream)} is wanted")
        if from_seq < 1 or to_seq < from_seq:
            return Refused("bad_value", "to_seq", "a range from 1 or above, not backwards, is wanted")
        if len(self.waiting) >= MOST_ASKED:
            return Refused("too_many", None, f"{MOST_ASKED} ranges wait already: ask again when they have come")
        try:
            last = await store.last_seq(Stream(stream))
            kept = await store.count_kept(Stream(stream), from_seq, to_seq)
        except StorageFailed as failure:
            return Refused("storage_failed", None, str(failure))
        if to_seq > last:
            return Refused("bad_value", "to_seq", f"{to_seq} was never given out; the highest is {last}")
        if not kept:
            detail = "none of the range is kept any more: its room was needed for what is newer"
            return Refused("not_kept", "from_seq", detail)
        found = Resending(Stream(stream), from_seq, to_seq, kept)
        self.waiting.append(found)
        return found
