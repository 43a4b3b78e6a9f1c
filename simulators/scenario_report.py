"""The report of a scenario as one HTML file: inline SVG charts, no external resources, readable in light and dark."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from simulators.scenario_result import Result
from simulators.scenario_run import CHART_DAYS, ChartPoint, TrueSlot

WIDTH, HEIGHT = 1000.0, 220.0
LEFT, RIGHT, TOP, BOTTOM = 62.0, 10.0, 12.0, 24.0
MAX_BARS = 400
_STYLE = """
:root { color-scheme: light dark; --ink: #1c2733; --soft: #66717d; --line: #d5dbe1; --paper: #ffffff; --card: #f6f8fa;
  --grid: #0b62a8; --battery: #1f883d; --pv: #b7791f; --load: #8250df; --plan: #57606a; --soc: #0b7285;
  --bad: #cf222e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e3e8ee; --soft: #98a3af; --line: #37414c; --paper: #11161c;
  --card: #1a2129; --grid: #58a6ff; --battery: #4ac26b; --pv: #e3b341; --load: #bc8cff; --plan: #aab4bf;
  --soc: #39c5d8; --bad: #ff7b72; } }
body { margin: 0 auto; max-width: 68rem; padding: 1.5rem; font: 15px/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--paper); }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.05rem; margin: 1.8rem 0 .4rem; } p { margin: .3rem 0; }
.soft { color: var(--soft); } .bad { color: var(--bad); font-weight: 600; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .7rem; margin: 1rem 0; }
.figures div { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .6rem .8rem; }
.figures b { display: block; font-size: 1.25rem; font-variant-numeric: tabular-nums; }
svg { width: 100%; height: auto; display: block; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; } svg text { fill: var(--soft); font-size: 11px; }
.axis { stroke: var(--line); stroke-width: 1; fill: none; } .curve { fill: none; stroke-width: 1.4; }
.key { display: inline-block; width: .9rem; height: .22rem; margin: 0 .35rem .2rem 1rem; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .2rem 1.2rem .2rem 0; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .8rem; overflow-x: auto;
  font-size: 12px; }
"""


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a chart: values over the chart's times; None breaks the line."""

    name: str
    colour: str
    values: Sequence[float | None]
    stepped: bool = False


def html_report(result: Result) -> str:
    """The whole page."""
    numbers, points = result.numbers, result.record.points
    title = f"Scenario {numbers['site']}, {numbers['days']} days, seed {numbers['seed']}"
    about = f"From {numbers['start']}; tick {numbers['tick_s']:g} s, target {numbers['target']}"
    about += f"; revision {numbers['revision']}"
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f'<p class="soft">{html.escape(about)}. Powers toward the grid are positive.</p>',
        _figures(numbers),
        _violations(numbers),
        _response(numbers),
        *_day_charts(points),
        *_slot_charts(result),
        _table("Limits at work", "ticks", numbers["clipped_ticks"]),
        _table("Events", "count", numbers["events"]),
        _table("Faults", "count", numbers["faults"]),
        _table("Local re-plans", "count", numbers["replans"]["why"]),
        "<h2>All numbers</h2>",
        f"<pre>{html.escape(json.dumps(numbers, indent=1))}</pre>",
    ]
    page = "\n".join(part for part in parts if part)
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title>'
    )
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<style>{_STYLE}</style></head>\n<body>\n{page}\n</body></html>\n'
    )


def _figures(numbers: dict[str, Any]) -> str:
    error = numbers["slot_energy_error"]
    shown = [("violations", str(numbers["violations"]["count"]))]
    for name, key in (("slot error, p95", "with_tracker"), ("without tracker, p95", "without_tracker")):
        if error[key] and error[key]["slots"]:
            shown.append((name, f"{error[key]['p95_pct']:.3g} %"))
    if numbers["fcr"] is not None and numbers["fcr"]["share_of_seconds_within"] is not None:
        shown.append(("of awarded seconds within 1 %", f"{100 * numbers['fcr']['share_of_seconds_within']:.5g} %"))
    money = numbers["money"]
    if money is not None:
        shown += [("revenue", f"{money['revenue']:,.0f}")]
        for name, key in (
            ("of the informed optimum", "ratio_to_informed"),
            ("of perfect foresight", "ratio_to_foresight"),
        ):
            if money[key] is not None:
                shown.append((name, f"{100 * money[key]:.2f} %"))
    soc = numbers["soc_pct"]
    writes = sum(numbers["writes_per_day"].values())
    shown += [("true SoC", f"{soc['min']:.1f} to {soc['max']:.1f} %"), ("cycles", f"{numbers['cycles']:.4g}")]
    shown += [("writes per day", f"{writes:.0f}"), ("simulated days per second", f"{numbers['sim_days_per_s']:.3g}")]
    cells = "".join(f"<div><b>{html.escape(value)}</b>{html.escape(name)}</div>" for name, value in shown)
    return f'<div class="figures">{cells}</div>'


