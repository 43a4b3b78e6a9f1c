"""What goes over the line to one device of a running daemon, decoded for a technician."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from integration_acme import acme_agent, in_control
from integration_site import ems, until


@pytest.fixture(scope="module")
def acme(module_parts):
    return module_parts.acme()


@pytest.fixture(scope="module")
def agent(module_parts, acme):
    return in_control(acme_agent(module_parts.agent, module_parts.plant(), acme), acme)


def traced(agent, device, *endings):
    """The lines of a trace that is ended by Ctrl-C as soon as one with each of these endings has come."""
    command = [sys.executable, "-m", "agent.cli.main", "devices", "trace", device, "--seconds", "60"]
    environment = {**os.environ, "EMS_SOCKET": str(agent.socket), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as tracing:
        lines, missing = [], set(endings)
        while missing:
            lines.append(tracing.stdout.readline())
            assert lines[-1], f"it ended without {missing}"
            missing = {ending for ending in missing if not lines[-1].endswith(ending + "\n")}
        tracing.send_signal(signal.SIGINT)
        lines.append(tracing.communicate(timeout=20)[0])
    assert tracing.returncode == 0
    return "".join(lines)


def test_each_request_and_answer_is_shown_with_points_and_values(agent):
    asked = " > unit 7 read holding 20+2"
    text = traced(agent, "acme", asked, " < unit 7 read holding 20+2: mode 1 (remote), setpoint 0 W")
    assert all(len(line) < 80 for line in text.splitlines())


def test_a_sunspec_device_is_shown_by_models_and_points(agent):
    text = " ".join(traced(agent, "grid-meter", "without a value").split())
    assert "203.Hz 50 Hz, 203.Hz_SF -2, 203.W " in text


def test_an_exception_is_told_with_its_meaning(agent):
    def refused():
        points = agent.ask("device_read", device_id="acme", points=["gone"])["result"]["points"]
        return "exception 2" in points[0]["note"]

    with ThreadPoolExecutor(1) as beside:
        wanted = "< unit 7 EXCEPTION 2 (illegal data address) to read holding 40"
        tracing = beside.submit(traced, agent, "acme", wanted)
        until(lambda: refused() and tracing.done(), "it is seen")
        tracing.result()


def test_a_reader_who_has_seen_enough_is_not_told_that_the_daemon_is_away(agent):
    command = [sys.executable, "-m", "agent.cli.main", "devices", "trace", "acme", "--seconds", "30"]
    looking = subprocess.Popen(
        [*command, "--socket", str(agent.socket)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with looking:
        assert looking.stdout.readline()
        looking.stdout.close()
        assert looking.wait(20) == 1
        assert "cannot ask the daemon" not in looking.stderr.read()


def test_for_programs_there_is_every_byte(agent):
    def answer():
        done = ems("devices", "trace", "acme", "--seconds", "1", "--json", socket_path=agent.socket)
        found = json.loads(done.stdout)["result"]
        assert (found["device"]["device_id"], found["dropped"]) == ("acme", 0)
        assert {frame["unit_id"] for frame in found["frames"]} <= {7}
        return next((frame for frame in found["frames"] if frame["registers"] and frame["address"] == 20), None)

    answer = until(answer, "a second with an answer in it")
    assert bytes.fromhex(answer["bytes"])[6:] == bytes([7, 3, 4, 0, 1, 0, 0])


def test_a_file_for_a_support_ticket_says_who_the_device_is_and_which_software_runs(agent, tmp_path):
    file = tmp_path / "trace.txt"
    done = ems("devices", "trace", "acme", "--seconds", "1", "--out", str(file), socket_path=agent.socket)
    assert done.returncode == 0
    assert done.stdout.endswith(f"frames written to {file}\n")
    head, _, frames = file.read_text().partition("\n\n")
    assert {"device_id: acme", "profile: acme", "identity: Acme X1", "site: test-01"} <= set(head.splitlines())
    assert "version: " in head
    assert "unit 7 read holding" in frames


def test_nobody_looks_means_nothing_is_kept(agent):
    link_is_quiet = agent.ask("device_trace", device_id="acme", seconds=0.2)["result"]["trace"]
    until(lambda: agent.ask("device_trace_more", trace=link_is_quiet)["result"]["over"], "it is over")
    gone = agent.ask("device_trace_more", trace=link_is_quiet)
    assert gone["error"]["why"] == f"there is no trace {link_is_quiet} any more"


def test_only_so_many_traces_run_at_once_and_a_stopped_one_makes_room(agent):
    begun = []

    def refused():
        for number in begun:
            agent.ask("device_trace_more", trace=number)
        asked = agent.ask("device_trace", device_id="acme", seconds=600)
        if asked["ok"]:
            begun.append(asked["result"]["trace"])
        return len(begun) == 4 and not asked["ok"] and asked["error"]

    error = until(refused, "those of the tests before are over, and four of these run")
    assert error["why"] == "4 traces run already"
    for number in begun:
        agent.ask("device_trace_stop", trace=number)
        until(lambda n=number: agent.ask("device_trace_more", trace=n)["result"]["over"], "over")
    assert agent.ask("device_trace", device_id="bess", seconds=0.1)["ok"]


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"device_id": "none", "seconds": 1}, "there is no device 'none' at this site"),
        ({"device_id": "acme", "seconds": 0}, "seconds must be a number above 0"),
        ({"device_id": "acme", "seconds": 601}, "at most 600"),
        ({"device_id": "acme", "seconds": "long"}, "seconds must be a number"),
        ({"device_id": "acme"}, "seconds must be a number"),
    ],
)
def test_a_bad_request_is_refused_with_a_reason(agent, asked, why):
    assert why in agent.ask("device_trace", **asked)["error"]["why"]


def test_a_file_that_cannot_be_written_is_told_before_the_trace(agent, tmp_path):
    done = ems("devices", "trace", "acme", "--out", str(tmp_path / "no" / "t.txt"), socket_path=agent.socket)
    assert done.returncode == 2
    assert "No such file or directory" in done.stderr


def test_without_a_daemon_a_trace_says_so(tmp_path):
    for words in (("trace", "acme"), ("list",), ("read", "acme"), ("check", "acme")):
        done = ems("devices", *words, socket_path=tmp_path / "none.sock")
        assert done.returncode == 3
        assert "the daemon is not running" in done.stderr
        assert "without it: ems devices scan HOST" in done.stderr
