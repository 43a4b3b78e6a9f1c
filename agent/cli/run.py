"""`ems run`: the daemon itself."""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress
from pathlib import Path

import typer

from agent.cli.config_check import ConfigOption

MALLOPT_ARENA_MAX = -8
"""`M_ARENA_MAX` of glibc's malloc.h."""
EXIT_CANNOT_START = 4
"""Bad site file, or another instance holds the store: nothing was started."""


def leave_rich_out() -> None:
    """structlog, imported after this, does without rich: it is for tracebacks in colour, and costs a daemon 4 MB."""
    sys.modules["rich"] = None  # type: ignore[assignment]


def share_one_heap() -> None:
    """All threads take memory from one heap: the store's and the cloud's own ones would hold 2 MB that nobody uses."""
    with suppress(OSError, AttributeError):  # a C library that does not know it does without
        ctypes.CDLL(None).mallopt(MALLOPT_ARENA_MAX, 1)


def run(config: Path = ConfigOption) -> None:
    """Run the agent in the foreground; systemd does this on a site. Ends with the batteries at 0 kW on SIGTERM.

    Exit codes: 0 ended by SIGTERM; 4 it cannot start, and nothing was started.
    """
    leave_rich_out()
    share_one_heap()
    gc.disable()  # nothing that start-up makes is garbage, and looking takes a tenth of its time; `Daemon` ends this
    from agent.app import CannotStart, serve  # noqa: PLC0415 (the daemon's libraries load only for the daemon)

    try:
        serve(config)
    except CannotStart as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(EXIT_CANNOT_START) from None
