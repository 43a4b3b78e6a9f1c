"""The commissioning report: one HTML file that needs nothing else, with a chart of each movement, and its JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

WIDTH, HEIGHT = 720, 180
LEFT, RIGHT, TOP, BOTTOM = 62, 10, 12, 22
"""Margins of a chart, in its own units."""
CURVES = ((1, "asked", "#888888"), (2, "battery", "#1464b4"), (3, "connection point", "#c05010"))
"""Columns of the series: name and colour."""
SERIES = ("seconds", "asked_w", "battery_w", "grid_w", "soc_pct", "frequency_hz")
WORDS = {
    None: "not done", "passed": "passed", "remark": "passed, with a remark", "failed": "FAILED",
    "skipped": "does not apply", "stopped": "stopped",
}  # fmt: skip
STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}
h1{font-size:1.5em}h2{font-size:1.15em;margin:1.6em 0 .3em}table{border-collapse:collapse;width:100%}
td,th{border:1px solid #ccc;padding:.25em .5em;text-align:left;vertical-align:top}th{background:#f3f3f3}
.passed,.skipped{color:#17691c}.remark{color:#8a5a00}.failed,.stopped{color:#b00020;font-weight:600}.none{color:#777}
.hint{color:#444;font-style:italic}svg{width:100%;height:auto;background:#fafafa;border:1px solid #ddd}
.sign td{height:3.2em}@media print{body{margin:0}svg,tr{break-inside:avoid}}
"""


def report_files(folder: Path, facts: dict[str, Any]) -> tuple[Path, Path]:
    """The two files, written into `folder` (made if need be); OSError when that cannot be."""
    folder.mkdir(parents=True, exist_ok=True)
    page, data = (folder / f"commissioning-{facts['site']}.{kind}" for kind in ("html", "json"))
    content = {"format": 1, "software": version("ems-agent"), "series_columns": list(SERIES), **facts}
    data.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    page.write_text(report_html(facts), encoding="utf-8")
    return page, data


def report_html(facts: dict[str, Any]) -> str:
    """The whole page."""
    verdict = facts["verdict"] or "stopped"
    parts = [
        f"<h1>Commissioning of {escape(facts['site'])}</h1>",
        _table([
            ("verdict", f'<span class="{verdict}">{WORDS[verdict]}</span>{_why(facts)}'),
            ("begun", escape(_time(facts["begun"]))),
            ("ended", escape(_time(facts["ended"]))),
            ("led by", escape(facts["who"])),
            ("software", f"ems-agent {escape(version('ems-agent'))}"),
        ]),
        "<h2>Devices</h2>", _devices(facts["devices"]),
        "<h2>Results</h2>", _overview(facts["steps"]),
        "<h2>What control reckons with</h2>", _measured(facts["measured"]),
        *(_step(step) for step in facts["steps"] if step["word"] is not None),
        "<h2>Signatures</h2>", _signatures(),
    ]  # fmt: skip
    title = f"Commissioning of {escape(facts['site'])}"
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    top = f'<!doctype html><html lang="en"><head>{head}<style>{STYLE}</style></head>'
    return f"{top}<body>{''.join(parts)}</body></html>\n"


def _why(facts: dict[str, Any]) -> str:
    return f": {escape(facts['why'])}" if facts["why"] else ""


def _time(iso: str | None) -> str:
    if iso is None:
        return "not yet"
    return f"{datetime.fromisoformat(iso).astimezone():%Y-%m-%d %H:%M:%S %Z} ({iso})"


def _table(rows: Sequence[tuple[str, ...]], head: Sequence[str] = ()) -> str:
    """A table of cells that are HTML already; the first one of a row names it where there is no head."""
    shown = ["<tr>" + "".join(f"<th>{escape(name)}</th>" for name in head) + "</tr>"] if head else []
    for first, *others in rows:
        named = f"<td>{first}</td>" if head else f"<th>{first}</th>"
        shown.append(f"<tr>{named}{''.join(f'<td>{cell}</td>' for cell in others)}</tr>")
    return f"<table>{''.join(shown)}</table>"


def _devices(devices: Sequence[dict[str, Any]]) -> str:
    keys = ("device_id", "role", "manufacturer", "model", "serial", "firmware", "endpoint")
    head = ("device", "role", "maker", "model", "serial", "firmware", "at")
    return _table([tuple(escape(str(device[key] or "-")) for key in keys) for device in devices], head)


def _overview(steps: Sequence[dict[str, Any]]) -> str:
    return _table(
        [(escape(step["title"]), _word(step["word"]), _seconds(step)) for step in steps], ("step", "result", "took")
    )


