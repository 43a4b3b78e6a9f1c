"""Frequency response handed to the batteries' own droop (SunSpec 711): who answers now, and when it is taken back.

Each battery of `SiteRules.delegated` is in one of these states, told by what its device may follow (`may_follow`):

| device may follow | wanted | who answers for it | leaves when |
|---|---|---|---|
| not known (start of the process, another controller) | - | nobody of us | off, or its curve, is confirmed |
| nothing, for certain | nothing | the agent, on the setpoint | an award that can be handed over begins soon |
| nothing, for certain | its curve | nobody, until the setpoint is the baseline alone | it is; the curve was put ready |
| its curve or nothing | either | the device, perhaps | the write is confirmed, or its dead-man has run out |
| its curve | its curve | the device | award over, device lost it, or its power does not follow |

So never both: the agent answers for a battery only while its device follows nothing for certain, and hands over only
when no answer of its own is left in the setpoint. A device that fails keeps its bar until those awards end.

An award is handed to all batteries that take part in it, by their rating, or to none of them. Beyond the deviation that
calls the whole award the device goes on rising; the agent takes that excess back by the setpoint.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from agent.core.allocate import Unit
from agent.core.bounds import Bound
from agent.core.delegable import Part
from agent.core.made_often import made_often
from agent.core.rules import BatteryRules, SiteRules
from agent.core.snapshot import BatterySample, DroopOutcome
from agent.core.writes import (
    FIRST_RETRY_S,
    FOLLOW_WITHIN_S,
    LONGEST_RETRY_S,
    REASSERTS_UNTIL_ALARM,
    REFRESH_SHARE,
    WriteState,
)

WRONG_SHARE, WRONG_RATED_SHARE = 0.1, 0.02
"""The measured power may miss baseline + response by this share of the award, or of the rating if that is more..."""
WRONG_FOR_S = 5.0
"""...for so long, before the award is taken back."""
LATE_S = 3.0
"""Beside its response time the device's power may lag, and be read, so much later."""
STEP_SHARE = 0.1
"""After a step of the setpoint by this share of the rating its power is not judged for `FOLLOW_WITHIN_S`."""
CONFIRM_WITHIN_S = 10.0
"""A hand-over that is not confirmed by then is given up."""
TIMER_SLACK_S = 1.0
"""A device counts its reversion time in whole seconds."""
DEAD_BAND_SLACK_HZ = 0.001
"""A register may hold the dead band so much coarser (`drivers.droop_control.DEAD_BAND_OFF_HZ`, and its reading)."""


@dataclass(frozen=True, slots=True)
class DroopWrite:
    """Asks the shell to write one device's own droop, once, and to report the read-back."""

    device_id: str
    part: Part | None
    """None: no droop."""
    answering: bool = True
    """False: the curve is only put ready."""


@dataclass(frozen=True, slots=True)
class Judged:
    """How the device's power compares with what was expected of it."""

    right_mono_s: float
    """When it was last as expected."""
    begun_mono_s: float
    now_w: tuple[float, float]
    """Least and most that was expected since `begun_mono_s`..."""
    before_w: tuple[float, float]
    """...and in the stretch before it."""


@made_often
@dataclass(frozen=True, slots=True)
class DroopLine:
    """What is known and wanted of one battery's own droop."""

    device_id: str
    armed_mono_s: float
    """When it may have been armed last."""
    may_follow: tuple[Part | None, ...] | None = None
    """Everything that the device may follow now, None in it is nothing; None: that is not known."""
    part: Part | None = None
    """What it is to follow, now or soon; while there is one the agent does not answer for this battery."""
    until_utc_s: float = -math.inf
    """When the awards end that `part` is of."""
    asked: DroopWrite | None = None
    """The write that is under way."""
    asked_mono_s: float = -math.inf
    done_mono_s: float = -math.inf
    ready: Part | None = None
    """What was put ready in the device, with its droop off."""
    failures: int = 0
    """Failed writes in a row."""
    losses: int = 0
    """Times that the device was found to have lost the curve."""
    barred: str = ""
    """Why nothing is handed to it until `until_utc_s`."""
    bare: bool = False
    """Whether its setpoint carries no answer of ours, confirmed."""
    bare_sent: bool = False
    """Whether the setpoint that is under way carries none."""
    judged: Judged | None = None
    owned_w: float | None = None
    """The setpoint that the device last confirmed."""
    stepped_mono_s: float = -math.inf
    """When that last made a step that takes a battery some seconds."""

    @property
    def off(self) -> bool:
        """Whether the device follows nothing for certain."""
        return self.may_follow == _NOTHING

    @property
    def ours(self) -> bool:
        """Whether the agent answers for this battery."""
        return self.part is None and self.off

    @property
    def theirs(self) -> bool:
        """Whether the device answers, confirmed."""
        return self.part is not None and self.may_follow == (self.part,)


