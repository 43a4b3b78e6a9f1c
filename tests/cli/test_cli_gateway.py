"""`ems update`, `backup`, `restore` and `uninstall`: who may, and in which order; the steps themselves are tried in tests/update
and, on a booted Debian, by make test-install."""

import json
import subprocess
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from agent.cli import uninstall as uninstalling
from agent.cli import update as updating
from agent.cli.main import app
from agent.core.update_steps import End
from agent.update.not_done import NotDone
from agent.update.updating import Result

RUNNER = CliRunner()


def ems(*words):
    done = RUNNER.invoke(app, list(words))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


@pytest.fixture
def root(monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 0)


@pytest.fixture
def commands(monkeypatch):
    """What would have been run, instead of running it."""
    ran = []

    def run(words, **_):
        ran.append(" ".join(words))
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    return ran


@pytest.mark.parametrize(
    "words", [["update", "x.tar"], ["backup"], ["restore", "x"], ["uninstall"]], ids=lambda w: w[0]
)
def test_nobody_but_root_may(monkeypatch, commands, words):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    done = ems(*words, "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["error"]["next"] == f"sudo ems {words[0]} ..."
    assert commands == []


@pytest.mark.parametrize("words", [[], ["x.tar", "--back"], ["--back", "--resume"]])
def test_an_update_is_one_of_three_things(root, words):
    assert ems("update", *words).exit_code == 2


class Updates:
    """Ends as it is told to."""

    def __init__(self, end):
        self.end, self.asked = end, []

    def update(self, bundle, keys, *, unsigned):
        self.asked.append((bundle.name, keys.name, unsigned))
        if self.end is None:
            raise NotDone("update", "nobody signed it", "get a signed one")
        return Result(self.end, "1.0", "1.1", "it does not answer")

    def back(self):
        return Result(self.end, "1.1", "1.0", "")

    def resume(self):
        return None


@pytest.mark.parametrize(
    ("end", "code", "words"),
    [
        (End.UPDATED, 0, "version 1.1 is in use and works; 1.0 is kept"),
        (End.WENT_BACK, 1, "version 1.0 is in use again and works; 1.1 was left because it does not answer"),
        (End.WENT_BACK_UNWELL, 1, "it does not do what it did before either: it does not answer"),
        (End.NOTHING_CHANGED, 1, "nothing was changed, 1.0 is in use: it does not answer"),
        (None, 1, "update: nobody signed it"),
    ],
)
def test_how_an_update_ended_is_told_in_words_and_as_exit_code(root, monkeypatch, end, code, words):
    updates = Updates(end)
    monkeypatch.setattr(updating, "_updating", lambda *_: updates)
    done = ems("update", "b.tar", "--unsigned")
    assert updates.asked == [("b.tar", "update-key.pem", True)]
    assert done.exit_code == code
    assert words in " ".join(done.output.split())


def test_an_update_for_programs(root, monkeypatch):
    monkeypatch.setattr(updating, "_updating", lambda *_: Updates(End.UPDATED))
    assert json.loads(ems("update", "--back", "--json").stdout)["result"]["end"] == "updated"
    assert json.loads(ems("update", "--resume", "--json").stdout)["result"] is None


class Site:
    """A daemon that brings the battery to rest after some looks, or never."""

    def __init__(self, rests_after, mode="control"):
        self.rests_after, self.mode, self.ordered, self.looks = rests_after, mode, [], 0

    def __call__(self, _socket, cmd, **params):
        if cmd == "override_set":
            self.ordered.append(params)
        if cmd == "explain":
            self.looks += 1
        moving_w = 0.0 if self.looks > self.rests_after else 5e4
        return {
            "status": {"mode": self.mode},
            "override_set": {},
            "explain": {
                "shares_w": {"bess": moving_w},
                "last_outcomes": {"bess": {"confirmed": True}},
                "powers_w": {"battery": moving_w},
            },
        }[cmd]


@pytest.fixture
def time_flies(monkeypatch):
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=lambda s: now.__setitem__(0, now[0] + s))
    monkeypatch.setattr(uninstalling, "time", clock)


def test_the_batteries_rest_before_the_agent_is_stopped_and_removed(root, monkeypatch, commands, time_flies):
    site = Site(rests_after=5)
    monkeypatch.setattr(uninstalling, "answers", site)
    done = ems("uninstall", "--json")
    assert json.loads(done.stdout)["result"]["neutral"] is True
    assert (site.ordered[0]["power_w"], site.looks) == (0.0, 6)
    assert commands == ["systemctl stop ems-agent", f"/bin/sh {uninstalling.INSTALLER} --remove"]


def test_where_they_do_not_rest_nothing_is_removed(root, monkeypatch, commands, time_flies):
    monkeypatch.setattr(uninstalling, "answers", Site(rests_after=10_000))
    done = ems("uninstall")
    assert (done.exit_code, commands) == (1, [])
    assert "bess has a setpoint that is not 0 kW" in done.output


def test_with_force_it_is_removed_and_said_that_nothing_is_proven(root, monkeypatch, commands, time_flies):
    monkeypatch.setattr(uninstalling, "answers", Site(rests_after=10_000))
    done = ems("uninstall", "--force")
    assert (done.exit_code, len(commands)) == (0, 2)
    assert "not proven: bess has a setpoint that is not 0 kW" in done.output


def test_an_agent_that_does_not_answer_proves_nothing(root, monkeypatch, commands):
    def silent(*_, **__):
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(uninstalling, "answers", silent)
    done = ems("uninstall")
    assert (done.exit_code, commands) == (1, [])
    assert "does not answer" in done.output


def test_an_agent_that_only_reads_moves_nothing(root, monkeypatch, commands, time_flies):
    site = Site(rests_after=10_000, mode="read_only")
    monkeypatch.setattr(uninstalling, "answers", site)
    assert ems("uninstall").exit_code == 0
    assert site.ordered == []
