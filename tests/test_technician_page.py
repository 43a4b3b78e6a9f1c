"""The technician's page fits into the bag, and names no command that there is not."""

import re
from pathlib import Path

from agent.cli.main import COMMANDS, Group

TEXT = (Path(__file__).parents[1] / "docs" / "technician.md").read_text()
MOST_WORDS = 700
"""One side of A4 in a size that can be read at a cabinet; 652 words were printed so."""


def test_it_is_one_page():
    assert len(TEXT.split()) <= MOST_WORDS, "what is more belongs into commands.md, devices.md or operator.md"


def test_each_command_on_it_exists():
    named = re.findall(r"(?:`|^    )ems ([a-z-]+)(?: ([a-z-]+))?", TEXT, re.MULTILINE)
    assert len(named) > 20
    for command, sub in named:
        found = COMMANDS[command]
        if isinstance(found, Group) and sub:
            assert sub in found.commands, f"ems {command} {sub}"
