"""How numbers look to people: kW, kWh, percent, local time; a value that is missing says so."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from datetime import datetime
from typing import Any

COLUMNS = 79
"""Every terminal has one more, also the one over a slow line; some begin a new line after the last."""


def fitted(lines: Sequence[str], indent: int) -> list[str]:
    """The lines broken to `COLUMNS`; what runs over goes on below, `indent` in. A word (a path) is never broken."""
    wrapper = textwrap.TextWrapper(
        COLUMNS, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )
    return [part for line in lines for part in wrapper.wrap(line) or [""]]


def kw(power_w: float | None) -> str:
    """Power in kW with its sign, or `missing`."""
    return "missing" if power_w is None else f"{power_w / 1000:+.1f} kW"


def kwh(energy_wh: float | None) -> str:
    """Energy in kWh with its sign, or `missing`."""
    return "missing" if energy_wh is None else f"{energy_wh / 1000:+.3f} kWh"


def percent(share_pct: float | None) -> str:
    """Percent, or `missing`."""
    return "missing" if share_pct is None else f"{share_pct:.1f} %"


def local(iso_utc: str) -> str:
    """The time of day on this machine, seconds included."""
    return datetime.fromisoformat(iso_utc).astimezone().strftime("%H:%M:%S")


def ago(seconds: float) -> str:
    """A duration in its largest fitting unit."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def direction(power_w: float | None, out: str, into: str) -> str:
    """`out` for positive, `into` for negative power, `at rest` near zero."""
    if power_w is None:
        return "unknown"
    return "at rest" if abs(power_w) < 50 else (out if power_w > 0 else into)


def local_plan_lines(local: dict[str, Any] | None) -> list[str]:
    """The local plan in force, for people; nothing when there is none."""
    if local is None:
        return []
    by = "by rule only" if local["by"] == "rules" else "by the solver"
    made, end = (datetime.fromisoformat(local[key]).astimezone() for key in ("made_at", "end"))
    return [f"local    planned anew {made:%H:%M:%S} {by}, until {end:%Y-%m-%d %H:%M:%S}: {local['why']}"]


def plan_line(name: str, held: dict[str, Any] | None) -> str:
    """One document held, for people."""
    if held is None:
        return f"{name:<8} none"
    if held["end"] is None:
        return f"{name:<8} version {held['version']}, empty, {held['sha256'][:12]}"
    end = datetime.fromisoformat(held["end"]).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return f"{name:<8} version {held['version']}, until {end}, {held['sha256'][:12]}"
