"""The reason codes: one list, which the docs hold whole and the code uses whole, and nothing else anywhere."""

import ast
import re
from pathlib import Path

import pytest

from agent.core.admission import Refused
from agent.core.command_book import Ended
from agent.core.reasons import (
    COMMAND_ENDS,
    COMMANDS_ONLY,
    DOCUMENTS_AND_COMMANDS,
    DOCUMENTS_ONLY,
    REASONS,
)
from agent.core.records import Stage

ROOT = Path(__file__).parents[2]
TABLE = re.search(r"\| reason \| what it means.*?(?=\n\n)", (ROOT / "docs/contract.md").read_text(), re.DOTALL)[0]
TOLD = [code for line in TABLE.splitlines()[2:] for code in re.findall(r"`([a-z_]+)`", line.split("|")[1])]


def spoken():
    """Every string that the agent's code holds, but for the list itself."""
    trees = (ast.parse(path.read_text()) for path in (ROOT / "agent").rglob("*.py") if path.name != "reasons.py")
    return {node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)}


def test_the_contract_explains_every_reason_and_no_other():
    assert sorted(TOLD) == sorted(REASONS)


def test_every_reason_is_given_somewhere():
    assert set(REASONS) - spoken() == set()


def test_every_reason_that_the_code_names_as_one_is_in_the_list():
    named = set()
    for path in (ROOT / "agent").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Refused":
                first = node.args[0] if node.args else None
                if isinstance(first, ast.Constant):
                    named.add(first.value)
    assert len(named) > 30
    assert named <= REASONS


def test_a_reason_belongs_to_one_part_of_the_list():
    parts = (DOCUMENTS_AND_COMMANDS, DOCUMENTS_ONLY, COMMANDS_ONLY, COMMAND_ENDS)
    assert sum(map(len, parts)) == len(REASONS)


def test_no_message_can_be_refused_and_no_command_ended_for_anything_else():
    with pytest.raises(AssertionError, match="because"):
        Refused("because", None, "")
    with pytest.raises(AssertionError, match="because"):
        Ended(None, Stage.FAILED, None, "because")
