"""The `ems` command: what it knows, and where each command lives. Only the command that is asked for is loaded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, ClassVar, NamedTuple

import typer
from typer.core import TyperGroup
from typer.main import get_command

from agent.cli.exits import EXITS, epilog, guarded, words


class Group(NamedTuple):
    """A command that has commands."""

    help: str
    commands: Mapping[str, str]
    by_itself: str = ""
    """What it does without one of them; "" = it shows its help."""


COMMANDS: Mapping[str, str | Group] = {
    "run": "run:run",
    "status": "status:status",
    "doctor": "doctor:doctor",
    "commission": "commission:commission",
    "support-bundle": "support_bundle:support_bundle",
    "explain": "explain:explain",
    "events": "events:events",
    "ledger": "ledger:ledger",
    "report": "report:report",
    "watch": "watch:watch",
    "reload": "reload:reload",
    "simulate": "simulate:simulate",
    "update": "update:update",
    "backup": "backup:backup",
    "restore": "backup:restore",
    "uninstall": "uninstall:uninstall",
    "cloud-sim": "cloud_sim:cloud_sim",
    "fleet-sim": "fleet_sim:fleet_sim",
    "plan": Group(
        "Look at the plans held, bring one, or take one along.",
        {"show": "plan:show", "import": "plan:import_", "export": "plan:export"},
    ),
    "awards": Group(
        "Look at the awards held, or export what was given.", {"evidence": "awards:evidence"}, by_itself="awards:awards"
    ),
    "model": Group("What was learned of the batteries.", {"show": "model:show", "reset": "model:reset"}),
    "override": Group("Decide yourself, for a time.", {"set": "override:set_", "clear": "override:clear"}),
    "latch": Group("After a safety stop.", {"reset": "latch:reset"}),
    "clock": Group("After a clock that was wrong.", {"trust": "clock:trust"}),
    "safe-mode": Group("After a crash loop.", {"end": "safe_mode:end"}),
    "config": Group("Check a site file.", {"check": "config_check:check"}),
    "devices": Group(
        "Look at the devices and write to them; check and try profiles.",
        {
            "list": "devices_list:list_",
            "profiles": "devices:profiles",
            "check": "devices_check:check",
            "read": "devices:read",
            "scan": "devices_scan:scan",
            "trace": "devices_trace:trace",
            "write": "devices_write:write",
            "schema": "devices:schema",
        },
    ),
    "contract": Group(
        "What agent and cloud say to each other, for programs.",
        {"export": "contract:export", "tables": "contract:tables"},
    ),
    "telemetry": Group("What was measured.", {"export": "telemetry:export"}),
}
"""Each command's place, `module:function` in `agent.cli`, in the order of the help."""
TAKES_NEGATIVE_NUMBERS = frozenset({"override:set_"})
"""So that -50 is a power and not an option."""


class OnDemand(Mapping[str, Any]):
    """The commands of a group by name, each loaded when it is looked at; typer asks for one, its help for all."""

    def __init__(self, places: Mapping[str, str | Group]) -> None:
        self._places = places
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = _loaded(name, self._places[name])
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _app(commands: Mapping[str, str | Group], **settings: Any) -> typer.Typer:
    class Loading(TyperGroup):
        places: ClassVar = commands

        def __init__(self, **rest: Any) -> None:
            super().__init__(**rest | {"commands": OnDemand(self.places)})

    return typer.Typer(
        cls=Loading, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False, **settings
    )


def _function(place: str) -> Callable[..., Any]:
    module, name = place.split(":")
    function: Callable[..., Any] = getattr(import_module(f"agent.cli.{module}"), name)
    return function


def _loaded(name: str, what: str | Group) -> Any:
    if isinstance(what, Group):
        itself = _function(what.by_itself) if what.by_itself else None
        ends = epilog(itself) if itself is not None else None
        app = _app(what.commands, name=name, help=what.help, epilog=ends, add_completion=False)
        if itself is not None:
            app.callback(invoke_without_command=True, no_args_is_help=False)(itself)
        else:
            app.callback()(_nothing)
    else:
        app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
        settings = {"ignore_unknown_options": True} if what in TAKES_NEGATIVE_NUMBERS else None
        function = _function(what)
        app.command(name, context_settings=settings, epilog=epilog(function))(function)
    return get_command(app)


def _nothing() -> None:
    pass


def _tell_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - no other command waits for it

        typer.echo(f"ems-agent {version('ems-agent')}")
        raise typer.Exit


def _about(
    _version: bool = typer.Option(
        False, "--version", callback=_tell_version, is_eager=True, help="Show the version and exit."
    ),
) -> None:
    pass


app = _app(
    COMMANDS,
    help="The edge energy-management agent of this battery site: run it, look at it, bring it a plan.",
    epilog=words(tuple(EXITS)),
)
app.callback()(_about)


def main() -> None:
    """Entry point of the `ems` script."""
    # Else the first model looks through every installed package for somebody else's additions to pydantic.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    guarded(app)


if __name__ == "__main__":
    main()
