"""The code checks itself: no unfinished work, no rooms without a name, no overlong functions, nothing from outside."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [ROOT / name for name in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines()]
SOURCES = [f for f in FILES if f.suffix == ".py" and f.is_file() and "tests" not in f.relative_to(ROOT).parts]
TEXTS = [f for f in FILES if f.suffix in {".py", ".md", ".toml", ".sh", ".service", ""} and f.is_file()]
MAX_FUNCTION_LINES = 70
MAX_MODULE_LINES = 450
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")
FOREIGN = re.compile(r"/(work|farm)/|\.\./shared|pypi\.org|files\.pythonhosted|registry\.npmjs|deb\.debian\.org")


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_is_something_to_look_at():
    assert len(SOURCES) > 40


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_a_module_is_short_finished_and_introduces_itself(path):
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "the first line of a module says what it knows"
    assert text.count("\n") <= MAX_MODULE_LINES
    assert not UNFINISHED.search(text)
    assert path.stem not in {"utils", "helpers", "manager", "common", "misc"}
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = [f.name for f in functions if (f.end_lineno or 0) - f.lineno > MAX_FUNCTION_LINES]
    assert long == []


@pytest.mark.parametrize("path", [p for p in SOURCES if "core" in p.parts], ids=named)
def test_the_core_never_reads_a_clock(path):
    calls = [ast.unparse(n.func) for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    assert [c for c in calls if c.endswith((".now", ".utcnow", ".today", "time.time", "monotonic"))] == []


@pytest.mark.parametrize("path", [p for p in TEXTS if p != Path(__file__)], ids=named)
def test_nothing_points_outside_the_project(path):
    assert not FOREIGN.search(path.read_text(errors="replace"))
