"""`ems model show` and `ems model reset`: what was learned of the batteries."""

from __future__ import annotations

from typing import Any

import typer

from agent.cli.client import JsonOption, SocketOption, ask, show_json
from agent.cli.text import fitted

LABEL_WIDTH = 10
DeviceArgument = typer.Argument(None, help="The battery's id in the site file. Default: all.", show_default=False)
ResetArgument = typer.Argument(..., help="The battery's id in the site file.")
ReasonOption = typer.Option(..., "--reason", help="Why, for the event log, for example: battery module replaced.")


def show(device: str | None = DeviceArgument, socket: str | None = SocketOption, as_json: bool = JsonOption) -> None:
    """Show learned capacity, efficiency and standby loss beside what was stated, and how far they may go."""
    models = ask(socket, "model_show", as_json=as_json, device_id=device)
    if as_json:
        show_json(models)
    elif models:
        typer.echo("\n".join(line for device_id, model in models.items() for line in lines(device_id, model)))
    else:
        typer.echo("no battery has told its capacity yet")


def reset(
    device: str = ResetArgument,
    reason: str = ReasonOption,
    socket: str | None = SocketOption,
    as_json: bool = JsonOption,
) -> None:
    """Forget what was learned of a battery and begin again with what it states; operators only."""
    done = ask(socket, "model_reset", as_json=as_json, device_id=device, reason=reason)
    if as_json:
        show_json(done)
    else:
        typer.echo(f"{device}: forgotten ({summary(done['was'])}); it is learned anew from what the device states")


def lines(device_id: str, model: dict[str, Any]) -> list[str]:
    """One battery's model as text."""
    low_wh, high_wh = model["capacity_bounds_wh"]
    low, high = model["round_trip_efficiency_bounds"]
    serial = f", serial {model['serial']}" if model["serial"] else ""
    verdict = "NO: margins are wider; check the BMS and its calibration" if model["contradicted"] else "yes"
    stretches = f"{model['stretches']} stretches of charging or discharging"
    capacity = f"{_kwh(model['capacity_wh'])}; stated {_kwh(model['stated_capacity_wh'])}"
    cycle = f"{_pct(model['round_trip_efficiency'])} in and out; stated {_pct(model['stated_round_trip_efficiency'])}"
    shown = [
        f"{device_id}{serial}",
        f"capacity  {capacity}, believed from {_kwh(low_wh)} to {_kwh(high_wh)}",
        f"cycle     {cycle}, believed from {_pct(low)} to {_pct(high)}",
        f"standby   {model['standby_w']:.0f} W lost at rest",
        f"measured  {100 * model['measured_share']:.0f} % of it, from {stretches}; the rest is as stated",
        f"SoC fits  {verdict}",
    ]
    return fitted(shown, LABEL_WIDTH)


def summary(model: dict[str, Any]) -> str:
    """One battery's model in one line."""
    stated = f"{_kwh(model['stated_capacity_wh'])} and {_pct(model['stated_round_trip_efficiency'])} as stated"
    if not model["stretches"]:
        told = f"nothing learned yet: {stated}"
    else:
        told = (
            f"{_kwh(model['capacity_wh'])}, cycle {_pct(model['round_trip_efficiency'])}, standby "
            f"{model['standby_w']:.0f} W, {100 * model['measured_share']:.0f} % measured in {model['stretches']} "
            f"stretches ({stated})"
        )
    return told + ("; SoC CONTRADICTS the energy" if model["contradicted"] else "")


def _kwh(energy_wh: float) -> str:
    return f"{energy_wh / 1000:.1f} kWh"


def _pct(share: float) -> str:
    return f"{100 * share:.1f} %"
