"""Moves of commissioning once sign and scale are known: step response, dead-man, SoC and energy, connection limit."""

from __future__ import annotations

import math
from collections.abc import Sequence

from agent.core.commissioning_limits import (
    ACCURACY_SHARE,
    ARRIVE_WITHIN_S,
    BEYOND_SHARE,
    DEAD_MAN_MOST_S,
    DEAD_MAN_SLACK_S,
    DEAD_MAN_SLACK_SHARE,
    DEAD_MAN_WAIT_MORE_S,
    DEAD_MAN_WAIT_SHARE,
    ENERGY_RATIO,
    FALLEN_SHARE,
    LIMIT_SHARE,
    LIMIT_SLACK_SHARE,
    NOISE_SIGMAS,
    READINGS_TAIL,
    SETTLE_WITHIN_S,
    SETTLED_SHARE,
    SOC_STEPS,
    TELL_WITHIN_S,
    WORK_SHARE,
)
from agent.core.commissioning_log import (
    Point,
    Row,
    arrived,
    battery_points,
    crossing_s,
    energy_wh,
    meter_points,
    noise_of,
    of_phase,
    restless_w,
    settled_s,
    soc_change_pct,
    soc_step_pct,
    soc_steps,
    tail_mean,
)
from agent.core.commissioning_signs import HINT_BATTERY, HOME, REST, rest_phase
from agent.core.commissioning_terms import Finding, Moment, Phase, Result, Scene, Word, result, skipped

LAG_SHARE = 0.632
"""Of the step, 1 - 1/e: a first-order lag has its time constant there, a delay its whole self."""


def work_phase(scene: Scene, name: str, from_w: float, to_w: float, noise_w: float) -> Phase:
    """Go to a power and stand still there; anything clearly beyond both ends is a surprise."""

    def over(rows: Sequence[Row]) -> bool:
        return arrived(rows, from_w, to_w, noise_w)

    return Phase(name, to_w, ARRIVE_WITHIN_S, over, allowed_w=between(scene, from_w, to_w))


def between(scene: Scene, *powers_w: float) -> tuple[float, float]:
    """From the least to the most of these powers, and what a battery may be off."""
    slack_w = BEYOND_SHARE * scene.rated_w
    return min(*powers_w, 0.0) - slack_w, max(*powers_w, 0.0) + slack_w


def _away_w(scene: Scene, moment: Moment) -> float:
    """The power for a longer movement, W: away from the nearer end of the SoC window."""
    assert scene.battery is not None
    sample = moment.battery(scene.battery.device_id)
    soc_pct = sample.soc_pct.value if sample is not None else None
    middle_pct = (scene.battery.soc_min_pct + scene.battery.soc_max_pct) / 2.0
    work_w = WORK_SHARE * scene.rated_w
    return work_w if soc_pct is not None and soc_pct >= middle_pct else -work_w


def _noise_w(rows: Sequence[Row]) -> float:
    return noise_of(battery_points(of_phase(rows, REST)))


# Step response

UP, DOWN = "up", "down"


def step_script(scene: Scene, rows: Sequence[Row], moment: Moment) -> Phase | None:
    """Rest, one step out, one step back."""
    last = rows[-1].phase if rows else ""
    if last == "":
        return rest_phase(scene, REST)
    if last == REST:
        return work_phase(scene, UP, 0.0, _away_w(scene, moment), _noise_w(rows))
    if last == UP:
        return work_phase(scene, DOWN, rows[-1].asked_w, 0.0, _noise_w(rows))
    return None


