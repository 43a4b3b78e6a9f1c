"""The commissioning report: one HTML file that needs nothing else, with a chart of each movement, and its JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

from agent.cli.page import Curve, chart, page, table

SERIES = ("seconds", "asked_w", "battery_w", "grid_w", "soc_pct", "frequency_hz")
CURVES = ((1, "asked, kW", "plan"), (2, "battery, kW", "battery"), (3, "connection point, kW", "grid"))
"""Columns of the series with name and colour."""
WORDS = {
    None: "not done", "passed": "passed", "remark": "passed, with a remark", "failed": "FAILED",
    "skipped": "does not apply", "stopped": "stopped",
}  # fmt: skip
BAD = ("failed", "stopped")
KW = 1000.0


def report_files(folder: Path, facts: dict[str, Any]) -> tuple[Path, Path]:
    """The two files, written into `folder` (made if need be); OSError when that cannot be."""
    folder.mkdir(parents=True, exist_ok=True)
    shown, data = (folder / f"commissioning-{facts['site']}.{kind}" for kind in ("html", "json"))
    content = {"format": 1, "software": version("ems-agent"), "series_columns": list(SERIES), **facts}
    data.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    shown.write_text(report_html(facts), encoding="utf-8")
    return shown, data


def report_html(facts: dict[str, Any]) -> str:
    """The whole page."""
    title = f"Commissioning of {facts['site']}"
    verdict = facts["verdict"] or "stopped"
    why = f": {facts['why']}" if facts["why"] else ""
    about = (
        ("verdict", WORDS[verdict] + why), ("begun", _time(facts["begun"])), ("ended", _time(facts["ended"])),
        ("led by", facts["who"]), ("software", f"ems-agent {version('ems-agent')}"),
    )  # fmt: skip
    steps = facts["steps"]
    return page(
        title,
        [
            f"<h1>{escape(title)}: {_word(verdict)}</h1>",
            table((), about, numbers_from=2),
            "<h2>Devices</h2>", _devices(facts["devices"]),
            "<h2>Results</h2>",
            table(("step", "result", "took"), [(one["title"], WORDS[one["word"]], _took(one)) for one in steps]),
            "<h2>What control reckons with</h2>", _measured(facts["measured"]),
            *(_step(step) for step in steps if step["word"] is not None),
            "<h2>Signatures</h2>", _signatures(),
        ],
    )  # fmt: skip


def _word(word: str) -> str:
    return f'<span class="bad">{WORDS[word]}</span>' if word in BAD else WORDS[word]


def _time(iso: str | None) -> str:
    return "not yet" if iso is None else f"{datetime.fromisoformat(iso).astimezone():%Y-%m-%d %H:%M:%S %Z} ({iso})"


def _took(step: dict[str, Any]) -> str:
    return f"{step['ended_utc_s'] - step['begun_utc_s']:.0f} s" if step["word"] is not None else "-"


def _devices(devices: Sequence[dict[str, Any]]) -> str:
    keys = ("device_id", "role", "manufacturer", "model", "serial", "firmware", "endpoint")
    head = ("device", "role", "maker", "model", "serial", "firmware", "at")
    return table(head, [[str(device[key] or "-") for key in keys] for device in devices], numbers_from=len(keys))


def _measured(measured: dict[str, dict[str, Any]]) -> str:
    if not measured:
        return "<p>Nothing was measured yet: control reckons with what the site file and the profiles state.</p>"
    rows = [
        (
            device_id, _figure(found["lag_s"], "s"), _figure(found["settling_s"], "s"),
            _figure(found["accuracy_w"], "W"), _dead_man(found), _time(found["at"]),
        )
        for device_id, found in measured.items()
    ]  # fmt: skip
    return table(("battery", "lag", "settling", "accuracy", "dead-man", "measured"), rows)


def _dead_man(found: dict[str, Any]) -> str:
    if found["has_dead_man"] is None:
        return "not measured"
    return _figure(found["dead_man_s"], "s") if found["has_dead_man"] else "NONE"


def _figure(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.3g} {unit}" if abs(value) < KW else f"{value:.0f} {unit}"


def _step(step: dict[str, Any]) -> str:
    """One step: findings, figures, chart."""
    found = "".join(_finding(one) for one in step["findings"])
    known = [f"{name} {value:g}" for name, value in step["measures"].items() if isinstance(value, int | float)]
    figures = f'<p class="soft">{escape(", ".join(known))}</p>' if known else ""
    heading = f"<h2>{escape(step['title'])}: {_word(step['word'])}</h2>"
    return f"{heading}<ul>{found}</ul>{figures}{step_chart(step.get('series') or [])}"


def _finding(one: dict[str, Any]) -> str:
    hint = f'<br><span class="soft">next: {escape(one["hint"])}</span>' if one["hint"] else ""
    bad = ' class="bad"' if one["word"] in BAD else ""
    return f"<li><span{bad}>{escape(one['text'])}</span>{hint}</li>"


def step_chart(series: Sequence[Sequence[float | None]]) -> str:
    """The powers of one step over its time; nothing where nothing was recorded."""
    if len(series) < 2:
        return ""
    seconds = [row[0] or 0.0 for row in series]
    curves = [Curve(name, colour, [_kw(row[column]) for row in series]) for column, name, colour in CURVES]
    return chart(seconds, curves, mark=lambda second: f"{second:g} s")


def _kw(power_w: float | None) -> float | None:
    return None if power_w is None else power_w / KW


def _signatures() -> str:
    head = ("", "name", "date and place", "signature")
    blank = "_" * 24
    return table(head, [(who, blank, blank, blank) for who in ("technician", "operator of the site")], numbers_from=4)
