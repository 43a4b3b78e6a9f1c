"""What the simulated cloud does for one site: plans and orders for it, hears it, keeps account of it.

Every method may be called from any thread. Nothing here speaks MQTT: messages go out by `Publish`.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from simulators.cloud_account import CommandAccount, Delays
from simulators.cloud_count import REMEMBERED_FRAMES, REMEMBERED_SAMPLES, SampleCount, StreamCount
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
from simulators.cloud_orders import KINDS, command, order_document, still_counts
from simulators.cloud_planner import MeasuredSoc, Planner
from simulators.cloud_signer import Signer, content_of

KEPT_SAMPLES = 100_000
KEPT_EVENTS = 1_000
KEPT_SLOTS = 10_000
KEPT_PUBLISHED = 1_000
KEPT_COMMANDS = 20
SETTLE_S = 1.0
"""After subscribing: what an earlier run stored is heard before anything is told to be stored."""
STREAMS = ("telemetry", "ack", "event", "ledger")
VALID_S = 30.0
"""A command that has not arrived by then has no effect."""
ACK_OF_PLAN = tuple[str, int | None, str]
"""Kind, version, stage."""
Publish = Callable[[str, bytes, bool], None]
"""Topic, payload, retained; may drop the message while there is no connection."""


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


@dataclass(frozen=True, slots=True)
class DeskOptions:
    """What is the same for all sites of one cloud."""

    replan_slots: int = 4
    """The rolling plan is made anew every so many slots."""
    yearly: bool = True
    signer: Signer | None = None
    kept_samples: int = KEPT_SAMPLES
    remembered_samples: int = REMEMBERED_SAMPLES
    remembered_frames: int = REMEMBERED_FRAMES
    now: Callable[[], float] = time.time


class _Stored:
    """Everything received; guarded by the desk's lock."""

    def __init__(self, options: DeskOptions) -> None:
        self.streams = {name: StreamCount(options.remembered_frames) for name in STREAMS}
        self.instants = SampleCount(options.remembered_samples)
        self.samples: deque[Sample] = deque(maxlen=options.kept_samples)
        self.full_rate: deque[Sample] = deque(maxlen=options.kept_samples)
        """Asked for from a site on a metered link."""
        self.acks: OrderedDict[ACK_OF_PLAN, None] = OrderedDict()
        self.stages: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        """Answers `rejected`, by reason; those that a sequence numbers."""
        self.rejections: deque[str] = deque(maxlen=KEPT_EVENTS)
        self.events: deque[dict[str, Any]] = deque(maxlen=KEPT_EVENTS)
        self.slots: deque[LedgerSlot] = deque(maxlen=KEPT_SLOTS)
        self.status: dict[str, Any] | None = None
        self.newest: Sample | None = None
        self.malformed = self.messages = self.bytes = 0


@dataclass(slots=True)
class _Told:
    """What was published."""

    retained: dict[str, bytes] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    orders: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    commands: deque[bytes] = field(default_factory=lambda: deque(maxlen=KEPT_COMMANDS))
    published_s: OrderedDict[tuple[str, int], float] = field(default_factory=OrderedDict)
    stored_before: dict[str, int] = field(default_factory=dict)
    numbered: int = 0


