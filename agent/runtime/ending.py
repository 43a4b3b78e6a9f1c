"""The end of the process when a stop takes too long: a disk that hangs must not keep a gateway from going down."""

from __future__ import annotations

import os
import threading

import structlog

log = structlog.get_logger(__name__)

EXIT_UNFINISHED = 1


def end_within(seconds: float) -> None:
    """The process is gone after so long, whatever it waits for; what is on disk is whole, as after a power cut."""
    timer = threading.Timer(seconds, _end)
    timer.daemon = True
    timer.start()


def _end() -> None:
    log.error("ended_unfinished", text="the disk did not take everything in time: the last telemetry may be missing")
    os._exit(EXIT_UNFINISHED)
