"""A simulated cloud over real MQTT: plans for one site, stores and counts what the site sends.

`python -m simulators.cloud --broker mqtt://127.0.0.1:1883 --site demo-01` runs one by itself, on real time.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from simulators.cloud_count import SampleCount, StreamCount
from simulators.cloud_messages import (
    LedgerSlot,
    PlanDocument,
    Sample,
    UnreadableError,
    read_ledger_slot,
    read_message,
    read_samples,
    topic,
    watermark,
)
from simulators.cloud_planner import MeasuredSoc, Planner, SiteModel
from simulators.market import MARKET_SLOT_S, MarketClock, load_jepx
from simulators.optimiser import BatteryModel, Connection

SESSION_EXPIRY_S = 7 * 86400
WATERMARK_PERIOD_S = 0.5
KEPT_SAMPLES = 100_000
KEPT_EVENTS = 1_000
KEPT_SLOTS = 10_000
ACK_OF_PLAN = tuple[str, int | None, str]
"""Kind, version, stage."""


@dataclass(frozen=True, slots=True)
class CloudCounts:
    """What has come from the site so far."""

    connected: bool
    """Connected, and what the site sends will arrive."""
    telemetry_frames: int
    """Unique sequences of the telemetry stream."""
    telemetry_highest: int
    samples: int
    gaps: int
    """Telemetry sequences below the highest that have not come."""
    redelivered: int
    conflicts: int
    duplicates: int
    """Samples whose instant came in two different frames."""
    other_gaps: int
    """The same for acks, events and slots of the ledger."""
    malformed: int
    acks_by_stage: dict[str, int]
    acks: tuple[ACK_OF_PLAN, ...]
    """Each acknowledged stage once, in the order of arrival."""
    rejections: tuple[str, ...]
    versions: dict[str, int]
    """The newest version published, by kind."""


@dataclass(slots=True)
class _Stored:
    """Everything received; guarded by the cloud's lock."""

    streams: dict[str, StreamCount] = field(
        default_factory=lambda: {name: StreamCount() for name in ("telemetry", "ack", "event", "ledger")}
    )
    instants: SampleCount = field(default_factory=SampleCount)
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=KEPT_SAMPLES))
    full_rate: deque[Sample] = field(default_factory=lambda: deque(maxlen=KEPT_SAMPLES))
    """Asked for from a site on a metered link."""
    acks: dict[ACK_OF_PLAN, None] = field(default_factory=dict)
    stages: Counter[str] = field(default_factory=Counter)
    rejections: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_EVENTS))
    events: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=KEPT_EVENTS))
    slots: deque[LedgerSlot] = field(default_factory=lambda: deque(maxlen=KEPT_SLOTS))
    status: dict[str, Any] | None = None
    newest: Sample | None = None
    malformed: int = 0