_NOTHING: Final[tuple[Part | None, ...]] = (None,)


@dataclass(frozen=True, slots=True)
class Answering:
    """What one device gives by itself now, W toward the grid: the likely power, and the range that it lies in."""

    power_w: float
    low_w: float
    high_w: float


@made_often
@dataclass(frozen=True, slots=True)
class Handed:
    """Who answers at this tick."""

    lines: tuple[DroopLine, ...]
    answers: Mapping[str, Answering]
    """Of the batteries whose device answers, or may."""
    by_agent_w: float
    """The response that is left to the agent, on top of the baseline."""

    def answers_w(self, units: Sequence[Unit]) -> Mapping[str, float]:
        """The likely answer of each device that takes part; what another one still gives shows at the meter."""
        if not self.answers:
            return NO_ANSWERS
        return {
            unit.device_id: self.answers[unit.device_id].power_w
            for unit in units
            if unit.device_id in self.answers and unit.room.hard != REST
        }

    def range_w(self, device_id: str) -> tuple[float, float]:
        """The least and the most that this device may give by itself now."""
        found = self.answers.get(device_id)
        return (found.low_w, found.high_w) if found is not None else (0.0, 0.0)

    def answered_by_devices(self) -> bool:
        """Whether every battery that may answer does so by its own droop, so that our frequency is not needed."""
        return bool(self.lines) and all(line.theirs for line in self.lines)


REST: Final = (0.0, 0.0)
NO_ANSWERS: Final[Mapping[str, float]] = {}
NOBODY: Final = Handed((), {}, 0.0)
"""On a site that hands nothing over."""


def beneath(shares_w: Mapping[str, float], answers_w: Mapping[str, float]) -> Mapping[str, float]:
    """The setpoints beneath the devices' own answers."""
    if not answers_w:
        return shares_w
    # What is left of a difference of equal powers is rest, and rest is exact.
    return {
        device_id: round(share_w - answers_w[device_id], 3) + 0.0 if device_id in answers_w else share_w
        for device_id, share_w in shares_w.items()
    }


def answered(
    rules: SiteRules,
    lines: Sequence[DroopLine],
    samples: Sequence[BatterySample],
    writes: Sequence[WriteState],
    outcomes: Sequence[DroopOutcome],
    *,
    owed_w: float,
    hz: float | None,
    utc_s: float,
    mono_s: float,
) -> Handed:
    """Who answers now, after what the devices confirmed; `hz` is the frequency where it is good, `owed_w` the response.

    Without a good frequency a device that answers by its own measurement is taken for giving what it shows beyond its
    setpoint.
    """
    by_id = {line.device_id: line for line in lines}
    owned_w = {line.device_id: line.owned_w for line in writes}
    told = {outcome.device_id: outcome for outcome in outcomes}
    after: list[DroopLine] = []
    answers: dict[str, Answering] = {}
    ours_w = all_w = excess_w = 0.0
    for battery, sample in zip(rules.batteries, samples, strict=True):
        rated_w = min(battery.rated_discharge_w, battery.rated_charge_w)
        present_w = rated_w if sample.power_w.value is not None and sample.ready.value == 1 else 0.0
        if battery.device_id not in rules.delegated:
            ours_w, all_w = ours_w + present_w, all_w + present_w
            continue
        line = by_id.get(battery.device_id) or DroopLine(battery.device_id, mono_s)
        line = _known(line, told.get(line.device_id), sample, battery, utc_s=utc_s, mono_s=mono_s)
        line = _stepped(line, owned_w.get(line.device_id), battery, mono_s)
        answering = _answering(line, sample, owned_w.get(line.device_id), hz, rules.nominal_hz)
        if answering is not None:
            answers[line.device_id] = answering
        line = _watched(
            line, sample, battery, owned_w.get(line.device_id), answering if hz is not None else None, mono_s=mono_s
        )
        after.append(line)
        all_w += present_w if line.off else rated_w
        ours_w += present_w if line.ours else 0.0
        if line.theirs and line.part is not None and answering is not None and hz is not None:
            over_w = max(abs(answering.power_w) - line.part.award_w, 0.0)
            excess_w += math.copysign(over_w, answering.power_w)
    by_agent_w = owed_w * ours_w / all_w if all_w > 0.0 else owed_w
    return Handed(tuple(after), answers, by_agent_w - excess_w)


