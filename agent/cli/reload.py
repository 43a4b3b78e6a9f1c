"""`ems reload`."""

from __future__ import annotations

import typer

from agent.cli.client import JsonOption, SocketOption, ask, show_json
from agent.cli.text import fitted


def reload(socket: str | None = SocketOption, as_json: bool = JsonOption) -> None:
    """Take a changed site file over without a restart; operators only. `systemctl reload ems-agent` does this.

    Control goes on meanwhile. Limits, pacing, plan settings and the way to the cloud can change so; a file that cannot
    be used, or with a change that needs a restart, is refused whole and names the keys: what is in force stays.
    Certificates, keys and passwords on disk are read anew too.
    """
    done = ask(socket, "reload", as_json=as_json)
    if as_json:
        show_json(done)
        return
    changed = ", ".join(done["changed"]) or "nothing in the site file; certificates and passwords were read anew"
    typer.echo("\n".join(fitted([f"changed  {changed}"], 9)))
