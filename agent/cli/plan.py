"""`ems plan show`, `ems plan import` and `ems plan export`."""

from __future__ import annotations

import base64
import sys
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import typer

from agent.cli.chart import ASCII, LABEL_WIDTH, UNICODE, Column, draw
from agent.cli.client import EXIT_REFUSED, JsonOption, SocketOption, ask, fail, show_json
from agent.cli.telemetry import StoreOption, store_directory
from agent.cli.text import fitted, kw, local_plan_lines, plan_line

COLUMNS = 64
"""Slots drawn: what fits beside the scale in 80 columns."""
PAST_COLUMNS = 24
MAX_FILE_BYTES = 1024 * 1024
"""The contract's limit for a plan document."""


def show(socket: str | None = SocketOption, as_json: bool = JsonOption) -> None:
    """Draw plan, delivered power and state of charge, from the last slots to the next ones."""
    timeline = ask(socket, "timeline", as_json=as_json, past=PAST_COLUMNS, ahead=COLUMNS - PAST_COLUMNS)
    if as_json:
        show_json(timeline)
        return
    encoding = (sys.stdout.encoding or "").lower()
    typer.echo("\n".join(lines(timeline, unicode="utf" in encoding)))


def lines(timeline: dict[str, Any], *, unicode: bool) -> list[str]:
    """The plans held and the chart."""
    shown = [plan_line(name, held) for name, held in timeline["plans"].items()]
    shown += fitted(local_plan_lines(timeline["local_plan"]), LABEL_WIDTH)
    slots = timeline["slots"]
    if not slots:
        return [*shown, "no slot in the past or ahead: the local rule of the site file decides"]
    marks = UNICODE if unicode else ASCII
    columns = [Column(*_kw(s), s["soc_pct"], now=s["when"] == "now") for s in slots]
    first, last = (datetime.fromisoformat(slots[i][key]).astimezone() for i, key in ((0, "start"), (-1, "end")))
    axis = f"{first:%m-%d %H:%M:%S}" + f"{last:%m-%d %H:%M:%S}".rjust(max(len(columns) - 14, 15))
    legend = f"{marks.plan} plan  {marks.both} plan and delivered  {marks.actual} delivered beyond the plan  | now"
    now = next((s for s in slots if s["when"] == "now"), None)
    told = [] if now is None else [f"now: {now['source']} plans {kw(now['planned_w'])} at the {now['target']}"]
    return [*shown, "", *draw(columns, marks), *_local_row(slots), " " * LABEL_WIDTH + axis, legend, *told]


def _local_row(slots: list[dict[str, Any]]) -> list[str]:
    """Marks the slots that were planned anew here."""
    marked = "".join("^" if slot["source"] == "local_plan" else " " for slot in slots).rstrip()
    return [f"{'local':>{LABEL_WIDTH - 1}} {marked}"] if marked else []


def _kw(slot: dict[str, Any]) -> tuple[float | None, float | None]:
    plan_w, actual_w = slot["planned_w"], slot["delivered_w"]
    return (None if plan_w is None else plan_w / 1000, None if actual_w is None else actual_w / 1000)


FileArgument = typer.Argument(..., help="A document as in docs/contract.md (JSON, perhaps gzipped).")


def import_(
    file: Path = FileArgument,
    socket: str | None = SocketOption,
    as_json: bool = JsonOption,
) -> None:
    """Bring a plan, awards, curtailments or outages on a stick; operators only.

    The document is checked, stored and answered like one from the cloud. Its own `kind` says what it is.
    """
    try:
        size = file.stat().st_size
        payload = file.read_bytes() if size <= MAX_FILE_BYTES else b""
    except OSError as error:
        hint = "name a readable file, for example a plan written by the cloud"
        fail({"what": f"{file}", "why": error.strerror or str(error), "next": hint}, EXIT_REFUSED, as_json=as_json)
    if not payload:
        why = f"{size} bytes; a plan has 1 to {MAX_FILE_BYTES}"
        fail({"what": f"{file}", "why": why, "next": "check that it is a plan"}, EXIT_REFUSED, as_json=as_json)
    outcome = ask(socket, "plan_import", as_json=as_json, document=base64.b64encode(payload).decode())
    if as_json:
        show_json(outcome)
    else:
        what = f"{outcome['kind']} plan" if outcome["kind"] in {"rolling", "yearly"} else outcome["kind"]
        typer.echo(f"{file}: {what} {outcome['version']} {outcome['stage']}")
        if outcome["detail"]:
            typer.echo(f"note: {outcome['detail']}")


class Kind(StrEnum):
    """The documents of the cloud."""

    ROLLING = "rolling"
    YEARLY = "yearly"
    AWARDS = "awards"
    CURTAILMENTS = "curtailments"
    OUTAGES = "outages"


KindArgument = typer.Argument(Kind.ROLLING, help="Which document.")
FileOption = typer.Option(
    None, "--out", metavar="FILE", help="Where it is written. Default: standard output.", show_default=False
)


def export(
    kind: Kind = KindArgument,
    out: Path | None = FileOption,
    store: Path | None = StoreOption,
) -> None:
    """Write the document held, as it came from the cloud, from the disk; `ems plan import` takes it elsewhere.

    A signed document keeps its signature. The daemon may be up or down.
    """
    from agent.store.control_reader import newest_document  # noqa: PLC0415 (only this command reads the disk)

    what = f"plan export {kind}"
    try:
        held = newest_document(store_directory(store), kind)
        if held is None:
            hint = "ems plan show tells what is held; the cloud sends plans on cloud/plan/..."
            why = f"no document of the kind {kind} is held"
            fail({"what": what, "why": why, "next": hint}, EXIT_REFUSED, as_json=False)
        version, document = held
        if out is None:
            sys.stdout.buffer.write(document)
            sys.stdout.buffer.flush()
        else:
            out.write_bytes(document)
            typer.echo(f"{out}: {kind}, version {version}, {len(document)} bytes")
    except OSError as error:
        hint = "ask as the user of the service: sudo -u ems-agent ems plan export; name the place with --store DIR"
        fail({"what": what, "why": error.strerror or str(error), "next": hint}, EXIT_REFUSED, as_json=False)
