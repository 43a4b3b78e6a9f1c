"""What a scan may look at: only what is of this site, and never more than was agreed to."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from agent.cli.scan_targets import PORTS, BadTarget, own_networks, targets
from drivers.endpoint import RtuTcpEndpoint, SerialEndpoint


@pytest.mark.parametrize(
    ("text", "hosts", "ports"),
    [
        ("192.168.1.20", ("192.168.1.20",), PORTS),
        ("192.168.1.20:1502", ("192.168.1.20",), (1502,)),
        ("10.0.0.0/30", ("10.0.0.1", "10.0.0.2"), PORTS),
        ("10.0.0.7/30", ("10.0.0.5", "10.0.0.6"), PORTS),
        ("127.0.0.1", ("127.0.0.1",), PORTS),
        ("172.31.0.1", ("172.31.0.1",), PORTS),
        ("169.254.3.4", ("169.254.3.4",), PORTS),
        ("::1", ("::1",), PORTS),
        ("[fd00::5]:502", ("fd00::5",), (502,)),
        ("localhost", ("localhost",), PORTS),
    ],
)
def test_hosts_and_networks_of_the_site(text, hosts, ports):
    found = targets(text, own=())
    assert (found.hosts, found.ports, found.endpoints) == (hosts, ports, ())


def test_a_whole_24_and_not_more_unless_asked_for():
    assert len(targets("192.168.1.0/24", own=()).hosts) == 254
    with pytest.raises(BadTarget, match=r"192.168.0.0/23 has 512 addresses; a scan stops at 256"):
        targets("192.168.0.0/23", own=())
    assert len(targets("192.168.0.0/23", most=512, own=()).hosts) == 510


@pytest.mark.parametrize(
    "text", ["8.8.8.8", "172.32.0.1", "8.8.8.0/24", "0.0.0.0/0", "192.0.0.0/8", "2001:db8::1", "tcp://8.8.8.8:502"]
)
def test_what_is_not_of_this_site_is_refused(text):
    with pytest.raises(BadTarget, match=r"is no local (address|network) of this site") as refused:
        targets(text, most=2**33, own=())
    assert "127.0.0.0/8, 10.0.0.0/8" in refused.value.hint


def test_a_public_network_that_this_machine_is_in_is_of_this_site():
    own = (ip_network("203.0.113.0/28"),)
    assert targets("203.0.113.5", own=own).hosts == ("203.0.113.5",)
    with pytest.raises(BadTarget):
        targets("203.0.113.16", own=own)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("10.0.0.0/33", "is no network"),
        ("10.0.0.5:0", "the port must be 1 to 65535"),
        ("10.0.0.5:x", "the port must be 1 to 65535"),
        ("no such host", "has no address"),
        ("ftp://10.0.0.5", "the scheme 'ftp' is not known"),
        ("tls://8.8.8.8", "is no local address"),
    ],
)
def test_what_cannot_be_scanned_says_why(text, why):
    with pytest.raises(BadTarget, match=why) as refused:
        targets(text, own=())
    assert refused.value.hint


def test_a_serial_device_is_tried_with_the_usual_settings_or_with_those_stated():
    found = targets("/dev/ttyUSB0", own=())
    assert found.hosts == ()
    assert [(e.device, e.baud, e.parity) for e in found.endpoints[:3]] == [
        ("/dev/ttyUSB0", 9600, "N"),
        ("/dev/ttyUSB0", 9600, "E"),
        ("/dev/ttyUSB0", 19200, "E"),
    ]
    (stated,) = targets("serial:///dev/ttyS0?baud=4800&parity=O", own=()).endpoints
    assert stated == SerialEndpoint("/dev/ttyS0", 4800, "O")
    (converter,) = targets("rtu+tcp://10.0.0.9:4196", own=()).endpoints
    assert converter == RtuTcpEndpoint("10.0.0.9", 4196)


def test_the_kernel_tells_which_networks_this_machine_is_in(tmp_path):
    (tmp_path / "route").write_text(
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "eth0\t0071000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
        "eth0\t00000808\t0101A8C0\t0003\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
        "eth1\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n"
    )
    (tmp_path / "if_inet6").write_text(
        "20010db8000000010000000000000005 02 40 00 80 eth0\n20010db8000000010000000000000006 02 00 00 80 eth1\n"
    )
    assert own_networks(tmp_path) == (ip_network("10.0.113.0/24"), ip_network("2001:db8:0:1::/64"))
    assert own_networks(tmp_path / "none") == ()
