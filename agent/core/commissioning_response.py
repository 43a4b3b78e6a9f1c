"""The FCR step: a played award, and an offset added to the measured frequency, down and up."""

from __future__ import annotations

from collections.abc import Sequence

from agent.core.commissioning_limits import (
    BEYOND_SHARE,
    RESPONSE_SHARE,
    RESPONSE_SLACK_S,
    WORK_SHARE,
)
from agent.core.commissioning_log import Row, arrived, battery_points, crossing_s, noise_of, of_phase, tail_mean
from agent.core.commissioning_moves import between
from agent.core.commissioning_signs import HOME, REST, rest_phase
from agent.core.commissioning_terms import Finding, Moment, Phase, Result, Scene, Word, result, skipped
from agent.core.trial import played_award

LOW, BACK, HIGH = "low", "back", "high"
OVERSHOOT = 1.2
"""The offset goes this far beyond the whole award, so that the frequency of the day makes no difference."""


def response_script(scene: Scene, rows: Sequence[Row], moment: Moment) -> Phase | None:
    """Rest, a low frequency, none, a high one."""
    if why_not(scene, moment):
        return None
    last = rows[-1].phase if rows else ""
    award_w = WORK_SHARE * scene.rated_w
    if last == "":
        return rest_phase(scene, REST)
    if last == REST:
        return _shifted(scene, rows, moment, LOW, award_w)
    if last == LOW:
        return rest_phase(scene, BACK)
    if last == BACK:
        return _shifted(scene, rows, moment, HIGH, -award_w)
    return None if last == HOME else rest_phase(scene, HOME)


def _shifted(scene: Scene, rows: Sequence[Row], moment: Moment, name: str, expected_w: float) -> Phase:
    table = scene.table
    assert table is not None, "asked before"
    noise_w = noise_of(battery_points(of_phase(rows, REST)))
    away_hz = OVERSHOOT * table.full_hz

    def over(seen: Sequence[Row]) -> bool:
        return arrived(seen, 0.0, expected_w, noise_w)

    return Phase(
        name,
        0.0,
        table.full_by_s + 2.0 * RESPONSE_SLACK_S,
        over,
        shift_hz=-away_hz if expected_w > 0.0 else away_hz,
        awards=played_award(table, abs(expected_w), moment.utc_s),
        allowed_w=between(scene, expected_w, -expected_w),
    )


def why_not(scene: Scene, moment: Moment) -> str:
    """Why frequency response cannot be tried here, "" when it can."""
    assert scene.battery is not None
    device_id = scene.battery.device_id
    if device_id in scene.rules.delegated:
        return f"{device_id} answers by its own measurement: inject the offset at the device"
    if scene.table is None:
        return "no product fits this grid"
    if moment.meter is None or moment.meter.frequency_hz.value is None:
        return "no meter gives a frequency"
    return ""


def judge_response(scene: Scene, rows: Sequence[Row], moment: Moment) -> Result:
    """Whether the award was given both ways, in time."""
    assert scene.battery is not None
    reason, table = why_not(scene, moment), scene.table
    if reason and not rows:
        if scene.rules.products and "frequency" in reason:
            hint = "this site sells frequency response: use a meter that measures it, then --resume"
            return result([Finding(Word.FAILED, "no_frequency", reason, hint)])
        return skipped("no_response_here", reason)
    assert table is not None
    found: list[Finding] = []
    measures: dict[str, float | None] = {"award_w": WORK_SHARE * scene.rated_w, "full_by_s": table.full_by_s}
    for phase, sign, name in ((LOW, 1.0, "low"), (HIGH, -1.0, "high")):
        took_s, given_w = _answered(of_phase(rows, phase), sign, measures["award_w"] or 0.0)
        measures |= {f"response_{name}_s": took_s, f"given_{name}_w": given_w}
        found.append(_finding(scene, table.name, name, took_s, given_w))
    return result(found, measures)


def _answered(rows: Sequence[Row], sign: float, award_w: float) -> tuple[float | None, float | None]:
    """How long 90 % of the award took from the offset on, and what was given in the end."""
    points = [(at_s, sign * value) for at_s, value in battery_points(rows)]
    given_w = tail_mean(points)
    if given_w is None:
        return None, None
    at_s = crossing_s([(rows[0].mono_s, 0.0), *points], RESPONSE_SHARE * award_w, rising=True)
    return (at_s - rows[0].mono_s if at_s is not None else None), sign * given_w


def _finding(scene: Scene, product: str, name: str, took_s: float | None, given_w: float | None) -> Finding:
    table, battery = scene.table, scene.battery
    assert table is not None
    assert battery is not None
    award_w, limit_s = WORK_SHARE * scene.rated_w, table.full_by_s + RESPONSE_SLACK_S
    given = "nothing" if given_w is None else f"{given_w / 1e3:+.1f} kW"
    said = f"{name} frequency: {given} of {award_w / 1e3:g} kW ({product})"
    if took_s is None or took_s > limit_s or given_w is None:
        when = "never" if took_s is None else f"after {took_s:.1f} s"
        text = f"{battery.device_id}, {said}: 90 % came {when}; {table.full_by_s:g} s are allowed"
        hint = "look at its step response: a slow device cannot sell this product; then --resume"
        return Finding(Word.FAILED, "response_late", text, hint)
    if abs(abs(given_w) - award_w) > BEYOND_SHARE * scene.rated_w:
        text = f"{battery.device_id}, {said}: another power than the award"
        return Finding(Word.FAILED, "response_off", text, "look at its accuracy in the step response, then --resume")
    return Finding(Word.PASSED, "response", f"{battery.device_id}, {said}: 90 % after {took_s:.1f} s")
