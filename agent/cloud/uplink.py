"""The session with the cloud: subscribe, say who we are, learn what the cloud has, send what it has not.

Runs beside the control loop and never in its way: without a broker the outbox fills, and that is all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from agent.cloud.drain import Drain, Outbox, happened_within
from agent.cloud.intake import Inbound
from agent.cloud.messages import ack_message, will_message
from agent.cloud.mqtt_link import (
    MAX_IN_FLIGHT,
    SESSION_TAKEN_OVER,
    Connection,
    ConnectionLost,
    MqttLink,
    OpenClient,
    PublishRefused,
)
from agent.cloud.on_request import AskedRanges, LiveMode, Resending
from agent.cloud.pace import Pace
from agent.cloud.receiving import Receiving
from agent.cloud.reconnect import LinkOptions
from agent.cloud.resend import ResendTimer
from agent.cloud.security import REASONS, SecurityLog
from agent.cloud.signatures import Arrived, KeyRing
from agent.cloud.topics import Topics
from agent.cloud.transport import Transport
from agent.cloud.twin import TwinWatch, taken_text
from agent.cloud.wire import parse_watermark
from agent.core.admission import Refused, admit_watermark
from agent.core.events import Event, EventState, Severity
from agent.core.records import DOCUMENT_KINDS, DocumentKind, Outcome, StorageFailed, Stream


class Confirm(StrEnum):
    """When a message leaves the outbox: when the cloud says that it is stored, or when the broker has it."""

    WATERMARK = "watermark"
    PUBACK = "puback"


STATUS_PAUSE_S = 0.02
ROUND_TRIP_WITHIN_S = 5.0
MOST_PREVIEWS = 5
"""Live frames on their way; they are a look, not the record."""
FLAPS_AFTER = 5
"""Connections in a row that the broker accepted and that soon broke: more than bad luck."""


@dataclass(frozen=True, slots=True)
class UplinkOptions:
    """What may differ from site to site."""

    confirm: Confirm = Confirm.WATERMARK
    watermark_wait_s: float = 2.0
    """How long a new connection waits for the retained watermark before it sends."""
    resend_after_s: float = 60.0
    """What the cloud has not stored so long after it was sent is sent again, then after twice the time, and so on."""
    history_per_s: float = 20.0
    """Old messages a second: a month of frames of a minute goes in 36 minutes."""
    status_every_s: float = 60.0
    calm_after_s: float = 30.0
    """A flood is over when nothing was too fast for so long."""
    steady_after_s: float = 60.0
    """A connection that held this long ends the alarms about its predecessors."""
    link: LinkOptions = field(default_factory=LinkOptions)


class Uplink:
    """The site's voice and ear. `run` it as one task; the other methods may be called at any time on the loop."""

    def __init__(
        self,
        *,
        site_id: str,
        transport: Transport,
        outbox: Outbox,
        status: Callable[[], bytes],
        on_document: Callable[[DocumentKind, Arrived], Awaitable[Outcome]],
        on_command: Callable[[Arrived], Awaitable[Outcome]],
        utc_s: Callable[[], float],
        keys: KeyRing | None = None,
        options: UplinkOptions | None = None,
        open_client: OpenClient | None = None,
    ) -> None:
        self._site_id = site_id
        self._topics = Topics(site_id)
        self._outbox = outbox
        self._status = status
        self._on_document = on_document
        self._on_command = on_command
        self._keys = keys or KeyRing({})
        self._security = SecurityLog()
        self._utc_s = utc_s
        self._options = options or UplinkOptions()
        self._document_kinds = {self._topics.plan(kind): kind for kind in DOCUMENT_KINDS}
        will = (self._topics.edge("status"), will_message(site_id))
        self._link = MqttLink(transport, f"ems-{site_id}", will, self._options.link, open_client)
        self._connection: Connection | None = None
        self._connected = asyncio.Event()
        self._drain: Drain | None = None
        self._status_changed = asyncio.Event()
        self._forecast: bytes | None = None
        self._forecast_changed = asyncio.Event()
        self._watermark_seen = asyncio.Event()
        self._highest_sent: dict[Stream, int] = {}
        self._resend: dict[Stream, ResendTimer] = {}
        self._told_refusal: Refused | None = None
        self._told_publish_refusal: str | None = None
        self.raised: dict[str, tuple[Severity, str]] = {}
        """What is wrong with the session, by code."""
        self._asked = AskedRanges()
        self._live = LiveMode()
        self._previews = 0
        self._short_connections = 0
        self._twin = TwinWatch(utc_s)
        self._accepted = False
        self._disturbed_at_s: float | None = None
        """When somebody last sent too much, or what a cloud in good order never sends."""
        self._chain: tuple[bytes, ...] = ()
        self.last_trouble: str | None = None
        """Why the last connection ended or did not come about."""

    @property
    def connected(self) -> bool:
        """True while the broker has us and our subscriptions."""
        return self._connection is not None

    @property
    def chain(self) -> tuple[bytes, ...]:
        """The broker's certificates in DER, its own first, as it showed them last; none without TLS."""
        if self._connection is not None:
            self._chain = self._connection.chain
        return self._chain

    def use(self, transport: Transport) -> None:
        """The next connection is made this way; `renew` makes it."""
        self._link.transport = transport

    def renew(self, why: str) -> None:
        """The connection is made anew, from the files as they are now; the session is kept, nothing is lost."""
        if self._connection is not None:
            self._connection.replace(why)
        self._link.at_once()

    async def round_trip_s(self) -> float | str:
        """How long the broker takes to acknowledge the status, published once more; or why it does not."""
        connection, begun_s = self._connection, asyncio.get_running_loop().time()
        if connection is None:
            return "there is no session"
        try:
            async with asyncio.timeout(ROUND_TRIP_WITHIN_S):
                await connection.publish(self._topics.edge("status"), self._status(), retain=True)
        except TimeoutError:
            return f"the broker acknowledged nothing within {ROUND_TRIP_WITHIN_S:g} s"
        except (PublishRefused, ConnectionLost) as error:
            return str(error)
        return asyncio.get_running_loop().time() - begun_s

    def notify(self) -> None:
        """The store has something new."""
        if self._drain is not None:
            self._drain.more()

    def status_changed(self) -> None:
        """`edge/status` is published soon; several changes at once make one message."""
        self._status_changed.set()

    def forecast(self, payload: bytes) -> None:
        """`edge/forecast` is this from now on; the last one is published again on each new connection."""
        self._forecast = payload
        self._forecast_changed.set()

    def courtesy(self, outcome: Outcome) -> None:
        """Tells an outcome once, outside the sequence, if there is a connection just now that keeps up."""
        if self._connection is not None and self._connection.unacknowledged < MAX_IN_FLIGHT:
            self._connection.publish(self._topics.edge("ack"), ack_message(self._site_id, None, outcome))

    def start_live(self, minutes: float) -> Refused | None:
        """The cloud sees a frame of every second for so many minutes from now on; 0 ends it."""
        return self._live.start(minutes, asyncio.get_running_loop().time())

    def wants_live(self, at_utc_s: float) -> bool:
        """True when a frame of this second is to be shown; at most once a second, and only while connected."""
        return self._connection is not None and self._live.wants(asyncio.get_running_loop().time(), at_utc_s)

    def show(self, frame: bytes) -> None:
        """Sends a frame once, outside the sequence; it is dropped when the line does not keep up."""
        if self._connection is None or self._previews >= MOST_PREVIEWS:
            return
        self._previews += 1
        self._connection.publish(self._topics.edge("telemetry"), frame).add_done_callback(self._shown)

    def _shown(self, _taken: asyncio.Future[None]) -> None:
        self._previews -= 1

    async def resend(self, stream: str, from_seq: int, to_seq: int) -> Resending | Refused:
        """The range will be sent once more, as far as it is kept, behind all that is new; or why not."""
        asked = await self._asked.ask(self._outbox, stream, from_seq, to_seq)
        self.notify()
        return asked

    async def deliver(self, name: str, payload: bytes) -> None:
        """Returns once the broker has taken the message, over however many connections; raises `PublishRefused`."""
        while True:
            await self._connected.wait()
            connection = self._connection
            if connection is None:  # it broke between the two
                continue
            with suppress(ConnectionLost):
                await connection.publish(self._topics.edge(name), payload)
                return
            await asyncio.wait({connection.lost})
            await asyncio.sleep(0)  # the session ends, and with it what was set

    def still_sends(self, asked: Resending) -> bool:
        """True until the broker has taken all of a range that was asked for."""
        return asked in self._asked.waiting

    async def run(self) -> None:
        """Keeps the session for ever; ends only by cancellation, with the will published."""
        await self._link.run(self._session, self._on_lost)

    async def _session(self, connection: Connection) -> None:
        live_above = await self._prepare()
        drain = Drain(
            connection,
            self._outbox,
            self._topics,
            live_above=live_above,
            forget_on_puback=self._options.confirm is Confirm.PUBACK,
            on_sent=self._sent,
            pace=Pace(self._options.history_per_s),
            asked=self._asked,
        )
        self._watermark_seen.clear()
        self._resend = {stream: ResendTimer(self._options.resend_after_s) for stream in Stream}
        # What waited at the broker may come before its answer to the subscription, and more than there is room for
        # (mosquitto 2.0 after a connection that broke): that answer is read only if somebody takes what waited.
        tasks: list[asyncio.Future[Any]] = [asyncio.ensure_future(self._receive(connection))]
        try:
            await connection.subscribe(self._topics.subscribed)
            if self._twin.look(self._short_connections):
                with suppress(ConnectionLost):  # a broker that forbids it says so, or breaks the connection
                    await connection.subscribe([self._topics.edge("status")])
            self._connection, self._drain = connection, drain
            self._connected.set()
            self._accepted = True
            parts: tuple[Awaitable[Any], ...] = (
                self._tell_status(connection),
                self._tell_forecast(connection),
                self._send(drain),
                self._watch_steadiness(drain),
                self._watch_what_is_stored(drain),
                self._hear_again_after_a_flood(connection),
            )
            tasks += [asyncio.ensure_future(part) for part in parts]
            await asyncio.wait({*tasks, connection.lost}, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()  # a bug: these run for ever
            raise connection.lost.result()
        finally:
            self._connection, self._drain = None, None
            self._connected.clear()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with suppress(StorageFailed):
                await drain.forget_delivered()

    async def _prepare(self) -> int:
        """The highest telemetry sequence sealed before this connection; all later ones are live."""
        highest: dict[Stream, int] = {}
        with suppress(StorageFailed):
            for stream in Stream:
                highest[stream] = await self._outbox.last_seq(stream)
                # What an earlier process sent is not known here, so all it numbered may be confirmed.
                self._highest_sent.setdefault(stream, highest[stream])
        return highest.get(Stream.TELEMETRY, 0)

    async def _send(self, drain: Drain) -> None:
        if self._options.confirm is Confirm.WATERMARK:
            await happened_within(self._watermark_seen, self._options.watermark_wait_s)
        await drain.run()

    def _sent(self, stream: Stream, seq: int) -> None:
        self._highest_sent[stream] = max(seq, self._highest_sent.get(stream, 0))
        self._resend[stream].sent(seq, asyncio.get_running_loop().time())

    async def _tell_status(self, connection: Connection) -> None:
        while True:
            self._status_changed.clear()
            with suppress(PublishRefused, ConnectionLost):
                await connection.publish(self._topics.edge("status"), self._status(), retain=True)
                self._twin.told()
            await happened_within(self._status_changed, self._options.status_every_s)
            # What made it change has its effect first, and what changes with it is in the same message.
            await asyncio.sleep(STATUS_PAUSE_S)

    async def _tell_forecast(self, connection: Connection) -> None:
        while True:
            self._forecast_changed.clear()
            if self._forecast is not None:
                with suppress(PublishRefused, ConnectionLost):
                    await connection.publish(self._topics.edge("forecast"), self._forecast, retain=True)
            await self._forecast_changed.wait()

    async def _receive(self, connection: Connection) -> None:
        async def too_many(topic: str, detail: str) -> None:
            self._disturbed_at_s = asyncio.get_running_loop().time()
            await self._tell_security(topic, "rate_limited", detail)

        async def take(message: Inbound) -> None:
            if message.topic == self._topics.edge("status"):
                connection.unsubscribe(message.topic)
                other = self._twin.found(message.payload, self._status())
                if other is not None:
                    await self._raise("client_id_taken", Severity.ALARM, taken_text(self._site_id, other))
                return
            reason = await self._take(message.topic, self._keys.arrived(message.payload))
            if reason in REASONS and not message.retained:
                self._disturbed_at_s = asyncio.get_running_loop().time()

        receiving = Receiving(
            connection.intake, self._topics, take=take, acknowledge=connection.acknowledge, too_many=too_many
        )
        await receiving.run()

    async def _hear_again_after_a_flood(self, connection: Connection) -> None:
        """A broker whose queue was full dropped what the cloud sent; subscribing anew brings what is retained.

        A flood that the broker holds back looks like single forged messages here: each is reason enough.
        """
        while True:
            await asyncio.sleep(self._options.calm_after_s / 4)
            if self._disturbed_at_s is None:
                continue
            if asyncio.get_running_loop().time() - self._disturbed_at_s > self._options.calm_after_s:
                self._disturbed_at_s = None
                with suppress(ConnectionLost):
                    await connection.subscribe(self._topics.subscribed)

    async def _take(self, topic: str, arrived: Arrived) -> str | None:
        """Hands one message to who answers it; whoever that is reads `arrived.content` and never the payload.

        The reason, when it was refused.
        """
        kind = self._document_kinds.get(topic)
        answer: Outcome | Refused | None = None
        if kind is not None:
            answer = await self._on_document(kind, arrived)
        elif topic == self._topics.command:
            answer = await self._on_command(arrived)
        elif topic == self._topics.watermark:
            answer = await self._take_watermark(arrived.content)
        if answer is None:
            return None
        await self._tell_security(topic, answer.reason, answer.detail)
        return answer.reason

    async def _tell_security(self, topic: str, reason: str | None, detail: str | None) -> None:
        name = topic.removeprefix(self._topics.prefix)
        event = self._security.event(name, reason, detail, self._utc_s(), asyncio.get_running_loop().time())
        if event is not None:
            with suppress(StorageFailed):
                await self._outbox.append_event(event)
                self.notify()

    async def _take_watermark(self, content: bytes | Refused) -> Refused | None:
        parsed = content if isinstance(content, Refused) else parse_watermark(content, self._site_id)
        stored = parsed if isinstance(parsed, Refused) else admit_watermark(parsed, self._highest_sent)
        if isinstance(stored, Refused):
            if stored != self._told_refusal:
                self._told_refusal = stored
                await self._note("watermark_refused", f"the watermark has no effect: {stored.detail}", stored)
            return stored
        self._told_refusal = None
        for stream, seq in stored.items():
            self._resend[stream].stored(seq, asyncio.get_running_loop().time())
            with suppress(StorageFailed):  # the rows stay, and go with a later watermark
                await self._outbox.confirm(stream, seq)
        self._watermark_seen.set()
        return None

    async def _watch_what_is_stored(self, drain: Drain) -> None:
        while self._options.confirm is Confirm.WATERMARK:
            await asyncio.sleep(self._options.resend_after_s / 4)
            for stream, timer in self._resend.items():
                above = timer.due(asyncio.get_running_loop().time())
                if above is not None:
                    drain.again_above(stream, above)
        await asyncio.Event().wait()

    async def _watch_steadiness(self, drain: Drain) -> None:
        await asyncio.sleep(self._options.steady_after_s)
        self._short_connections = 0
        self._twin.steady()
        for code in sorted(self.raised):
            text = "the connection to the broker holds again"
            await self._tell(EventState.CLEARED, Severity.INFO, code, text)
        self.raised.clear()
        if drain.refused is not None and drain.refused != self._told_publish_refusal:
            self._told_publish_refusal = drain.refused
            text = f"the broker refuses what we send: {drain.refused}. Check the access list of the broker"
            await self._tell(EventState.NOTED, Severity.WARNING, "publish_refused", text)
        await asyncio.Event().wait()

    async def _on_lost(self, lost: ConnectionLost) -> None:
        self.last_trouble = str(lost)
        accepted, self._accepted = self._accepted, False
        if accepted and not lost.wanted:
            self._short_connections += 1
        if lost.reason_code == SESSION_TAKEN_OVER:
            text = taken_text(self._site_id, "another client threw us out")
            await self._raise("client_id_taken", Severity.ALARM, text)
        elif self._short_connections >= FLAPS_AFTER:
            # Some brokers (mosquitto 2.0.11) do not say that a session was taken over; this is what it looks like.
            who = f"look for a second agent with the site id {self._site_id}"
            text = f"{self._short_connections} connections in a row soon broke ({lost}): check the line, and {who}"
            await self._raise("connection_flaps", Severity.WARNING, text)

    async def _raise(self, code: str, severity: Severity, text: str) -> None:
        if code not in self.raised:
            self.raised[code] = severity, text
            await self._tell(EventState.RAISED, severity, code, text)

    async def _note(self, code: str, text: str, refused: Refused) -> None:
        await self._tell(
            EventState.NOTED, Severity.WARNING, code, text, {"reason": refused.reason, "field": refused.field}
        )

    async def _tell(
        self, state: EventState, severity: Severity, code: str, text: str, data: dict[str, str | None] | None = None
    ) -> None:
        with suppress(StorageFailed):
            await self._outbox.append_event(
                Event(self._utc_s(), state, severity, code, "cloud", text, dict(data or {}))
            )
            self.notify()
