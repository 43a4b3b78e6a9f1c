"""One MQTT connection after another, for asyncio. The only module that speaks paho.

Each connection is a paho client of its own and dies with it: nothing that waited in its memory is sent later
behind our back, what is to be sent again comes from the outbox. The broker keeps the session (subscriptions and
what came while we were away) under our fixed client id.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.cloud.intake import MAX_INBOUND, Inbound, Intake
from agent.cloud.reconnect import LinkOptions, wait_s
from agent.cloud.transport import (
    CannotConnect,
    Opening,
    Transport,
    alert_in,
    credentials_of,
    headers_of,
    open_socket,
)

SESSION_EXPIRY_S = 30 * 86_400
"""The broker keeps what was sent to a site that is away for a month."""
MAX_PACKET_BYTES = 2 * 1024 * 1024
"""Above the contract's 1 MiB in a signature, so that a document that is too large arrives and is refused by name."""
RECEIVE_MAXIMUM = MAX_INBOUND
"""Messages that the broker may send before the first is acknowledged. Mosquitto 2.0.11 sends more in a flood."""
MAX_IN_FLIGHT = 20
MAX_QUEUED_IN_PAHO = 64
KEEPALIVE_S = 30
CONNECT_TIMEOUT_S = 10.0
GOODBYE_TIMEOUT_S = 1.0
STEADY_AFTER_S = 30.0
"""A connection that held this long makes the next wait short again; one that flaps does not."""
SESSION_TAKEN_OVER = 0x8E
_DISCONNECT_WITH_WILL = 0x04
_UNSUPPORTED_VERSION = 0x84


class ConnectionLost(Exception):  # noqa: N818 - an expected outcome, named for what happened
    """The connection is gone; `reason_code` is what the broker gave, 0 when it gave nothing."""

    def __init__(self, why: str, reason_code: int = 0, *, wanted: bool = False) -> None:
        super().__init__(why)
        self.reason_code = reason_code
        self.wanted = wanted
        """We ended it ourselves, to make the next one with other files."""


class PublishRefused(Exception):  # noqa: N818
    """The broker took the message and said no, for example for a topic that is not ours."""


class _Client(mqtt.Client):
    """A paho client that opens its socket our way, and takes no packet larger than `MAX_PACKET_BYTES`.

    The two methods that it replaces are paho's inner ones; tests/cloud/test_cloud_transport.py holds them to it.
    """

    transport_of: Transport
    opening: Opening
    failure: str | None = None
    """Why no connection came about, or why it ended, where more is known than paho tells."""

    def _create_socket(self) -> Any:
        address = self.transport_of.address
        try:
            credentials = credentials_of(self.transport_of)
            if credentials is not None:
                self.username_pw_set(*credentials)
            opened = open_socket(self.transport_of, self.opening)
            if address.scheme != "wss":
                return opened
            return mqtt._WebsocketWrapper(  # noqa: SLF001 (paho offers it only with a socket of its own making)
                opened,
                address.host,
                address.port,
                is_ssl=True,
                path=address.path,
                extra_headers=headers_of(self.transport_of),
            )
        except CannotConnect as error:
            self.failure = str(error)
            self.opening.close()
            raise
        except OSError as error:
            self.opening.close()
            where = f"wss://{address.host}:{address.port}{address.shown_path}"
            self.failure = f"{where} did not become a WebSocket: {error}; is the path right?"
            raise

    def _sock_recv(self, bufsize: int) -> bytes:
        if bufsize > MAX_PACKET_BYTES:
            self.failure = f"the broker sent a packet of more than {MAX_PACKET_BYTES} bytes: it is not in order"
            raise ConnectionAbortedError(self.failure)
        if self._in_messages:  # paho keeps those of QoS 2 for as long as the broker likes, as many as it sends
            self.failure = "the broker sent a message with QoS 2, which nobody asked for: it is not in order"
            raise ConnectionAbortedError(self.failure)
        try:
            return super()._sock_recv(bufsize)
        except OSError as error:
            self.failure = alert_in(error) or self.failure
            raise


class Client(Protocol):
    """What a connection needs of a client that is about to connect: paho's methods, and why it failed."""

    opening: Opening
    failure: str | None
    on_connect: Any
    on_connect_fail: Any
    on_disconnect: Any
    on_message: Any
    on_publish: Any
    on_subscribe: Any

    @property
    def protocol(self) -> int:
        """The version of MQTT."""

    def loop_start(self) -> Any:
        """Connects; whatever happens is told to the `on_...` callbacks."""

    def loop_stop(self) -> Any:
        """Returns when no callback is called any more."""

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> Any:
        """Something with `rc` and `mid`; the broker's answer goes to `on_publish`."""

    def subscribe(self, topic: Any) -> tuple[Any, int | None]:
        """Result and `mid`; the broker's answer goes to `on_subscribe`."""

    def unsubscribe(self, topic: str) -> Any:
        """Nothing more of this topic; nobody waits for the broker's answer."""

    def ack(self, mid: int, qos: int) -> Any:
        """Tells the broker that a message is done with."""

    def disconnect(self, reasoncode: ReasonCode | None = None) -> Any:
        """Says goodbye."""


