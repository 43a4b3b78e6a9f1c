"""`ems devices`: profiles by name, checked, their schema, and tried at a device, with nothing that could write."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from agent.cli.certificates import CaOption, CertificateOption, KeyOption, tls_files
from agent.cli.client import EXIT_REFUSED, EXIT_USAGE, WITHOUT_DAEMON, JsonOption, SocketOption, ask, fail, show_json
from agent.cli.config_check import DEFAULT_CONFIG
from agent.cli.devices_check import profile_path
from agent.cli.text import fitted

if TYPE_CHECKING:
    from drivers.link import Link
    from drivers.look import Look
    from drivers.profile.model import Profile

MAX_VALUE_LETTERS = 22
"""Longer texts are cut in the table; --json has them whole."""

ProfileOption = typer.Option(None, "--profile", "-p", help="Try this profile: a file, or the name of a profile.")
UrlOption = typer.Option(None, "--url", help="With --profile: where the device is, such as tcp://192.168.1.20:502.")
UnitOption = typer.Option(1, "--unit", min=0, max=255, help="Its unit id.")
TimeoutOption = typer.Option(1.0, "--timeout", min=0.05, max=10.0, help="Seconds to wait for each answer.")
FolderOption = typer.Option(
    DEFAULT_CONFIG.parent / "profiles", "--folder", help="The site's own profiles, beside its site file."
)
WordsArgument = typer.Argument(
    None,
    help="A device of the site (not with --profile), then points; all when none is named.",
    metavar="[DEVICE] [POINT]...",
)


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


def schema() -> None:
    """Print the JSON Schema of profiles, for editors that complete and check TOML."""
    from drivers.profile.schema import json_schema  # noqa: PLC0415 (the CLI starts fast)

    typer.echo(json.dumps(json_schema(), indent=2))


def read(  # noqa: PLR0917 (a command's options)
    words: list[str] | None = WordsArgument,
    profile: str | None = ProfileOption,
    url: str | None = UrlOption,
    unit: int = UnitOption,
    timeout: float = TimeoutOption,
    folder: Path = FolderOption,
    tls_ca: Path | None = CaOption,
    tls_certificate: Path | None = CertificateOption,
    tls_key: Path | None = KeyOption,
    socket: str | None = SocketOption,
    as_json: bool = JsonOption,
) -> None:
    """Read a device: value, unit, registers in hex, age, quality. It cannot write.

    `ems devices read DEVICE [POINT]...` asks the daemon, which reads the device over its own connection now. Points of
    a profile go by their names, those of a SunSpec device by model and point (701.W), or all of a model (701).

    With --profile and --url the device is asked directly, without a daemon, to try a profile; where a device allows
    one client only, stop the daemon first.

    Exit codes: 0 done; 1 the device cannot be read, or is not what its profile describes; 2 wrong command line, or no
    such point; 3 the daemon is not reachable.
    """
    if (profile is None) != (url is None):
        why = "--profile and --url belong together"
        hint = "ems devices read --profile NAME --url tcp://HOST:502, or ems devices read DEVICE"
        fail({"what": "cannot read", "why": why, "next": hint}, EXIT_USAGE, as_json=as_json)
    if profile is None or url is None:
        if not words:
            hint = "ems devices list names the devices of the site"
            fail({"what": "cannot read", "why": "no device is named", "next": hint}, EXIT_USAGE, as_json=as_json)
        found = ask(
            socket, "device_read", as_json=as_json, without=WITHOUT_DAEMON, device_id=words[0], points=words[1:]
        )
        maker = words[0]
    else:
        path, tls = _path(profile, folder, as_json=as_json), (tls_ca, tls_certificate, tls_key)
        maker, found = _tried(path, url, unit, timeout, words or [], tls, as_json=as_json)
    if as_json:
        show_json(found)
    else:
        typer.echo("\n".join(_lines(maker, found)))
    if found["mismatch"]:
        raise typer.Exit(EXIT_REFUSED)


def _tried(  # noqa: PLR0917 (a command's options)
    path: Path,
    url: str,
    unit: int,
    timeout_s: float,
    points: list[str],
    tls: tuple[Path | None, Path | None, Path | None],
    *,
    as_json: bool,
) -> tuple[str, dict[str, Any]]:
    """The maker that the profile is for, and what the device answered."""
    from agent.runtime.device_requests import point_rows  # noqa: PLC0415 (the CLI starts fast)
    from drivers.endpoint import BadEndpoint  # noqa: PLC0415 (as above)
    from drivers.errors import DeviceError  # noqa: PLC0415 (as above)
    from drivers.link import Link  # noqa: PLC0415 (as above)
    from drivers.profile.load import load  # noqa: PLC0415 (as above)
    from drivers.profile.problem import BadProfile  # noqa: PLC0415 (as above)
    from drivers.profile.trial import UnknownPoint  # noqa: PLC0415 (as above)

    try:
        described = load(path)
        files = tls_files(*tls, needed_for=url) if url.startswith("tls://") else None
        link = Link.from_url(url, timeout_s=timeout_s, clock=time.monotonic, tls=files)
        found = asyncio.run(_trial(described, link, unit, points))
    except BadProfile as bad:
        hint = f"mend it, then: ems devices check {path}"
        fail({"what": "the profile cannot be used", "why": str(bad), "next": hint}, EXIT_REFUSED, as_json=as_json)
    except (BadEndpoint, UnknownPoint) as error:
        fail({"what": "cannot read", "why": str(error), "next": "correct it"}, EXIT_USAGE, as_json=as_json)
    except DeviceError as error:
        hint = error.hint or "check power, cable, address and unit id"
        fail({"what": "the device cannot be read", "why": str(error), "next": hint}, EXIT_REFUSED, as_json=as_json)
    rows = point_rows(found.points)
    return described.about.maker, {"identified": not found.mismatch, "mismatch": list(found.mismatch), "points": rows}


async def _trial(profile: Profile, link: Link, unit: int, points: list[str]) -> Look:
    from drivers.look import tried  # noqa: PLC0415 (the CLI starts fast)

    try:
        return await tried(profile, unit, points, link, time.monotonic)
    finally:
        await link.close()


def _path(profile: str, folder: Path, *, as_json: bool) -> Path:
    """The file of a profile given by path or by name."""
    path = profile_path(profile, folder, as_json=as_json)
    if path is None:
        why = f"there is no profile {profile!r}, neither shipped nor in {folder}"
        fail({"what": "profile", "why": why, "next": "ems devices profiles"}, EXIT_USAGE, as_json=as_json)
    return path


def _lines(maker: str, found: dict[str, Any]) -> list[str]:
    """The points as a table of 80 columns."""
    lines = fitted([f"not what is expected ({maker}): {why}" for why in found["mismatch"]], 4)
    lines = lines or [f"{maker}: it is what is expected"]
    width = max((len(point["point"]) for point in found["points"]), default=0)
    for point in found["points"]:
        value, registers = point["value"], point["registers"]
        shown = "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
        unit = point["unit"] if value is not None else ""
        label = f" ({point['label']})" if point["label"] else ""
        raw = " ".join(f"{register:04X}" for register in registers[:4]) + (" ..." if len(registers) > 4 else "")
        age = "" if point["age_s"] is None else f"  {1000 * point['age_s']:.0f} ms"
        left = f"{point['point']:<{width}}  {f'{shown[:MAX_VALUE_LETTERS]} {unit}'.rstrip()}{label}"
        writable = "  writable" if point["writable"] else ""
        lines.append(f"{left}{f'  [{raw}]' if raw else ''}{age}  {point['quality']}{writable}")
        if point["note"]:
            lines += fitted([f"    {point['note']}"], 4)
    return lines
