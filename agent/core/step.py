"""One whole control tick: `step(rules, state, inputs) -> (state, effects)`, pure and replayable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from agent.core.authority import NOTHING_ABOVE, Above, Authority, Source, clock, decide
from agent.core.awards import NO_AWARDS
from agent.core.conditions import present, transitions
from agent.core.decision import Condition, Decision, Effects, Inputs, SetpointWrite, State
from agent.core.delegation import NOBODY, Handed, answered, beneath
from agent.core.dispatch import Request, dispatch
from agent.core.envelope import projection_s
from agent.core.events import Event, EventState, Severity
from agent.core.hand_over import NO_HAND_OVER, Tick, hand_over
from agent.core.latch import Latches, latched, why_site_stopped
from agent.core.plan import Target
from agent.core.pv_control import pv_tick
from agent.core.reserve_duty import Duty, afterwards, award_bounds, duty_now, suspended
from agent.core.rules import BatteryRules, SiteRules
from agent.core.site_view import SiteView, view
from agent.core.skew import with_setpoint
from agent.core.slot_energy import (
    Flows,
    SlotAccount,
    SlotRecord,
    advance,
    close,
    export_counter_wh,
    net_counter_wh,
    tracked_power_w,
    unplanned_slot,
)
from agent.core.snapshot import BatterySample
from agent.core.trial import shifted
from agent.core.units import connection_limits, fleet_now, site_bounds
from agent.core.writes import WriteReason, WriteState, due, let_be, refusing, sent, settled, watched


def step(rules: SiteRules, state: State, inputs: Inputs) -> tuple[State, Effects]:
    """The state after this tick, and what the shell must do.

    Order: age the readings, account for the energy since the last tick, decide who decides, aim, clamp and share
    out with the frequency response on top, compare with what the devices hold, tell what changed.
    """
    now = view(rules, inputs, refusing(state.writes), state)
    utc_s, mono_s = inputs.utc_s, inputs.mono_s
    dt_s = mono_s - state.last_mono_s if state.last_mono_s is not None else 0.0
    trusted = inputs.clock_trusted
    latches = latched(state.latches, now.batteries, utc_s)
    authority = decide(
        rules, inputs.plans, utc_s, clock_trusted=trusted, meter_good=now.grid_w is not None,
        above=_above(rules, latches, inputs), mono_s=mono_s, before=state.planning,
    )  # fmt: skip
    # With a clock that may be wrong no award can be known to count.
    awards = inputs.awards if trusted else NO_AWARDS
    reading = shifted(now.meter.frequency_hz if now.meter is not None else None, inputs.trial)
    duty = duty_now(rules, state.reserve, awards, reading, utc_s=utc_s, mono_s=mono_s, dt_s=dt_s)
    if authority.suspends_awards:
        duty, awards = suspended(duty), NO_AWARDS
    counter_wh = _counter_at(now, inputs, 0.0)
    account, closed = _account(rules, state, inputs, now, authority.planning, dt_s=dt_s)
    aim_w = _aim(authority, account, now, counter_wh, utc_s=utc_s, rules=rules)
    ahead_s = projection_s(rules, authority.slot.end_utc_s if authority.slot else None, utc_s)
    fleet = fleet_now(rules, state, inputs, now, ahead_s=ahead_s, dt_s=dt_s, latches=latches)
    handed = _handed(rules, state, inputs, now, duty) if rules.delegated else NOBODY
    limits = connection_limits(rules, inputs)
    bounds = site_bounds(rules, inputs, now, state.writes, handed, limits=limits)
    batteries = zip(rules.batteries, now.batteries, fleet.units, strict=True)
    reserved, short = award_bounds(duty, awards, batteries, bounds, utc_s=utc_s, ahead_s=ahead_s)
    owed_w, by_device_w = duty.response.power_w, handed.answers_w(fleet.units)
    response_w = handed.by_agent_w + sum(by_device_w.values()) if rules.delegated else owed_w
    request = Request(aim_w, response_w, reserved, by_device_w)
    done, dispatching = dispatch(request, fleet.units, bounds, rules.limits.ramp, state.dispatch, mono_s=mono_s)
    setpoints_w = beneath(done.shares_w, by_device_w)
    ledger, writes, events = _write(rules, state, inputs, now, setpoints_w, handed=handed)
    droops = NO_HAND_OVER
    if rules.delegated:
        tick = Tick(utc_s, mono_s, now.batteries, fleet.units, ledger, inputs.outcomes, writes, awards, owed_w)
        droops = hand_over(rules, handed, tick)
    pv = pv_tick(rules, state.pv, inputs, now, done, limits=limits)
    reserve, evidence = afterwards(
        state.reserve, duty, utc_s=utc_s, battery_w=now.battery_w,
        baseline_w=done.baseline_w, setpoint_w=done.power_w, clock_trusted=trusted, played=inputs.trial is not None,
    )  # fmt: skip
    decision = Decision(
        utc_s=utc_s, mono_s=mono_s, source=authority.source, version=authority.version, why=authority.why,
        slot=authority.slot, target=authority.target, planned_w=authority.power_w, target_w=aim_w,
        setpoint_w=done.power_w, baseline_w=done.baseline_w, clips=done.clips, softened=done.softened,
        shares_w=done.shares_w, battery_w=now.battery_w, pv_w=now.pv_w, load_w=now.load_w, grid_w=now.grid_w,
        soc_pct=now.soc_pct, frequency_hz=now.frequency_hz,
        slot_done_wh=account.done_wh(counter_wh) if account is not None and account.planned else None,
        writes=writes, command_id=authority.command_id, awards_suspended=authority.suspends_awards,
        pv_ceiling_w=pv.state.ceiling_w, by_device_w=by_device_w,
    )  # fmt: skip
    conditions = present(
        rules, now, ledger, decision, pv,
        duty=duty, short=short, models=fleet.models, clock_trusted=trusted, before=state.conditions, handed=handed,
    )  # fmt: skip
    if told := (*droops.conditions, *_latch_conditions(latches), *inputs.notices):
        conditions |= {(notice.code, notice.subject): notice for notice in told}
    events += transitions(state.conditions, conditions, utc_s)
    events += _source_change(state, authority, utc_s)
    after = State(
        mono_s, utc_s, authority.source, account, ledger, fleet.memories, fleet.models, dispatching, reserve,
        conditions, pv.state, latches, droops.lines,
        now.pairing, with_setpoint(state.told, now.pairing, mono_s, done.power_w) if now.pairing is not None else (),
        authority.planning,
    )  # fmt: skip
    return after, Effects(decision, writes, tuple(events), account, closed, evidence, pv.writes, droops.writes)


def _handed(rules: SiteRules, state: State, inputs: Inputs, now: SiteView, duty: Duty) -> Handed:
    """Who answers the frequency now."""
    hz = now.frequency_hz
    if duty.lines:
        troubled = any(answer.trouble is not None for answer in duty.response.answers)
        hz = None if troubled else duty.frequency.hz
    return answered(
        rules, state.droops, now.batteries, state.writes, inputs.droop_outcomes,
        owed_w=duty.response.power_w, hz=hz, utc_s=inputs.utc_s, mono_s=inputs.mono_s,
    )  # fmt: skip


def _above(rules: SiteRules, latches: Latches, inputs: Inputs) -> Above:
    asked = (inputs.override, inputs.order, inputs.trial)
    if not latches and not inputs.safe_mode and asked == (None, None, None):
        return NOTHING_ABOVE
    stopped = why_site_stopped(latches, [battery.device_id for battery in rules.batteries])
    return Above(stopped, *asked, inputs.safe_mode)


def _latch_conditions(latches: Latches) -> list[Condition]:
    return [
        Condition(
            "safety_latched", latch.device_id, Severity.ALARM,
            f"{latch.words}: stopped at 0 kW since {clock(latch.since_utc_s)}; mend the cause on site, then run "
            "ems latch reset",
            {"alarms": latch.words},
        )
        for latch in latches.values()
    ]  # fmt: skip


def _account(
    rules: SiteRules, state: State, inputs: Inputs, now: SiteView, authority: Authority, *, dt_s: float
) -> tuple[SlotAccount | None, SlotRecord | None]:
    """The account of the slot that runs now, and the record of the one that closed.

    A slot found in its middle (restart, new plan) is anchored on the counters where they reach back to its start.
    """
    account, closed = state.account, None
    slot, place = authority.slot, Target.BATTERY if rules.battery_alone else Target.GRID
    if slot is None and inputs.clock_trusted:
        slot = unplanned_slot(inputs.utc_s, place, account)
    flows = Flows(now.grid_w, now.battery_w, now.pv_w, now.load_w, state.reserve.response_w, has_pv=bool(rules.pv_ids))
    if account is not None and slot is not None and account.same_time(slot):
        if account.slot is not slot or account.version != authority.version:
            account = replace(account, slot=slot, source=authority.source, version=authority.version)
        return advance(account, dt_s, flows), None
    if account is not None:
        # A tick after the edge belongs to the old slot only up to the edge.
        over_s = max(inputs.utc_s - account.slot.end_utc_s, 0.0)
        account = advance(account, dt_s - over_s, flows)
        if not account.planned and inputs.utc_s < account.slot.end_utc_s:
            account = replace(account, slot=replace(account.slot, end_utc_s=inputs.utc_s))
        closed = close(account, _counter_at(now, inputs, over_s), _export_at(now, inputs, over_s), now.soc_pct)
    if slot is None:
        return None, closed
    since_start_s = max(inputs.utc_s - slot.start_utc_s, 0.0)
    begun = SlotAccount(
        slot,
        authority.source,
        authority.version,
        anchor_wh=_counter_at(now, inputs, since_start_s),
        anchor_export_wh=_export_at(now, inputs, since_start_s),
    )
    return advance(begun, min(dt_s, since_start_s), flows), closed


def _counter_at(now: SiteView, inputs: Inputs, ago_s: float) -> float | None:
    """Net connection energy `ago_s` before this tick."""
    return net_counter_wh(now.meter, inputs.mono_s - ago_s) if now.meter is not None else None


def _export_at(now: SiteView, inputs: Inputs, ago_s: float) -> float | None:
    return export_counter_wh(now.meter, inputs.mono_s - ago_s) if now.meter is not None else None


def _aim(
    authority: Authority,
    account: SlotAccount | None,
    now: SiteView,
    counter_wh: float | None,
    *,
    utc_s: float,
    rules: SiteRules,
) -> float:
    """The wanted battery power before limits and without frequency response.

    A target at the connection point needs PV and load now; without them the planned power is asked of the
    battery itself (open loop), and the envelope decides whether the site may do that at all.
    """
    if authority.target is Target.BATTERY or now.others_w is None:
        return authority.power_w - now.stray_w
    grid_w = authority.power_w
    if account is not None and authority.slot is not None:
        grid_w = tracked_power_w(account, utc_s, rules.tick_s, counter_wh, rules.reaction_s)
    return grid_w - now.others_w


def _write(
    rules: SiteRules, state: State, inputs: Inputs, now: SiteView, setpoints_w: Mapping[str, float], *, handed: Handed
) -> tuple[tuple[WriteState, ...], tuple[SetpointWrite, ...], list[Event]]:
    """The ledger brought up to date, the writes that are due, and what was noticed on the way."""
    held = {line.device_id: line for line in state.writes}
    outcomes = {outcome.device_id: outcome for outcome in inputs.outcomes} if inputs.outcomes else {}
    ledger: list[WriteState] = []
    writes: list[SetpointWrite] = []
    events: list[Event] = []
    for battery_rules, sample in zip(rules.batteries, now.batteries, strict=True):
        line = held.get(battery_rules.device_id) or WriteState(battery_rules.device_id)
        if line.device_id in outcomes:
            line = settled(line, outcomes[line.device_id])
        if inputs.trial is not None and inputs.trial.leaves_alone(line.device_id):
            ledger.append(let_be(line))
            continue
        answer_w = handed.range_w(line.device_id) if handed.answers else (0.0, 0.0)
        line = watched(line, sample.held_setpoint_w, sample.power_w, battery_rules, inputs.mono_s, answer_w=answer_w)
        share_w = setpoints_w[line.device_id]
        reason = _due(line, share_w, sample, battery_rules, inputs.mono_s)
        if reason is WriteReason.LOST:
            events.append(_reassert_event(line, sample, inputs.utc_s))
            line = replace(line, reasserts=line.reasserts + 1)
        if reason is not None:
            writes.append(SetpointWrite(line.device_id, share_w, reason))
            line = sent(line, share_w, sample.power_w.value or 0.0)
        ledger.append(line)
    return tuple(ledger), tuple(writes), events


def _due(
    line: WriteState, share_w: float, sample: BatterySample, rules: BatteryRules, now_mono_s: float
) -> WriteReason | None:
    """No write without fresh readings (invariant 4): the dead-man of a blind device must run out."""
    if sample.power_w.value is None:
        return None
    return due(line, share_w, sample.held_setpoint_w, rules, now_mono_s)


def _reassert_event(line: WriteState, sample: BatterySample, utc_s: float) -> Event:
    found = sample.held_setpoint_w.value
    text = "the device no longer holds our setpoint (reboot, reversion or another controller): written again"
    data = {"ours_w": line.owned_w, "found_w": found}
    return Event(utc_s, EventState.NOTED, Severity.WARNING, "setpoint_lost", line.device_id, text, data)


def _source_change(state: State, authority: Authority, utc_s: float) -> list[Event]:
    if state.source is authority.source:
        return []
    severity = _SEVERITY_OF.get(authority.source, Severity.WARNING)
    data = {"from": state.source, "to": authority.source}
    return [Event(utc_s, EventState.NOTED, severity, "source_changed", "site", authority.why, data)]


_SEVERITY_OF = {
    Source.LATCH: Severity.ALARM,
    Source.SAFE_MODE: Severity.ALARM,
    Source.COMMAND: Severity.INFO,
    Source.ROLLING: Severity.INFO,
}
