"""Whether a version that was just started does what the one before it did: the verdict of an update. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SETTLE_S = 15.0
"""All must have been well for so long without a break."""
DEADLINE_S = 120.0
"""From the start; devices that are slow to find, and the broker, have until then."""
ANSWER_WITHIN_S = 60.0
"""As long as systemd waits for a start."""
LEAST_TICKS = 5
"""Completed while it was well; with the slowest tick, 10 s, that takes longer than `SETTLE_S`."""


@dataclass(frozen=True, slots=True)
class Look:
    """What the daemon said of itself at one time."""

    mono_s: float
    version: str
    boot_id: str
    ticks: int
    confirmed: frozenset[str] = frozenset()
    """Devices that hold what was last written to them."""
    conditions: frozenset[tuple[str, str]] = frozenset()
    """Code and subject of each warning and alarm."""
    connected: bool | None = None
    """To the broker; None where the site has none."""


@dataclass(frozen=True, slots=True)
class Healthy:
    """It does what the one before it did."""


@dataclass(frozen=True, slots=True)
class NotYet:
    """Look again; `why` is what is missing."""

    why: str


@dataclass(frozen=True, slots=True)
class Unhealthy:
    """It does not, and will not."""

    why: str


Verdict = Healthy | NotYet | Unhealthy


def verdict(
    version: str, before: Look | None, looks: Sequence[Look | None], started_mono_s: float, now_mono_s: float
) -> Verdict:
    """The verdict on `version`, from all looks since its start (None: no answer), oldest first.

    `before` is a look at the version before it; None when that one did not answer, and then nothing is compared.
    """
    boots = dict.fromkeys(look.boot_id for look in looks if look is not None and look.version == version)
    if len(boots) > 1:
        return Unhealthy("it ended by itself and was started again")
    missing = _missing(version, before, looks, now_mono_s)
    if missing is None:
        return Healthy()
    patience_s = DEADLINE_S if boots else ANSWER_WITHIN_S
    if now_mono_s - started_mono_s >= patience_s:
        return Unhealthy(f"after {patience_s:.0f} s {missing}")
    return NotYet(missing)


def _missing(version: str, before: Look | None, looks: Sequence[Look | None], now_mono_s: float) -> str | None:
    """What is missing for health, of the newest look first; None when nothing is."""
    well: list[Look] = []
    for look in reversed(looks):
        fault = _fault(version, before, look)
        if fault is not None or look is None:
            if not well:
                return fault
            break
        well.append(look)
    if not well:
        return "it was not asked yet"
    newest, oldest = well[0], well[-1]
    if now_mono_s - oldest.mono_s < SETTLE_S:
        return "it has not been well for long enough"
    if newest.ticks - oldest.ticks < LEAST_TICKS:
        return "its control loop does not tick"
    return None


def _fault(version: str, before: Look | None, look: Look | None) -> str | None:
    if look is None:
        return "it does not answer"
    if look.version != version:
        return f"version {look.version} answers in its place"
    if before is None:
        return None
    lost = sorted(before.confirmed - look.confirmed)
    if lost:
        return f"no setpoint is confirmed by {', '.join(lost)}"
    new = sorted(look.conditions - before.conditions)
    if new:
        return f"there are new conditions: {', '.join(f'{code} ({subject})' for code, subject in new)}"
    if before.connected and not look.connected:
        return "it is not connected to the broker"
    return None
