"""What the cloud counts, pure: each stream's sequences against loss, repetition and contradiction."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from typing import Any

REMEMBERED_FRAMES = 20_000
"""Content of older frames is forgotten; their repetition still counts as redelivered."""
REMEMBERED_SAMPLES = 500_000
"""Sample times that are compared for duplicates: more than a day at five a second."""


class StreamCount:
    """Counts one stream by its sequence, which begins at 1 and rises by 1."""

    def __init__(self, remembered: int = REMEMBERED_FRAMES) -> None:
        """The content of so many frames is remembered."""
        self._remembered = remembered
        self.redelivered = 0
        """Same sequence, same content: allowed, delivery is at least once."""
        self.conflicts = 0
        """Same sequence, other content: forbidden."""
        self.highest = 0
        self.stored_up_to = 0
        """Everything up to here has come: what the watermark says."""
        self._known_before = 0
        self._beyond: set[int] = set()
        self._digests: OrderedDict[int, bytes] = OrderedDict()

    def take(self, seq: int, message: dict[str, Any]) -> bool:
        """Whether this sequence is new; a repetition is counted and must have no further effect."""
        digest = hashlib.blake2b(json.dumps(message, sort_keys=True).encode(), digest_size=16).digest()
        if seq <= self.stored_up_to or seq in self._beyond:
            if self._digests.get(seq, digest) == digest:
                self.redelivered += 1
            else:
                self.conflicts += 1
            return False
        self._digests[seq] = digest
        if len(self._digests) > self._remembered:
            self._digests.popitem(last=False)
        self.highest = max(self.highest, seq)
        self._beyond.add(seq)
        self._join()
        return True

    def known_up_to(self, seq: int) -> None:
        """An earlier run of this cloud had everything up to `seq`; only what comes after it is counted here."""
        if seq <= self.stored_up_to:
            return
        self._known_before += seq - self.stored_up_to - sum(1 for one in self._beyond if one <= seq)
        self._beyond = {one for one in self._beyond if one > seq}
        self.stored_up_to, self.highest = seq, max(self.highest, seq)
        self._join()

    def _join(self) -> None:
        while self.stored_up_to + 1 in self._beyond:
            self.stored_up_to += 1
            self._beyond.remove(self.stored_up_to)

    @property
    def unique(self) -> int:
        """How many sequences have come."""
        return self.stored_up_to - self._known_before + len(self._beyond)

    @property
    def missing(self) -> int:
        """How many sequences below the highest have not come: the gaps."""
        return self.highest - self.stored_up_to - len(self._beyond)

    def gaps(self) -> list[int]:
        """The sequences below the highest that have not come."""
        return [seq for seq in range(self.stored_up_to + 1, self.highest) if seq not in self._beyond]


class SampleCount:
    """Counts samples by their instant, so that one instant in two frames is seen."""

    def __init__(self, remembered: int = REMEMBERED_SAMPLES) -> None:
        """So many instants are remembered."""
        self._remembered = remembered
        self.samples = 0
        self.duplicates = 0
        """The same instant in two different sequences: forbidden."""
        self._seq_of: OrderedDict[int, int] = OrderedDict()

    def take(self, seq: int, utc_s: float) -> None:
        """Count one sample of the frame `seq`; call once per new frame."""
        instant_ms = round(utc_s * 1000.0)
        if instant_ms in self._seq_of:
            self.duplicates += 1
            return
        self._seq_of[instant_ms] = seq
        self.samples += 1
        if len(self._seq_of) > self._remembered:
            self._seq_of.popitem(last=False)
