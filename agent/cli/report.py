"""`ems report`: a day of the site as one page, from the disk; the daemon may be up or down."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from agent.cli.client import EXIT_REFUSED, JsonOption, fail, show_json
from agent.cli.page import Curve, chart, figures, page, table
from agent.cli.span import whole_day
from agent.cli.telemetry import Rows, StoreOption, store_directory

if TYPE_CHECKING:
    from agent.core.day_summary import DaySummary, Landed, Response
    from agent.core.evidence import EvidenceRow
    from agent.core.ledger import SlotRow

DayArgument = typer.Argument(
    None, formats=["%Y-%m-%d"], metavar="[DAY]", help="As 2026-11-21, in this machine's time zone. Default: today."
)
OutOption = typer.Option(
    None, "--out", metavar="FILE", help="Where the page is written. Default: ems-DAY.html here.", show_default=False
)
KW = 1000.0


@dataclass(frozen=True, slots=True)
class Day:
    """All that was kept of a day."""

    begin: datetime
    end: datetime
    summary: DaySummary
    landed: Landed | None
    response: Response | None
    slots: Sequence[SlotRow]
    evidence: Sequence[EvidenceRow]
    events: Sequence[dict[str, Any]]
    decisions: Sequence[dict[str, Any]]


def report(
    day: datetime | None = DayArgument,
    out: Path | None = OutOption,
    store: Path | None = StoreOption,
    as_json: bool = JsonOption,
) -> None:
    """Write a day as one HTML page: power, SoC, plan against delivered, imbalance, limits, events, reserve given.

    The page needs nothing else and can be mailed. With --json its figures are printed and no page is written, unless
    --out names one.
    """
    from agent.store.telemetry_reader import UnreadableStore  # noqa: PLC0415 (the help starts fast)

    begin, end = whole_day(day)
    directory = store_directory(store)
    what = f"report of {begin:%Y-%m-%d}"
    try:
        found = read_day(directory, begin, end)
    except UnreadableStore as error:
        fail({"what": what, "why": str(error), "next": error.hint}, EXIT_REFUSED, as_json=as_json)
    except OSError as error:
        hint = "ask as the user of the service: sudo -u ems-agent ems report"
        fail({"what": what, "why": str(error), "next": hint}, EXIT_REFUSED, as_json=as_json)
    if not found.summary.samples and not found.slots and not found.events:
        hint = "name a day on which the agent ran; ems telemetry export says from when to when there is anything"
        fail({"what": what, "why": "nothing was kept of that day", "next": hint}, EXIT_REFUSED, as_json=as_json)
    path = out or (None if as_json else Path(f"ems-{begin:%Y-%m-%d}.html"))
    if path is not None:
        try:
            path.write_text(day_page(found), encoding="utf-8")
        except OSError as error:
            hint = "name a file in a folder that you may write to with --out"
            fail({"what": f"{path}", "why": error.strerror or str(error), "next": hint}, EXIT_REFUSED, as_json=as_json)
    if as_json:
        show_json(numbers(found) | ({"page": str(path)} if path is not None else {}))
    else:
        typer.echo("\n".join([*(f"{what:<28}{value}" for what, value in cards(found)), f"written to {path}"]))


def read_day(directory: Path, begin: datetime, end: datetime) -> Day:
    """All that was kept; raises UnreadableStore, or OSError in words."""
    from agent.core.day_summary import landed, responded, summed_up  # noqa: PLC0415 (the help starts fast)
    from agent.store.control_reader import decisions_between, events_between  # noqa: PLC0415 (as above)
    from agent.store.telemetry_reader import TelemetryReader  # noqa: PLC0415 (as above)

    span = (begin.timestamp(), end.timestamp())
    with closing(TelemetryReader(directory)) as reader:
        summary = summed_up(_samples(Rows(reader, *span, means=False), span), span[0])
        slots, evidence = reader.slots(*span), reader.evidence(*span)
    return Day(
        begin, end, summary, landed(slots), responded(evidence), slots, evidence,
        events_between(directory, *span), decisions_between(directory, *span),
    )  # fmt: skip


def _samples(rows: Rows, span: tuple[float, float]) -> Iterator[dict[str, Any]]:
    """Those of the day in rising time; a frame may hold some of the day before."""
    last_utc_s = span[0]
    for row in rows:
        utc_s = datetime.fromisoformat(row["time"]).timestamp()
        if last_utc_s <= utc_s < span[1]:
            last_utc_s = utc_s
            yield {**row, "utc_s": utc_s}


def cards(day: Day) -> list[tuple[str, str]]:
    """The figures that one looks at first, as (what, value)."""
    summary = day.summary
    whole_s = min(day.end.timestamp(), time.time()) - day.begin.timestamp()
    shown = [("of the time so far measured", f"{100 * summary.covered_s / whole_s:.1f} %")] if whole_s > 0 else []
    for column, out_word, in_word in (
        ("grid_w", "exported", "imported"),
        ("battery_w", "discharged", "charged"),
        ("pv_w", "PV", ""),
        ("load_w", "", "load"),
    ):
        flow = summary.flows.get(column)
        if flow is not None:
            energies = ((out_word, flow.out_wh), (in_word, flow.in_wh))
            shown += [(word, f"{wh / KW:,.1f} kWh") for word, wh in energies if word]
    if summary.soc_pct is not None:
        first, last, low, high = summary.soc_pct
        shown.append(("SoC, begin and end", f"{first:.1f}, {last:.1f} %"))
        shown.append(("SoC, least and most", f"{low:.1f}, {high:.1f} %"))
    if day.landed is not None:
        shown += [
            ("slots with a plan", str(day.landed.slots)),
            ("imbalance, sum", f"{day.landed.imbalance_wh / KW:+.3f} kWh"),
            ("imbalance, worst slot", f"{day.landed.worst_wh / KW:+.3f} kWh"),
        ]
    if day.response is not None:
        shown.append(("seconds of reserve", f"{day.response.seconds}"))
        if day.response.mean_error_pct is not None:
            shown.append(("off what was asked, mean", f"{day.response.mean_error_pct:.2f} % of the award"))
    alarms = sum(event["severity"] == "alarm" and event["state"] == "raised" for event in day.events)
    return [*shown, ("events", str(len(day.events))), ("alarms raised", str(alarms))]


def numbers(day: Day) -> dict[str, Any]:
    """The figures of the day, for programs."""
    summary = day.summary
    return {
        "from": day.begin.isoformat(),
        "to": day.end.isoformat(),
        "samples": summary.samples,
        "covered_s": summary.covered_s,
        "flows_wh": {name.removesuffix("_w"): asdict(flow) for name, flow in summary.flows.items()},
        "sources_s": summary.sources_s,
        "soc_pct": dict(zip(("first", "last", "min", "max"), summary.soc_pct or (None,) * 4, strict=True)),
        "slots": None if day.landed is None else asdict(day.landed),
        "response": None if day.response is None else asdict(day.response),
        "limits": _limits(day),
        "events": dict(Counter(event["code"] for event in day.events)),
    }


def _limits(day: Day) -> dict[str, int]:
    """Decisions of note by the limit that cut them."""
    clips = (clip for decision in day.decisions for clip in decision.get("clips", ()))
    return dict(Counter(clip["limit"] for clip in clips).most_common())


def day_page(day: Day) -> str:
    """The whole page."""
    title = f"{day.begin:%A, %d %B %Y}"
    about = f"Times of {day.begin:%Z} (UTC{day.begin:%z}). Powers and energies toward the grid are positive. "
    about += f"Written by ems-agent {version('ems-agent')} at {datetime.now().astimezone():%Y-%m-%d %H:%M}."
    return page(
        f"ems-agent, {day.begin:%Y-%m-%d}",
        [
            f"<h1>{escape(title)}</h1>",
            f'<p class="soft">{escape(about)}</p>',
            figures(cards(day)),
            *_minute_charts(day),
            *_slot_parts(day),
            *_response_parts(day),
            _counted("Who decided", "minutes", {name: f"{s / 60:.0f}" for name, s in day.summary.sources_s.items()}),
            _counted("Limits that cut", "decisions of note", {name: str(n) for name, n in _limits(day).items()}),
            _events(day),
        ],
    )


def _minute_charts(day: Day) -> list[str]:
    minutes = day.summary.minutes
    if not minutes:
        return []
    hours = [minute["hour"] or 0.0 for minute in minutes]

    def curve(name: str, colour: str, column: str, per: float = KW) -> Curve:
        return Curve(name, colour, [None if (v := minute[column]) is None else v / per for minute in minutes])

    def known(column: str) -> bool:
        return any(minute[column] is not None for minute in minutes)

    powers = [
        curve(name, colour, column)
        for name, colour, column in (
            ("connection", "grid", "grid_w"),
            ("battery", "battery", "battery_w"),
            ("PV", "pv", "pv_w"),
            ("load", "load", "load_w"),
            ("setpoint", "plan", "setpoint_w"),
        )
        if known(column)
    ]
    parts = ["<h2>Power, kW (means of a minute)</h2>", chart(hours, powers, _clock(day))] if powers else []
    if known("soc_pct"):
        soc = [curve("SoC", "soc", "soc_pct", 1.0)]
        parts += ["<h2>State of charge, %</h2>", chart(hours, soc, _clock(day))]
    return parts


def _clock(day: Day) -> Any:
    """Marks hours since the day's begin by the clock on the wall, also where it was put forward or back."""
    return lambda hour: f"{datetime.fromtimestamp(day.begin.timestamp() + hour * 3600.0).astimezone():%H:%M}"


