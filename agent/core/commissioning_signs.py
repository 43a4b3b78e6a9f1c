"""Sign and scale: a small charge and a small discharge, compared at the battery and at the connection meter.

Two witnesses, the battery's own measurement and the meter, say how the site moved against what was asked. Where they
contradict each other and neither fits a scale, the SoC is the third: a battery that is told to discharge must fall.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from agent.core.commissioning_limits import (
    ARRIVE_WITHIN_S,
    AT_REST_SHARE,
    BATTERY_RATIO,
    BLIND_RATIO,
    HOME_WITHIN_S,
    METER_RATIO,
    MOST_PROBE_SHARE,
    NOISE_SIGMAS,
    PROBE_SHARE,
    READINGS_AT_REST,
    READINGS_TAIL,
    SIGN_TELL_WITHIN_S,
    WORK_SHARE,
)
from agent.core.commissioning_log import (
    Row,
    arrived,
    battery_points,
    meter_points,
    noise_of,
    of_phase,
    restless_w,
    soc_change_pct,
    soc_steps,
    tail_mean,
)
from agent.core.commissioning_terms import Finding, Moment, Phase, Result, Scene, Word, result

REST, CHARGE, DISCHARGE, TELL, HOME = "rest", "charge", "discharge", "tell", "home"
TENS = (0, 1, -1, 2, 3)
"""Powers of ten that a scale may be wrong by; smaller ones cannot be told from no movement at all."""
TOLD_STEPS = 3
"""Steps of the SoC in one direction that tell which way the battery really goes."""


class Way(StrEnum):
    """How a witness stands to what was asked."""

    RIGHT = "right"
    REVERSED = "reversed"
    SCALED = "scaled"
    """By a power of ten, perhaps reversed too."""
    BLIND = "blind"
    ODD = "odd"
    """By some other factor."""
    UNKNOWN = "unknown"
    """There is no such witness, or it was not read."""


@dataclass(frozen=True, slots=True)
class Witness:
    """What one witness said: measured over asked."""

    ratio: float | None
    way: Way


def script(scene: Scene, rows: Sequence[Row], _moment: Moment) -> Phase | None:
    """Rest, a small charge, a small discharge; where the witnesses contradict each other, one that moves the SoC."""
    last = rows[-1].phase if rows else ""
    if last == "":
        return rest_phase(scene, REST)
    noise_w = noise_of(battery_points(of_phase(rows, REST)))
    probe_w = probe_power_w(scene, rows)
    if last == REST:
        return _move(scene, CHARGE, 0.0, -probe_w, noise_w)
    if last == CHARGE:
        return _move(scene, DISCHARGE, -probe_w, probe_w, noise_w)
    if last == DISCHARGE and _which_is_open(scene, rows):
        tell_w = WORK_SHARE * scene.rated_w
        allowed_w = scene.rated_w
        return Phase(TELL, tell_w, SIGN_TELL_WITHIN_S, _soc_tells, allowed_w=(-allowed_w, allowed_w))
    return None if last == HOME else rest_phase(scene, HOME)


def rest_phase(scene: Scene, name: str) -> Phase:
    """The battery at rest, long enough to know the noise."""
    small_w = AT_REST_SHARE * scene.rated_w

    def over(rows: Sequence[Row]) -> bool:
        points = battery_points(rows)
        mean_w = tail_mean(points)
        seen = len(points) >= READINGS_AT_REST and (not meter_points(rows) or len(meter_points(rows)) >= READINGS_TAIL)
        return seen and mean_w is not None and abs(mean_w) <= small_w

    # Coming from wherever it was: only its rating is a surprise.
    return Phase(name, 0.0, HOME_WITHIN_S, over, allowed_w=(-1.2 * scene.rated_w, 1.2 * scene.rated_w))


def probe_power_w(scene: Scene, rows: Sequence[Row]) -> float:
    """The power of the first movement, W: small, and larger where the load is restless."""
    noise_w = restless_w(meter_points(of_phase(rows, REST)))
    return min(max(PROBE_SHARE * scene.rated_w, 2.0 * NOISE_SIGMAS * noise_w), MOST_PROBE_SHARE * scene.rated_w)


def _move(scene: Scene, name: str, from_w: float, to_w: float, noise_w: float) -> Phase:
    def over(rows: Sequence[Row]) -> bool:
        return arrived(rows, from_w, to_w, noise_w) and len(meter_points(rows)[-READINGS_TAIL:]) in (0, READINGS_TAIL)

    # Ten times the probe is within the rating: a wrong scale shall be named, not only stopped.
    return Phase(name, to_w, ARRIVE_WITHIN_S, over, allowed_w=(-scene.rated_w, scene.rated_w))


def _soc_tells(rows: Sequence[Row]) -> bool:
    return soc_steps(rows) >= TOLD_STEPS


def _asked_w(rows: Sequence[Row]) -> float | None:
    return rows[-1].asked_w if rows else None


def _ratio(rows: Sequence[Row], *, of_meter: bool) -> float | None:
    """What a witness saw between charge and discharge, over what was asked between them."""
    charge, discharge = of_phase(rows, CHARGE), of_phase(rows, DISCHARGE)
    points = meter_points if of_meter else battery_points
    if not discharge:  # ended early: against the rest before
        charge, discharge = of_phase(rows, REST), charge
    low_w, high_w = tail_mean(points(charge)), tail_mean(points(discharge))
    from_w, to_w = _asked_w(charge), _asked_w(discharge)
    if low_w is None or high_w is None or from_w is None or to_w is None or from_w == to_w:
        return None
    return (high_w - low_w) / (to_w - from_w)


def witness(ratio: float | None, good: tuple[float, float]) -> Witness:
    """How a ratio of measured over asked is called."""
    if ratio is None:
        return Witness(None, Way.UNKNOWN)
    size = abs(ratio)
    if size < BLIND_RATIO:
        return Witness(ratio, Way.BLIND)
    for tens in TENS:
        if good[0] <= size / 10.0**tens <= good[1]:
            way = Way.SCALED if tens else (Way.RIGHT if ratio > 0.0 else Way.REVERSED)
            return Witness(ratio, way)
    return Witness(ratio, Way.ODD)


def _witnesses(rows: Sequence[Row]) -> tuple[Witness, Witness]:
    return (
        witness(_ratio(rows, of_meter=False), BATTERY_RATIO),
        witness(_ratio(rows, of_meter=True), METER_RATIO),
    )


def _which_is_open(scene: Scene, rows: Sequence[Row]) -> bool:
    """Whether the battery agrees with us and the meter with neither: meter or battery, the SoC must tell."""
    battery, meter = _witnesses(rows)
    return scene.rules.meter_id is not None and battery.way is Way.RIGHT and meter.way is Way.REVERSED


def judge(scene: Scene, rows: Sequence[Row], _moment: Moment) -> Result:
    """What the witnesses say together: which device, what is wrong with it, and what to do."""
    assert scene.battery is not None
    battery, meter = _witnesses(rows)
    asked_w = _asked_w(of_phase(rows, DISCHARGE, CHARGE))
    measures = {"probe_w": asked_w, "battery_ratio": battery.ratio, "meter_ratio": meter.ratio}
    device_id, meter_id = scene.battery.device_id, scene.rules.meter_id or "the meter"
    finding = _no_room(scene, rows) or _verdict(scene, rows, battery, meter, device_id=device_id, meter_id=meter_id)
    return result([finding], measures)


def _no_room(scene: Scene, rows: Sequence[Row]) -> Finding | None:
    moved = of_phase(rows, CHARGE, DISCHARGE)
    least_w = PROBE_SHARE * scene.rated_w / 2.0
    for phase, name in ((CHARGE, "charge"), (DISCHARGE, "discharge")):
        there = of_phase(rows, phase)
        if there and max(abs(row.asked_w) for row in there) < least_w:
            clips = next((row.clips for row in reversed(there) if row.clips), "a limit that is not named")
            text = f"there is no room for a {name} of {PROBE_SHARE:.0%} of the rating: {clips}"
            return Finding(Word.FAILED, "no_room", text, "make room (SoC, limits, orders), then --resume")
    if not moved:
        return Finding(Word.FAILED, "not_moved", "the battery did not come to rest before the test", HINT_REST)
    return None


HINT_REST = "look at ems explain and at the device's own display: who moves it?"
HINT_BATTERY = (
    "mend its profile (sign of setpoint and power) or its own setting of the sign, compare with its display, "
    "then --resume"
)
HINT_SCALE = "mend the scale in its profile, or its unit, compare with its display, then --resume"


def _verdict(
    scene: Scene, rows: Sequence[Row], battery: Witness, meter: Witness, *, device_id: str, meter_id: str
) -> Finding:
    ways = (battery.way, meter.way)
    said = f"{device_id} says {_times(battery)}, {meter_id} says {_times(meter)} what was asked"
    if battery.way is Way.RIGHT and meter.way in (Way.RIGHT, Way.UNKNOWN):
        alone = "" if meter.way is Way.RIGHT else "; no meter to compare with"
        return Finding(Word.PASSED, "sign_and_scale", f"sign and scale are right: {said}{alone}")
    if ways == (Way.RIGHT, Way.REVERSED):
        return _reversed(rows, said, device_id, meter_id)
    if ways == (Way.RIGHT, Way.BLIND):
        text = f"{meter_id} does not see {device_id} move: {said}; it is another meter, or measures another line"
        hint = "check unit id and address of the meter, and where its current transformers sit, then --resume"
        return Finding(Word.FAILED, "meter_blind", text, hint)
    if battery.way is Way.RIGHT:
        hint = (
            f"mend the ratio of its current transformers or its scale at {meter_id}, or quieten the load, then --resume"
        )
        code = "meter_scale" if meter.way is Way.SCALED else "meter_factor"
        return Finding(Word.FAILED, code, f"the scale of {meter_id} is wrong: {said}", hint)
    if ways == (Way.BLIND, Way.BLIND) or (battery.way is Way.BLIND and meter.way is Way.UNKNOWN):
        text = f"{device_id} takes setpoints and does not follow them: {said}"
        return Finding(
            Word.FAILED, "not_followed", text, "check its remote/local switch, its limits and its alarms, then --resume"
        )
    return _battery_wrong(scene, battery, meter, said, device_id)


def _battery_wrong(scene: Scene, battery: Witness, meter: Witness, said: str, device_id: str) -> Finding:
    """The battery's own measurement does not fit; the meter tells whether its setpoint does."""
    if meter.way is Way.RIGHT:
        if battery.way is Way.REVERSED:
            text = f"the measured power of {device_id} is reversed (its setpoint is right): {said}"
            return Finding(Word.FAILED, "battery_reading_reversed", text, HINT_BATTERY)
        text = f"the scale of {device_id}'s measured power is wrong (its setpoint is right): {said}"
        return Finding(Word.FAILED, "battery_reading_scale", text, HINT_SCALE)
    if battery.way is Way.REVERSED and meter.way in (Way.REVERSED, Way.UNKNOWN):
        text = f"the setpoint of {device_id} is reversed: told to discharge it charges; {said}"
        return Finding(Word.FAILED, "setpoint_reversed", text, HINT_BATTERY)
    if scene.rules.meter_id is None or _alike(battery, meter):
        text = f"the scale of {device_id}'s setpoint is wrong, it gives another power than it is told: {said}"
        return Finding(Word.FAILED, "setpoint_scale", text, HINT_SCALE)
    text = f"{device_id} and the meter both contradict what was asked, and each other: {said}"
    return Finding(
        Word.FAILED, "contradiction", text, "compare both with their displays, mend one after the other, then --resume"
    )


