"""Where a device is reached, as a checked value: Modbus TCP, TLS, RTU frames over TCP, or a serial line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import SplitResult, parse_qsl, urlsplit

MODBUS_TCP_PORT = 502
"""The registered port of Modbus TCP (IANA)."""
MODBUS_TLS_PORT = 802
"""The registered port of Modbus/TCP Security (IANA)."""
BITS_PER_CHARACTER = 11
"""Start, eight data, parity or a second stop, stop: MODBUS over Serial Line V1.02, chapter 2.5.1."""
FAST_BAUD = 19_200
FAST_SILENT_S = 0.00175
"""Above 19200 baud the silent interval is fixed at 1.75 ms (the same, chapter 2.5.1.1)."""
MIN_BAUD = 300
MAX_BAUD = 4_000_000
MAX_TURNAROUND_MS = 1_000
DRAIN_S = 0.05
"""After an answer that failed, a line with RTU frames is left to fall silent for so long."""
BROADCAST_UNIT = 0
LAST_SERIAL_UNIT = 247
"""Unit ids on a serial line: 1 to 247; 0 is a broadcast that nobody answers, the rest is reserved."""

EXAMPLES: Final = {
    "tcp": "tcp://192.168.1.20:502",
    "tls": "tls://192.168.1.20:802",
    "rtu+tcp": "rtu+tcp://192.168.1.20:4196",
    "serial": "serial:///dev/ttyUSB0?baud=9600&parity=N",
}
Parity = Literal["N", "E", "O"]


class BadEndpoint(ValueError):  # noqa: N818  # named for what the file states
    """The url of an endpoint cannot be used; the text names what is wrong with it."""


@dataclass(frozen=True, slots=True)
class TcpEndpoint:
    """Modbus TCP at a host and port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"tcp://{_bracketed(self.host)}:{self.port}"


@dataclass(frozen=True, slots=True)
class TlsEndpoint:
    """Modbus TCP inside TLS (Modbus/TCP Security, SunSpec secure Modbus)."""

    host: str
    port: int
    server_name: str
    """The name that the device's certificate must carry; the host where the url names none."""

    def __str__(self) -> str:
        return f"tls://{_bracketed(self.host)}:{self.port}"


@dataclass(frozen=True, slots=True)
class RtuTcpEndpoint:
    """RTU frames over TCP: a transparent converter, with a serial line behind it."""

    host: str
    port: int
    turnaround_s: float = 0.0

    def __str__(self) -> str:
        return f"rtu+tcp://{_bracketed(self.host)}:{self.port}"


@dataclass(frozen=True, slots=True)
class SerialEndpoint:
    """RTU on a serial line of this machine, eight data bits."""

    device: str
    baud: int
    parity: Parity
    stop_bits: Literal[1, 2] = 1
    turnaround_s: float = 0.0
    """Silence after each answer beyond that of the standard, for converters that are slow to turn round."""

    def __str__(self) -> str:
        return f"serial://{self.device}"

    @property
    def silent_s(self) -> float:
        """The silence that ends a frame: three and a half characters."""
        return FAST_SILENT_S if self.baud > FAST_BAUD else self.line_s(3.5)

    def line_s(self, characters: float) -> float:
        """How long so many characters are on the line."""
        return characters * BITS_PER_CHARACTER / self.baud


Endpoint = TcpEndpoint | TlsEndpoint | RtuTcpEndpoint | SerialEndpoint


def has_transactions(endpoint: Endpoint) -> bool:
    """Whether answers name the request that they belong to; RTU frames do not."""
    return isinstance(endpoint, TcpEndpoint | TlsEndpoint)


def place(endpoint: Endpoint) -> tuple[str, ...]:
    """What there can be only one connection to: two endpoints with the same place are the same line."""
    if isinstance(endpoint, SerialEndpoint):
        return ("serial", endpoint.device)
    return ("tcp", endpoint.host, str(endpoint.port))


