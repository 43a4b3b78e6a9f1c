"""`ems update`: another version of the agent from a bundle, without internet; back by itself where it does not work."""

from __future__ import annotations

import os
import signal
import syslog
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from agent.cli.client import (
    EXIT_REFUSED,
    EXIT_USAGE,
    Connection,
    JsonOption,
    SocketOption,
    fail,
    show_json,
    socket_path,
)
from agent.cli.config_check import DEFAULT_CONFIG
from agent.cli.text import fitted

if TYPE_CHECKING:
    from agent.update.updating import Result, Updating

ETC = DEFAULT_CONFIG.parent
KEYS = ETC / "update-key.pem"

BundleArgument = typer.Argument(None, metavar="BUNDLE.tar", help="What make bundle built.", show_default=False)
UnsignedOption = typer.Option(False, "--unsigned", help="Take a bundle that nobody signed.")
BackOption = typer.Option(False, "--back", help="Back to the version before the one in use.")
ResumeOption = typer.Option(
    False, "--resume", help="Finish an update that was interrupted; the service does it at boot."
)


def update(  # noqa: PLR0917 - one parameter per option
    bundle: Path | None = BundleArgument,
    unsigned: bool = UnsignedOption,
    back: bool = BackOption,
    resume: bool = ResumeOption,
    socket: str | None = SocketOption,
    as_json: bool = JsonOption,
) -> None:
    """Change the version of the agent; root only. Takes about two minutes, of which the agent is away for seconds.

    The signature and every file are checked, the new version is put beside the one in use, which goes on until the
    new one accepts the site file. Then they change places; the new one must have confirmed setpoints, a ticking
    control loop, the broker and no new conditions within two minutes, else the old one is put back. Interrupted at any
    point, also by a power cut, it is finished or undone by itself.
    """
    if (bundle is not None) + back + resume != 1:
        _fail("one of BUNDLE.tar, --back and --resume is wanted", "ems update --help", EXIT_USAGE, as_json=as_json)
    need_root("update", as_json=as_json)
    from agent.update.not_done import NotDone  # noqa: PLC0415 (the CLI starts fast)

    # Somebody whose line breaks does not stop it half-way.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    say = _teller(as_json=as_json)
    updating = _updating(socket, say)
    try:
        if bundle is not None:
            result: Result | None = updating.update(bundle, KEYS, unsigned=unsigned)
        else:
            result = updating.back() if back else updating.resume()
    except NotDone as said:
        fail({"what": said.what, "why": said.why, "next": said.then}, EXIT_REFUSED, as_json=as_json)
    say(_words(result))
    if as_json:
        show_json(None if result is None else asdict(result))
    if result is not None and result.end != "updated":
        raise typer.Exit(EXIT_REFUSED)


def need_root(what: str, *, as_json: bool) -> None:
    """Returns for root; ends the process for anybody else."""
    if os.geteuid() != 0:
        error = {"what": what, "why": "it changes the system, so it must be root", "next": f"sudo ems {what} ..."}
        fail(error, EXIT_REFUSED, as_json=as_json)


def answers(given_socket: str | None, cmd: str, **params: Any) -> Mapping[str, Any]:
    """The daemon's result of one request; OSError when it does not answer, ValueError when it refuses."""
    connection = Connection(socket_path(given_socket))
    try:
        reply = connection.ask(cmd, **params)
    finally:
        connection.close()
    if not reply["ok"]:
        raise ValueError(reply["error"]["why"])
    result: Mapping[str, Any] = reply["result"]
    return result


def _updating(socket: str | None, say: Callable[[str], None]) -> Updating:
    from agent.update.backup import Places  # noqa: PLC0415 (the CLI starts fast)
    from agent.update.debian import Debian  # noqa: PLC0415 (as above)
    from agent.update.house import House  # noqa: PLC0415 (as above)
    from agent.update.updating import Updating  # noqa: PLC0415 (as above)

    house = House()
    gateway = Debian(house, lambda cmd: answers(socket, cmd), DEFAULT_CONFIG, Places.of(DEFAULT_CONFIG).state)

    return Updating(house, gateway, say)


def _teller(*, as_json: bool) -> Callable[[str], None]:
    """Tells each step to the terminal, and to the journal with who does it: `journalctl -t ems-agent-update`."""
    by_hand = "JOURNAL_STREAM" not in os.environ  # else what is printed is in the journal already
    who = os.environ.get("SUDO_USER") or os.environ.get("USER") or "root"
    syslog.openlog("ems-agent-update")

    def say(text: str) -> None:
        if by_hand:
            syslog.syslog(f"{who}: {text}")
        with suppress(OSError):  # the line of whoever watched is gone; the update goes on
            if not as_json:
                typer.echo("\n".join(fitted([text], 2)))

    return say


def _words(result: Result | None) -> str:
    if result is None:
        return "no update was interrupted"
    match result.end:
        case "updated":
            return f"version {result.new} is in use and works; {result.old} is kept: ems update --back"
        case "went_back":
            return f"version {result.old} is in use again and works; {result.new} was left because {result.why}"
        case "went_back_unwell":
            return (
                f"version {result.old} is in use again, for {result.new} did not work; but it does not do what it did "
                f"before either: {result.why}. Look at ems status and journalctl -u ems-agent"
            )
    return f"nothing was changed, {result.old} is in use: {result.why}"


def _fail(why: str, then: str, code: int, *, as_json: bool) -> None:
    fail({"what": "update", "why": why, "next": then}, code, as_json=as_json)
