"""`ems doctor`: everything that can be looked at without touching anything, each with a verdict and what to do."""

from __future__ import annotations

import asyncio
import os
import platform
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from agent.cli.client import EXIT_REFUSED, Connection, JsonOption, SocketOption, show_json, socket_path, why_unreachable
from agent.cli.config_check import ConfigOption
from agent.cli.text import COLUMNS, fitted

if TYPE_CHECKING:
    from agent.config import SiteFile
    from agent.core.checkup import BrokerFacts, Finding, GatewayFacts, ServiceFacts

WORDS = {"ok": "OK", "warning": "WARNING", "failed": "FAILED", "unchecked": "-"}
LABEL_WIDTH = 9
TODO_WRAPPER = textwrap.TextWrapper(
    COLUMNS,
    initial_indent=f"{'':<{LABEL_WIDTH}}-> ",
    subsequent_indent=" " * (LABEL_WIDTH + 3),
    break_long_words=False,
    break_on_hyphens=False,
)
NOT_UNDERSTOOD = (KeyError, TypeError, ValueError, AttributeError)
"""What an answer of another version of the daemon may lead to."""
DevicesOption = typer.Option(
    False, "--devices", help="Read the devices directly, where the daemon is down: nothing is written to them."
)


def doctor(
    config: Path = ConfigOption,
    devices: bool = DevicesOption,
    socket: str | None = SocketOption,
    as_json: bool = JsonOption,
) -> None:
    """Look at everything and say what is wrong and what to do. Nothing is changed, nothing is written to a device.

    The site file, the clock and its source, disk and flash wear, databases, the service and its sandbox, every device,
    how meter, battery and PV fit together, the way to the broker with its certificates, plans held, override, safety
    latch, commissioning. OK, WARNING (works, look at it), FAILED (does not work), - (could not be looked at, and why).

    With the daemon down it says so and checks what can be checked without it, the broker too. With the daemon up the
    broker is asked through the daemon's session, for a second one could end it.

    Exit codes: 0 nothing failed; 1 something failed.
    """
    if not as_json:
        # At once, for the rest takes seconds where something does not answer.
        now = f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S %Z}"
        told = f"{platform.node()}, {now}, ems-agent {version('ems-agent')}"
        typer.echo("\n".join(fitted([told], 2)))
        sys.stdout.flush()
    found = tuple(examine(config, socket, devices=devices))
    counts = {word: sum(one.grade == grade for one in found) for grade, word in WORDS.items()}
    if as_json:
        show_json(
            {"failed": counts["FAILED"], "warnings": counts["WARNING"], "findings": [asdict(one) for one in found]}
        )
    else:
        typer.echo("\n".join(lines(found)))
        typer.echo(f"{counts['FAILED']} failed, {counts['WARNING']} warnings, {counts['OK']} OK")
    if counts["FAILED"]:
        raise typer.Exit(EXIT_REFUSED)


def lines(found: Sequence[Finding]) -> list[str]:
    """The findings for people, 80 columns."""
    shown: list[str] = []
    for one in found:
        shown += fitted([f"{WORDS[one.grade]:<8} {one.area} {one.what}: {one.text}"], LABEL_WIDTH)
        if one.todo and one.grade != "ok":
            shown += TODO_WRAPPER.wrap(one.todo)
    return shown


@dataclass
class Told:
    """What the daemon answered, or why it did not."""

    path: Path
    why_not: str = ""
    hint: str = ""
    answers: dict[str, Any] = field(default_factory=dict)

    @property
    def up(self) -> bool:
        """True when it answers at all."""
        return not self.why_not


def examine(config: Path, socket: str | None, *, devices: bool) -> Iterator[Finding]:
    """All findings, in the order in which they are shown."""
    from agent.core.checkup import gateway  # noqa: PLC0415 (the CLI starts fast)
    from agent.core.checkup_site import site as site_findings  # noqa: PLC0415 (as above)

    loaded, problems = _load(config)
    told = asked(daemon_socket(socket, loaded))
    facts = gateway_facts(config, loaded, problems, told)
    yield from gateway(facts)
    status = told.answers.get("status")
    if status is not None:
        rows, seen = told.answers.get("devices") or (), told.answers.get("checkup") or {}
        try:
            yield from site_findings(status, rows, seen, time.time())
        except NOT_UNDERSTOOD as error:
            yield _not_understood(error)
    elif loaded is not None:
        yield from _without_daemon(loaded, facts.service, told, devices=devices)


def _not_understood(error: Exception) -> Finding:
    from agent.core.checkup import Finding, Grade  # noqa: PLC0415 (the CLI starts fast)

    text = f"the daemon's answer is not understood ({type(error).__name__}: {error}): it is of another version"
    return Finding("service", "answers", Grade.FAILED, text, "systemctl restart ems-agent; then ask again")


def _load(config: Path) -> tuple[SiteFile | None, tuple[str, ...]]:
    from agent.config import ConfigError, load  # noqa: PLC0415 (the CLI starts fast)

    try:
        return load(config), ()
    except ConfigError as error:
        return None, error.problems


def daemon_socket(given: str | None, site: SiteFile | None) -> Path:
    """The socket that was named; else that of the site file."""
    if given is None and not os.environ.get("EMS_SOCKET") and site is not None:
        return Path(site.api.socket)
    return socket_path(given)


