"""`ems devices list`: one glance at every device and its link."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from agent.cli import devices_list
from agent.cli.main import app

UNIT = {"state": "answering", "waits_up_to_ms": 300.0, "usually_ms": 10.0, "failures_in_a_row": 0, "retry_in_s": None}
COUNTED = {"timeouts": 2, "refusals": 0, "bad_replies": 1, "late_replies": 0, "reconnects": 0}
LINK = {"connected": True, "connected_s": 130.0, "local_echo": False} | COUNTED
GOOD = {
    "device_id": "bess", "role": "battery", "maker": "Acme", "profile": "acme", "identity": "Acme X1 serial 7",
    "endpoint": "tcp://10.0.0.5:502 unit 1", "health": "good", "stranger": None, "age_s": 0.4,
    "latency_ms": {"median": 8.4, "p95": 12.6}, "last_hour": {"polls": 400, "errors": {}, "error_pct": 0.0},
    "last_error": None, "refused": {}, "remote": True, "dead_man": True, "unit": UNIT,
    "link": LINK | dict.fromkeys(COUNTED, 0),
}  # fmt: skip


@pytest.fixture
def listed(monkeypatch):
    """What the command prints of these devices."""

    def run(*devices, words=()):
        monkeypatch.setattr(devices_list, "ask", lambda *_, **__: list(devices))
        told = CliRunner().invoke(app, ["devices", "list", *words])
        assert told.exit_code == 0
        return told.output

    return run


def test_a_good_device_says_so_in_six_lines(listed):
    assert listed(GOOD).splitlines() == [
        "bess             battery  good     read 0.4 s ago in 8 ms (p95 13 ms)",
        "    Acme X1 serial 7, profile acme",
        "    tcp://10.0.0.5:502 unit 1, connected for 2 min; no trouble since the start",
        "    last hour: 400 polls, no error",
        "    unit answering; waited for up to 300 ms, usually 10 ms",
        "    remote, dead-man",
    ]


def test_an_adapter_that_hears_itself_is_told(listed):
    lines = listed(GOOD | {"link": GOOD["link"] | {"local_echo": True}}).splitlines()
    assert (
        "  ".join(lines[2:4])
        .replace("        ", " ")
        .endswith("no trouble since the start; the adapter hears itself (local echo, left out)")
    )


def test_errors_are_told_by_kind_with_their_share_and_the_last_one_whole(listed):
    hour = {"polls": 400, "errors": {"timeout": 3, "bad answer": 1}, "error_pct": 1.0}
    lines = listed(
        GOOD | {"health": "failing", "last_hour": hour, "link": LINK, "last_error": "no answer"}
    ).splitlines()
    assert lines[0].startswith("bess             battery  failing  ")
    assert lines[2:4] + lines[6:] == [
        "    tcp://10.0.0.5:502 unit 1, connected for 2 min; 2 timeouts, 1 bad answers",
        "      since the start",
        "    remote, dead-man",
        "    no answer",
    ]
    assert lines[4] == "    last hour: 400 polls, 4 failed (1.0 %): 3 timeout, 1 bad answer"


def test_a_device_that_never_answered_has_no_figures(listed):
    never = GOOD | {
        "health": "unknown", "identity": None, "age_s": None, "latency_ms": {"median": None, "p95": None},
        "last_hour": {"polls": 0, "errors": {}, "error_pct": None}, "remote": None, "dead_man": None, "profile": None,
        "link": LINK | {"connected": False, "connected_s": None} | dict.fromkeys(COUNTED, 0),
        "unit": UNIT | {"state": "unknown", "waits_up_to_ms": 1000.0, "usually_ms": None},
    }  # fmt: skip
    lines = listed(never).splitlines()
    assert lines[0] == "bess             battery  unknown  never read"
    assert lines[1] == "    Acme, found by its SunSpec models"
    assert "NOT connected" in lines[2]
    assert lines[3:] == ["    not polled yet", "    unit unknown; waited for up to 1000 ms"]


def test_what_a_technician_must_see_is_in_capitals(listed):
    odd = GOOD | {"health": "wrong_identity", "stranger": "another one", "remote": False, "dead_man": False}
    lines = listed(odd | {"last_error": "another one", "refused": {"soh": "exception 2"}}).splitlines()
    assert lines[0].startswith("bess             battery  WRONG_IDENTITY read")
    assert lines[5:] == [
        "    LOCAL: it takes no setpoints, NO dead-man",
        "    another one",
        "    not offered: soh: exception 2",
    ]


def test_a_unit_that_is_left_alone_says_until_when(listed):
    resting = UNIT | {"state": "resting", "failures_in_a_row": 4, "retry_in_s": 1.8}
    lines = listed(GOOD | {"health": "failing", "unit": resting}).splitlines()
    assert lines[4] == "    unit LEFT ALONE after 4 failures in a row: next trial in 1.8 s"
    lines = listed(GOOD | {"health": "failing", "unit": resting | {"state": "probing"}}).splitlines()
    assert lines[4] == "    unit LEFT ALONE after 4 failures in a row: one trial under way"


def test_programs_get_everything(listed):
    assert json.loads(listed(GOOD, words=["--json"]))["result"] == {"devices": [GOOD]}
