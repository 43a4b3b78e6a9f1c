"""What must hold at every tick and every write of a scenario: the invariants that can be seen without sockets.

Written anew from the rules and the readings, not from the core's own clamps. Numbers are the design's.

A violation carries what reproduces it (seed, revision, tick) and the decision rows around it.
"""

from __future__ import annotations

import math
import subprocess
from collections import deque
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from agent.core.authority import PowerOrder, Source
from agent.core.bounds import Rank
from agent.core.decision import Decision, Effects, Inputs, SetpointWrite, State
from agent.core.events import Severity
from agent.core.latch import why_stopped
from agent.core.orders import Direction
from agent.core.override import Override
from agent.core.plan import Plan
from agent.core.rules import BatteryRules, SiteRules
from agent.core.snapshot import BatterySample, Reading
from simulators.scenario_plant import SitePlant

MAX_AGE_S = 10.0
METER_LOST_S = 15.0
SOC_OVERSHOOT_PCT = 0.5
HEALED_WITHIN_S = 300.0
POWER_EPSILON_W = 1.0
COARSE_TICK_S = 10.0
"""Between longer ticks, which no real site has, clouds come and go unseen."""
OVER_SHARE, LAGS_TO_SETTLE = 0.02, 4
"""So far the connection may be over its limit for as long as the inverters need, or a lost meter goes unnoticed."""
KEPT_SLACK = 0.1
"""Share of the energy kept for an award by which the battery may be short while it still gives: SoC and capacity as
told are not what was learned."""
REST_SHARE = 0.01
"""Less power than this share of the rating is standby, which no control can stop from emptying a battery."""
MAX_EVENTS_PER_HOUR = 720
"""Log rate: one in five seconds, for an hour of the worst faults."""
ROWS_BEFORE, ROWS_AFTER = 5, 2
KEPT = 20
"""Violations told in full; more are only counted."""


@dataclass
class Violation:
    """One broken invariant, and how to see it again."""

    number: int
    what: str
    seed: int
    revision: str
    tick: int
    utc_s: float
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def text(self) -> str:
        """One line for people."""
        return f"invariant {self.number} at tick {self.tick} (seed {self.seed}, {self.revision}): {self.what}"


@lru_cache(maxsize=1)
def revision() -> str:
    """The git revision of this tree, with `-dirty` when it has changes; `unknown` outside a repository."""
    here = Path(__file__).parent
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True)  # noqa: S603 (fixed words)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def row(decision: Decision) -> dict[str, Any]:
    """A decision for people and JSON."""
    return {
        "utc_s": decision.utc_s,
        "source": decision.source.value,
        "version": decision.version,
        "slot_start_utc_s": decision.slot.start_utc_s if decision.slot is not None else None,
        "target": decision.target.value,
        "planned_w": decision.planned_w,
        "target_w": decision.target_w,
        "setpoint_w": decision.setpoint_w,
        "clips": [f"{c.limit} ({c.owner}): {c.before_w:.0f} -> {c.after_w:.0f} W" for c in decision.clips],
        "battery_w": decision.battery_w,
        "grid_w": decision.grid_w,
        "soc_pct": decision.soc_pct,
        "writes": [f"{w.device_id}: {w.power_w:.0f} W, {w.reason}" for w in decision.writes],
    }


