"""The report of a scenario as one HTML file: inline SVG charts, no external resources, readable in light and dark."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import Any

from agent.cli.page import Curve, chart, figures, page, table
from simulators.scenario_result import Result
from simulators.scenario_run import CHART_DAYS, ChartPoint, TrueSlot

MAX_BARS = 400


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
        _counted("Limits at work", "ticks", numbers["clipped_ticks"]),
        _counted("Events", "count", numbers["events"]),
        _counted("Faults", "count", numbers["faults"]),
        _counted("Local re-plans", "count", numbers["replans"]["why"]),
        "<h2>All numbers</h2>",
        f"<pre>{html.escape(json.dumps(numbers, indent=1))}</pre>",
    ]
    return page(title, parts)


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
    return figures(shown)


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
    charts = [f"<h2>Power, kW (first {CHART_DAYS} days at most)</h2>", chart(hours, power)]
    charts += ["<h2>True state of charge, %</h2>", chart(hours, [Curve("SoC", "soc", [p.soc_pct for p in points])])]
    clipped = [Curve("limits at work", "bad", [float(len(p.clips)) for p in points], stepped=True)]
    if any(point.clips for point in points):
        charts += ["<h2>Limits at work</h2>", chart(hours, clipped)]
    if any(point.frequency_hz is not None for point in points):
        frequency = [Curve("frequency", "grid", [p.frequency_hz for p in points])]
        charts += ["<h2>Grid frequency, Hz</h2>", chart(hours, frequency)]
    if any(point.promised_w is not None for point in points):
        promised = [None if p.promised_w is None else p.promised_w / kw for p in points]
        curves = [Curve("asked for by the awards", "plan", promised)]
        curves.append(Curve("battery", "battery", [p.battery_w / kw for p in points]))
        charts += ["<h2>Frequency response with its baseline, kW</h2>", chart(hours, curves)]
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
        chart(hours, curves),
        f"<h2>Slot energy error, Wh{told}</h2>",
        chart(hours, errors),
    ]


def _delivered_kwh(slot: TrueSlot) -> float:
    at_battery = slot.promise is None or slot.promise.target == "battery"
    return (slot.battery_wh if at_battery else slot.grid_wh) / 1000.0


def _counted(title: str, unit: str, rows: dict[str, Any]) -> str:
    if not rows:
        return ""
    return f"<h2>{html.escape(title)}</h2>" + table(("", unit), [(name, str(count)) for name, count in rows.items()])
