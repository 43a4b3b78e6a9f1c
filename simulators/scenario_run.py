"""Runs a scenario: the real control tick in a loop on virtual time, against the true plant, with a cloud that plans.

Within a tick: `step()` at its begin; its writes land `WRITE_DELAY_S` after it. Batteries and PV are read `READ_AGE_S`
before the next, the meter at a time of its own: devices that are polled apart do not show the same instant. At slot
edges the true energies are taken exactly.
"""

from __future__ import annotations

import math
import random
import struct
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.core.authority import Source, cloud_slot_at
from agent.core.awards import awarded_tick_s
from agent.core.clock_trust import ClockTrust, judge
from agent.core.decision import Decision, Effects, Inputs, State
from agent.core.plan import Plans, Slot, Target
from agent.core.snapshot import BatterySample, CeilingOutcome, DroopOutcome, MeterSample, PvSample, WriteOutcome
from agent.core.step import step
from simulators.invariants import HEALED_WITHIN_S, Invariants
from simulators.scenario import SECONDS_PER_DAY, START_MONO_S, START_SOC_PCT, Scenario
from simulators.scenario_cloud import LEAD_S, REPLAN_EVERY_S, Cloud
from simulators.scenario_faults import Injector, drawn
from simulators.scenario_fcr import Responses
from simulators.scenario_link import Link
from simulators.scenario_plant import SitePlant
from simulators.scenario_replan import Replanner

READ_AGE_S = 0.5
"""Age of battery and PV readings at a tick: half a poll of 1 s; with shorter ticks half a tick."""
METER_AGE_SHARE = (0.1, 0.9)
"""Age of the meter's reading over a poll, or a shorter tick: drawn once a run, as pollers keep their phase."""
LONGEST_POLL_S = 1.0
WRITE_DELAY_S = 0.5
"""From a tick to the device holding the new setpoint, likewise."""
CHART_POINTS = 2_880
CHART_DAYS = 3
"""The charts show this many days; the numbers cover all."""
PROGRESS_EVERY_S = 900.0
_LANDS, _DEVICES, _METER = range(3)
"""What happens between two ticks, in this order where it happens at once."""
YEARLY_AFTER_S = 48 * 3600.0
"""A rolling plan reaches this far: later in an outage the yearly plan decides."""


@dataclass(slots=True)
class TrueSlot:
    """One slot as promised at its start and as it truly went, Wh toward the grid."""

    start_s: float
    price: float
    promise: Slot | None
    source: str
    begin_battery_wh: float
    begin_grid_wh: float
    begin_stored_wh: float
    end_stored_wh: float = 0.0
    battery_wh: float = 0.0
    grid_wh: float = 0.0
    response_wh: float = 0.0
    """Frequency response within the slot, which was not promised to the energy market."""
    clipped_ticks: int = 0

    @property
    def error_wh(self) -> float | None:
        """Delivered less promised at the promised place; None without a promise."""
        if self.promise is None:
            return None
        done_wh = self.grid_wh if self.promise.target is Target.GRID else self.battery_wh
        return done_wh - self.response_wh - self.promise.energy_wh


@dataclass(slots=True)
class ChartPoint:
    """The site at one instant; powers in W, true values where there are two."""

    second: float
    planned_w: float
    target: Target
    setpoint_w: float
    battery_w: float
    pv_w: float
    load_w: float
    soc_pct: float
    frequency_hz: float | None
    clips: tuple[str, ...]
    promised_w: float | None
    """Battery power that the awards ask for, baseline and droop of the true frequency; None without an award."""


@dataclass
class RunRecord:
    """What a run leaves."""

    scenario: Scenario
    invariants: Invariants
    responses: Responses
    slots: list[TrueSlot] = field(default_factory=list)
    points: list[ChartPoint] = field(default_factory=list)
    clips: Counter[str] = field(default_factory=Counter)
    """Ticks in which each limit was at work."""
    events: Counter[str] = field(default_factory=Counter)
    writes: Counter[str] = field(default_factory=Counter)
    """By device."""
    sources: Counter[str] = field(default_factory=Counter)
    """Ticks by deciding source, a local plan with what it lies over."""
    faults: Counter[str] = field(default_factory=Counter)
    replans: Counter[str] = field(default_factory=Counter)
    """Local re-plans by what made them necessary."""
    replan_runs: int = 0
    documents: Counter[str] = field(default_factory=Counter)
    """Plans of the cloud by outcome."""
    replan_fallbacks: Counter[str] = field(default_factory=Counter)
    """Why a re-plan gave only the rule-based plan."""
    soc_min_pct: float = 100.0
    soc_max_pct: float = 0.0
    stored_change_wh: float = 0.0
    discharged_wh: float = 0.0
    charged_wh: float = 0.0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    ticks: int = 0
    hash: int = 0
    """Of all setpoints and true energies: the same seed gives the same hash (invariant 16)."""
    outage_soc_pct: list[float] = field(default_factory=list)
    """True SoC when the rolling plan of each outage had run out and the yearly one took over."""


