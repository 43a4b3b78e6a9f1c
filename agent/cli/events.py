"""`ems events`: what happened at the site, from the daemon, or from the disk when it is down."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer

from agent.cli.client import EXIT_REFUSED, Connection, JsonOption, SocketOption, fail, show_json, socket_path
from agent.cli.telemetry import StoreOption, store_directory
from agent.cli.text import fitted, local

LINES = 20
MARKS = {"alarm": "ALARM", "warning": "warn", "info": "info"}
LABEL_WIDTH = 29
CountOption = typer.Option(LINES, "-n", "--lines", min=1, max=1000, help="So many of the newest events.")
AlarmsOption = typer.Option(False, "--alarms", help="Only alarms, as they began and ended.")


def events(
    lines: int = CountOption,
    alarms: bool = AlarmsOption,
    socket: str | None = SocketOption,
    store: Path | None = StoreOption,
    as_json: bool = JsonOption,
) -> None:
    """Show what happened, the newest last: what began, ended or was done, by whom, and what to do about it.

    Asks the daemon; when it is down, reads its disk. What each code means and what to do: docs/events.md.
    """
    found = _asked(socket, lines if not alarms else 1000)
    if found is None:
        found = _read(store, lines if not alarms else 1000, as_json=as_json)
        print("ems: the daemon does not answer; these are the events on its disk", file=sys.stderr)
    if alarms:
        found = [event for event in found if event["severity"] == "alarm"][:lines]
    if as_json:
        show_json(found)
    elif not found:
        typer.echo("no alarm is kept" if alarms else "nothing has happened yet")
    else:
        typer.echo("\n".join(line for event in reversed(found) for line in _lines(event)))


def _asked(socket: str | None, limit: int) -> list[dict[str, Any]] | None:
    """The newest events, newest first; None when no daemon answers."""
    try:
        connection = Connection(socket_path(socket))
        reply = connection.ask("events", limit=limit)
        connection.close()
    except (OSError, json.JSONDecodeError):
        return None
    result: list[dict[str, Any]] | None = reply["result"] if reply["ok"] else None
    return result


def _read(store: Path | None, limit: int, *, as_json: bool) -> list[dict[str, Any]]:
    from agent.store.control_reader import newest_events  # noqa: PLC0415 (only without a daemon)

    directory = store_directory(store)
    try:
        found = newest_events(directory, limit)
    except OSError as error:
        hint = "systemctl status ems-agent; or name its store.directory with --store DIR, as a user who may read it"
        why = f"the daemon does not answer, and {error}"
        fail({"what": "events", "why": why, "next": hint}, EXIT_REFUSED, as_json=as_json)
    return [{**event, "at": datetime.fromtimestamp(event["at_utc_s"], UTC).isoformat()} for event in found]


def _lines(event: dict[str, Any]) -> list[str]:
    state = {"raised": "begins", "cleared": "ends", "noted": ""}[event["state"]]
    label = f"{local(event['at'])} {MARKS[event['severity']]:<5} "
    what = " ".join(word for word in (event["code"], state) if word)
    of = f" ({event['subject']})" if event["subject"] != "site" else ""
    return fitted([f"{label:<{LABEL_WIDTH}}{what}{of}: {event['text']}"], LABEL_WIDTH)
