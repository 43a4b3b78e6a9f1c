"""Light edge clients and the cloud that counts them, all on one event loop: what a broker carries, without the sites.

A light site has the agent's topics, session, window and rule for reconnects, and sends as much as a real one; behind it
is no plant, no disk and no decision.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import random
import ssl
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from agent.cloud.reconnect import LinkOptions, wait_s
from agent.cloud.topics import Topics
from simulators.cloud_account import Delays
from simulators.cloud_count import StreamCount
from simulators.cloud_messages import GZIP_MAGIC, iso_utc, topic
from simulators.mqtt_light import Hello, LightClient

STATUS_BYTES = 1_000
"""An `edge/status` with plans, devices and a condition or two."""
STATUS_EVERY_S = 60.0
REMEMBERED = 16
"""Frames of a site whose content the cloud compares."""
CLOUD_WINDOW = 65_535


@dataclass(frozen=True, slots=True)
class Place:
    """Where the broker is."""

    host: str
    port: int
    context: ssl.SSLContext | None = None
    user: str | None = None
    password: str | None = None


@dataclass(frozen=True, slots=True)
class Habits:
    """What every site of a fleet does."""

    frame_s: float = 60.0
    frame_bytes: int = 1_900
    """A minute of 30 points at 1 s as the agent packs it."""
    link: LinkOptions = field(default_factory=LinkOptions)


@dataclass(slots=True)
class Tally:
    """What all sites together did, in bounded memory."""

    connecting: Delays = field(default_factory=Delays)
    """From the first byte to the broker's word."""
    taken: Delays = field(default_factory=Delays)
    """From publishing to the broker's word."""
    attempts: int = 0
    refused: int = 0
    lost: int = 0
    plans: int = 0
    ups_per_second: Counter[int] = field(default_factory=Counter)
    bytes_out: int = 0
    bytes_in: int = 0