def _word(word: str | None) -> str:
    return f'<span class="{word or "none"}">{WORDS[word]}</span>'


def _seconds(step: dict[str, Any]) -> str:
    return f"{step['ended_utc_s'] - step['begun_utc_s']:.0f} s" if step["word"] is not None else "-"


def _measured(measured: dict[str, dict[str, Any]]) -> str:
    if not measured:
        return "<p>Nothing was measured yet: control reckons with what the site file and the profiles state.</p>"
    rows = []
    for device_id, found in measured.items():
        dead_man = {None: "not measured", False: "NONE"}.get(found["has_dead_man"], _figure(found["dead_man_s"], "s"))
        rows.append((
            escape(device_id), _figure(found["lag_s"], "s"), _figure(found["settling_s"], "s"),
            _figure(found["accuracy_w"], "W"), dead_man, escape(_time(found["at"])),
        ))  # fmt: skip
    return _table(rows, ("battery", "lag", "settling", "accuracy", "dead-man", "measured"))


def _figure(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.3g} {unit}" if abs(value) < 1000 else f"{value:.0f} {unit}"


def _step(step: dict[str, Any]) -> str:
    """One step: findings, figures, chart."""
    found = "".join(
        f'<li><span class="{one["word"]}">{escape(one["text"])}</span>'
        + (f'<br><span class="hint">next: {escape(one["hint"])}</span>' if one["hint"] else "")
        + "</li>"
        for one in step["findings"]
    )
    figures = ", ".join(
        f"{escape(name)} {value:g}" for name, value in step["measures"].items() if isinstance(value, int | float)
    )
    shown = f"<h2>{escape(step['title'])}: {_word(step['word'])}</h2><ul>{found}</ul>"
    return shown + (f"<p>{figures}</p>" if figures else "") + chart_svg(step.get("series") or [])


def chart_svg(series: Sequence[Sequence[float | None]]) -> str:
    """The powers of one step over its time as SVG; nothing where nothing was recorded."""
    values = [row[column] for row in series for column, _, _ in CURVES if row[column] is not None]
    if len(series) < 2 or not values:
        return ""
    low_w, high_w = min(0.0, *(v for v in values if v is not None)), max(0.0, *(v for v in values if v is not None))
    if high_w - low_w < 1.0:
        low_w, high_w = low_w - 1.0, high_w + 1.0
    end_s = max(row[0] or 0.0 for row in series) or 1.0

    def place(second: float, power_w: float) -> str:
        x = LEFT + (WIDTH - LEFT - RIGHT) * second / end_s
        y = TOP + (HEIGHT - TOP - BOTTOM) * (high_w - power_w) / (high_w - low_w)
        return f"{x:.1f},{y:.1f}"

    curves = "".join(_curve(series, column, colour, place) for column, _, colour in CURVES)
    zero_y = place(0.0, 0.0).partition(",")[2]
    words = "".join(
        f'<text x="{LEFT + 8 + 150 * n}" y="{TOP + 10}" font-size="12" fill="{colour}">{name}</text>'
        for n, (_, name, colour) in enumerate(CURVES)
    )
    scale = "".join(
        f'<text x="{LEFT - 6}" y="{float(place(0.0, w).partition(",")[2]) + 4:.1f}" font-size="11" '
        f'text-anchor="end">{w / 1e3:.1f} kW</text>'
        for w in {low_w, 0.0, high_w}
    )
    axis = f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{zero_y}" y2="{zero_y}" stroke="#bbb"/>'
    seconds = f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" font-size="11" text-anchor="end">{end_s:.0f} s</text>'
    box = f'viewBox="0 0 {WIDTH} {HEIGHT}" xmlns="http://www.w3.org/2000/svg" role="img"'
    return f"<svg {box}>{axis}{curves}{words}{scale}{seconds}</svg>"


def _curve(series: Sequence[Sequence[float | None]], column: int, colour: str, place: Any) -> str:
    """One line; it breaks where nothing was measured."""
    parts: list[list[str]] = [[]]
    for row in series:
        value = row[column]
        if value is None:
            parts.append([])
        else:
            parts[-1].append(place(row[0] or 0.0, value))
    return "".join(
        f'<polyline fill="none" stroke="{colour}" stroke-width="1.6" points="{" ".join(part)}"/>'
        for part in parts
        if part
    )


def _signatures() -> str:
    rows = [(who, "", "", "") for who in ("technician", "operator of the site")]
    return '<div class="sign">' + _table(rows, ("", "name", "date and place", "signature")) + "</div>"
