"""Urls of endpoints: what is wrong is named."""

from __future__ import annotations

import pytest

from drivers.endpoint import BadEndpoint, TcpEndpoint, parse_url
from drivers.link import Link


@pytest.mark.parametrize(
    ("url", "endpoint", "shown"),
    [
        ("tcp://192.168.1.20:1502", TcpEndpoint("192.168.1.20", 1502), "tcp://192.168.1.20:1502"),
        ("tcp://battery.local", TcpEndpoint("battery.local", 502), "tcp://battery.local:502"),
        ("tcp://[fe80::1]:502", TcpEndpoint("fe80::1", 502), "tcp://[fe80::1]:502"),
    ],
)
def test_a_url_names_host_and_port(url, endpoint, shown):
    assert parse_url(url) == endpoint
    assert str(endpoint) == shown
    assert Link.from_url(url, clock=lambda: 0.0).name == shown


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("192.168.1.20:502", "scheme"),
        ("//host:502", "the scheme is missing"),
        ("http://host:502", "'http' is not known"),
        ("rtu:///dev/ttyUSB0", "'rtu' is not known"),
        ("tcp://", "the host is missing"),
        ("tcp://:502", "the host is missing"),
        ("tcp://host:0", "the port must be 1 to 65535"),
        ("tcp://host:65536", "[Pp]ort"),
        ("tcp://host:abc", "[Pp]ort"),
        ("tcp://ho st:502", "blank"),
        ("tcp://user@host:502", "only host and port"),
        ("tcp://host:502/1", "only host and port"),
        ("tcp://host:502?unit=1", "only host and port"),
        ("tcp://[::1:502", "tcp://192.168.1.20:502"),
        ("", "the scheme is missing"),
    ],
)
def test_a_bad_url_is_refused_with_what_is_wrong_and_an_example(url, what):
    with pytest.raises(BadEndpoint, match=what) as refusal:
        parse_url(url)
    assert "tcp://192.168.1.20:502" in str(refusal.value)
    assert repr(url) in str(refusal.value)
