"""`ems commission`: proves the site step by step with the running daemon, and writes the report."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import typer

from agent.cli.client import (
    EXIT_REFUSED,
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

POLL_S = 0.3
"""Much more often than the daemon expects to be led (10 s)."""
LABEL_WIDTH = 10
MARKS = {"passed": "ok", "remark": "REMARK", "failed": "FAILED", "skipped": "skipped", "stopped": "STOPPED"}
WHAT = "commission"

AutoOption = typer.Option(False, "--auto", help="Ask nothing: giving this option is your word that all may move.")
StepOption = typer.Option(None, "--step", metavar="NAME", help="Only this step, such as dead_man or sign_scale.")
ResumeOption = typer.Option(False, "--resume", help="Go on with the first step that has not passed.")
ReportOption = typer.Option(
    None, "--report", metavar="DIR", help="Write commissioning-SITE.html and .json there when it is over."
)
LastOption = typer.Option(False, "--last", help="Show the last commissioning (with --report: write it); nothing moves.")
StopOption = typer.Option(False, "--stop", help="End the one that runs, in whichever terminal: back to rest.")


def commission(  # noqa: PLR0917 - one parameter per option
    auto: bool = AutoOption,
    step: str | None = StepOption,
    resume: bool = ResumeOption,
    report: Path | None = ReportOption,
    last: bool = LastOption,
    stop: bool = StopOption,
    socket: str | None = SocketOption,
    as_json: bool = JsonOption,
) -> None:
    """Prove the site: identity, limits, signs, scale, lag, dead-man, connection limit, cloud, response. Operators only.

    It moves the batteries with small powers for a few minutes, asks before each movement, and always goes back to
    rest: when it is over, when anything is not as expected, when you press Ctrl-C, and when the line to you breaks.
    Commands and plans are held off meanwhile. What it measures (lag, dead-man time) is kept, and control uses it.
    """
    if stop:
        done = ask(socket, "commission_stop", as_json=as_json)
    elif last:
        done = ask(socket, "commission_status", as_json=as_json, full=True)
        if done["begun"] is None:
            error = {"what": WHAT, "why": "this site was never commissioned", "next": "ems commission"}
            fail(error, EXIT_REFUSED, as_json=as_json)
    else:
        done = _led(socket, {"auto": auto, "step": step, "resume": resume}, as_json=as_json)
    written = _write_report(report, done, as_json=as_json) if report is not None and not stop else []
    if as_json:
        show_json({**done, "written": written})
    elif stop:
        typer.echo("it ends: the batteries go back to rest")
    else:
        shown = [*(lines(done) if last else []), *ending(done), *(f"report    {path}" for path in written)]
        typer.echo("\n".join(fitted(shown, LABEL_WIDTH)))
    if not stop and done["verdict"] != "passed":
        raise typer.Exit(EXIT_REFUSED)


def lines(facts: dict[str, Any]) -> list[str]:
    """Every step with what became of it."""
    return [line for step in facts["steps"] for line in step_lines(step)]


def step_lines(step: dict[str, Any]) -> list[str]:
    """One step: its verdict, and each finding with what to do."""
    if step["word"] is None:
        return [f"{'-':<9} {step['title']}: not done yet"]
    shown = [f"{MARKS[step['word']]:<9} {step['title']}"]
    for finding in step["findings"]:
        mark = "" if finding["word"] in ("passed", "skipped") else f"{MARKS[finding['word']]}: "
        shown.append(f"          {mark}{finding['text']}")
        if finding["hint"]:
            shown.append(f"          next: {finding['hint']}")
    return shown


def ending(facts: dict[str, Any]) -> list[str]:
    """The verdict, and what to do after it."""
    running = facts["running"]
    if running is not None:
        return [f"running   {running['title']}, led by {running['who']}"]
    if facts["verdict"] == "passed":
        return ["PASSED    every step; commands and plans decide again"]
    wrong = [step["title"] for step in facts["steps"] if step["word"] in ("failed", "stopped")]
    said = f"{MARKS[facts['verdict']] if facts['verdict'] else 'STOPPED':<9} {', '.join(wrong) or 'not complete'}"
    shown = [said, *([f"          {facts['why']}"] if facts["why"] else [])]
    return [*shown, "next      mend what is named above, then: ems commission --resume"]


def _led(socket: str | None, options: dict[str, Any], *, as_json: bool) -> dict[str, Any]:
    """The result of a commissioning that this process leads, question by question."""
    if not options["auto"]:
        _need_terminal(as_json=as_json)
        typer.echo("The batteries will be moved, with small powers, for some minutes. Ctrl-C ends it at rest.")
        if not typer.confirm("Is the site ready, and nobody at work on it?"):
            error = {"what": WHAT, "why": "not confirmed", "next": "nothing was moved"}
            fail(error, EXIT_REFUSED, as_json=as_json)
    path = socket_path(socket)
    try:
        connection = Connection(path)
        _asked(connection, "commission_start", as_json=as_json, confirmed=True, **options)
        try:
            return _watched(connection, as_json=as_json)
        except KeyboardInterrupt:
            typer.echo("\nending: the batteries go back to rest", err=True)
            connection = Connection(path)  # the old line may have been cut in the middle of a reply
            _asked(connection, "commission_stop", as_json=as_json)
            return _watched(connection, as_json=as_json)
    except OSError as error:
        fail_unreachable(path, error, as_json=as_json)


def _watched(connection: Connection, *, as_json: bool) -> dict[str, Any]:
    """The facts once it is over; each step is told as it is done."""
    told: set[str] = set()
    begun = ""
    while True:
        facts = _asked(connection, "commission_status", as_json=as_json, lead=True)
        now = facts["running"]
        for step in facts["steps"]:
            fresh = step["word"] is not None and step["ended_utc_s"] >= facts["begun_utc_s"]
            if fresh and step["step"] not in told and not as_json:
                typer.echo("\n".join(fitted(step_lines(step), LABEL_WIDTH)))
                told.add(step["step"])
        if now is None:
            return _asked(connection, "commission_status", as_json=as_json, full=True)
        if now["step"] != begun and not as_json:
            begun = now["step"] or ""
            line = f"...       {now['title']} ({now['done'] + 1} of {now['steps']}): {now['about']}"
            typer.echo("\n".join(fitted([line], LABEL_WIDTH)), err=True)
        if now["stage"] == "waiting":
            _ask_go(connection, now, as_json=as_json)
        time.sleep(POLL_S)


def _ask_go(connection: Connection, now: dict[str, Any], *, as_json: bool) -> None:
    """Asks before a movement; the daemon hears of us while somebody thinks."""
    if _confirmed_while_led(connection, f"{now['title']}: {now['about']}. Go on?", as_json=as_json):
        _asked(connection, "commission_go", as_json=as_json, step=now["step"])
    else:
        _asked(connection, "commission_stop", as_json=as_json)


def _confirmed_while_led(connection: Connection, question: str, *, as_json: bool) -> bool:
    """The answer of the person at the terminal."""
    import select  # noqa: PLC0415 - only this command waits for two things at once

    typer.echo("\n".join(fitted([f"{question} [y/N]:"], 0)) + " ", nl=False)
    while not select.select([sys.stdin], [], [], POLL_S)[0]:
        _asked(connection, "commission_status", as_json=as_json, lead=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _need_terminal(*, as_json: bool) -> None:
    if as_json or not sys.stdin.isatty():
        why = "it asks before each movement, and there is nobody at a terminal to answer"
        hint = "run it in a terminal, or give your word for all movements with --auto"
        fail({"what": WHAT, "why": why, "next": hint}, EXIT_REFUSED, as_json=as_json)


def _asked(connection: Connection, cmd: str, *, as_json: bool, **params: Any) -> dict[str, Any]:
    reply = connection.ask(cmd, **params)
    if not reply["ok"]:
        _refused(reply["error"], as_json=as_json)
    result: dict[str, Any] = reply["result"]
    return result


def _refused(error: dict[str, str], *, as_json: bool) -> NoReturn:
    fail(error, EXIT_REFUSED, as_json=as_json)


def _write_report(folder: Path, facts: dict[str, Any], *, as_json: bool) -> list[str]:
    """The paths of the report, written into `folder`."""
    from agent.cli.commission_report import report_files  # noqa: PLC0415 - only who wants a report pays for it

    try:
        return [str(path) for path in report_files(folder, facts)]
    except OSError as error:
        why = f"{folder}: {error.strerror}"
        hint = "name a folder that you may write to: ems commission --last --report DIR"
        fail({"what": "commission report", "why": why, "next": hint}, EXIT_REFUSED, as_json=as_json)
