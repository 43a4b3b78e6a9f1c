"""Commissioning as a state machine: `advance(run, moment)` after each control tick gives the next state and its trial.

Steps follow each other; each is a script of phases and a judge of what was seen in them. Whatever is not expected ends
the step on the spot: the battery goes home to rest, the step is judged by what it saw, and the run is over. A run can
be resumed later: steps that passed are not done again, but the identity of the devices always is.

    waiting --go--> running --script over--> (next step) --last--> ended
    running --surprise--> homing --at rest--> ended
    waiting --surprise--> ended
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from agent.core.commissioning_limits import (
    AT_REST_SHARE,
    CONNECTION_SHARE,
    HOME_WITHIN_S,
    SERIES_ROWS,
    WAIT_MOST_S,
)
from agent.core.commissioning_log import Row
from agent.core.commissioning_steps import StepKey, site_steps, tried_table
from agent.core.commissioning_terms import GOOD, Finding, Moment, Phase, Result, Scene, Word, result
from agent.core.rules import BatteryRules, SiteRules
from agent.core.trial import Trial

ALWAYS = StepKey("identity")
"""Done at each start: whoever was right last week may stand somewhere else today."""
EXPECTED_ALARMS = ("not_following",)
"""The tests time this themselves."""


class Stage(StrEnum):
    """Where a run stands."""

    WAITING = "waiting"
    """For the operator's word before a battery is moved."""
    RUNNING = "running"
    HOMING = "homing"
    """On the way back to rest after a surprise."""
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Run:
    """One commissioning; frozen, each tick makes the next one."""

    rules: SiteRules
    who: str
    auto: bool
    """Without a question before each movement."""
    todo: tuple[StepKey, ...]
    """The steps of this run, in order."""
    results: Mapping[str, Result] = field(default_factory=dict)
    """By key; of earlier runs too where this one resumes them."""
    begun_utc_s: float = 0.0
    ended_utc_s: float | None = None
    stage: Stage = Stage.RUNNING
    at: int = 0
    """The step that runs, as its place in `todo`."""
    phase: Phase | None = None
    rows: tuple[Row, ...] = ()
    since_mono_s: float = 0.0
    """When the step began, or the way home."""
    since_utc_s: float = 0.0
    phase_mono_s: float = 0.0
    alarms: frozenset[tuple[str, str]] | None = None
    """Those that stood when the run began; None before its first tick."""
    odd: int = 0
    """Readings in a row outside of what the phase allows."""
    odd_mono_s: float = 0.0
    """When the last of them was read."""
    surprise: Finding | None = None
    """What ended it early."""

    @property
    def key(self) -> StepKey | None:
        """The step that runs, or waits; None when the run is over."""
        return self.todo[self.at] if self.stage is not Stage.ENDED and self.at < len(self.todo) else None

    @property
    def word(self) -> Word | None:
        """The verdict on the whole site, by all its steps; None while it runs."""
        if self.stage is not Stage.ENDED:
            return None
        words = [self.results[str(key)].word for key in site_steps(self.rules) if str(key) in self.results]
        if any(word is Word.FAILED for word in words):
            return Word.FAILED
        if self.surprise is not None or len(words) < len(site_steps(self.rules)):
            return Word.STOPPED
        return Word.STOPPED if any(word is Word.STOPPED for word in words) else Word.PASSED


def begun(
    rules: SiteRules,
    who: str,
    *,
    auto: bool,
    utc_s: float,
    kept: Mapping[str, Result] | None = None,
    only: str | None = None,
) -> Run:
    """A run from its first step; with `kept` results only what is not good yet is done, with `only` one step alone."""
    results = dict(kept or {})
    keys = site_steps(rules)
    todo = [key for key in keys if key != ALWAYS]
    if only is not None:
        todo = [key for key in todo if key.name == only]
    elif kept:
        todo = [key for key in todo if str(key) not in results or results[str(key)].word not in GOOD]
    return Run(rules, who, auto, (ALWAYS, *todo), results, utc_s)


