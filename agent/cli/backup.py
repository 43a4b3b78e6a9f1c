"""`ems backup` and `ems restore`: a whole site in one file, and onto a replacement gateway."""

from __future__ import annotations

import grp
import pwd
import socket
import subprocess
import time
import tomllib
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import typer

from agent.cli.client import EXIT_REFUSED, JsonOption, fail, show_json
from agent.cli.config_check import DEFAULT_CONFIG
from agent.cli.text import fitted
from agent.cli.update import need_root

UNIT, USER, GROUP = "ems-agent", "ems-agent", "ems"
STOP_S = 60.0

TargetArgument = typer.Argument(
    None, metavar="FILE", help="Default: ems-backup-SITE-TIME.tar.gz here.", show_default=False
)
SourceArgument = typer.Argument(..., metavar="FILE", help="What ems backup wrote.")
WithoutKeysOption = typer.Option(False, "--without-keys", help="Leave out files of keys and passwords.")
WithoutTelemetryOption = typer.Option(False, "--without-telemetry", help="Leave out telemetry, ledger and evidence.")
ReplaceOption = typer.Option(False, "--replace", help="Also where this gateway has a site file or state already.")


def backup(
    target: Path | None = TargetArgument,
    without_keys: bool = WithoutKeysOption,
    without_telemetry: bool = WithoutTelemetryOption,
    as_json: bool = JsonOption,
) -> None:
    """Write all that makes this gateway its site into one file; root only, the agent goes on meanwhile.

    The site file, profiles, certificates, keys and passwords under /etc/ems-agent, drop-ins of the unit, plans,
    outcomes, events, telemetry. The file is for root alone (mode 0600): who has it can be this site.
    """
    need_root("backup", as_json=as_json)
    from agent.update.backup import Origin, Places, back_up  # noqa: PLC0415 (the CLI starts fast)
    from agent.update.not_done import NotDone  # noqa: PLC0415 (as above)

    now_utc_s = time.time()
    origin = Origin(_site_id(as_json=as_json), version("ems-agent"), socket.gethostname(), now_utc_s)
    stamp = datetime.fromtimestamp(now_utc_s, UTC).strftime("%Y%m%dT%H%M%SZ")
    path = target or Path(f"ems-backup-{origin.site}-{stamp}.tar.gz")
    try:
        papers = back_up(
            path.absolute(), Places.of(DEFAULT_CONFIG), origin, keys=not without_keys, telemetry=not without_telemetry
        )
    except NotDone as said:
        fail({"what": said.what, "why": said.why, "next": said.then}, EXIT_REFUSED, as_json=as_json)
    if as_json:
        show_json({"path": str(path), "bytes": path.stat().st_size, **asdict(papers)})
        return
    lines = [f"{path}: site {papers.site}, {len(papers.files)} files, {path.stat().st_size / 1e6:.1f} MB"]
    lines += [f"left out: {name}" for name in papers.left_out]
    lines.append("onto a replacement gateway, with the agent installed: ems restore FILE")
    typer.echo("\n".join(fitted(lines, 2)))


def restore(
    source: Path = SourceArgument,
    replace: bool = ReplaceOption,
    as_json: bool = JsonOption,
) -> None:
    """Make this gateway the site of a backup, and start it; root only. Switch the old gateway off first.

    Two gateways of one site throw each other out at the broker and write against each other; both say so
    (client_id_taken, connection_flaps, setpoint_not_held). Commands issued before now are refused, for the old gateway
    may have carried them out.
    """
    need_root("restore", as_json=as_json)
    from agent.update.backup import Places, missing_here, read_papers  # noqa: PLC0415 (the CLI starts fast)
    from agent.update.backup import restore as put_back  # noqa: PLC0415 (as above)
    from agent.update.not_done import NotDone  # noqa: PLC0415 (as above)

    places = Places.of(DEFAULT_CONFIG)
    try:
        papers = read_papers(source)
        if not replace and (places.etc / "site.toml").exists():
            why = f"this gateway has a site already: {places.etc / 'site.toml'}"
            raise NotDone("restore", why, "ems backup first, if it is wanted; then ems restore --replace FILE")
        _stop()
        put_back(source, places, _owner(), time.time(), socket.gethostname())
    except NotDone as said:
        fail({"what": said.what, "why": said.why, "next": said.then}, EXIT_REFUSED, as_json=as_json)
    missing = [str(path) for path in missing_here(papers, places)]
    started = not missing and _start()
    if as_json:
        show_json({"site": papers.site, "made_utc_s": papers.made_utc_s, "missing": missing, "started": started})
    else:
        typer.echo("\n".join(fitted(_words(papers.site, missing, started=started), 2)))
    if not started:
        raise typer.Exit(EXIT_REFUSED)


def _words(site: str, missing: list[str], *, started: bool) -> list[str]:
    lines = [f"this gateway is {site} now"]
    if missing:
        lines += [f"missing: {path} (left out of the backup)" for path in missing]
        return [*lines, f"bring these files, then: systemctl enable --now {UNIT}"]
    return [
        *lines,
        "the agent runs: ems status" if started else f"the agent does not start: journalctl -u {UNIT} -n 20",
    ]


def _stop() -> None:
    subprocess.run(["systemctl", "stop", UNIT], check=False, timeout=STOP_S)  # noqa: S603, S607 - fixed words


def _start() -> bool:
    for words in (["reset-failed", UNIT], ["daemon-reload"], ["enable", "--quiet", UNIT], ["start", UNIT]):
        ended = subprocess.run(["systemctl", *words], check=False, capture_output=True)  # noqa: S603, S607 - as above
    return ended.returncode == 0


def _owner() -> tuple[int, int]:
    """Of the agent's state."""
    from agent.update.not_done import NotDone  # noqa: PLC0415 (the CLI starts fast)

    try:
        return pwd.getpwnam(USER).pw_uid, grp.getgrnam(GROUP).gr_gid
    except KeyError as error:
        raise NotDone(
            "restore", "the agent is not installed here", "unpack its bundle, sh systemd/install.sh"
        ) from error


def _site_id(*, as_json: bool) -> str:
    try:
        return str(tomllib.loads(DEFAULT_CONFIG.read_text())["site"]["id"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = f"{DEFAULT_CONFIG} does not say which site this is: {error}"
        fail({"what": "backup", "why": why, "next": "ems config check"}, EXIT_REFUSED, as_json=as_json)