def allowing(bounds: tuple[Bound, ...], answers: Mapping[str, Answering]) -> tuple[Bound, ...]:
    """The bounds on the likely power of all batteries, such that they hold wherever in its range each answer lies."""
    below_w = sum(one.power_w - one.low_w for one in answers.values())
    above_w = sum(one.high_w - one.power_w for one in answers.values())
    if not below_w and not above_w:
        return bounds
    found = []
    for bound in bounds:
        lower_w, upper_w = bound.lower_w + below_w, bound.upper_w - above_w
        if lower_w > upper_w:
            lower_w = upper_w = (lower_w + upper_w) / 2.0
        found.append(replace(bound, lower_w=lower_w, upper_w=upper_w))
    return tuple(found)


def _known(
    line: DroopLine,
    outcome: DroopOutcome | None,
    sample: BatterySample,
    battery: BatteryRules,
    *,
    utc_s: float,
    mono_s: float,
) -> DroopLine:
    """The line after what the device confirmed, what it shows, and what its dead-man has ended."""
    if line.barred and utc_s >= line.until_utc_s:
        line = replace(line, barred="")
    if outcome is not None and line.asked is not None:
        line = _settled(line, line.asked, outcome)
    if line.asked is not None:
        late = line.part is not None and mono_s - line.asked_mono_s > CONFIRM_WITHIN_S
        return barred(line, f"the device did not confirm within {CONFIRM_WITHIN_S:g} s") if late else line
    if not line.off and mono_s - line.armed_mono_s > battery.dead_man_s + TIMER_SLACK_S:
        return replace(line, may_follow=_NOTHING, ready=None)
    seen = sample.own_droop_from_hz
    if sample.power_w.value is None or seen.read_mono_s <= line.done_mono_s:
        return line
    if line.theirs and line.part is not None:
        at_hz = seen.value
        if at_hz is not None and abs(at_hz - line.part.curve.dead_band_hz) <= DEAD_BAND_SLACK_HZ:
            return line
        line = replace(line, may_follow=(None, line.part), losses=line.losses + 1)
        again = line.losses < REASSERTS_UNTIL_ALARM
        return line if again else barred(line, "the device loses the curve again and again: another controller?")
    if line.off and seen.value is not None:
        return replace(line, may_follow=None, armed_mono_s=mono_s)
    return line


def _settled(line: DroopLine, asked: DroopWrite, outcome: DroopOutcome) -> DroopLine:
    at = outcome.done_mono_s
    if asked.part is not None and asked.answering:
        line = replace(line, armed_mono_s=at)
    if outcome.ok:
        follows = asked.part if asked.answering else None
        ready = None if asked.answering else asked.part
        return replace(
            line, asked=None, done_mono_s=at, failures=0, may_follow=(follows,), ready=ready,
            judged=line.judged if line.may_follow == (follows,) else None,
        )  # fmt: skip
    may_follow = line.may_follow
    if outcome.off:
        may_follow = _NOTHING
    elif asked.part is not None and asked.answering:
        may_follow = tuple(dict.fromkeys((*(may_follow or ()), None, asked.part)))
    line = replace(
        line, asked=None, done_mono_s=at, failures=line.failures + 1, may_follow=may_follow, ready=None, judged=None
    )
    return barred(line, outcome.reason) if asked.part is not None else line


def barred(line: DroopLine, why: str) -> DroopLine:
    """The line of a battery that is answered for by the agent until the awards of now have ended."""
    return replace(line, part=None, barred=why, judged=None)


def _answering(
    line: DroopLine, sample: BatterySample, owned_w: float | None, hz: float | None, nominal_hz: float
) -> Answering | None:
    """What the device may give by itself now; None when it gives nothing for certain."""
    candidates = line.may_follow if line.may_follow is not None else (None, line.part)
    parts = [part for part in candidates if part is not None]
    if not parts:
        return None
    if hz is None:
        most_w = max(part.award_w for part in parts)
        low_w, high_w = -most_w, most_w
    else:
        powers_w = [part.answer_w(hz, nominal_hz) for part in parts] + [0.0] * (None in candidates)
        low_w, high_w = min(powers_w), max(powers_w)
    shown_w = 0.0
    if sample.power_w.value is not None and owned_w is not None:
        shown_w = sample.power_w.value - owned_w
    return Answering(min(max(shown_w, low_w), high_w), low_w, high_w)


