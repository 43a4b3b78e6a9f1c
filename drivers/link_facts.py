"""What a link tells of itself and of the units behind it, for people."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class LinkStats:
    """What has happened on a link since it was made; only the link writes it."""

    requests: int = 0
    failures: int = 0
    timeouts: int = 0
    connects: int = 0
    reconnects: int = 0
    bad_replies: int = 0
    refusals: int = 0
    late_replies: int = 0
    local_echo: bool = False
    """Whether the line gives our own requests back, as an RS-485 adapter does whose receiver stays on."""
    last_latency_s: float | None = None
    """From sending to the last good answer."""
    connected_mono_s: float | None = None
    """When the newest connection was made."""


@dataclass(frozen=True, slots=True)
class UnitFacts:
    """How one unit id does, for people: its state, how long it is waited for, and when it is tried again."""

    state: str
    timeout_s: float
    usual_s: float | None
    failures_in_a_row: int
    retry_in_s: float | None
