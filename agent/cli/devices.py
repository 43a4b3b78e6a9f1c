"""`ems devices`: profiles by name, checked, their schema, and tried at a device, with nothing that could write."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from agent.cli.client import EXIT_REFUSED, EXIT_USAGE, JsonOption, SocketOption, ask, fail, show_json
from agent.cli.config_check import DEFAULT_CONFIG
from agent.cli.text import fitted

if TYPE_CHECKING:
    from drivers.profile.model import Profile
    from drivers.profile.trial import PointRead, Trial

MAX_VALUE_LETTERS = 22
"""Longer texts are cut in the table; --json has them whole."""

ProfileArgument = typer.Argument(..., help="A profile file, or the name of a profile.", metavar="PROFILE")
ProfileOption = typer.Option(..., "--profile", "-p", help="A profile file, or the name of a profile.")
UrlOption = typer.Option(..., "--url", help="Where the device is, for example tcp://192.168.1.20:502.")
UnitOption = typer.Option(1, "--unit", min=0, max=255, help="Its unit id.")
TimeoutOption = typer.Option(1.0, "--timeout", min=0.05, max=10.0, help="Seconds to wait for each answer.")
FolderOption = typer.Option(
    DEFAULT_CONFIG.parent / "profiles", "--folder", help="The site's own profiles, beside its site file."
)
PointsArgument = typer.Argument(None, help="The points to read; all when none is named.", metavar="[POINT]...")


def list_(socket: str | None = SocketOption, as_json: bool = JsonOption) -> None:
    """Show the site's devices as the daemon sees them: health, identity, latency, last error."""
    devices = ask(socket, "status", as_json=as_json)["devices"]
    if as_json:
        show_json({"devices": devices})
        return
    for device in devices:
        latency = "" if device["latency_ms"] is None else f", answers in {device['latency_ms']:.0f} ms"
        counted = f"{device['polls']} polls, {device['failures']} failed"
        typer.echo(f"{device['device_id']:<16} {device['health']:<8} {counted}{latency}")
        told = [device["endpoint"], device["identity"], device["last_error"]]
        typer.echo("\n".join(fitted([f"    {one}" for one in told if one], 6)))


def profiles(folder: Path = FolderOption, as_json: bool = JsonOption) -> None:
    """Show the profiles that a site file may name, shipped and the site's own."""
    from drivers.profile.load import available, examine  # noqa: PLC0415 (the CLI starts fast)
    from drivers.profile.problem import BadProfile  # noqa: PLC0415 (as above)

    try:
        known = available(folder)
    except BadProfile as bad:
        fail({"what": "profiles", "why": str(bad), "next": "rename that file"}, EXIT_REFUSED, as_json=as_json)
    rows: list[dict[str, Any]] = []
    for name, found in known.items():
        profile, _ = examine(found.path)
        rows.append(
            {
                "name": name,
                "origin": found.origin,
                "path": str(found.path),
                "roles": [] if profile is None else list(profile.roles),
                "maker": None if profile is None else profile.about.maker,
                "models": [] if profile is None else profile.about.models,
            }
        )
    if as_json:
        show_json({"profiles": rows})
        return
    for row in rows:
        maker = row["maker"] or f"broken: ems devices check {row['name']}"
        typer.echo(f"{row['name']:<24} {row['origin']:<8} {', '.join(row['roles']):<20} {maker}")


def check(profile: str = ProfileArgument, folder: Path = FolderOption, as_json: bool = JsonOption) -> None:
    """Check a profile: each problem with its file, place and reason; exit code 1 when it would be refused."""
    from drivers.profile.load import examine  # noqa: PLC0415 (the CLI starts fast)

    path = _path(profile, folder, as_json=as_json)
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
            typer.echo(f"{path}: usable: {found.about.maker}, {roles}, {len(found.points)} points")
    if not usable:
        raise typer.Exit(EXIT_REFUSED)


def schema() -> None:
    """Print the JSON Schema of profiles, for editors that complete and check TOML."""
    from drivers.profile.schema import json_schema  # noqa: PLC0415 (the CLI starts fast)

    typer.echo(json.dumps(json_schema(), indent=2))


