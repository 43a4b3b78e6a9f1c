"""`ems config check`: whether a site file is usable, which limits it puts in force, and what deserves a second look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from agent.cli.client import EXIT_REFUSED, JsonOption, show_json
from agent.cli.text import fitted

if TYPE_CHECKING:
    from agent.cli.config_limits import LimitLine

DEFAULT_CONFIG = Path("/etc/ems-agent/site.toml")
ConfigOption = typer.Option(DEFAULT_CONFIG, "--config", "-c", help="The site file.")


def check(config: Path = ConfigOption, as_json: bool = JsonOption) -> None:
    """Check a site file without starting anything: its problems by key, else the limits in force, and warnings.

    A limit without a source in brackets is stated in the file. Where the daemon of this site runs, what it measured in
    commissioning is told beside it. Warnings do not make a file unusable.
    """
    from agent.config import ConfigError, load  # noqa: PLC0415 (pydantic only where it is needed: the CLI starts fast)

    try:
        site = load(config)
    except ConfigError as error:
        if as_json:
            show_json({"usable": False, "problems": list(error.problems)})
        else:
            todo = f"mend {config}" if config.exists() else "name the site file with --config FILE"
            typer.echo("\n".join((*error.problems, f"next: {todo}, then: ems config check")), err=True)
        raise typer.Exit(EXIT_REFUSED) from None
    from agent.cli.commissioned import commissioned_limits  # noqa: PLC0415 (as above)
    from agent.cli.config_limits import limits_in_force  # noqa: PLC0415 (as above)
    from agent.cli.config_risks import risks  # noqa: PLC0415 (as above)

    roles = [device.role for device in site.device]
    stated = limits_in_force(site)
    subjects = [one.subject for one in stated]
    measured = commissioned_limits(Path(site.api.socket), site.site.id)
    limits = sorted((*stated, *measured), key=lambda one: subjects.index(one.subject))
    warnings = risks(site)
    if as_json:
        facts = {"usable": True, "problems": [], "site": site.site.id, "devices": len(roles)}
        show_json(facts | {"limits": [asdict(one) for one in limits], "warnings": [asdict(one) for one in warnings]})
        return
    counted = ", ".join(f"{roles.count(role)} {role}" for role in ("battery", "pv", "meter"))
    typer.echo(f"{config}: usable: site {site.site.id}, {counted}")
    typer.echo("\n".join(_limit_lines(limits)))
    for warning in warnings:
        typer.echo("\n".join(fitted([f"warning: {warning.key}: {warning.text}"], len("warning: "))))


def _limit_lines(limits: Sequence[LimitLine]) -> list[str]:
    """The limits under their subjects; the source is told where it is not the site file."""
    lines: list[str] = []
    wide = max(len(one.key) for one in limits)
    subject = ""
    for one in limits:
        if one.subject != subject:
            subject = one.subject
            lines.append(f"{subject}:")
        source = "" if one.source == "site file" else f"  ({one.source})"
        lines.append(f"  {one.key:<{wide}}  {one.value}{source}")
    return fitted(lines, wide + 4)
