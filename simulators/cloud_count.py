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

    def __init__(self) -> None:
        self.redelivered = 0
        """Same sequence, same content: allowed, delivery is at least once."""
        self.conflicts = 0
        """Same sequence, other content: forbidden."""
        self.highest = 0
        self.stored_up_to = 0
        """Everything up to here has come: what the watermark says."""
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
        if len(self._digests) > REMEMBERED_FRAMES:
            self._digests.popitem(last=False)
        self.highest = max(self.highest, seq)
        self._beyond.add(seq)
        while self.stored_up_to + 1 in self._beyond:
            self.stored_up_to += 1
            self._beyond.remove(self.stored_up_to)
        return True

    @property
    def unique(self) -> int:
        """How many sequences have come."""
        return self.stored_up_to + len(self._beyond)

    @property
    def missing(self) -> int:
        """How many sequences below the highest have not come: the gaps."""
        return self.highest - self.unique

    def gaps(self) -> list[int]:
        """The sequences below the highest that have not come."""
        return [seq for seq in range(self.stored_up_to + 1, self.highest) if seq not in self._beyond]


class SampleCount:
    """Counts samples by their instant, so that one instant in two frames is seen."""

    def __init__(self) -> None:
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
        if len(self._seq_of) > REMEMBERED_SAMPLES:
            self._seq_of.popitem(last=False)
