"""`ems explain`: why the site does what it does."""

from __future__ import annotations

from typing import Any

import typer

from agent.cli.client import JsonOption, SocketOption, ask, show_json
from agent.cli.text import fitted, kw, local, percent

DECIDERS = {
    "latch": "safety latch",
    "safe_mode": "safe mode",
    "commissioning": "commissioning (ems commission)",
    "override": "technician's override",
    "command": "command of the cloud",
    "rolling": "rolling plan",
    "yearly": "yearly plan",
    "local_plan": "local re-plan",
    "local_rule": "local rule",
    "neutral": "neutral state",
}
VERDICTS = {
    "unwritten": "nothing of ours was written to it",
    "settling": "on its way: the write or the power is not there yet",
    "owned": "delivered: it holds our setpoint and its measured power follows",
    "stale": "not known any more: it was not read, or its dead-man has ended the setpoint",
    "external_change": "it holds something else than we wrote: it restarted, or another controller writes",
    "not_applied": "not delivered: the write failed, or it holds the setpoint and its measured power does not follow",
}
POWERS = (("battery", "battery"), ("PV", "pv"), ("load", "load"), ("grid", "grid"))
LABEL_WIDTH = 11


def explain(socket: str | None = SocketOption, as_json: bool = JsonOption) -> None:
    """Show the last decision: who decided, what it wanted, what each limit cut, what was written and confirmed."""
    row = ask(socket, "explain", as_json=as_json)
    if as_json:
        show_json(row)
    else:
        typer.echo("\n".join(lines(row)))


def lines(row: dict[str, Any]) -> list[str]:
    """The decision as text, in the order in which it was made."""
    powers = row["powers_w"]
    place = "the connection point" if row["target"] == "grid" else "the battery"
    measured = ", ".join(f"{name} {kw(powers[key])}" for name, key in POWERS)
    shown = [
        f"At {local(row['utc'])} the {DECIDERS[row['source']]} decided, because: {row['why']}.",
        f"measured   {measured}, SoC {percent(row['soc_pct'])}",
        f"wanted     {kw(row['planned_w'])} at {place}",
        f"aimed at   {kw(row['target_w'])} of battery power",
    ]
    for clip in row["clips"]:
        shown.append(f"cut        {kw(clip['before_w'])} to {kw(clip['after_w'])} by {clip['limit']} ({clip['owner']})")
    if not row["clips"]:
        shown.append("cut        nothing: every limit leaves room")
    shown.append(f"setpoint   {kw(row['setpoint_w'])}")
    for device_id, answer_w in row["by_device_w"].items():
        shown.append(f"of that    {kw(answer_w)} are expected of {device_id}'s own droop, on top of its setpoint")
    shown += [f"write      {kw(w['power_w'])} to {w['device_id']} ({w['reason']})" for w in row["writes"]]
    if not row["writes"]:
        shown.append("write      nothing: the devices hold it already, or are not readable")
    if row["pv_ceiling_w"] is not None:
        shown.append(f"PV         at most {kw(row['pv_ceiling_w'])}: the batteries cannot take more")
    for device_id, outcome in row["last_outcomes"].items():
        held = kw(outcome["held_w"]) if outcome["held_w"] is not None else "no ceiling"
        verdict = f"holds {held}" if outcome["confirmed"] else f"NOT confirmed: {outcome['reason']}"
        shown.append(f"read back  {device_id} {verdict}, {max(outcome['age_s'], 0.0):.1f} s before this decision")
    shown += [f"so         {device_id}: {VERDICTS[word]}" for device_id, word in row["verdicts"].items()]
    return fitted(shown, LABEL_WIDTH)
