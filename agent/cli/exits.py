"""How every command ends: one table of exit codes, and a last net that turns the unexpected into a useful line."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

EXIT_FAULT = 5
EXITS: Mapping[int, str] = {
    0: "done",
    1: "refused, or a check failed",
    2: "wrong command line",
    3: "the daemon is not reachable",
    4: "ems run cannot start",
    EXIT_FAULT: "a fault in ems itself, or a daemon of another version",
}
"""What each exit code means, for all commands."""
WORDS = "Exit codes:"
TRACE = "EMS_TRACE"
"""Set to anything: a fault shows its whole traceback."""


def words(codes: tuple[int, ...]) -> str:
    """Some exit codes with their meaning, as the help has them."""
    return f"{WORDS} {'; '.join(f'{code} {EXITS[code]}' for code in codes)}."


def epilog(function: Callable[..., Any]) -> str | None:
    """What a command's help ends in; None where its docstring tells its exit codes itself."""
    if WORDS in (function.__doc__ or ""):
        return None
    asks_the_daemon = "socket" in inspect.signature(function).parameters
    return words((0, 1, 3)) if asks_the_daemon else words((0, 1))


def guarded(command: Callable[[], object]) -> NoReturn:
    """Runs the whole command and ends the process; whatever was not expected ends in a line that helps."""
    if sys.argv[1:2] == ["run"] or os.environ.get(TRACE):
        # What ends the daemon belongs into its log with every detail.
        command()
        raise SystemExit(0)
    try:
        try:
            command()
            code: Any = 0
        except SystemExit as ended:
            code = ended.code
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read us has enough: ems events | head
        code = 0
    except OSError as error:
        code = 1
        what = error.filename or "the output"
        _say(f"{what}: {error.strerror or error}", "where the disk is full: df; ems doctor looks at the whole gateway")
    except Exception as error:  # noqa: BLE001 - the last net
        code = EXIT_FAULT
        _say(
            f"a fault in ems itself, or a daemon of another version: {type(error).__name__}: {error}",
            f"ems --version of both sides; {TRACE}=1 shows where; ems support-bundle collects what a ticket needs",
        )
    _end(code)


def _say(why: str, hint: str) -> None:
    print(f"ems: {why}\n     next: {hint}", file=sys.stderr)


def _end(code: Any) -> NoReturn:
    """Ends without Python's own complaint about an output that takes nothing any more."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(code)
