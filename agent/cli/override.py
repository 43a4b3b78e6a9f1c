"""`ems override set` and `ems override clear`."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import typer

from agent.cli.client import EXIT_REFUSED, JsonOption, SocketOption, ask, fail, show_json
from agent.cli.text import fitted, kw

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|m|h)")
_SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
LABEL_WIDTH = 9

PowerArgument = typer.Argument(
    ..., metavar="KW", help="Power in kW, + toward the grid (discharge), - from it (charge)."
)
ForOption = typer.Option("30m", "--for", metavar="TIME", help="How long: 90s, 20m, 2h; at most 24h. It ends by itself.")
ReasonOption = typer.Option(..., "--reason", help="Why; it is kept with your name.")
AtOption = typer.Option(
    "battery", "--at", help="Where the power is meant: battery (its terminals) or grid (the meter)."
)
SuspendOption = typer.Option(
    False, "--suspend-awards", help="Do not answer sold frequency reserve meanwhile; the cloud is told."
)


def set_(  # noqa: PLR0917 - one parameter per option
    power_kw: float = PowerArgument,
    duration: str = ForOption,
    reason: str = ReasonOption,
    at: str = AtOption,
    suspend_awards: bool = SuspendOption,
    socket: str | None = SocketOption,
    as_json: bool = JsonOption,
) -> None:
    """Decide yourself what the battery does, for a time; operators only.

    It stands above commands and plans of the cloud, below the safety latch, and within every limit. A restart of the
    agent does not end it; its time does, or ems override clear.
    """
    match = _DURATION.fullmatch(duration.strip())
    if match is None:
        why = f"--for {duration!r} is not a time"
        fail({"what": "override set", "why": why, "next": "write 90s, 20m or 2h"}, EXIT_REFUSED, as_json=as_json)
    seconds = float(match[1]) * _SECONDS[match[2]]
    done = ask(
        socket, "override_set", as_json=as_json, power_w=power_kw * 1000.0, duration_s=seconds, target=at,
        reason=reason, suspend_awards=suspend_awards,
    )  # fmt: skip
    if as_json:
        show_json(done)
    else:
        typer.echo("\n".join(fitted([override_line(done), *_kept(done)], LABEL_WIDTH)))


def clear(socket: str | None = SocketOption, as_json: bool = JsonOption) -> None:
    """End the override now; commands and plans decide again."""
    done = ask(socket, "override_clear", as_json=as_json)
    if as_json:
        show_json(done)
    else:
        typer.echo(
            "\n".join(fitted(["override cleared; ems explain shows who decides now", *_kept(done)], LABEL_WIDTH))
        )


def override_line(override: dict[str, Any]) -> str:
    """The override in one line for people."""
    until = f"{datetime.fromisoformat(override['until']).astimezone():%Y-%m-%d %H:%M:%S}"
    place = "connection point" if override["target"] == "grid" else "battery"
    awards = ", awards suspended" if override["suspends_awards"] else ""
    return (
        f"override {kw(override['power_w'])} at the {place} until {until} by {override['who']}{awards}: "
        f"{override['reason']}"
    )


def _kept(done: dict[str, Any]) -> list[str]:
    return (
        [] if done["kept"] else ["WARNING  the disk refused to keep this: a restart of the agent would not know of it"]
    )
