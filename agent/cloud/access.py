"""The way to the broker, from what the site file says about it."""

from __future__ import annotations

from urllib.parse import urlsplit

from agent.cloud.transport import Login, Proxy, TlsFiles, Transport
from agent.site_file.cloud_access import CloudAccess, ProxySection


def transport(access: CloudAccess) -> Transport:
    """How a connection is to be made."""
    return Transport(
        address=access.address,
        protocol=access.protocol,
        tls=TlsFiles(access.tls.ca, access.tls.certificate, access.tls.key),
        login=_login(access.user, access.password_file),
        proxy=_proxy(access.proxy) if access.proxy is not None else None,
        headers=access.headers,
    )


def _login(user: str | None, password_file: str | None) -> Login | None:
    return Login(user, password_file) if user is not None and password_file is not None else None


def _proxy(section: ProxySection) -> Proxy:
    parts = urlsplit(section.url)
    assert parts.hostname is not None, "checked with the site file"
    assert parts.port is not None, "checked with the site file"
    return Proxy(parts.hostname, parts.port, _login(section.user, section.password_file))
