"""The control loop: at each tick gather what is known, call `step()`, hand out its effects."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from agent.core.authority import PowerOrder
from agent.core.award_outlook import awarded_rules, notices, outlook, slots_outlook
from agent.core.awards import AwardBook, awarded_tick_s
from agent.core.clock_trust import ClockTrust, judge, set_right, step_noticed
from agent.core.command_limits import Narrowing
from agent.core.decision import Condition, Decision, Effects, Inputs, SetpointWrite, State
from agent.core.deliverability import Deliverability
from agent.core.orders import OrderDocument, OrderDocuments
from agent.core.orders_in_force import NOTHING_IN_FORCE, OrdersInForce, in_force
from agent.core.override import Override
from agent.core.plan import LocalPlan, Plan, Plans
from agent.core.rules import SiteRules
from agent.core.slots_ahead import SlotAhead
from agent.core.snapshot import WriteOutcome
from agent.core.step import step
from agent.core.trial import Trial, tried_rules
from agent.core.verdict import Verdict, verdict
from agent.runtime.board import Board
from agent.runtime.clock import Clock
from agent.runtime.device_droops import DeviceDroops
from agent.runtime.heartbeats import Heartbeats
from agent.runtime.pv_ceilings import PvCeilings
from drivers.device import BatteryDevice

log = structlog.get_logger(__name__)

ORDERS_REVIEWED_EVERY_S = 60.0
"""Orders that have ended are put aside, and the awards to come are forecast, this often."""
AWARD_CODES = ("award_short", "award_refused", "award_unanswered", "award_not_backed")
"""Conditions that say what the forecast says; they come with every wavering of the frequency."""
PATIENCE = 1.5
"""While an award is answered, ticks come with the readings of the frequency; one that is later than this many periods
is not waited for: the loop goes on by the clock until the next comes."""
SOONEST = 0.75
"""... and one that comes sooner after the one before than this share of the period makes no tick: a meter may be read
faster than it must be."""
DECISIONS_KEPT = 600
"""Decision rows kept in memory for `ems explain`: ten minutes at 1 Hz."""


@dataclass
class Counters:
    """What the loop did since the start of the process."""

    ticks: int = 0
    late_ticks: int = 0
    """Ticks that were skipped because the one before took too long or the machine slept."""
    writes: int = 0
    writes_verified: int = 0
    writes_failed: int = 0
    first_verified_write_s: float | None = None
    """Seconds from the start of the process to the first setpoint confirmed by read-back."""


@dataclass
class ControlLoop:
    """Runs the core on a fixed beat, aligned to UTC so that slot edges fall on ticks."""

    rules: SiteRules
    board: Board
    batteries: Mapping[str, BatteryDevice]
    clock: Clock
    plans: Plans
    floor_utc_s: float
    spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
    """Starts a supervised task: an exception in it (a bug of ours) ends the process, and the dead-man takes over."""
    started_mono_s: float
    pv_ceilings: PvCeilings = field(default_factory=PvCeilings)
    droops: DeviceDroops = field(default_factory=DeviceDroops)
    read_only: bool = False
    """Commissioning: everything is read and decided, and nothing is written."""
    found_beside: Callable[[], tuple[Condition, ...]] = tuple
    """What is wrong that no reading tells, such as another device at an address."""
    order_documents: OrderDocuments = field(default_factory=OrderDocuments)
    in_force: OrdersInForce = NOTHING_IN_FORCE
    """What the documents of orders say from now on."""
    outlook: tuple[Deliverability, ...] = ()
    """The newest forecast for each award that has not ended, by start."""
    state: State = field(default_factory=State)
    counters: Counters = field(default_factory=Counters)
    trust: ClockTrust = field(default_factory=lambda: ClockTrust(False, 0.0, "not judged yet"))
    decisions: deque[Decision] = field(default_factory=lambda: deque(maxlen=DECISIONS_KEPT))
    last_outcome: dict[str, WriteOutcome] = field(default_factory=dict)
    heartbeats: Heartbeats = field(default_factory=Heartbeats)
    safe_mode: str = ""
    """Why no power is moved after a crash loop, "" outside safe mode."""
    override: Override | None = None
    """What somebody on site asks for."""
    last_inputs: Inputs | None = None
    """What the newest tick went by."""
    order: PowerOrder | None = None
    """What a command of the cloud asks for."""
    narrowings: tuple[Narrowing, ...] = ()
    """Limits that the cloud narrowed."""
    trial: Trial | None = None
    """What commissioning tries now: until it is taken away nobody else moves a battery, but the safety latch."""
    _after_tick: Callable[[Effects], None] | None = None
    _act_again: bool = False
    """A tick was asked for while a write was under way: its device could not be told yet."""
    _reviewed_mono_s: float = float("-inf")
    _wrong: tuple[object, ...] = ()
    _notices: tuple[Condition, ...] = ()
    _outcomes: list[WriteOutcome] = field(default_factory=list)
    _writing: set[asyncio.Task[None]] = field(default_factory=set)

    def use_rules(self, rules: SiteRules) -> None:
        """Decide by these rules from the next tick on; devices, meter and period are those of before."""
        self.rules = rules
        self._reviewed_mono_s = float("-inf")

    def replace_plan(self, plan: Plan) -> None:
        """Bring a stored plan into force from the next tick on."""
        self.plans = self.plans.replaced(plan)

    def replace_orders(self, document: OrderDocument) -> None:
        """Bring stored awards, curtailments or outages into force from the next tick on."""
        self.order_documents = self.order_documents.replaced(document)
        self._reviewed_mono_s = float("-inf")

    def use_local(self, local: LocalPlan | None) -> None:
        """Lay a local plan over the plans of the cloud from the next tick on, or take it away."""
        self.plans = self.plans.with_local(local)

    def act_now(self) -> None:
        """A tick at once: what somebody just ordered waits neither for the beat nor longer than for a running write."""
        if self._after_tick is not None:
            mine = asyncio.current_task()
            self._act_again = any(task is not mine for task in self._writing)
            self._after_tick(self.tick())

    async def written(self, within_s: float) -> None:
        """Returns when the writes that are under way came to their end, at the latest after `within_s`."""
        if self._writing:
            await asyncio.wait(self._writing, timeout=within_s)

    async def run(self, after_tick: Callable[[Effects], None]) -> None:
        """Ticks for ever; `after_tick` gets the effects of each whole tick."""
        self._after_tick = after_tick
        after_tick(self.tick())  # at once: a battery left over from before must not wait for the beat
        tick_s = self.period_s()
        beat = math.floor(self.clock.utc_s() / tick_s)
        led = False
        while True:
            if self.period_s() != tick_s:
                tick_s = self.period_s()
                beat = math.floor(self.clock.utc_s() / tick_s)
            # Bounded: a wall clock stepped back in between must not stop the loop.
            wait_s = min((beat + 1) * tick_s - self.clock.utc_s(), 2 * tick_s)
            began_mono_s = self.clock.mono_s()
            led = await self._next_turn(PATIENCE * tick_s if led else wait_s, SOONEST * tick_s if led else 0.0)
            after_tick(self.tick())
            # From the wall clock each time: no drift, and a stepped clock costs at most one tick of waiting.
            now_beat = round(self.clock.utc_s() / tick_s)
            # A wall clock that was set forward skipped no tick.
            passed = round((self.clock.mono_s() - began_mono_s) / tick_s)
            self.counters.late_ticks += max(0, min(now_beat - beat, passed) - 1)
            beat = now_beat

    async def _next_turn(self, within_s: float, soonest_s: float) -> bool:
        """Returns after `within_s`; sooner, and True, with a new frequency that somebody is paid to answer."""
        began_mono_s = self.clock.mono_s()
        if self.board.hurry_s is None:
            await self.clock.sleep_until(began_mono_s + within_s)
            return False
        nap = asyncio.ensure_future(self.clock.sleep_until(began_mono_s + within_s))

        def seen() -> None:
            if self.clock.mono_s() - began_mono_s >= soonest_s:
                nap.cancel()

        self.board.on_meter = seen
        try:
            await asyncio.wait((nap,))
            if nap.cancelled():
                return True
            nap.result()
            return False
        finally:
            self.board.on_meter = None
            nap.cancel()

    def period_s(self) -> float:
        """From one tick to the next: the site's own, or faster while an award is in force or about to be."""
        if not self.trust.trusted:
            return self.rules.tick_s
        return awarded_tick_s(self._awards, self.clock.utc_s(), self.rules.tick_s)

    @property
    def _awards(self) -> AwardBook:
        """The awards that are answered: those in force, or the one that commissioning plays."""
        return self.in_force.awards if self.trial is None else self.trial.awards

    def tick(self) -> Effects:
        """One control tick."""
        utc_s = self.clock.utc_s()
        self.trust = self.clock_now()
        reviewed = self._review(utc_s)
        inputs = Inputs(
            utc_s=utc_s,
            mono_s=self.clock.mono_s(),
            clock_trusted=self.trust.trusted,
            plans=self.plans,
            batteries=self.board.batteries,
            pvs=self.board.pvs,
            meter=self.board.meter,
            orders=self.in_force.orders,
            awards=self._awards,
            notices=(*self._notices, *self.found_beside(), *step_noticed(self.trust)),
            outcomes=tuple(self._outcomes),
            override=self.override,
            safe_mode=self.safe_mode,
            order=self.order,
            narrowings=self.narrowings,
            trial=self.trial,
            ceiling_outcomes=self.pv_ceilings.outcomes(),
            droop_outcomes=self.droops.outcomes(),
        )
        self._outcomes.clear()
        rules = awarded_rules(tried_rules(self.rules, self.trial), inputs.awards, utc_s)
        self.state, effects = step(rules, self.state, inputs)
        self.last_inputs = inputs
        if self.trial is None:  # what commissioning does says nothing about awards to come
            self._look_ahead(inputs, reviewed)
        if not self.read_only:
            for write in effects.writes:
                self._start(write)
            self.heartbeats.start(self.batteries, self.state.writes, inputs.mono_s, self.spawn)
            self.droops.start(effects.droop_writes, self.spawn)
            self.pv_ceilings.start(effects.ceiling_writes, self.spawn)
        self.decisions.append(effects.decision)
        self.counters.ticks += 1
        return effects

    def clock_now(self) -> ClockTrust:
        """The verdict on the wall clock at this moment, which may be long after the newest tick."""
        floor_utc_s = max(self.floor_utc_s, self.trust.floor_utc_s)
        return judge(self.clock.utc_s(), self.clock.mono_s(), replace(self.trust, floor_utc_s=floor_utc_s))

    def believe_clock(self, utc_s: float) -> None:
        """Somebody on site said that `utc_s` is the time, whatever was known to be good before."""
        self.floor_utc_s = utc_s
        self.trust = set_right(self.trust, utc_s)

    def verdicts(self) -> dict[str, Verdict]:
        """What became of the setpoint of each battery, as the last tick found it."""
        samples = {sample.device_id: sample for sample in self.board.batteries}
        lines = {line.device_id: line for line in self.state.writes}
        mono_s = self.state.last_mono_s
        return {
            rules.device_id: verdict(
                lines[rules.device_id],
                samples[rules.device_id].held_setpoint_w,
                samples[rules.device_id].power_w,
                rules,
                mono_s,
            )
            for rules in self.rules.batteries
            if rules.device_id in lines and mono_s is not None
        }

    def _review(self, utc_s: float) -> bool:
        """True when the orders were made anew; and the pollers are told how new the frequency must be."""
        mono_s = self.clock.mono_s()
        reviewed = mono_s - self._reviewed_mono_s >= ORDERS_REVIEWED_EVERY_S
        if reviewed:
            self._reviewed_mono_s = mono_s
            self.in_force = in_force(self.rules, self.order_documents, utc_s)
        needed_s = awarded_tick_s(self._awards, utc_s, math.inf) if self.trust.trusted else math.inf
        self.board.hurry_s = needed_s if needed_s < math.inf else None
        return reviewed

    def _look_ahead(self, inputs: Inputs, reviewed: bool) -> None:
        """The awards to come are forecast: with each review, and at once when something else is wrong than before."""
        found = frozenset(key for key in self.state.conditions if key[0] not in AWARD_CODES)
        above = [one for one in (self.override, self.order) if one is not None]
        wrong = (found, above if any(one.suspends_awards for one in above) else None)
        if not reviewed and wrong == self._wrong:
            return
        self._wrong = wrong
        self.outlook = outlook(self.rules, self.state, inputs)
        self._notices = notices(self.outlook, self.in_force.refused, inputs.utc_s)

    def slots_ahead(self, for_s: float) -> tuple[SlotAhead, ...]:
        """What the batteries will do in each slot of the next `for_s`, by the newest tick; not made within a tick."""
        inputs = self.last_inputs
        if inputs is None:
            return ()
        inputs = replace(self._ordinary(inputs), plans=self.plans)
        return slots_outlook(self.rules, self.state, inputs, inputs.utc_s + for_s)

    def _ordinary(self, inputs: Inputs) -> Inputs:
        """The inputs without commissioning, which says nothing about the time after it."""
        if inputs.trial is None:
            return inputs
        return replace(inputs, awards=self.in_force.awards, trial=None)

    def _start(self, write: SetpointWrite) -> None:
        self.counters.writes += 1
        task = self.spawn(self._write(write))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _write(self, write: SetpointWrite) -> None:
        outcome = await self.batteries[write.device_id].write_setpoint(write.power_w)
        self._settle(outcome)
        if self._act_again:
            self.act_now()

    def _settle(self, outcome: WriteOutcome) -> None:
        self.last_outcome[outcome.device_id] = outcome
        self._outcomes.append(outcome)
        if not outcome.ok:
            self.counters.writes_failed += 1
            log.warning("setpoint_not_confirmed", device=outcome.device_id, reason=outcome.reason)
            return
        self.counters.writes_verified += 1
        if self.counters.first_verified_write_s is None:
            self.counters.first_verified_write_s = self.clock.mono_s() - self.started_mono_s

    async def neutral(self, within_s: float) -> bool:
        """True when every battery confirmed 0 kW within `within_s`, or none was ever written to.

        Else its dead-man ends the last setpoint.
        """
        self._after_tick = None  # nobody's order moves a battery any more
        if self.read_only:
            return True
        if self._writing:
            await asyncio.wait(self._writing, timeout=within_s / 2)
        releases = [asyncio.ensure_future(battery.release()) for battery in self.batteries.values()]
        letting_go = asyncio.ensure_future(self.pv_ceilings.let_go(self.state.pv.lines))
        quiet = asyncio.ensure_future(self.droops.let_go())
        done, pending = await asyncio.wait([*releases, letting_go, quiet], timeout=within_s / 2)
        for task in pending:
            task.cancel()
        return all(task in done and task.result().ok for task in releases)
