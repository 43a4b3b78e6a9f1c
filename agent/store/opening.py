"""Opening the state directory: sound databases, or damaged ones put aside and the best that is left in their place."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.core.admission import replayable_before_utc_s
from agent.store.control import ControlDb
from agent.store.database import Damaged
from agent.store.outbox import Quota
from agent.store.telemetry import TelemetryDb
from agent.store.writer import Announce, Writer


@dataclass(frozen=True, slots=True)
class Opened:
    """How the start went."""

    control_quarantined: Path | None
    """Where a damaged control.db was put, or would be had it not been put aside before; None when it was sound."""
    control_restored: bool
    """True when the newest snapshot took its place; else it began empty."""


def open_files(directory: Path, announce: Announce, utc_s: Callable[[], float], quota: Quota) -> tuple[Writer, Opened]:
    """A started writer. Raises `StorageFailed` when control.db cannot be opened at all; telemetry.db may fail."""
    control = ControlDb(directory)
    quarantined: Path | None = None
    restored = False
    why = control.why_lost()
    if why is None:
        try:
            control.database.connection()
        except Damaged as damage:
            why = damage.why
    if why is not None:
        # Killed anywhere in here, the next start finds no file in its place and does all of it again.
        quarantined = control.database.quarantine(utc_s())
        # Which commands were taken since the snapshot is not known, so those that could be replays have no effect.
        restored = control.replace_lost(why, quarantined, commands_since_utc_s=replayable_before_utc_s(utc_s()))
    control.database.connection()
    writer = Writer(control, TelemetryDb(directory, quota), announce, utc_s)
    writer.start()
    _sync_directory(directory)
    return writer, Opened(quarantined, restored)


def _sync_directory(directory: Path) -> None:
    """The names of new and replaced files survive a power cut too."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