def _violations(numbers: dict[str, Any]) -> str:
    told = numbers["violations"]["first"]
    if not told:
        return ""
    lines = "".join(
        f"<li>invariant {one['number']}, tick {one['tick']}: {html.escape(one['what'])}"
        f"<pre>{html.escape(json.dumps(one['rows'], indent=1))}</pre></li>"
        for one in told
    )
    return f'<h2 class="bad">Broken invariants</h2><ul>{lines}</ul>'


def _day_charts(points: Sequence[ChartPoint]) -> list[str]:
    if not points:
        return []
    hours = [point.second / 3600.0 for point in points]
    kw = 1000.0
    power = [
        Curve("connection", "grid", [(p.battery_w + p.pv_w + p.load_w) / kw for p in points]),
        Curve("battery", "battery", [p.battery_w / kw for p in points]),
        Curve("PV", "pv", [p.pv_w / kw for p in points]),
        Curve("load", "load", [p.load_w / kw for p in points]),
        Curve("plan", "plan", [p.planned_w / kw for p in points], stepped=True),
    ]
    charts = [f"<h2>Power, kW (first {CHART_DAYS} days at most)</h2>", _chart(hours, power)]
    charts += ["<h2>True state of charge, %</h2>", _chart(hours, [Curve("SoC", "soc", [p.soc_pct for p in points])])]
    clipped = [Curve("limits at work", "bad", [float(len(p.clips)) for p in points], stepped=True)]
    if any(point.clips for point in points):
        charts += ["<h2>Limits at work</h2>", _chart(hours, clipped)]
    if any(point.frequency_hz is not None for point in points):
        frequency = [Curve("frequency", "grid", [p.frequency_hz for p in points])]
        charts += ["<h2>Grid frequency, Hz</h2>", _chart(hours, frequency)]
    if any(point.promised_w is not None for point in points):
        promised = [None if p.promised_w is None else p.promised_w / kw for p in points]
        curves = [Curve("asked for by the awards", "plan", promised)]
        curves.append(Curve("battery", "battery", [p.battery_w / kw for p in points]))
        charts += ["<h2>Frequency response with its baseline, kW</h2>", _chart(hours, curves)]
    return charts


def _response(numbers: dict[str, Any]) -> str:
    """The judgement of the awards; empty without one."""
    found = numbers["fcr"]
    if found is None:
        return ""
    rows = "".join(
        f"<tr><td>{html.escape(', '.join(one['products']))}</td>"
        + "".join(f'<td class="number">{value}</td>' for value in _judged(one))
        + "</tr>"
        for one in found["stretches"]
    )
    heads = ("award, kW", "seconds", "within", "mean error, %", "largest miss, %", "evidence within")
    head = "<th>product</th>" + "".join(f"<th>{name}</th>" for name in heads)
    steps = "".join(
        f"<tr><td>{html.escape(one['product'])}</td>"
        f'<td class="number">{_seconds(one["time_to_90_pct_s"])}</td><td class="number">{one["device_alone_s"]} s</td>'
        f'<td class="number">{_seconds(one["beyond_device_s"])}</td><td>{"met" if one["met"] else "NOT met"}</td></tr>'
        for one in found["step_response"]
    )
    return (
        f"<h2>Awards</h2><p>Within: {html.escape(found['tolerance'])}. Errors in % of the award.</p>"
        f"<table><tr>{head}</tr>{rows}</table>"
        "<p>A step of frequency that calls the whole award:</p><table><tr><th>product</th><th>90 % after</th>"
        f"<th>device alone</th><th>more than it</th><th>0.5 s allowed</th></tr>{steps}</table>"
    )