class Invariants:
    """Looks at every tick of one run."""

    def __init__(self, rules: SiteRules, seed: int) -> None:
        self._rules = rules
        self._by_id = {battery.device_id: battery for battery in rules.batteries}
        self._seed = seed
        self.violations: list[Violation] = []
        self.count = 0
        self._recent: deque[Decision] = deque(maxlen=ROWS_BEFORE + 1)
        self._open: list[tuple[Violation, int]] = []
        self._versions: dict[Source, int] = {}
        self._response_wh = self._last_mono_s = 0.0
        self._within_mono_s = 0.0
        self._soc_error_pct = [0.0] * len(rules.batteries)
        self._fade = 1.0 - rules.tick_s / 1800.0 if rules.tick_s < 1800 else 0.0
        self._events_hour = -1
        self._events = 0

    def check(self, tick: int, inputs: Inputs, effects: Effects, state: State, plant: SitePlant) -> None:
        """The tick that just ran, and its writes."""
        decision = effects.decision
        self._recent.append(decision)
        if self._open:
            self._open = [(told, left - 1) for told, left in self._open if self._followed(told, decision, left)]
        if not math.isfinite(decision.setpoint_w):
            self._broken(1, tick, f"the setpoint is {decision.setpoint_w}")
        for write in effects.writes:
            self._check_write(tick, write, inputs, decision)
        self._check_true_soc(tick, plant)
        self._check_true_connection(tick, decision, plant)
        self._check_meter(tick, inputs, decision)
        self._check_reserve(tick, inputs, decision)
        if self._rules.delegated:
            self._check_answers(tick, decision, state, plant)
        self._check_slot(tick, inputs, decision)
        self._check_above(tick, inputs, decision, state)
        if effects.events:
            self._check_events(tick, inputs, len(effects.events))
        assert len(state.writes) == len(self._rules.batteries)

    def check_normal(self, tick: int, inputs: Inputs, decision: Decision, state: State, *, cloud: bool) -> None:
        """Invariant 15: this tick is later than `HEALED_WITHIN_S` after the last fault was healed."""
        alarms = [c for c in state.conditions.values() if c.severity is Severity.ALARM]
        if alarms:
            self._broken(15, tick, f"{alarms[0].code} of {alarms[0].subject} still holds: {alarms[0].text}")
        elif not inputs.clock_trusted:
            self._broken(15, tick, "the clock is still not trusted")
        elif cloud and decision.source not in {Source.ROLLING, Source.LOCAL_PLAN}:
            self._broken(15, tick, f"the {decision.source} decides although a rolling plan is held")
        for line in state.writes:
            if line.failures or (line.owned_w is None and not line.in_flight):
                self._broken(15, tick, f"no setpoint of {line.device_id} is owned")

    def _check_write(self, tick: int, write: SetpointWrite, inputs: Inputs, decision: Decision) -> None:
        """Invariants 1 and 4: inside every bound that the readings of this tick give."""
        rules = self._by_id.get(write.device_id)
        sample = next((one for one in inputs.batteries if one.device_id == write.device_id), None)
        if rules is None or sample is None:
            self._broken(13, tick, f"{write.device_id} is no battery of this site")
            return
        power_w, mono_s = write.power_w, inputs.mono_s
        if not self._fresh(sample.power_w, mono_s):
            self._broken(4, tick, f"{write.device_id} is written to on readings older than {MAX_AGE_S:g} s")
        for what in self._outside(rules, sample, power_w, mono_s):
            self._broken(1, tick, f"{write.device_id} is told {power_w:.0f} W, but {what}")
        if decision.grid_w is None or decision.battery_w is None:
            return
        # What the meter saw of the batteries lies between what was read and told around it.
        seen_w = self._around(decision)
        least_w, most_w = (decision.grid_w - one + decision.setpoint_w for one in (max(seen_w), min(seen_w)))
        if least_w > self._rules.export_limit_w + POWER_EPSILON_W and power_w > POWER_EPSILON_W:
            self._broken(1, tick, f"discharging {power_w:.0f} W takes the connection to {least_w:.0f} W of export")
        if most_w < -self._rules.import_limit_w - POWER_EPSILON_W and power_w < -POWER_EPSILON_W:
            self._broken(1, tick, f"charging {-power_w:.0f} W takes the connection to {-most_w:.0f} W of import")

    def _around(self, decision: Decision) -> list[float]:
        """Battery powers read and told for this tick and the two before."""
        around_w = [decision.battery_w]
        for earlier in list(self._recent)[-3:-1]:
            around_w += [earlier.battery_w, earlier.setpoint_w]
        return [power_w for power_w in around_w if power_w is not None]

    def _check_true_connection(self, tick: int, decision: Decision, plant: SitePlant) -> None:
        """Invariant 1 in truth: what sun, load and a lagging inverter do to the connection is soon put right."""
        grid_w, battery_w, rules = plant.grid_w, plant.battery_w, self._rules
        if rules.tick_s > COARSE_TICK_S:
            return
        slack_w = OVER_SHARE * max(rules.export_limit_w, rules.import_limit_w)
        over = (grid_w > rules.export_limit_w + slack_w and battery_w > slack_w) or (
            grid_w < -rules.import_limit_w - slack_w and battery_w < -slack_w
        )
        if not over:
            self._within_mono_s = decision.mono_s
            return
        allowed_s = METER_LOST_S + LAGS_TO_SETTLE * plant.slowest_lag_s + 2 * rules.tick_s
        if decision.mono_s - self._within_mono_s > allowed_s:
            since = f"{self._within_mono_s:.0f} s"
            self._broken(1, tick, f"the connection has been beyond its limit since {since}: {grid_w:.0f} W")

    def _outside(self, rules: BatteryRules, sample: BatterySample, power_w: float, mono_s: float) -> list[str]:
        """The bounds of one battery that `power_w` breaks."""
        broken: list[str] = []
        if not -rules.rated_charge_w <= power_w <= rules.rated_discharge_w:
            broken.append("the site file's rating is less")
        if power_w == 0.0:
            return broken
        rated = (sample.rated_discharge_w, sample.rated_charge_w)
        live = (sample.live_discharge_limit_w, sample.live_charge_limit_w)
        for upper, lower in (rated, live):
            if self._fresh(upper, mono_s) and power_w > (upper.value or 0.0) + POWER_EPSILON_W:
                broken.append(f"the device allows {upper.value:.0f} W")
            if self._fresh(lower, mono_s) and -power_w > (lower.value or 0.0) + POWER_EPSILON_W:
                broken.append(f"the device allows {lower.value:.0f} W of charge")
        needed = (sample.ready, sample.soc_pct, sample.capacity_wh)
        if not all(self._fresh(reading, mono_s) for reading in needed):
            return [*broken, "its state, SoC or capacity is not known"]
        ready, soc_pct, capacity_wh = (reading.value or 0.0 for reading in needed)
        if ready != 1 or capacity_wh <= 0:
            return [*broken, "it is not ready or has no capacity"]
        ahead_h = 5 * self._rules.tick_s / 3600.0
        if power_w > 0:
            end_pct = soc_pct - power_w / rules.one_way_efficiency * ahead_h / capacity_wh * 100.0
            beyond = end_pct < rules.soc_min_pct - 0.01
        else:
            end_pct = soc_pct - power_w * rules.one_way_efficiency * ahead_h / capacity_wh * 100.0
            beyond = end_pct > rules.soc_max_pct + 0.01
        return [*broken, f"its SoC of {soc_pct:.2f} % would leave its band at once"] if beyond else broken

    def _check_true_soc(self, tick: int, plant: SitePlant) -> None:
        """Invariant 2, with as much more as the SoC told was lately wrong: nobody can steer by what it hides."""
        for index, device in enumerate(plant.devices):
            physics, rules = device.physics, device.rules
            error_pct = abs(device.soc_error_pct(plant.now_s))
            worst_pct = self._soc_error_pct[index] = max(error_pct, self._soc_error_pct[index] * self._fade)
            soc_pct, allowed_pct = physics.soc_pct, SOC_OVERSHOOT_PCT + worst_pct
            rest_w = REST_SHARE * rules.rated_discharge_w
            if soc_pct < rules.soc_min_pct - allowed_pct and physics.power_w > rest_w:
                self._broken(2, tick, f"{rules.device_id} discharges at a true SoC of {soc_pct:.2f} %")
            elif soc_pct > rules.soc_max_pct + allowed_pct and physics.power_w < -rest_w:
                self._broken(2, tick, f"{rules.device_id} charges at a true SoC of {soc_pct:.2f} %")

    def _check_meter(self, tick: int, inputs: Inputs, decision: Decision) -> None:
        """Invariant 5: without the meter a site with PV or load rests."""
        if self._rules.battery_alone or inputs.meter is None:
            return
        if self._fresh(inputs.meter.power_w, inputs.mono_s):
            return
        if (
            inputs.mono_s - inputs.meter.power_w.read_mono_s > METER_LOST_S
            and abs(decision.setpoint_w) > POWER_EPSILON_W
        ):
            self._broken(5, tick, f"{decision.setpoint_w:.0f} W are asked for without a meter")

    def _check_reserve(self, tick: int, inputs: Inputs, decision: Decision) -> None:
        """Invariant 3: what is asked beside the response leaves the award its power, and its energy in the store."""
        dt_s, self._last_mono_s = inputs.mono_s - self._last_mono_s, inputs.mono_s
        lines = inputs.awards.at(inputs.utc_s) if inputs.clock_trusted else ()
        if not lines or decision.awards_suspended:
            self._response_wh = 0.0
            return
        self._response_wh += (decision.setpoint_w - decision.baseline_w) * dt_s / 3600.0
        # Awards side by side may share their watts by their own rules; harder limits that broke the reserve are told.
        if len(lines) > 1 or any(one.rank is Rank.AWARD for one in decision.softened):
            return
        award, table = lines[0].award, lines[0].table
        discharging = decision.baseline_w > POWER_EPSILON_W
        if abs(decision.baseline_w) <= POWER_EPSILON_W or award.direction not in {
            Direction.BOTH,
            Direction.UP if discharging else Direction.DOWN,
        }:
            return
        room_w = room_wh = 0.0
        for rules, sample in zip(self._rules.batteries, inputs.batteries, strict=True):
            able_w, able_wh = self._room(rules, sample, inputs.mono_s, discharging=discharging)
            room_w, room_wh = room_w + able_w, room_wh + able_wh
        asked_w = abs(decision.baseline_w) + award.power_w * table.power_headroom
        way = "discharging" if discharging else "charging"
        if asked_w > room_w + max(POWER_EPSILON_W, 0.01 * award.power_w):
            self._broken(
                3, tick, f"{way} {abs(decision.baseline_w):.0f} W leaves too little power for {award.award_id}"
            )
        kept_wh = award.power_w * table.sustain_s / 3600.0
        if room_wh + abs(self._response_wh) < (1.0 - KEPT_SLACK) * kept_wh:
            self._broken(3, tick, f"{way} although {room_wh:.0f} of {kept_wh:.0f} Wh are left for {award.award_id}")

    def _check_answers(self, tick: int, decision: Decision, state: State, plant: SitePlant) -> None:
        """Invariant 3 too: an award is answered by a device's own droop or by the agent, never by both."""
        lines = {line.device_id: line for line in state.droops}
        by_agent_w = decision.setpoint_w - decision.baseline_w - sum(decision.by_device_w.values())
        for device in plant.devices:
            following = device.droop is not None and device.droop.control.following
            alone = len(plant.devices) == 1 or lines[device.rules.device_id].ours
            if following and alone and device.rules.device_id not in decision.by_device_w and abs(by_agent_w) > 1.0:
                self._broken(
                    3, tick, f"{device.rules.device_id} answers by itself, and the agent with {by_agent_w:.0f} W"
                )

    def _room(
        self, rules: BatteryRules, sample: BatterySample, mono_s: float, *, discharging: bool
    ) -> tuple[float, float]:
        """Power and energy that this battery could give (or take), by its own word."""
        soc_pct, capacity_wh = sample.soc_pct.value, sample.capacity_wh.value
        if soc_pct is None or capacity_wh is None or sample.ready.value != 1 or not self._fresh(sample.power_w, mono_s):
            return 0.0, 0.0
        rated_w, live = rules.rated_charge_w, sample.live_charge_limit_w
        energy_wh = (rules.soc_max_pct - soc_pct) / 100.0 * capacity_wh / rules.one_way_efficiency
        if discharging:
            rated_w, live = rules.rated_discharge_w, sample.live_discharge_limit_w
            energy_wh = (soc_pct - rules.soc_min_pct) / 100.0 * capacity_wh * rules.one_way_efficiency
        return min(rated_w, live.value if live.value is not None else rated_w), energy_wh

    def _check_slot(self, tick: int, inputs: Inputs, decision: Decision) -> None:
        """Invariants 10 and 11: the slot of now from the newest plan of its kind; none on an untrusted clock."""
        slot, plans = decision.slot, inputs.plans
        if slot is None:
            rolling = plans.rolling
            expected = rolling.slot_at(inputs.utc_s) if rolling is not None and inputs.clock_trusted else None
            if expected is not None and decision.source is Source.LOCAL_RULE:
                self._broken(11, tick, "the rolling plan has a slot for now, but the local rule decides")
            return
        if not inputs.clock_trusted:
            self._broken(11, tick, "a plan is executed on a clock that is not trusted")
        if not slot.start_utc_s <= inputs.utc_s < slot.end_utc_s:
            self._broken(11, tick, f"the slot from {slot.start_utc_s:.0f} is executed at {inputs.utc_s:.3f}")
        sold = plans.rolling is not None and plans.rolling.slot_at(inputs.utc_s) is not None
        source = Source.ROLLING if sold else Source.YEARLY
        plan: Plan | None = plans.rolling if sold else plans.yearly
        version = decision.version or 0
        if plan is None or version != plan.version or version < self._versions.get(source, 0):
            self._broken(10, tick, f"version {version} of the {source} plan is executed")
        self._versions[source] = version
        if decision.source is Source.LOCAL_PLAN:
            local = plans.local
            if local is None or local.basis != plans.basis or local.slot_at(inputs.utc_s) != slot:
                self._broken(10, tick, "a local plan is executed that was made from other plans of the cloud")
        elif decision.source is not source:
            self._broken(11, tick, f"the {decision.source} decides, but the {source} plan has a slot for now")

    def _check_above(self, tick: int, inputs: Inputs, decision: Decision, state: State) -> None:
        """Invariants 8 and 12: what is over decides nothing, and the safety latch beats everything."""
        for device_id, share_w in decision.shares_w.items():
            if why_stopped(state.latches, device_id) and share_w != 0.0:
                self._broken(12, tick, f"{device_id} is latched and told {share_w:.0f} W")
        standing: Override | PowerOrder | None = None
        if decision.source is Source.OVERRIDE:
            standing = inputs.override
        elif decision.source is Source.COMMAND:
            standing = inputs.order
        trusted = inputs.clock_trusted
        if standing is not None and standing.term.over(inputs.utc_s, inputs.mono_s, clock_trusted=trusted):
            self._broken(8, tick, f"the {decision.source} decides, whose time is over")

    def _check_events(self, tick: int, inputs: Inputs, count: int) -> None:
        """Invariant 14: the log rate is bounded."""
        hour = int(inputs.mono_s // 3600)
        if hour != self._events_hour:
            self._events_hour, self._events = hour, 0
        before, self._events = self._events, self._events + count
        if before <= MAX_EVENTS_PER_HOUR < self._events:
            self._broken(14, tick, f"more than {MAX_EVENTS_PER_HOUR} events in one hour")

    def _fresh(self, reading: Reading, mono_s: float) -> bool:
        return reading.value is not None and mono_s - reading.read_mono_s <= MAX_AGE_S

    def _broken(self, number: int, tick: int, what: str) -> None:
        self.count += 1
        if len(self.violations) >= KEPT:
            return
        rows = [row(decision) for decision in self._recent]
        utc_s = self._recent[-1].utc_s if self._recent else 0.0
        violation = Violation(number, what, self._seed, revision(), tick, utc_s, rows)
        self.violations.append(violation)
        self._open.append((violation, ROWS_AFTER))

    def _followed(self, told: Violation, decision: Decision, left: int) -> bool:
        told.rows.append(row(decision))
        return left > 1