def judge_step(scene: Scene, rows: Sequence[Row], _moment: Moment) -> Result:
    """Lag, settling time and accuracy, of the slower of the two steps."""
    assert scene.battery is not None
    device_id, up, down = scene.battery.device_id, of_phase(rows, UP), of_phase(rows, DOWN)
    to_w = up[-1].asked_w if up else 0.0
    if abs(to_w) < WORK_SHARE * scene.rated_w / 4.0:
        clips = next((row.clips for row in reversed(up) if row.clips), "the step was not reached")
        text = f"{device_id}: there is no room for a step of {WORK_SHARE:.0%} of the rating: {clips}"
        return result([Finding(Word.FAILED, "no_room", text, "make room (SoC, limits, orders), then --resume")])
    times = [_times(up, 0.0, to_w), _times(down, to_w, 0.0)]
    lags_s = [lag_s for lag_s, _ in times if lag_s is not None]
    settlings_s = [settling_s for _, settling_s in times if settling_s is not None]
    held_w = tail_mean(battery_points(up))
    off_w = held_w - to_w if held_w is not None else None
    measures = {
        "step_w": to_w,
        "lag_s": max(lags_s) if len(lags_s) == len(times) else None,
        "settling_s": max(settlings_s) if len(settlings_s) == len(times) else None,
        "accuracy_w": off_w,
    }
    return result(_step_findings(scene, device_id, measures), measures)


def _step_findings(scene: Scene, device_id: str, measures: dict[str, float | None]) -> list[Finding]:
    lag_s, settling_s, off_w = measures["lag_s"], measures["settling_s"], measures["accuracy_w"]
    limit_s = SETTLE_WITHIN_S
    if settling_s is None or lag_s is None:
        text = f"{device_id} is slow: it did not settle within {ARRIVE_WITHIN_S:g} s"
        return [Finding(Word.FAILED, "slow_device", text, _slow_hint(limit_s))]
    found: list[Finding] = []
    told = f"lag {lag_s:.1f} s, settled after {settling_s:.1f} s"
    if settling_s > limit_s:
        text = f"{device_id} is slow: {told}; up to {limit_s:g} s are expected"
        found.append(Finding(Word.FAILED, "slow_device", text, _slow_hint(limit_s)))
    else:
        found.append(Finding(Word.PASSED, "step_response", f"{device_id}: {told}"))
    if off_w is not None and abs(off_w) > ACCURACY_SHARE * scene.rated_w:
        text = f"{device_id} gives {off_w / 1e3:+.2f} kW beside what is asked, over {ACCURACY_SHARE:.0%} of its rating"
        hint = "calibrate its power measurement or its setpoint, then --resume"
        found.append(Finding(Word.FAILED, "inaccurate", text, hint))
    return found


def _slow_hint(limit_s: float) -> str:
    return (
        "raise the ramp of its setpoint in the device (ramps of grid support stay), then --resume; if it cannot settle "
        f"within {limit_s:g} s sell no frequency response with it: control reckons with the measured times"
    )


def _times(rows: Sequence[Row], from_w: float, to_w: float) -> tuple[float | None, float | None]:
    """Lag and settling time of one step, counted from when the setpoint made the step itself.

    Where the battery ends, it ends: how far off that is counts as its accuracy.
    """
    end_w = tail_mean(battery_points(rows))
    if end_w is None or abs(end_w - from_w) < abs(to_w - from_w) / 2.0:
        return None, None
    asked: list[Point] = [(row.mono_s, row.asked_w) for row in rows]
    points: list[Point] = [(rows[0].mono_s, from_w), *battery_points(rows)]
    within_w, rising = SETTLED_SHARE * abs(to_w - from_w), to_w > from_w
    asked_at_s = crossing_s(asked, from_w + LAG_SHARE * (to_w - from_w), rising=rising)
    made_at_s = crossing_s(points, from_w + LAG_SHARE * (end_w - from_w), rising=rising)
    done_asked_s = settled_s(asked, to_w, within_w)
    settled_at_s = settled_s(points, end_w, within_w)
    if asked_at_s is None or done_asked_s is None or made_at_s is None:
        return None, None
    settling_s = max(settled_at_s - done_asked_s, 0.0) if settled_at_s is not None else None
    return max(made_at_s - asked_at_s, 0.0), settling_s


# Dead-man

LEAD, SILENCE = "lead", "silence"


