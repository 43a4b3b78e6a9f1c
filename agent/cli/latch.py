"""`ems latch reset`."""

from __future__ import annotations

import typer

from agent.cli.client import JsonOption, SocketOption, ask, show_json
from agent.cli.text import fitted

ReasonOption = typer.Option(..., "--reason", help="What was found and mended; it is kept with your name.")


def reset(reason: str = ReasonOption, socket: str | None = SocketOption, as_json: bool = JsonOption) -> None:
    """Let batteries move again that an emergency stop, a breaker, a BMS or an insulation fault stopped; operators only.

    Refused while the device still tells the alarm, or while its readings are not fresh.
    """
    done = ask(socket, "latch_reset", as_json=as_json, reason=reason)
    if as_json:
        show_json(done)
        return
    shown = [f"reset    {', '.join(done['reset'])}: it may move again; ems explain shows who decides now"]
    if not done["kept"]:
        shown.append("WARNING  the disk refused to keep this: after a restart the latch would stand again")
    typer.echo("\n".join(fitted(shown, 9)))
