"""`ems uninstall`: the batteries at 0 kW first, proven; then the agent is gone from this gateway."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import typer

from agent.cli.client import EXIT_REFUSED, JsonOption, SocketOption, fail, show_json
from agent.cli.config_check import DEFAULT_CONFIG
from agent.cli.update import answers, need_root
from agent.core.neutral import not_neutral

NEUTRAL_WITHIN_S = 60.0
LOOK_EVERY_S = 1.0
INSTALLER = Path("/opt/ems-agent/current/systemd/install.sh")

ForceOption = typer.Option(False, "--force", help="Also where nothing proves that the batteries are at 0 kW.")
PurgeOption = typer.Option(False, "--purge", help="Remove /etc/ems-agent and the state too: plans, events, telemetry.")


def uninstall(
    force: bool = ForceOption,
    purge: bool = PurgeOption,
    socket: str | None = SocketOption,
    as_json: bool = JsonOption,
) -> None:
    """Bring the batteries to 0 kW, see that they are there, stop the agent and remove it; root only.

    The site file, keys, plans, events and telemetry stay, unless --purge is given. Owners' settings that the agent
    took over are put back as it stops. ems backup first is a good habit.
    """
    need_root("uninstall", as_json=as_json)
    from agent.update.backup import Places  # noqa: PLC0415 (the CLI starts fast)

    places = Places.of(DEFAULT_CONFIG)
    fault = _brought_to_rest(socket)
    if fault is not None and not force:
        then = (
            "ems explain, ems devices list; or ems uninstall --force: then each battery's own dead-man is what ends it"
        )
        fail({"what": "uninstall", "why": fault, "next": then}, EXIT_REFUSED, as_json=as_json)
    subprocess.run(["systemctl", "stop", "ems-agent"], check=False)  # noqa: S607 - fixed words
    ended = subprocess.run(["/bin/sh", str(INSTALLER), "--remove"], check=False, capture_output=True, text=True)  # noqa: S603
    if ended.returncode:
        error = {"what": "uninstall", "why": ended.stderr.strip(), "next": "the agent is stopped; try again"}
        fail(error, EXIT_REFUSED, as_json=as_json)
    kept = [str(folder) for folder in (places.etc, places.state)]
    if purge:
        for folder in kept:
            shutil.rmtree(folder, ignore_errors=True)
        kept = []
    if as_json:
        show_json({"neutral": fault is None, "kept": kept})
        return
    typer.echo("the agent is gone; " + ("the batteries are at 0 kW" if fault is None else f"not proven: {fault}"))
    if kept:
        typer.echo(f"kept: {', '.join(kept)}")


def _brought_to_rest(socket: str | None) -> str | None:
    """None once the batteries are at 0 kW; else what speaks against it, after a minute at most."""
    try:
        if answers(socket, "status")["mode"] == "control":
            ordered = {"power_w": 0.0, "duration_s": 2 * NEUTRAL_WITHIN_S, "target": "battery"}
            answers(socket, "override_set", **ordered, reason="ems uninstall", suspend_awards=True)
        deadline_s = time.monotonic() + NEUTRAL_WITHIN_S
        while (fault := _fault(socket)) is not None and time.monotonic() < deadline_s:
            time.sleep(LOOK_EVERY_S)
    except OSError as error:
        return f"the agent does not answer, so it cannot bring the batteries to 0 kW: {error.strerror or error}"
    except ValueError as error:
        return f"the agent refuses: {error}"
    return fault


def _fault(socket: str | None) -> str | None:
    status, explained = answers(socket, "status"), answers(socket, "explain")
    outcomes = explained["last_outcomes"]
    confirmed = {device_id: outcome["confirmed"] for device_id, outcome in outcomes.items()}
    writes = status["mode"] == "control"
    return not_neutral(explained["shares_w"], confirmed, explained["powers_w"]["battery"], writes=writes)
