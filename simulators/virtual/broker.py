"""An MQTT broker in memory and the client of it that the agent takes for paho's: sessions, QoS 1, wills, and faults.

`client` has the shape of `agent.cloud.mqtt_link.OpenClient`. Everything of the agent from `Connection` on is its own
code. What the broker takes and gives takes `latency_s` each way, in order, unless a fault says otherwise.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from agent.cloud.mqtt_link import RECEIVE_MAXIMUM
from agent.cloud.transport import Opening, Transport
from simulators.virtual.process import CURRENT, Process

MOST_QUEUED = 100_000
"""Messages that a session keeps for a client that is away."""
SESSION_TAKEN_OVER = 0x8E
SERVER_SHUTTING_DOWN = 0x8B
KEEPALIVE_LOSS_S = 45.0
"""One and a half times the agent's keepalive: so late a silent line is noticed."""


@dataclass(slots=True)
class BrokerFaults:
    """What is wrong with the broker or the way to it; set at any time. Shares are of all messages, 0 to 1."""

    down: bool = False
    """Nobody listens; use `Broker.go_down` so that those who are connected are thrown out."""
    deaf: bool = False
    """The way to the broker is dead: connections are neither made nor refused. `go_deaf` ends those there are."""
    lost_after_ack: float = 0.0
    """Messages of the site that are acknowledged and never reach the cloud."""
    duplicated: float = 0.0
    """Messages, either way, that arrive twice."""
    reordered: float = 0.0
    """Messages, either way, that arrive up to 5 s late, behind later ones."""
    refused: bool = False
    """Messages of the site are refused with "not authorised"."""
    latency_s: float = 0.02


@dataclass(slots=True)
class _Message:
    topic: str
    payload: bytes
    retain: bool = False


@dataclass(slots=True)
class _Session:
    """What the broker keeps for a client id."""

    topics: set[str] = field(default_factory=set)
    waiting: deque[_Message] = field(default_factory=lambda: deque(maxlen=MOST_QUEUED))
    in_flight: dict[int, _Message] = field(default_factory=dict)
    next_mid: int = 0
    client: MemoryClient | None = None


