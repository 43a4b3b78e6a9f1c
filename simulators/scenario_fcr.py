"""How well the awards of a scenario were answered: by the true battery, by the evidence, and to a step of frequency.

Three judgements by the same rule (`agent.core.compliance`):
- true: the battery's own power against baseline + droop of the true frequency, at every tick of the control loop;
- evidence: the 1 s rows that the agent would hand in, against the promise worked out anew from them;
- step: the frequency falls and rises at once by so much that the whole award is called, at several instants between
  two ticks; timed to a hundredth of a second until the true battery has made 90 % of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from agent.core.awards import AwardBook, Sold, awarded_tick_s, book, expected_w, sold_w
from agent.core.compliance import DONE_SHARE, TIME_SLACK_S, Compliance, Judge, ResponseSample, samples_of
from agent.core.decision import Decision, Inputs, State
from agent.core.delegable import respond_in_s
from agent.core.evidence import EvidenceRow
from agent.core.orders import Direction
from agent.core.plan import Plans
from agent.core.snapshot import DroopOutcome, WriteOutcome
from agent.core.step import step
from simulators.scenario import SECONDS_PER_DAY, START_MONO_S, START_SOC_PCT, Scenario
from simulators.scenario_droop import time_to_90_pct_s
from simulators.scenario_plant import SitePlant

RESPONSE_ALLOWANCE_S = 0.5
"""What reading, deciding and writing may add to the device's own response."""
SETTLED_S, STEP_S = 40.0, 40.0
"""Time at nominal frequency before a step, and time to answer it."""
STEP_PHASES = 7
FINE_S = 0.01


@dataclass
class Stretch:
    """The time in which the same awards are in force, and its judges."""

    lines: tuple[Sold, ...]
    begin_s: float
    award_w: float
    allowed_s: float
    true: Judge
    evidence: Judge
    seconds: int = 0
    good_seconds: int = 0
    """Whole seconds of which every tick lay within the tolerance."""
    running: tuple[int, bool] | None = None
    """The second that is not over yet, and whether all of it was good so far."""


def stretch(lines: tuple[Sold, ...], begin_s: float) -> Stretch:
    """A fresh one; the quickest product's time counts for all."""
    award_w = max(sold_w(lines))
    allowed_s = min(line.table.full_by_s for line in lines)
    return Stretch(lines, begin_s, award_w, allowed_s, Judge(award_w, allowed_s), Judge(award_w, allowed_s))


@dataclass
class Responses:
    """Watches the awards of a run."""

    awards: AwardBook
    stretches: list[Stretch] = field(default_factory=list)
    baseline_w: float = 0.0
    """Of the latest decision."""
    promised_w: float | None = None
    """Of the latest look; None without an award."""
    by_devices: int = 0
    """Ticks under an award that devices answered by their own droop."""
    by_agent: int = 0

    def look(self, now_s: float, utc_s: float, plant: SitePlant) -> None:
        """Judges the true power at `now_s` of the run, on the baseline decided at the tick before."""
        lines = self.awards.at(utc_s)
        self.promised_w = None
        if not lines:
            return
        if not self.stretches or self.stretches[-1].lines is not lines:
            self._end_second()
            self.stretches.append(stretch(lines, now_s))
        now = self.stretches[-1]
        self.promised_w = self.baseline_w + expected_w(lines, plant.frequency_hz)
        counts = now_s - now.begin_s >= now.allowed_s
        fine = now.true.hear(ResponseSample(now_s, self.promised_w, plant.battery_w), counts=counts)
        if fine is None:
            return
        second = math.floor(now_s)
        if now.running is not None and now.running[0] == second:
            now.running = (second, now.running[1] and fine)
        else:
            self._end_second()
            now.running = (second, fine)

    def decided(self, decision: Decision, rows: Iterable[EvidenceRow]) -> None:
        """Takes the baseline of this tick and the evidence that it completed."""
        self.baseline_w = decision.baseline_w
        if self.promised_w is not None:
            self.by_devices += bool(decision.by_device_w)
            self.by_agent += not decision.by_device_w
        for row in rows:
            found = self._of(row)
            if found is None:
                continue
            for sample in samples_of((row,), found.lines):
                begun_s = row.utc_s - max(line.award.start_utc_s for line in found.lines)
                found.evidence.hear(sample, counts=begun_s >= found.allowed_s)

    def _of(self, row: EvidenceRow) -> Stretch | None:
        ids = row.award_ids
        same = (one for one in reversed(self.stretches) if tuple(x.award.award_id for x in one.lines) == ids)
        return next(same, None)

    def _end_second(self) -> None:
        if not self.stretches or self.stretches[-1].running is None:
            return
        last = self.stretches[-1]
        assert last.running is not None
        last.seconds += 1
        last.good_seconds += last.running[1]
        last.running = None

    def numbers(self, scenario: Scenario) -> dict[str, Any] | None:
        """The judgement for the result; None without an award."""
        self._end_second()
        if not self.stretches:
            return None
        seconds = sum(one.seconds for one in self.stretches)
        good = sum(one.good_seconds for one in self.stretches)
        tables = {line.table.name: line for one in self.stretches for line in one.lines}
        return {
            "share_of_seconds_within": good / seconds if seconds else None,
            "seconds": seconds,
            "share_by_devices": self.by_devices / max(self.by_devices + self.by_agent, 1),
            "tolerance": "1 % of the award around all that was promised within the allowed response time before",
            "stretches": [_told(one) for one in self.stretches],
            "step_response": [step_response(scenario, line) for line in tables.values()],
        }