def advance(run: Run, moment: Moment) -> Run:
    """The run after the tick that `moment` shows."""
    if run.stage is Stage.ENDED:
        return run
    if run.alarms is None:
        return _enter(replace(run, alarms=frozenset(moment.alarms)), moment)
    if run.stage is Stage.HOMING:
        return _homing(run, moment)
    if run.stage is Stage.RUNNING and run.phase is not None:
        run = _noted(run, moment)
    found = _surprise(run, moment)
    if found is not None:
        return _end_early(run, moment, found)
    if run.stage is Stage.WAITING:
        if run.auto or moment.go == str(run.key):
            return _start_step(run, moment)
        if moment.mono_s - run.since_mono_s > WAIT_MOST_S:
            text = f"nobody answered for {WAIT_MOST_S / 60:.0f} min"
            return _end_early(run, moment, Finding(Word.STOPPED, "no_answer", text, "ems commission --resume"))
        return run
    return _running(run, moment)


def trial_of(run: Run) -> Trial | None:
    """What the next tick shall do; None when commissioning is over and the site decides again by itself."""
    if run.stage is Stage.ENDED:
        return None
    key = run.key
    what = key.title if key is not None else "its end"
    why = f"{run.who} commissions the site: {what}"
    phase = run.phase
    if run.stage is not Stage.RUNNING or phase is None or key is None or key.device_id is None:
        return Trial(why if run.stage is not Stage.WAITING else f"{why} (waits for a word)")
    battery = _battery(run)
    assert battery is not None
    return Trial(
        why=f"{why}, {phase.name}",
        device_id=key.device_id,
        power_w=phase.power_w,
        most_w=max([abs(phase.power_w), *(line.award.power_w for line in phase.awards.sold)]),
        quiet=phase.quiet,
        shift_hz=phase.shift_hz,
        awards=phase.awards,
        export_limit_w=phase.export_limit_w,
        import_limit_w=phase.import_limit_w,
    )


def scene_of(run: Run) -> Scene:
    """What the step that runs may know of the site."""
    return Scene(run.rules, tried_table(run.rules), _battery(run), run.results)


def _battery(run: Run) -> BatteryRules | None:
    key = run.key
    if key is None or key.device_id is None:
        return None
    return next(one for one in run.rules.batteries if one.device_id == key.device_id)


def _enter(run: Run, moment: Moment) -> Run:
    """At the door of a step: it begins, or waits for the operator's word."""
    if run.key is None or run.at >= len(run.todo):
        return replace(run, stage=Stage.ENDED, phase=None, rows=(), ended_utc_s=moment.utc_s)
    run = replace(
        run, phase=None, rows=(), odd=0, since_mono_s=moment.mono_s, since_utc_s=moment.utc_s, stage=Stage.RUNNING
    )
    assert run.key is not None
    if run.key.step.moves and not run.auto:
        return replace(run, stage=Stage.WAITING)
    return _start_step(run, moment)


def _start_step(run: Run, moment: Moment) -> Run:
    run = replace(run, stage=Stage.RUNNING, since_mono_s=moment.mono_s, since_utc_s=moment.utc_s)
    return _next_phase(run, moment)


def _next_phase(run: Run, moment: Moment) -> Run:
    key = run.key
    assert key is not None
    phase = key.step.script(scene_of(run), run.rows, moment)
    if phase is not None:
        return replace(run, phase=phase, phase_mono_s=moment.mono_s, odd=0)
    return _judged(run, moment)


def _running(run: Run, moment: Moment) -> Run:
    phase = run.phase
    assert phase is not None
    mine = tuple(row for row in run.rows if row.phase == phase.name)
    if mine and phase.over(mine):
        return _next_phase(run, moment)
    if moment.mono_s - run.phase_mono_s < phase.most_s:
        return run
    key = run.key
    if (
        key is not None
        and key.step.moves
        and phase.power_w == 0.0
        and not phase.awards.sold
        and not _rests(run, moment)
    ):
        text = f"{key.device_id} was told to rest {phase.most_s:.0f} s ago and does not"
        return _end_early(
            run, moment, Finding(Word.FAILED, "not_at_rest", text, "find out what moves it, then --resume")
        )
    return _next_phase(run, moment)


def _rests(run: Run, moment: Moment) -> bool:
    """Whether the battery under trial is seen at rest."""
    battery = _battery(run)
    assert battery is not None
    small_w = AT_REST_SHARE * min(battery.rated_charge_w, battery.rated_discharge_w)
    sample = moment.battery(battery.device_id)
    return sample is not None and sample.power_w.value is not None and abs(sample.power_w.value) <= small_w