def _stepped(line: DroopLine, owned_w: float | None, battery: BatteryRules, mono_s: float) -> DroopLine:
    """The line with the setpoint that the device confirmed, and whether that was a step."""
    if owned_w is None or owned_w == line.owned_w:
        return line
    rated_w = max(battery.rated_discharge_w, battery.rated_charge_w)
    if line.owned_w is not None and abs(owned_w - line.owned_w) <= STEP_SHARE * rated_w:
        return replace(line, owned_w=owned_w)
    return replace(line, owned_w=owned_w, stepped_mono_s=mono_s)


def _watched(
    line: DroopLine,
    sample: BatterySample,
    battery: BatteryRules,
    owned_w: float | None,
    answering: Answering | None,
    *,
    mono_s: float,
) -> DroopLine:
    """The line after comparing the battery's power with baseline + answer; barred when it was wrong for too long."""
    part, power_w = line.part, sample.power_w.value
    if part is None or not line.theirs or answering is None or power_w is None or owned_w is None:
        return line if line.judged is None else replace(line, judged=None)
    live = sample.live_discharge_limit_w.value, sample.live_charge_limit_w.value
    most_w = min(battery.rated_discharge_w, math.inf if live[0] is None else live[0])
    least_w = -min(battery.rated_charge_w, math.inf if live[1] is None else live[1])
    expected_w = min(max(owned_w + answering.power_w, least_w), most_w)
    judged = line.judged
    if judged is None:
        return replace(line, judged=Judged(mono_s, mono_s, (expected_w, expected_w), (expected_w, expected_w)))
    begun_mono_s, now_w, before_w = judged.begun_mono_s, judged.now_w, judged.before_w
    if mono_s - begun_mono_s >= part.respond_in_s + LATE_S:
        begun_mono_s, now_w, before_w = mono_s, (expected_w, expected_w), now_w
    now_w = (min(now_w[0], expected_w), max(now_w[1], expected_w))
    rated_w = max(battery.rated_discharge_w, battery.rated_charge_w)
    off_w = max(WRONG_SHARE * part.award_w, WRONG_RATED_SHARE * rated_w)
    right_mono_s = judged.right_mono_s
    if min(now_w[0], before_w[0]) - off_w <= power_w <= max(now_w[1], before_w[1]) + off_w:
        right_mono_s = mono_s
    if mono_s - max(right_mono_s, line.stepped_mono_s + FOLLOW_WITHIN_S) > WRONG_FOR_S:
        return barred(
            line, f"its power did not follow: {power_w / 1e3:.1f} kW where {expected_w / 1e3:.1f} kW were due"
        )
    return replace(line, judged=Judged(right_mono_s, begun_mono_s, now_w, before_w))


def droop_due(line: DroopLine, battery: BatteryRules, mono_s: float, *, answering: bool) -> DroopWrite | None:
    """The write that this device needs now, None when there is none; `answering` is whether an award is in force."""
    if line.asked is not None:
        return None
    if line.failures:
        pause_s = min(FIRST_RETRY_S * 2 ** min(line.failures - 1, 8), LONGEST_RETRY_S)
        if mono_s - line.done_mono_s < pause_s:
            return None
    part = line.part
    if part is None:
        return None if line.off else DroopWrite(line.device_id, None)
    if not answering:
        return None if line.off and line.ready == part else DroopWrite(line.device_id, part, answering=False)
    if line.theirs and mono_s - line.done_mono_s < battery.dead_man_s * REFRESH_SHARE:
        return None
    return DroopWrite(line.device_id, part) if line.bare else None


def droop_sent(line: DroopLine, write: DroopWrite, mono_s: float) -> DroopLine:
    """The line after `write` was handed to the shell."""
    may_follow, armed_mono_s = line.may_follow, line.armed_mono_s
    if write.part is not None and write.answering:
        armed_mono_s = mono_s
        if may_follow is not None and write.part not in may_follow:
            may_follow = (*may_follow, write.part)
    return replace(line, asked=write, asked_mono_s=mono_s, may_follow=may_follow, armed_mono_s=armed_mono_s)
