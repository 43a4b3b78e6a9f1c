"""`ems safe-mode end`."""

from __future__ import annotations

import typer

from agent.cli.client import JsonOption, SocketOption, ask, show_json
from agent.cli.text import fitted

ReasonOption = typer.Option(..., "--reason", help="What was found and mended; it is kept with your name.")


def end(reason: str = ReasonOption, socket: str | None = SocketOption, as_json: bool = JsonOption) -> None:
    """Let the agent move power again that crashed again and again; operators only.

    Look first why: journalctl -u ems-agent -p err. It ends by itself after an hour, and with a clean restart.
    """
    done = ask(socket, "safe_mode_end", as_json=as_json, reason=reason)
    if as_json:
        show_json(done)
        return
    shown = ["ended    the agent moves power again; ems explain shows who decides now"]
    if not done["kept"]:
        shown.append("WARNING  the disk refused to keep this: after a restart safe mode would stand again")
    typer.echo("\n".join(fitted(shown, 9)))
