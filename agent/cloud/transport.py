"""How bytes reach the broker: TCP, TLS and an HTTP proxy on the way; every failure in words for people.

Files are read anew for each connection, so that a renewed certificate, key or password counts from the next one on.
Runs on the network thread of a connection and blocks it, within `Deadline`.
"""

from __future__ import annotations

import base64
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from agent.cloud import certificates
from agent.cloud.certificates import Expiry, NotACertificate
from agent.cloud.secret_files import UnusableFile, content_of, password_in, path_of
from agent.site_file.broker_address import BrokerAddress

CONNECT_TIMEOUT_S = 5.0
"""For each of: TCP, the proxy, TLS, the WebSocket."""
RECEIVE_BUFFER_BYTES = 128 * 1024
"""What waits unread in the kernel: a flood is to wait at its sender, not in front of the answers to what we sent."""
MAX_PROXY_ANSWER_BYTES = 8192
FROM_FILE = "file:"
"""Before the path of a file that holds a header's value."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Files of the TLS connection, as the site file names them: paths, or `credential:NAME`."""

    ca: str | None = None
    """Only certificates that come from here are believed; None: those that the system believes."""
    certificate: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Login:
    """A user and the file with the password."""

    user: str
    password_file: str


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy that lets connections through (CONNECT)."""

    host: str
    port: int
    login: Login | None = None


@dataclass(frozen=True, slots=True)
class Transport:
    """The whole way to the broker."""

    address: BrokerAddress
    protocol: str = "5"
    """Version of MQTT: `5` or `3.1.1`."""
    tls: TlsFiles = field(default_factory=TlsFiles)
    login: Login | None = None
    proxy: Proxy | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Of the WebSocket's request."""


class CannotConnect(OSError):  # noqa: N818 - an expected outcome, named for what happened
    """No connection came about; the text says why, and where it helps, what to do."""


@dataclass(slots=True)
class Opening:
    """A connection while it is made, so that another thread may end it, and what was seen on the way."""

    chain: tuple[bytes, ...] = ()
    """The broker's certificates in DER, its own first, up to the CA that we believe."""
    _socket: socket.socket | None = None
    _ended: bool = False

    def opened(self, found: socket.socket) -> None:
        """What is open now; raises `CannotConnect` when nobody wants it any more."""
        self._socket = found
        if self._ended:
            raise CannotConnect("the connection is not wanted any more")

    def end(self) -> None:
        """Whatever waits for the peer stops waiting, now or as soon as it would."""
        self._ended = True
        if self._socket is not None:
            with suppress(OSError):  # half open, or gone already
                # The plain socket's own method: that of TLS would let the other thread read on without decryption.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Nothing stays open after a failure."""
        if self._socket is not None:
            self._socket.close()


def open_socket(transport: Transport, opening: Opening) -> socket.socket:
    """A socket on which MQTT, or the WebSocket's request, may be spoken; raises `CannotConnect`."""
    address, proxy = transport.address, transport.proxy
    context = tls_context(transport.tls) if address.encrypted else None
    if proxy is None:
        plain = _tcp(address.host, address.port, "the broker")
        opening.opened(plain)
    else:
        plain = _tcp(proxy.host, proxy.port, "the proxy")
        opening.opened(plain)
        _through_proxy(plain, proxy, address)
    if context is None:
        return plain
    encrypted = _tls(context, plain, address.host, opening)
    opening.chain = _chain(encrypted)
    return encrypted


def _tcp(host: str, port: int, what: str) -> socket.socket:
    try:
        opened = socket.create_connection((host, port), CONNECT_TIMEOUT_S)
    except TimeoutError as error:
        raise CannotConnect(f"{what} {host}:{port} does not answer: is a firewall in the way?") from error
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise CannotConnect(f"{what} {host}:{port}: {why}") from error
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    return opened


