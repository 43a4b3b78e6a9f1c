"""`ems watch`: the status, live."""

from __future__ import annotations

import json
import shutil
import sys
import time

import typer

from agent.cli.client import Connection as _Connection
from agent.cli.client import JsonOption, SocketOption, ask, socket_path
from agent.cli.status import lines
from agent.cli.text import COLUMNS

CLEAR_LINE = "\x1b[K"
HOME = "\x1b[H"
CLEAR_BELOW = "\x1b[J"
LAST_SHARE = 2
"""Of a screen that is too small, one part in so many is for the last lines: what is wrong stands there."""


def watch(
    socket: str | None = SocketOption,
    every: float = typer.Option(1.0, min=0.2, max=60.0, help="Seconds between two looks."),
    as_json: bool = JsonOption,
) -> None:
    """Show the status again and again until Ctrl-C; waits for a daemon that restarts. With --json a line per look."""
    ask(socket, "status", as_json=as_json)  # a clear error at once when the daemon is not there
    on_screen = sys.stdout.isatty() and not as_json
    connection: _Connection | None = None
    while True:
        try:
            connection = connection or _Connection(socket_path(socket))
            reply = connection.ask("status")
            shown = [json.dumps(reply)] if as_json else lines(reply["result"])
        except OSError:
            connection = None
            shown = ['{"ok": false}'] if as_json else ["the daemon does not answer; waiting for it to come back"]
        if on_screen:
            # Only what changed costs bytes on a slow line: no full clear, each line ends what was longer before.
            rows = shutil.get_terminal_size().lines - 1
            seen = within(shown, rows)
            sys.stdout.write(HOME + "".join(f"{line[:COLUMNS]}{CLEAR_LINE}\n" for line in seen) + CLEAR_BELOW)
        else:
            sys.stdout.write("\n".join(shown) + "\n")
        sys.stdout.flush()
        try:
            time.sleep(every)
        except KeyboardInterrupt:
            return


def within(lines: list[str], rows: int) -> list[str]:
    """As many of the lines as a screen has rows: the first and the last; one that scrolled would only flicker."""
    if len(lines) <= rows:
        return lines
    last = max(rows // LAST_SHARE, 1)
    first = max(rows - 1 - last, 0)
    return [*lines[:first], f"...      {len(lines) - first - last} lines more: ems status", *lines[-last:]]
