"""The steps of commissioning that move nothing: identity, static limits, readings, the cloud."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agent.core.commissioning_limits import (
    AT_REST_SHARE,
    CLOUD_WITHIN_S,
    DEAD_MAN_MOST_S,
    HOME_WITHIN_S,
    NOISE_SIGMAS,
    RATING_APART_SHARE,
    RATING_STRANGE,
    READINGS_AT_REST,
    SOC_MARGIN_PCT,
)
from agent.core.commissioning_log import Row, battery_points, meter_points, noise_of, restless_w, tail_mean
from agent.core.commissioning_signs import rest_phase
from agent.core.commissioning_terms import DeviceFacts, Finding, Moment, Phase, Result, Scene, Word, result, skipped
from agent.core.rules import BatteryRules
from agent.core.snapshot import BatterySample


def at_once(_scene: Scene, _rows: Sequence[Row], _moment: Moment) -> Phase | None:
    """No phase: what is to be judged is known already."""
    return None


def judge_identity(_scene: Scene, _rows: Sequence[Row], moment: Moment) -> Result:
    """Whether every device is there, and the one that the site file means."""
    return result([_identity(device) for device in moment.devices])


def _identity(device: DeviceFacts) -> Finding:
    said = [device.manufacturer, device.model]
    said += [f"serial {device.serial}" if device.serial else None]
    said += [f"firmware {device.firmware}" if device.firmware else None]
    who = " ".join(part for part in said if part) or "nameless"
    if device.stranger:
        text = f"{device.device_id} is the wrong device: {device.trouble}"
        hint = "check address, unit id and cable, or the profile and expected_serial in the site file; then --resume"
        return Finding(Word.FAILED, "wrong_device", text, hint)
    if not device.answers:
        text = f"{device.device_id} at {device.endpoint} does not answer: {device.trouble or 'never heard of'}"
        return Finding(Word.FAILED, "device_silent", text, "check power, cable, address and unit id, then --resume")
    if device.remote is False:
        text = f"{device.device_id} ({who}) is in local control and takes no setpoints"
        return Finding(Word.FAILED, "local_control", text, "set it to remote at the device, then --resume")
    if device.expected_serial is None and device.serial is not None:
        text = f"{device.device_id} is {who}; any other device of its kind would be accepted in its place"
        hint = f'state expected_serial = "{device.serial}" in the site file'
        return Finding(Word.REMARK, "any_serial", text, hint)
    return Finding(Word.PASSED, "identity", f"{device.device_id} is {who}")


def judge_limits(scene: Scene, _rows: Sequence[Row], moment: Moment) -> Result:
    """Whether what the site file states fits what the devices state."""
    found: list[Finding] = []
    for battery in scene.rules.batteries:
        sample = moment.battery(battery.device_id)
        facts = next((one for one in moment.devices if one.device_id == battery.device_id), None)
        if sample is not None:
            found += _ratings(battery, sample)
        found += _dead_man(battery, facts)
    found += _connection(scene)
    return result(found or [Finding(Word.PASSED, "limits", "site file and devices agree")])


def _ratings(battery: BatteryRules, sample: BatterySample) -> Iterator[Finding]:
    pairs = (
        ("discharge", battery.rated_discharge_w, sample.rated_discharge_w.value),
        ("charge", battery.rated_charge_w, sample.rated_charge_w.value),
    )
    for name, ours_w, theirs_w in pairs:
        if theirs_w is None:
            continue
        text = f"{battery.device_id}: {name} {ours_w / 1e3:g} kW in the site file, {theirs_w / 1e3:g} kW by the device"
        if theirs_w <= 0.0 or not RATING_STRANGE[0] <= ours_w / theirs_w <= RATING_STRANGE[1]:
            hint = "it is another device, or its scale is wrong: compare with its nameplate, then --resume"
            yield Finding(Word.FAILED, "rating_strange", text, hint)
        elif abs(ours_w - theirs_w) > RATING_APART_SHARE * theirs_w:
            yield Finding(Word.REMARK, "rating_apart", f"{text}; the smaller one holds", "correct rated_power if wrong")
        else:
            yield Finding(Word.PASSED, "rating", text)
    window = f"SoC window {battery.soc_min_pct:g} to {battery.soc_max_pct:g} %"
    capacity_wh = sample.capacity_wh.value
    if capacity_wh is None:
        text = f"{battery.device_id}: neither device nor site file states a capacity"
        yield Finding(Word.FAILED, "no_capacity", text, "state capacity in the site file, then --resume")
    else:
        yield Finding(Word.PASSED, "window", f"{battery.device_id}: {window} of {capacity_wh / 1e3:g} kWh")


def _dead_man(battery: BatteryRules, facts: DeviceFacts | None) -> Iterator[Finding]:
    if battery.dead_man_s > DEAD_MAN_MOST_S:
        text = f"{battery.device_id}: dead_man is {battery.dead_man_s:g} s; at most {DEAD_MAN_MOST_S:g} s are allowed"
        yield Finding(Word.FAILED, "dead_man_long", text, "state a shorter dead_man in the site file, then --resume")
    if facts is not None and facts.has_dead_man is False:
        text = f"{battery.device_id} has no dead-man: it would hold its last setpoint if the gateway died"
        hint = "fit a watchdog in the device or in front of it, or accept this in writing in the report"
        yield Finding(Word.REMARK, "no_dead_man", text, hint)


def _connection(scene: Scene) -> Iterator[Finding]:
    rules = scene.rules
    discharge_w = sum(battery.rated_discharge_w for battery in rules.batteries)
    charge_w = sum(battery.rated_charge_w for battery in rules.batteries)
    text = (
        f"connection: export {rules.export_limit_w / 1e3:g} kW, import {rules.import_limit_w / 1e3:g} kW; batteries "
        f"{discharge_w / 1e3:g} kW discharge, {charge_w / 1e3:g} kW charge"
    )
    if rules.meter_id is None and not rules.battery_alone:
        hint = "put the meter of the connection point into the site file, then --resume"
        yield Finding(Word.FAILED, "no_meter", f"{text}; PV or load, and no meter at the connection point", hint)
    else:
        yield Finding(Word.PASSED, "connection", text)


READ = "read"


def read_script(scene: Scene, rows: Sequence[Row], _moment: Moment) -> Phase | None:
    """Everything at rest, read a few times."""
    if rows:
        return None

    def over(seen: Sequence[Row]) -> bool:
        enough = min(len(battery_points(seen)), len(meter_points(seen)) if scene.rules.meter_id else READINGS_AT_REST)
        return enough >= READINGS_AT_REST and rest_phase(scene, READ).over(seen)

    return Phase(READ, 0.0, HOME_WITHIN_S, over)


def judge_readings(scene: Scene, rows: Sequence[Row], moment: Moment) -> Result:
    """Whether a battery and the meter are read, plausible, at rest, and free to be moved."""
    assert scene.battery is not None
    found = list(_battery_readings(scene.battery, rows, moment, AT_REST_SHARE * scene.rated_w))
    found += _meter_readings(scene, rows)
    found += [
        Finding(Word.FAILED, code, f"{subject}: {text}", "mend this first, then --resume")
        for (code, subject), text in moment.alarms.items()
        if subject in (scene.battery.device_id, "site", scene.rules.meter_id)
    ]
    battery, meter = battery_points(rows), meter_points(rows)
    measures = {
        "battery_at_rest_w": tail_mean(battery),
        "battery_noise_w": noise_of(battery),
        "meter_noise_w": restless_w(meter) if meter else None,
        "soc_pct": rows[-1].soc_pct if rows else None,
    }
    return result(found, measures)


def _battery_readings(battery: BatteryRules, rows: Sequence[Row], moment: Moment, small_w: float) -> Iterator[Finding]:
    device_id, sample = battery.device_id, moment.battery(battery.device_id)
    rest_w = tail_mean(battery_points(rows))
    if sample is None or rest_w is None or sample.power_w.value is None:
        text = f"{device_id}: no power is read"
        yield Finding(Word.FAILED, "battery_unread", text, f"ems devices read {device_id} shows why; then --resume")
        return
    if abs(rest_w) > small_w:
        text = f"{device_id} shows {rest_w / 1e3:+.2f} kW although it is told to rest"
        hint = "something else moves it, or its reading has an offset or a wrong scale: look at its display; --resume"
        yield Finding(Word.FAILED, "battery_not_at_rest", text, hint)
    if sample.ready.value != 1:
        text = f"{device_id} is not connected, not running or in local control"
        yield Finding(Word.FAILED, "not_ready", text, "start it and set it to remote, then --resume")
    soc_pct = sample.soc_pct.value
    low_pct, high_pct = battery.soc_min_pct + SOC_MARGIN_PCT, battery.soc_max_pct - SOC_MARGIN_PCT
    if soc_pct is None:
        yield Finding(
            Word.FAILED, "soc_unread", f"{device_id}: no SoC is read", f"ems devices read {device_id}; then --resume"
        )
    elif not low_pct <= soc_pct <= high_pct:
        text = f"{device_id}: SoC {soc_pct:.1f} %; both ways can be tried only from {low_pct:g} to {high_pct:g} %"
        hint = 'bring it there first: ems override set KW --for 30m --reason "..."; then --resume'
        yield Finding(Word.FAILED, "soc_outside", text, hint)
    else:
        text = f"{device_id}: {rest_w / 1e3:+.2f} kW at rest, SoC {soc_pct:.1f} %, every reading is fresh"
        yield Finding(Word.PASSED, "battery_read", text)


def _meter_readings(scene: Scene, rows: Sequence[Row]) -> Iterator[Finding]:
    rules = scene.rules
    if rules.meter_id is None:
        return
    powers = [row.grid_w for row in rows if row.grid_w is not None]
    if not powers:
        text = f"{rules.meter_id}: no power is read"
        yield Finding(Word.FAILED, "meter_unread", text, f"ems devices read {rules.meter_id}; then --resume")
        return
    grid_w = sum(powers) / len(powers)
    text = f"{rules.meter_id}: {grid_w / 1e3:+.2f} kW with all batteries at rest"
    noise_w = NOISE_SIGMAS * restless_w(meter_points(rows))
    if not -rules.import_limit_w - noise_w <= grid_w <= rules.export_limit_w + noise_w:
        hint = "check the ratio of its current transformers and its scale: PV and load alone break the limit; --resume"
        yield Finding(Word.FAILED, "beyond_connection", f"{text}: beyond the connection limit", hint)
    elif rules.battery_alone and abs(grid_w) > AT_REST_SHARE * scene.rated_w + noise_w:
        hint = "there is a load that the site file does not know (load = true), or it is another meter; --resume"
        yield Finding(Word.FAILED, "unknown_load", f"{text}, although nothing else is connected", hint)
    else:
        yield Finding(Word.PASSED, "meter_read", text)


CONFIRM = "confirm"


def cloud_script(_scene: Scene, rows: Sequence[Row], moment: Moment) -> Phase | None:
    """Wait until the cloud confirms what was sent."""
    if moment.cloud is None or (rows and (_confirmed(rows, moment) or _waited_s(rows, moment) >= CLOUD_WITHIN_S)):
        return None
    return Phase(CONFIRM, 0.0, CLOUD_WITHIN_S, lambda _seen: True)


def _confirmed(rows: Sequence[Row], moment: Moment) -> bool:
    return moment.cloud is not None and moment.cloud.connected and moment.cloud.confirmed_mono_s >= rows[0].mono_s


def _waited_s(rows: Sequence[Row], moment: Moment) -> float:
    return moment.mono_s - rows[0].mono_s


def judge_cloud(_scene: Scene, rows: Sequence[Row], moment: Moment) -> Result:
    """Whether a message went to the cloud and its confirmation came back."""
    cloud = moment.cloud
    if cloud is None:
        return skipped("no_cloud", "the site file names no cloud")
    if rows and _confirmed(rows, moment):
        took_s = cloud.confirmed_mono_s - rows[0].mono_s
        text = f"what was sent was confirmed after {took_s:.1f} s"
        return result([Finding(Word.PASSED, "round_trip", text)], {"round_trip_s": took_s})
    if not cloud.connected:
        text = f"no connection to the cloud: {cloud.trouble or 'no reason known'}"
        return result([Finding(Word.FAILED, "cloud_away", text, "ems status shows the link; mend it, then --resume")])
    text = f"connected, but nothing was confirmed within {CLOUD_WITHIN_S:g} s; {cloud.waiting} messages wait"
    hint = "ask the cloud's operator whether messages of this site arrive and are confirmed, then --resume"
    return result([Finding(Word.FAILED, "cloud_silent", text, hint)])
