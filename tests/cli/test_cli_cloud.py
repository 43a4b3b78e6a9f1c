"""What a technician sees of the way to the broker: its risks before the start, its certificates and troubles after."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent.cli.main import app
from agent.cli.status import certificate_lines

EXAMPLE = (Path(__file__).parents[2] / "config" / "stand-alone.toml").read_text()
LOCAL = 'broker = "mqtt://127.0.0.1:1883"'
KEY = '[[cloud.signing_key]]\nid = "a"\npublic_key = "Qedhea0OBDHxtKOb-o0aBx3R4Rx85jcHBe4GCxdefUE"\n'


@pytest.fixture
def warnings(tmp_path):
    """The warnings of the example with other lines about the cloud, by key."""

    def of(section):
        assert LOCAL in EXAMPLE
        path = tmp_path / "site.toml"
        path.write_text(EXAMPLE.replace(LOCAL, section))
        done = CliRunner().invoke(app, ["config", "check", "--config", str(path), "--json"])
        assert done.exit_code == 0, done.output
        found = json.loads(done.stdout)["result"]["warnings"]
        told = {}
        for one in found:
            if one["key"].startswith("cloud"):
                told[one["key"]] = told.get(one["key"], "") + one["text"]
        return told

    return of


class TestConfigCheck:
    def test_a_broker_on_this_machine_is_no_risk(self, warnings):
        assert warnings(LOCAL) == {}

    def test_one_elsewhere_in_clear_is_and_messages_that_anybody_may_write_too(self, warnings):
        found = warnings('broker = "mqtt://broker.example"')
        assert set(found) == {"cloud.broker", "cloud.signing_key"}
        assert "in clear" in found["cloud.broker"]
        assert "commands the battery" in found["cloud.signing_key"]

    def test_a_password_in_clear_is_named(self, warnings, tmp_path):
        (tmp_path / "pw").touch(mode=0o600)
        (tmp_path / "pw").write_text("x\n")
        found = warnings(f'broker = "mqtt://broker.example"\nuser = "u"\npassword_file = "{tmp_path}/pw"')
        assert "the password too" in found["cloud.broker"]

    def test_with_tls_any_public_ca_would_do_unless_one_is_named(self, warnings):
        assert set(warnings(f'broker = "mqtts://broker.example"\n{KEY}')) == {"cloud.tls.ca"}

    def test_files_that_cannot_be_used_are_named_with_what_to_do(self, warnings, tmp_path):
        ca, password = tmp_path / "ca.pem", tmp_path / "pw"
        password.write_text("x\n")
        password.chmod(0o644)
        found = warnings(
            f'broker = "mqtts://broker.example"\nuser = "u"\npassword_file = "{password}"\ntls = {{ ca = "{ca}" }}\n{KEY}'
        )
        assert set(found) == {"cloud"}
        assert f"{ca}: cannot be read: No such file" in found["cloud"]
        assert f"chmod 600 {password}" in found["cloud"]


class TestStatus:
    def test_certificates_are_one_line_with_their_days(self):
        certificates = [
            {"certificate": "site certificate", "days_left": 89.6},
            {"certificate": "CA certificate", "days_left": -0.2},
        ]
        assert certificate_lines(certificates) == ["tls      site certificate 90 days, CA certificate HAS ENDED"]

    def test_without_a_trusted_clock_no_days_are_claimed(self):
        (line,) = certificate_lines([{"certificate": "site certificate", "days_left": None}])
        assert "clock not trusted" in line

    def test_without_certificates_there_is_no_line(self):
        assert certificate_lines([]) == []
