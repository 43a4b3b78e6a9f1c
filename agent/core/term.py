"""How long something holds: an end on the wall clock and one on the monotonic clock, whichever comes first."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Term:
    """The end of something that must never outlive it: a step of the wall clock neither prolongs nor revives it."""

    until_utc_s: float
    until_mono_s: float
    witnessed: bool = True
    """False after a restart: how much time went by meanwhile is known only from a trusted wall clock."""

    def over(self, utc_s: float, mono_s: float, *, clock_trusted: bool) -> bool:
        """True once either clock says so; an untrusted wall clock says nothing."""
        return mono_s >= self.until_mono_s or (clock_trusted and utc_s >= self.until_utc_s)

    def stands(self, utc_s: float, mono_s: float, *, clock_trusted: bool) -> bool:
        """True while it is certainly not over: after a restart nobody knows that without a trusted clock."""
        return (self.witnessed or clock_trusted) and not self.over(utc_s, mono_s, clock_trusted=clock_trusted)

    def left_s(self, utc_s: float, mono_s: float, *, clock_trusted: bool) -> float:
        """Seconds to the end, >= 0."""
        left_s = self.until_mono_s - mono_s
        return max(min(left_s, self.until_utc_s - utc_s) if clock_trusted else left_s, 0.0)


def begun(utc_s: float, mono_s: float, duration_s: float) -> Term:
    """The term of something that begins now."""
    return Term(utc_s + duration_s, mono_s + duration_s)


def resumed(until_utc_s: float, at_least_utc_s: float, mono_s: float) -> Term:
    """The term of something found on disk at start; it is `at_least_utc_s` now, whatever the wall clock shows.

    Too long by the time that the machine was off while its clock cannot be trusted, and never longer than that.
    """
    return Term(until_utc_s, mono_s + max(until_utc_s - at_least_utc_s, 0.0), witnessed=False)