def dead_man_script(scene: Scene, rows: Sequence[Row], moment: Moment) -> Phase | None:
    """A power, and then nothing is written any more until the device ends it by itself."""
    assert scene.battery is not None
    last = rows[-1].phase if rows else ""
    if last == "":
        sample = moment.battery(scene.battery.device_id)
        return None if sample is not None and sample.has_dead_man is False else rest_phase(scene, REST)
    if last == REST:
        return work_phase(scene, LEAD, 0.0, _away_w(scene, moment), _noise_w(rows))
    if last == LEAD:
        held_w = tail_mean(battery_points(rows)) or 0.0
        most_s = _silence_s(scene) + _settling_s(scene)

        def over(seen: Sequence[Row]) -> bool:
            tail = battery_points(seen)[-READINGS_TAIL:]
            return len(tail) == READINGS_TAIL and all(abs(value) <= FALLEN_SHARE * abs(held_w) for _, value in tail)

        power_w = rows[-1].asked_w
        return Phase(SILENCE, power_w, most_s, over, quiet=True, allowed_w=between(scene, power_w))
    return None if last == HOME else rest_phase(scene, HOME)


def _silence_s(scene: Scene) -> float:
    """How long the fallback is waited for."""
    assert scene.battery is not None
    return scene.battery.dead_man_s * DEAD_MAN_WAIT_SHARE + DEAD_MAN_WAIT_MORE_S


def _settling_s(scene: Scene) -> float:
    """What the step response of this battery took, as far as it is known."""
    assert scene.battery is not None
    known = scene.results.get(f"step_response:{scene.battery.device_id}")
    settling_s = known.measures.get("settling_s") if known is not None else None
    return settling_s if settling_s is not None else SETTLE_WITHIN_S


def judge_dead_man(scene: Scene, rows: Sequence[Row], _moment: Moment) -> Result:
    """Whether the device ends a setpoint by itself, after how long, and where it goes then."""
    assert scene.battery is not None
    device_id, stated_s = scene.battery.device_id, scene.battery.dead_man_s
    if not rows:
        text = f"{device_id} says that it has no dead-man: it would hold its last setpoint if the gateway died"
        hint = "fit a watchdog in the device or in front of it, or accept this in writing below"
        return result([Finding(Word.REMARK, "no_dead_man", text, hint)], {"dead_man_s": None, "has_dead_man": 0.0})
    silence, held_w = of_phase(rows, SILENCE), tail_mean(battery_points(of_phase(rows, LEAD)))
    points = battery_points(silence)
    if held_w is None or not points or abs(held_w) < WORK_SHARE * scene.rated_w / 4.0:
        text = f"{device_id} did not reach the power whose end was to be seen"
        return result([Finding(Word.FAILED, "not_moved", text, "look at ems explain, then --resume")])
    written_mono_s = max(row.written_mono_s for row in silence)
    given = [(at_s, value if held_w > 0.0 else -value) for at_s, value in points]
    most_w = max(value for _, value in given)
    since_most = [point for point in given if point[0] >= next(at_s for at_s, value in given if value == most_w)]
    fallen_mono_s = crossing_s(since_most, (1.0 - FALLEN_SHARE) * most_w, rising=False)
    end_w = tail_mean(points) or 0.0
    waited_s = silence[-1].mono_s - written_mono_s
    if fallen_mono_s is None or abs(end_w) > (1.0 - FALLEN_SHARE) * abs(held_w):
        text = (
            f"the dead-man of {device_id} did not fire: {end_w / 1e3:+.1f} kW still {waited_s:.0f} s after the last "
            f"write; {stated_s:g} s were promised, so the site would not come to rest if the gateway died"
        )
        hint = (
            "switch its watchdog on in the device, or find out what feeds it (some are fed by reading too); "
            "until then treat the site as one without a dead-man; then --resume"
        )
        measures = {"dead_man_s": None, "has_dead_man": 0.0, "held_w": held_w, "end_w": end_w}
        return result([Finding(Word.FAILED, "dead_man_dead", text, hint)], measures)
    took_s = fallen_mono_s - written_mono_s
    measures = {"dead_man_s": took_s, "has_dead_man": 1.0, "stated_s": stated_s, "held_w": held_w, "end_w": end_w}
    return result(_dead_man_findings(scene, device_id, took_s, end_w, held_w), measures)


