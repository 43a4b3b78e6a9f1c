"""The word of somebody on site that the clock is right although a later time was taken for good before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from agent.cloud.stamp import iso
from agent.core.admission import replayable_before_utc_s
from agent.core.clock_trust import mistaken
from agent.core.events import Event, EventState, Severity
from agent.core.records import StorageFailed
from agent.runtime.clock import Clock
from agent.runtime.control import ControlLoop
from agent.runtime.local_socket import Handler, Peer, Refusal
from agent.runtime.request_fields import reason_of
from agent.runtime.roles import need_operator

WHAT = "clock trust"


class TimeStore(Protocol):
    """What is needed of the store."""

    async def believe_clock(self, utc_s: float, commands_since_utc_s: float) -> None:
        """Both times are durable; may raise `StorageFailed`."""


class ClockWord:
    """`ems clock trust`: from the socket to the disk, the control loop and the command desk."""

    def __init__(
        self,
        *,
        store: TimeStore,
        control: ControlLoop,
        commands_since: Callable[[float], None],
        tell: Callable[[Event], None],
        clock: Clock,
    ) -> None:
        """`commands_since` has commands refused that were issued before a time."""
        self._store = store
        self._control = control
        self._commands_since = commands_since
        self._tell = tell
        self._clock = clock

    def handlers(self) -> dict[str, Handler]:
        """The command by name."""
        return {"clock_trust": self._asked}

    async def _asked(self, request: dict[str, Any], peer: Peer) -> dict[str, Any]:
        need_operator(WHAT, peer)
        reason, watch_utc_s = reason_of(WHAT, request), request.get("watch_utc_s")
        if isinstance(watch_utc_s, bool) or not isinstance(watch_utc_s, int | float):
            raise Refusal(WHAT, "the time of your watch is needed", "give --watch 2024-01-15T14:05")
        utc_s, trust = self._clock.utc_s(), self._control.clock_now()
        why = mistaken(trust, utc_s, watch_utc_s)
        if why is not None:
            hint = "set the clock first (timedatectl); ems status shows whether it is trusted"
            raise Refusal(WHAT, f"{why}; it shows {iso(utc_s)}", hint)
        # While the clock was ahead, ids of commands were forgotten before their time: those could be replayed now.
        since_utc_s = replayable_before_utc_s(utc_s)
        try:
            await self._store.believe_clock(utc_s, since_utc_s)
        except StorageFailed as failure:
            raise Refusal(WHAT, f"{failure}; nothing was changed", "check the disk with df and dmesg") from failure
        self._commands_since(since_utc_s)
        self._control.believe_clock(utc_s)
        back_s = round(trust.floor_utc_s - utc_s, 1)
        text = (
            f"{peer.name} says that the clock is right, {back_s:.0f} s behind the time taken for good before: {reason}"
        )
        data: dict[str, str | float | int | None] = {"who": peer.name, "reason": reason, "back_s": back_s}
        self._tell(Event(utc_s, EventState.NOTED, Severity.WARNING, "clock_believed", "site", text, data))
        self._control.act_now()
        return {"at": iso(utc_s), "back_s": back_s, "commands_since": iso(since_utc_s)}