class OpenClient(Protocol):
    """How a client is made for each connection."""

    def __call__(self, transport: Transport, client_id: str, will: tuple[str, bytes]) -> Client:
        """A client that has not begun to connect."""


class Connection:
    """One live connection. All methods belong to the event loop; paho's thread posts to it, and fills the intake."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._unacknowledged: dict[int, asyncio.Future[None]] = {}
        self._subscribing: dict[int, asyncio.Future[None]] = {}
        self._established: asyncio.Future[bool] = self._loop.create_future()
        self.lost: asyncio.Future[ConnectionLost] = self._loop.create_future()
        """Done when the connection is gone."""
        self.intake = Intake()
        client.on_connect = self._on_connect
        client.on_connect_fail = lambda *_: self._post(self._end, client.failure or "no connection to the broker", 0)
        client.on_disconnect = lambda _c, _u, _f, code, _p: self._post(
            self._end, client.failure or str(code), code.value
        )
        client.on_message = self._on_message
        client.on_publish = lambda _c, _u, mid, code, _p: self._post(self._published, mid, code)
        client.on_subscribe = lambda _c, _u, mid, codes, _p: self._post(self._subscribed, mid, codes)

    async def established(self) -> None:
        """Returns once the broker has accepted us; raises `ConnectionLost`."""
        waited: set[asyncio.Future[Any]] = {self._established, self.lost}
        await asyncio.wait(waited, timeout=CONNECT_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if self.lost.done():
            raise self.lost.result()
        if not self._established.done():
            raise ConnectionLost(f"the broker did not answer within {CONNECT_TIMEOUT_S:.0f} s")

    async def subscribe(self, topics: Sequence[str]) -> None:
        """Returns once the broker has granted all topics; retained messages come again. Raises `ConnectionLost`."""
        if self._client.protocol is MQTTProtocolVersion.MQTTv5:
            _, mid = self._client.subscribe([(topic, SubscribeOptions(qos=1)) for topic in topics])
        else:
            _, mid = self._client.subscribe([(topic, 1) for topic in topics])
        if mid is None:
            raise ConnectionLost("the connection broke before the subscription")
        granted: asyncio.Future[None] = self._loop.create_future()
        self._subscribing[mid] = granted
        waited: set[asyncio.Future[Any]] = {granted, self.lost}
        await asyncio.wait(waited, timeout=CONNECT_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if self.lost.done():
            raise self.lost.result()
        if not granted.done():
            raise ConnectionLost("the broker did not answer the subscription")
        granted.result()

    def unsubscribe(self, topic: str) -> None:
        """Nothing more of this topic comes, soon."""
        if not self.lost.done():
            self._client.unsubscribe(topic)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> asyncio.Future[None]:
        """Done when the broker has taken the message; fails with `PublishRefused`, or `ConnectionLost`."""
        done: asyncio.Future[None] = self._loop.create_future()
        if self.lost.done():
            _fail(done, self.lost.result())
            return done
        info = self._client.publish(topic, payload, qos=1, retain=retain)
        if info.rc == mqtt.MQTT_ERR_SUCCESS:
            self._unacknowledged[info.mid] = done
        elif info.rc == mqtt.MQTT_ERR_QUEUE_SIZE:
            _fail(done, PublishRefused("too many messages wait for the broker"))
        else:
            _fail(done, ConnectionLost("the connection broke"))
        return done

    @property
    def unacknowledged(self) -> int:
        """Messages that were published and not taken by the broker yet."""
        return len(self._unacknowledged)

    def acknowledge(self, message: Inbound) -> None:
        """The broker may forget the message: what it asked for is done, and durable.

        It hears so in the order in which the messages came, as the standard asks for (MQTT 5, section 4.6).
        """
        if message.qos == 0 or self.lost.done():
            return
        for mid in self.intake.done(message):
            self._client.ack(mid, 1)

    # paho's thread

    def _post(self, call: Callable[..., None], *args: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            self._loop.call_soon_threadsafe(call, *args)

    def _on_connect(self, _c: mqtt.Client, _u: Any, _f: Any, code: ReasonCode, _p: Any) -> None:
        if code.is_failure:
            hint = (
                '; it may speak only the older version: protocol = "3.1.1"'
                if code.value == _UNSUPPORTED_VERSION
                else ""
            )
            self._post(self._end, f"the broker refused the connection: {code}{hint}", code.value)
        else:
            self._post(self._accept)

    def _on_message(self, _c: mqtt.Client, _u: Any, message: mqtt.MQTTMessage) -> None:
        with suppress(UnicodeDecodeError):
            payload = bytes(message.payload)
            self.intake.offer(Inbound(message.topic, payload, message.mid, message.qos, retained=message.retain))

    # The event loop

    def _accept(self) -> None:
        if not self._established.done():
            self._established.set_result(True)

    def _published(self, mid: int, code: ReasonCode) -> None:
        done = self._unacknowledged.pop(mid, None)
        if done is None or done.done():
            return
        if code.is_failure:
            _fail(done, PublishRefused(str(code)))
        else:
            done.set_result(None)

    def _subscribed(self, mid: int, codes: Sequence[ReasonCode]) -> None:
        granted = self._subscribing.pop(mid, None)
        if granted is None or granted.done():
            return
        refused = [str(code) for code in codes if code.is_failure]
        if refused:
            granted.set_exception(ConnectionLost(f"the broker refused a subscription: {refused[0]}"))
        else:
            granted.set_result(None)

    def replace(self, why: str) -> None:
        """Ends this connection so that the next one is made at once."""
        self._end(why, 0, wanted=True)

    @property
    def chain(self) -> tuple[bytes, ...]:
        """The broker's certificates in DER; none without TLS."""
        return self._client.opening.chain

    def _end(self, why: str, reason_code: int, *, wanted: bool = False) -> None:
        if self.lost.done():
            return
        lost = ConnectionLost(why, reason_code, wanted=wanted)
        self.lost.set_result(lost)
        for done in self._unacknowledged.values():
            if not done.done():
                _fail(done, lost)
        self._unacknowledged.clear()

    async def close(self) -> None:
        """The connection is gone and its thread has ended; the broker publishes the will if it was still up."""
        up = self._established.done() and not self.lost.done()
        if up and self._client.protocol is MQTTProtocolVersion.MQTTv5:
            self._client.disconnect(ReasonCode(PacketTypes.DISCONNECT, identifier=_DISCONNECT_WITH_WILL))
            await asyncio.wait({self.lost}, timeout=GOODBYE_TIMEOUT_S)
        self._end("closed", 0)
        self.intake.close()
        # In MQTT 3.1.1 a goodbye would take the will back: the socket just closes.
        self._client.opening.end()
        self._client.disconnect()  # also ends the wait before a retry that we do not want
        await asyncio.to_thread(self._client.loop_stop)


