"""The mutation check itself takes minutes; that its table still fits the code is seen with every change."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.mutants import MUTANTS, lost_texts


def test_each_guard_of_the_table_is_in_the_code_exactly_once():
    assert lost_texts(MUTANTS) == []


def test_no_mutant_is_listed_twice_or_leaves_the_guard_as_it_is():
    assert [mutant for mutant, count in Counter(MUTANTS).items() if count > 1 or mutant.old == mutant.new] == []


def test_a_text_that_is_gone_is_told():
    gone = MUTANTS[0].__class__("step.py", "a guard that was", "no such line", "")
    assert lost_texts([gone]) == ["step.py: a guard that was: found 0 times: 'no such line'"]


def test_every_module_with_guards_names_tests_that_exist():
    known = {path.name for path in (Path(__file__).parent / "core").glob("test_*.py")}
    assert [m for m in MUTANTS if not any(part in name for part in m.first for name in known)] == []
