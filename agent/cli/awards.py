"""`ems awards` and `ems awards evidence`: reserve that was sold, whether it will be met, and what was given."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import typer

from agent.cli.client import JsonOption, SocketOption, ask, show_json
from agent.cli.span import Format, FormatOption, FromOption, ToOption, span
from agent.cli.text import fitted, kw

LABEL_WIDTH = 9
MOST_LINES = 12
"""Awards shown; all of them are in --json."""
COLUMNS = (
    "time",
    "frequency_hz",
    "power_w",
    "baseline_w",
    "response_w",
    "award_up_w",
    "award_down_w",
    "award_ids",
    "clock_trusted",
    "trouble",
    "ticks",
)


def awards(context: typer.Context, socket: str | None = SocketOption, as_json: bool = JsonOption) -> None:
    """Show the awards in force and to come, what each will be short of, and the response of this moment."""
    if context.invoked_subcommand is not None:
        return
    facts = ask(socket, "awards", as_json=as_json)
    if as_json:
        show_json(facts)
    else:
        typer.echo("\n".join(lines(facts)))


def lines(facts: dict[str, Any]) -> list[str]:
    """The awards as text, 80 columns, times of this machine."""
    held = facts["documents"]["awards"]
    shown = [f"awards   version {held['version']}, {held['sha256'][:12]}" if held else "awards   no document held"]
    if facts["now"] is not None:
        shown.append(_response(facts["now"]))
    for award in facts["awards"][:MOST_LINES]:
        mark = "in force" if award["in_force"] else "to come"
        start, end = _time(award["start"]), _time(award["end"], day=False)
        power_kw = award["power_w"] / 1000
        shown.append(
            f"{mark:<8} {start} to {end}  {award['id']}  {power_kw:g} kW {award['direction']}, {award['product']}"
        )
        shown.append(f"{'':<8} {_forecast(award)}")
    more = len(facts["awards"]) - MOST_LINES
    if more > 0:
        shown.append(f"and {more} more: --json shows all")
    if held and not facts["awards"] and not facts["refused"]:
        shown.append("none in force or to come")
    shown += [f"REFUSED  {one['id']} ({one['reason']}): {one['detail']}" for one in facts["refused"]]
    return fitted(shown, LABEL_WIDTH)


def _response(now: dict[str, Any]) -> str:
    hz = "missing" if now["frequency_hz"] is None else f"{now['frequency_hz']:.3f} Hz"
    trouble = f" ({now['trouble']}: no response)" if now["trouble"] else ""
    return (
        f"now      {hz}{trouble}, response {kw(now['response_w'])} on {kw(now['baseline_w'])}, "
        f"battery {kw(now['battery_w'])}, a tick each {now['tick_s']:g} s"
    )


def _forecast(award: dict[str, Any]) -> str:
    if award["met"] is None:
        return "not forecast yet"
    if award["met"]:
        return "will be met"
    short = f"SHORT of {award['shortfall_w'] / 1000:.1f} kW and {award['shortfall_wh'] / 1000:.1f} kWh"
    return short if award["in_force"] else f"{short}; to be given back by {_time(award['cancel_by'])}"


def _time(iso_utc: str, *, day: bool = True) -> str:
    return datetime.fromisoformat(iso_utc).astimezone().strftime("%Y-%m-%d %H:%M" if day else "%H:%M")


def evidence(
    begin: datetime | None = FromOption,
    end: datetime | None = ToOption,
    form: Format = FormatOption,
    socket: str | None = SocketOption,
) -> None:
    """Write the evidence of frequency response, a row per second of award, to standard output.

    Times are of this machine where they carry no zone; the rows are in UTC. W, + toward the grid. A second with 0
    ticks is one in which the loop stood still; for a second without a row the agent did not run, or had no award.
    """
    begin, end = span(begin, end)
    if form is Format.CSV:
        typer.echo(",".join(COLUMNS))
    for rows in _pages(socket, begin.timestamp(), end.timestamp()):
        text = "".join(f"{json.dumps(row)}\n" for row in rows) if form is Format.JSONL else csv_text(rows)
        typer.echo(text, nl=False)


def _pages(socket: str | None, from_utc_s: float, to_utc_s: float) -> Iterator[list[dict[str, Any]]]:
    while rows := ask(socket, "evidence", as_json=False, from_utc_s=from_utc_s, to_utc_s=to_utc_s):
        yield rows
        from_utc_s = datetime.fromisoformat(rows[-1]["time"]).timestamp() + 1.0


def csv_text(rows: list[dict[str, Any]]) -> str:
    """The rows as CSV without a header; an unknown value is an empty field, ids are parted by spaces."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    for row in rows:
        flat = {**row, "award_ids": " ".join(row["award_ids"]), "clock_trusted": int(row["clock_trusted"])}
        table.writerow([flat[name] for name in COLUMNS])
    return text.getvalue()
