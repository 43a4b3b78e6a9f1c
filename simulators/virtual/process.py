"""Simulated processes: whatever a process opens belongs to it and is cut when it is killed."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar


class Process:
    """One run of one program. Tasks started by its tasks belong to it too, because contexts are inherited."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self._on_death: dict[int, Callable[[], None]] = {}
        self._count = 0
        self.signals: dict[int, Callable[[], object]] = {}
        """What it does on a signal, by number."""

    def on_death(self, cut: Callable[[], None]) -> Callable[[], None]:
        """`cut` is called when the process is killed; call what is returned once there is nothing left to cut."""
        self._count += 1
        number = self._count
        self._on_death[number] = cut
        return lambda: self._on_death.pop(number, None) and None

    def kill(self) -> None:
        """From now on nothing that the process does reaches the network; its connections are gone."""
        self.dead = True
        cuts, self._on_death = list(self._on_death.values()), {}
        for cut in cuts:
            cut()


OUTSIDE = Process("world")
"""What is simulated around the agent."""
CURRENT: ContextVar[Process] = ContextVar("process", default=OUTSIDE)
