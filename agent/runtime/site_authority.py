"""What somebody on site decides: the override and the reset of the safety latch. Kept on disk, told with who did it."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import structlog

from agent.cloud.document import printable
from agent.cloud.stamp import iso
from agent.core.admission import PlanLimits
from agent.core.decision import Effects
from agent.core.events import Event, EventState, Severity
from agent.core.kept_text import read_back
from agent.core.latch import Latches, latches_record, reset, restored_latches
from agent.core.override import (
    DEFAULT_OVERRIDE_S,
    LONGEST_REASON,
    Override,
    override_record,
    refuse_override,
    restored_override,
)
from agent.core.plan import Target
from agent.core.records import StorageFailed
from agent.core.term import begun
from agent.runtime.clock import Clock
from agent.runtime.control import ControlLoop
from agent.runtime.local_socket import Handler, Peer, Refusal
from agent.runtime.request_fields import reason_of
from agent.runtime.roles import need_operator
from agent.store import Held, Store

log = structlog.get_logger(__name__)

RETRY_S = 5.0
"""A disk that refused to keep what stands is asked again after this."""


class SiteAuthority:
    """The override and the latches: from the socket and the disk to the control loop, and back to the disk."""

    def __init__(
        self,
        *,
        store: Store,
        control: ControlLoop,
        limits: Callable[[], PlanLimits],
        tell: Callable[[Event], None],
        clock: Clock,
    ) -> None:
        self._store = store
        self._control = control
        self._limits = limits
        self._tell = tell
        self._clock = clock
        self._kept_latches: Latches = {}
        self._kept_override: Override | None = None
        self._wake = asyncio.Event()

    def restore(self, held: Held) -> None:
        """What stood before the restart stands again, an override for the rest of its time."""
        control, mono_s = self._control, self._clock.mono_s()
        at_least_utc_s = max(self._clock.utc_s(), held.last_trusted_utc_s or 0.0)
        control.override = restored_override(_read(held.override), at_least_utc_s, mono_s)
        self._kept_override = control.override
        if held.latches is not None:
            devices = [battery.device_id for battery in control.rules.batteries]
            self._kept_latches = restored_latches(_read(held.latches), devices)
            control.state = replace(control.state, latches=self._kept_latches)
        else:
            self._kept_latches = control.state.latches

    def after_tick(self, effects: Effects) -> None:
        """Notices an override whose time is over, and a latch that fell."""
        control, decision = self._control, effects.decision
        override = control.override
        trusted = control.trust.trusted
        if override is not None and override.term.over(decision.utc_s, decision.mono_s, clock_trusted=trusted):
            control.override = None
            text = f"the override of {override.who} ended by itself: its time was over"
            self._tell(_event("override_ended", Severity.INFO, decision.utc_s, text, override))
        if control.override is not self._kept_override or control.state.latches is not self._kept_latches:
            self._wake.set()

    async def run(self) -> None:
        """Keeps on disk what stands, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not await self._keep():
                await self._clock.sleep_until(self._clock.mono_s() + RETRY_S)
                self._wake.set()

    def facts(self) -> dict[str, Any]:
        """The override and the latches, for status and people."""
        control = self._control
        return {
            "override": override_facts(control.override),
            "latches": latch_facts(control.state.latches),
        }

    def handlers(self) -> dict[str, Handler]:
        """The commands by name."""
        return {"override_set": self._set, "override_clear": self._clear, "latch_reset": self._reset}

    async def _set(self, request: dict[str, Any], peer: Peer) -> dict[str, Any]:
        what = "override set"
        need_operator(what, peer)
        if self._control.read_only:
            why = "the agent is in its read-only mode and writes nothing"
            raise Refusal(what, why, "take control.mode out of the site file and restart the agent")
        power_w = _number(what, request, "power_w")
        if self._control.safe_mode and power_w:
            why = "the agent is in safe mode after a crash loop and moves no power"
            raise Refusal(what, why, "look why (journalctl -u ems-agent -p err), then: ems safe-mode end")
        duration_s = _number(what, request, "duration_s", DEFAULT_OVERRIDE_S)
        target, reason, suspends = (
            request.get("target", "battery"),
            request.get("reason"),
            request.get("suspend_awards"),
        )
        if target not in tuple(Target) or not isinstance(reason, str):
            raise Refusal(what, "a target (battery or grid) and a reason are needed", "see ems override set --help")
        refused = refuse_override(Target(target), power_w, duration_s, reason, self._limits())
        if refused is not None:
            raise Refusal(
                what, f"{refused.field}: {refused.detail}", "nothing was changed; see ems override set --help"
            )
        utc_s, mono_s = self._clock.utc_s(), self._clock.mono_s()
        term = begun(utc_s, mono_s, duration_s)
        override = Override(
            Target(target), power_w, term, utc_s, peer.name, printable(reason.strip(), LONGEST_REASON), suspends is True
        )
        self._control.override = override
        kept = await self._keep()
        # After the disk, so that a restart goes on with it; but a dead disk keeps nobody from the battery.
        self._control.act_now()
        until = iso(term.until_utc_s)
        where = "battery" if override.target is Target.BATTERY else "connection point"
        text = f"{peer.name} overrides: {power_w / 1e3:+g} kW at the {where} until {until}: {override.reason}"
        self._tell(_event("override_set", Severity.WARNING, utc_s, text, override))
        shown = override_facts(override)
        assert shown is not None
        return {**shown, "kept": kept}

    async def _clear(self, _request: dict[str, Any], peer: Peer) -> dict[str, Any]:
        what = "override clear"
        need_operator(what, peer)
        override = self._control.override
        if override is None:
            raise Refusal(what, "no override is set", "ems explain shows who decides")
        self._control.override = None
        kept = await self._keep()
        self._control.act_now()
        text = f"{peer.name} cleared the override of {override.who}"
        self._tell(_event("override_ended", Severity.INFO, self._clock.utc_s(), text, override, cleared_by=peer.name))
        shown = override_facts(override)
        assert shown is not None
        return {**shown, "kept": kept}

    async def _reset(self, request: dict[str, Any], peer: Peer) -> dict[str, Any]:
        what = "latch reset"
        need_operator(what, peer)
        reason = reason_of(what, request)
        control = self._control
        latches = control.state.latches
        if not latches:
            raise Refusal(what, "no safety latch has fallen", "ems status shows what else is wrong")
        stands = reset(latches, control.board.batteries, self._clock.mono_s())
        if stands is not None:
            hint = "mend the cause on site first; ems devices read shows the device's own words"
            raise Refusal(what, f"{stands.device_id}: {stands.why}", hint)
        control.state = replace(control.state, latches={})
        kept = await self._keep()
        control.act_now()
        utc_s = self._clock.utc_s()
        for latch in latches.values():
            text = f"{peer.name} reset the safety latch ({latch.words}): {reason}"
            data = {"who": peer.name, "reason": reason, "alarms": latch.words}
            self._tell(Event(utc_s, EventState.NOTED, Severity.WARNING, "latch_reset", latch.device_id, text, data))
        return {"reset": [latch.device_id for latch in latches.values()], "kept": kept}

    async def _keep(self) -> bool:
        """True when what stands now is on disk."""
        override, latches = self._control.override, self._control.state.latches
        try:
            if override is not self._kept_override:
                await self._store.keep_override(json.dumps(None if override is None else override_record(override)))
                self._kept_override = override
            if latches is not self._kept_latches:
                await self._store.keep_latches(json.dumps(latches_record(latches)))
                self._kept_latches = latches
        except StorageFailed as failure:
            log.warning("authority_not_kept", reason=str(failure), text="a restart would not know of it")
            return False
        return True