class Run:
    """One run in progress."""

    def __init__(self, scenario: Scenario, *, open_loop: bool = False, plain_yearly: bool = False) -> None:
        """`open_loop`: the plan is executed at the battery, so that nothing steers the connection's energy.

        `plain_yearly`: where an outage leaves only the yearly plan, that is executed without local re-planning.
        """
        self.scenario = scenario
        self._open_loop = open_loop
        self._plain_yearly = plain_yearly
        self.plant = SitePlant(scenario, START_SOC_PCT)
        self.record = RunRecord(scenario, Invariants(scenario.rules, scenario.seed), Responses(scenario.awards))
        self._cloud = Cloud(scenario, open_loop=open_loop)
        self._injector = Injector(drawn(scenario), self.plant)
        self.record.faults.update(str(fault.kind) for fault in self._injector.faults)
        self._state = State()
        self._replanner = Replanner(scenario)
        self._link = Link(scenario.rules)
        self._meter_age_share = random.Random(f"polls {scenario.seed}").uniform(*METER_AGE_SHARE)
        self._plans = self._link.received(self._cloud.yearly(scenario.start_utc_s), Plans(), scenario.start_utc_s)
        self._trust = ClockTrust(False, scenario.start_utc_s - 1.0, "not judged yet")
        self._batteries: list[BatterySample] = [BatterySample(b.device_id) for b in scenario.rules.batteries]
        self._pvs: tuple[PvSample, ...] = tuple(PvSample(device_id) for device_id in scenario.rules.pv_ids)
        self._meter = MeterSample(scenario.rules.meter_id) if scenario.rules.meter_id is not None else None
        self._outcomes: tuple[WriteOutcome, ...] = ()
        self._ceiling_outcomes: tuple[CeilingOutcome, ...] = ()
        self._droop_outcomes: tuple[DroopOutcome, ...] = ()
        self._slot: TrueSlot | None = None
        self._period_s = scenario.tick_s
        """Length of the present tick."""
        shown_s = min(scenario.days, CHART_DAYS) * SECONDS_PER_DAY
        self._chart_step_s = max(scenario.tick_s, math.ceil(shown_s / CHART_POINTS))
        self._draw_at_s = 0.0

    def run(self, progress: Callable[[float], None] | None = None, until_s: float | None = None) -> RunRecord:
        """The record of the whole run, or of its first `until_s`; `progress` is told the share done now and then."""
        scenario, record = self.scenario, self.record
        end_s = scenario.days * SECONDS_PER_DAY if until_s is None else until_s
        started, cpu_started = time.perf_counter(), time.process_time()
        stored_wh = self.plant.stored_wh
        self._poll_devices()
        self._poll_meter()
        now_ms, ticks, tell_at_s = 0, 0, 0.0
        while now_ms < 1000 * end_s:
            now_s = now_ms / 1000.0
            # Whole milliseconds and whole periods: a tick falls on every slot edge, however the period changes.
            self._period_s = awarded_tick_s(scenario.awards, scenario.start_utc_s + now_s, scenario.tick_s)
            period_ms = round(1000 * self._period_s)
            now_ms = (now_ms // period_ms + 1) * period_ms
            gap_s = now_ms / 1000.0 - now_s
            effects = self._tick(ticks, now_s)
            self._pass_time(now_s, gap_s, effects)
            ticks += 1
            if progress is not None and now_s >= tell_at_s:
                progress(now_s / end_s)
                tell_at_s += PROGRESS_EVERY_S
        self.plant.advance_to(end_s)
        self._edge(end_s, None)
        record.ticks = ticks
        record.stored_change_wh = self.plant.stored_wh - stored_wh
        record.discharged_wh = sum(device.physics.discharged_wh for device in self.plant.devices)
        record.charged_wh = sum(device.physics.charged_wh for device in self.plant.devices)
        record.replans, record.replan_runs = self._replanner.occasions, self._replanner.runs
        record.replan_fallbacks = self._replanner.by_rule
        record.documents = self._link.outcomes
        record.wall_s, record.cpu_s = time.perf_counter() - started, time.process_time() - cpu_started
        return record

    def _tick(self, tick: int, now_s: float) -> Effects:
        """One control tick and everything that looks at it."""
        scenario, record, injector = self.scenario, self.record, self._injector
        injector.advance_to(now_s)
        utc_s, mono_s = scenario.start_utc_s + now_s + injector.clock_offset_s, START_MONO_S + now_s
        trust = self._trust = judge(utc_s, mono_s, self._trust)
        self._hear_cloud(now_s, utc_s)
        inputs = Inputs(
            utc_s=utc_s,
            mono_s=mono_s,
            clock_trusted=trust.trusted,
            plans=self._plans,
            batteries=tuple(self._batteries),
            pvs=self._pvs,
            meter=self._meter,
            outcomes=self._outcomes,
            ceiling_outcomes=self._ceiling_outcomes,
            droop_outcomes=self._droop_outcomes,
            awards=scenario.awards,
        )
        # The plant still stands where it was read for this tick.
        read_s = self.plant.now_s
        record.responses.look(read_s, scenario.start_utc_s + read_s, self.plant)
        self._state, effects = step(scenario.rules, self._state, inputs)
        decision = effects.decision
        record.responses.decided(decision, effects.evidence)
        record.invariants.check(tick, inputs, effects, self._state, self.plant)
        if injector.faults and not injector.any_active and now_s - injector.healed_at_s > HEALED_WITHIN_S:
            away = any(start <= now_s < end for start, end in scenario.outages)
            record.invariants.check_normal(tick, inputs, decision, self._state, cloud=not away)
        self._note(tick, now_s, effects)
        if self._plain_yearly and any(start + YEARLY_AFTER_S <= now_s < end for start, end in scenario.outages):
            self._plans = self._plans.with_local(None)
        else:
            self._plans = self._replanner.plans_after(inputs, self._state, decision)
        return effects

    def _hear_cloud(self, now_s: float, site_utc_s: float) -> None:
        """A new rolling plan a minute before each half-hour, and at once at the start, unless the cloud is away."""
        scenario = self.scenario
        first = now_s == 0.0
        if not first and (now_s + LEAD_S) % REPLAN_EVERY_S >= self._period_s:
            return
        if any(start <= now_s < end for start, end in scenario.outages):
            return
        soc_pct = self._told_soc_pct()
        if soc_pct is None:
            return
        plan = self._cloud.rolling(scenario.start_utc_s + now_s, soc_pct)
        self._plans = self._link.received(plan, self._plans, site_utc_s)

    def _told_soc_pct(self) -> float | None:
        """What the agent tells the cloud: of all batteries, as it believes it; None while one is not known."""
        weighted = total_wh = 0.0
        for sample in self._batteries:
            model = self._state.models.get(sample.device_id)
            read_pct, capacity_wh = sample.soc_pct.value, sample.capacity_wh.value
            if read_pct is None or capacity_wh is None:
                return None
            believed_pct = model.believed_soc_pct if model is not None else None
            weighted += capacity_wh * (read_pct if believed_pct is None else believed_pct)
            total_wh += capacity_wh
        return weighted / total_wh

    def _pass_time(self, now_s: float, gap_s: float, effects: Effects) -> None:
        """From the tick to the next: its writes land and all devices are read, each at its own time."""
        plant = self.plant
        if now_s % self.scenario.slot_s == 0.0:
            plant.advance_to(now_s)
        next_s = now_s + gap_s
        devices_s = next_s - min(READ_AGE_S, gap_s / 2)
        meter_s = devices_s if self._meter is None else next_s - self._meter_age_share * min(gap_s, LONGEST_POLL_S)
        land_s = now_s + min(WRITE_DELAY_S, gap_s / 2)
        for at_s, part in sorted(((land_s, _LANDS), (devices_s, _DEVICES), (meter_s, _METER))):
            plant.advance_to(at_s)
            if part == _LANDS:
                self._land(effects)
            elif part == _DEVICES:
                self._poll_devices()
            else:
                self._poll_meter()

    def _land(self, effects: Effects) -> None:
        """The writes of a tick reach their devices."""
        plant = self.plant
        land_s, mono_s = plant.now_s, START_MONO_S + plant.now_s
        self._outcomes, self._droop_outcomes, self._ceiling_outcomes = (), (), ()
        if effects.writes:
            by_id = {device.rules.device_id: device for device in plant.devices}
            self._outcomes = tuple([by_id[write.device_id].write(write.power_w, mono_s) for write in effects.writes])
        if effects.droop_writes:
            self._droop_outcomes = plant.write_droops(effects.droop_writes, mono_s)
        if effects.ceiling_writes:
            writes = effects.ceiling_writes
            self._ceiling_outcomes = tuple([plant.inverters.write(write, land_s, mono_s) for write in writes])

    def _poll_devices(self) -> None:
        """The newest readings of batteries and PV; what does not answer keeps its old ones."""
        plant = self.plant
        mono_s = START_MONO_S + plant.now_s
        for index, device in enumerate(plant.devices):
            sample = device.sample(mono_s, plant.now_s)
            if sample is not None:
                self._batteries[index] = sample
        if not plant.pv_silent:
            self._pvs = plant.poll_pv(mono_s)

    def _poll_meter(self) -> None:
        if not self.plant.meter_silent:
            self._meter = self.plant.poll_meter(START_MONO_S + self.plant.now_s)

    def _note(self, tick: int, now_s: float, effects: Effects) -> None:
        """What the report needs of this tick; the plant still stands at the last poll."""
        record, decision = self.record, effects.decision
        for write in effects.writes:
            record.writes[write.device_id] += 1
        for event in effects.events:
            record.events[event.code] += 1
        for clip in decision.clips:
            record.clips[clip.limit] += 1
        source = decision.source.value
        if decision.source is Source.LOCAL_PLAN and (beneath := cloud_slot_at(self._plans, decision.utc_s)) is not None:
            source = f"{source} over {beneath[0].value}"
        record.sources[source] += 1
        if effects.writes:
            packed = struct.pack("<qd", tick, decision.setpoint_w)
            record.hash = zlib.crc32(packed, record.hash)
        soc_pct = self.plant.soc_pct
        record.soc_min_pct = min(record.soc_min_pct, soc_pct)
        record.soc_max_pct = max(record.soc_max_pct, soc_pct)
        if now_s % self.scenario.slot_s == 0.0:
            self._edge(now_s, decision)
        if self._slot is not None:
            self._slot.clipped_ticks += bool(decision.clips)
            self._slot.response_wh += (decision.setpoint_w - decision.baseline_w) * self._period_s / 3600.0
        if now_s >= self._draw_at_s and now_s < CHART_DAYS * SECONDS_PER_DAY:
            self._draw_at_s = now_s + self._chart_step_s
            self._draw(now_s, decision, soc_pct)

    def _edge(self, now_s: float, decision: Decision | None) -> None:
        """Closes the slot that ended at `now_s` and opens the next, with the energies of exactly that instant."""
        plant, scenario = self.plant, self.scenario
        plant.advance_to(now_s)
        if self._slot is not None:
            self._slot.battery_wh = plant.battery_wh - self._slot.begin_battery_wh
            self._slot.grid_wh = plant.grid_wh - self._slot.begin_grid_wh
            self._slot.end_stored_wh = plant.stored_wh
            self.record.slots.append(self._slot)
            self.record.hash = zlib.crc32(struct.pack("<dd", plant.battery_wh, plant.grid_wh), self.record.hash)
        if decision is None:
            return
        start_utc_s = scenario.start_utc_s + now_s
        price = scenario.prices.window(start_utc_s, 1, scenario.slot_s)[0]
        promise = self._promise(decision)
        begin_wh = (plant.battery_wh, plant.grid_wh, plant.stored_wh)
        self._slot = TrueSlot(now_s, price, promise, decision.source.value, *begin_wh)
        for start, _ in scenario.outages:
            if start + YEARLY_AFTER_S <= now_s < start + YEARLY_AFTER_S + scenario.slot_s:
                self.record.outage_soc_pct.append(plant.soc_pct)

    def _promise(self, decision: Decision) -> Slot | None:
        """What was sold for the slot that begins: a slot of the rolling plan, whatever a local plan makes of it."""
        told = cloud_slot_at(self._plans, decision.utc_s)
        if told is None or told[0] is not Source.ROLLING or decision.slot is None:
            return None
        slot = told[1]
        if not self._open_loop:
            return slot
        power_w = self._cloud.promised.get(slot.start_utc_s)
        return Slot(slot.start_utc_s, slot.end_utc_s, power_w, self.scenario.target) if power_w is not None else None

    def _draw(self, now_s: float, decision: Decision, soc_pct: float) -> None:
        plant = self.plant
        point = ChartPoint(
            second=now_s,
            planned_w=decision.planned_w,
            target=decision.target,
            setpoint_w=decision.setpoint_w,
            battery_w=plant.battery_w,
            pv_w=plant.pv_w,
            load_w=plant.load_w,
            soc_pct=soc_pct,
            frequency_hz=decision.frequency_hz,
            clips=tuple(clip.limit for clip in decision.clips),
            promised_w=self.record.responses.promised_w,
        )
        self.record.points.append(point)
