"""Urls of endpoints: what is wrong is named."""

from __future__ import annotations

import pytest

from drivers.endpoint import (
    BadEndpoint,
    RtuTcpEndpoint,
    SerialEndpoint,
    TcpEndpoint,
    TlsEndpoint,
    has_transactions,
    parse_url,
    place,
)
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


@pytest.mark.parametrize(
    ("url", "endpoint", "shown"),
    [
        ("tls://10.0.0.5", TlsEndpoint("10.0.0.5", 802, "10.0.0.5"), "tls://10.0.0.5:802"),
        ("tls://10.0.0.5:8020?name=inv.local", TlsEndpoint("10.0.0.5", 8020, "inv.local"), "tls://10.0.0.5:8020"),
        ("rtu+tcp://10.0.0.5:4196", RtuTcpEndpoint("10.0.0.5", 4196), "rtu+tcp://10.0.0.5:4196"),
        ("rtu+tcp://10.0.0.5:23?turnaround_ms=30", RtuTcpEndpoint("10.0.0.5", 23, 0.03), "rtu+tcp://10.0.0.5:23"),
        (
            "serial:///dev/ttyUSB0?baud=9600&parity=N",
            SerialEndpoint("/dev/ttyUSB0", 9600, "N"),
            "serial:///dev/ttyUSB0",
        ),
        (
            "serial:///dev/serial/by-id/usb-FTDI?baud=19200&parity=E&stop=2&turnaround_ms=5",
            SerialEndpoint("/dev/serial/by-id/usb-FTDI", 19200, "E", 2, 0.005),
            "serial:///dev/serial/by-id/usb-FTDI",
        ),
    ],
)
def test_the_other_lines_are_named_with_their_settings(url, endpoint, shown):
    assert parse_url(url) == endpoint
    assert str(endpoint) == shown


@pytest.mark.parametrize(
    ("url", "what", "example"),
    [
        ("serial:///dev/ttyUSB0", "baud is missing", "serial:///dev/ttyUSB0[?]baud=9600&parity=N"),
        ("serial:///dev/ttyUSB0?baud=9600", "parity is missing", "baud=9600&parity=N"),
        ("serial:///dev/ttyUSB0?baud=9600&parity=X", "parity 'X' is not one of N", "parity=N"),
        ("serial:///dev/ttyUSB0?baud=100&parity=N", "baud '100' is not a whole number from 300", "baud=9600"),
        ("serial:///dev/ttyUSB0?baud=9600.5&parity=N", "baud '9600.5' is not a whole number", "baud=9600"),
        ("serial:///dev/ttyUSB0?baud=9600&parity=N&stop=3", "stop '3' is not 1 or 2", "serial:"),
        (
            "serial:///dev/ttyUSB0?baud=9600&parity=N&speed=1",
            "'speed' is not a setting of serial://; known: baud",
            "serial:",
        ),
        ("serial:///dev/ttyUSB0?baud=9600&baud=9600&parity=N", "baud is stated twice", "serial:"),
        ("serial:///dev/ttyUSB0?baud=&parity=N", "baud has no value", "serial:"),
        ("serial:///dev/ttyUSB0?baud", "must be key=value", "serial:"),
        ("serial://dev/ttyUSB0?baud=9600&parity=N", "three slashes", "serial:///dev"),
        ("serial:///etc/passwd?baud=9600&parity=N", "a device under /dev", "serial:///dev"),
        ("serial:///dev/ttyUSB0?baud=9600&parity=N#x", "nothing may follow", "serial:///dev"),
        ("serial:///dev/ttyUSB0?baud=9600&parity=N&turnaround_ms=5000", "turnaround_ms '5000'", "serial:"),
        ("rtu+tcp://10.0.0.5", "the port is missing: converters differ", "rtu[+]tcp://192.168.1.20:4196"),
        ("rtu+tcp://10.0.0.5:23?baud=9600", "'baud' is not a setting of rtu[+]tcp://", "4196"),
        ("tls://10.0.0.5:802?ca=x", "'ca' is not a setting of tls://", "tls://192.168.1.20:802"),
        ("tls://", "the host is missing", "tls://192.168.1.20:802"),
        ("tls://h:802/path", "only host and port may follow tls://", "tls://192.168.1.20:802"),
    ],
)
def test_a_bad_url_of_another_line_is_refused_with_the_example_for_that_line(url, what, example):
    with pytest.raises(BadEndpoint, match=what) as refusal:
        parse_url(url)
    assert refusal.match(f"write it as .*{example}")


def test_a_line_is_one_place_however_it_is_stated():
    one, other = (
        parse_url("serial:///dev/ttyUSB0?baud=9600&parity=N"),
        parse_url("serial:///dev/ttyUSB0?baud=19200&parity=E"),
    )
    assert place(one) == place(other)
    assert place(parse_url("tcp://h:502")) == place(parse_url("rtu+tcp://h:502"))
    assert place(parse_url("tcp://h:502")) != place(parse_url("tcp://h:503"))


def test_only_rtu_frames_name_no_transaction():
    urls = ("tcp://h", "tls://h", "rtu+tcp://h:1", "serial:///dev/ttyS0?baud=9600&parity=N")
    assert [has_transactions(parse_url(url)) for url in urls] == [True, True, False, False]


@pytest.mark.parametrize(
    ("baud", "silent_s"), [(9600, 3.5 * 11 / 9600), (19_200, 3.5 * 11 / 19_200), (38_400, 0.00175)]
)
def test_the_silence_between_frames_is_that_of_the_standard(baud, silent_s):
    assert SerialEndpoint("/dev/ttyS0", baud, "N").silent_s == pytest.approx(silent_s)
