"""The `ems` command loads what is asked for, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent.cli.main import COMMANDS, Group, app

WORDS = [
    [name, *([sub] if sub else [])]
    for name, what in COMMANDS.items()
    for sub in (what.commands if isinstance(what, Group) else [""])
]


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_each_command_is_where_the_table_says_and_introduces_itself(words):
    result = CliRunner().invoke(app, [*words, "--help"])
    assert result.exit_code == 0, result.output
    usage, _, said = result.output.partition("\n")
    assert f" {' '.join(words)} [OPTIONS]" in usage
    assert said.strip()


def test_the_help_names_every_command_in_the_order_of_the_table():
    output = CliRunner().invoke(app, ["--help"]).output
    named = [line.split()[0] for line in output.split("Commands:")[1].splitlines() if line.startswith("  ")]
    assert [name for name in named if name in COMMANDS] == list(COMMANDS)


def test_one_command_does_not_load_the_others():
    code = (
        "import sys\n"
        "from agent.cli.main import app\n"
        "app(['status', '--help'], standalone_mode=False)\n"
        "print(*sorted(name for name in sys.modules if name.startswith('agent.cli.')), file=sys.stderr)\n"
        "print(*(n for n in ('pymodbus', 'scipy', 'rich', 'asyncio', 'structlog', 'paho', 'agent.config') if n in sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded, heavy = done.stderr.splitlines()
    assert "agent.cli.status" in loaded
    assert "agent.cli.devices" not in loaded
    assert "agent.cli.simulate" not in loaded
    assert heavy == ""


def test_a_site_file_of_sunspec_devices_is_read_without_what_reads_profiles():
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from agent.config import load\n"
        "load(Path('config/stand-alone.toml'))\n"
        "print(*sorted(name for name in sys.modules if name in ('drivers.profile.load', 'drivers.profile.writing', 'asyncio')))\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.split() == []


def test_a_word_that_is_nearly_a_command_is_answered_with_that_command():
    result = CliRunner().invoke(app, ["devices", "lst"])
    assert result.exit_code == 2
    assert "Did you mean 'list'" in result.output


def test_a_negative_power_is_no_option():
    result = CliRunner().invoke(app, ["override", "set", "-50", "--reason", "test", "--socket", "/nowhere/s"])
    assert result.exit_code == 3, result.output


def test_reading_events_from_the_disk_does_without_the_writers_of_the_store():
    code = (
        "import sys, agent.store.control_reader\n"
        "print(*(name for name in ('asyncio', 'agent.store.store', 'agent.store.writer', 'agent.core.checkup') if name in sys.modules))\n"
        "from agent.store import Store, Quota\n"
        "print(Store.__module__, Quota.__module__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["", "agent.store.store agent.store.outbox"]