class SiteDesk:
    """Plans for one site and keeps account of it."""

    def __init__(
        self, planner: Planner, publish: Publish, connected: Callable[[], bool], options: DeskOptions | None = None
    ) -> None:
        """Nothing is published before `start`."""
        self.planner, self.options = planner, options or DeskOptions()
        self.site_id = planner.site.site_id
        self._publish, self._connected, self._now = publish, connected, self.options.now
        self._run = f"{int(self._now()):x}"
        self._lock = threading.RLock()
        self._stored, self._told = _Stored(self.options), _Told()
        self._planning = True
        self._next_plan_slot = 0.0
        self._silent_until_s = self._settled_s = self._heard_s = 0.0
        self.commands = CommandAccount()
        self.believed_documents = 0
        """Stored although they were newer than what this cloud published: forged."""
        self.delays = {"telemetry": Delays(), "plan": Delays()}

    # What the cloud tells

    def start(self, first_slot_utc_s: int) -> None:
        """Publish a yearly and a rolling plan that begin at `first_slot_utc_s`, and go on planning."""
        with self._lock:
            now = self._now()
            if self.options.yearly:
                self._publish_plan(self.planner.yearly(now, first_slot_utc_s))
            first_soc = MeasuredSoc(self.planner.site.initial_soc_pct, first_slot_utc_s)
            self._publish_plan(self.planner.rolling(now, first_soc, first_slot_utc_s))
            self._next_plan_slot = first_slot_utc_s + self.options.replan_slots * self.planner.clock.slot_s

    def pause_planning(self) -> None:
        """Publish no further plans."""
        with self._lock:
            self._planning = False

    def publish_last_plan(self, slots: int) -> int:
        """Publish a rolling plan of only `slots` slots, this one included, and no further ones; returns its version."""
        with self._lock:
            self._planning = False
            now = self._now()
            document = self.planner.rolling(now, self._soc(now), slots=slots)
            self._publish_plan(document)
            return document.version

    def resume_planning(self) -> None:
        """Publish a new rolling plan now, and go on."""
        with self._lock:
            self._planning = True
            self._next_plan_slot = 0.0

    def expected_soc_pct(self, utc_s: float) -> float | None:
        """What the newest rolling plan expects at the end of the slot that holds `utc_s`."""
        with self._lock:
            return self.planner.expected_soc_pct(utc_s)

    def order(self, kind: str, entry: dict[str, Any]) -> None:
        """One more award, curtailment or outage; the document of its kind is published anew."""
        with self._lock:
            self._publish_orders(kind, [*self._told.orders[kind], entry])

    def withdraw(self, kind: str) -> None:
        """None of this kind any more."""
        with self._lock:
            self._publish_orders(kind, [])

    def command(self, type_: str, params: dict[str, Any], lasts_s: float = 0.0) -> str | None:
        """Sends a command whose effect lasts so long; its id, or None where nothing can be told just now."""
        with self._lock:
            now = self._now()
            if now < self._silent_until_s or not self._connected():
                return None
            command_id = self.next_id("c")
            payload = self.signed(command(self.site_id, command_id, type_, now_s=now, valid_s=VALID_S, params=params))
            self._told.commands.append(payload)
            self.commands.send(command_id, now, VALID_S + lasts_s)
            self.tell("cloud/command", payload, retain=False)
            return command_id

    def next_id(self, what: str) -> str:
        """An id that was never used, also not by an earlier run."""
        with self._lock:
            self._told.numbered += 1
            return f"{what}-{self._run}-{self._told.numbered}"

    def forbidden_id(self, what: str) -> str:
        """An id for a command that the site must refuse; that it does not is counted."""
        command_id = self.next_id(what)
        self.commands.forbid(command_id)
        return command_id

    def signed(self, content: bytes) -> bytes:
        """As it goes on the wire."""
        return content if self.options.signer is None else self.options.signer.signed(content)

    def tell(self, rest: str, payload: bytes, *, retain: bool) -> None:
        """Publishes, unless the cloud is silent just now; what is retained is told after that."""
        with self._lock:
            if retain:
                self._told.retained[rest] = payload
            if self._now() >= self._silent_until_s:
                self._publish(topic(self.site_id, rest), payload, retain)

    def say_all_again(self) -> None:
        """Every retained document once more: a broker that was killed may have forgotten them."""
        with self._lock:
            for rest, payload in self._told.retained.items():
                self.tell(rest, payload, retain=True)

    def fall_silent(self, seconds: float) -> None:
        """Nothing is told for so long."""
        with self._lock:
            self._silent_until_s = self._now() + seconds

    def sent_before(self) -> tuple[dict[str, bytes], list[bytes]]:
        """The retained documents by topic, and the last commands, as they were on the wire."""
        with self._lock:
            return dict(self._told.retained), list(self._told.commands)

    def settle(self) -> None:
        """Subscribed anew: what was stored before will be heard in a moment."""
        with self._lock:
            self._settled_s = self._now() + SETTLE_S

    def work(self) -> None:
        """What is due: the watermark, the next plan. Call it often."""
        with self._lock:
            now = self._now()
            if self._silent_until_s and now >= self._silent_until_s:
                self._silent_until_s = 0.0
                self.say_all_again()
            stored = {name: count.stored_up_to for name, count in self._stored.streams.items()}
            if now >= self._settled_s and stored != self._told.stored_before and self._connected():
                self._told.stored_before = stored
                self.tell("cloud/watermark", self.signed(watermark(self.site_id, stored)), retain=True)
            # No plan that nobody can get: while the link is down the site lives by the last one.
            if self._planning and now >= self._next_plan_slot and self._connected() and not self._silent_until_s:
                self._publish_plan(self.planner.rolling(now, self._soc(now)))
                slots = self.options.replan_slots * self.planner.clock.slot_s
                self._next_plan_slot = self.planner.clock.slot_start(now) + slots

    # What the site tells

    def take(self, rest: str, payload: bytes) -> None:
        """A message of the site, or what an earlier run of this cloud told it; faults are counted, never raised."""
        with self._lock:
            try:
                if rest == "cloud/watermark":
                    self._take_own_watermark(read_message(content_of(payload), self.site_id))
                    return
                self._stored.messages += 1
                self._stored.bytes += len(payload)
                self._heard_s = self._now()
                self._take(rest.removeprefix("edge/"), read_message(payload, self.site_id))
            except (UnreadableError, KeyError, TypeError, ValueError) as error:
                self._stored.malformed += 1
                self._stored.rejections.append(f"{rest}: {error!r}")

    def _take_own_watermark(self, message: dict[str, Any]) -> None:
        if self._told.stored_before:
            return
        for name, seq in message["stored"].items():
            if name in self._stored.streams:
                self._stored.streams[name].known_up_to(seq)

    def _take(self, name: str, message: dict[str, Any]) -> None:
        stored = self._stored
        if name == "status":
            stored.status = message
        elif name in ("telemetry", "history"):
            self._take_frame(name, message)
        elif name == "ack":
            # `received` stands outside the sequence.
            if message["seq"] is None or stored.streams["ack"].take(message["seq"], message):
                self._take_answer(message)
        elif name == "event" and stored.streams["event"].take(message["seq"], message):
            stored.events.append(message)
        elif name == "ledger":
            slot = read_ledger_slot(message)
            if stored.streams["ledger"].take(message["seq"], message):
                stored.slots.append(slot)

    def _take_frame(self, name: str, message: dict[str, Any]) -> None:
        stored, samples = self._stored, read_samples(message)
        if message["seq"] is None:  # a live frame: a look at what will come with a sequence
            self._note_newest(samples)
        elif message["stream"] == "full_rate":
            stored.full_rate.extend(samples)
        elif stored.streams["telemetry"].take(message["seq"], message):
            for sample in samples:
                stored.instants.take(message["seq"], sample.utc_s)
            stored.samples.extend(samples)
            self._note_newest(samples)
            if name == "telemetry" and samples:
                self.delays["telemetry"].take(self._now() - samples[-1].utc_s)

    def _take_answer(self, message: dict[str, Any]) -> None:
        stored, stage, numbered = self._stored, message["stage"], message["seq"] is not None
        if message.get("subject") == "command":
            if numbered:
                self.commands.take(message.get("id"), stage, self._now())
        else:
            stored.stages[stage] += 1
            stored.acks[message["kind"], message["version"], stage] = None
            if len(stored.acks) > KEPT_SLOTS:
                stored.acks.popitem(last=False)
            document = (message["kind"], message["version"] or 0)
            published_s = self._told.published_s.get(document)
            if stage == "stored" and numbered and published_s is not None:
                self.delays["plan"].take(self._now() - published_s)
                del self._told.published_s[document]  # what comes again is answered again
            elif stage == "stored" and message["version"] > self._told.versions.get(
                message["kind"], message["version"]
            ):
                self.believed_documents += 1
        if stage == "rejected":
            stored.refusals[message["reason"]] += numbered
            stored.rejections.append(f"{message['kind']}: {message['reason']} {message['field']}")

    def _note_newest(self, samples: list[Sample]) -> None:
        for sample in samples:
            newest = self._stored.newest
            if sample.soc_pct is not None and (newest is None or sample.utc_s > newest.utc_s):
                self._stored.newest = sample

    # What is known

    def counts(self) -> CloudCounts:
        """The counters now."""
        with self._lock:
            stored, telemetry = self._stored, self._stored.streams["telemetry"]
            others = [count for name, count in stored.streams.items() if name != "telemetry"]
            return CloudCounts(
                connected=self._connected(),
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
                versions=dict(self._told.versions),
            )

    def samples(self) -> list[Sample]:
        """The telemetry rows received, by time."""
        with self._lock:
            return sorted(self._stored.samples, key=lambda sample: sample.utc_s)

    def newest(self) -> Sample | None:
        """The newest row whose state of charge is known."""
        with self._lock:
            return self._stored.newest

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

    def stored_up_to(self, stream: str) -> int:
        """Everything of the stream up to here has come."""
        with self._lock:
            return self._stored.streams[stream].stored_up_to

    def traffic(self) -> tuple[int, int, float]:
        """Messages and bytes that came, and when the last one did (Unix time, 0: never)."""
        with self._lock:
            return self._stored.messages, self._stored.bytes, self._heard_s

    def refusals(self) -> dict[str, int]:
        """How often the site refused something, by reason."""
        with self._lock:
            return {reason: count for reason, count in self._stored.refusals.items() if count}

    def _soc(self, now_utc_s: float) -> MeasuredSoc:
        newest = self._stored.newest
        if newest is None or newest.soc_pct is None:
            return MeasuredSoc(self.planner.site.initial_soc_pct, now_utc_s)
        return MeasuredSoc(newest.soc_pct, newest.utc_s)

    def _publish_plan(self, document: PlanDocument) -> None:
        payload = document.encoded(self.site_id, packed=document.kind == "yearly")
        self._publish_document(document.kind, document.version, payload)

    def _publish_orders(self, kind: str, entries: list[dict[str, Any]]) -> None:
        now = self._now()
        self._told.orders[kind] = [entry for entry in entries if still_counts(entry, now)]
        version = self._told.versions.get(kind, int(now)) + 1
        self._publish_document(kind, version, order_document(self.site_id, kind, version, now, self._told.orders[kind]))

    def _publish_document(self, kind: str, version: int, payload: bytes) -> None:
        self._told.versions[kind] = version
        self._told.published_s[kind, version] = self._now()
        if len(self._told.published_s) > KEPT_PUBLISHED:
            self._told.published_s.popitem(last=False)
        self.tell(f"cloud/plan/{kind}", self.signed(payload), retain=True)
