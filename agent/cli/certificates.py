"""Certificate files of the command line, for devices that are asked without a site file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from drivers.tls import TlsFiles

CaOption = typer.Option(None, "--tls-ca", metavar="PEM", help="For tls://: who signs the device's certificate.")
CertificateOption = typer.Option(None, "--tls-certificate", metavar="PEM", help="For tls://: our own certificate...")
KeyOption = typer.Option(None, "--tls-key", metavar="PEM", help="...and its key, as in [modbus_tls] of a site file.")


def tls_files(ca: Path | None, certificate: Path | None, key: Path | None, *, needed_for: str = "") -> TlsFiles | None:
    """The files where all three are stated, None where none is; `BadTls` for some of them, or where they are needed."""
    from drivers.tls import BadTls, TlsFiles  # noqa: PLC0415 (the CLI starts fast)

    if ca is not None and certificate is not None and key is not None:
        return TlsFiles(ca, certificate, key)
    if ca is None and certificate is None and key is None and not needed_for:
        return None
    raise BadTls(
        f"{needed_for or 'tls'} needs --tls-ca, --tls-certificate and --tls-key: PEM files as in [modbus_tls] of a "
        "site file"
    )
