"""Pages for people: one HTML file with inline SVG charts, no outside resources, readable in light, dark and print."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 1000.0, 220.0
DAY_LIKE_H = (9.0, 25.0)
LEFT, RIGHT, TOP, BOTTOM = 62.0, 10.0, 12.0, 24.0
STYLE = """
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
summary { cursor: pointer; margin: .6rem 0; } @media print { body { max-width: none; padding: 0; } svg, tr, .figures div
  { break-inside: avoid; } }
"""


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a chart: values over the chart's times; None breaks the line."""

    name: str
    colour: str
    values: Sequence[float | None]
    stepped: bool = False


def page(title: str, parts: Iterable[str]) -> str:
    """The whole file; `parts` are HTML, empty ones are left out."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    body = "\n".join(part for part in parts if part)
    top = f'<!doctype html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head>'
    return f"{top}\n<body>\n{body}\n</body></html>\n"


def figures(shown: Iterable[tuple[str, str]]) -> str:
    """Cards of (what, value)."""
    cells = "".join(f"<div><b>{escape(value)}</b>{escape(what)}</div>" for what, value in shown)
    return f'<div class="figures">{cells}</div>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers_from: int = 1) -> str:
    """A table of plain texts; columns from `numbers_from` on are set as numbers."""
    shown = "".join(
        "<tr>"
        + "".join(
            f'<td class="number">{escape(cell)}</td>' if column >= numbers_from else f"<td>{escape(cell)}</td>"
            for column, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return f"<table><tr>{''.join(f'<th>{escape(name)}</th>' for name in head)}</tr>{shown}</table>"


def in_hours(hour: float) -> str:
    """How a chart marks hours since its begin."""
    return f"{hour:g} h"


def chart(hours: Sequence[float], curves: Sequence[Curve], mark: Callable[[float], str] = in_hours) -> str:
    """One SVG with its legend; `hours` are the places of the values, told by `mark`."""
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
    # A day is read in thirds of a morning, not in fives.
    hour_step = 3.0 if DAY_LIKE_H[0] < last - first <= DAY_LIKE_H[1] else nice_axis(first, last)[2]
    hour = math.ceil(first / hour_step) * hour_step
    while hour <= last:
        lines.append(f'<text x="{x(hour):.1f}" y="{HEIGHT - 7:g}" text-anchor="middle">{escape(mark(hour))}</text>')
        hour += hour_step
    paths = []
    for curve in curves:
        path = _path([x(hour) for hour in hours], [None if v is None else y(v) for v in curve.values], curve.stepped)
        paths.append(f'<path class="curve" style="stroke:var(--{curve.colour})" d="{path}"/>')
    legend = "".join(
        f'<span class="key" style="background:var(--{curve.colour})"></span>{escape(curve.name)}' for curve in curves
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
