"""What the site file may say about the way to the broker, and what it may not."""

import re

import pytest
from config_files import FULL, TEXT

from agent.cloud.access import transport
from agent.cloud.transport import Login, Proxy, TlsFiles
from agent.config import ConfigError, load
from agent.site_file.broker_address import BrokerAddress

BROKER = '"mqtt://127.0.0.1:1883"'
TLS = '"mqtts://broker.example"'
KEY = "Qedhea0OBDHxtKOb-o0aBx3R4Rx85jcHBe4GCxdefUE"


@pytest.fixture
def cloud(tmp_path):
    """The `[cloud]` of the example with another broker and more lines, or the problems."""

    def make(broker, *lines):
        text = TEXT.replace(BROKER, broker, 1)
        before, after = text.split("\n[store]", 1)
        path = tmp_path / "site.toml"
        path.write_text(before + "\n" + "\n".join(lines) + "\n[store]" + after)
        return load(path).cloud

    return make


def problem(cloud, broker, *lines):
    with pytest.raises(ConfigError) as refused:
        cloud(broker, *lines)
    (line,) = refused.value.problems
    return line.split(": ", 1)[1]


class TestAddress:
    def test_it_is_read_with_the_port_and_path_of_its_kind(self):
        assert BrokerAddress.parse("mqtt://broker.local") == BrokerAddress("broker.local", 1883, "mqtt", "")
        assert BrokerAddress.parse("mqtt://[::1]:1884/") == BrokerAddress("::1", 1884, "mqtt", "")
        assert BrokerAddress.parse("mqtts://b.example") == BrokerAddress("b.example", 8883, "mqtts", "")
        assert BrokerAddress.parse("wss://b.example") == BrokerAddress("b.example", 443, "wss", "/mqtt")
        assert BrokerAddress.parse("wss://b.example/ws?t=1") == BrokerAddress("b.example", 443, "wss", "/ws?t=1")
        assert [BrokerAddress.parse(f"{s}://x").encrypted for s in ("mqtt", "mqtts", "wss")] == [False, True, True]

    @pytest.mark.parametrize(
        "url",
        ["http://x", "mqtt://", "broker:1883", "mqtt://x/y", "mqtt://x:99999", "mqtt://x:0", "mqtts://x/y", "ws://x",
         "mqtts://a..b", "mqtts://a b", "wss://x/a b", "wss://x/\n", "mqtts://x#y", "wss://x/ä", "mqtts://"],
    )  # fmt: skip
    def test_or_refused_with_what_to_write(self, url):
        with pytest.raises(ValueError, match=r"mqtts://broker\.example"):
            BrokerAddress.parse(url)

    def test_a_password_in_it_is_refused_and_not_repeated(self):
        with pytest.raises(ValueError, match="password_file") as refused:
            BrokerAddress.parse("mqtts://site:hunter2@broker.example")
        assert "hunter2" not in str(refused.value)


def test_every_option_reaches_the_link(tmp_path):
    path = tmp_path / "site.toml"
    path.write_text(FULL)
    found = transport(load(path).cloud)
    assert found.address == BrokerAddress("broker.example", 443, "wss", "/mqtt")
    assert found.protocol == "3.1.1"
    assert found.tls == TlsFiles(
        "/etc/ems-agent/tls/ca.pem", "/etc/ems-agent/tls/site.pem", "/etc/ems-agent/tls/site.key"
    )
    assert found.login == Login("site-01", "/etc/ems-agent/broker.password")
    assert found.proxy == Proxy("proxy.example", 3128, Login("site-01", "/etc/ems-agent/proxy.password"))
    assert found.headers == {"X-Tenant": "vpp-1"}


def test_no_option_is_needed(cloud):
    found = transport(cloud(BROKER))
    assert (found.protocol, found.tls, found.login, found.proxy, found.headers) == ("5", TlsFiles(), None, None, {})