def _alike(battery: Witness, meter: Witness) -> bool:
    if battery.ratio is None or meter.ratio is None:
        return False
    return METER_RATIO[0] <= meter.ratio / battery.ratio <= METER_RATIO[1]


def _reversed(rows: Sequence[Row], said: str, device_id: str, meter_id: str) -> Finding:
    """The battery agrees with us and the meter says the opposite: the SoC tells who is right."""
    tell = of_phase(rows, TELL)
    change_pct = soc_change_pct(tell) if soc_steps(tell) >= TOLD_STEPS else None
    if change_pct is None:
        text = f"{meter_id} is reversed, or {device_id} with setpoint and power: {said}; the SoC is too coarse to tell"
        hint = (
            "look at the battery's display while it discharges: what it shows is right; mend the other, then --resume"
        )
        return Finding(Word.FAILED, "meter_or_battery_reversed", text, hint)
    if change_pct > 0.0:
        text = (
            f"{device_id} is reversed, setpoint and measured power alike: told to discharge its SoC rose by "
            f"{change_pct:.2f} %; {said}"
        )
        return Finding(Word.FAILED, "battery_reversed", text, HINT_BATTERY)
    text = f"{meter_id} is reversed: told to discharge the SoC of {device_id} fell by {-change_pct:.2f} %; {said}"
    return Finding(Word.FAILED, "meter_reversed", text, _meter_hint(tell, meter_id))


def _meter_hint(rows: Sequence[Row], meter_id: str) -> str:
    """Whether the site file's `positive` is wrong or the wiring, by the counters, which keep their names."""
    counted = [row.net_wh for row in rows if row.net_wh is not None]
    powers = [row.grid_w for row in rows if row.grid_w is not None]
    moved_wh = counted[-1] - counted[0] if len(counted) > 1 else 0.0
    mean_w = sum(powers) / len(powers) if powers else 0.0
    if moved_wh * mean_w < 0.0:
        return (
            "its energy counters count the right way, so only the sign of its power is stated wrongly: turn "
            f'"positive" of {meter_id} in the site file, restart the agent, then --resume'
        )
    return (
        f'turn its current transformers (or its wiring), or, where it is wired as its maker says, "positive" of '
        f"{meter_id} in the site file; then --resume"
    )


def _times(one: Witness) -> str:
    return "nothing" if one.ratio is None else f"{one.ratio:+.2f} times"