def _fail(done: asyncio.Future[None], why: Exception) -> None:
    done.set_exception(why)
    done.exception()  # a message sent as a courtesy has nobody who asks; that is no news for the log


class MqttLink:
    """Keeps one session after another with the broker, waiting longer between attempts that fail."""

    def __init__(
        self,
        transport: Transport,
        client_id: str,
        will: tuple[str, bytes],
        options: LinkOptions | None = None,
        open_client: OpenClient | None = None,
    ) -> None:
        self.transport = transport
        """How the next connection is made."""
        self._open_client = open_client or paho_client
        self._again = asyncio.Event()
        self._client_id = client_id
        self._will = will
        self._options = options or LinkOptions()

    async def run(
        self, session: Callable[[Connection], Awaitable[None]], on_lost: Callable[[ConnectionLost], Awaitable[None]]
    ) -> None:
        """Runs `session` on each connection until it is lost, for ever; `on_lost` hears why, each time."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            begun_s = loop.time()
            lost = await self._one_connection(session)
            steady = lost.wanted or loop.time() - begun_s > STEADY_AFTER_S
            failures = 0 if steady else failures + 1
            await on_lost(lost)
            if not lost.wanted:
                taken_over = lost.reason_code == SESSION_TAKEN_OVER
                await self._pause(wait_s(failures, self._options, random.random, taken_over=taken_over))

    def at_once(self) -> None:
        """The next attempt is made now, if one is waited for."""
        self._again.set()

    async def _pause(self, seconds: float) -> None:
        self._again.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._again.wait()

    async def _one_connection(self, session: Callable[[Connection], Awaitable[None]]) -> ConnectionLost:
        client = self._open_client(self.transport, self._client_id, self._will)
        connection = Connection(client)
        client.loop_start()
        try:
            await connection.established()
            await session(connection)
        except ConnectionLost as lost:
            return lost
        finally:
            await connection.close()
        return ConnectionLost("the session ended")


def paho_client(transport: Transport, client_id: str, will: tuple[str, bytes]) -> Client:
    """A paho client for one connection, with the session that the broker keeps for `client_id`."""
    newer = transport.protocol == "5"
    client = _Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        clean_session=None if newer else False,
        protocol=MQTTProtocolVersion.MQTTv5 if newer else MQTTProtocolVersion.MQTTv311,
        transport="websockets" if transport.address.scheme == "wss" else "tcp",
        manual_ack=True,
        reconnect_on_failure=False,
    )
    client.transport_of = transport
    client.opening = Opening()
    client.suppress_exceptions = True  # an exception in a callback would end the network thread unseen
    client.max_inflight_messages = MAX_IN_FLIGHT
    client.max_queued_messages = MAX_QUEUED_IN_PAHO
    client.reconnect_delay_set(min_delay=0, max_delay=0)
    topic, payload = will
    client.will_set(topic, payload, qos=1, retain=True)
    host, port = transport.address.host, transport.address.port
    if not newer:
        client.connect_async(host, port, KEEPALIVE_S)
        return client
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = SESSION_EXPIRY_S
    properties.ReceiveMaximum = RECEIVE_MAXIMUM
    properties.MaximumPacketSize = MAX_PACKET_BYTES
    client.connect_async(host, port, KEEPALIVE_S, clean_start=False, properties=properties)
    return client
