"""Opening the state directory: sound databases, or damaged ones put aside and the best that is left in their place."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.core.admission import MAX_ISSUED_AHEAD_S
from agent.store.control import COMMANDS_SINCE, ControlDb
from agent.store.database import Damaged
from agent.store.outbox import Quota
from agent.store.telemetry import TelemetryDb
from agent.store.writer import Announce, Writer


@dataclass(frozen=True, slots=True)
class Opened:
    """How the start went."""

    control_quarantined: Path | None
    """Where a damaged control.db was put; None when it was sound."""
    control_restored: bool
    """True when the newest snapshot took its place; else it began empty."""


def open_files(directory: Path, announce: Announce, utc_s: Callable[[], float], quota: Quota) -> tuple[Writer, Opened]:
    """A started writer. Raises `StorageFailed` when control.db cannot be opened at all; telemetry.db may fail."""
    control = ControlDb(directory)
    quarantined: Path | None = None
    restored = False
    findings: list[str] = []
    try:
        control.database.connection()
    except Damaged as damage:
        quarantined = control.database.quarantine(utc_s())
        restored = control.restore_snapshot()
        control.database.connection()
        instead = "the last snapshot is in use" if restored else "a fresh one is in use and no plan is held"
        findings.append(f"{damage}; it is kept as {quarantined.name} and {instead}. Check the disk")
    writer = Writer(control, TelemetryDb(directory, quota), announce, utc_s)
    writer.start(findings)
    if quarantined is not None:
        # Which commands were taken since the snapshot is not known, so those that could be replays have no effect.
        control.set_mark(COMMANDS_SINCE, repr(utc_s() + MAX_ISSUED_AHEAD_S))
    _sync_directory(directory)
    return writer, Opened(quarantined, restored)


def _sync_directory(directory: Path) -> None:
    """The names of new files survive a power cut too."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