class Broker:
    """One broker, the cloud at its other side. `to_cloud` gets what the site publishes."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seed: int, to_cloud: Callable[[str, bytes], None]) -> None:
        self.loop = loop
        self.faults = BrokerFaults()
        self.retained: dict[str, bytes] = {}
        self.connects = 0
        """Connections accepted so far."""
        self.received = 0
        """Messages acknowledged to the site so far."""
        self.forgotten: list[bytes] = []
        """Payloads that waited for a client when the broker lost its sessions."""
        self._sessions: dict[str, _Session] = {}
        self._to_cloud = to_cloud
        self._random = random.Random(f"broker {seed}")

    def client(self, transport: Transport, client_id: str, will: tuple[str, bytes]) -> MemoryClient:
        """A client that has not begun to connect; it belongs to the simulated process that asks."""
        del transport
        return MemoryClient(self, client_id, will, CURRENT.get())

    def go_up(self) -> None:
        """It can be reached again."""
        self.faults.down = self.faults.deaf = False

    @property
    def connected(self) -> bool:
        """Whether any client is connected."""
        return any(session.client is not None for session in self._sessions.values())

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        """A message of the cloud to whoever subscribed to its topic, now or when it is back; False when nobody did."""
        heard = False
        if retain:
            self.retained[topic] = payload
        for session in self._sessions.values():
            if topic in session.topics:
                heard = True
                self._some_time(lambda session=session: self._queue(session, _Message(topic, payload)))  # type: ignore[misc]
        return heard

    def go_down(self, *, forget: bool = False) -> None:
        """The broker stops and throws everybody out; with `forget` without having saved sessions and retained ones."""
        self.faults.down = True
        for session in self._sessions.values():
            if session.client is not None:
                session.client.thrown_out(SERVER_SHUTTING_DOWN)
        if forget:
            for session in self._sessions.values():
                self.forgotten += [message.payload for message in (*session.waiting, *session.in_flight.values())]
            self._sessions.clear()
            self.retained.clear()

    def go_deaf(self) -> None:
        """The line dies without a word: both sides notice it when the keepalive has run out."""
        self.faults.deaf = True
        for session in self._sessions.values():
            if session.client is not None:
                session.client.line_dies()

    def cut_all(self, reason: int = 0) -> None:
        """Every connection breaks once, for a reason code of MQTT 5 or none."""
        for session in self._sessions.values():
            if session.client is not None:
                session.client.thrown_out(reason)

    # What a client does

    def accepts(self, client: MemoryClient) -> None:
        """The client is connected; another one with its id is thrown out."""
        self.connects += 1
        session = self._sessions.setdefault(client.client_id, _Session())
        if session.client is not None:
            session.client.thrown_out(SESSION_TAKEN_OVER)
        session.client = client

    def goes(self, client: MemoryClient) -> None:
        """The client is gone, and its will is published."""
        session = self._sessions.get(client.client_id)
        if session is not None and session.client is client:
            session.client = None
            topic, payload = client.will
            self.retained[topic] = payload
            self._to_cloud(topic, payload)

    def begin_session(self, client: MemoryClient) -> None:
        """What was under way when the client was away last comes again."""
        session = self._sessions[client.client_id]
        again = list(session.in_flight.values())
        session.in_flight.clear()
        session.waiting.extendleft(reversed(again))
        self._pump(session)

    def subscribes(self, client: MemoryClient, topics: list[str]) -> None:
        """The client hears these topics from now on, and first what is retained on them."""
        session = self._sessions[client.client_id]
        session.topics |= set(topics)
        for topic in topics:
            if topic in self.retained:
                self._queue(session, _Message(topic, self.retained[topic], retain=True))

    def unsubscribes(self, client: MemoryClient, topic: str) -> None:
        """The client hears this topic no more."""
        self._sessions[client.client_id].topics.discard(topic)

    def takes(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """A message of the site, on to the cloud."""
        self.received += 1
        if retain:
            self.retained[topic] = payload
        if self._random.random() < self.faults.lost_after_ack:
            return
        self._some_time(lambda: self._to_cloud(topic, payload))

    def acknowledged(self, client: MemoryClient, mid: int) -> None:
        """The client is done with one message."""
        session = self._sessions[client.client_id]
        session.in_flight.pop(mid, None)
        self._pump(session)

    def _some_time(self, deliver: Callable[[], None]) -> None:
        """Now, unless a fault makes it late, or twice."""
        times = 2 if self._random.random() < self.faults.duplicated else 1
        for _ in range(times):
            if self._random.random() < self.faults.reordered:
                self.loop.call_later(self._random.uniform(0.0, 5.0), deliver)
            else:
                deliver()

    def _queue(self, session: _Session, message: _Message) -> None:
        session.waiting.append(message)
        self._pump(session)

    def _pump(self, session: _Session) -> None:
        while session.client is not None and session.waiting and len(session.in_flight) < RECEIVE_MAXIMUM:
            message = session.waiting.popleft()
            session.next_mid = session.next_mid % 65_535 + 1
            session.in_flight[session.next_mid] = message
            session.client.comes(session.next_mid, message)


class MemoryClient:
    """One connection of the agent to the broker, as paho would have it."""

    protocol = MQTTProtocolVersion.MQTTv5

    def __init__(self, broker: Broker, client_id: str, will: tuple[str, bytes], process: Process) -> None:
        self.client_id = client_id
        self.will = will
        self.opening = Opening()
        self.failure: str | None = None
        self.on_connect: Any = None
        self.on_connect_fail: Any = None
        self.on_disconnect: Any = None
        self.on_message: Any = None
        self.on_publish: Any = None
        self.on_subscribe: Any = None
        self._broker = broker
        self._process = process
        self._mid = 0
        self._up = False
        self._over = False
        self._line_dead = False
        self._forget: Callable[[], None] = lambda: None
        self._to_come: deque[Callable[[], None]] = deque()

    def loop_start(self) -> None:
        """Connects, which takes three times the way to the broker."""
        self._forget = self._process.on_death(self._cut)
        self._later(self._connect, 3)

    def _connect(self) -> None:
        faults = self._broker.faults
        if self._process.dead or faults.deaf:
            return
        if faults.down:
            self.failure = "connection refused"
            self._over = True
            self.on_connect_fail(self, None)
            return
        self._up = True
        self._broker.accepts(self)
        self.on_connect(self, None, None, ReasonCode(PacketTypes.CONNACK, "Success"), None)
        self._broker.begin_session(self)

    def subscribe(self, topic: list[tuple[str, Any]]) -> tuple[Any, int | None]:
        """Asks for these topics."""
        if not self._up:
            return mqtt.MQTT_ERR_NO_CONN, None
        self._mid += 1
        mid, topics = self._mid, [name for name, _ in topic]

        def granted() -> None:
            if not self._up:
                return
            codes = [ReasonCode(PacketTypes.SUBACK, "Granted QoS 1")] * len(topics)
            self.on_subscribe(self, None, mid, codes, None)
            self._broker.subscribes(self, topics)

        self._later(granted, 2)
        return mqtt.MQTT_ERR_SUCCESS, mid

    def unsubscribe(self, topic: str) -> Any:
        """Nothing more of this topic."""
        self._later(lambda: self._broker.unsubscribes(self, topic), 1)

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> Any:
        """Sends a message; the broker's answer comes later."""
        del qos
        if not self._up:
            return SimpleNamespace(rc=mqtt.MQTT_ERR_NO_CONN, mid=0)
        self._mid += 1
        mid = self._mid

        def taken() -> None:
            if not self._up:
                return
            if self._broker.faults.refused:
                code = ReasonCode(PacketTypes.PUBACK, "Not authorized")
            else:
                code = ReasonCode(PacketTypes.PUBACK, "Success")
                self._broker.takes(topic, payload, retain=retain)
            self._later(lambda: self.on_publish(self, None, mid, code, None))

        self._later(taken)
        return SimpleNamespace(rc=mqtt.MQTT_ERR_SUCCESS, mid=mid)

    def ack(self, mid: int, qos: int) -> None:
        """The message is done with."""
        del qos
        self._later(lambda: self._broker.acknowledged(self, mid) if self._up else None)

    def disconnect(self, reasoncode: ReasonCode | None = None) -> None:
        """Says goodbye; the broker publishes the will, as the agent asks for it."""
        del reasoncode
        if self._up:
            self._later(lambda: self._lose("Normal disconnection"))

    def loop_stop(self) -> None:
        """No callback is called any more."""
        self._over = True
        self._forget()
        if self._up:
            self._up = False
            self._broker.goes(self)

    def thrown_out(self, reason: int) -> None:
        """The broker ends the connection."""
        code = ReasonCode(PacketTypes.DISCONNECT, identifier=reason)
        if self._up:
            self._up = False
            self._broker.goes(self)
            if not self._over:
                self.on_disconnect(self, None, None, code, None)

    def comes(self, mid: int, message: _Message) -> None:
        """A message from the broker."""
        came = SimpleNamespace(topic=message.topic, payload=message.payload, mid=mid, qos=1, retain=message.retain)
        self._later(lambda: self.on_message(self, None, came) if self._up else None)

    def line_dies(self) -> None:
        """Nothing arrives any more, either way; the connection ends when that is noticed."""
        self._line_dead = True
        self._broker.loop.call_later(KEEPALIVE_LOSS_S, self._lose, "Keep alive timeout")

    def _lose(self, why: str) -> None:
        if self._up:
            self._up = False
            self._broker.goes(self)
            self.on_disconnect(self, None, None, ReasonCode(PacketTypes.DISCONNECT, why), None)

    def _cut(self) -> None:
        """The process is dead; the broker sees the connection end."""
        self._over = True
        if self._up:
            self._up = False
            self._broker.goes(self)

    def _later(self, what: Callable[[], None], ways: int = 1) -> None:
        """After so many times the way to the broker; what was asked for first happens first."""
        self._to_come.append(what)
        self._broker.loop.call_later(ways * self._broker.faults.latency_s, self._next)

    def _next(self) -> None:
        what = self._to_come.popleft()
        if not (self._over or self._line_dead or self._process.dead):
            what()
