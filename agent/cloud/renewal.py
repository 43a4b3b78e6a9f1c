"""Notices that certificates, keys or passwords were renewed on disk, or that they soon end; no restart is needed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from agent.cloud.certificates import Expiry, ExpiryWatch
from agent.cloud.drain import happened_within
from agent.cloud.transport import Transport, expiries, fingerprint, problems
from agent.core.events import Event, EventState, Severity

LOOK_EVERY_S = 30.0
UNUSABLE, RENEWED = "broker_files_unusable", "connection_renewed"


class Renewable(Protocol):
    """What is needed of the link to the broker."""

    @property
    def chain(self) -> tuple[bytes, ...]:
        """The broker's certificates in DER, as it showed them last."""

    def renew(self, why: str) -> None:
        """The connection is made anew, from the files as they are now."""


@dataclass(frozen=True, slots=True)
class _Seen:
    files: tuple[object, ...]
    problems: tuple[str, ...]
    expiries: tuple[Expiry, ...]


class Renewal:
    """Looks after the files of one way to the broker. `run` it as one task; `hurry` may be called at any time."""

    def __init__(
        self,
        transport: Transport,
        link: Renewable,
        *,
        tell: Callable[[Event], Awaitable[None]],
        utc_s: Callable[[], float],
        trusted: Callable[[], bool],
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        """While the clock is not `trusted` nobody can say what has ended."""
        self._transport = transport
        self._link = link
        self._tell = tell
        self._utc_s = utc_s
        self._trusted = trusted
        self._was_trusted = True
        self._look_every_s = look_every_s
        self._asked = asyncio.Event()
        self._watch = ExpiryWatch()
        self._files = fingerprint(transport)
        self._problems: tuple[str, ...] = ()
        self._expiries: tuple[Expiry, ...] = ()

    def use(self, transport: Transport) -> None:
        """Looks after the files of this way from now on; where they can be used, the connection is made anew by it."""
        self._transport = transport
        self.hurry()

    def hurry(self) -> None:
        """The connection is made anew now, with the files as they are, unless they cannot be used."""
        self._asked.set()

    def facts(self) -> list[dict[str, Any]]:
        """The certificates with the days they have left; without days while the clock is not trusted."""
        now_utc_s, trusted = self._utc_s(), self._trusted()
        return [
            {"certificate": one.subject, "days_left": round(one.days_left(now_utc_s), 1) if trusted else None}
            for one in self._expiries
        ]

    async def run(self) -> None:
        """Looks every half minute, and whenever it is asked to, for ever."""
        while True:
            asked = self._asked.is_set()
            self._asked.clear()
            seen = await asyncio.to_thread(_look, self._transport, self._link.chain)
            await self._judge(seen, asked=asked)
            await happened_within(self._asked, self._look_every_s)

    async def _judge(self, seen: _Seen, *, asked: bool) -> None:
        changed = seen.files != self._files
        self._files, self._expiries = seen.files, seen.expiries
        if seen.problems != self._problems:
            await self._tell_problems(seen.problems)
        was_trusted, self._was_trusted = self._was_trusted, self._trusted()
        # What was refused by a wrong clock is retained by the broker, and comes again with a new connection.
        clock_mended = self._was_trusted and not was_trusted
        if (changed or asked or clock_mended) and not seen.problems:
            why = (
                "its files were renewed" if changed else "asked for here" if asked else "the clock can be trusted again"
            )
            await self._note(
                EventState.NOTED, Severity.INFO, RENEWED, f"the connection to the broker is made anew: {why}"
            )
            self._link.renew(why)
        if self._trusted():
            for event in self._watch.events(seen.expiries, self._utc_s()):
                await self._tell(event)

    async def _tell_problems(self, problems: tuple[str, ...]) -> None:
        self._problems = problems
        if problems:
            text = f"{'; '.join(problems)}. A connection that stands is kept, a new one does not come about"
            await self._note(EventState.RAISED, Severity.ALARM, UNUSABLE, text)
        else:
            await self._note(EventState.CLEARED, Severity.INFO, UNUSABLE, "the files can be used again")

    async def _note(self, state: EventState, severity: Severity, code: str, text: str) -> None:
        await self._tell(Event(self._utc_s(), state, severity, code, "cloud", text))


def _look(transport: Transport, chain: Sequence[bytes]) -> _Seen:
    """What the disk says now. The state of the files is read first: a change while they are read is seen next time."""
    files = fingerprint(transport)
    return _Seen(files, tuple(problems(transport)), tuple(expiries(transport, chain)))