def asked(path: Path) -> Told:
    """The daemon's answers to all that a doctor asks, without what it refuses (it may be older, or just starting)."""
    told = Told(path)
    try:
        connection = Connection(path)
        for cmd in ("status", "devices", "checkup", "broker_check"):
            reply = connection.ask(cmd)
            if reply["ok"]:
                told.answers[cmd] = reply["result"]
        connection.close()
    except (OSError, ValueError) as error:
        why, told.hint = why_unreachable(error if isinstance(error, OSError) else OSError(str(error)))
        told.why_not = f"does not answer at {path}: {why}"
    return told


def gateway_facts(config: Path, site: SiteFile | None, problems: tuple[str, ...], told: Told) -> GatewayFacts:
    """What was collected of the gateway."""
    from agent.cli.config_risks import NO_CONNECTION, risks  # noqa: PLC0415 (the CLI starts fast)
    from agent.cli.doctor_machine import clock_facts, disk_facts  # noqa: PLC0415 (as above)
    from agent.core.checkup import ConfigFacts, GatewayFacts  # noqa: PLC0415 (as above)
    from agent.store.examination import examined  # noqa: PLC0415 (as above)

    service = _service_facts(site, told)
    # Files of the way to the broker are judged with the broker: the daemon may use what we may not.
    found = [risk for risk in risks(site) if not risk.text.startswith(NO_CONNECTION)] if site is not None else []
    since = ((told.answers.get("status") or {}).get("site_file") or {}).get("since")
    read_utc_s = datetime.fromisoformat(since).timestamp() if since is not None else None
    newer = site is not None and read_utc_s is not None and config.stat().st_mtime > read_utc_s
    directory = site.store.directory if site is not None else None
    return GatewayFacts(
        config=ConfigFacts(str(config), problems, tuple(f"{risk.key}: {risk.text}" for risk in found), newer),
        clock=clock_facts(),
        disk=disk_facts(directory) if directory is not None else None,
        databases=examined(Path(directory), time.time()) if directory is not None else (),
        service=service,
        broker=_broker_facts(site, service, told),
    )


def _service_facts(site: SiteFile | None, told: Told) -> ServiceFacts:
    from agent.cli.doctor_machine import holder_pid, process_facts, unit_facts  # noqa: PLC0415 (the CLI starts fast)
    from agent.core.checkup import ServiceFacts  # noqa: PLC0415 (as above)
    from agent.store.instance_lock import LOCK_FILE  # noqa: PLC0415 (as above)

    status, unit = told.answers.get("status") or {}, unit_facts()
    holder = holder_pid(Path(site.store.directory) / LOCK_FILE) if site is not None else None
    process = process_facts(status.get("pid") or holder or 0)
    return ServiceFacts(
        reachable=told.up,
        why_not=told.why_not,
        hint=told.hint,
        holder_pid=holder,
        version=version("ems-agent"),
        running_version=status.get("version", version("ems-agent")),
        uptime_s=status.get("uptime_s"),
        by_systemd=bool(unit),
        active_state=unit.get("ActiveState", ""),
        restarts=int(unit["NRestarts"]) if unit.get("NRestarts", "").isdecimal() else None,
        no_new_privs=bool(process["NoNewPrivs"]) if "NoNewPrivs" in process else None,
        seccomp=bool(process.get("Seccomp")),
        capabilities=process.get("CapEff"),
    )


def _broker_facts(site: SiteFile | None, service: ServiceFacts, told: Told) -> BrokerFacts | None:
    """From the daemon where it runs; else found out here, with a login only where nobody holds the session."""
    from agent.core.checkup import BrokerFacts, Certificate, Grade, Step  # noqa: PLC0415 (the CLI starts fast)

    answer = told.answers.get("broker_check")
    if answer is not None:
        try:
            steps = tuple(Step(**{**step, "grade": Grade(step["grade"])}) for step in answer["steps"])
            return BrokerFacts(answer["address"], steps, tuple(Certificate(**one) for one in answer["certificates"]))
        except NOT_UNDERSTOOD:
            return None  # told with the site
    if told.up or site is None or site.cloud is None:
        return None
    from agent.cloud.access import transport  # noqa: PLC0415 (as above)
    from agent.cloud.broker_check import login, way  # noqa: PLC0415 (as above)

    access = transport(site.cloud)
    facts = way(access, time.time())
    if any(step.grade is not Grade.OK for step in facts.steps):
        return facts
    if service.holder_pid is not None:
        text = "not tried: the process that holds the state directory may hold the session, and a second would end it"
        return BrokerFacts(facts.address, (*facts.steps, Step("login", Grade.UNCHECKED, text)), facts.certificates)
    return BrokerFacts(facts.address, (*facts.steps, *login(access, site.site.id)), facts.certificates)


def _without_daemon(site: SiteFile, service: ServiceFacts, told: Told, *, devices: bool) -> Iterator[Finding]:
    from agent.core.checkup import Finding, Grade  # noqa: PLC0415 (the CLI starts fast)

    if told.up:
        text = "the daemon has only just started and decided nothing yet"
        yield Finding("site", "status", Grade.WARNING, text, "ask again in a few seconds")
    elif service.holder_pid is not None:
        text = f"not asked: process {service.holder_pid} holds them, and many devices allow a single client"
        yield Finding("device", "all", Grade.UNCHECKED, text, "")
    elif not devices:
        text = "not asked while the daemon is down; ems doctor --devices reads them directly"
        yield Finding("device", "all", Grade.UNCHECKED, text)
    else:
        from agent.cli.doctor_devices import read_directly  # noqa: PLC0415 (as above)

        yield from asyncio.run(read_directly(site))
