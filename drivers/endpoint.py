"""Where a device is reached: `tcp://host:port` as a checked value."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

MODBUS_TCP_PORT = 502
"""The registered port of Modbus TCP (IANA)."""


class BadEndpoint(ValueError):  # noqa: N818  # named for what the file states
    """The url of an endpoint cannot be used; the text names what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One Modbus endpoint: a TCP host and port."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port}"


def parse_url(url: str) -> Endpoint:
    """The endpoint that `url` names, such as `tcp://192.168.1.20:502`; `BadEndpoint` says what is wrong."""
    example = "write it as tcp://192.168.1.20:502"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadEndpoint(f"{url!r}: {error}; {example}") from error
    if parts.scheme != "tcp":
        named = f"the scheme {parts.scheme!r} is not known" if parts.scheme else "the scheme is missing"
        raise BadEndpoint(f"{url!r}: {named}; {example}")
    if not parts.hostname:
        raise BadEndpoint(f"{url!r}: the host is missing; {example}")
    if any(character.isspace() for character in url):
        raise BadEndpoint(f"{url!r}: there is a blank in it; {example}")
    if parts.username is not None or parts.path or parts.query or parts.fragment:
        raise BadEndpoint(f"{url!r}: only host and port may follow tcp://; {example}")
    if port == 0:
        raise BadEndpoint(f"{url!r}: the port must be 1 to 65535; {example}")
    return Endpoint(parts.hostname, MODBUS_TCP_PORT if port is None else port)