def _slot_parts(day: Day) -> list[str]:
    slots = [slot for slot in day.slots if slot.closed]
    if not slots:
        return []
    hours = [(slot.start_utc_s - day.begin.timestamp()) / 3600.0 for slot in slots]
    hours.append((slots[-1].end_utc_s - day.begin.timestamp()) / 3600.0)

    def curve(name: str, colour: str, values_wh: Sequence[float | None], per: float) -> Curve:
        kept = [None if value is None else value / per for value in values_wh]
        return Curve(name, colour, [*kept, kept[-1]], stepped=True)

    energies = [
        curve("planned", "plan", [slot.planned_wh for slot in slots], KW),
        curve("delivered", "grid", [slot.delivered_wh for slot in slots], KW),
    ]
    rows = [
        (
            f"{datetime.fromtimestamp(slot.start_utc_s).astimezone():%H:%M}", slot.source, slot.target,
            _wh(slot.planned_wh), _wh(slot.delivered_wh), _wh(slot.imbalance_wh), _wh(slot.response_wh),
        )
        for slot in slots
    ]  # fmt: skip
    head = ("slot", "decided by", "at", "planned, kWh", "delivered", "imbalance", "of it response")
    return [
        "<h2>Slot energy, kWh: planned and delivered</h2>",
        chart(hours, energies, _clock(day)),
        "<h2>Imbalance, Wh</h2>",
        chart(hours, [curve("delivered beyond the plan", "bad", [s.imbalance_wh for s in slots], 1.0)], _clock(day)),
        f"<details><summary>All {len(slots)} slots</summary>{table(head, rows, numbers_from=3)}</details>",
    ]


