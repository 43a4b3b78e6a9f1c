"""What every message of the contract carries, for programs that read messages without the wire models."""

from __future__ import annotations

from datetime import UTC, datetime

SCHEMA = "1.0"
"""Version of the contract."""


def iso(utc_s: float) -> str:
    """The time as the contract writes it, to the millisecond."""
    return datetime.fromtimestamp(utc_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
