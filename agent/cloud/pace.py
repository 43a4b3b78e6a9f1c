"""How fast old messages may go out, so that a long outage's worth of them does not fill the line or the cloud."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

BURST_S = 1.0
"""What was not used within this time is gone."""

ROUNDING = 1e-5
"""Of a message: what a clock of months, counted in 64 bits, gets wrong."""


@dataclass(slots=True)
class Pace:
    """So many messages a second, on a monotonic clock; at most a second's worth at once (and at least one)."""

    per_s: float
    _credit: float = field(default=1.0)
    _at_s: float | None = None

    def available(self, now_s: float) -> int:
        """How many may go now."""
        if self._at_s is not None:
            most = max(1.0, self.per_s * BURST_S)
            self._credit = min(most, self._credit + max(0.0, now_s - self._at_s) * self.per_s)
        self._at_s = now_s
        return self._whole()

    def took(self, count: int) -> None:
        """So many went."""
        self._credit -= count

    def wait_s(self) -> float:
        """Until the next may go, at the time of the last `available`; 0 exactly when one may go now."""
        return 0.0 if self._whole() else (1.0 - self._credit) / self.per_s

    def _whole(self) -> int:
        # Rounding may leave it a hair below a whole one, for which nobody need wait: no clock resolves that time.
        return math.floor(self._credit + ROUNDING)
