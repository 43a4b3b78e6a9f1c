"""`ems devices check`: a profile on its own, or a running device beside its profile and the site file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from agent.cli.client import EXIT_REFUSED, EXIT_USAGE, WITHOUT_DAEMON, JsonOption, SocketOption, ask, fail, show_json
from agent.cli.config_check import DEFAULT_CONFIG
from agent.cli.text import fitted

NameArgument = typer.Argument(
    ..., help="A profile file, the name of a profile, or a device of the site.", metavar="PROFILE|DEVICE"
)
DeviceOption = typer.Option(False, "--device", help="It is a device of the site, even if a profile has that name.")
FolderOption = typer.Option(
    DEFAULT_CONFIG.parent / "profiles", "--folder", help="The site's own profiles, beside its site file."
)


def check(
    name: str = NameArgument,
    device: bool = DeviceOption,
    folder: Path = FolderOption,
    socket: str | None = SocketOption,
    as_json: bool = JsonOption,
) -> None:
    """Check a profile, or a running device against its profile and the site file. Nothing is written.

    Of a profile: each problem with its file, place and reason. Of a device of the site, asked through the daemon: who
    answers, which points it offers and whether they can be true, its nameplate beside rated_power, remote or local,
    dead-man, registers that wear out.

    Exit codes: 0 usable; 1 it would be refused, or something is wrong; 2 there is no such name; 3 it is no profile,
    and the daemon is not reachable.
    """
    path = None if device else profile_path(name, folder, as_json=as_json)
    if path is None:
        _running(name, socket, as_json=as_json)
    else:
        _profile(path, as_json=as_json)


def profile_path(name: str, folder: Path, *, as_json: bool) -> Path | None:
    """The file of a profile given by path or by name; None where there is no profile of this name."""
    from drivers.profile.load import available  # noqa: PLC0415 (the CLI starts fast)
    from drivers.profile.problem import BadProfile  # noqa: PLC0415 (as above)

    if name.endswith(".toml") or "/" in name:
        return Path(name)
    try:
        known = available(folder)
    except BadProfile as bad:
        fail({"what": "profiles", "why": str(bad), "next": "rename that file"}, EXIT_REFUSED, as_json=as_json)
    return known[name].path if name in known else None


def _profile(path: Path, *, as_json: bool) -> None:
    from drivers.profile.load import examine  # noqa: PLC0415 (the CLI starts fast)

    found, problems = examine(path)
    usable = not any(problem.severity == "error" for problem in problems)
    if as_json:
        shown = [{"where": p.where, "reason": p.reason, "severity": p.severity} for p in problems]
        show_json({"usable": usable, "path": str(path), "problems": shown})
    else:
        for problem in problems:
            typer.echo(problem.line(str(path)), err=problem.severity == "error")
        if usable and found is not None:
            roles = ", ".join(found.roles)
            what = f"{len(found.points)} points" if found.sunspec is None else "by its SunSpec models"
            typer.echo(f"{path}: usable: {found.about.maker}, {roles}, {what}")
    if not usable:
        raise typer.Exit(EXIT_REFUSED)


def _running(name: str, socket: str | None, *, as_json: bool) -> None:
    devices = [device["device_id"] for device in ask(socket, "devices", as_json=as_json, without=WITHOUT_DAEMON)]
    if name not in devices:
        why = f"{name!r} is neither a profile nor a device of this site"
        hint = f"ems devices profiles lists the profiles; devices are {', '.join(devices)}"
        fail({"what": "devices check", "why": why, "next": hint}, EXIT_USAGE, as_json=as_json)
    told = ask(socket, "device_check", as_json=as_json, device_id=name)
    if as_json:
        show_json(told)
    else:
        typer.echo("\n".join(lines(told)))
    if not told["usable"]:
        raise typer.Exit(EXIT_REFUSED)


def lines(told: dict[str, Any]) -> list[str]:
    """What was found at a device, 80 columns."""
    verdicts = {"ok": "ok", "warning": "WARNING", "error": "ERROR"}
    shown = [f"{verdicts[one['verdict']]:<8} {one['what']}: {one['detail']}" for one in told["found"]]
    said = "it is as it should be" if told["usable"] else "NOT as it should be"
    return fitted([f"{told['device_id']}: {said}", *shown], 9)
