"""How long to wait before the broker is tried again: soon for one site, and never all sites of a fleet at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

LEAST_SHARE = 0.5
"""Each wait is a random part of its length, from here up to all of it."""
DOUBLINGS = 16


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """What may differ from site to site."""

    first_wait_s: float = 5.0
    """After an attempt that came to nothing; half of the spread, or those who came too early are back as one."""
    longest_wait_s: float = 60.0
    spread_s: float = 10.0
    """After a connection that held, the next attempt comes within this, at a time of its own: when a broker ends, it
    ends for all sites in the same instant, and all of them would be back in the same instant too."""
    taken_over_wait_s: float = 60.0
    """After another client took our id: both would otherwise throw each other out for ever."""


def wait_s(failures: int, options: LinkOptions, chance: Callable[[], float], *, taken_over: bool = False) -> float:
    """Seconds until the next attempt after so many in a row that came to nothing; 0: the connection had held.

    `chance` gives a number from 0 to below 1.
    """
    if failures == 0 and not taken_over:
        return options.spread_s * chance()
    wait = min(options.longest_wait_s, options.first_wait_s * 2.0 ** min(max(0, failures - 1), DOUBLINGS))
    if taken_over:
        wait = max(wait, options.taken_over_wait_s)
    return wait * (LEAST_SHARE + (1.0 - LEAST_SHARE) * chance())
