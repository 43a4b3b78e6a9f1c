"""`ems devices write`: one point of a device by hand, asked for twice and kept as an event."""

from __future__ import annotations

import sys
from typing import Any

import typer

from agent.cli.client import EXIT_REFUSED, EXIT_USAGE, JsonOption, SocketOption, ask, fail, show_json
from agent.cli.text import fitted

DeviceArgument = typer.Argument(..., help="A device of the site, as ems devices list names it.", metavar="DEVICE")
PointArgument = typer.Argument(..., help="A point by its name, such as ems_mode or 704.WSet.", metavar="POINT")
ValueArgument = typer.Argument(
    ..., help="A number in the point's unit, or a label; bits as labels with commas.", metavar="VALUE"
)
YesOption = typer.Option(False, "--yes", "-y", help="Do not ask: for scripts.")


def write(  # noqa: PLR0917 (a command's options)
    device: str = DeviceArgument,
    point: str = PointArgument,
    value: str = ValueArgument,
    yes: bool = YesOption,
    socket: str | None = SocketOption,
    as_json: bool = JsonOption,
) -> None:
    """Write one point of a device, once, and read it back. For members of the operator group (ems-operator).

    Shows first what the point holds and what would be written, and asks; --yes goes on without asking. The daemon
    refuses what the profile or the SunSpec model does not declare writable, a value outside the stated limits,
    anything while an award is in force, what the control of the site writes itself (unless an override is in force),
    and stored registers beyond their budget. Each write is an event with who, old value, new value and read-back.

    A negative value needs two dashes before it: ems devices write bess 704.WSet -- -5000

    Exit codes: 0 written and confirmed, or nothing to do; 1 refused, not confirmed, or not agreed to; 2 wrong command
    line; 3 the daemon is not reachable.
    """
    asked = {"device_id": device, "point": point, "value": value}
    planned = ask(socket, "device_write", as_json=as_json, dry_run=True, **asked)
    if planned["changes_nothing"]:
        if as_json:
            show_json(planned | {"written": False})
        else:
            typer.echo(f"{device} {point} holds {_value(planned, 'old')} already: nothing was written")
        return
    if not yes:
        _confirm(device, planned, as_json=as_json)
    done = ask(socket, "device_write", as_json=as_json, **asked)
    if as_json:
        show_json(done | {"written": True})
    else:
        typer.echo("\n".join(fitted([_outcome(device, done)], 4)))
    if not done["confirmed"] and done["kind"] != "command":
        raise typer.Exit(EXIT_REFUSED)


def _confirm(device: str, planned: dict[str, Any], *, as_json: bool) -> None:
    """Ends the process unless somebody agrees."""
    if as_json or not sys.stdin.isatty():
        why = "nobody is there to agree to it"
        fail({"what": "nothing was written", "why": why, "next": "add --yes"}, EXIT_USAGE, as_json=as_json)
    registers = " ".join(f"{register:04X}" for register in planned["registers"])
    lines = [
        f"{device} {planned['point']}: {_value(planned, 'old')} -> {_value(planned, 'new')}",
        f"    register {planned['address']} of unit {planned['unit_id']} = {registers}",
    ]
    if planned["budget_left"] is not None:
        lines.append(f"    stored in the device, which wears out: {planned['budget_left']} writes left today")
    if planned["owned"]:
        lines.append("    the control writes this point too, and puts back what it wants at its next write")
    typer.echo("\n".join(fitted(lines, 4)))
    if not typer.confirm("Write it?", default=False):
        fail({"what": "nothing was written", "why": "not agreed to", "next": "nothing"}, EXIT_REFUSED, as_json=False)


def _outcome(device: str, done: dict[str, Any]) -> str:
    said = f"{device} {done['point']}: {_value(done, 'old')} -> {_value(done, 'new')}"
    if done["confirmed"]:
        return f"{said}, confirmed by read-back"
    return f"{said}, NOT confirmed: {done['reason']}"


def _value(facts: dict[str, Any], key: str) -> str:
    value, label = facts[key], facts[f"{key}_label"]
    if value is None:
        return "unknown"
    number = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{number}{' ' + facts['unit'] if facts['unit'] else ''}{f' ({label})' if label else ''}"
