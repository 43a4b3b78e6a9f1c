"""`ems clock trust`."""

from __future__ import annotations

from datetime import datetime

import typer

from agent.cli.client import JsonOption, SocketOption, ask, show_json
from agent.cli.text import fitted, local


def _watch(text: str) -> datetime:
    """The moment that a watch shows; with its date, for a clock may be wrong by whole days."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError as error:
        why = f"{text!r} is not a date with a time; write it as 2024-01-15T14:05, or with its zone as 2024-01-15T14:05Z"
        raise typer.BadParameter(why) from error


WatchOption = typer.Option(
    ...,
    "--watch",
    parser=_watch,
    metavar="TIME",
    help="Date and time by your watch, to five minutes: 2024-01-15T14:05.",
)
ReasonOption = typer.Option(..., "--reason", help="What was wrong with the clock; it is kept with your name.")


def trust(
    watch: datetime = WatchOption,
    reason: str = ReasonOption,
    socket: str | None = SocketOption,
    as_json: bool = JsonOption,
) -> None:
    """Have a clock believed that was wrong in the future for long and is right now; operators only.

    Without it plans wait until that future has come. Refused where the clock of this machine is not what your watch
    says: set it first with timedatectl. Commands of the cloud from before are refused, for their ids may be forgotten.
    """
    done = ask(socket, "clock_trust", as_json=as_json, watch_utc_s=watch.timestamp(), reason=reason)
    if as_json:
        show_json(done)
        return
    shown = [
        f"trusted  the clock, {done['back_s']:.0f} s behind the time taken for good before; plans count again",
        f"commands of the cloud count when they are issued after {local(done['commands_since'])}",
    ]
    typer.echo("\n".join(fitted(shown, 9)))
