"""Local re-planning within a scenario: the core's rules, the real solver and the real checker, on virtual time.

As in the daemon, but in this process instead of one of its own, so that the same seed gives the same plan. The answer
is in force at the tick that asked; the daemon's takes about half a second.
"""

from __future__ import annotations

from collections import Counter

from agent.core.decision import Decision, Inputs, State
from agent.core.forecast import DayProfile
from agent.core.local_plan import overlay
from agent.core.plan import Plans
from agent.core.replan_request import PlannedSlot, ReplanRequest, refusal
from agent.core.replan_rules import (
    WORDS,
    Due,
    ReplanRules,
    ReplanWatch,
    ended,
    first_shortfall,
    look,
    rule_plan,
    superseded,
)
from agent.replan.check import check
from agent.replan.horizon import Forecast, Held, Site, request_at
from agent.replan.model import UnsolvedError, solve
from agent.replan.situation import forecast_now, situation_now
from agent.replan.storage import storage_now
from simulators.scenario import Scenario

LOOK_EVERY_S = 60.0
"""The daemon looks more often; conditions must hold for a minute in any case."""
FEASIBLE_EVERY_S = 1800.0
"""Whether the plan can still be kept is worked out anew this often: it is most of what a look costs."""


class Replanner:
    """Watches the run and lays local plans over the cloud's."""

    def __init__(self, scenario: Scenario) -> None:
        rules = scenario.rules
        self._rules = rules
        self._options = ReplanRules()
        self._site = Site(rules.export_limit_w, rules.import_limit_w, scenario.wear_per_kwh)
        self._watch = ReplanWatch()
        self._profile = DayProfile()
        self._basis: tuple[str | None, str | None] = (None, None)
        self._infeasible = False
        self._judged_mono_s: float | None = None
        self._last_mono_s: float | None = None
        self.occasions: Counter[str] = Counter()
        """Runs by what made them necessary; a run with two occasions counts under both."""
        self.runs = 0
        self.by_rule: Counter[str] = Counter()
        """Why a run gave only the rule-based plan."""

    def plans_after(self, inputs: Inputs, state: State, decision: Decision) -> Plans:
        """The plans to go on with after this tick."""
        plans, mono_s = inputs.plans, inputs.mono_s
        if plans.basis != self._basis:
            self._basis = plans.basis
            self._watch = superseded(self._watch)
            self._judged_mono_s = None
        if self._last_mono_s is not None and mono_s - self._last_mono_s < LOOK_EVERY_S:
            return plans
        storage = storage_now(self._rules.batteries, state.models, inputs.batteries, mono_s)
        forecast = self._forecast(inputs, decision)
        self._last_mono_s = mono_s
        request: ReplanRequest | None = None
        held = Held(plans, inputs.orders, inputs.awards)
        if self._judged_mono_s is None or mono_s - self._judged_mono_s >= FEASIBLE_EVERY_S:
            self._judged_mono_s = mono_s
            if storage is not None:
                request = request_at(inputs.utc_s, held, storage, self._site, forecast)
            self._infeasible = request is not None and first_shortfall(request) is not None
        situation = situation_now(
            held, storage, self._site, utc_s=inputs.utc_s, mono_s=mono_s,
            trusted=inputs.clock_trusted, infeasible=self._infeasible,
        )  # fmt: skip
        self._watch, due = look(self._options, self._watch, situation)
        if due is None or storage is None:
            return plans
        request = request or request_at(inputs.utc_s, held, storage, self._site, forecast)
        return self._replanned(due, request, plans) if request.slots else plans

    def _replanned(self, due: Due, request: ReplanRequest, plans: Plans) -> Plans:
        slots: tuple[PlannedSlot, ...] = ()
        failure = ""
        if (refused := refusal(request)) is not None:
            failure = f"request refused: {refused}"
        else:
            try:
                checked = check(request, solve(request))
            except UnsolvedError as error:
                checked = str(error)
            if isinstance(checked, str):
                failure = checked
            else:
                slots = checked
        if failure:
            slots = rule_plan(request)
        self.runs += 1
        self.occasions.update(WORDS[occasion] for occasion in due.occasions)
        if failure:
            self.by_rule[failure] += 1
        self._watch = ended(self._watch, failed=bool(failure))
        why = ", ".join(WORDS[occasion] for occasion in due.occasions)
        utc_s, soc_pct = request.slots[0].start_utc_s, request.soc_now_pct
        return plans.with_local(overlay(plans, slots, utc_s=utc_s, soc_pct=soc_pct, by_rule=bool(failure), why=why))

    def _forecast(self, inputs: Inputs, decision: Decision) -> Forecast:
        """PV and load to come, by the cloud's plans, by past days and by the present."""
        others_w = None
        if not self._rules.battery_alone and decision.grid_w is not None and decision.battery_w is not None:
            others_w = decision.grid_w - decision.battery_w
        if others_w is not None and self._last_mono_s is not None and inputs.clock_trusted:
            self._profile = self._profile.with_measured(inputs.utc_s, others_w, inputs.mono_s - self._last_mono_s)
        samples, profile, times = inputs.batteries, self._profile, {"utc_s": inputs.utc_s, "mono_s": inputs.mono_s}
        return forecast_now(self._rules, inputs.plans, samples, profile, others_w, **times)
