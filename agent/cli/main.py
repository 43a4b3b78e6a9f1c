"""The `ems` command: what it knows, and where each command lives."""

from __future__ import annotations

import typer

from agent.cli import (
    awards,
    cloud_sim,
    config_check,
    contract,
    devices,
    devices_check,
    devices_list,
    devices_scan,
    devices_trace,
    devices_write,
    doctor,
    explain,
    latch,
    ledger,
    model,
    override,
    plan,
    reload,
    run,
    safe_mode,
    simulate,
    status,
    telemetry,
    update,
    watch,
)

EPILOG = (
    "Exit codes: 0 done; 1 refused or a check failed; 2 wrong command line; "
    "3 the daemon is not reachable; 4 the daemon cannot start."
)

app = typer.Typer(
    help="The edge energy-management agent of this battery site: run it, look at it, bring it a plan.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
plan_app = typer.Typer(help="Look at the plans held, or bring one.", no_args_is_help=True, rich_markup_mode=None)
awards_app = typer.Typer(help="Look at the awards held, or export what was given.", rich_markup_mode=None)
devices_app = typer.Typer(
    help="Look at the devices and write to them; check and try profiles.", no_args_is_help=True, rich_markup_mode=None
)
config_app = typer.Typer(help="Check a site file.", no_args_is_help=True, rich_markup_mode=None)
model_app = typer.Typer(help="What was learned of the batteries.", no_args_is_help=True, rich_markup_mode=None)
override_app = typer.Typer(help="Decide yourself, for a time.", no_args_is_help=True, rich_markup_mode=None)
latch_app = typer.Typer(help="After a safety stop.", no_args_is_help=True, rich_markup_mode=None)
safe_mode_app = typer.Typer(help="After a crash loop.", no_args_is_help=True, rich_markup_mode=None)
contract_app = typer.Typer(
    help="What agent and cloud say to each other, for programs.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(plan_app, name="plan")
app.add_typer(awards_app, name="awards")
app.add_typer(model_app, name="model")
app.add_typer(override_app, name="override")
app.add_typer(latch_app, name="latch")
app.add_typer(safe_mode_app, name="safe-mode")
app.add_typer(config_app, name="config")
app.add_typer(devices_app, name="devices")
app.add_typer(contract_app, name="contract")
telemetry_app = typer.Typer(help="What was measured.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(telemetry_app, name="telemetry")

app.command("run")(run.run)
app.command("status")(status.status)
app.command("doctor")(doctor.doctor)
app.command("explain")(explain.explain)
app.command("ledger")(ledger.ledger)
app.command("watch")(watch.watch)
app.command("reload")(reload.reload)
app.command("simulate")(simulate.simulate)
app.command("update")(update.update)
app.command("cloud-sim")(cloud_sim.cloud_sim)
plan_app.command("show")(plan.show)
plan_app.command("import")(plan.import_)
awards_app.callback(invoke_without_command=True)(awards.awards)
awards_app.command("evidence")(awards.evidence)
model_app.command("show")(model.show)
model_app.command("reset")(model.reset)
# So that -50 is a power and not an option.
override_app.command("set", context_settings={"ignore_unknown_options": True})(override.set_)
override_app.command("clear")(override.clear)
latch_app.command("reset")(latch.reset)
safe_mode_app.command("end")(safe_mode.end)
config_app.command("check")(config_check.check)
telemetry_app.command("export")(telemetry.export)
contract_app.command("export")(contract.export)
contract_app.command("tables")(contract.tables)
devices_app.command("list")(devices_list.list_)
devices_app.command("profiles")(devices.profiles)
devices_app.command("check")(devices_check.check)
devices_app.command("read")(devices.read)
devices_app.command("scan")(devices_scan.scan)
devices_app.command("trace")(devices_trace.trace)
devices_app.command("write")(devices_write.write)
devices_app.command("schema")(devices.schema)


def main() -> None:
    """Entry point of the `ems` script."""
    app()


if __name__ == "__main__":
    main()