def _told(one: Stretch) -> dict[str, Any]:
    return {
        "products": [line.table.name for line in one.lines],
        "award_kw": one.award_w / 1000.0,
        "from_h": round(one.begin_s / 3600.0, 4),
        "allowed_s": one.allowed_s,
        "seconds": one.seconds,
        "seconds_within": one.good_seconds,
        "true": _verdict(one.true.verdict()),
        "evidence": _verdict(one.evidence.verdict()),
    }


def _verdict(found: Compliance) -> dict[str, Any]:
    time_s = found.response_time_s
    return {
        "samples": found.samples,
        "share_within": found.share_within,
        "error_mean_pct": found.error_mean_pct,
        "error_max_pct": found.error_max_pct,
        "miss_max_pct": found.miss_max_pct,
        "steps": found.steps,
        "response_time_s": time_s if time_s is None or math.isfinite(time_s) else None,
        "steps_never_made": time_s is not None and math.isinf(time_s),
    }


@dataclass(frozen=True, slots=True)
class SteppedFrequency:
    """Nominal until `at_s` of the local day, then `hz`."""

    nominal_hz: float
    hz: float
    at_s: float

    def at(self, second: float) -> float:
        """Hz at `second`."""
        return self.hz if second >= self.at_s else self.nominal_hz


def step_response(scenario: Scenario, line: Sold) -> dict[str, Any]:
    """The longest time from a step that calls the whole award to 90 % of it, over all instants and directions tried."""
    signs = {Direction.BOTH: (-1.0, 1.0), Direction.UP: (-1.0,), Direction.DOWN: (1.0,)}[line.award.direction]
    tick_s = awarded_tick_s(scenario.awards, line.award.start_utc_s, scenario.tick_s)
    instants = [SETTLED_S + tick_s * phase / STEP_PHASES for phase in range(STEP_PHASES)]
    times = [_answered_s(scenario, line, tick_s, sign, at_s) for sign in signs for at_s in instants]
    slowest_s = max(times)
    device_s = -scenario.sizes.lag_s * math.log(1.0 - DONE_SHARE)
    if scenario.rules.delegated:
        device_s = time_to_90_pct_s(scenario.sizes.lag_s, respond_in_s((line,)))
    return {
        "product": line.table.name,
        "steps": len(times),
        "time_to_90_pct_s": round(slowest_s, 3) if math.isfinite(slowest_s) else None,
        "device_alone_s": round(device_s, 3),
        "beyond_device_s": round(slowest_s - device_s, 3) if math.isfinite(slowest_s) else None,
        "allowed_beyond_device_s": RESPONSE_ALLOWANCE_S,
        "met": slowest_s <= device_s + RESPONSE_ALLOWANCE_S,
    }


def _answered_s(scenario: Scenario, line: Sold, tick_s: float, sign: float, at_s: float) -> float:
    """From the step at `at_s` to 90 % of the award at the true battery, the site at rest before; inf if never."""
    nominal_hz = line.table.nominal_hz
    day_s = (scenario.start_utc_s + scenario.utc_offset_s) % SECONDS_PER_DAY
    frequency = SteppedFrequency(nominal_hz, nominal_hz + sign * line.table.full_hz, day_s + at_s)
    plant = SitePlant(scenario, START_SOC_PCT, frequency)
    start_utc_s = scenario.start_utc_s
    award = replace(line.award, start_utc_s=start_utc_s, end_utc_s=start_utc_s + 3600.0)
    awards, _ = book((award,), {award.product: line.table}, rated_discharge_w=math.inf, rated_charge_w=math.inf)
    state, toward = State(), -sign
    outcomes: tuple[WriteOutcome, ...] = ()
    droop_outcomes: tuple[DroopOutcome, ...] = ()
    for tick in range(round((at_s + STEP_S) / tick_s)):
        now_s = tick * tick_s
        read_s = START_MONO_S + plant.now_s
        samples = tuple(one for device in plant.devices if (one := device.sample(read_s, plant.now_s)) is not None)
        meter = plant.poll_meter(read_s)
        inputs = Inputs(
            start_utc_s + now_s, START_MONO_S + now_s, True, Plans(), samples, plant.poll_pv(read_s), meter,
            awards=awards, outcomes=outcomes, droop_outcomes=droop_outcomes,
        )  # fmt: skip
        state, effects = step(scenario.rules, state, inputs)
        land_s = now_s + tick_s / 2.0
        while plant.now_s < land_s - TIME_SLACK_S:
            plant.advance_to(min(plant.now_s + FINE_S, land_s))
            if plant.now_s > at_s and toward * plant.battery_w >= DONE_SHARE * award.power_w:
                return plant.now_s - at_s
        by_id = {device.rules.device_id: device for device in plant.devices}
        outcomes = tuple(by_id[w.device_id].write(w.power_w, START_MONO_S + land_s) for w in effects.writes)
        droop_outcomes = plant.write_droops(effects.droop_writes, START_MONO_S + land_s)
    return math.inf
