"""`ems ledger`: a day of the slot ledger, as a table, as CSV or as JSON."""

from __future__ import annotations

import csv
import io
from datetime import datetime
from typing import Any

import typer

from agent.cli.client import JsonOption, SocketOption, ask, show_json
from agent.cli.span import whole_day

PATHS = {
    "pv_to_load": ("PV>", "load"),
    "pv_to_battery": ("PV>", "batt."),
    "pv_to_grid": ("PV>", "grid"),
    "battery_to_load": ("batt.>", "load"),
    "battery_to_grid": ("batt.>", "grid"),
    "grid_to_load": ("grid>", "load"),
    "grid_to_battery": ("grid>", "batt."),
}
"""Each path and its heading in two lines."""
SUMS = {"planned_wh": "planned", "delivered_wh": "done", "imbalance_wh": "imbal."}
WIDTH = 7
DayOption = typer.Option(
    None,
    "--day",
    formats=["%Y-%m-%d"],
    help="The day, in this machine's time zone. Default: today.",
    show_default=False,
)
CsvOption = typer.Option(False, "--csv", help="Print CSV: every column of the ledger, Wh, times in UTC.")


def ledger(
    day: datetime | None = DayOption,
    as_csv: bool = CsvOption,
    socket: str | None = SocketOption,
    as_json: bool = JsonOption,
) -> None:
    """Show what each slot of a day promised and delivered, and which paths its energy took."""
    if as_csv and as_json:
        raise typer.BadParameter("choose one of --csv and --json")
    begin, end = whole_day(day)
    slots = ask(socket, "ledger", as_json=as_json, from_utc_s=begin.timestamp(), to_utc_s=end.timestamp())
    if as_json:
        show_json({"from": begin.isoformat(), "to": end.isoformat(), "slots": slots})
    elif as_csv:
        typer.echo(csv_text(slots), nl=False)
    else:
        typer.echo("\n".join(lines(slots, f"{begin:%Y-%m-%d}")))


def lines(slots: list[dict[str, Any]], day: str) -> list[str]:
    """The day as a table of 77 columns, kWh, with its sums; the slot that runs is marked and not in the sums."""
    if not slots:
        return [f"{day}: no slot in the ledger: the agent did not run, or its clock was not trusted"]
    rows = [_cells(slot) for slot in slots]
    finished = [row for row, slot in zip(rows, slots, strict=True) if slot["closed"]]
    sums = [_sum([row[i] for row in finished]) for i in range(len(SUMS) + len(PATHS))]
    decimals = _decimals([*rows, sums])
    above = "".join(word.rjust(WIDTH) for word in (*SUMS.values(), *(first for first, _ in PATHS.values())))
    below = "".join(word.rjust(WIDTH) for word in (*("" for _ in SUMS), *(second for _, second in PATHS.values())))
    shown = [f"{day}  kWh, + toward the grid", f"{'slot':<7}{above}", f"{'':<7}{below}"]
    for row, slot in zip(rows, slots, strict=True):
        start = datetime.fromisoformat(slot["start"]).astimezone()
        mark = " " if slot["closed"] else ">"
        time = f"{start:%H:%M}" if start.second == 0 else f"{start:%H%M%S}"
        shown.append(f"{time:<6}{mark}" + "".join(_number(value, decimals) for value in row))
    shown.append(f"{'sum':<7}" + "".join(_number(value, decimals) for value in sums))
    unsplit_wh = _sum([slot["unsplit_wh"] for slot in slots if slot["closed"]])
    if unsplit_wh is not None and abs(unsplit_wh) >= 1.0:
        shown.append(f"without a path: {unsplit_wh / 1000:+.3f} kWh, while a power could not be measured")
    return shown


def csv_text(slots: list[dict[str, Any]]) -> str:
    """The day as CSV with a header; an unknown value is an empty field."""
    names = [name for name in slots[0] if name != "paths_wh"] if slots else []
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*names, *(f"{name}_wh" for name in PATHS)])
    for slot in slots:
        paths = slot["paths_wh"] or {}
        table.writerow([*(slot[name] for name in names), *(paths.get(name) for name in PATHS)])
    return text.getvalue()


def _cells(slot: dict[str, Any]) -> list[float | None]:
    paths = slot["paths_wh"] or {}
    return [*(slot[name] for name in SUMS), *(paths.get(name) for name in PATHS)]


def _sum(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _decimals(rows: list[list[float | None]]) -> int:
    """As many as fit beside the largest number."""
    largest_kwh = max((abs(value) / 1000 for row in rows for value in row if value is not None), default=0.0)
    return next((digits for digits, limit in ((3, 10.0), (2, 100.0), (1, 1000.0)) if largest_kwh < limit), 0)


def _number(value: float | None, decimals: int) -> str:
    text = "-" if value is None else f"{value / 1000:.{decimals}f}"
    return text.rjust(WIDTH)
