"""Whether somebody else works as this site: the broker keeps a status that is not ours, and newer than our first one.

Not every broker says that another client took our session (mosquitto 2.0 does not), and a bad line looks much the
same. So after a connection that soon broke the next one looks at the `edge/status` that the broker keeps, before it
tells its own.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

import orjson


class _Told(NamedTuple):
    boot_id: str
    at_utc_s: float


class TwinWatch:
    """When to look, and what the kept status means."""

    def __init__(self, utc_s: Callable[[], float]) -> None:
        self._utc_s = utc_s
        self._since_utc_s: float | None = None
        """When the broker first took a status of this process; what was told before may be of the process before."""
        self._may_look = True

    def told(self) -> None:
        """The broker has a status of ours."""
        if self._since_utc_s is None:
            self._since_utc_s = self._utc_s()

    def steady(self) -> None:
        """The connection held."""
        self._may_look = True

    def look(self, short_connections: int) -> bool:
        """Whether this connection is to look; not twice in vain: some brokers answer what they forbid by hanging up."""
        due = short_connections > 0 and self._since_utc_s is not None and self._may_look
        if due:
            self._may_look = False
        return due

    def found(self, kept: bytes, ours: bytes) -> str | None:
        """Who else there is, for people; None where the kept status shows nobody."""
        self._may_look = True
        theirs, mine = _told(kept), _told(ours)
        if theirs is None or mine is None or theirs.boot_id == mine.boot_id:
            return None
        if self._since_utc_s is None or theirs.at_utc_s <= self._since_utc_s:
            return None
        return f"an agent that started as {theirs.boot_id} told its status, this one is {mine.boot_id}"


def taken_text(site_id: str, sign: str) -> str:
    """The alarm, for whom it reaches first."""
    return (
        f"a second agent is at the broker as ems-{site_id} ({sign}), and both control the site: on the gateway that is "
        "not to be, systemctl disable --now ems-agent"
    )


def _told(status: bytes) -> _Told | None:
    try:
        content = orjson.loads(status)
        return _Told(str(content["software"]["boot_id"]), datetime.fromisoformat(content["at"]).timestamp())
    except (ValueError, TypeError, KeyError):  # the will, which says nothing more, or nothing of ours
        return None
