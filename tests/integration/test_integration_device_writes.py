"""Points written by hand through the running daemon, to a SunSpec battery and to one with a profile."""

import itertools
import json
import os
import pty
import pwd
import subprocess
import sys
import time

import pytest
from integration_acme import FAN, LIMIT, MODE, SETPOINT, SITE_FILE, acme_agent, in_control
from integration_site import award, ems, orders, until

FOR_A_MINUTE_S = 60.0
VERSIONS = itertools.count(1)


@pytest.fixture(scope="module")
def acme(module_parts):
    return module_parts.acme()


@pytest.fixture(scope="module")
def agent(module_parts, acme):
    plant = module_parts.plant()
    agent = in_control(acme_agent(module_parts.agent, plant, acme), acme)
    agent.plant = plant
    return agent


def write(agent, device, point, value, *more):
    return ems("devices", "write", device, point, "--yes", *more, "--", value, socket_path=agent.socket)


def event_of(agent, point, new):
    """The newest event of this write, of whichever order events come in."""

    def found():
        return [e for e in agent.events("point_written") if (e["data"]["point"], e["data"]["new"]) == (point, new)]

    return until(found, f"{point} written is an event")[-1]


def test_a_setting_of_a_profile_is_written_read_back_and_kept_as_an_event(agent, acme):
    held, taken = acme.registers[FAN], len(acme.written_to(FAN))
    wanted = 55 if held != 55 else 56
    done = write(agent, "acme", "fan", str(wanted))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"acme fan: {held} % -> {wanted} %, confirmed by read-back\n"
    assert acme.registers[FAN] == wanted
    assert acme.written_to(FAN)[taken:] == [wanted]
    event = event_of(agent, "fan", wanted)
    assert (event["subject"], event["severity"], event["state"]) == ("acme", "warning", "noted")
    who = pwd.getpwuid(os.geteuid()).pw_name
    values = {"old": held, "new": wanted, "seen": wanted}
    assert event["data"] == {"who": who, "point": "fan", "reason": "", **values}
    assert event["text"] == f"{who} wrote fan: {held} to {wanted} %, confirmed"


def test_what_it_holds_already_is_not_written_again(agent, acme):
    count = len(acme.written_to(FAN))
    held = acme.registers[FAN]
    done = write(agent, "acme", "fan", str(held))
    assert (done.returncode, done.stdout) == (0, f"acme fan holds {held} % already: nothing was written\n")
    assert len(acme.written_to(FAN)) == count


def test_a_point_of_a_sunspec_device_is_written_by_its_name(agent):
    done = write(agent, "bess", "715.OpCtl", "0", "--json")
    assert done.returncode == 0
    told = json.loads(done.stdout)["result"]
    assert (told["point"], told["old"], told["new"], told["seen"]) == ("715.OpCtl", 1, 0, 0)
    assert (told["written"], told["confirmed"]) == (True, True)
    assert event_of(agent, "715.OpCtl", 0)["subject"] == "bess"
    assert write(agent, "bess", "715.OpCtl", "1").returncode == 0
    assert write(agent, "bess", "704.WSetPct", "-12.5").stdout == (
        "bess 704.WSetPct: 0 Pct -> -12.5 Pct, confirmed by read-back\n"
    )
    assert write(agent, "bess", "704.WSetPct", "0").returncode == 0


