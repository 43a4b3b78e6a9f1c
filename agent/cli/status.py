"""`ems status`: the site in one screen."""

from __future__ import annotations

from typing import Any

import typer

from agent.cli.client import JsonOption, SocketOption, ask, show_json
from agent.cli.commissioned import status_lines
from agent.cli.model import summary
from agent.cli.override import override_line
from agent.cli.text import ago, direction, fitted, kw, kwh, local, local_plan_lines, percent, plan_line

LABEL_WIDTH = 9


def status(socket: str | None = SocketOption, as_json: bool = JsonOption) -> None:
    """Show who decides, where power flows, the devices, the plans held and the cloud link."""
    facts = ask(socket, "status", as_json=as_json)
    if as_json:
        show_json(facts)
    else:
        typer.echo("\n".join(lines(facts)))


def lines(facts: dict[str, Any]) -> list[str]:
    """The status as text, 80 columns."""
    powers = facts["powers_w"]
    battery = f"{kw(powers['battery'])} ({direction(powers['battery'], 'discharging', 'charging')})"
    grid = f"{kw(powers['grid'])} ({direction(powers['grid'], 'export', 'import')})"
    shown = [
        f"{facts['site']}  {local(facts['utc'])}  up {ago(facts['uptime_s'])}, version {facts['version']}",
        f"decides  {facts['source']}: {facts['why']}",
        f"battery  {battery}, setpoint {kw(facts['setpoint_w'])}, SoC {percent(facts['soc_pct'])}",
        f"grid     {grid}, PV {kw(powers['pv'])}, load {kw(powers['load'])}",
    ]
    if facts["override"] is not None:
        shown.append(override_line(facts["override"]))
    shown += [f"command  {c['type']} {c['id']} until {local(c['until'])}" for c in facts["commands"]]
    slot = facts["slot"]
    if slot is not None:
        shown.append(
            f"slot     {local(slot['start'])} to {local(slot['end'])}, {slot['target']}: "
            f"{kwh(slot['done_wh'])} of {kwh(slot['planned_wh'])}"
        )
    for clip in facts["clips"]:
        shown.append(f"clipped  {clip['limit']} ({clip['owner']}): {kw(clip['before_w'])} to {kw(clip['after_w'])}")
    shown += [plan_line(name, held) for name, held in facts["plans"].items()]
    shown += [plan_line(name, held) for name, held in facts["orders"].items() if held is not None]
    shown += local_plan_lines(facts["local_plan"])
    for device in facts["devices"]:
        problem = f": {device['last_error']}" if device["last_error"] else ""
        shown.append(f"device   {device['device_id']} {device['health']}, {device['identity'] or 'unknown'}{problem}")
    shown += [f"learned  {device_id} {summary(model)}" for device_id, model in facts["models"].items()]
    shown += status_lines(facts["commissioning"])
    cloud = facts["cloud"]
    if cloud is None:
        shown.append("cloud    none in the site file")
    else:
        link = "connected" if cloud["connected"] else "NOT connected"
        link += " (metered link: means are sent)" if cloud["link"] == "metered" else ""
        shown.append(f"cloud    {link} to {cloud['broker']}, {cloud['outbox_depth']} messages waiting on disk")
        if cloud["trouble"]:
            shown.append(f"         {cloud['trouble']}")
        shown += certificate_lines(cloud["certificates"])
        shown += [f"{one['severity'].upper():<8} cloud: {one['text']}" for one in cloud["raised"]]
    shown += [f"{c['severity'].upper():<8} {c['subject']}: {c['text']}" for c in facts["conditions"]]
    return fitted(shown, LABEL_WIDTH)


def certificate_lines(certificates: list[dict[str, Any]]) -> list[str]:
    """One line with the days that each certificate is still good; none without certificates."""
    if not certificates:
        return []
    known = [f"{one['certificate']} {_days(one['days_left'])}" for one in certificates]
    return [f"tls      {', '.join(known)}"]


def _days(days_left: float | None) -> str:
    if days_left is None:
        return "of unknown age (clock not trusted)"
    return f"{days_left:.0f} days" if days_left > 0 else "HAS ENDED"
