"""Commands: what the cloud wants of this site at once, once, and not for longer than it says.

All powers are W, positive toward the grid, durations s, times Unix seconds. What a command may ask is judged in
`agent.core.command_admission`, what it does to the site is kept in `agent.core.command_book`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from agent.core.plan import Target
from agent.core.records import Stream

LONGEST_COMMAND_S = 86_400.0
"""Nothing that a command begins lasts longer; a plan is the means for more."""
LONGEST_LIVE_S = 3_600.0


class CommandType(StrEnum):
    """What a command asks for."""

    SET_POWER = "set_power"
    HOLD = "hold"
    NEUTRAL = "neutral"
    RELEASE = "release"
    NARROW_LIMITS = "narrow_limits"
    LIVE = "live"
    RESEND = "resend"
    REPORT = "report"
    FCR_EVIDENCE = "fcr_evidence"


@dataclass(frozen=True, slots=True)
class SetPower:
    """A power, at the battery terminals or at the connection point, for so long."""

    target: Target
    power_w: float
    duration_s: float


@dataclass(frozen=True, slots=True)
class Hold:
    """The batteries rest at 0 kW and keep their charge; sold reserve is still answered."""

    duration_s: float


@dataclass(frozen=True, slots=True)
class Neutral:
    """The batteries rest at 0 kW and nothing moves them: sold reserve is suspended too."""

    duration_s: float


@dataclass(frozen=True, slots=True)
class Release:
    """Ends the command of this id, or, without one, whichever of set_power, hold and neutral is in force."""

    command_id: str | None


@dataclass(frozen=True, slots=True)
class NarrowLimits:
    """Tighter limits for a time, each >= 0 W; None leaves that limit as it is."""

    duration_s: float
    export_limit_w: float | None = None
    """At the connection point."""
    import_limit_w: float | None = None
    """At the connection point."""
    discharge_limit_w: float | None = None
    """Of all batteries together."""
    charge_limit_w: float | None = None
    """Of all batteries together."""


@dataclass(frozen=True, slots=True)
class Live:
    """A telemetry frame every second for so long."""

    duration_s: float


@dataclass(frozen=True, slots=True)
class Resend:
    """What is still on disk of these sequences (both ends belong to it) is sent again."""

    stream: Stream
    from_seq: int
    to_seq: int


@dataclass(frozen=True, slots=True)
class Report:
    """The status, now."""


@dataclass(frozen=True, slots=True)
class FcrEvidence:
    """The seconds of frequency response in `[from, to)`, in chunks on a topic of their own."""

    from_utc_s: float
    to_utc_s: float


Params = SetPower | Hold | Neutral | Release | NarrowLimits | Live | Resend | Report | FcrEvidence
Move = SetPower | Hold | Neutral
"""What moves the batteries: one of these is in force at a time, the later one replaces the one before."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command that reads well."""

    command_id: str
    type: CommandType
    sha256: str
    """Of the document as it arrived, after decompression: the same id must always have the same hash."""
    issued_utc_s: float
    expires_utc_s: float
    """It has no effect if it is not taken by then."""
    params: Params

    @property
    def duration_s(self) -> float | None:
        """How long its effect lasts; None for what is done at once or by being worked off."""
        duration_s: float | None = getattr(self.params, "duration_s", None)
        return duration_s
