"""The only place that reads time."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Wall time for slots, monotonic time for ages and timeouts."""

    def utc_s(self) -> float:
        """Unix time now."""
        ...

    def mono_s(self) -> float:
        """Seconds since an arbitrary start, never stepped."""
        ...

    async def sleep_until(self, mono_s: float) -> None:
        """Returns at `mono_s`, or at once when that has passed (after yielding once)."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def utc_s(self) -> float:
        """Unix time now."""
        return time.time()

    def mono_s(self) -> float:
        """Seconds since boot."""
        return time.monotonic()

    async def sleep_until(self, mono_s: float) -> None:
        """Returns at `mono_s`."""
        await asyncio.sleep(max(0.0, mono_s - time.monotonic()))