def _through_proxy(plain: socket.socket, proxy: Proxy, address: BrokerAddress) -> None:
    """The proxy joins `plain` with the broker (RFC 9110, section 9.3.6)."""
    host = f"[{address.host}]" if ":" in address.host else address.host
    lines = [f"CONNECT {host}:{address.port} HTTP/1.1", f"Host: {host}:{address.port}"]
    if proxy.login is not None:
        credentials = f"{proxy.login.user}:{_password(proxy.login)}".encode()
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(credentials).decode('ascii')}")
    where = f"the proxy {proxy.host}:{proxy.port}"
    end_s = time.monotonic() + CONNECT_TIMEOUT_S
    answer = b""
    try:
        plain.sendall("\r\n".join([*lines, "", ""]).encode("utf-8"))
        # Byte by byte: what follows the answer belongs to the broker.
        while not answer.endswith(b"\r\n\r\n"):
            if len(answer) >= MAX_PROXY_ANSWER_BYTES or time.monotonic() > end_s:
                raise CannotConnect(f"{where} gives no answer that ends: is it an HTTP proxy?")
            byte = plain.recv(1)
            if not byte:
                raise CannotConnect(f"{where} closed the connection: does it allow CONNECT to port {address.port}?")
            answer += byte
    except TimeoutError as error:
        raise CannotConnect(f"{where} does not answer: is it an HTTP proxy?") from error
    status = answer.split(b"\r\n", 1)[0].split(b" ", 2)
    code = status[1] if len(status) > 1 and status[0].startswith(b"HTTP/1.") else b""
    if code == b"407":
        raise CannotConnect(f"{where} wants a user and a password: state them in cloud.proxy")
    if len(code) != 3 or not code.startswith(b"2"):
        found = answer[:60].decode("ascii", "replace").split("\r\n")[0]
        raise CannotConnect(f"{where} refuses the way to {host}:{address.port}: {found!r}")


def _password(login: Login) -> str:
    try:
        return password_in(login.password_file)
    except UnusableFile as error:
        raise CannotConnect(str(error)) from error


def credentials_of(transport: Transport) -> tuple[str, str] | None:
    """User and password for the broker, read now; raises `CannotConnect`."""
    login = transport.login
    return None if login is None else (login.user, _password(login))


def headers_of(transport: Transport) -> dict[str, str]:
    """The headers of the WebSocket's request, those in files read now; raises `CannotConnect`."""
    try:
        return {
            name: password_in(value.removeprefix(FROM_FILE)) if value.startswith(FROM_FILE) else value
            for name, value in transport.headers.items()
        }
    except UnusableFile as error:
        raise CannotConnect(str(error)) from error


def tls_context(files: TlsFiles) -> ssl.SSLContext:
    """TLS 1.2 or later with the name of the broker checked; raises `CannotConnect` where a file cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if files.ca is None:
            context.load_default_certs()
        else:
            bundle = certificates.in_pem(content_of(files.ca, secret=False).decode("utf-8", "replace"))
            if not bundle:
                raise CannotConnect(f"{path_of(files.ca)}: there is no certificate in it; the CA's in PEM is wanted")
            context.load_verify_locations(cadata=b"".join(bundle))
        if files.certificate is not None and files.key is not None:
            content_of(files.certificate, secret=False)
            if b"ENCRYPTED" in content_of(files.key, secret=True):
                raise CannotConnect(
                    f"{path_of(files.key)}: the key is encrypted; store it without a password, mode 0600"
                )
            context.load_cert_chain(path_of(files.certificate), path_of(files.key), password=_nobody)
    except UnusableFile as error:
        raise CannotConnect(str(error)) from error
    except (ssl.SSLError, NotACertificate) as error:
        raise CannotConnect(_bad_files(files, error)) from error
    return context


def _nobody() -> str:
    """Nobody is there to type a password."""
    return ""


def _bad_files(files: TlsFiles, error: Exception) -> str:
    if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
        return (
            f"{files.key}: this key does not belong to the certificate in {files.certificate}; take both of one order"
        )
    which = ", ".join(name for name in (files.ca, files.certificate, files.key) if name is not None)
    return f"one of {which} is not in PEM, or damaged: {error}"


def _tls(context: ssl.SSLContext, plain: socket.socket, host: str, opening: Opening) -> ssl.SSLSocket:
    try:
        encrypted = context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
        opening.opened(encrypted)
        encrypted.settimeout(CONNECT_TIMEOUT_S)
        encrypted.do_handshake()
    except ssl.SSLCertVerificationError as error:
        raise CannotConnect(_distrusted(error, host)) from error
    except TimeoutError as error:
        raise CannotConnect(f"{host} does not answer the TLS handshake: is this the TLS port?") from error
    except ssl.SSLError as error:
        raise CannotConnect(_tls_refused(error, host)) from error
    except OSError as error:
        why = "closed the connection in the TLS handshake: does it take our certificate, is this the TLS port?"
        raise CannotConnect(f"{host} {why}") from error
    return encrypted


_EXPIRED, _NOT_YET_VALID = 10, 9
"""X509_V_ERR_CERT_HAS_EXPIRED and X509_V_ERR_CERT_NOT_YET_VALID of OpenSSL."""


def _distrusted(error: ssl.SSLCertVerificationError, host: str) -> str:
    what = f"the certificate of {host} is not believed: {error.verify_message}"
    if error.verify_code in {_EXPIRED, _NOT_YET_VALID}:
        return f"{what}; is the site's clock right? Else the broker needs a new certificate"
    return f"{what}; compare cloud.tls.ca with the CA of the broker, and the name in cloud.broker"


def _tls_refused(error: ssl.SSLError, host: str) -> str:
    reason = (error.reason or str(error)).replace("_", " ").lower()
    if "alert" in reason:
        return f"{host} refused us: {reason}; look at the site's certificate (cloud.tls.certificate)"
    return f"no TLS with {host}: {reason}; is this the TLS port?"


def alert_in(error: BaseException | None) -> str | None:
    """What the broker said of us in a TLS alert: in TLS 1.3 it comes after the handshake, with the first bytes read."""
    if isinstance(error, ssl.SSLError) and error.reason and "ALERT" in error.reason:
        return f"the broker refused us: {error.reason.replace('_', ' ').lower()}; look at cloud.tls.certificate"
    return None


def _chain(encrypted: ssl.SSLSocket) -> tuple[bytes, ...]:
    """The broker's certificates up to the CA; its own alone where this Python does not tell the others."""
    public = getattr(encrypted, "get_verified_chain", None)
    if public is not None:  # Python 3.13 and later
        return tuple(public())
    inner = getattr(getattr(encrypted, "_sslobj", None), "get_verified_chain", None)
    if inner is not None:
        return tuple(ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in inner())
    own = encrypted.getpeercert(binary_form=True)
    return () if own is None else (own,)