def parse_url(url: str) -> Endpoint:
    """The endpoint that `url` names, such as `tcp://192.168.1.20:502`; `BadEndpoint` says what is wrong."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadEndpoint(f"{url!r}: {error}; {_example(url)}") from error
    if parts.scheme not in EXAMPLES:
        named = f"the scheme {parts.scheme!r} is not known" if parts.scheme else "the scheme is missing"
        others = ", ".join(f"{scheme}://" for scheme in EXAMPLES)
        raise BadEndpoint(f"{url!r}: {named}; write it as {EXAMPLES['tcp']}, or with one of {others}")
    if any(character.isspace() for character in url):
        raise BadEndpoint(f"{url!r}: there is a blank in it; {_example(url)}")
    try:
        return _serial(parts) if parts.scheme == "serial" else _network(parts, port)
    except BadEndpoint as bad:
        raise BadEndpoint(f"{url!r}: {bad}; {_example(url)}") from None


def _example(url: str) -> str:
    scheme = url.split(":", 1)[0]
    return f"write it as {EXAMPLES.get(scheme, EXAMPLES['tcp'])}"


def _network(parts: SplitResult, port: int | None) -> Endpoint:
    if not parts.hostname:
        raise BadEndpoint("the host is missing")
    if port == 0:
        raise BadEndpoint("the port must be 1 to 65535")
    keys = {"tls": ("name",), "rtu+tcp": ("turnaround_ms",)}.get(parts.scheme, ())
    if parts.username is not None or parts.path or parts.fragment or (parts.query and not keys):
        raise BadEndpoint(f"only host and port may follow {parts.scheme}://")
    options = _options(parts, keys)
    if parts.scheme == "tls":
        name = options.get("name", parts.hostname)
        return TlsEndpoint(parts.hostname, MODBUS_TLS_PORT if port is None else port, name)
    if parts.scheme == "rtu+tcp":
        if port is None:
            raise BadEndpoint("the port is missing: converters differ in theirs")
        return RtuTcpEndpoint(parts.hostname, port, _turnaround_s(options))
    return TcpEndpoint(parts.hostname, MODBUS_TCP_PORT if port is None else port)


def _serial(parts: SplitResult) -> SerialEndpoint:
    if parts.netloc or not parts.path.startswith("/dev/"):
        raise BadEndpoint("a device under /dev must follow serial:// (three slashes in a row)")
    if parts.fragment:
        raise BadEndpoint("nothing may follow the settings")
    options = _options(parts, ("baud", "parity", "stop", "turnaround_ms"))
    for key, meaning in (("baud", "bits per second"), ("parity", "N, E or O")):
        if key not in options:
            raise BadEndpoint(f"{key} is missing ({meaning}): every device on the line must have the same")
    parity = options["parity"]
    if parity not in ("N", "E", "O"):
        raise BadEndpoint(f"parity {parity!r} is not one of N (none), E (even), O (odd)")
    stop = options.get("stop", "1")
    if stop not in ("1", "2"):
        raise BadEndpoint(f"stop {stop!r} is not 1 or 2")
    baud = _whole("baud", options["baud"], MIN_BAUD, MAX_BAUD)
    return SerialEndpoint(parts.path, baud, parity, 2 if stop == "2" else 1, _turnaround_s(options))  # type: ignore[arg-type]


def _options(parts: SplitResult, known: tuple[str, ...]) -> Mapping[str, str]:
    options: dict[str, str] = {}
    try:
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True) if parts.query else []
    except ValueError:
        raise BadEndpoint("the settings after ? must be key=value, joined by &") from None
    for key, value in pairs:
        if key not in known:
            raise BadEndpoint(f"{key!r} is not a setting of {parts.scheme}://; known: {', '.join(known)}")
        if key in options:
            raise BadEndpoint(f"{key} is stated twice")
        if not value:
            raise BadEndpoint(f"{key} has no value")
        options[key] = value
    return options


def _turnaround_s(options: Mapping[str, str]) -> float:
    return _whole("turnaround_ms", options.get("turnaround_ms", "0"), 0, MAX_TURNAROUND_MS) / 1000.0


def _whole(key: str, value: str, low: int, high: int) -> int:
    if not value.isascii() or not value.isdigit() or not low <= int(value) <= high:
        raise BadEndpoint(f"{key} {value!r} is not a whole number from {low} to {high}")
    return int(value)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
