"""`[modbus_tls]`: certificate files for devices at tls:// addresses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from agent.site_file.device import DeviceSection
from agent.site_file.section import Section
from drivers.endpoint import TlsEndpoint, parse_url
from drivers.tls import TlsFiles


def _whole_path(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError(f"{path!r}: write the whole path of a PEM file")
    return path


class ModbusTlsSection(Section):
    """Who signs the devices' certificates, and the agent's own certificate and key, in PEM."""

    ca: Annotated[str, AfterValidator(_whole_path)]
    certificate: Annotated[str, AfterValidator(_whole_path)]
    key: Annotated[str, AfterValidator(_whole_path)]

    def files(self) -> TlsFiles:
        """The same for a link."""
        return TlsFiles(Path(self.ca), Path(self.certificate), Path(self.key))


def check_tls(devices: Sequence[DeviceSection], section: ModbusTlsSection | None) -> None:
    """Raises ValueError when a device is reached by TLS and there are no certificates."""
    for index, device in enumerate(devices):
        if section is None and isinstance(parse_url(device.url), TlsEndpoint):
            raise ValueError(
                f"device[{index}] ({device.id}).url: {device.url} needs [modbus_tls] with ca, certificate and key"
            )
