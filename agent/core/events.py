"""What the agent tells people and the cloud about: raised, cleared, noted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class EventState(StrEnum):
    """A condition begins (RAISED) or ends (CLEARED), or something just happened (NOTED)."""

    RAISED = "raised"
    CLEARED = "cleared"
    NOTED = "noted"


class Severity(StrEnum):
    """ALARM: somebody must act. WARNING: the site works with less. INFO: for the record."""

    INFO = "info"
    WARNING = "warning"
    ALARM = "alarm"


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the site's history; a condition is known by its `code` and `subject`."""

    at_utc_s: float
    state: EventState
    severity: Severity
    code: str
    subject: str
    """The device id, or "site"."""
    text: str
    """For people: what, why, and where it helps, what to do next."""
    data: Mapping[str, str | float | int | None] = field(default_factory=dict)
