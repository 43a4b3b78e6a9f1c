"""What is wrong now, as a set of conditions; the difference between two ticks becomes events."""

from __future__ import annotations

from collections.abc import Container, Mapping

from agent.core.awards import Response
from agent.core.battery_model import BatteryModel
from agent.core.bounds import CLIP_EPSILON_W, Rank
from agent.core.decision import Condition, Decision
from agent.core.delegation import NOBODY, Handed
from agent.core.events import Event, EventState, Severity
from agent.core.frequency import TROUBLE_TEXT, stuck
from agent.core.pv_control import PvTick
from agent.core.reserve import Short
from agent.core.reserve_duty import Duty
from agent.core.rules import BatteryRules, SiteRules
from agent.core.site_view import SiteView
from agent.core.snapshot import Quality, Reading
from agent.core.writes import REASSERTS_UNTIL_ALARM, WriteState, not_following, refused

Conditions = Mapping[tuple[str, str], Condition]

SOC_TOLERANCE_PCT = 0.5
"""SoC outside its band by more than this is told (invariant 2)."""


def present(
    rules: SiteRules,
    now: SiteView,
    writes: tuple[WriteState, ...],
    decision: Decision,
    pv: PvTick,
    *,
    duty: Duty,
    short: tuple[Short, ...],
    models: Mapping[str, BatteryModel],
    clock_trusted: bool,
    before: Conditions,
    handed: Handed = NOBODY,
) -> dict[tuple[str, str], Condition]:
    """All conditions that hold at this tick, by (code, subject); `before` are those of the last tick."""
    found: list[Condition] = []
    if not clock_trusted:
        text = (
            "the clock is earlier than the last time known to be good: plans are not executed; set the clock. Where it "
            "is right and was wrong before: ems clock trust"
        )
        found.append(Condition("clock_untrusted", "site", Severity.ALARM, text))
    found += _silent_devices(now, decision.mono_s)
    found += _implausible(now)
    found += _soc_outside(rules, now, before)
    found += _connection_exceeded(rules, now, decision.setpoint_w)
    found += _given_up(decision)
    if duty.lines:
        found += _of_awards(now, duty, short, handed)
    found += pv.conditions
    found += _contradicted(models)
    for battery_rules, state in zip(rules.batteries, writes, strict=True):
        found += _write_trouble(state, decision.mono_s, battery_rules)
    if not found:
        return {}
    return {(told.code, told.subject): told for told in found if told.code not in pv.quiet}


def transitions(before: Conditions, after: Conditions, utc_s: float) -> list[Event]:
    """RAISED for each condition that began, CLEARED for each that ended."""
    if before.keys() == after.keys():
        return []
    raised = [
        Event(utc_s, EventState.RAISED, c.severity, c.code, c.subject, c.text, c.data)
        for key, c in after.items()
        if key not in before
    ]
    cleared = [
        Event(utc_s, EventState.CLEARED, c.severity, c.code, c.subject, f"over: {c.text}")
        for key, c in before.items()
        if key not in after
    ]
    return raised + cleared


def _silent_devices(now: SiteView, mono_s: float) -> list[Condition]:
    found: list[Condition] = []
    for battery in now.batteries:
        if battery.power_w.value is None:
            effect = "it is not written to and its own dead-man returns it to 0 kW"
            found.append(_silent(battery.device_id, battery.power_w, mono_s, effect))
        if battery.power_w.value is not None and battery.soc_pct.value is None:
            text = f"SoC {battery.soc_pct.quality}: the battery rests at 0 kW until its SoC can be read"
            found.append(Condition("soc_unknown", battery.device_id, Severity.ALARM, text))
        if battery.power_w.value is not None and battery.capacity_wh.value is None:
            why = battery.capacity_wh.quality
            text = f"capacity {why}: the battery rests at 0 kW until it, or the site file (capacity), states one"
            found.append(Condition("capacity_unknown", battery.device_id, Severity.ALARM, text))
        if battery.has_dead_man is False:
            text = "the device has no dead-man: it would hold its last setpoint for ever if this agent died"
            found.append(Condition("no_dead_man", battery.device_id, Severity.WARNING, text))
        if battery.ready.value == 0:
            text = "not connected, not running or in local control: check the unit, then set it to remote"
            found.append(Condition("not_ready", battery.device_id, Severity.WARNING, text))
    for pv in now.pvs:
        if pv.power_w.value is None:
            found.append(_silent(pv.device_id, pv.power_w, mono_s, "PV and load cannot be told apart"))
    if now.meter is not None and now.meter.power_w.value is None:
        effect = "control at the connection point is open loop or at rest"
        found.append(_silent(now.meter.device_id, now.meter.power_w, mono_s, effect))
    return found


def _silent(device_id: str, power: Reading, mono_s: float, effect: str) -> Condition:
    age_s = mono_s - power.read_mono_s
    since = "no reading yet" if age_s == float("inf") else f"no good reading for {age_s:.0f} s ({power.quality})"
    text = f"{since}: {effect}; check power, cable and address"
    return Condition("device_silent", device_id, Severity.ALARM, text)


def _soc_outside(rules: SiteRules, now: SiteView, before: Conditions) -> list[Condition]:
    """Raised beyond the band by the tolerance, over once inside by it: a SoC that wavers at the edge is told once.

    A SoC that cannot be read neither begins nor ends it.
    """
    found: list[Condition] = []
    for battery_rules, battery in zip(rules.batteries, now.batteries, strict=True):
        soc_pct = battery.soc_pct.value
        standing = ("soc_outside_band", battery.device_id) in before
        beyond_pct = -SOC_TOLERANCE_PCT if standing else SOC_TOLERANCE_PCT
        low_pct, high_pct = battery_rules.soc_min_pct - beyond_pct, battery_rules.soc_max_pct + beyond_pct
        if standing if soc_pct is None else not low_pct <= soc_pct <= high_pct:
            band = f"{battery_rules.soc_min_pct:g} to {battery_rules.soc_max_pct:g} %"
            text = f"SoC outside its band of {band}: power is allowed only toward the band"
            found.append(Condition("soc_outside_band", battery.device_id, Severity.WARNING, text))
    return found


