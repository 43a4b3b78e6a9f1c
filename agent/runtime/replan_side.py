"""Re-planning beside the control loop: looks whether it is due, has it solved in a process of its own, one at a time.

The rules are in `agent.core.replan_rules`, the solver behind `agent.replan.runner`. Nothing here is waited for by the
control loop, and nothing that goes wrong here ends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import structlog

from agent.cloud.stamp import iso
from agent.core.awards import AwardBook
from agent.core.events import Event, EventState, Severity
from agent.core.forecast import DayProfile
from agent.core.local_plan import changed_slots, changed_wh, ended_because, overlay
from agent.core.orders import Orders
from agent.core.plan import LocalPlan, Plans
from agent.core.records import StorageFailed
from agent.core.replan_request import ReplanRequest
from agent.core.replan_rules import (
    WORDS,
    Due,
    ReplanRules,
    ReplanWatch,
    ended,
    first_shortfall,
    look,
    superseded,
)
from agent.replan.horizon import Forecast, Held, Site, Storage, request_at
from agent.replan.kept import Kept, kept_json
from agent.replan.runner import Fallback, Replanned
from agent.replan.situation import forecast_now, situation_now
from agent.replan.storage import storage_now
from agent.runtime.clock import Clock
from agent.runtime.control import ControlLoop
from agent.site_file.replan import ReplanSection

log = structlog.get_logger(__name__)

LOOKS_PER_SETTLING = 6
LONGEST_LOOK_S = 10.0
SHORTEST_LOOK_S = 0.2
"""Between two looks: so many fit into the time for which a condition must hold."""
KEEP_PROFILE_EVERY_S = 1800.0


@dataclass(frozen=True, slots=True)
class ReplanOptions:
    """The site's choices."""

    rules: ReplanRules
    cycle_cost_per_kwh: float
    time_limit_s: float

    @classmethod
    def of(cls, section: ReplanSection) -> ReplanOptions:
        """As the site file states them."""
        return cls(section.rules(), section.cycle_cost_per_kwh, section.time_limit)


@dataclass(frozen=True, slots=True)
class _Moment:
    """All that one look is about."""

    utc_s: float
    mono_s: float
    held: Held
    storage: Storage | None
    forecast: Forecast