class LightSite:
    """One site. Keeps its session and, of each frame that nobody took yet, the number."""

    def __init__(self, site_id: str, place: Place, habits: Habits, tally: Tally, chance: random.Random) -> None:
        self.site_id = site_id
        self.subscribed = False
        self._place, self._habits, self._tally, self._chance = place, habits, tally, chance
        self._client: LightClient | None = None
        self._attempt: asyncio.Task[None] | None = None
        self._frames: asyncio.TimerHandle | None = None
        self._statuses: asyncio.TimerHandle | None = None
        self._seq = self._ack_seq = self._failures = 0
        self._unconfirmed: dict[tuple[str, int], bytes] = {}
        self._held = 0
        self._begun_s = 0.0
        self._padding = os.urandom(habits.frame_bytes).hex()[: habits.frame_bytes]
        self._ending = False

    def connect(self) -> None:
        """One attempt now; when it fails, or the connection breaks, another after a while."""
        if not self._ending:
            self._attempt = asyncio.get_running_loop().create_task(self._connect())

    def cut(self) -> None:
        """The line breaks."""
        if self._client is not None:
            self._client.abort()

    def begin_sending(self) -> None:
        """Frames and status from now on, at an instant of its own within each period."""
        loop, chance = asyncio.get_running_loop(), self._chance.random
        self._frames = loop.call_later(self._habits.frame_s * chance(), self._frame)
        self._statuses = loop.call_later(STATUS_EVERY_S * chance(), self._status)

    def stop_sending(self) -> None:
        """No further frame."""
        for timer in (self._frames, self._statuses):
            if timer is not None:
                timer.cancel()

    def end(self) -> None:
        """Says goodbye; nothing goes on."""
        self._ending = True
        self.stop_sending()
        if self._attempt is not None:
            self._attempt.cancel()
        if self._client is not None:
            self._client.close()

    @property
    def unconfirmed(self) -> int:
        """Messages that the broker has not taken yet."""
        return len(self._unconfirmed)

    async def _connect(self) -> None:
        will = json.dumps({"schema": "1.0", "site_id": self.site_id, "online": False}).encode()
        place = self._place
        client = LightClient(
            Hello(f"ems-{self.site_id}", will=(self._topic("edge/status"), will), user=place.user,
                  password=place.password)
        )  # fmt: skip
        client.on_up = self._answered
        client.on_subscribed = self._on_subscribed
        client.on_message = self._heard
        client.on_taken = self._taken
        client.on_down = lambda: self._down(client)
        self._client, self._begun_s = client, time.monotonic()
        self._tally.attempts += 1
        try:
            loop = asyncio.get_running_loop()
            await loop.create_connection(lambda: client, place.host, place.port, ssl=place.context)
        except OSError:
            self._down(client)

    def _answered(self, reason: int) -> None:
        if reason:
            self._tally.refused += 1
            self.cut()
            return
        self._tally.connecting.take(time.monotonic() - self._begun_s)
        assert self._client is not None, "it has just been accepted"
        self._client.subscribe(Topics(self.site_id).subscribed)

    def _on_subscribed(self) -> None:
        self.subscribed, self._failures = True, 0
        self._tally.ups_per_second[int(time.monotonic())] += 1
        assert self._client is not None, "it has just subscribed"
        self._client.publish(self._topic("edge/status"), self._padded({"online": True}, STATUS_BYTES), retain=True)
        for (stream, seq), payload in self._unconfirmed.items():
            rest = "edge/ack" if stream == "ack" else "edge/history"
            self._client.publish(self._topic(rest), payload, tag=(stream, seq, time.monotonic()))

    def _down(self, client: LightClient) -> None:
        if client is not self._client or self._ending:
            return
        self._tally.bytes_out += client.bytes_out
        self._tally.bytes_in += client.bytes_in
        self._tally.lost += self.subscribed
        failures = 0 if self.subscribed else self._failures + 1
        self._client, self.subscribed, self._failures = None, False, failures
        wait = wait_s(failures, self._habits.link, self._chance.random)
        asyncio.get_running_loop().call_later(wait, self.connect)

    def bytes_now(self) -> tuple[int, int]:
        """Sent and received on the connection that stands."""
        return (0, 0) if self._client is None else (self._client.bytes_out, self._client.bytes_in)

    def _frame(self) -> None:
        self._seq += 1
        message = {"stream": "telemetry", "seq": self._seq, "at_s": time.time()}
        self._tell("edge/telemetry", "telemetry", self._seq, self._padded(message, self._habits.frame_bytes))
        self._frames = asyncio.get_running_loop().call_later(self._habits.frame_s, self._frame)

    def _status(self) -> None:
        if self._client is not None and self.subscribed:
            self._client.publish(self._topic("edge/status"), self._padded({"online": True}, STATUS_BYTES), retain=True)
        self._statuses = asyncio.get_running_loop().call_later(STATUS_EVERY_S, self._status)

    def _tell(self, rest: str, stream: str, seq: int, payload: bytes) -> None:
        self._unconfirmed[stream, seq] = payload
        if self._client is not None and self.subscribed:
            self._client.publish(self._topic(rest), payload, tag=(stream, seq, time.monotonic()))

    def _taken(self, tag: tuple[str, int, float] | None) -> None:
        if tag is not None:
            self._unconfirmed.pop(tag[:2], None)
            self._tally.taken.take(time.monotonic() - tag[2])

    def _heard(self, name: str, payload: bytes) -> None:
        if "/cloud/plan/" not in name:
            return
        plan = json.loads(gzip.decompress(payload) if payload.startswith(GZIP_MAGIC) else payload)
        if plan["site_id"] != self.site_id or plan["version"] <= self._held:
            return
        self._held = plan["version"]
        self._tally.plans += 1
        self._ack_seq += 1
        ack = {"stream": "ack", "seq": self._ack_seq, "kind": plan["kind"], "version": self._held, "stage": "stored"}
        self._tell("edge/ack", "ack", self._ack_seq, self._padded(ack, 0))

    def _topic(self, rest: str) -> str:
        return topic(self.site_id, rest)

    def _padded(self, message: dict[str, Any], size: int) -> bytes:
        whole = {"schema": "1.0", "site_id": self.site_id, **message}
        raw = json.dumps(whole).encode()
        missing = size - len(raw) - len(',"pad":""') - 1
        return raw if missing <= 0 else json.dumps(whole | {"pad": self._padding[:missing]}).encode()