def override_facts(override: Override | None) -> dict[str, Any] | None:
    """The override as status and socket tell it; None when there is none."""
    if override is None:
        return None
    return {
        "power_w": override.power_w,
        "target": override.target.value,
        "until": iso(override.term.until_utc_s),
        "set_at": iso(override.set_utc_s),
        "who": override.who,
        "reason": override.reason,
        "suspends_awards": override.suspends_awards,
    }


def latch_facts(latches: Latches) -> list[dict[str, Any]]:
    """The safety latches that fell, as status and socket tell them."""
    return [
        {"device_id": latch.device_id, "alarms": latch.words, "since": iso(latch.since_utc_s)}
        for latch in latches.values()
    ]


def _event(
    code: str, severity: Severity, utc_s: float, text: str, override: Override, *, cleared_by: str | None = None
) -> Event:
    data: dict[str, str | float | int | None] = {
        "who": override.who,
        "reason": override.reason,
        "power_w": override.power_w,
        "target": override.target.value,
        "until": iso(override.term.until_utc_s),
        "suspends_awards": int(override.suspends_awards),
    }
    if cleared_by is not None:
        data["cleared_by"] = cleared_by
    return Event(utc_s, EventState.NOTED, severity, code, "site", text, data)


def _number(what: str, request: dict[str, Any], key: str, default: float | None = None) -> float:
    value = request.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Refusal(what, f"{key} must be a number", "see ems override set --help")
    return float(value)


def _read(text: str | None) -> object:
    """What was kept; a text that is no JSON is told apart from nothing."""
    if text is None:
        return None
    try:
        return read_back(text)
    except ValueError:
        return text