class ReplanSide:
    """Watches, asks, and lays the answer over the plans of the control loop."""

    def __init__(
        self,
        *,
        control: ControlLoop,
        options: ReplanOptions,
        orders: Callable[[], tuple[Orders, AwardBook]],
        profile: DayProfile,
        keep: Callable[[str], Awaitable[None]],
        tell: Callable[[Event], None],
        clock: Clock,
        solve: Callable[..., Awaitable[Replanned | Fallback]],
    ) -> None:
        self._control = control
        self._options = options
        self._orders = orders
        self._profile = profile
        self._keep_text = keep
        self._tell_event = tell
        self._clock = clock
        self._solve = solve
        self._watch = ReplanWatch()
        self._basis = control.plans.basis
        self._local = control.plans.local
        self._last_look_mono_s: float | None = None
        self._profile_kept_mono_s = clock.mono_s()
        self._runs = 0
        self._last_run: dict[str, Any] | None = None

    async def run(self) -> None:
        """Looks for ever; a fault in re-planning is told and ends it, not the control loop."""
        try:
            while True:
                settle_s = self._options.rules.settle_s
                look_s = min(max(settle_s / LOOKS_PER_SETTLING, SHORTEST_LOOK_S), LONGEST_LOOK_S)
                await self._clock.sleep_until(self._clock.mono_s() + look_s)
                await self._look()
        except Exception as error:  # a bug of ours: control goes on without re-planning
            log.exception("replanning_stopped")
            text = f"re-planning has stopped until the agent is restarted ({type(error).__name__}: {error}); control "
            text += "goes on by the plans of the cloud. Tell the maker of this software"
            self._tell(Severity.ALARM, "replanning_stopped", text, {})

    def use(self, options: ReplanOptions) -> None:
        """Plan by these choices from the next look on."""
        self._options = options

    @property
    def _site(self) -> Site:
        point = self._control.rules
        return Site(point.export_limit_w, point.import_limit_w, self._options.cycle_cost_per_kwh)

    def facts(self) -> dict[str, Any]:
        """For `ems status`: how often it ran since the start, and how the last run ended."""
        return {"runs": self._runs, "last_run": self._last_run}

    async def _look(self) -> None:
        control = self._control
        if not control.decisions:
            return
        await self._follow()
        now = self._moment()
        plans = now.held.plans
        if plans.rolling is None and plans.yearly is None:
            return
        request = await asyncio.to_thread(self._request, now)
        infeasible = request is not None and await asyncio.to_thread(first_shortfall, request) is not None
        situation = situation_now(
            now.held, now.storage, self._site,
            utc_s=now.utc_s, mono_s=now.mono_s, trusted=control.trust.trusted, infeasible=infeasible,
        )  # fmt: skip
        self._watch, due = look(self._options.rules, self._watch, situation)
        if due is not None and request is not None and request.slots:
            failed = await self._replan(due, request, plans)
            self._watch = ended(self._watch, failed=failed)

    def _moment(self) -> _Moment:
        """Everything read at one instant of the loop, so that the parts belong together."""
        control, utc_s, mono_s = self._control, self._clock.utc_s(), self._clock.mono_s()
        orders, awards = self._orders()
        rules, plans, samples = control.rules, control.plans, control.board.batteries
        storage = storage_now(rules.batteries, control.state.models, samples, mono_s)
        others_w = None if rules.battery_alone else self._others_w()
        if others_w is not None and self._last_look_mono_s is not None and control.trust.trusted:
            self._profile = self._profile.with_measured(utc_s, others_w, mono_s - self._last_look_mono_s)
        self._last_look_mono_s = mono_s
        forecast = forecast_now(
            rules, plans, samples, self._profile, others_w, utc_s=utc_s, mono_s=mono_s
        )  # fmt: skip
        return _Moment(utc_s, mono_s, Held(plans, orders, awards), storage, forecast)

    def _others_w(self) -> float | None:
        """PV and load together, the mean of the last minutes."""
        measured = [
            row.grid_w - row.battery_w
            for row in self._control.decisions
            if row.grid_w is not None and row.battery_w is not None
        ]
        return sum(measured) / len(measured) if measured else None

    def _request(self, now: _Moment) -> ReplanRequest | None:
        if now.storage is None:
            return None
        return request_at(now.utc_s, now.held, now.storage, self._site, now.forecast)

    async def _replan(self, due: Due, request: ReplanRequest, plans: Plans) -> bool:
        """True when the run gave only the rule-based plan."""
        began_mono_s = self._clock.mono_s()
        outcome = await self._solve(request, wall_limit_s=self._options.time_limit_s)
        took_s = self._clock.mono_s() - began_mono_s
        why = ", ".join(WORDS[occasion] for occasion in due.occasions)
        self._runs += 1
        by_rule = isinstance(outcome, Fallback)
        self._last_run = {
            "at": iso(self._clock.utc_s()),
            "why": why,
            "by": "rules" if by_rule else "solver",
            "took_s": round(took_s, 3),
            "reason": outcome.reason if isinstance(outcome, Fallback) else None,
        }
        if self._control.plans.basis != plans.basis:
            # The cloud was faster: its new plan is looked at by itself.
            log.info("replan_dropped", why=why, text="a new plan of the cloud came while it was solved")
            return False
        local = overlay(
            plans, outcome.slots, utc_s=request.slots[0].start_utc_s, soc_pct=request.soc_now_pct,
            by_rule=by_rule, why=why,
        )  # fmt: skip
        self._control.use_local(local)
        self._local = local
        self._tell_replanned(local, outcome, took_s, due)
        await self._keep()
        return by_rule

    async def _follow(self) -> None:
        """Notices that new plans of the cloud, or time, ended the local plan."""
        plans, local = self._control.plans, self._local
        if plans.basis != self._basis:
            self._basis = plans.basis
            self._watch = superseded(self._watch)
        if local is None:
            if self._clock.mono_s() - self._profile_kept_mono_s >= KEEP_PROFILE_EVERY_S:
                await self._keep()
            return
        text = ended_because(local, plans, self._clock.utc_s() if self._control.trust.trusted else None)
        if text is not None:
            self._local = None
            self._control.use_local(None)
            self._tell(Severity.INFO, "local_plan_ended", text, {"made_at": iso(local.made_utc_s)})
            await self._keep()

    async def _keep(self) -> None:
        self._profile_kept_mono_s = self._clock.mono_s()
        try:
            await self._keep_text(kept_json(Kept(self._local, self._profile)))
        except StorageFailed as error:
            log.warning("local_plan_not_kept", reason=str(error))

    def _tell_replanned(self, local: LocalPlan, outcome: Replanned | Fallback, took_s: float, due: Due) -> None:
        hours = (local.end_utc_s - local.made_utc_s) / 3600.0
        changed = changed_slots(local)
        text = f"planned anew here for {hours:.1f} h, because {local.why}: {changed} of {len(local.slots)} slots change"
        data: dict[str, str | float | int | None] = {
            "occasions": ",".join(due.occasions),
            "by": "rules" if local.by_rule else "solver",
            "took_s": round(took_s, 3),
            "slots": len(local.slots),
            "changed_slots": changed,
            "changed_wh": round(changed_wh(local), 1),
            "soc_pct": None if local.soc_pct is None else round(local.soc_pct, 2),
            "until": iso(local.end_utc_s),
        }
        if isinstance(outcome, Fallback):
            data["reason"] = outcome.reason
            text += f". Only by rule: {outcome.reason}. It is tried again"
        self._tell(Severity.WARNING if local.by_rule else Severity.INFO, "replanned", text, data)

    def _tell(self, severity: Severity, code: str, text: str, data: dict[str, Any]) -> None:
        self._tell_event(Event(self._clock.utc_s(), EventState.NOTED, severity, code, "site", text, data))


def with_kept(plans: Plans, kept: Kept) -> Plans:
    """The plans of a start, with the local plan that was in force over them if it was made from these."""
    restored = replace(plans, local=kept.local)
    return restored if kept.local is not None and kept.local.basis == plans.basis else plans
