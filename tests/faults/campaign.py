"""The fault campaign: runs the tests of every row of `matrix.toml` and writes the results into docs/reliability.md.

`python -m tests.faults.campaign [--area disk] [--again] [--workers 3] [--list]`. Rows that are not run keep the result of
their last run. Exit code 0 only if every row that was run held and no row lost its tests.
"""

from __future__ import annotations

import argparse
import ast
import sys
import time
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- faults: written by make faults -->", "<!-- faults: end -->"
NO_TEST, NOT_RUN = "**no test**", "not run"
HEAD = "| fault | what the agent does | tests | tier | result |\n|---|---|---|---|---|\n"


@dataclass(frozen=True)
class Row:
    """One fault, what must happen, and the tests that provoke it."""

    area: str
    fault: str
    expected: str
    tier: str
    tests: tuple[str, ...]


def matrix() -> list[Row]:
    """All rows, in the order of the file."""
    rows = tomllib.loads((ROOT / "tests/faults/matrix.toml").read_text())["row"]
    return [Row(**{**row, "tests": tuple(row["tests"])}) for row in rows]


def node_ids(test: str) -> list[str]:
    """What pytest calls a test of the matrix: with the class in which it stands; none when it is not there."""
    path, _, name = test.partition("::")
    bare, bracket, case = name.partition("[")
    file = ROOT / "tests" / path
    if not file.is_file():
        return []
    found = []
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ClassDef):
            found += [f"{node.name}::{inner.name}" for inner in node.body if getattr(inner, "name", None) == bare]
        elif getattr(node, "name", None) == bare:
            found.append(bare)
    return [f"tests/{path}::{one}{bracket}{case}" for one in found]


class Verdicts:
    """A plugin of pytest that remembers how each test ended, over all of its cases."""

    def __init__(self) -> None:
        self._ended: dict[str, set[str]] = defaultdict(set)

    def pytest_runtest_logreport(self, report) -> None:
        """Called by pytest for each phase of each test."""
        if report.when == "call" or report.outcome != "passed":
            self._ended[report.nodeid].add(report.outcome)

    def of(self, node_id: str) -> set[str]:
        """The outcomes of a test and of all its cases."""
        mine = (ended for name, ended in self._ended.items() if name == node_id or name.startswith(f"{node_id}["))
        return set().union(*mine)


def result(row: Row, verdicts: Verdicts, day: str) -> str:
    """One word about a row, with the day."""
    if not row.tests:
        return NO_TEST
    ended = [verdicts.of(node_id) for test in row.tests for node_id in node_ids(test) or [test]]
    if any("failed" in outcomes for outcomes in ended):
        return f"**failed** {day}"
    if not all("passed" in outcomes for outcomes in ended):
        return f"{NOT_RUN} in part {day}"
    return f"held {day}"


def results_before() -> dict[tuple[str, str], str]:
    """The result that stands in the page, by area and fault."""
    area, found = "", {}
    for line in _table_of(PAGE.read_text()).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("### "):
            area = line.removeprefix("### ").strip()
        elif line.startswith("| ") and len(cells) == 5:
            found[area, cells[0]] = cells[4].strip()
    return found


def page(rows: Iterable[Row], results: Mapping[tuple[str, str], str]) -> str:
    """The tables, one for each area, in Markdown."""
    by_area: dict[str, list[Row]] = {}
    for row in rows:
        by_area.setdefault(row.area, []).append(row)
    return "\n".join(f"### {area}\n\n{HEAD}{_lines(found, results)}" for area, found in by_area.items())


def _lines(rows: Iterable[Row], results: Mapping[tuple[str, str], str]) -> str:
    lines = []
    for row in rows:
        tests = ", ".join(f"`tests/{test}`" for test in row.tests) or "none"
        before = results.get((row.area, row.fault), NOT_RUN)
        told = NO_TEST if not row.tests else before.replace(NO_TEST, NOT_RUN)
        lines.append(f"| {row.fault} | {row.expected} | {tests} | {row.tier} | {told} |\n")
    return "".join(lines)


def _table_of(text: str) -> str:
    return text.split(BEGIN, 1)[1].split(END, 1)[0]


def written(rows: Iterable[Row], results: Mapping[tuple[str, str], str]) -> str:
    """The whole page with these results."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    return f"{before}{BEGIN}\n\n{page(rows, results)}\n{END}{rest.partition(END)[2]}"


def main() -> int:
    """Runs what was asked for and writes the page."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--area", action="append", help="only rows of this area, such as Disk; may be repeated")
    options.add_argument("--again", action="store_true", help="only rows that did not hold in their last run")
    options.add_argument("--workers", default="2")
    options.add_argument("--list", action="store_true", help="print the tests instead of running them")
    asked = options.parse_args()
    rows = matrix()
    areas = {row.area for row in rows}
    wanted = {area for area in areas for name in asked.area or areas if area.lower() == name.lower()}
    if asked.area and len(wanted) < len(asked.area):
        options.error(f"--area: choose from {', '.join(sorted(areas))}")
    chosen = [row for row in rows if row.area in wanted]
    if asked.again:
        before = results_before()
        chosen = [row for row in chosen if not before.get((row.area, row.fault), NOT_RUN).startswith("held")]
    ids = sorted({node_id for row in chosen for test in row.tests for node_id in node_ids(test)})
    if asked.list:
        print("\n".join(ids))
        return 0
    return _run(rows, chosen, ids, asked.workers)


def _run(rows: list[Row], chosen: list[Row], ids: list[str], workers: str) -> int:
    import pytest

    verdicts, began = Verdicts(), time.monotonic()
    code = pytest.main(["-q", "-n", workers, "-p", "no:cacheprovider", *ids], plugins=[verdicts])
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    new = {(row.area, row.fault): result(row, verdicts, day) for row in chosen}
    PAGE.write_text(written(rows, results_before() | new))
    held = sum(told.startswith("held") for told in new.values())
    without = [f"{row.area}: {row.fault}" for row in rows if not row.tests]
    print(
        f"{len(ids)} tests, {held} of {len(new)} rows held, {time.monotonic() - began:.0f} s; docs/reliability.md is written"
    )
    for name in without:
        print(f"no test: {name}")
    bad = [f"{area}: {fault}: {told}" for (area, fault), told in new.items() if told.startswith("**f")]
    print("\n".join(bad), end="\n" if bad else "")
    return int(code != 0 or bool(bad))


if __name__ == "__main__":
    sys.exit(main())
