"""`ems devices`: what a device author and a technician see."""

from __future__ import annotations

import json
import ssl
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from agent.cli import devices
from agent.cli.main import app
from drivers.profile.load import shipped
from simulators.modbus_server import ILLEGAL_ADDRESS, ModbusServer, RequestRefusedError
from tests.in_thread import InThread
from tests.own_ca import Authority

PROFILE = """
schema = 1
[about]
maker = "Acme"
models = ["X1"]
source = "Acme map 1.4"
date = 2026-11-21
[identity]
check = [{ point = "kind", is = 7 }]
[points]
kind = { address = 10, type = "u16" }
power = { address = 11, type = "i16", scale = 100, unit = "W", positive = "charge" }
soc = { address = 12, type = "u16", scale = 0.1, unit = "%", plausible = [0, 100] }
state = { address = 13, type = "enum16", values = { standby = 1, running = 2 } }
name = { address = 30, type = "string", length = 4 }
far = { address = 90, type = "u16" }
key = { address = 40, type = "u16", write = "command", readable = false }
[battery]
power_w = "power"
soc_pct = "soc"
"""


class Bank:
    """Registers that only answer reads."""

    def __init__(self, registers):
        self.registers = registers

    def read(self, address, count):
        try:
            return b"".join(self.registers[at].to_bytes(2, "big") for at in range(address, address + count))
        except KeyError:
            raise RequestRefusedError(ILLEGAL_ADDRESS) from None


REGISTERS = {10: 7, 11: 0xFFE7, 12: 1234, 13: 2, **dict.fromkeys(range(14, 30), 0), 30: 0x4142, 31: 0, 32: 0, 33: 0}


@contextmanager
def device(registers=REGISTERS, tls=None):
    """The url of a device with these registers, served from a thread of its own: the command has its own loop."""
    with InThread(ModbusServer({1: Bank(registers)}, tls=tls)) as server:
        yield f"{'tcp' if tls is None else 'tls'}://127.0.0.1:{server.port}"


def run(*words):
    return CliRunner().invoke(app, ["devices", *map(str, words)])


@pytest.fixture
def profile(tmp_path):
    path = tmp_path / "acme.toml"
    path.write_text(PROFILE)
    return path


def test_reading_shows_value_raw_registers_age_and_quality(profile):
    with device() as url:
        told = run("read", "--profile", profile, "--url", url)
    assert told.exit_code == 0
    lines = told.output.splitlines()
    assert lines[0] == "Acme: it is what is expected"
    assert lines[2].startswith("power  -2500 W  [FFE7]  ")
    assert lines[2].endswith(" ms  good")
    assert "soc    -  [04D2]" in lines[3]
    assert lines[3].endswith("implausible")
    assert "state  2 (running)  [0002]" in lines[4]
    assert "name   AB  [4142 0000 0000 0000]" in lines[5]
    assert lines[6] == "far    -  missing"
    assert "refused with exception 2" in " ".join(" ".join(lines[7:]).split())
    assert not any(line.startswith("key") for line in lines)
    assert all(len(line) < 80 for line in lines)


def test_a_device_behind_tls_is_read_with_both_certificates_and_not_without(profile, tmp_path):
    authority = Authority(tmp_path)
    theirs, their_key, _ = authority.issue("device", server=True)
    ours, our_key, _ = authority.issue("agent")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.path)
    context.load_cert_chain(theirs, their_key)
    with device(tls=context) as url:
        given = ("--tls-ca", authority.path, "--tls-certificate", ours, "--tls-key", our_key)
        told = run("read", "power", "--profile", profile, "--url", url, *given)
        without = run("read", "power", "--profile", profile, "--url", url)
    assert "power  -2500 W" in told.output
    assert (without.exit_code, "needs --tls-ca, --tls-certificate and --tls-key" in without.output) == (2, True)


def test_one_point_for_programs(profile):
    with device() as url:
        told = run("read", "power", "--profile", profile, "--url", url, "--json")
    (point,) = json.loads(told.output)["result"]["points"]
    assert (point["value"], point["unit"], point["raw"], point["registers"]) == (-2500.0, "W", -25, [0xFFE7])
    assert 0.0 <= point["age_s"] < 5.0
    assert point["quality"] == "good"


def test_another_device_is_named_and_fails_the_command(profile):
    with device({**REGISTERS, 10: 8}) as url:
        told = run("read", "--profile", profile, "--url", url)
    assert told.exit_code == 1
    assert told.output.startswith("not what is expected (Acme): kind is 7 does not hold")


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (("read", "none", "--url", "tcp://127.0.0.1:1"), 2, "the profile has no point 'none'; it has kind, power"),
        (("read", "key", "--url", "tcp://127.0.0.1:1"), 2, "key can only be written"),
        (("read", "--url", "127.0.0.1"), 2, "the scheme is missing"),
        (("read", "--url", "tcp://127.0.0.1:1"), 1, "Connection refused"),
    ],
)
def test_what_cannot_be_read_says_why(profile, words, code, expected):
    told = run(*words, "--profile", profile)
    assert (told.exit_code, expected in told.stderr) == (code, True)


