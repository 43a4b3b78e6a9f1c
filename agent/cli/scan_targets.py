"""What a scan may look at: one host, a network or a serial line of this site; never a network of somebody else."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import islice
from pathlib import Path
from typing import Final

from drivers.endpoint import BadEndpoint, Endpoint, SerialEndpoint, parse_url

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

LOCAL: Final[tuple[Network, ...]] = tuple(
    map(ip_network, ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16",
                     "::1/128", "fc00::/7", "fe80::/10")),
)  # fmt: skip
"""Loopback, private (RFC 1918, RFC 4193) and link-local (RFC 3927, RFC 4291) addresses."""
MOST_HOSTS = 256
"""A /24 and not more, unless asked for."""
PORTS: Final = (502, 1502)
"""Modbus TCP, and where SolarEdge and Kostal have it."""
TLS_PORT = 802
SERIAL_SETTINGS: Final = (
    "baud=9600&parity=N", "baud=9600&parity=E", "baud=19200&parity=E", "baud=19200&parity=N", "baud=38400&parity=N",
    "baud=115200&parity=N",
)  # fmt: skip
"""Tried one after another where none are stated, the most usual first."""


class BadTarget(ValueError):  # noqa: N818  # named for what was asked
    """It cannot, or must not, be scanned; `hint` says what to do instead."""

    def __init__(self, why: str, hint: str) -> None:
        super().__init__(why)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Targets:
    """What to look at; one of both is empty."""

    hosts: tuple[str, ...] = ()
    ports: tuple[int, ...] = PORTS
    endpoints: tuple[Endpoint, ...] = ()
    """Lines that are named themselves; of a serial line one entry per setting, until one is answered."""


def targets(text: str, most: int = MOST_HOSTS, own: Sequence[Network] | None = None) -> Targets:
    """What `text` names: a host, a network such as 192.168.1.0/24, a url, or a serial device; `BadTarget` if not.

    `own` are the networks of this machine's interfaces; None asks the kernel.
    """
    if text.startswith("/dev/"):
        return Targets((), (), tuple(parse_url(f"serial://{text}?{setting}") for setting in SERIAL_SETTINGS))
    allowed = (*LOCAL, *(own_networks() if own is None else own))
    if "://" in text:
        return _url(text, allowed)
    if "/" in text:
        return Targets(_network(text, most, allowed))
    host, port = _host_and_port(text)
    _check(host, allowed)
    return Targets((host,), PORTS if port is None else (port,))


def _url(text: str, allowed: Sequence[Network]) -> Targets:
    try:
        endpoint = parse_url(text)
    except BadEndpoint as bad:
        raise BadTarget(str(bad), "correct it") from bad
    if not isinstance(endpoint, SerialEndpoint):
        _check(endpoint.host, allowed)
    return Targets((), (), (endpoint,))


def _network(text: str, most: int, allowed: Sequence[Network]) -> tuple[str, ...]:
    try:
        network = ip_network(text, strict=False)
    except ValueError as error:
        raise BadTarget(f"{text!r} is no network: {error}", "write it as 192.168.1.0/24") from error
    if not any(_inside(network, one) for one in allowed):
        raise BadTarget(f"{text} is no local network of this site", _where(allowed))
    if network.num_addresses > most:
        why = f"{text} has {network.num_addresses} addresses; a scan stops at {most}"
        raise BadTarget(why, "name a smaller network, or allow more with --most")
    return tuple(str(address) for address in islice(network.hosts(), most))


def _host_and_port(text: str) -> tuple[str, int | None]:
    """`host`, `host:port`, `[v6]:port` or a bare IPv6 address."""
    if text.count(":") > 1 and not text.startswith("["):
        return text, None
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        return text.strip("[]"), None
    if not (port.isascii() and port.isdigit() and 0 < int(port) <= 65535):
        raise BadTarget(f"{text!r}: the port must be 1 to 65535", "write it as 192.168.1.20:502")
    return host.strip("[]"), int(port)


def _check(host: str, allowed: Sequence[Network]) -> None:
    """`BadTarget` unless every address of the host is local."""
    for address in addresses(host):
        if not any(address in network for network in allowed if network.version == address.version):
            raise BadTarget(f"{host} ({address}) is no local address of this site", _where(allowed))


def addresses(host: str) -> list[Address]:
    """The addresses of a host, itself where it is one; `BadTarget` where it has none."""
    try:
        return [ip_address(host.split("%", 1)[0])]
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise BadTarget(f"{host!r} has no address: {error}", "write the address itself") from error
    return [ip_address(str(entry[4][0]).split("%", 1)[0]) for entry in found]


def _inside(network: Network, other: Network) -> bool:
    if isinstance(network, IPv4Network):
        return isinstance(other, IPv4Network) and network.subnet_of(other)
    return isinstance(other, IPv6Network) and network.subnet_of(other)


def _where(allowed: Iterable[Network]) -> str:
    return f"only devices of the site are looked for: {', '.join(map(str, dict.fromkeys(allowed)))}"


def own_networks(proc: Path = Path("/proc/net")) -> tuple[Network, ...]:
    """The networks that this machine's interfaces are in, by the kernel's own tables; empty where it does not tell."""
    found: list[Network] = []
    for line in _lines(proc / "route")[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[2] == "00000000" and fields[7] != "00000000":  # no gateway: directly connected
            address, mask = (int.from_bytes(bytes.fromhex(fields[at]), "little") for at in (1, 7))
            found.append(IPv4Network((address, mask.bit_count())))
    for line in _lines(proc / "if_inet6"):
        fields = line.split()
        if len(fields) > 2:
            found.append(IPv6Network((int(fields[0], 16), int(fields[2], 16)), strict=False))
    return tuple(network for network in found if network.prefixlen > 0)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()
    except OSError:
        return []
