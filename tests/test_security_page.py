"""The security page names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text()


def test_each_control_names_tests_that_are_there():
    named = set(re.findall(r"`(?:tests/\w+/)?(test_\w+\.py)`", PAGE))
    there = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    assert len(named) > 10
    assert named <= there


def test_each_path_is_right():
    for path in re.findall(r"`(tests/[\w/]+\.py)`", PAGE):
        assert (ROOT / path).is_file(), path


def test_every_kind_of_attacker_has_a_part():
    parts = re.findall(r"^### (.*)", PAGE, re.MULTILINE)
    for who in ("broker", "LAN", "stolen gateway", "inside", "update server", "logs"):
        assert [part for part in parts if who in part], who


def test_each_row_of_what_an_attacker_tries_has_its_test():
    rows = [line for line in PAGE.splitlines() if line.startswith("|") and line.count("|") == 4]
    rows = [
        row for row in rows if not row.startswith(("|---", "| it tries", "| who", "| group", "| root", "| whoever"))
    ]
    assert len(rows) > 30
    assert [row for row in rows if "test" not in row.split("|")[3]] == []
