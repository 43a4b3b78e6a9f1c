"""What `async with` starts and stops."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Started(ABC):
    """Runs between `start` and `stop`, or for the time of an `async with`."""

    @abstractmethod
    async def start(self) -> None:
        """Returns when it runs."""

    @abstractmethod
    async def stop(self) -> None:
        """Returns when it does not run any more."""

    async def __aenter__(self) -> Self:
        """Starts it."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops it."""
        await self.stop()
