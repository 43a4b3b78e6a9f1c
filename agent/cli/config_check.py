"""`ems config check`: whether a site file is usable."""

from __future__ import annotations

from pathlib import Path

import typer

from agent.cli.client import EXIT_REFUSED, JsonOption, show_json

DEFAULT_CONFIG = Path("/etc/ems-agent/site.toml")
ConfigOption = typer.Option(DEFAULT_CONFIG, "--config", "-c", help="The site file.")


def check(config: Path = ConfigOption, as_json: bool = JsonOption) -> None:
    """Check a site file without starting anything; each problem names the file, the key and the reason."""
    from agent.config import ConfigError, load  # noqa: PLC0415 (pydantic only where it is needed: the CLI starts fast)

    try:
        site = load(config)
    except ConfigError as error:
        if as_json:
            show_json({"usable": False, "problems": list(error.problems)})
        else:
            typer.echo("\n".join(error.problems), err=True)
        raise typer.Exit(EXIT_REFUSED) from None
    roles = [device.role for device in site.device]
    if as_json:
        show_json({"usable": True, "problems": [], "site": site.site.id, "devices": len(roles)})
    else:
        counted = ", ".join(f"{roles.count(role)} {role}" for role in ("battery", "pv", "meter"))
        typer.echo(f"{config}: usable: site {site.site.id}, {counted}")
