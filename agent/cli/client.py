"""One request to the daemon over its Unix socket, and the one way errors are shown."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

import typer

DEFAULT_SOCKET = "/run/ems-agent/ems.sock"
TIMEOUT_S = 10.0

EXIT_REFUSED = 1
"""The daemon or a check said no."""
EXIT_USAGE = 2
"""The command line is wrong (typer's own code)."""
EXIT_UNREACHABLE = 3
"""The daemon is not there, or does not let this user in."""

WITHOUT_DAEMON = "without it: ems devices scan HOST, or ems devices read --profile NAME --url tcp://HOST:502"
"""For the commands about devices."""
SocketOption = typer.Option(
    None,
    "--socket",
    help="The daemon's socket. Default: $EMS_SOCKET, else /run/ems-agent/ems.sock.",
    show_default=False,
)
JsonOption = typer.Option(False, "--json", help="Print one JSON object for programs instead of text for people.")


def socket_path(given: str | None) -> Path:
    """The socket to use: the option, else `$EMS_SOCKET`, else the place of an installed service."""
    return Path(given or os.environ.get("EMS_SOCKET") or DEFAULT_SOCKET)


class Connection:
    """An open line to the daemon; `ask` may be called repeatedly."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(TIMEOUT_S)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._stream = self._socket.makefile("rwb")

    def ask(self, cmd: str, **params: Any) -> dict[str, Any]:
        """The daemon's reply as it came; OSError when the line breaks."""
        self._stream.write(json.dumps({"cmd": cmd, **params}).encode() + b"\n")
        self._stream.flush()
        line = self._stream.readline()
        if not line:
            raise ConnectionResetError("the daemon closed the line")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def close(self) -> None:
        """Ends the line."""
        self._stream.close()
        self._socket.close()


def ask(given_socket: str | None, cmd: str, *, as_json: bool, without: str = "", **params: Any) -> Any:
    """The result of one request; ends the process with a clear error when there is none.

    `without` says what can be done while there is no daemon.
    """
    path = socket_path(given_socket)
    try:
        connection = Connection(path)
        reply = connection.ask(cmd, **params)
        connection.close()
    except OSError as error:
        fail_unreachable(path, error, as_json=as_json, without=without)
    if not reply["ok"]:
        fail(reply["error"], EXIT_REFUSED, as_json=as_json)
    return reply["result"]


def fail_unreachable(path: Path, error: OSError, *, as_json: bool, without: str = "") -> NoReturn:
    """Ends the process: the daemon cannot be asked."""
    why, hint = why_unreachable(error)
    hint += f"; {without}" if without else ""
    what = f"cannot ask the daemon at {path}"
    fail({"what": what, "why": why, "next": hint}, EXIT_UNREACHABLE, as_json=as_json)


def why_unreachable(error: OSError) -> tuple[str, str]:
    """Why the daemon cannot be asked, and what to do next."""
    if isinstance(error, FileNotFoundError):
        why = "there is no such socket: the daemon is not running, or it uses another one"
        hint = "systemctl status ems-agent; or name the socket with --socket PATH or EMS_SOCKET"
    elif isinstance(error, ConnectionRefusedError):
        why = "nobody listens there: the daemon was killed and has not come back"
        hint = "systemctl restart ems-agent; journalctl -u ems-agent -n 50 shows why it stopped"
    elif isinstance(error, PermissionError):
        why = "this user may not use the socket"
        hint = "add the user to the group ems (to look), and to ems-operator too (to change things); then log in again"
    else:
        why = str(error) or type(error).__name__
        hint = "journalctl -u ems-agent -n 50 shows what the daemon is doing"
    return why, hint


def fail(error: dict[str, str], code: int, *, as_json: bool) -> NoReturn:
    """Ends the process with `error` on stderr (JSON on stdout with --json) and `code`."""
    if as_json:
        print(json.dumps({"ok": False, "error": error}))
    else:
        print(f"ems: {error['what']}: {error['why']}\n     next: {error['next']}", file=sys.stderr)
    raise typer.Exit(code)


def show_json(result: Any) -> None:
    """One JSON object on stdout."""
    print(json.dumps({"ok": True, "result": result}))
