"""Where the broker listens and how it is reached, as one URL."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

DEFAULT_PORTS: Mapping[str, int] = {"mqtt": 1883, "mqtts": 8883, "wss": 443}
DEFAULT_PATH = "/mqtt"
"""Where brokers and cloud gateways offer MQTT over WebSocket."""
EXAMPLE = "write mqtts://broker.example:8883, wss://broker.example/mqtt, or mqtt://127.0.0.1:1883"
_HOST = re.compile(r"[A-Za-z0-9_.:-]{1,253}")


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where the broker listens."""

    host: str
    port: int
    scheme: str = "mqtt"
    """`mqtt` in clear, `mqtts` over TLS, `wss` over WebSocket and TLS."""
    path: str = ""
    """Of the WebSocket."""

    @property
    def encrypted(self) -> bool:
        """True where TLS is spoken."""
        return self.scheme != "mqtt"

    @property
    def shown_path(self) -> str:
        """The path without its query, which may hold a token: for logs, status and people."""
        return self.path.partition("?")[0]

    @classmethod
    def parse(cls, url: str) -> BrokerAddress:
        """The address in a URL; the port by its scheme if not given; raises ValueError with words for people."""
        if not url.isprintable() or " " in url:
            raise ValueError(f"{url!r} has a space or a control character in it; {EXAMPLE}")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ValueError(f"{url!r}: {error}; {EXAMPLE}") from error
        if "@" in parts.netloc:
            raise ValueError("a user or a password does not belong into the address: use user and password_file")
        host = parts.hostname or ""
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        known = parts.scheme in DEFAULT_PORTS and _HOST.fullmatch(host) and port != 0 and not parts.fragment
        if not known or any(not label for label in host.split(".") if ":" not in host) or not path.isascii():
            raise ValueError(f"{url!r} is not the address of a broker; {EXAMPLE}")
        if parts.scheme == "wss":
            path = DEFAULT_PATH if path in {"", "/"} else path
        elif path not in {"", "/"}:
            raise ValueError(f"{url!r}: only wss:// has a path; {EXAMPLE}")
        else:
            path = ""
        return cls(host, port or DEFAULT_PORTS[parts.scheme], parts.scheme, path)
