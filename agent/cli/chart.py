"""A chart of slots in the terminal: plan and delivered power as bars, state of charge as a line of blocks."""

from __future__ import annotations

from dataclasses import dataclass

ROWS = 5
"""Bar rows on each side of the zero line."""
LABEL_WIDTH = 9


@dataclass(frozen=True, slots=True)
class Marks:
    """The characters to draw with."""

    plan: str
    both: str
    actual: str
    levels: str


UNICODE = Marks(plan="░", both="█", actual="▓", levels="▁▂▃▄▅▆▇█")
ASCII = Marks(plan=".", both="#", actual="o", levels="12345678")


@dataclass(frozen=True, slots=True)
class Column:
    """One slot: planned and delivered mean power in kW, SoC in percent; None where there is none."""

    plan_kw: float | None
    actual_kw: float | None
    soc_pct: float | None
    now: bool = False


def draw(columns: list[Column], marks: Marks) -> list[str]:
    """The chart as text lines: discharge or export above the zero line, charge or import below it."""
    powers = [abs(p) for c in columns for p in (c.plan_kw, c.actual_kw) if p is not None]
    top_kw = max(powers, default=0.0) or 1.0
    lines = [_bar_row(columns, level, top_kw, marks) for level in range(ROWS, 0, -1)]
    lines.append(f"{'0 kW':>{LABEL_WIDTH - 1}} " + "".join("|" if c.now else "-" for c in columns))
    lines += [_bar_row(columns, -level, top_kw, marks) for level in range(1, ROWS + 1)]
    lines.append(f"{'SoC':>{LABEL_WIDTH - 1}} " + "".join(_level(c.soc_pct, marks) for c in columns))
    return [line.rstrip() for line in lines]


def _bar_row(columns: list[Column], level: int, top_kw: float, marks: Marks) -> str:
    label = f"{top_kw * level / ROWS:+.0f} kW" if abs(level) == ROWS else ""
    return f"{label:>{LABEL_WIDTH - 1}} " + "".join(_cell(c, level, top_kw, marks) for c in columns)


def _cell(column: Column, level: int, top_kw: float, marks: Marks) -> str:
    planned = _reaches(column.plan_kw, level, top_kw)
    delivered = _reaches(column.actual_kw, level, top_kw)
    if planned and delivered:
        return marks.both
    return marks.plan if planned else marks.actual if delivered else " "


def _reaches(power_kw: float | None, level: int, top_kw: float) -> bool:
    """True when a bar of `power_kw` fills at least half of the cell at `level`."""
    if power_kw is None:
        return False
    cells = power_kw / top_kw * ROWS
    return cells >= level - 0.5 if level > 0 else cells <= level + 0.5


def _level(soc_pct: float | None, marks: Marks) -> str:
    if soc_pct is None:
        return " "
    return marks.levels[min(int(soc_pct / 100 * len(marks.levels)), len(marks.levels) - 1)]
