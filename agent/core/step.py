"""One whole control tick: `step(rules, state, inputs) -> (state, effects)`, pure and replayable."""

from __future__ import annotations

from dataclasses import replace

from agent.core.allocate import allocate
from agent.core.authority import Authority, Source, decide
from agent.core.conditions import present, transitions
from agent.core.decision import Decision, Effects, Inputs, SetpointWrite, State
from agent.core.envelope import battery_bounds, clamp, connection_bound, projection_s
from agent.core.events import Event, EventState, Severity
from agent.core.plan import Target
from agent.core.rules import BatteryRules, SiteRules
from agent.core.site_view import SiteView, view
from agent.core.slot_energy import (
    SlotAccount,
    SlotRecord,
    advance,
    close,
    net_counter_wh,
    tracked_power_w,
)
from agent.core.snapshot import BatterySample
from agent.core.writes import WriteReason, WriteState, due, settled, watched


def step(rules: SiteRules, state: State, inputs: Inputs) -> tuple[State, Effects]:
    """The state after this tick, and what the shell must do.

    Order: age the readings, account for the energy since the last tick, decide who decides, aim, clamp, share
    out, compare with what the devices hold, tell what changed.
    """
    now = view(rules, inputs)
    authority = decide(
        rules,
        inputs.plans,
        inputs.utc_s,
        clock_trusted=inputs.clock_trusted,
        meter_good=now.grid_w is not None,
    )
    account, closed = _account(state, inputs, now, authority)
    aim_w = _aim(rules, authority, account, now, inputs)
    ahead_s = projection_s(rules, authority.slot.end_utc_s if authority.slot else None, inputs.utc_s)
    room = {
        battery_rules.device_id: battery_bounds(battery_rules, sample, ahead_s)
        for battery_rules, sample in zip(rules.batteries, now.batteries, strict=True)
    }
    site_w, site_clips = clamp(aim_w, (connection_bound(rules, now.others_w),))
    shares_w, unit_clips = allocate(site_w, room)
    ledger, writes, events = _write(rules, state, inputs, now, shares_w)
    setpoint_w = sum(shares_w.values())
    conditions = present(rules, now, ledger, setpoint_w, inputs.mono_s, clock_trusted=inputs.clock_trusted)
    events += transitions(state.conditions, conditions, inputs.utc_s)
    events += _source_change(state, authority, inputs.utc_s)
    counter_wh = net_counter_wh(now.meter, inputs.mono_s) if now.meter is not None else None
    decision = Decision(
        utc_s=inputs.utc_s,
        mono_s=inputs.mono_s,
        source=authority.source,
        version=authority.version,
        why=authority.why,
        slot=authority.slot,
        target=authority.target,
        planned_w=authority.power_w,
        target_w=aim_w,
        setpoint_w=setpoint_w,
        clips=site_clips + unit_clips,
        shares_w=shares_w,
        battery_w=now.battery_w,
        pv_w=now.pv_w,
        load_w=now.load_w,
        grid_w=now.grid_w,
        soc_pct=now.soc_pct,
        frequency_hz=now.frequency_hz,
        slot_done_wh=account.done_wh(counter_wh) if account is not None else None,
        writes=writes,
    )
    after = State(inputs.mono_s, inputs.utc_s, authority.source, account, ledger, conditions)
    return after, Effects(decision, writes, tuple(events), account, closed)


def _account(
    state: State, inputs: Inputs, now: SiteView, authority: Authority
) -> tuple[SlotAccount | None, SlotRecord | None]:
    """The account of the slot that runs now, and the record of the one that closed.

    A slot found in its middle (restart, new plan) is anchored on the counters where they reach back to its start.
    """
    account, closed = state.account, None
    dt_s = inputs.mono_s - state.last_mono_s if state.last_mono_s is not None else 0.0
    slot = authority.slot
    if account is not None and slot is not None and account.same_time(slot):
        promised = replace(account, slot=slot, source=authority.source, version=authority.version)
        return advance(promised, dt_s, now.grid_w, now.battery_w), None
    if account is not None:
        # A tick after the edge belongs to the old slot only up to the edge.
        over_s = max(inputs.utc_s - account.slot.end_utc_s, 0.0)
        account = advance(account, max(dt_s - over_s, 0.0), now.grid_w, now.battery_w)
        closed = close(account, _counter_at(now, inputs, over_s), now.soc_pct)
    if slot is None:
        return None, closed
    since_start_s = max(inputs.utc_s - slot.start_utc_s, 0.0)
    begun = SlotAccount(slot, authority.source, authority.version, _counter_at(now, inputs, since_start_s))
    account = advance(begun, min(dt_s, since_start_s), now.grid_w, now.battery_w)
    return account, closed


def _counter_at(now: SiteView, inputs: Inputs, ago_s: float) -> float | None:
    """Net connection energy `ago_s` before this tick."""
    return net_counter_wh(now.meter, inputs.mono_s - ago_s) if now.meter is not None else None


def _aim(rules: SiteRules, authority: Authority, account: SlotAccount | None, now: SiteView, inputs: Inputs) -> float:
    """The wanted battery power before limits.

    A target at the connection point needs PV and load now; without them the planned power is asked of the
    battery itself (open loop), and the envelope decides whether the site may do that at all.
    """
    if authority.target is Target.BATTERY:
        return authority.power_w
    if now.others_w is None:
        return authority.power_w
    grid_w = authority.power_w
    if account is not None:
        counter_wh = _counter_at(now, inputs, 0.0)
        grid_w = tracked_power_w(account, inputs.utc_s, rules.tick_s, counter_wh)
    return grid_w - now.others_w


def _write(
    rules: SiteRules, state: State, inputs: Inputs, now: SiteView, shares_w: dict[str, float]
) -> tuple[tuple[WriteState, ...], tuple[SetpointWrite, ...], list[Event]]:
    """The ledger brought up to date, the writes that are due, and what was noticed on the way."""
    held = {line.device_id: line for line in state.writes}
    outcomes = {outcome.device_id: outcome for outcome in inputs.outcomes}
    ledger: list[WriteState] = []
    writes: list[SetpointWrite] = []
    events: list[Event] = []
    for battery_rules, sample in zip(rules.batteries, now.batteries, strict=True):
        line = held.get(battery_rules.device_id, WriteState(battery_rules.device_id))
        if line.device_id in outcomes:
            line = settled(line, outcomes[line.device_id])
        line = watched(line, sample.held_setpoint_w, sample.power_w, battery_rules, inputs.mono_s)
        share_w = shares_w[line.device_id]
        reason = _due(line, share_w, sample, battery_rules, inputs.mono_s)
        if reason is WriteReason.LOST:
            events.append(_reassert_event(line, sample, inputs.utc_s))
            line = replace(line, reasserts=line.reasserts + 1)
        if reason is not None:
            writes.append(SetpointWrite(line.device_id, share_w, reason))
            line = replace(line, in_flight=True)
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
    severity = Severity.INFO if authority.source is Source.ROLLING else Severity.WARNING
    data = {"from": state.source, "to": authority.source}
    return [Event(utc_s, EventState.NOTED, severity, "source_changed", "site", authority.why, data)]
