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
WITHOUT_JSON = {
    "run": "its log is JSON lines",
    "awards evidence": "--format jsonl",
    "telemetry export": "--format jsonl",
    "devices schema": "it prints JSON",
    "plan export": "it prints JSON",
    "contract tables": "it writes into a page",
}
"""Commands without --json, and what programs take instead."""


def walked(folder, state, more=frozenset()):
    """How every command that can meet the state ended, by its name: none hung or broke, each in a code of its help.

    One walk for each test, so that each has its own time, and workers share none.
    """
    command = [sys.executable, str(HELPER), str(folder), state]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=110)
    assert done.stderr == ""
    found = {one["path"]: one for one in map(json.loads, done.stdout.splitlines())}
    assert set(found) == {path for path, command in LEAVES.items() if concerns(state, command)}
    for path, one in found.items():
        assert "Traceback" not in one["out"] + one["err"], one
        assert one["code"] in codes_of(path) | {2} | more, one
    return found


def test_without_the_daemon_each_says_so_or_does_without_and_what_to_do_next(tmp_path):
    found = walked(tmp_path, "down")
    asked = {path: one for path, one in found.items() if one["code"] == 3}
    assert {"status", "devices list", "override set", "plan show"} <= set(asked)
    for one in asked.values():
        assert "there is no such socket" in one["err"]
        assert "next: systemctl status ems-agent" in one["err"]
    for one in found.values():
        assert one["code"] == 0 or one["err"] or one["out"], one


def test_with_json_the_answer_is_one_object_also_when_it_is_an_error(tmp_path):
    found = walked(tmp_path, "json")
    assert LEAVES.keys() - found.keys() == set(WITHOUT_JSON)
    for one in found.values():
        if one["code"] == 2 and not one["out"]:
            continue  # the command line itself was wrong: that is for people
        answer = json.loads(one["out"].splitlines()[-1])
        assert isinstance(answer, dict), one
        if one["code"] == 3:
            assert answer["ok"] is False
            assert {"what", "why", "next"} <= set(answer["error"])


def test_a_broken_site_file_is_named_with_its_fault(tmp_path):
    found = walked(tmp_path, "broken")
    assert {"run", "config check", "doctor", "support-bundle", "simulate"} <= set(found)
    for path, one in found.items():
        if path != "support-bundle":  # it is made for sites that are broken
            assert one["code"] in {1, 4}, one
            assert "is not TOML" in one["out"] + one["err"], one


def test_where_no_file_can_grow_commands_that_only_look_go_on(tmp_path):
    found = walked(tmp_path, "full")
    assert [found[path]["code"] for path in ("config check", "devices profiles", "doctor")] == [0, 0, 1]
    assert "FAILED   service daemon" in found["doctor"]["out"]


def test_an_output_that_takes_nothing_is_told_on_the_other_one(tmp_path):
    found = walked(tmp_path, "mute", {1})
    for path in ("config check", "devices profiles", "devices schema", "doctor"):
        assert found[path]["code"] == 1, found[path]
        assert "No space left on device" in found[path]["err"], found[path]


def test_a_daemon_of_another_version_is_a_fault_with_a_way_on_and_the_doctor_copes(tmp_path):
    found = walked(tmp_path, "empty", {EXIT_FAULT})
    assert found["status"]["code"] == EXIT_FAULT
    assert "daemon of another version" in found["status"]["err"]
    assert "EMS_TRACE=1" in found["status"]["err"]
    assert found["doctor"]["code"] == 1
    assert "it is of another version" in " ".join(found["doctor"]["out"].split())
    assert found["support-bundle"]["code"] == 0


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
