"""The way to the broker as the site file states it: address, TLS, login, proxy, and whose signatures count."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from agent.site_file.broker_address import BrokerAddress
from agent.site_file.cloud_keys import MOST_KEYS, SigningKeySection
from agent.site_file.section import Section

MOST_HEADERS = 16
_CREDENTIAL = re.compile(r"credential:[A-Za-z0-9_.-]{1,255}")
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
_OWN_HEADERS = ("host", "upgrade", "connection", "origin")
"""Of the WebSocket's request itself, with those that begin with `sec-websocket-`."""


def _file(name: str) -> str:
    if name.startswith("/") or _CREDENTIAL.fullmatch(name):
        return name
    raise ValueError(f"{name!r}: write the whole path, or credential:NAME for one that systemd gives the service")


def _user(name: str) -> str:
    if name and name.isprintable() and ":" not in name:
        return name
    raise ValueError("a name without colons and control characters is wanted")


FileName = Annotated[str, AfterValidator(_file)]
"""A path from the root, or `credential:NAME`."""
UserName = Annotated[str, AfterValidator(_user)]


class TlsSection(Section):
    """Certificates and the key."""

    ca: FileName | None = None
    certificate: FileName | None = None
    key: FileName | None = None

    @model_validator(mode="after")
    def _a_pair(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together: state both, or none")
        return self


class ProxySection(Section):
    """An HTTP proxy on the way."""

    url: str
    user: UserName | None = None
    password_file: FileName | None = None

    @field_validator("url")
    @classmethod
    def _http(cls, url: str) -> str:
        example = "write http://proxy.example:3128"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ValueError(f"{url!r}: {error}; {example}") from error
        if "@" in parts.netloc:
            raise ValueError("a user or a password does not belong into the address: use user and password_file")
        if parts.scheme != "http" or not parts.hostname or not port or parts.path not in {"", "/"}:
            raise ValueError(f"{url!r} is not the address of an HTTP proxy; {example}")
        return url

    @model_validator(mode="after")
    def _a_login(self) -> Self:
        _check_login(self.user, self.password_file)
        return self


class CloudAccess(Section):
    """The part of `[cloud]` that says how the broker is reached and what is believed of what it hands over."""

    broker: str
    protocol: Literal["5", "3.1.1"] = "5"
    user: UserName | None = None
    password_file: FileName | None = None
    headers: Annotated[dict[str, str], Field(max_length=MOST_HEADERS)] = Field(default_factory=dict)
    tls: TlsSection = TlsSection()
    proxy: ProxySection | None = None
    signing_key: list[SigningKeySection] = Field(default_factory=list, max_length=MOST_KEYS)

    @property
    def address(self) -> BrokerAddress:
        """Where the broker listens."""
        return BrokerAddress.parse(self.broker)

    @property
    def on_this_machine(self) -> bool:
        """True where nothing that is sent leaves this machine."""
        host = self.address.host
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    def keys(self) -> dict[str, bytes]:
        """The public keys of the cloud by their ids; empty where nothing need be signed."""
        return {key.id: key.raw for key in self.signing_key}

    @field_validator("broker")
    @classmethod
    def _a_broker(cls, url: str) -> str:
        BrokerAddress.parse(url)
        return url

    @field_validator("signing_key")
    @classmethod
    def _each_its_own(cls, keys: list[SigningKeySection]) -> list[SigningKeySection]:
        for index, key in enumerate(keys):
            for other in keys[:index]:
                if key.id == other.id or key.raw == other.raw:
                    raise ValueError(f"{key.id}: its id or its key is there twice; each key has an id of its own")
        return keys

    @field_validator("headers")
    @classmethod
    def _good_headers(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if not _HEADER_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is not the name of a header")
            if name.lower() in _OWN_HEADERS or name.lower().startswith("sec-websocket-"):
                raise ValueError(f"{name} is part of the WebSocket itself and cannot be stated")
            if not value.isprintable() or not value.isascii():
                raise ValueError(f"{name}: a value of printable ASCII is wanted")
            if value.startswith("file:"):
                _file(value.removeprefix("file:"))
        return headers

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _check_login(self.user, self.password_file)
        if self.tls != TlsSection() and not self.address.encrypted:
            raise ValueError("tls: mqtt:// is not encrypted; write mqtts:// or wss:// in broker, or take tls out")
        if self.headers and self.address.scheme != "wss":
            raise ValueError("headers: only a WebSocket (wss://) has them; take them out")
        return self


def _check_login(user: str | None, password_file: str | None) -> None:
    if (user is None) != (password_file is None):
        raise ValueError("user and password_file belong together: state both, or none")