def expiries(transport: Transport, chain: Sequence[bytes]) -> list[Expiry]:
    """When the site's certificate, the CA's and those of the broker's chain end, as far as they can be read."""
    files, found = transport.tls, list[Expiry]()
    for subject, name, end_of, what_to_do in (
        ("site certificate", files.certificate, certificates.first_to_end, "renew it and replace the files"),
        ("CA certificate", files.ca, certificates.last_to_end, "ask for the CA's new one, keep both in the file"),
    ):
        if name is None or not transport.address.encrypted:
            continue
        try:
            end = end_of(certificates.in_pem(content_of(name, secret=False).decode("utf-8", "replace")))
        except (UnusableFile, NotACertificate):
            continue  # told by the connection that does not come about
        if end is not None:
            found.append(Expiry(subject, end, what_to_do))
    try:
        end = certificates.first_to_end(chain)
    except NotACertificate:
        end = None
    if end is not None:
        found.append(Expiry("broker's certificate", end, "the operator of the broker must renew it"))
    return found


def files_of(transport: Transport) -> list[str]:
    """The files that a connection is made from, as the site file names them."""
    files = [transport.tls.ca, transport.tls.certificate, transport.tls.key]
    files += [login.password_file for login in (transport.login, transport.proxy and transport.proxy.login) if login]
    files += [value.removeprefix(FROM_FILE) for value in transport.headers.values() if value.startswith(FROM_FILE)]
    return [name for name in files if name is not None]


def fingerprint(transport: Transport) -> tuple[object, ...]:
    """Changes when a file that a connection is made from changes."""
    return tuple(_state(name) for name in files_of(transport))


def _state(name: str) -> tuple[int, ...] | None:
    try:
        found = path_of(name).stat()
    except (OSError, UnusableFile):
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def problems(transport: Transport) -> list[str]:
    """What keeps this process from connecting before anything is sent: files that cannot be used."""
    checks: list[Callable[[], object]] = [lambda: credentials_of(transport), lambda: headers_of(transport)]
    if transport.address.encrypted:
        checks.append(lambda: tls_context(transport.tls))
    proxy_login = transport.proxy.login if transport.proxy is not None else None
    if proxy_login is not None:
        checks.append(lambda: _password(proxy_login))
    found: list[str] = []
    for check in checks:
        try:
            check()
        except CannotConnect as error:
            found.append(str(error))
    return found