def read(  # noqa: PLR0917 (a command's options)
    points: list[str] | None = PointsArgument,
    profile: str = ProfileOption,
    url: str = UrlOption,
    unit: int = UnitOption,
    timeout: float = TimeoutOption,
    folder: Path = FolderOption,
    as_json: bool = JsonOption,
) -> None:
    """Read a device by a profile, directly: value, raw, registers, age, quality. It cannot write.

    Some devices allow one client only: stop the daemon first, or it loses its connection.
    """
    from drivers.endpoint import BadEndpoint  # noqa: PLC0415 (the CLI starts fast)
    from drivers.errors import DeviceError  # noqa: PLC0415 (as above)
    from drivers.profile.load import load  # noqa: PLC0415 (as above)
    from drivers.profile.problem import BadProfile  # noqa: PLC0415 (as above)
    from drivers.profile.trial import UnknownPoint  # noqa: PLC0415 (as above)

    path = _path(profile, folder, as_json=as_json)
    try:
        described = load(path)
        found = asyncio.run(_trial(described, url, unit, timeout, points or []))
    except BadProfile as bad:
        hint = f"mend it, then: ems devices check {path}"
        fail({"what": "the profile cannot be used", "why": str(bad), "next": hint}, EXIT_REFUSED, as_json=as_json)
    except (BadEndpoint, UnknownPoint) as error:
        fail({"what": "cannot read", "why": str(error), "next": "correct it"}, EXIT_USAGE, as_json=as_json)
    except DeviceError as error:
        hint = error.hint or "check power, cable, address and unit id"
        fail({"what": "the device cannot be read", "why": str(error), "next": hint}, EXIT_REFUSED, as_json=as_json)
    if as_json:
        show_json(
            {"identified": not found.mismatch, "mismatch": found.mismatch, "points": [_row(p) for p in found.points]}
        )
    else:
        typer.echo("\n".join(_lines(described, found)))
    if found.mismatch:
        raise typer.Exit(EXIT_REFUSED)


async def _trial(profile: Profile, url: str, unit: int, timeout_s: float, points: list[str]) -> Trial:
    from drivers.link import Link  # noqa: PLC0415 (the CLI starts fast)
    from drivers.profile.reads import Spots  # noqa: PLC0415 (as above)
    from drivers.profile.trial import trial  # noqa: PLC0415 (as above)

    link = Link.from_url(url, timeout_s=timeout_s, clock=time.monotonic)
    try:
        return await trial(Spots(profile, unit, {}), points, link, time.monotonic)
    finally:
        await link.close()


def _path(profile: str, folder: Path, *, as_json: bool) -> Path:
    """The file of a profile given by path or by name."""
    from drivers.profile.load import available  # noqa: PLC0415 (the CLI starts fast)
    from drivers.profile.problem import BadProfile  # noqa: PLC0415 (as above)

    if profile.endswith(".toml") or "/" in profile:
        return Path(profile)
    try:
        known = available(folder)
    except BadProfile as bad:
        fail({"what": "profiles", "why": str(bad), "next": "rename that file"}, EXIT_REFUSED, as_json=as_json)
    if profile not in known:
        why = f"there is no profile {profile!r}, neither shipped nor in {folder}"
        fail({"what": "profile", "why": why, "next": "ems devices profiles"}, EXIT_USAGE, as_json=as_json)
    return known[profile].path


def _row(point: PointRead) -> dict[str, Any]:
    return {
        "point": point.name, "value": point.value, "unit": point.unit, "label": point.label, "raw": point.raw,
        "registers": list(point.registers), "age_s": point.age_s, "quality": point.quality, "note": point.note,
    }  # fmt: skip


def _lines(profile: Profile, found: Trial) -> list[str]:
    """The points as a table of 80 columns."""
    lines = [
        f"not what the profile describes ({profile.about.maker}): {why} does not hold" for why in found.mismatch
    ] or [f"it is what the profile describes ({profile.about.maker})"]
    width = max(len(point.name) for point in found.points)
    for point in found.points:
        shown = (
            "-" if point.value is None else f"{point.value:g}" if isinstance(point.value, float) else str(point.value)
        )
        unit = point.unit if point.value is not None else ""
        value = f"{shown[:MAX_VALUE_LETTERS]} {unit}".rstrip()
        label = f" ({point.label})" if point.label else ""
        registers = " ".join(f"{register:04X}" for register in point.registers[:4])
        registers += " ..." if len(point.registers) > 4 else ""
        age = "" if point.age_s is None else f"  {1000 * point.age_s:.0f} ms"
        lines.append(f"{point.name:<{width}}  {value}{label}  [{registers}]{age}  {point.quality}")
        if point.note:
            lines += fitted([f"    {point.note}"], 4)
    return lines
