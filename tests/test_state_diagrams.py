"""The state diagrams of the page are those of the code."""

from __future__ import annotations

import pytest

from tests.state_diagrams import COMMAND, MACHINES, PAGE, SETPOINT, UNIT, Machine, drawn, edges, mermaid, reached


def test_the_page_shows_what_the_code_does():
    text = PAGE.read_text(encoding="utf-8")
    assert drawn(text) == text, "run: python -m tests.state_diagrams"


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_every_state_can_be_left_unless_it_is_an_end(machine):
    left = {before for before, _, _ in edges(machine)}
    assert set(reached(machine)) - left == machine.final


def test_no_setpoint_is_owned_without_a_confirmed_write():
    assert {(before, name) for before, name, then in edges(SETPOINT) if then == "owned"} == {("writing", "confirmed")}


def test_a_unit_at_rest_answers_only_to_a_trial():
    assert {name for before, name, _ in edges(UNIT) if before == "resting"} == {"asked"}


def test_a_command_that_had_effect_is_never_expired():
    assert ("had effect", "expired") not in {(before, then) for before, _, then in edges(COMMAND)}


def test_a_machine_that_does_something_else_is_drawn_otherwise():
    other = Machine("toggle", False, {"press": lambda on: not on}, lambda on: "on" if on else "off", bool)
    assert mermaid(other).splitlines()[1:] == ["    [*] --> off", "    off --> on : press", "    on --> off : press"]