class SimulatedCloud:
    """Plans and counts in its own threads; every method may be called from any thread."""

    def __init__(
        self,
        broker_url: str,
        planner: Planner,
        *,
        replan_slots: int = 4,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Nothing runs yet; the rolling plan is made anew every `replan_slots` slots."""
        parts = urlsplit(broker_url)
        assert parts.hostname, f"{broker_url!r} names no host"
        self._host, self._port = parts.hostname, parts.port or 1883
        self._planner, self._now = planner, now
        self._site_id = planner.site.site_id
        self._replan_slots = replan_slots
        self._lock = threading.RLock()
        self._stored = _Stored()
        self._retained: dict[str, bytes] = {}
        self._versions: dict[str, int] = {}
        self._planning = True
        self._subscribed = False
        self._next_plan_slot = 0
        self._ending = threading.Event()
        self._worker = threading.Thread(target=self._work, name="cloud", daemon=True)
        self._mqtt = self._new_client()

    def start(self, first_slot_utc_s: int) -> None:
        """Publish a yearly and a rolling plan that begin at `first_slot_utc_s`, and go on planning."""
        now = self._now()
        self._publish_plan(self._planner.yearly(now, first_slot_utc_s))
        first_soc = MeasuredSoc(self._planner.site.initial_soc_pct, first_slot_utc_s)
        self._publish_plan(self._planner.rolling(now, first_soc, first_slot_utc_s))
        self._next_plan_slot = first_slot_utc_s + self._replan_slots * self._planner.clock.slot_s
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho has no types here
        properties.SessionExpiryInterval = SESSION_EXPIRY_S
        self._mqtt.connect_async(self._host, self._port, keepalive=5, clean_start=False, properties=properties)
        self._mqtt.loop_start()
        self._worker.start()

    def stop(self) -> None:
        """End the threads and disconnect. May be called again."""
        self._ending.set()
        if self._worker.is_alive():
            self._worker.join()
        self._mqtt.disconnect()
        self._mqtt.loop_stop()

    def pause_planning(self) -> None:
        """Publish no further plans."""
        with self._lock:
            self._planning = False

    def publish_last_plan(self, slots: int) -> int:
        """Publish a rolling plan of only `slots` slots, this one included, and no further ones; returns its version."""
        with self._lock:
            self._planning = False
            now = self._now()
            document = self._planner.rolling(now, self._soc(now), slots=slots)
            self._publish_plan(document)
            return document.version

    def resume_planning(self) -> None:
        """Publish a new rolling plan now, and go on."""
        with self._lock:
            self._planning = True
            self._next_plan_slot = 0

    def expected_soc_pct(self, utc_s: float) -> float | None:
        """What the newest rolling plan expects at the end of the slot that holds `utc_s`."""
        with self._lock:
            return self._planner.expected_soc_pct(utc_s)

    def counts(self) -> CloudCounts:
        """The counters now."""
        with self._lock:
            stored, telemetry = self._stored, self._stored.streams["telemetry"]
            others = [count for name, count in stored.streams.items() if name != "telemetry"]
            return CloudCounts(
                connected=self._subscribed and self._mqtt.is_connected(),
                telemetry_frames=telemetry.unique,
                telemetry_highest=telemetry.highest,
                samples=stored.instants.samples,
                gaps=telemetry.missing,
                redelivered=telemetry.redelivered + sum(count.redelivered for count in others),
                conflicts=telemetry.conflicts + sum(count.conflicts for count in others),
                duplicates=stored.instants.duplicates,
                other_gaps=sum(count.missing for count in others),
                malformed=stored.malformed,
                acks_by_stage=dict(stored.stages),
                acks=tuple(stored.acks),
                rejections=tuple(stored.rejections),
                versions=dict(self._versions),
            )

    def samples(self) -> list[Sample]:
        """The telemetry rows received, by time."""
        with self._lock:
            return sorted(self._stored.samples, key=lambda sample: sample.utc_s)

    def status(self) -> dict[str, Any] | None:
        """The newest `edge/status`."""
        with self._lock:
            return self._stored.status

    def events(self) -> list[dict[str, Any]]:
        """The events received, in the order of arrival."""
        with self._lock:
            return list(self._stored.events)

    def ledger(self) -> list[LedgerSlot]:
        """The finished slots that the site told, by start; a slot told again counts as told last."""
        with self._lock:
            told = {slot.start_utc_s: slot for slot in self._stored.slots}
        return [told[start] for start in sorted(told)]

    def _new_client(self) -> mqtt.Client:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"cloud-{self._site_id}", protocol=mqtt.MQTTv5)
        client.reconnect_delay_set(1, 1)
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.on_subscribe = lambda *_: self._note_subscribed(True)
        client.on_disconnect = lambda *_: self._note_subscribed(False)
        return client

    def _on_connect(self, client: mqtt.Client, *_: object) -> None:
        client.subscribe(topic(self._site_id, "edge/#"), qos=1)
        with self._lock:
            # A broker that was killed may have forgotten them.
            for name, payload in self._retained.items():
                client.publish(name, payload, qos=1, retain=True)

    def _note_subscribed(self, subscribed: bool) -> None:
        with self._lock:
            self._subscribed = subscribed

    def _on_message(self, client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
        del client, userdata
        name = message.topic.removeprefix(topic(self._site_id, "edge/"))
        with self._lock:
            # An exception here would end the network thread, so what the site can get wrong is only counted.
            try:
                self._take(name, read_message(bytes(message.payload), self._site_id))
            except (UnreadableError, KeyError, TypeError, ValueError) as error:
                self._stored.malformed += 1
                self._stored.rejections.append(f"edge/{name}: {error!r}")

    def _take(self, name: str, message: dict[str, Any]) -> None:
        stored = self._stored
        if name == "status":
            stored.status = message
        elif name in ("telemetry", "history"):
            samples = read_samples(message)
            if message["seq"] is None:  # a live frame: a look at what will come with a sequence
                self._note_newest(samples)
            elif message["stream"] == "full_rate":
                stored.full_rate.extend(samples)
            elif stored.streams["telemetry"].take(message["seq"], message):
                for sample in samples:
                    stored.instants.take(message["seq"], sample.utc_s)
                stored.samples.extend(samples)
                self._note_newest(samples)
        elif name == "ack":
            # `received` stands outside the sequence.
            if message["seq"] is None or stored.streams["ack"].take(message["seq"], message):
                stored.stages[message["stage"]] += 1
                stored.acks[message["kind"], message["version"], message["stage"]] = None
                if message["stage"] == "rejected":
                    stored.rejections.append(f"{message['kind']}: {message['reason']} {message['field']}")
        elif name == "event" and stored.streams["event"].take(message["seq"], message):
            stored.events.append(message)
        elif name == "ledger":
            slot = read_ledger_slot(message)
            if stored.streams["ledger"].take(message["seq"], message):
                stored.slots.append(slot)

    def _note_newest(self, samples: list[Sample]) -> None:
        for sample in samples:
            newest = self._stored.newest
            if sample.soc_pct is not None and (newest is None or sample.utc_s > newest.utc_s):
                self._stored.newest = sample

    def _soc(self, now_utc_s: float) -> MeasuredSoc:
        newest = self._stored.newest
        if newest is None or newest.soc_pct is None:
            return MeasuredSoc(self._planner.site.initial_soc_pct, now_utc_s)
        return MeasuredSoc(newest.soc_pct, newest.utc_s)

    def _publish_plan(self, document: PlanDocument) -> None:
        payload = document.encoded(self._site_id, packed=document.kind == "yearly")
        self._versions[document.kind] = document.version
        self._publish_retained(topic(self._site_id, f"cloud/plan/{document.kind}"), payload)

    def _publish_retained(self, name: str, payload: bytes) -> None:
        self._retained[name] = payload
        if self._mqtt.is_connected():  # else on_connect does it
            self._mqtt.publish(name, payload, qos=1, retain=True)

    def _work(self) -> None:
        stored_before: dict[str, int] = {}
        while not self._ending.wait(min(WATERMARK_PERIOD_S, self._planner.clock.slot_s / 8)):
            with self._lock:
                stored = {name: count.stored_up_to for name, count in self._stored.streams.items()}
                if stored != stored_before:
                    stored_before = stored
                    self._publish_retained(topic(self._site_id, "cloud/watermark"), watermark(self._site_id, stored))
                self._plan_when_due()

    def _plan_when_due(self) -> None:
        now, slot_s = self._now(), self._planner.clock.slot_s
        # No plan that nobody can get: while the link is down the site lives by the last one.
        if not self._planning or now < self._next_plan_slot or not self._mqtt.is_connected():
            return
        self._publish_plan(self._planner.rolling(now, self._soc(now)))
        self._next_plan_slot = self._planner.clock.slot_start(now) + self._replan_slots * slot_s


def main() -> None:
    """Run one cloud until it is interrupted, and print its counters as JSON lines."""
    parser = argparse.ArgumentParser(prog="python -m simulators.cloud", description=__doc__)
    parser.add_argument("--broker", required=True, help="for example mqtt://127.0.0.1:1883")
    parser.add_argument("--site", required=True, help="the site id of the agent")
    parser.add_argument("--power-kw", type=float, default=500.0, help="battery rating (default 500)")
    parser.add_argument("--capacity-kwh", type=float, default=2000.0, help="battery capacity (default 2000)")
    parser.add_argument("--connection-kw", type=float, default=500.0, help="export and import limit (default 500)")
    parser.add_argument("--slot-seconds", type=int, default=MARKET_SLOT_S, help="real seconds of a half-hour")
    parser.add_argument("--print-every", type=float, default=10.0, help="seconds between two lines (default 10)")
    options = parser.parse_args()
    slot_s = options.slot_seconds
    first_slot = int(time.time() // slot_s) * slot_s
    site = SiteModel(
        options.site,
        BatteryModel(options.capacity_kwh, options.power_kw, options.power_kw),
        Connection(options.connection_kw, options.connection_kw),
    )
    # The same time of the year on the prices of FY2023; a version from the time is higher after every restart.
    clock = MarketClock(first_slot, first_slot // MARKET_SLOT_S * MARKET_SLOT_S, slot_s)
    cloud = SimulatedCloud(options.broker, Planner(site, load_jepx(), clock, first_version=int(time.time())))
    cloud.start(first_slot)
    try:
        while True:
            time.sleep(options.print_every)
            print(json.dumps(asdict(cloud.counts())), flush=True)
    except KeyboardInterrupt:
        pass
    finally:
        cloud.stop()


if __name__ == "__main__":
    main()
