"""What Modbus over TLS needs from the disk: the site's certificate authority, and the agent's own certificate and key.

Modbus/TCP Security (MODBUS.org, 2018): TLS 1.2 or later, both sides show a certificate. What the agent may do is
decided by the device, by the role in the agent's certificate.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from drivers.endpoint import BadEndpoint


class BadTls(BadEndpoint):  # named for what the files are
    """A certificate file cannot be used; the text names it."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Files in PEM."""

    ca: Path
    """Who signs the certificates of the devices."""
    certificate: Path
    """The agent's own, with its chain."""
    key: Path
    """The private key of that certificate, without a password."""


def context_for(files: TlsFiles | None) -> ssl.SSLContext:
    """How to talk to devices with certificates that the CA signed and that carry their names; else `BadTls`."""
    if files is None:
        raise BadTls("a tls:// address needs certificates: state ca, certificate and key in [modbus_tls]")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(files.ca)
    except (OSError, ValueError) as error:
        raise BadTls(f"ca {files.ca}: {_why(error)}") from error
    try:
        # A password is refused rather than asked for at the terminal.
        context.load_cert_chain(files.certificate, files.key, password="")
    except (OSError, ValueError) as error:
        raise BadTls(f"certificate {files.certificate} with key {files.key}: {_why(error)}") from error
    return context


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"not usable ({error.reason or 'not PEM'})"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)