@pytest.mark.parametrize(
    ("device", "point", "value", "why", "hint"),
    [
        ("none", "fan", "50", "there is no device 'none' at this site", "name one of bess, acme, grid-meter"),
        ("acme", "none", "50", "the profile has no point 'none'", "lets these be written: mode, setpoint, fan, limit"),
        ("acme", "soc", "50", "soc is not declared writable in the profile", "lets these be written"),
        ("acme", "far", "2", "nobody has confirmed far yet", "lets these be written"),
        ("acme", "free", "2", "nobody stated which values free may take", "state write_range"),
        ("acme", "fan", "81", "fan: 81 % is refused: the device takes 20 to 80", "give a value inside"),
        ("acme", "fan", "fast", "'fast' is not a number", "such as 12, -3.5 or 0x2A"),
        ("acme", "fan", "nan", "'nan' is not a number", "such as 12"),
        ("acme", "setpoint", "100001", "outside -100000 to 100000 W, the rated_power of the site file", "inside"),
        ("acme", "mode", "fast", "mode: 'fast' is none of its values", "write one of own (0), remote (1)"),
        ("acme", "mode", "own", "the control owns this point and writes it itself", "ems override set 0 --for 10m"),
        ("acme", "setpoint", "1000", "the control owns this point and writes it itself", "ems override set 0 --for 10m"),
        ("bess", "704.WSet", "1000", "the control owns this point and writes it itself", "ems override set 0 --for 10m"),
        ("bess", "715.ControllerHb", "1", "the control owns this point", "ems override set 0 --for 10m"),
        ("bess", "713.SoC", "50", "SunSpec does not declare 713.SoC writable", "of model 713 these are: "),
        ("bess", "704.None", "50", "the device has no point '704.None'", "can be written to: "),
        ("bess", "704.WSetPct", "100.5", "is outside -100 to 100 %, what a percentage can be", "give a value inside"),
        ("bess", "704.VarSetPct", "5", "704.VarSetPct reads as not implemented", "ems devices read bess 704 shows"),
        ("bess", "702.WMax", "600000", "is outside -500000 to 500000 W, the rating of the device", "inside"),
        ("grid-meter", "203.W", "0", "SunSpec does not declare 203.W writable", "these are: none"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_why_and_what_to_do_and_nothing_is_written(agent, acme, device, point, value, why, hint):
    mode, fan = acme.registers[MODE], acme.written_to(FAN)
    done = write(agent, device, point, value)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("ems: devices write: ")
    assert why in done.stderr
    assert f"next: {hint}" in done.stderr or hint in done.stderr.partition("next: ")[2]
    assert (acme.registers[MODE], acme.written_to(FAN)) == (mode, fan)


def test_a_register_that_wears_out_is_written_within_its_budget_only(agent, acme):
    for value in ("110", "120"):
        assert write(agent, "acme", "limit", value).returncode == 0
    done = write(agent, "acme", "limit", "130")
    assert done.returncode == 1
    assert "its writes of the last 24 h are spent" in done.stderr
    assert acme.written_to(LIMIT) == [110, 120]


def test_what_is_taken_and_not_applied_is_told(agent, acme):
    acme.ignored.add(FAN)
    before = acme.registers[FAN]
    done = write(agent, "acme", "fan", "77")
    acme.ignored.clear()
    assert done.returncode == 1
    assert "NOT confirmed: accepted but not applied: fan" in done.stdout
    event = event_of(agent, "fan", 77)
    assert (event["data"]["seen"], "not applied" in event["data"]["reason"]) == (before, True)


def test_nobody_is_asked_where_nobody_is_there(agent, acme):
    before = acme.written_to(FAN)
    done = ems("devices", "write", "acme", "fan", "66", socket_path=agent.socket)
    assert (done.returncode, done.stdout) == (2, "")
    assert "nobody is there to agree to it" in done.stderr
    assert "next: add --yes" in done.stderr
    assert acme.written_to(FAN) == before


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1)])
def test_somebody_at_a_terminal_is_shown_what_would_be_written_and_asked(agent, acme, answer, code):
    held = acme.registers[FAN]
    wanted = 30 if held != 30 else 31
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "agent.cli.main", "devices", "write", "acme", "fan", str(wanted)]
    environment = {**os.environ, "EMS_SOCKET": str(agent.socket)}
    process = subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    os.close(theirs)
    os.write(ours, f"{answer}\n".encode())
    shown, _ = process.communicate(timeout=30)
    os.close(ours)
    assert process.returncode == code
    lines = shown.decode().splitlines()
    assert lines[0] == f"acme fan: {held} % -> {wanted} %"
    assert lines[1] == f"    register 22 of unit 7 = {wanted:04X}"
    assert "Write it? [y/N]" in lines[2]
    assert acme.registers[FAN] == (wanted if answer == "y" else held)


