"""Keeps a file with the metrics of the site for a Prometheus collector: no port is opened."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import structlog

from agent.config import SiteFile
from agent.core.exposition import exposition
from agent.runtime.clock import Clock
from agent.runtime.local_socket import Refusal

log = structlog.get_logger(__name__)

FILE_MODE = 0o644
"""The collector is another user."""


@dataclass
class MetricsFile:
    """One file, replaced whole. `run` it as one task."""

    path: Path
    every_s: float
    status: Callable[[], Mapping[str, Any]]
    """The status as the socket tells it; raises `Refusal` while there is none yet."""
    clock: Clock
    _failing: str | None = None

    @classmethod
    def of(cls, site: SiteFile, status: Callable[[], Mapping[str, Any]], clock: Clock) -> Self | None:
        """As the site file has it; None where it is switched off."""
        section = site.metrics
        if not section.enabled:
            return None
        path = section.file or f"{site.store.directory}/metrics/ems.prom"
        return cls(Path(path), section.every, status, clock)

    async def run(self) -> None:
        """Writes for ever. At a clean stop the file goes: old numbers must not look like new ones."""
        due_s = self.clock.mono_s()
        try:
            while True:
                await self._write()
                due_s = max(due_s + self.every_s, self.clock.mono_s())
                await self.clock.sleep_until(due_s)
        finally:
            self.path.unlink(missing_ok=True)

    async def _write(self) -> None:
        try:
            text = exposition(self.status())
        except Refusal:  # nothing was decided yet
            return
        try:
            await asyncio.to_thread(_replace, self.path, text)
        except OSError as error:
            why = error.strerror or str(error)
            if why != self._failing:
                log.warning("metrics_not_written", path=str(self.path), reason=why)
            self._failing = why
        else:
            self._failing = None


def _replace(path: Path, text: str) -> None:
    """The new file in the place of the old one; a reader sees one of both, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        os.fchmod(stream.fileno(), FILE_MODE)
        stream.write(text)
    fresh.replace(path)
