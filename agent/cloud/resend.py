"""When to send again what the broker took and the cloud did not store: a broker may lose what it acknowledged."""

from __future__ import annotations

from dataclasses import dataclass

LONGEST_WAIT_S = 3600.0


@dataclass(slots=True)
class ResendTimer:
    """One stream on one connection. Due once nothing was stored for `wait_s`; the wait doubles while that lasts.

    A cloud that never said how far it has stored is left alone: there is nothing to compare with.
    """

    first_wait_s: float
    _wait_s: float = 0.0
    _confirmed: int | None = None
    _highest_sent: int = 0
    _since_s: float | None = None
    """When the oldest message that is not stored was sent, or anything was stored after it."""

    def sent(self, seq: int, now_s: float) -> None:
        """A message went out."""
        all_stored = self._confirmed is not None and self._confirmed >= self._highest_sent
        if self._since_s is None or all_stored:
            self._since_s = now_s
        self._highest_sent = max(self._highest_sent, seq)

    def stored(self, seq: int, now_s: float) -> None:
        """The cloud has everything up to `seq`."""
        if self._confirmed is None or seq > self._confirmed:
            self._wait_s = self.first_wait_s
            self._since_s = now_s
        self._confirmed = max(seq, self._confirmed or 0)

    def due(self, now_s: float) -> int | None:
        """The sequence above which all is to be sent again, or None; asking again begins the next wait."""
        confirmed, since_s = self._confirmed, self._since_s
        if confirmed is None or since_s is None or confirmed >= self._highest_sent:
            return None
        if now_s - since_s < self._wait_s:
            return None
        self._since_s = now_s
        self._wait_s = min(LONGEST_WAIT_S, self._wait_s * 2)
        return confirmed