def test_a_good_profile_passes_the_check(profile):
    told = run("check", profile)
    assert told.exit_code == 0
    assert f"{profile}: usable: Acme, battery, 7 points" in told.output
    assert "about.tried: warning: it was never tried on hardware" in told.output


def test_each_problem_is_named_with_file_place_and_reason(profile):
    profile.write_text(PROFILE.replace("scale = 100", "scale = 0").replace("address = 13", "address = 12"))
    told = run("check", profile)
    assert told.exit_code == 1
    assert f"{profile}: points.power: scale is 0" in told.stderr
    assert f"{profile}: points.state: overlaps soc" in told.stderr
    told = run("check", profile, "--json")
    found = json.loads(told.output)["result"]
    assert found["usable"] is False
    assert {"points.power", "points.state"} <= {p["where"] for p in found["problems"] if p["severity"] == "error"}


def test_a_broken_profile_is_not_tried(profile):
    profile.write_text(PROFILE.replace("scale = 100", "scale = 0"))
    told = run("read", "--profile", profile, "--url", "tcp://127.0.0.1:1")
    assert told.exit_code == 1
    assert "scale is 0" in told.stderr
    assert "ems devices check" in told.stderr


def test_profiles_are_listed_with_their_origin(profile, tmp_path):
    told = run("profiles", "--folder", tmp_path)
    names = {line.split()[0]: line.split()[1] for line in told.output.splitlines()}
    assert names == dict.fromkeys(shipped(), "shipped") | {"acme": "site"}
    told = run("check", "acme", "--folder", tmp_path)
    assert told.exit_code == 0


def test_a_name_that_nobody_has_says_where_to_look(tmp_path):
    told = run("check", "none", "--folder", tmp_path, "--socket", tmp_path / "none.sock")
    assert told.exit_code == 3
    assert "the daemon is not running" in told.stderr
    told = run("read", "--profile", "none", "--url", "tcp://127.0.0.1:1", "--folder", tmp_path)
    assert told.exit_code == 2
    assert "there is no profile 'none', neither shipped nor in" in told.stderr


def test_the_site_cannot_hide_a_shipped_profile(tmp_path):
    (tmp_path / "sungrow-sh.toml").write_text(PROFILE)
    told = run("profiles", "--folder", tmp_path)
    assert told.exit_code == 1
    assert "is that of a shipped profile" in told.stderr


def test_the_schema_knows_every_key_and_no_null():
    schema = json.loads(run("schema").output)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert set(schema["required"]) == {"schema", "about"}
    assert schema["anyOf"] == [{"required": ["identity", "points"]}, {"required": ["sunspec"]}]
    point = schema["$defs"]["Point"]
    assert point["additionalProperties"] is False
    assert "u16" in point["properties"]["type"]["enum"]
    assert point["properties"]["positive"]["description"].startswith("What a positive value means")
    assert schema["$defs"]["Pacing"]["properties"]["between_requests"]["type"] == "string"
    assert "is" in schema["$defs"]["Condition"]["properties"]
    assert '"null"' not in json.dumps(schema)


@pytest.fixture
def daemon(monkeypatch):
    """What the daemon was asked; it answers with what `daemon.answer` holds."""
    asked = SimpleNamespace(requests=[], answer=None)

    def ask(socket, cmd, *, as_json, without="", **params):
        asked.requests.append((cmd, params))
        return asked.answer

    monkeypatch.setattr(devices, "ask", ask)
    return asked


def test_a_device_of_the_site_is_read_by_the_daemon(daemon):
    point = {
        "point": "701.W",
        "value": 1500.0,
        "unit": "",
        "label": None,
        "raw": None,
        "registers": [],
        "age_s": 0.004,
        "quality": "good",
        "note": "",
        "writable": True,
    }
    daemon.answer = {"identified": True, "mismatch": [], "points": [point]}
    assert run("read", "bess", "701.W").output.splitlines() == [
        "bess: it is what is expected",
        "701.W  1500  4 ms  good  writable",
    ]
    assert daemon.requests == [("device_read", {"device_id": "bess", "points": ["701.W"]})]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "no device is named"),
        (("bess", "--profile", "x"), "belong together"),
        (("--url", "tcp://h"), "belong together"),
    ],
)
def test_a_reading_needs_a_device_or_both_profile_and_url(words, why):
    told = run("read", *words)
    assert (told.exit_code, why in told.stderr) == (2, True)