def test_while_an_award_is_in_force_nothing_is_written(agent, acme):
    before = acme.written_to(FAN)
    now = time.time()
    agent.import_plan(orders("awards", next(VERSIONS), [award("eprx-1", 10.0, now - 1, now + FOR_A_MINUTE_S)]))
    until(lambda: agent.awards()["awards"], "the award is held")
    done = write(agent, "acme", "fan", "61")
    assert done.returncode == 1
    assert "fan of acme: the award eprx-1 is in force" in done.stderr
    assert acme.written_to(FAN) == before
    agent.import_plan(orders("awards", next(VERSIONS), []))
    until(lambda: write(agent, "acme", "fan", "61").returncode == 0, "after it everything may be written again")


def test_in_an_override_what_the_control_owns_may_be_written_and_the_control_puts_it_back(agent, acme):
    refused = write(agent, "acme", "setpoint", "1000")
    assert "the control owns this point" in refused.stderr
    override = ems("override", "set", "0", "--for", "60s", "--reason", "a test", socket_path=agent.socket)
    assert override.returncode == 0, override.stderr
    done = write(agent, "acme", "setpoint", "1000")
    assert (done.returncode, done.stdout) == (0, "acme setpoint: 0 W -> 1000 W, confirmed by read-back\n")
    until(lambda: acme.registers[SETPOINT] == 0, "the control writes its own setpoint again")
    assert ems("override", "clear", socket_path=agent.socket).returncode == 0
    assert "the control owns this point" in write(agent, "acme", "setpoint", "1000").stderr


def test_an_override_that_suspends_awards_lets_writes_through(agent, acme):
    now = time.time()
    held = [award("eprx-2", 10.0, now - 1, now + FOR_A_MINUTE_S)]
    agent.import_plan(orders("awards", next(VERSIONS), held))
    until(lambda: write(agent, "acme", "fan", "62").returncode == 1, "the award is in force")
    words = ("override", "set", "0", "--for", "60s", "--reason", "a test")
    assert ems(*words, socket_path=agent.socket).returncode == 0
    assert "the award eprx-2 is in force" in write(agent, "acme", "fan", "62").stderr, "it is still answered"
    assert ems(*words, "--suspend-awards", socket_path=agent.socket).returncode == 0
    assert write(agent, "acme", "fan", "62").returncode == 0
    assert ems("override", "clear", socket_path=agent.socket).returncode == 0
    agent.import_plan(orders("awards", next(VERSIONS), []))
    until(lambda: write(agent, "acme", "fan", "61").returncode == 0, "after it everything may be written again")


def test_an_agent_that_only_reads_writes_nothing_by_hand_either(parts, acme):
    text = SITE_FILE.replace('tick = "200 ms"', 'tick = "200 ms"\nmode = "read_only"')
    agent = acme_agent(parts.agent, parts.plant(), acme, text=text).start()
    before = list(acme.writes)
    done = write(agent, "acme", "fan", "63")
    assert done.returncode == 1
    assert "read-only mode" in done.stderr
    assert [one for one in acme.writes if one not in before and one[0] == FAN] == []


def test_without_a_daemon_it_says_so(tmp_path):
    done = ems("devices", "write", "acme", "fan", "60", "--yes", socket_path=tmp_path / "none.sock")
    assert done.returncode == 3
    assert "the daemon is not running" in done.stderr


def test_the_control_is_left_alone_by_all_of_this(agent, acme):
    assert acme.registers[MODE] == 1
    assert acme.registers[SETPOINT] == 0
    assert agent.process.poll() is None