def _dead_man_findings(scene: Scene, device_id: str, took_s: float, end_w: float, held_w: float) -> list[Finding]:
    assert scene.battery is not None
    stated_s = scene.battery.dead_man_s
    slack_s = max(DEAD_MAN_SLACK_S, DEAD_MAN_SLACK_SHARE * stated_s)
    text = f"{device_id} went to rest by itself {took_s:.1f} s after the last write ({stated_s:g} s promised)"
    if abs(end_w) > 2.0 * FALLEN_SHARE * abs(held_w):
        text = f"the dead-man of {device_id} fired after {took_s:.1f} s, but left {end_w / 1e3:+.1f} kW: not at rest"
        hint = "set what it falls back to (its reversion value) to 0 kW in the device, then --resume"
        return [Finding(Word.FAILED, "dead_man_not_neutral", text, hint)]
    if took_s > DEAD_MAN_MOST_S + slack_s:
        hint = f"set it to {DEAD_MAN_MOST_S:g} s or less in the device, then --resume"
        return [Finding(Word.FAILED, "dead_man_late", f"{text}; at most {DEAD_MAN_MOST_S:g} s are allowed", hint)]
    if abs(took_s - stated_s) > slack_s:
        hint = "correct dead_man in the site file; until then control reckons with the measured time"
        return [Finding(Word.REMARK, "dead_man_other", text, hint)]
    return [Finding(Word.PASSED, "dead_man", text)]


# SoC and energy

WORK = "work"


def energy_script(scene: Scene, rows: Sequence[Row], moment: Moment) -> Phase | None:
    """The power that undoes what the dead-man test moved, until the SoC has moved a few steps."""
    assert scene.battery is not None
    last = rows[-1].phase if rows else ""
    if last == "":
        return rest_phase(scene, REST)
    if last == REST:
        before = scene.results.get(f"dead_man:{scene.battery.device_id}")
        held_w = before.measures.get("held_w") if before is not None else None
        power_w = math.copysign(WORK_SHARE * scene.rated_w, -held_w) if held_w else -_away_w(scene, moment)

        def over(seen: Sequence[Row]) -> bool:
            return soc_steps(seen) > SOC_STEPS

        return Phase(WORK, power_w, TELL_WITHIN_S, over, allowed_w=between(scene, power_w))
    return None if last == HOME else rest_phase(scene, HOME)


def judge_energy(scene: Scene, rows: Sequence[Row], moment: Moment) -> Result:
    """Whether the SoC moves the way and as far as the energy says."""
    assert scene.battery is not None
    device_id, work = scene.battery.device_id, of_phase(rows, WORK)
    sample = moment.battery(device_id)
    capacity_wh = sample.capacity_wh.value if sample is not None else None
    change_pct, moved_wh = soc_change_pct(work), energy_wh(work)
    if capacity_wh is None or change_pct is None or moved_wh == 0.0:
        text = f"{device_id}: SoC or power were not read while it worked"
        return result([Finding(Word.FAILED, "soc_unread", text, f"ems devices read {device_id}; then --resume")])
    efficiency = scene.battery.one_way_efficiency
    stored_wh = -moved_wh / efficiency if moved_wh > 0.0 else -moved_wh * efficiency
    expected_pct = 100.0 * stored_wh / capacity_wh
    measures = {"energy_wh": moved_wh, "soc_change_pct": change_pct, "soc_expected_pct": expected_pct}
    step_pct = soc_step_pct(work)
    said = f"{moved_wh / 1e3:+.3f} kWh moved the SoC by {change_pct:+.2f} %, {expected_pct:+.2f} % expected"
    if soc_steps(work) < 2:
        text = f"{device_id}: {said}: its SoC is too coarse to be compared within {TELL_WITHIN_S:g} s"
        hint = "compare again after an hour of charging (ems model show)"
        return result([Finding(Word.REMARK, "soc_coarse", text, hint)], measures)
    if change_pct * expected_pct < 0.0:
        text = f"the SoC of {device_id} moves the wrong way: {said}"
        hint = f"battery and meter are both reversed, or it is the SoC of another battery: {HINT_BATTERY}"
        return result([Finding(Word.FAILED, "soc_wrong_way", text, hint)], measures)
    low_pct, high_pct = (share * abs(expected_pct) for share in ENERGY_RATIO)
    if not low_pct - step_pct <= abs(change_pct) <= high_pct + step_pct:
        text = f"SoC and energy of {device_id} do not belong together: {said}"
        hint = "check the stated capacity and the BMS, let it calibrate (a full charge), then --resume"
        return result([Finding(Word.FAILED, "soc_contradicts_energy", text, hint)], measures)
    return result([Finding(Word.PASSED, "energy", f"{device_id}: {said}")], measures)


