"""Safe mode after a crash loop: noticed at a start, kept on disk, ended by an operator, by a clean stop, or by time."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import structlog

from agent.cloud.stamp import iso
from agent.core.authority import clock as time_of_day
from agent.core.crash_loop import CRASHES, SAFE_FOR_S, WITHIN_S, Starts, restored_starts, started, starts_record
from agent.core.decision import Condition, Effects
from agent.core.events import Event, EventState, Severity
from agent.core.kept_text import read_back
from agent.core.records import StorageFailed
from agent.core.term import Term, begun
from agent.runtime.clock import Clock
from agent.runtime.control import ControlLoop
from agent.runtime.local_socket import Handler, Peer, Refusal
from agent.runtime.request_fields import reason_of
from agent.runtime.roles import need_operator
from agent.store import Held, Store

log = structlog.get_logger(__name__)

CODE, ENDED = "safe_mode", "safe_mode_ended"


class SafeMode:
    """Counts the starts, and holds the batteries at 0 kW while they were too many."""

    def __init__(self, *, store: Store, control: ControlLoop, tell: Callable[[Event], None], clock: Clock) -> None:
        self._software = ""
        self._store = store
        self._control = control
        self._tell = tell
        self._clock = clock
        self._term: Term | None = None

    async def begin(self, held: Held, software: str = "") -> None:
        """Counts this start of the version `software`, on disk too, before anything moves."""
        self._software = software
        utc_s = max(self._clock.utc_s(), held.last_trusted_utc_s or 0.0)
        before, former = _read(held.starts)
        if former != software:
            # How often another version crashed says nothing of this one: an update that failed is not held against
            # the version that it went back to.
            before = Starts()
            if former:
                self._tell_change(former, utc_s)
        starts = started(before, utc_s)
        if starts.safe_until_utc_s is not None:
            left_s = starts.safe_until_utc_s - utc_s
            self._term = begun(utc_s, self._clock.mono_s(), left_s)
            until = time_of_day(round(starts.safe_until_utc_s))
            self._control.safe_mode = (
                f"safe mode: the agent was started again {CRASHES} times within {WITHIN_S / 60:.0f} min without a "
                f"clean stop; at 0 kW until {until}, or until an operator runs ems safe-mode end"
            )
            log.warning(CODE, until=until, starts=len(starts.unclean_utc_s))
        await self._keep(starts)

    async def end_cleanly(self) -> None:
        """The agent stops as it was asked to: nothing of this run, or of those before, counts at the next start."""
        await self._keep(Starts())

    def after_tick(self, effects: Effects) -> None:
        """Notices that its time is over."""
        decision = effects.decision
        if self._term is None or decision.mono_s < self._term.until_mono_s:
            return
        self._end(f"safe mode ended by itself after {SAFE_FOR_S / 60:.0f} min; the agent moves power again", {})

    def conditions(self) -> tuple[Condition, ...]:
        """It stands as an alarm: nobody sells power that does not come without knowing."""
        if self._term is None:
            return ()
        text = f"{self._control.safe_mode}. journalctl -u ems-agent shows why it ended each time"
        return (Condition(CODE, "site", Severity.ALARM, text, {"until": iso(self._term.until_utc_s)}),)

    def facts(self) -> dict[str, Any] | None:
        """For status and people; None outside it."""
        return None if self._term is None else {"until": iso(self._term.until_utc_s), "why": self._control.safe_mode}

    def handlers(self) -> dict[str, Handler]:
        """The commands by name."""
        return {"safe_mode_end": self._asked}

    async def _asked(self, request: dict[str, Any], peer: Peer) -> dict[str, Any]:
        what = "safe-mode end"
        need_operator(what, peer)
        reason = reason_of(what, request)
        if self._term is None:
            raise Refusal(what, "the agent is not in safe mode", "ems explain shows who decides")
        self._end(f"{peer.name} ended safe mode: {reason}", {"who": peer.name, "reason": reason})
        kept = await self._keep(Starts((self._clock.utc_s(),)))
        self._control.act_now()
        return {"ended": True, "kept": kept}

    def _tell_change(self, former: str, utc_s: float) -> None:
        text = f"version {self._software} runs in the place of {former}"
        data: dict[str, str | float | int | None] = {"from": former, "to": self._software}
        self._tell(Event(utc_s, EventState.NOTED, Severity.INFO, "software_changed", "site", text, data))

    def _end(self, text: str, data: dict[str, str | float | int | None]) -> None:
        self._term, self._control.safe_mode = None, ""
        self._tell(Event(self._clock.utc_s(), EventState.NOTED, Severity.WARNING, ENDED, "site", text, data))

    async def _keep(self, starts: Starts) -> bool:
        try:
            await self._store.keep_starts(json.dumps(starts_record(starts) | {"software": self._software}))
        except StorageFailed as failure:
            log.warning("starts_not_kept", reason=str(failure), text="a crash loop could go unnoticed")
            return False
        return True


def _read(text: str | None) -> tuple[Starts, str]:
    """The starts that were kept, and the version that they were of, "" where that is not known."""
    try:
        record = read_back(text) if text is not None else None
    except ValueError:
        return Starts(), ""
    software = record.get("software") if isinstance(record, dict) else None
    return restored_starts(record), software if isinstance(software, str) else ""
