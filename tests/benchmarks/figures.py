"""What `make bench` writes down: each figure beside its bare reference of the same run, as JSON and as a table."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "build" / "bench.json"
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- bench: begin; written by `make bench` -->", "<!-- bench: end -->"
LIBRARIES = ("pymodbus", "paho-mqtt", "pydantic", "scipy", "orjson")


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure; `reference` is what a bare thing that does the same, or less, takes in the same run."""

    name: str
    """`part.what`, for the gate."""
    what: str
    value: float
    unit: str
    reference: float | None = None
    reference_what: str = ""
    to_reach: float | None = None
    better: Literal["less", "more"] = "less"

    @property
    def ratio(self) -> float | None:
        """The figure over its reference; None without one."""
        return self.value / self.reference if self.reference else None

    @property
    def met(self) -> bool | None:
        """Whether it is where it should be; None where nothing is to reach."""
        if self.to_reach is None:
            return None
        return self.value <= self.to_reach if self.better == "less" else self.value >= self.to_reach


def machine() -> dict[str, Any]:
    """What the figures were made on."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), ""
    )
    memory_kb = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {
        "processor": model or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory_kb / 1024**2, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "revision": _revision(),
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _revision() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def part(command: str, figures: Iterable[Figure], raw: Any, notes: Iterable[str] = ()) -> dict[str, Any]:
    """What one part found, as it is kept: with the load of the machine while it ran, and its command."""
    return {
        "command": command,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_1min": round(os.getloadavg()[0], 2),
        "figures": [asdict(one) | {"ratio": one.ratio, "met": one.met} for one in figures],
        "notes": list(notes),
        "raw": raw,
    }


def read() -> dict[str, Any]:
    """What was kept so far; empty without a file."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {"parts": {}}


def keep(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The parts take the place of older ones of the same name; returns the whole."""
    found = read()
    found = {"machine": machine(), "parts": {**found["parts"], **parts}}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")
    return found


def table(found: Mapping[str, Any]) -> str:
    """The figures as a page shows them."""
    made = found["machine"]
    libraries = ", ".join(f"{name} {number}" for name, number in made["libraries"].items())
    seen_on = f"{made['processor']}, {made['cores']} cores, {made['memory_gb']:g} GB; {made['system']}; Python {made['python']}"
    lines = [
        f"{seen_on}; {libraries}; revision {made['revision']}.",
        "",
        "| what | figure | beside it, same run | ratio | to reach | load | command |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in found["parts"].values():
        lines += [_row(figure, one) for figure in one["figures"]]
    notes = [f"- {note}" for one in found["parts"].values() for note in one["notes"]]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def _row(figure: Mapping[str, Any], one: Mapping[str, Any]) -> str:
    ratio, unit, reach = figure["ratio"], figure["unit"], ""
    if figure["to_reach"] is not None:
        sign = "at most" if figure["better"] == "less" else "at least"
        reach = f"{sign} {number(figure['to_reach'])}{'' if figure['met'] else ': **missed**'}"
    cells = (
        figure["what"],
        f"{number(figure['value'])} {unit}",
        f"{number(figure['reference'])} {unit}: {figure['reference_what']}" if ratio else "",
        number(ratio) if ratio else "",
        reach,
        f"{one['load_1min']:g}",
        f"`{one['command']}`",
    )
    return f"| {' | '.join(cells)} |"


def number(value: float) -> str:
    """Three figures are enough for people."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def refreshed(page: str, found: Mapping[str, Any]) -> str:
    """The page with the newest table between its marks."""
    before, rest = page.split(BEGIN, 1)
    _, after = rest.split(END, 1)
    return f"{before}{BEGIN}\n{table(found)}\n{END}{after}"
