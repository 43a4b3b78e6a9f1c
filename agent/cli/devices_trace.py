"""`ems devices trace`: what goes over the line to one device, decoded, for a support ticket."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from agent.cli.client import (
    EXIT_REFUSED,
    EXIT_USAGE,
    WITHOUT_DAEMON,
    Connection,
    JsonOption,
    SocketOption,
    ask,
    fail,
    fail_unreachable,
    show_json,
    socket_path,
)
from agent.cli.text import fitted

LOOK_EVERY_S = 0.3
LONGEST_S = 600.0
AT_ONCE = 100
"""So many frames in one answer say that more wait."""
MAX_HEX = 16
"""Registers of a frame without names that are shown; --json has them all."""

DeviceArgument = typer.Argument(..., help="A device of the site, as ems devices list names it.", metavar="DEVICE")
SecondsOption = typer.Option(10.0, "--seconds", "-s", min=0.1, max=LONGEST_S, help="How long to look.")
OutOption = typer.Option(None, "--out", "-o", help="Write it to this file, to send it to somebody.", dir_okay=False)


def trace(
    device: str = DeviceArgument,
    seconds: float = SecondsOption,
    out: Path | None = OutOption,
    socket: str | None = SocketOption,
    as_json: bool = JsonOption,
) -> None:
    """Show the Modbus frames between the daemon and one device as they go: nothing more is sent because of it.

    Each line: time, > sent or < received, unit id, what is asked, then the points with their values, or the registers
    in hex. An exception is shown with its meaning. Ctrl-C ends it sooner. --out writes it to a file, with who the
    device is and which software runs; --json writes every byte.

    Exit codes: 0 done; 1 refused, or nothing went over the line; 2 wrong command line; 3 the daemon is not reachable.
    """
    if out is not None:
        _writable(out, as_json=as_json)
    about = _about(device, socket, as_json=as_json)
    begun = ask(socket, "device_trace", as_json=as_json, device_id=device, seconds=seconds)
    live = out is None and not as_json
    frames, dropped = _followed(socket, begun["trace"], live=live, as_json=as_json)
    facts = {"device": about, "endpoint": begun["endpoint"], "frames": frames, "dropped": dropped}
    if out is not None:
        out.write_text(json.dumps(facts, indent=1) + "\n" if as_json else "\n".join(_report(facts)) + "\n")
        if not as_json:
            typer.echo(f"{len(frames)} frames written to {out}")
    if as_json:
        show_json(facts | ({} if out is None else {"frames": len(frames), "file": str(out)}))
    if dropped and not as_json:
        typer.echo(f"{dropped} pieces were lost: the line is faster than they were fetched", err=True)
    if not frames:
        hint = f"ems devices list shows how {device} and its link do"
        fail(
            {"what": "nothing went over the line", "why": f"in {seconds:g} s", "next": hint},
            EXIT_REFUSED,
            as_json=as_json,
        )


def _about(device: str, socket: str | None, *, as_json: bool) -> dict[str, Any]:
    """Who the device is, for somebody who was not there."""
    devices = ask(socket, "devices", as_json=as_json, without=WITHOUT_DAEMON)
    status = ask(socket, "status", as_json=as_json)
    keys = ("device_id", "role", "maker", "profile", "identity", "endpoint", "health", "last_error")
    known = next(({key: one[key] for key in keys} for one in devices if one["device_id"] == device), {})
    return {**known, "site": status["site"], "version": status["version"]}


def _followed(socket: str | None, number: int, *, live: bool, as_json: bool) -> tuple[list[dict[str, Any]], int]:
    """All frames of the trace, shown as they come when `live`; and how much was lost."""
    frames: list[dict[str, Any]] = []
    path = socket_path(socket)
    enough = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: enough.set())
    with _reached(path, as_json=as_json):
        connection = Connection(path)
    while True:
        with _reached(path, as_json=as_json):
            reply = _more(connection, number, as_json=as_json)
        frames += reply["frames"]
        if live:
            for frame in reply["frames"]:
                typer.echo("\n".join(lines(frame)))
        if reply["over"]:
            break
        if enough.wait(LOOK_EVERY_S if len(reply["frames"]) < AT_ONCE else 0.0):
            enough.clear()
            with _reached(path, as_json=as_json):
                connection.ask("device_trace_stop", trace=number)
    connection.close()
    return frames, reply["dropped"]


@contextmanager
def _reached(path: Path, *, as_json: bool) -> Iterator[None]:
    """Ends the process where the daemon cannot be asked; a reader of our output who goes is another matter."""
    try:
        yield
    except OSError as error:
        fail_unreachable(path, error, as_json=as_json)


def _more(connection: Connection, number: int, *, as_json: bool) -> dict[str, Any]:
    reply = connection.ask("device_trace_more", trace=number)
    if not reply["ok"]:
        fail(reply["error"], EXIT_REFUSED, as_json=as_json)
    result: dict[str, Any] = reply["result"]
    return result


def _writable(out: Path, *, as_json: bool) -> None:
    """Ends the process now rather than after the trace when the file cannot be written."""
    try:
        out.touch()
    except OSError as error:
        why = f"{out}: {error.strerror}"
        fail({"what": "devices trace", "why": why, "next": "name another file"}, EXIT_USAGE, as_json=as_json)


def _report(facts: dict[str, Any]) -> list[str]:
    """The file for people."""
    head = [f"{key}: {value}" for key, value in facts["device"].items() if value is not None]
    shown = [line for frame in facts["frames"] for line in lines(frame)]
    return [*head, f"frames: {len(facts['frames'])}, lost: {facts['dropped']}", "", *shown]


def lines(frame: dict[str, Any]) -> list[str]:
    """One frame as text, 80 columns."""
    arrow = ">" if frame["direction"] == "sent" else "<"
    unit = "" if frame["unit_id"] is None else f"unit {frame['unit_id']} "
    time_of_day = frame["at"][11:23]
    told = [_point(point) for point in frame["points"] if point["value"] is not None]
    without = len(frame["points"]) - len(told)
    values = ", ".join([*told, f"{without} without a value"] if without else told)
    if not values and frame["registers"]:
        registers = frame["registers"]
        more = f" and {len(registers) - MAX_HEX} more" if len(registers) > MAX_HEX else ""
        values = " ".join(f"{register:04X}" for register in registers[:MAX_HEX]) + more
    if frame["words"].startswith("not a frame"):
        values = frame["bytes"][: 4 * MAX_HEX]
    return fitted([f"{time_of_day} {arrow} {unit}{frame['words']}{': ' if values else ''}{values}"], 15)


def _point(point: dict[str, Any]) -> str:
    value = point["value"]
    number = f"{value:g}" if isinstance(value, float) else str(value)
    unit = f" {point['unit']}" if point["unit"] else ""
    label = f" ({point['label']})" if point["label"] else ""
    return f"{point['name']} {number}{unit}{label}"