def _judged(run: Run, moment: Moment) -> Run:
    """The step is over: its result, and the door of the next one."""
    key = run.key
    assert key is not None
    became = _closed(run, key.step.judge(scene_of(run), run.rows, moment), moment)
    run = replace(run, results={**run.results, str(key): became})
    if became.word is Word.FAILED and key.step.vital:
        hint = "mend it, then: ems commission --resume"
        text = f"{key.title} failed: nothing further can be tried safely"
        return _end(run, moment, Finding(Word.STOPPED, "vital", text, hint))
    if run.at + 1 == len(run.todo):
        return _end(run, moment, None)
    return _enter(replace(run, at=run.at + 1), moment)


def _closed(run: Run, became: Result, moment: Moment) -> Result:
    return replace(became, begun_utc_s=run.since_utc_s, ended_utc_s=moment.utc_s, series=_series(run))


def _series(run: Run) -> tuple[tuple[float | None, ...], ...]:
    every = -(-len(run.rows) // SERIES_ROWS) or 1
    return tuple(
        (round(row.mono_s - run.since_mono_s, 3), row.asked_w, row.battery_w, row.grid_w, row.soc_pct, row.hz)
        for row in run.rows[::every]
    )


def _end(run: Run, moment: Moment, why: Finding | None) -> Run:
    return replace(run, stage=Stage.ENDED, phase=None, rows=(), ended_utc_s=moment.utc_s, surprise=why)


# Surprises


def _end_early(run: Run, moment: Moment, found: Finding) -> Run:
    """Home to rest first, unless nothing moved."""
    run = replace(run, surprise=found)
    key = run.key
    if run.stage is Stage.WAITING or key is None or not key.step.moves:
        return _after_surprise(run, moment)
    return replace(run, stage=Stage.HOMING, phase_mono_s=moment.mono_s)


def _homing(run: Run, moment: Moment) -> Run:
    battery = _battery(run)
    assert battery is not None
    sample = moment.battery(battery.device_id)
    fresh = sample is not None and sample.power_w.read_mono_s > run.phase_mono_s
    if fresh and _rests(run, moment):
        return _after_surprise(run, moment)
    if moment.mono_s - run.phase_mono_s < HOME_WITHIN_S:
        return run
    found = run.surprise
    assert found is not None
    text = f"{found.text}; and {battery.device_id} was not seen at rest within {HOME_WITHIN_S:g} s"
    hint = "go to the battery: stop it there; then find out why it does not follow"
    return _after_surprise(replace(run, surprise=replace(found, text=text, hint=hint)), moment)


def _after_surprise(run: Run, moment: Moment) -> Run:
    """What the step saw is judged all the same: the surprise may be its very finding."""
    key, found = run.key, run.surprise
    assert found is not None
    if key is None:
        return _end(run, moment, found)
    findings: tuple[Finding, ...] = (found,)
    became = result(findings)
    if found.word is Word.FAILED and run.rows:
        judged = key.step.judge(scene_of(run), run.rows, moment)
        wrong = tuple(one for one in judged.findings if one.word is Word.FAILED)
        became = result((*wrong, found), judged.measures)
    if run.stage is not Stage.WAITING:
        run = replace(run, results={**run.results, str(key): _closed(run, became, moment)})
    return _end(run, moment, found)


def _surprise(run: Run, moment: Moment) -> Finding | None:
    """Why the run must end now; None while all is as expected."""
    again = "ems commission --resume goes on with this step"
    if moment.stop:
        return Finding(Word.STOPPED, "stopped", f"stopped by {moment.stop}", again)
    if not moment.led:
        text = "the ems commission that led it is gone (line lost, or terminal closed)"
        return Finding(Word.STOPPED, "not_led", text, again)
    if moment.outside:
        return Finding(Word.STOPPED, "outside", moment.outside, f"when that is over, {again}")
    if moment.latched:
        text = f"a safety latch fell: {moment.latched}"
        return Finding(Word.FAILED, "latched", text, "find the cause, ems latch reset, then --resume")
    new = [key for key in moment.alarms if key not in (run.alarms or ()) and key[0] not in EXPECTED_ALARMS]
    if new:
        code, subject = new[0]
        return Finding(Word.FAILED, code, f"an alarm at {subject}: {moment.alarms[new[0]]}", f"mend it, then {again}")
    if run.stage is Stage.RUNNING and run.phase is not None and run.key is not None and run.key.step.moves:
        return _not_as_expected(run, run.phase, moment, again)
    return None


def _not_as_expected(run: Run, phase: Phase, moment: Moment, again: str) -> Finding | None:
    battery = _battery(run)
    assert battery is not None
    sample = moment.battery(battery.device_id)
    device_id = battery.device_id
    if sample is None or sample.power_w.value is None:
        return Finding(Word.FAILED, "battery_unread", f"{device_id} is not read any more", f"mend it, then {again}")
    soc_pct = sample.soc_pct.value
    if soc_pct is None or not battery.soc_min_pct <= soc_pct <= battery.soc_max_pct:
        told = "is not read any more" if soc_pct is None else f"{soc_pct:.1f} % left its window"
        return Finding(Word.FAILED, "soc_outside", f"{device_id}: its SoC {told}", f"bring it back, then {again}")
    if run.odd >= 2:
        low_w, high_w = phase.allowed_w
        text = (
            f"{device_id} gave {sample.power_w.value / 1e3:+.1f} kW where {low_w / 1e3:+.1f} to {high_w / 1e3:+.1f} kW "
            "were expected"
        )
        return Finding(Word.FAILED, "power_not_as_expected", text, f"find out what moves it, then {again}")
    return _beyond_connection(run, again)


def _beyond_connection(run: Run, again: str) -> Finding | None:
    """The connection point passes its limit, and more so than it did at rest."""
    seen = [row.grid_w for row in run.rows if row.grid_w is not None]
    if len(seen) < 3:
        return None
    rest_w, rules = seen[0], run.rules
    low_w = min(-rules.import_limit_w, rest_w) - CONNECTION_SHARE * rules.import_limit_w
    high_w = max(rules.export_limit_w, rest_w) + CONNECTION_SHARE * rules.export_limit_w
    if all(low_w <= grid_w <= high_w for grid_w in seen[-2:]):
        return None
    text = f"the connection point shows {seen[-1] / 1e3:+.1f} kW, beyond its limit"
    return Finding(Word.FAILED, "beyond_connection", text, f"check meter and limits, then {again}")


def _noted(run: Run, moment: Moment) -> Run:
    """The run with this tick in its rows."""
    phase, key = run.phase, run.key
    assert phase is not None
    assert key is not None
    row = row_of(moment, key.device_id, phase.name)
    odd, odd_mono_s = run.odd, run.odd_mono_s
    if row.battery_w is not None and row.battery_mono_s > odd_mono_s and key.step.moves:
        low_w, high_w = phase.allowed_w
        odd = 0 if low_w <= row.battery_w <= high_w else odd + 1
        odd_mono_s = row.battery_mono_s
    return replace(run, rows=(*run.rows, row), odd=odd, odd_mono_s=odd_mono_s)


def row_of(moment: Moment, device_id: str | None, phase: str) -> Row:
    """What this tick shows of the battery under trial, or of the site where there is none."""
    sample, meter, decision = moment.battery(device_id), moment.meter, moment.decision
    others_w: float | None = 0.0
    for one in moment.batteries:
        if one.device_id != device_id:
            others_w = None if others_w is None or one.power_w.value is None else others_w + one.power_w.value
    grid_w = meter.power_w.value if meter is not None else None
    alone_w = None
    if grid_w is not None and others_w is not None and moment.pv_w is not None:
        alone_w = grid_w - others_w - moment.pv_w
    net_wh = None
    if meter is not None and meter.export_wh.value is not None and meter.import_wh.value is not None:
        net_wh = meter.export_wh.value - meter.import_wh.value
    line = next((one for one in moment.writes if one.device_id == device_id), None)
    return Row(
        mono_s=moment.mono_s,
        phase=phase,
        asked_w=decision.shares_w.get(device_id, 0.0) if device_id is not None else 0.0,
        battery_w=sample.power_w.value if sample is not None else None,
        battery_mono_s=sample.power_w.read_mono_s if sample is not None else moment.mono_s,
        meter_w=alone_w,
        meter_mono_s=meter.power_w.read_mono_s if meter is not None else moment.mono_s,
        grid_w=grid_w,
        soc_pct=sample.soc_pct.value if sample is not None else None,
        net_wh=net_wh,
        hz=meter.frequency_hz.value if meter is not None else None,
        written_mono_s=line.last_done_mono_s if line is not None else float("-inf"),
        clips="; ".join(_clips(moment)),
    )


def _clips(moment: Moment) -> Sequence[str]:
    clips = moment.decision.clips
    return [f"{clip.limit} ({clip.owner}) {clip.before_w:+.0f} W to {clip.after_w:+.0f} W" for clip in clips]