@pytest.mark.parametrize(
    ("broker", "lines", "expected"),
    [
        (BROKER, ['tls = { ca = "/ca.pem" }'], "cloud: tls: mqtt:// is not encrypted; write mqtts:// or wss://"),
        (TLS, ['tls = { certificate = "/c.pem" }'], "cloud.tls: certificate and key belong together"),
        (TLS, ['tls = { key = "/c.key" }'], "cloud.tls: certificate and key belong together"),
        (TLS, ['tls = { ca = "ca.pem" }'], "cloud.tls.ca: 'ca.pem': write the whole path, or credential:NAME"),
        (TLS, ['tls = { ca = "credential:../x" }'], "cloud.tls.ca: 'credential:../x': write the whole path"),
        (TLS, ["tls = { insecure = true }"], "cloud.tls.insecure: unknown key; known here: ca, certificate, key"),
        (TLS, ['user = "x"'], "cloud: user and password_file belong together"),
        (TLS, ['password_file = "/p"'], "cloud: user and password_file belong together"),
        (TLS, ['user = "a:b"', 'password_file = "/p"'], "cloud.user: a name without colons"),
        (TLS, ['password = "hunter2"'], "cloud.password: unknown key; did you mean 'password_file'?"),
        (TLS, ['headers = { X-A = "1" }'], "cloud: headers: only a WebSocket (wss://) has them"),
        ('"wss://x"', ['headers = { Host = "1" }'], "cloud.headers: Host is part of the WebSocket itself"),
        ('"wss://x"', ['headers = { Sec-WebSocket-Key = "1" }'], "cloud.headers: Sec-WebSocket-Key is part of the"),
        ('"wss://x"', ['headers = { "A b" = "1" }'], "cloud.headers: 'A b' is not the name of a header"),
        ('"wss://x"', ['headers = { A = "1\\r\\nB: 2" }'], "cloud.headers: A: a value of printable ASCII is wanted"),
        ('"wss://x"', ['headers = { A = "file:token" }'], "cloud.headers: 'token': write the whole path"),
        (TLS, ['protocol = "3"'], "cloud.protocol: Input should be '5' or '3.1.1'"),
        (TLS, ['proxy = { url = "proxy:3128" }'], "cloud.proxy.url: 'proxy:3128' is not the address of an HTTP proxy"),
        (TLS, ['proxy = { url = "https://p:3128" }'], "cloud.proxy.url: 'https://p:3128' is not the address"),
        (TLS, ['proxy = { url = "http://p" }'], "cloud.proxy.url: 'http://p' is not the address of an HTTP proxy"),
        (TLS, ['proxy = { url = "http://u:pw@p:1" }'], "cloud.proxy.url: a user or a password does not belong into"),
        (TLS, ['proxy = { url = "http://p:1", user = "u" }'], "cloud.proxy: user and password_file belong together"),
        (TLS, [f'signing_key = [{{ id = "a", public_key = "{KEY[:-2]}" }}]'],
         "cloud.signing_key[0] (a).public_key: an Ed25519 public key in base64 is wanted: 43 characters"),
        (TLS, [f'signing_key = [{{ id = "a", public_key = "{"A" * 43}" }}]'],
         "cloud.signing_key[0] (a).public_key: this is a placeholder, not a key"),
        (TLS, ['signing_key = [{ id = "a", public_key = "sch lüssel" }]'], "cloud.signing_key[0] (a).public_key: an Ed25519"),
        (TLS, [f'signing_key = [{{ id = "a b", public_key = "{KEY}" }}]'], "cloud.signing_key[0] (a b).id: "),
        (TLS, [f'signing_key = [{{ id = "a", public_key = "{KEY}" }}, {{ id = "b", public_key = "{KEY}" }}]'],
         "cloud.signing_key: b: its id or its key is there twice"),
    ],
)  # fmt: skip
def test_nonsense_is_refused_with_key_reason_and_what_to_do(cloud, broker, lines, expected):
    assert problem(cloud, broker, *lines).startswith(expected)


def test_a_key_is_taken_as_the_line_of_its_pem_file_too(cloud):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = Ed25519PrivateKey.generate().public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    line = re.sub(r"-----.*-----|\n", "", pem)
    found = cloud(TLS, f'signing_key = [{{ id = "a", public_key = "{line}" }}]')
    assert found.keys() == {"a": public.public_bytes_raw()}


def test_whether_the_broker_is_on_this_machine(cloud):
    here = ("mqtt://127.0.0.1", "mqtt://localhost", "mqtt://[::1]", "mqtt://127.9.9.9")
    there = ("mqtt://192.168.1.5", "mqtts://broker.example", "mqtt://0.0.0.0")
    assert all(cloud(f'"{url}"').on_this_machine for url in here)
    assert not any(cloud(f'"{url}"').on_this_machine for url in there)
