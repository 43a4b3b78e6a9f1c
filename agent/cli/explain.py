"""`ems explain`: why the site does what it does."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import typer

from agent.cli.client import EXIT_REFUSED, JsonOption, SocketOption, ask, fail, show_json
from agent.cli.span import moment
from agent.cli.telemetry import StoreOption, store_directory
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


TimeArgument = typer.Argument(
    None,
    parser=moment,
    metavar="[TIME]",
    help="As 14:05 (today) or 2026-11-21T14:05. Default: now.",
    show_default=False,
)


def explain(
    at: datetime | None = TimeArgument,
    socket: str | None = SocketOption,
    store: Path | None = StoreOption,
    as_json: bool = JsonOption,
) -> None:
    """Show a decision: who decided, what it wanted, what each limit cut, what was written and confirmed.

    Now: as the daemon tells it. Of an earlier TIME: the decision of note that stood then, from the disk, daemon or not;
    a decision is of note where another source decides, another slot begins, or other limits cut than before.
    """
    row = ask(socket, "explain", as_json=as_json) if at is None else _kept(at, store, as_json=as_json)
    if as_json:
        show_json(row)
    else:
        typer.echo("\n".join(lines(row)))


def _kept(at: datetime, store: Path | None, *, as_json: bool) -> dict[str, Any]:
    """The decision that stood at a time; ends the process when none is kept."""
    from agent.store.control_reader import decision_at  # noqa: PLC0415 (only this reads the disk)

    what = f"explain {at:%Y-%m-%d %H:%M:%S}"
    try:
        row = decision_at(store_directory(store), at.timestamp())
    except OSError as error:
        hint = "ask as the user of the service: sudo -u ems-agent ems explain TIME; name the place with --store DIR"
        fail({"what": what, "why": str(error), "next": hint}, EXIT_REFUSED, as_json=as_json)
    if row is None:
        hint = "ask for a later time; ems telemetry export has the measured values of longer ago"
        fail({"what": what, "why": "no decision so old is kept", "next": hint}, EXIT_REFUSED, as_json=as_json)
    return row


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
