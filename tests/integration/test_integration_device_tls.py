"""A meter inside TLS under the daemon: certificate files from the site file, and what happens with wrong ones."""

import gc
import ssl
import subprocess
import sys

import pytest
from integration_site import BATTERY, EASTRON, HEAD, TAIL, ems, until
from own_ca import Authority
from typer.testing import CliRunner

from agent.cli import scan_targets
from agent.cli.main import app
from drivers.profile.load import find
from simulators.modbus_server import ModbusServer
from simulators.profile_site import ProfileSite
from tests.in_thread import InThread

MODBUS_TLS = """\
[modbus_tls]
ca = "{ca}"
certificate = "{certificate}"
key = "{key}"
"""
SITE_FILE = HEAD + BATTERY + EASTRON + MODBUS_TLS + TAIL


@pytest.fixture
def site(tmp_path):
    """A CA, the agent's files, and a meter that believes it."""
    ca = Authority(tmp_path)
    certificate, key, _ = ca.issue("agent")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ca.path)
    pem, private, _ = ca.issue("meter", server=True)
    context.load_cert_chain(pem, private)
    device = ProfileSite(find("eastron-sdm630", None), unit_id=1).device
    with InThread(ModbusServer(device.units, inputs=device.inputs, tls=context)) as meter:
        url = f"tls://127.0.0.1:{meter.port}"
        files = {"ca": ca.path, "certificate": certificate, "key": key}
        yield {**files, "meter_port": meter.port, "meter_url": url, "meter_unit": 1}
    del meter
    gc.collect()


def test_a_meter_inside_tls_is_read_with_the_certificates_of_the_site_file(parts, site):
    agent = parts.agent(parts.plant(), text=SITE_FILE, **site).start()
    until(lambda: agent.device("grid-meter")["health"] == "good", "the meter is read")
    assert agent.device("grid-meter")["endpoint"] == f"tls://127.0.0.1:{site['meter_port']} unit 1"
    assert agent.status()["powers_w"]["grid"] is not None


def test_a_meter_with_a_certificate_of_another_authority_is_named_and_not_read(parts, site, tmp_path_factory):
    foreign = Authority(tmp_path_factory.mktemp("foreign"))
    agent = parts.agent(parts.plant(), text=SITE_FILE, **(site | {"ca": foreign.path})).start()
    until(lambda: agent.device("grid-meter")["last_error"], "the meter is refused")
    assert "the device's certificate is not accepted" in agent.device("grid-meter")["last_error"]
    assert agent.device("grid-meter")["polls"] == 0


def test_with_certificate_files_that_cannot_be_used_nothing_is_started(parts, site):
    agent = parts.agent(parts.plant(), text=SITE_FILE, **(site | {"key": "/nowhere/agent.key"}))
    command = [sys.executable, "-m", "agent.cli.main", "run", "--config", str(agent.file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 4
    assert "modbus_tls: certificate" in done.stderr
    assert "/nowhere/agent.key: No such file or directory; nothing was started" in done.stderr


def scanned(target, site, **files):
    """The scan's words for these files, stated as options; None leaves one out."""
    stated = {"ca": site["ca"], "certificate": site["certificate"], "key": site["key"]} | files
    options = [word for name, file in stated.items() if file is not None for word in (f"--tls-{name}", str(file))]
    return ["devices", "scan", target, "--units", "1", "--socket", "/none", *options]


def test_a_scan_finds_it_with_the_certificates(site):
    url = f"tls://127.0.0.1:{site['meter_port']}"
    done = ems(*scanned(url, site))
    assert done.returncode == 0, done.stderr
    assert f'url = "{url}"' in done.stdout
    assert 'profile = "eastron-sdm630"' in done.stdout
    named = ems(*scanned(f"tls://localhost:{site['meter_port']}?name=127.0.0.1", site))
    assert f'url = "tls://localhost:{site["meter_port"]}?name=127.0.0.1"' in named.stdout


# Looking whether the port is open ends a connection before its handshake: asyncio's server then leaves a transport.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_scan_of_a_host_speaks_to_its_port_for_tls_with_certificates_and_only_tells_it_without(site, monkeypatch):
    monkeypatch.setattr(scan_targets, "TLS_PORT", site["meter_port"])
    words = scanned("127.0.0.0/30", site)
    assert f'url = "tls://127.0.0.1:{site["meter_port"]}"' in CliRunner().invoke(app, words).stdout
    without = CliRunner().invoke(app, scanned("127.0.0.0/30", site, ca=None, certificate=None, key=None))
    told = " ".join(without.stdout.replace("#", "").split())
    assert f"tls://127.0.0.1:{site['meter_port']}: open; TLS: state --tls-ca, --tls-certificate and --tls-key" in told


def test_a_scan_with_files_that_do_not_do_says_which(site, tmp_path_factory):
    url = f"tls://127.0.0.1:{site['meter_port']}"
    for left_out in ("ca", "certificate", "key"):
        done = ems(*scanned(url, site, **{left_out: None}))
        assert (done.returncode, "needs --tls-ca, --tls-certificate and --tls-key" in done.stderr) == (2, True)
    done = ems(*scanned("127.0.0.1", site, key="/nowhere/agent.key"))
    assert (done.returncode, "/nowhere/agent.key: No such file" in done.stderr) == (2, True)
    foreign = Authority(tmp_path_factory.mktemp("foreign"))
    done = ems(*scanned(url, site, ca=foreign.path))
    assert (done.returncode, "certificate is not accepted" in " ".join(done.stdout.replace("#", "").split())) == (
        1,
        True,
    )
