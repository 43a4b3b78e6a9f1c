"""Every command of `ems`, in every state that somebody will meet, ends in a useful answer and a documented code."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cli_every_command import LEAVES, PAGE, ROW, codes_of, concerns, page_rows
from typer.testing import CliRunner

from agent.cli.exits import EXIT_FAULT, EXITS
from agent.cli.main import app

HELPER = Path(__file__).with_name("cli_every_command.py")
STATES = ("down", "json", "broken", "full", "mute", "empty")
WITHOUT_JSON = {
    "run": "its log is JSON lines",
    "awards evidence": "--format jsonl",
    "telemetry export": "--format jsonl",
    "devices schema": "it prints JSON",
    "plan export": "it prints JSON",
    "contract tables": "it writes into a page",
}
"""Commands without --json, and what programs take instead."""


@pytest.fixture(scope="module")
def walks(tmp_path_factory):
    """How every command ended, by (state, command)."""
    command = [sys.executable, str(HELPER), str(tmp_path_factory.mktemp("walk")), *STATES]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=110)
    assert done.stderr == ""
    found = [json.loads(line) for line in done.stdout.splitlines()]
    wanted = {(state, path) for state in STATES for path, command in LEAVES.items() if concerns(state, command)}
    assert {(one["state"], one["path"]) for one in found} == wanted
    return {(one["state"], one["path"]): one for one in found}


@pytest.mark.parametrize("state", STATES)
def test_no_command_shows_a_traceback_or_hangs_and_each_ends_in_a_code_that_its_help_names(walks, state):
    allowed = {2, EXIT_FAULT} if state == "empty" else {2, 1} if state == "mute" else {2}
    for path in (path for name, path in walks if name == state):
        one = walks[state, path]
        assert "Traceback" not in one["out"] + one["err"], one
        assert one["code"] in codes_of(path) | allowed, one


def test_without_the_daemon_each_says_so_or_does_without_and_what_to_do_next(walks):
    asked = {path: one for path in LEAVES if (one := walks["down", path])["code"] == 3}
    assert {"status", "devices list", "override set", "plan show"} <= set(asked)
    for one in asked.values():
        assert "there is no such socket" in one["err"]
        assert "next: systemctl status ems-agent" in one["err"]
    for path in LEAVES:
        one = walks["down", path]
        assert one["code"] == 0 or one["err"] or one["out"], one


def test_with_json_the_answer_is_one_object_also_when_it_is_an_error(walks):
    without = {path for path in LEAVES if ("json", path) not in walks}
    assert without == set(WITHOUT_JSON)
    for path in LEAVES.keys() - without:
        one = walks["json", path]
        if one["code"] == 2 and not one["out"]:
            continue  # the command line itself was wrong: that is for people
        answer = json.loads(one["out"].splitlines()[-1])
        assert isinstance(answer, dict), one
        if one["code"] == 3:
            assert answer["ok"] is False
            assert {"what", "why", "next"} <= set(answer["error"])


def test_a_broken_site_file_is_named_with_its_fault(walks):
    takes_one = [path for state, path in walks if state == "broken"]
    assert {"run", "config check", "doctor", "support-bundle", "simulate"} <= set(takes_one)
    for path in takes_one:
        one = walks["broken", path]
        if path != "support-bundle":  # it is made for sites that are broken
            assert one["code"] in {1, 4}, one
            assert "is not TOML" in one["out"] + one["err"], one


def test_where_no_file_can_grow_commands_that_only_look_go_on(walks):
    for path in ("config check", "devices profiles", "doctor"):
        assert walks["full", path]["code"] == walks["down", path]["code"]
    assert walks["full", "support-bundle"]["code"] in {0, 1}


def test_an_output_that_takes_nothing_is_told_on_the_other_one(walks):
    spoken = [path for path in LEAVES if walks["down", path]["out"]]
    assert {"config check", "devices profiles"} <= set(spoken)
    for path in spoken:
        one = walks["mute", path]
        assert one["code"] == 1, one
        assert "No space left on device" in one["err"], one


def test_a_daemon_of_another_version_is_a_fault_with_a_way_on(walks):
    assert walks["empty", "status"]["code"] == EXIT_FAULT
    assert "daemon of another version" in walks["empty", "status"]["err"]
    assert "EMS_TRACE=1" in walks["empty", "status"]["err"]


def test_the_doctor_and_the_bundle_work_beside_a_daemon_of_another_version(walks):
    assert walks["empty", "doctor"]["code"] == 1
    assert "it is of another version" in walks["empty", "doctor"]["out"].replace("\n         ", " ")
    assert walks["empty", "support-bundle"]["code"] == 0


@pytest.mark.parametrize("path", LEAVES)
def test_each_help_teaches(path):
    command = LEAVES[path]
    assert len((command.help or "").split()) >= 6, "say what it does and when it helps"
    assert codes_of(path) <= set(EXITS)
    for one in command.params:
        if one.name != "help" and one.param_type_name == "option":
            assert one.help, f"{path} {one.opts[0]} has no help"


def test_the_page_of_commands_has_each_with_its_words_and_codes():
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith(ROW)]
    assert rows == list(page_rows()), f"python {HELPER} page renews it"


def test_the_page_names_every_exit_code_with_its_meaning():
    text = PAGE.read_text()
    for code, meaning in EXITS.items():
        assert f"| {code} | {meaning} |" in text


def test_the_tab_key_completes_commands_in_bash_and_zsh():
    script = CliRunner().invoke(app, [], env={"_EMS_COMPLETE": "source_bash"}, prog_name="ems").output
    assert "complete -o default -F _ems_completion ems" in script
    words = {"_EMS_COMPLETE": "complete_bash", "COMP_WORDS": "ems devices re", "COMP_CWORD": "2"}
    assert CliRunner().invoke(app, [], env=words, prog_name="ems").output.split() == ["read"]
    words = {"_EMS_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "ems overr"}
    assert "override" in CliRunner().invoke(app, [], env=words, prog_name="ems").output
