"""The cloud of one simulated site: sends plans and commands, says what it stored, and keeps account of all that comes.

What it counts is seen from its side only: gaps, duplicates and contradictions in each stream, and the outcomes of each
command that it ever sent. The rules are those of docs/contract.md, read without the agent's code.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from simulators.cloud_count import SampleCount, StreamCount
from simulators.cloud_messages import (
    PlanDocument,
    UnreadableError,
    column_values,
    iso_utc,
    read_message,
    read_samples,
    topic,
    watermark,
)
from simulators.virtual.broker import Broker

STREAMS = ("telemetry", "ack", "event", "ledger")
TERMINAL = frozenset({"rejected", "done", "failed", "expired"})
DROPPED = {"telemetry_dropped": "telemetry", "ack_dropped": "ack", "event_dropped": "event", "ledger_dropped": "ledger"}
WATERMARK_EVERY_S = 5.0
SLOT_S = 1800
ROLLING_SLOTS = 96
REPLAN_EVERY_S = 1800.0
MOST_FINDINGS = 20


@dataclass(slots=True)
class Command:
    """One that was published, and what came back in the sequence of acks."""

    id: str
    sent_utc_s: float
    ends_utc_s: float
    """Latest time at which it can still be under way."""
    terminal: list[str] = field(default_factory=list)
    accepted: int = 0
    payload: bytes = b""
    sent_back: bool = False
    """Refused without having been judged, as by a full disk: it may be sent again."""
    heard: bool = True
    """Whether the broker has a session that it goes to; a broker that forgot its sessions loses it."""


class VirtualCloud:
    """Runs as one task; `take` gets what the broker brings."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        site_id: str,
        seed: int,
        epoch_s: float,
        *,
        rated_kw: float,
        limit_kw: float,
    ) -> None:
        self._loop = loop
        self._site_id = site_id
        self._random = random.Random(f"cloud {seed}")
        self._epoch_s = epoch_s
        self._rated_kw, self._limit_kw = rated_kw, limit_kw
        self.broker: Broker | None = None
        """Set before anything runs."""
        self.streams = {name: StreamCount() for name in STREAMS}
        self.instants = SampleCount()
        self.commands: dict[str, Command] = {}
        self.stages: Counter[str] = Counter()
        self.messages: Counter[str] = Counter()
        """By topic below `edge/`."""
        self.events: Counter[str] = Counter()
        self.told_lost: dict[str, list[tuple[int, int]]] = {name: [] for name in STREAMS}
        """Ranges of which the site said itself that they will not come."""
        self.status: dict[str, Any] | None = None
        self.findings: list[str] = []
        """What the contract forbids."""
        self.newest_utc_s = 0.0
        """The newest sample."""
        self.digest = hashlib.sha256()
        """Of all that came, byte by byte and in order."""
        self.stores = True
        """False: the cloud is up and stores nothing, so its watermark stands still."""
        self.plans = True
        """False: no new plans."""
        self.versions: Counter[str] = Counter()
        self.null_share = 0.01
        """Of the slots of a plan."""
        self._retained: dict[str, bytes] = {}
        """What the broker should keep; it may have lost it."""
        self._told: dict[str, int] = {}

    def utc_s(self) -> float:
        """The true time, whatever the site's clock says."""
        return self._epoch_s + self._loop.time()

    async def run(self) -> None:
        """Plans and watermarks for ever."""
        await asyncio.gather(self._plan(), self._look_after_the_broker())

    async def _plan(self) -> None:
        self.publish_plan("yearly", 365 * 48, target="battery")
        while True:
            if self.plans and self._reachable:
                self.publish_plan("rolling", ROLLING_SLOTS, target=self._random.choice(("battery", "grid")))
            await asyncio.sleep(REPLAN_EVERY_S)

    async def _look_after_the_broker(self) -> None:
        while True:
            await asyncio.sleep(WATERMARK_EVERY_S)
            if self._reachable:
                for name, payload in self._retained.items():
                    if self._broker.retained.get(name) != payload:
                        self._broker.publish(name, payload, retain=True)
            self.say_stored()

    def _retain(self, name: str, payload: bytes) -> None:
        self._retained[name] = payload
        if self._reachable:
            self._broker.publish(name, payload, retain=True)

    def say_stored(self) -> None:
        """Publishes the watermark where it says something new, or where the broker forgot it."""
        stored = {name: count.stored_up_to for name, count in self.streams.items() if count.stored_up_to}
        name = topic(self._site_id, "cloud/watermark")
        if stored and self.stores and self._reachable and stored != self._told:
            self._told = stored
            self._retain(name, watermark(self._site_id, stored))

    def publish_plan(self, kind: str, slots: int, *, target: str) -> None:
        """A new plan of random powers, from the slot of now on."""
        self.versions[kind] += 1
        now_s = self.utc_s()
        most_kw = self._rated_kw if target == "battery" else min(self._rated_kw, self._limit_kw)
        powers = [
            None
            if self._random.random() < self.null_share
            else self._random.choice((-1.0, -0.5, -0.2, 0.0, 0.1, 0.4, 0.9)) * most_kw
            for _ in range(slots)
        ]
        document = PlanDocument(
            kind=kind,
            version=self.versions[kind],
            issued_utc_s=now_s,
            start_utc_s=int(now_s // SLOT_S) * SLOT_S,
            slot_s=SLOT_S,
            grid_kw=powers,
            soc_end_pct=[None] * slots,
            price=[round(self._random.uniform(-5.0, 40.0), 2) for _ in range(slots)],
        )
        raw = document.encoded(self._site_id, packed=False)
        fields = json.loads(raw)
        fields["target"] = target
        payload = json.dumps(fields, separators=(",", ":")).encode()
        self._retain(topic(self._site_id, f"cloud/plan/{kind}"), payload)

    def publish_orders(self, kind: str, start_s: float, end_s: float, what: dict[str, Any]) -> None:
        """A new document of `curtailments` or `outages` with one entry, times in seconds from now."""
        self.versions[kind] += 1
        now_s = self.utc_s()
        entry = {
            "id": f"{kind}-{self.versions[kind]}",
            "start": iso_utc(now_s + start_s),
            "end": iso_utc(now_s + end_s),
        }
        fields = {
            "schema": "1.0",
            "site_id": self._site_id,
            "kind": kind,
            "version": self.versions[kind],
            "issued_at": iso_utc(now_s),
            kind: [entry | what],
        }
        if kind == "curtailments":
            fields["unit"] = "kW"
        self._retain(topic(self._site_id, f"cloud/plan/{kind}"), json.dumps(fields).encode())

    def send_command(self, kind: str, params: dict[str, Any], *, valid_s: float = 60.0, lasts_s: float = 0.0) -> str:
        """The id of a command that was published; nobody may be there to hear it."""
        number = len(self.commands) + 1
        now_s = self.utc_s()
        command = Command(f"c-{number}", now_s, now_s + valid_s + lasts_s)
        self.commands[command.id] = command
        fields = {
            "schema": "1.0",
            "site_id": self._site_id,
            "id": command.id,
            "type": kind,
            "issued_at": iso_utc(now_s),
            "expires_at": iso_utc(now_s + valid_s),
            "params": params,
        }
        command.payload = json.dumps(fields).encode()
        command.heard = self.send_raw("command", command.payload)
        return command.id

    def send_raw(self, name: str, payload: bytes) -> bool:
        """Publishes anything on `cloud/name`, as a fault or an attacker would; False when nobody can hear it."""
        return self._reachable and self._broker.publish(topic(self._site_id, f"cloud/{name}"), payload)

    def take(self, name: str, payload: bytes) -> None:
        """One message from the site."""
        self.digest.update(name.encode())
        self.digest.update(payload)
        short = name.removeprefix(topic(self._site_id, "edge/"))
        self.messages[short] += 1
        try:
            self._take(short, read_message(payload, self._site_id))
        except (UnreadableError, KeyError, TypeError, ValueError) as error:
            self._find(f"edge/{short} cannot be read: {error!r}")

    def _take(self, name: str, message: dict[str, Any]) -> None:
        if name == "status":
            self.status = message
            return
        if name in ("telemetry", "history"):
            if message["seq"] is None or message["stream"] == "full_rate":
                return
            if self._is_new("telemetry", message):
                # By the time that never jumps: a wall clock that is set back tells the same second twice.
                for mono_s in column_values(message["columns"]["mono_s"]):
                    self.instants.take(message["seq"], mono_s)
                self.newest_utc_s = max(self.newest_utc_s, *(sample.utc_s for sample in read_samples(message)))
            return
        if name == "ack" and message["seq"] is None and message.get("reason") in ("storage_failed", "rate_limited"):
            if message["id"] in self.commands:
                self.commands[message["id"]].sent_back = True
            return
        if name not in ("ack", "event", "ledger") or message["seq"] is None or not self._is_new(name, message):
            return
        if name == "ack":
            self._take_ack(message)
        elif name == "event":
            self.events[message["code"]] += 1
            data = message.get("data") or {}
            stream = DROPPED.get(message["code"]) or (
                data.get("stream") if message["code"] == "sequence_jumped" else None
            )
            if stream in self.told_lost:
                self.told_lost[stream].append((int(data["from"]), int(data["to"])))

    def _take_ack(self, message: dict[str, Any]) -> None:
        self.stages[message["stage"]] += 1
        if message.get("subject") != "command" or message["id"] is None:
            return  # without an id: something that could not be read
        command = self.commands.get(message["id"])
        if command is None and message["stage"] == "rejected":
            return  # something hostile, refused by name
        if command is None:
            self._find(f"an ack for {message['id']!r}, which was never sent")
        elif message["stage"] in TERMINAL:
            command.terminal.append(message["stage"])
            if len(command.terminal) > 1:
                self._find(f"command {command.id} has the outcomes {command.terminal}")
        elif message["stage"] == "accepted":
            command.accepted += 1
            if command.accepted > 1:
                self._find(f"command {command.id} was accepted {command.accepted} times")

    def _is_new(self, stream: str, message: dict[str, Any]) -> bool:
        count = self.streams[stream]
        conflicts = count.conflicts
        if not self.stores:
            return False
        new = count.take(message["seq"], message)
        if count.conflicts > conflicts:
            self._find(f"{stream} {message['seq']} came twice, with different content")
        return new

    def unexplained_gaps(self) -> dict[str, list[int]]:
        """Per stream the sequences that have not come and of which the site did not say that they are lost."""
        found: dict[str, list[int]] = {}
        for name, count in self.streams.items():
            told = self.told_lost[name]
            missing = [seq for seq in count.gaps() if not any(low <= seq <= high for low, high in told)]
            if missing:
                found[name] = missing
        return found

    def unanswered(self) -> list[str]:
        """Commands without a terminal outcome whose time is over, without those that the broker lost on their way."""
        now_s = self.utc_s()
        for payload in self._broker.forgotten:
            with suppress(ValueError, KeyError, TypeError):
                self.commands[json.loads(payload)["id"]].heard = False
        return [
            one.id
            for one in self.commands.values()
            if one.heard and not (one.terminal or one.sent_back) and one.ends_utc_s < now_s
        ]

    @property
    def _broker(self) -> Broker:
        assert self.broker is not None, "set before anything runs"
        return self.broker

    @property
    def _reachable(self) -> bool:
        return not self._broker.faults.down

    def _find(self, what: str) -> None:
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(what)