# Connection limit

LIMITED = "limited"


def limit_script(scene: Scene, rows: Sequence[Row], _moment: Moment) -> Phase | None:
    """More power is asked for than a tighter connection limit leaves."""
    if scene.rules.meter_id is None and not scene.rules.battery_alone:
        return None
    last = rows[-1].phase if rows else ""
    if last == "":
        return rest_phase(scene, REST)
    if last == REST:
        others_w = tail_mean(_grid_points(rows)) or 0.0
        room_w, asked_w = LIMIT_SHARE * scene.rated_w, WORK_SHARE * scene.rated_w
        expected_w = room_w if others_w >= 0.0 else -room_w
        noise_w = _noise_w(rows)
        wide_w = between(scene, -asked_w, asked_w)

        def over(seen: Sequence[Row]) -> bool:
            return arrived(seen, 0.0, expected_w, noise_w)

        if others_w >= 0.0:
            return Phase(LIMITED, asked_w, ARRIVE_WITHIN_S, over, export_limit_w=others_w + room_w, allowed_w=wide_w)
        return Phase(LIMITED, -asked_w, ARRIVE_WITHIN_S, over, import_limit_w=room_w - others_w, allowed_w=wide_w)
    return None if last == HOME else rest_phase(scene, HOME)


def _grid_points(rows: Sequence[Row]) -> list[Point]:
    """The connection point as measured; the battery itself where it is all there is."""
    return [
        (row.mono_s, power_w)
        for row in rows
        if (power_w := row.grid_w if row.grid_w is not None else row.battery_w) is not None
    ]


def judge_limit(scene: Scene, rows: Sequence[Row], _moment: Moment) -> Result:
    """Whether the connection point stayed within the tighter limit, and whether it was the limit that did it."""
    assert scene.battery is not None
    if not rows:
        return skipped("no_meter", "there is no meter at the connection point")
    before, limited = of_phase(rows, REST), of_phase(rows, LIMITED)
    others_w, grid_w = tail_mean(_grid_points(before)), tail_mean(_grid_points(limited))
    if others_w is None or grid_w is None:
        text = "the connection point was not read"
        return result([Finding(Word.FAILED, "meter_unread", text, "ems status shows why; then --resume")])
    room_w = LIMIT_SHARE * scene.rated_w
    side, limit_w = (1.0, others_w + room_w) if others_w >= 0.0 else (-1.0, others_w - room_w)
    noise_w = NOISE_SIGMAS * restless_w(meter_points(before))
    measures = {"limit_w": limit_w, "grid_w": grid_w, "others_w": others_w}
    beyond_w = side * (grid_w - limit_w)
    said = f"limit {limit_w / 1e3:+.2f} kW, connection point {grid_w / 1e3:+.2f} kW"
    if not any("connection limit" in row.clips for row in limited):
        clips = next((row.clips for row in reversed(limited) if row.clips), "nothing")
        text = f"the connection limit did not act ({said}); what cut the power: {clips}"
        return result(
            [Finding(Word.FAILED, "limit_idle", text, "make room (SoC, other limits), then --resume")], measures
        )
    if beyond_w > LIMIT_SLACK_SHARE * scene.rated_w + noise_w:
        text = f"the connection limit was passed by {beyond_w / 1e3:.2f} kW: {said}"
        hint = "check the scale of meter and battery, and what else moves the connection point, then --resume"
        return result([Finding(Word.FAILED, "limit_passed", text, hint)], measures)
    return result([Finding(Word.PASSED, "connection_limit", f"the limit held: {said}")], measures)
