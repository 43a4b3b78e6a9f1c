"""Whether the broker can be reached, step by step: files, DNS, TCP, TLS, login, round trip. For `ems doctor`.

All of it blocks, each step within its time. Only `login` speaks MQTT, and only where no daemon holds the session.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.cloud.mqtt_link import paho_client
from agent.cloud.secret_files import CREDENTIAL
from agent.cloud.topics import Topics
from agent.cloud.transport import CannotConnect, Opening, Transport, expiries, files_of, open_socket, problems
from agent.core.checkup import BrokerFacts, Certificate, Grade, Step

DNS_TIMEOUT_S = 3.0
TCP_TIMEOUT_S = 3.0
LOGIN_TIMEOUT_S = 5.0
HINTS = {
    "files": "mend the file it names; systemctl reload ems-agent brings it into force at once",
    "dns": "is the name in cloud.broker right, and is a DNS server reachable (resolvectl query NAME)?",
    "tcp": "is a firewall in the way, is the port right, is the broker up? From another network: nc -vz HOST PORT",
    "tls": "docs/operator.md, certificates, keys and passwords, says what each of these texts means",
    "login": "user, password or certificate, and the access list of the broker",
}
"""What to do next when a step fails."""


def way(transport: Transport, utc_s: float) -> BrokerFacts:
    """Files, DNS, TCP and TLS, up to the first that fails, and the certificates; nothing is said in MQTT."""
    opening = Opening()
    steps = list(_steps(transport, opening))
    certificates = tuple(
        Certificate(one.subject, one.days_left(utc_s), one.what_to_do) for one in expiries(transport, opening.chain)
    )
    address = transport.address
    return BrokerFacts(f"{address.scheme}://{address.host}:{address.port}", tuple(steps), certificates)


def _steps(transport: Transport, opening: Opening) -> Iterator[Step]:
    not_ours = [name for name in files_of(transport) if name.startswith(CREDENTIAL)] if _without_credentials() else []
    unusable = [] if not_ours else problems(transport)
    for text in unusable:
        yield _failed("files", text)
    if unusable:
        return
    if not_ours:
        text = f"only the service is given {', '.join(not_ours)}: TLS and login are not tried from here"
        yield Step("files", Grade.UNCHECKED, text, "systemctl start ems-agent, then ask again")
    first = transport.proxy or transport.address
    what = "the proxy" if transport.proxy is not None else "the broker"
    begun_s = time.monotonic()
    found = _looked_up(first.host, first.port)
    if isinstance(found, str):
        yield _failed("dns", f"{first.host}: {found}")
        return
    yield Step("dns", Grade.OK, f"{first.host} is {', '.join(found)}", "", _since_ms(begun_s))
    begun_s = time.monotonic()
    try:
        socket.create_connection((first.host, first.port), TCP_TIMEOUT_S).close()
    except OSError as error:
        why = "does not answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
        yield _failed("tcp", f"{what} {first.host}:{first.port}: {why}")
        return
    yield Step("tcp", Grade.OK, f"{what} {first.host}:{first.port} answers", "", _since_ms(begun_s))
    if not_ours or (transport.proxy is None and not transport.address.encrypted):
        return
    begun_s = time.monotonic()
    try:
        opened = open_socket(transport, opening)
    except CannotConnect as error:
        opening.close()
        yield _failed("tls", str(error))
        return
    with opened:
        spoken = opened.version() if isinstance(opened, ssl.SSLSocket) else "no TLS, but the proxy lets us through"
    text = f"{spoken}, chain of {len(opening.chain)} believed, name checked" if opening.chain else str(spoken)
    yield Step("tls", Grade.OK, text, "", _since_ms(begun_s))


def _without_credentials() -> bool:
    """True where this process was given none by systemd: it is not the service."""
    return not os.environ.get("CREDENTIALS_DIRECTORY")


def _looked_up(host: str, port: int) -> list[str] | str:
    """The addresses of a name, or why there are none; a resolver that hangs is not waited for."""
    found: list[str] = []
    trouble = [f"no answer within {DNS_TIMEOUT_S:g} s"]

    def ask() -> None:
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.extend(dict.fromkeys(str(answer[4][0]) for answer in answers))
        except (OSError, UnicodeError) as error:
            trouble[0] = getattr(error, "strerror", None) or str(error)

    asking = threading.Thread(target=ask, daemon=True, name="dns")
    asking.start()
    asking.join(DNS_TIMEOUT_S)
    return list(found) or trouble[0]


def login(transport: Transport, site_id: str) -> list[Step]:
    """Connects under an id of our own, measures one round trip, says goodbye; nothing is subscribed or published.

    Some brokers take the name in the certificate as client id, and then we are in the session that the broker keeps
    for the daemon: it is neither wiped (no clean start) nor ended (its time of expiry stays), and what waits in it is
    not acknowledged, so that it comes again. Must not be called while a daemon is connected: it would be thrown out.
    """
    topics = Topics(site_id)
    client: Any = paho_client(transport, f"ems-{site_id}-doctor", (topics.edge("status"), b""))
    client.will_clear()
    talk = _Talk(client)
    begun_s = time.monotonic()
    client.loop_start()
    try:
        why = talk.refused_within(LOGIN_TIMEOUT_S)
        if why is not None:
            return [_failed("login", why)]
        steps = [Step("login", Grade.OK, "the broker lets this site in", "", _since_ms(begun_s))]
        begun_s = time.monotonic()
        # A topic that nobody subscribed to: the broker answers, and nothing changes.
        client.unsubscribe(topics.edge("doctor"))
        if talk.answered.wait(LOGIN_TIMEOUT_S):
            steps.append(Step("round trip", Grade.OK, "the broker answers in MQTT", "", _since_ms(begun_s)))
        else:
            steps.append(_failed("round trip", f"no answer in MQTT within {LOGIN_TIMEOUT_S:g} s"))
        return steps
    finally:
        talk.end()


class _Talk:
    """One short connection; the callbacks are paho's, on its thread."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._settled = threading.Event()
        self._refusal: str | None = None
        self._resumed = False
        self._up = False
        self.answered = threading.Event()
        client.on_connect = self._on_connect
        client.on_connect_fail = lambda *_: self._lost(client.failure or "no connection to the broker")
        client.on_disconnect = lambda _c, _u, _f, code, _p: self._lost(client.failure or str(code))
        client.on_unsubscribe = lambda *_: self.answered.set()

    def refused_within(self, seconds: float) -> str | None:
        """Why the broker does not let us in; None when it does."""
        if not self._settled.wait(seconds):
            return f"the broker did not answer within {seconds:g} s"
        return self._refusal

    def _on_connect(self, _c: Any, _u: Any, flags: Any, code: Any, _p: Any) -> None:
        if code.is_failure:
            self._refusal = f"the broker refused the connection: {code}"
        else:
            self._up, self._resumed = True, flags.session_present
        self._settled.set()

    def _lost(self, why: str) -> None:
        if not self._settled.is_set():
            self._refusal = why
            self._settled.set()

    def end(self) -> None:
        """Says goodbye; a session that was made for us ends with it."""
        if self._up and not self._resumed and self._client.protocol is MQTTProtocolVersion.MQTTv5:
            properties = Properties(PacketTypes.DISCONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = 0
            self._client.disconnect(properties=properties)
        else:
            if not self._up:
                self._client.opening.end()
            self._client.disconnect()
        with suppress(RuntimeError):
            self._client.loop_stop()


def _failed(name: str, text: str) -> Step:
    return Step(name, Grade.FAILED, text, HINTS.get(name, ""))


def _since_ms(begun_s: float) -> float:
    return 1000.0 * (time.monotonic() - begun_s)
