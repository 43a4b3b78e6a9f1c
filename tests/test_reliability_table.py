"""docs/reliability.md: every fault of a Modbus line has a row, and every test that a row names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "reliability.md").read_text()
MODBUS = (
    "timeout", "exception 1, 2, 3", "exception 4, 7, 8, unknown", "exception 5, 6", "exception 10, 11", "half-open TCP",
    "wrong frames", "frozen values", "sentinels, implausible values", "device reboot", "accepted, not applied",
    "changed by someone else", "device takes 5 s", "one illegal register in a block",
)  # fmt: skip
"""What can go wrong between the agent and a device; a row may be added, none may go."""


def rows():
    """Fault to the tests named for it."""
    found = {}
    for line in TEXT.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and len(cells) == 3 and cells[0] != "fault":
            found[cells[0]] = re.findall(r"`(tests/[^`]+)`", cells[2])
    return found


def test_every_fault_has_a_row_with_a_test():
    assert [fault for fault in MODBUS if not rows().get(fault)] == []
    assert all(rows().values())


@pytest.mark.parametrize("named", sorted({name for names in rows().values() for name in names}))
def test_the_test_exists(named):
    path, name = named.split("::")
    tree = ast.parse((ROOT / path).read_text())
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert name in names
