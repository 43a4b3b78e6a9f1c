"""What a cloud, a broker or somebody on the way does wrong, on demand: a good site refuses it all and goes on.

Nothing of it is retained, so that what the cloud really wants stays at the broker.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any

from simulators.cloud_desk import SiteDesk
from simulators.cloud_messages import SCHEMA, iso_utc, topic, watermark
from simulators.cloud_orders import command
from simulators.cloud_signer import Signer, content_of, new_signer

FLOOD = 5_000
"""Messages of one flood and site, QoS 0, as fast as they go."""
COPIES = 3
SILENCE_SHARE = 0.5
"""Of the time between two misdeeds a silent cloud is silent."""
LATE_S = 3_600.0

Raw = Callable[[str, bytes, int], None]
"""Publishes anything: topic, payload, QoS."""


class Misdeed(StrEnum):
    """The kinds, by the words of `--misbehave`."""

    DUPLICATES = "duplicates"
    """Documents and commands come again and again, byte for byte."""
    OLD_VERSIONS = "old-versions"
    """A plan and a watermark older than those in force, a command whose time is over; all of them signed well."""
    FORGED = "forged"
    """What somebody without the key writes: unsigned, with another key, with another site's document."""
    FLOODS = "floods"
    """Thousands of messages that mean nothing."""
    SILENCE = "silence"
    """No plan, no watermark, no command for a while: the site must send again what nobody confirmed."""


class Misbehaviour:
    """Does wrong to one site after another, every so many seconds."""

    def __init__(self, kinds: Iterable[Misdeed], raw: Raw, every_s: float, seed: int) -> None:
        self._kinds = sorted(set(kinds))
        self._raw, self.every_s = raw, every_s
        self._random = random.Random(seed)
        self._next_s: float | None = None
        self.done: Counter[str] = Counter()
        """Messages of each kind; for `silence` how often it fell silent."""

    def due(self, desks: Iterable[SiteDesk], now_s: float) -> None:
        """Does what is due; the first time only after a whole pause, so that good plans come first."""
        if not self._kinds:
            return
        if self._next_s is None:
            self._next_s = now_s + self.every_s
        if now_s < self._next_s:
            return
        self._next_s = now_s + self.every_s
        for desk in desks:
            for kind in self._kinds:
                self.do(kind, desk, now_s)

    def do(self, kind: Misdeed, desk: SiteDesk, now_s: float) -> None:
        """One misdeed now."""
        match kind:
            case Misdeed.DUPLICATES:
                documents, commands = desk.sent_before()
                for _ in range(COPIES):
                    for rest, payload in documents.items():
                        self._send(kind, desk, rest, payload)
                    for payload in commands:
                        self._send(kind, desk, "cloud/command", payload)
            case Misdeed.OLD_VERSIONS:
                self._old(desk, now_s)
            case Misdeed.FORGED:
                self._forged(desk, now_s)
            case Misdeed.FLOODS:
                for number in range(FLOOD):
                    rest = self._random.choice(("cloud/command", "cloud/plan/rolling"))
                    self._send(kind, desk, rest, f'{{"flood": {number}}}'.encode(), qos=0)
            case Misdeed.SILENCE:
                desk.fall_silent(self.every_s * SILENCE_SHARE)
                self.done[kind] += 1

    def _old(self, desk: SiteDesk, now_s: float) -> None:
        kind = Misdeed.OLD_VERSIONS
        plan = _rolling_of(desk)
        if plan is not None:
            plan["version"] -= 1
            self._send(kind, desk, "cloud/plan/rolling", desk.signed(json.dumps(plan).encode()))
        # Never above what is stored: that would not be old, and the site would forget what nobody has.
        lower = {"telemetry": max(0, desk.stored_up_to("telemetry") - 1)}
        self._send(kind, desk, "cloud/watermark", desk.signed(watermark(desk.site_id, lower)))
        late = command(
            desk.site_id,
            desk.forbidden_id("late"),
            "hold",
            now_s=now_s - LATE_S,
            valid_s=30.0,
            params={"duration_s": 5},
        )
        self._send(kind, desk, "cloud/command", desk.signed(late))

    def _forged(self, desk: SiteDesk, now_s: float) -> None:
        """Power for an hour, if anybody believes it. Where nothing is signed only another site's word is sent."""
        params = {"target": "battery", "power": 100.0, "unit": "kW", "positive": "export", "duration_s": 3600}

        def order(site_id: str) -> bytes:
            return command(site_id, desk.forbidden_id("forged"), "set_power", now_s=now_s, valid_s=30.0, params=params)

        others = desk.signed(order("another-site"))
        self._send(Misdeed.FORGED, desk, "cloud/command", others)
        signer = desk.options.signer
        if signer is None:
            return
        for payload in self._unbelievable(order(desk.site_id), others, signer):
            self._send(Misdeed.FORGED, desk, "cloud/command", payload)
        plan = _rolling_of(desk)
        if plan is not None:
            newer = json.dumps(plan | {"version": plan["version"] + 1_000, "issued_at": iso_utc(now_s)}).encode()
            for payload in self._unbelievable(newer, others, signer):
                self._send(Misdeed.FORGED, desk, "cloud/plan/rolling", payload)

    @staticmethod
    def _unbelievable(content: bytes, good: bytes, signer: Signer) -> list[bytes]:
        """Unsigned; by another key under the same id; by an unknown id; under the signature of something else."""
        header, _, signature = good.split(b".")
        _, own, _ = signer.signed(content).split(b".")
        stolen = b".".join((header, own, signature))
        return [content, signer.impostor().signed(content), new_signer("nobody").signed(content), stolen]

    def _send(self, kind: Misdeed, desk: SiteDesk, rest: str, payload: bytes, *, qos: int = 1) -> None:
        self.done[kind] += 1
        self._raw(topic(desk.site_id, rest), payload, qos)


def _rolling_of(desk: SiteDesk) -> dict[str, Any] | None:
    """The rolling plan in force, to be changed."""
    payload = desk.sent_before()[0].get("cloud/plan/rolling")
    if payload is None:
        return None
    found: dict[str, Any] = json.loads(content_of(payload))
    assert found["schema"] == SCHEMA, "our own document"
    return found