def _wh(value: float | None) -> str:
    return "-" if value is None else f"{value / KW:+.3f}"


def _response_parts(day: Day) -> list[str]:
    if day.response is None:
        return []
    by_minute: dict[int, list[EvidenceRow]] = {}
    for row in day.evidence:
        by_minute.setdefault(int((row.utc_s - day.begin.timestamp()) // 60), []).append(row)
    places = range(min(by_minute), max(by_minute) + 1)
    hours = [place / 60.0 for place in places]

    def mean(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None

    def asked_kw(row: EvidenceRow) -> float | None:
        return None if row.baseline_w is None or row.response_w is None else (row.baseline_w + row.response_w) / KW

    def given_kw(row: EvidenceRow) -> float | None:
        return None if row.power_w is None else row.power_w / KW

    rows = [by_minute.get(place, []) for place in places]
    power = [
        Curve("asked: baseline and response", "plan", [mean([asked_kw(row) for row in found]) for found in rows]),
        Curve("battery", "battery", [mean([given_kw(row) for row in found]) for found in rows]),
    ]
    hz = [Curve("frequency", "grid", [mean([row.frequency_hz for row in found]) for found in rows])]
    response = day.response
    told = f"{response.seconds} seconds of award, {response.measured} of them with frequency and power measured."
    return [
        "<h2>Reserve: what was asked and given, kW (means of a minute)</h2>",
        f"<p>{escape(told)} All seconds: <code>ems awards evidence</code>.</p>",
        chart(hours, power, _clock(day)),
        "<h2>Frequency at the meter, Hz</h2>",
        chart(hours, hz, _clock(day)),
        _counted("Seconds without a good frequency", "seconds", {k: str(v) for k, v in response.troubles.items()}),
    ]


def _counted(title: str, unit: str, rows: dict[str, str]) -> str:
    return f"<h2>{escape(title)}</h2>" + table(("", unit), list(rows.items())) if rows else ""


def _events(day: Day) -> str:
    if not day.events:
        return ""
    rows = [
        (
            f"{datetime.fromtimestamp(event['at_utc_s']).astimezone():%H:%M:%S}", event["severity"], event["state"],
            event["code"], event["subject"], event["text"],
        )
        for event in day.events
    ]  # fmt: skip
    head = ("time", "severity", "", "code", "of", "what")
    return f"<h2>Events</h2>{table(head, rows, numbers_from=len(head))}"