def _connection_exceeded(rules: SiteRules, now: SiteView, setpoint_w: float) -> list[Condition]:
    if now.others_w is None:
        return []
    grid_w = now.others_w + setpoint_w
    if -rules.import_limit_w - CLIP_EPSILON_W <= grid_w <= rules.export_limit_w + CLIP_EPSILON_W:
        return []
    text = "PV and load alone break the connection limit and the batteries cannot take the rest"
    return [Condition("connection_limit_exceeded", "site", Severity.ALARM, text)]


def _implausible(now: SiteView) -> list[Condition]:
    """Readings that cannot be meant and that nothing else tells."""
    found: list[Condition] = []
    for battery in now.batteries:
        charge_w, discharge_w = battery.rated_charge_w.value, battery.rated_discharge_w.value
        if (charge_w is not None and charge_w <= 0.0) or (discharge_w is not None and discharge_w <= 0.0):
            text = (
                "the device states a rated power of 0 W or less: no power that way; check its profile's scale factors"
            )
            found.append(Condition("rating_implausible", battery.device_id, Severity.WARNING, text))
    if now.meter is not None and now.meter.frequency_hz.quality is Quality.IMPLAUSIBLE:
        text = "the frequency cannot be true on this grid: check `nominal_hz` in the site file and the meter's scale"
        found.append(Condition("frequency_implausible", now.meter.device_id, Severity.WARNING, text))
    return found


def _of_awards(now: SiteView, duty: Duty, short: tuple[Short, ...], handed: Handed) -> list[Condition]:
    """What is wrong with the awards in force."""
    found = [_not_backed(one) for one in short]
    found += _unanswered(duty.response, by_devices=handed.answered_by_devices())
    if now.meter is not None and stuck(duty.frequency):
        text = "no change of frequency for ten minutes: check the meter and its resolution; awards are answered by it"
        found.append(Condition("frequency_stuck", now.meter.device_id, Severity.WARNING, text))
    return found + _answered_twice(now, max(line.table.full_hz for line in duty.lines), handed.answers)


def _not_backed(short: Short) -> Condition:
    text = f"there are only {short.text} for this award now: tell the market before it finds out"
    return Condition("award_not_backed", short.award_id, Severity.ALARM, text)


def _given_up(decision: Decision) -> list[Condition]:
    """Orders and awards whose bounds had to be broken."""
    found: list[Condition] = []
    for softened in decision.softened:
        if softened.rank is Rank.CURTAILMENT:
            text = f"{softened.limit} cannot be kept against: {softened.by}; the batteries do what they can"
            found.append(Condition("curtailment_exceeded", softened.owner, Severity.ALARM, text))
        elif softened.rank is Rank.AWARD:
            text = f"{softened.limit} cannot be kept against: {softened.by}; tell the market before it finds out"
            found.append(Condition("award_not_backed", softened.owner, Severity.ALARM, text))
    return found


def _unanswered(response: Response, *, by_devices: bool) -> list[Condition]:
    if by_devices:
        return [
            Condition(
                "award_unwatched", answer.award_id, Severity.WARNING,
                f"the devices answer by their own measurement, and what they owe is not known: "
                f"{TROUBLE_TEXT[answer.trouble]}",
            )
            for answer in response.answers
            if answer.trouble is not None
        ]  # fmt: skip
    return [
        Condition("award_unanswered", answer.award_id, Severity.ALARM, TROUBLE_TEXT[answer.trouble])
        for answer in response.answers
        if answer.trouble is not None
    ]


def _answered_twice(now: SiteView, full_hz: float, handed_to: Container[str]) -> list[Condition]:
    """Batteries that answer the frequency by themselves, unasked, before the award is called in full."""
    found: list[Condition] = []
    for battery in now.batteries:
        if battery.device_id in handed_to:
            continue
        from_hz = battery.own_droop_from_hz.value
        if from_hz is not None and from_hz < full_hz:
            text = (
                f"the device answers the frequency by itself from {from_hz * 1e3:g} mHz on, on top of our setpoints: "
                "the award is answered twice; switch off its droop (SunSpec 711), or widen its dead band"
            )
            found.append(Condition("own_droop", battery.device_id, Severity.WARNING, text))
    return found


def _contradicted(models: Mapping[str, BatteryModel]) -> list[Condition]:
    text = "SoC and measured energy do not belong together: margins are wider; check the BMS, then its calibration"
    return [
        Condition("soc_contradicts_energy", device_id, Severity.WARNING, text)
        for device_id, model in models.items()
        if model.contradicted
    ]


def _write_trouble(state: WriteState, mono_s: float, rules: BatteryRules) -> list[Condition]:
    found: list[Condition] = []
    if refused(state):
        text = "setpoint writes fail or are not confirmed by read-back; `ems explain` shows the last answer"
        found.append(Condition("setpoint_refused", state.device_id, Severity.ALARM, text))
    if state.reasserts >= REASSERTS_UNTIL_ALARM:
        text = "the device keeps losing or changing our setpoint: look for a second controller or a reboot loop"
        found.append(Condition("setpoint_not_held", state.device_id, Severity.ALARM, text))
    if not_following(state, mono_s, rules):
        text = "the setpoint is confirmed by read-back but measured power does not follow it"
        found.append(Condition("not_following", state.device_id, Severity.ALARM, text))
    return found