class LightCloud:
    """Hears all sites over one connection and plans for them; counts, in bounded memory."""

    def __init__(self, place: Place, say: Callable[[str], None]) -> None:
        self._say = say
        self._place = place
        self.ready = asyncio.Event()
        self.messages = self.bytes = self.telemetry = 0
        self.delays = Delays()
        """From a frame to its arrival here."""
        self.stored = Delays()
        """From the publication of a plan to `stored`."""
        self.stored_sites = 0
        self._frames: dict[str, StreamCount] = {}
        self._published_s: dict[str, float] = {}
        hello = Hello("fleet-cloud", user=place.user, password=place.password, receive_maximum=CLOUD_WINDOW)
        self._client = LightClient(hello)
        self._client.on_up = self._answered
        self._client.on_subscribed = self.ready.set
        self._client.on_message = self._heard

    async def begin(self) -> None:
        """Returns when every site will be heard; OSError where the broker is not there."""
        loop, place = asyncio.get_running_loop(), self._place
        await loop.create_connection(lambda: self._client, place.host, place.port, ssl=place.context)
        async with asyncio.timeout(10.0):
            await self.ready.wait()

    @property
    def up(self) -> bool:
        """Connected."""
        return self._client.up

    def end(self) -> None:
        """Says goodbye."""
        self._client.close()

    def publish_plan(self, site_id: str, payload: bytes) -> None:
        """A rolling plan, retained; `stored` is measured from here."""
        self._published_s[site_id] = time.monotonic()
        self._client.publish(topic(site_id, "cloud/plan/rolling"), payload, retain=True)

    def forget_plan(self, site_id: str) -> None:
        """Nothing is retained for the site any more."""
        self._client.publish(topic(site_id, "cloud/plan/rolling"), b"", retain=True)
        self._client.publish(topic(site_id, "edge/status"), b"", retain=True)

    def gaps(self) -> int:
        """Frames below the highest of their site that have not come."""
        return sum(count.missing for count in self._frames.values())

    def redelivered(self) -> int:
        """Frames that came more than once: allowed."""
        return sum(count.redelivered for count in self._frames.values())

    def _answered(self, reason: int) -> None:
        if reason:
            self._say(f"the broker refuses the cloud: reason 0x{reason:02x}; may it hear ems/v1/+/edge/#?")
            return
        self._client.subscribe(["ems/v1/+/edge/#"])

    def _heard(self, name: str, payload: bytes) -> None:
        if not payload:
            return
        self.messages += 1
        self.bytes += len(payload)
        site_id, _, rest = name.removeprefix("ems/v1/").partition("/")
        if rest == "edge/status":
            return
        message = json.loads(payload)
        if rest == "edge/ack":
            begun_s = self._published_s.pop(site_id, None)
            if begun_s is not None:
                self.stored.take(time.monotonic() - begun_s)
                self.stored_sites += 1
        elif rest in {"edge/telemetry", "edge/history"}:
            self.telemetry += 1
            count = self._frames.setdefault(site_id, StreamCount(REMEMBERED))
            if count.take(message["seq"], {"at_s": message["at_s"]}) and rest == "edge/telemetry":
                self.delays.take(time.time() - message["at_s"])


def plan_document(site_id: str, version: int, now_s: float, slots: int) -> bytes:
    """A rolling plan as large as a real one."""
    start = int(now_s) // 1800 * 1800
    power = [round(200.0 * ((slot * 7) % 13 - 6) / 6.0, 3) for slot in range(slots)]
    document = {
        "schema": "1.0", "site_id": site_id, "kind": "rolling", "version": version, "issued_at": iso_utc(now_s),
        "start": iso_utc(start), "slot_s": 1800, "unit": "kW", "positive": "export", "target": "grid", "power": power,
        "soc_end_pct": [50.25] * slots, "price": [12.34] * slots,
    }  # fmt: skip
    return json.dumps(document, separators=(",", ":")).encode()