def _judged(one: dict[str, Any]) -> tuple[str, ...]:
    true, evidence = one["true"], one["evidence"]
    numbers = (one["seconds_within"] / one["seconds"] if one["seconds"] else None, true["error_mean_pct"])
    within, mean = ("-" if value is None else f"{value:.4g}" for value in numbers)
    miss = "-" if true["miss_max_pct"] is None else f"{true['miss_max_pct']:.3g}"
    told = "-" if evidence["share_within"] is None else f"{evidence['share_within']:.4g}"
    return f"{one['award_kw']:g}", str(one["seconds"]), within, mean, miss, told


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:g} s"


def _slot_charts(result: Result) -> list[str]:
    slots = result.record.slots[-MAX_BARS:]
    if not slots:
        return []
    hours = [slot.start_s / 3600.0 for slot in slots]
    planned = [slot.promise.energy_wh / 1000.0 if slot.promise is not None else None for slot in slots]
    curves = [
        Curve("promised", "plan", planned, stepped=True),
        Curve("delivered", "grid", [_delivered_kwh(slot) for slot in slots], stepped=True),
    ]
    told = "" if len(slots) == len(result.record.slots) else f" (last {MAX_BARS} slots)"
    errors = [Curve("delivered less promised", "bad", [slot.error_wh for slot in slots], stepped=True)]
    return [
        f"<h2>Slot energy, kWh: promised and delivered{told}</h2>",
        _chart(hours, curves),
        f"<h2>Slot energy error, Wh{told}</h2>",
        _chart(hours, errors),
    ]


def _delivered_kwh(slot: TrueSlot) -> float:
    at_battery = slot.promise is None or slot.promise.target == "battery"
    return (slot.battery_wh if at_battery else slot.grid_wh) / 1000.0


def _chart(hours: Sequence[float], curves: Sequence[Curve]) -> str:
    """One SVG with its legend."""
    values = [value for curve in curves for value in curve.values if value is not None]
    low, high, step = nice_axis(min(values, default=0.0), max(values, default=1.0))
    first, last = hours[0], hours[-1] if hours[-1] > hours[0] else hours[0] + 1.0

    def x(hour: float) -> float:
        return LEFT + (hour - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)

    lines = []
    for index in range(round((high - low) / step) + 1):
        value = low + index * step
        lines.append(f'<path class="axis" d="M{LEFT:g} {y(value):.1f}H{WIDTH - RIGHT:g}"/>')
        lines.append(f'<text x="{LEFT - 6:g}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
    _, _, hour_step = nice_axis(first, last)
    hour = math.ceil(first / hour_step) * hour_step
    while hour <= last:
        lines.append(f'<text x="{x(hour):.1f}" y="{HEIGHT - 7:g}" text-anchor="middle">{hour:g} h</text>')
        hour += hour_step
    paths = []
    for curve in curves:
        path = _path([x(hour) for hour in hours], [None if v is None else y(v) for v in curve.values], curve.stepped)
        paths.append(f'<path class="curve" style="stroke:var(--{curve.colour})" d="{path}"/>')
    legend = "".join(
        f'<span class="key" style="background:var(--{curve.colour})"></span>{html.escape(curve.name)}'
        for curve in curves
    )
    view = f'viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img"'
    return f'<p class="soft">{legend}</p><svg {view}>{"".join(lines)}{"".join(paths)}</svg>'


def _path(xs: Sequence[float], ys: Sequence[float | None], stepped: bool) -> str:
    parts: list[str] = []
    pen_down = False
    for x, y in zip(xs, ys, strict=True):
        if y is None:
            pen_down = False
        elif not pen_down:
            parts.append(f"M{x:.1f} {y:.1f}")
            pen_down = True
        else:
            parts.append(f"H{x:.1f}V{y:.1f}" if stepped else f"L{x:.1f} {y:.1f}")
    return "".join(parts)


def nice_axis(low: float, high: float) -> tuple[float, float, float]:
    """Round ends that hold `low` and `high`, and a round step between four and nine marks."""
    if high - low < 1e-9:
        low, high = low - 1.0, high + 1.0
    rough = (high - low) / 5.0
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1.0, 2.0, 5.0, 10.0) if size * factor >= rough * 0.999)
    return math.floor(low / step) * step, math.ceil(high / step) * step, step


def _table(title: str, unit: str, rows: dict[str, Any]) -> str:
    if not rows:
        return ""
    cells = "".join(
        f'<tr><td>{html.escape(name)}</td><td class="number">{count}</td></tr>' for name, count in rows.items()
    )
    return f"<h2>{html.escape(title)}</h2><table><tr><th></th><th>{html.escape(unit)}</th></tr>{cells}</table>"
