"""A site file as it may be shown to others."""

import tomllib
from pathlib import Path

import pytest

from agent.config import SiteFile
from agent.core.redaction import REMOVED
from agent.site_file.shown import shown

EXAMPLES = sorted((Path(__file__).parents[2] / "config").glob("*.toml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_a_file_in_order_says_the_same_without_its_comments(path):
    text = path.read_text()
    found = shown(text, SiteFile)
    assert tomllib.loads(found.text) == tomllib.loads(text)
    assert "#" not in found.text
    assert found.removed == ["comments: anything may stand there"]
    assert found.secrets == []


@pytest.mark.parametrize(
    ("text", "kept", "why"),
    [
        ("[cloud]\nheaders = { X-Token = 'canary-1234' }", {"cloud": {"headers": {"X-Token": REMOVED}}}, "headers"),
        ("[cloud]\npassword = 'canary-1234'", {"cloud": {}}, "cloud.password: no key"),
        ("[store.directory]\nx = 'canary-1234'", {"store": {"directory": {}}}, "store.directory.x: no key"),
        ("[nonsense]\na = [{ b = 'canary-1234' }]", {}, "nonsense: no key"),
        ("[cloud]\nbroker = 'mqtt://ann:canary-1234@h'", {"cloud": {"broker": f"mqtt://{REMOVED}@h"}}, "in an address"),
        ("[cloud]\nbroker = 'wss://h/m?sig=canary-1234'", {"cloud": {"broker": f"wss://h/m?{REMOVED}"}}, "query"),
        ("[cloud]\npassword_file = 'canary-1234'", {"cloud": {"password_file": REMOVED}}, "names no file"),
        ("[cloud.tls]\nkey = 'canary-1234'", {"cloud": {"tls": {"key": REMOVED}}}, "names no file"),
        ("[[device]]\nid = 'a'\npassword = 'canary-1234'", {"device": [{"id": "a"}]}, "device[0].password"),
        ("[modbus_tls]\nkey = 'canary-1234'", {"modbus_tls": {"key": REMOVED}}, "names no file"),
    ],
)
def test_what_may_be_secret_is_left_out_named_and_known(text, kept, why):
    found = shown(text, SiteFile)
    assert tomllib.loads(found.text) == kept
    assert any(why in one for one in found.removed)
    assert any("canary-1234" in secret for secret in found.secrets)


def test_files_and_serial_lines_are_shown():
    text = """
[cloud]
password_file = "/etc/ems-agent/p"
headers = { X-Token = "file:/etc/ems-agent/t", Y = "file:credential:t" }
[cloud.tls]
key = "credential:broker-key"
[[device]]
url = "serial:///dev/ttyUSB0?baud=9600"
"""
    found = shown(text, SiteFile)
    assert tomllib.loads(found.text) == tomllib.loads(text)
    assert found.removed == []


def test_of_a_file_that_is_not_toml_only_keys_are_shown():
    text = '[cloud]\nbroker = "mqtt://a:canary@h\nid = "bess"\nodd = "one"\nheaders = { A = "two" }\nno line canary\n'
    found = shown(text, SiteFile)
    assert found.text == f"[cloud]\nbroker = {REMOVED}\nid = {REMOVED}\nodd = {REMOVED}\nheaders = {REMOVED}\n"
    assert {"a:canary", "canary", "one", "two"} <= set(found.secrets)
    assert "bess" not in found.secrets


def test_odd_text_comes_out_as_toml_again():
    data = {"site": {"name": 'a "b" \\ ü \u0007\n'}, "schema": 1}
    text = 'schema = 1\n[site]\nname = "a \\"b\\" \\\\ ü \\u0007\\n"\n'
    assert tomllib.loads(text) == data
    assert tomllib.loads(shown(text, SiteFile).text) == data
