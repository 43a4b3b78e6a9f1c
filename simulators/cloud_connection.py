"""How simulated clouds and fleets reach a broker: the address, the files for TLS, one paho client."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PORTS = {"mqtt": 1883, "mqtts": 8883}
SESSION_EXPIRY_S = 7 * 86400
KEEPALIVE_S = 30


class BadAddressError(Exception):
    """The broker cannot be reached this way; the text says what to write instead."""


@dataclass(frozen=True, slots=True)
class BrokerAccess:
    """One way to a broker; TLS where the address says `mqtts`, and never else."""

    url: str
    ca: Path | None = None
    """None: the authorities of this machine."""
    certificate: Path | None = None
    key: Path | None = None
    user: str | None = None
    password_file: Path | None = None

    @property
    def place(self) -> tuple[str, str, int]:
        """Scheme, host and port."""
        parts = urlsplit(self.url)
        try:
            port = parts.port
        except ValueError:
            port = 0
        if parts.scheme not in PORTS or not parts.hostname or port == 0 or parts.path not in {"", "/"}:
            wanted = "write mqtt://HOST, or mqtts://HOST for TLS, with :PORT where it is not 1883 or 8883"
            raise BadAddressError(f"{self.url!r} is no address of a broker; {wanted}")
        return parts.scheme, parts.hostname, port or PORTS[parts.scheme]

    def context(self) -> ssl.SSLContext | None:
        """For TLS, with everything verified; None without. BadAddressError where files cannot be used."""
        if self.place[0] != "mqtts":
            if self.ca or self.certificate or self.key:
                raise BadAddressError(f"{self.url}: certificates belong to TLS: write mqtts:// or leave them out")
            return None
        try:
            context = ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            names = ", ".join(str(file) for file in (self.ca, self.certificate, self.key) if file is not None)
            raise BadAddressError(f"{names}: {error}; PEM files are wanted, the key that of the certificate") from error
        return context

    def password(self) -> str | None:
        """The one line of the password file."""
        if self.password_file is None:
            return None
        try:
            return self.password_file.read_text().strip()
        except OSError as error:
            raise BadAddressError(f"{self.password_file}: {error.strerror}") from error


def new_client(access: BrokerAccess, client_id: str) -> mqtt.Client:
    """A client that is ready to connect; BadAddressError where files or address cannot be used."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5)
    client.reconnect_delay_set(1, 1)
    context = access.context()
    if context is not None:
        client.tls_set_context(context)
    if access.user is not None:
        client.username_pw_set(access.user, access.password())
    return client


def begin(client: mqtt.Client, access: BrokerAccess) -> None:
    """Connects, and again whenever the connection breaks; the broker keeps the session meanwhile."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho has no types here
    properties.SessionExpiryInterval = SESSION_EXPIRY_S
    _, host, port = access.place
    client.connect_async(host, port, keepalive=KEEPALIVE_S, clean_start=False, properties=properties)
    client.loop_start()
