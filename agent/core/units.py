"""The batteries of the site as they may be used at this tick, and the bounds on all of them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from agent.core.allocate import Unit
from agent.core.battery_model import BatteryModel, fresh_model, observed
from agent.core.bounds import Bound
from agent.core.command_limits import Narrowing, battery_limits_bound, narrowed, standing
from agent.core.curtailment import ConnectionLimits, limits_now
from agent.core.decision import Inputs, State
from agent.core.delegation import NOBODY, Handed, allowing
from agent.core.derating import NO_CELLS, Cells
from agent.core.envelope import BatteryMemory, BatteryMoment, battery_unit, connection_bounds
from agent.core.latch import NO_LATCHES, Latches, why_stopped
from agent.core.made_often import made_often
from agent.core.outages import out_of_service
from agent.core.rules import BatteryRules, SiteRules
from agent.core.site_view import SiteView
from agent.core.snapshot import BatterySample
from agent.core.trial import confined
from agent.core.writes import WriteState, may_hold, refused

CONTRADICTED_MARGIN_PCT = 3.0
"""How much narrower the SoC window is at each end while SoC and energy contradict each other."""
SAME_CAPACITY_SHARE = 0.02
"""A stated capacity that moves less than this is the same battery (ageing, temperature): what was learned stays."""
DISPUTED_UNTIL_ANEW_S = 60.0
"""Another capacity must be stated for so long before what was learned is dropped: one odd reading costs nothing."""
FRESH_MEMORY = BatteryMemory()


@made_often
@dataclass(frozen=True, slots=True)
class Fleet:
    """The batteries at this tick, each list in the order of the site file."""

    units: tuple[Unit, ...]
    """As they may be used, with what was learned in them."""
    memories: Mapping[str, BatteryMemory]
    """What to remember for the next tick, by device id; the models too."""
    models: Mapping[str, BatteryModel]


def fleet_now(
    rules: SiteRules,
    state: State,
    inputs: Inputs,
    now: SiteView,
    *,
    ahead_s: float,
    dt_s: float,
    latches: Latches = NO_LATCHES,
) -> Fleet:
    """Each battery as it may be used, with what was learned of it, and what to remember of both."""
    units: list[Unit] = []
    memories: dict[str, BatteryMemory] = {}
    models: dict[str, BatteryModel] = {}
    held = {line.device_id: line for line in state.writes}
    reaction_s, outages = rules.reaction_s, inputs.orders.outages
    for battery_rules, sample in zip(rules.batteries, now.batteries, strict=True):
        device_id = battery_rules.device_id
        line = held.get(device_id)
        model = _model(state.models.get(device_id), battery_rules, sample, dt_s)
        if model is not None:
            models[device_id] = model
        learned = model if model is not None and model.stretches else None
        shared = battery_rules.limits.shared_inverter
        moment = BatteryMoment(
            mono_s=inputs.mono_s,
            dt_s=dt_s,
            ahead_s=ahead_s,
            reaction_s=reaction_s,
            outage_id=out_of_service(outages, inputs.utc_s, device_id) if outages else None,
            refused=line is not None and refused(line),
            stopped=why_stopped(latches, device_id),
            may_hold_w=may_hold(line, battery_rules, inputs.mono_s) if line is not None else None,
            capacity_wh=learned.capacity_wh if learned is not None else None,
            one_way_efficiency=learned.one_way_efficiency if learned is not None else None,
            pv_w=_pv_w(now, shared.pv_id) if shared is not None else None,
            cells=_cells(sample) if battery_rules.limits.deratings else NO_CELLS,
            believed_pct=model.believed_soc_pct if model is not None else None,
            soc_margin_pct=CONTRADICTED_MARGIN_PCT if model is not None and model.contradicted else 0.0,
        )
        memory = state.memories.get(device_id, FRESH_MEMORY)
        unit, memories[device_id] = battery_unit(battery_rules, battery_rules.limits, sample, moment, memory)
        units.append(unit)
    confined_to = inputs.trial
    return Fleet(tuple(units) if confined_to is None else confined(units, confined_to), memories, models)


def connection_limits(rules: SiteRules, inputs: Inputs) -> ConnectionLimits:
    """The limits at the connection point now: the site's own, those of an order, or what the cloud narrowed."""
    limits = limits_now(rules.export_limit_w, rules.import_limit_w, inputs.orders.curtailments, inputs.utc_s)
    narrowings = _standing(inputs)
    return narrowed(limits, narrowings) if narrowings else limits


def _standing(inputs: Inputs) -> Sequence[Narrowing]:
    if not inputs.narrowings:
        return ()
    return standing(inputs.narrowings, inputs.utc_s, inputs.mono_s, clock_trusted=inputs.clock_trusted)


def site_bounds(
    rules: SiteRules,
    inputs: Inputs,
    now: SiteView,
    writes: tuple[WriteState, ...],
    handed: Handed = NOBODY,
    *,
    limits: ConnectionLimits,
) -> tuple[Bound, ...]:
    """What curtailment orders and the connection point (`limits`) leave to all batteries together, softest first.

    A battery that fell silent or refuses setpoints may still hold what it was last told, until its dead-man ends it; a
    write that it did not confirm may yet be taken.
    """
    silent_w: tuple[float, ...] = ()
    if now.battery_w is None or any(map(refused, writes)):
        silent_w = tuple(
            move_w
            for battery_rules, sample, line in zip(rules.batteries, now.batteries, writes, strict=False)
            if sample.power_w.value is None or refused(line)
            for move_w in _may_end(_may_give(line, battery_rules, inputs.mono_s, handed), sample.power_w.value)
        )
    bounds = connection_bounds(rules, limits, now.others_w, silent_w)
    narrow = battery_limits_bound(_standing(inputs)) if inputs.narrowings else None
    found = bounds if narrow is None else (narrow, *bounds)
    return allowing(found, handed.answers) if handed.answers else found


def _may_give(line: WriteState, rules: BatteryRules, mono_s: float, handed: Handed) -> tuple[float, float] | None:
    """The range of what the battery may hold, and answer on top by its own droop."""
    held_w, answer_w = may_hold(line, rules, mono_s), handed.range_w(line.device_id)
    if answer_w == (0.0, 0.0):
        return held_w
    low_w, high_w = held_w or (0.0, 0.0)
    return low_w + answer_w[0], high_w + answer_w[1]


def _may_end(held_w: tuple[float, float] | None, measured_w: float | None) -> tuple[float, float]:
    """The most power that may go (>= 0) or come (<= 0) by itself, on the way to 0 or to a late setpoint.

    `held_w` is the range of what the battery may hold, `measured_w` its power if it can be read.
    """
    low_w, high_w = held_w or (0.0, 0.0)
    if measured_w is not None:
        return max(measured_w - min(low_w, 0.0), 0.0), min(measured_w - max(high_w, 0.0), 0.0)
    goes_w = high_w - (min(low_w, 0.0) if high_w > 0.0 else low_w)
    comes_w = (max(high_w, 0.0) if low_w < 0.0 else high_w) - low_w
    return goes_w, -comes_w


def _model(model: BatteryModel | None, rules: BatteryRules, sample: BatterySample, dt_s: float) -> BatteryModel | None:
    """The learned model one tick later; begun when the device first states a capacity, and anew for another device."""
    stated_wh = sample.capacity_wh.value
    if stated_wh is not None and stated_wh > 0.0:
        model = _of_this_device(model, rules, stated_wh, sample.serial, dt_s)
    return observed(model, dt_s, sample.power_w.value, sample.soc_pct.value) if model is not None else None


def _of_this_device(
    model: BatteryModel | None, rules: BatteryRules, stated_wh: float, serial: str | None, dt_s: float
) -> BatteryModel:
    """The model if it was learned from this device, else a fresh one."""
    if model is None or (serial is not None and serial != model.serial is not None):
        return fresh_model(stated_wh, rules.one_way_efficiency, serial)
    if serial is not None and model.serial is None:
        model = replace(model, serial=serial)
    if abs(stated_wh - model.stated_capacity_wh) <= SAME_CAPACITY_SHARE * model.stated_capacity_wh:
        return model if model.disputed_s == 0.0 else replace(model, disputed_s=0.0)
    if model.disputed_s + dt_s >= DISPUTED_UNTIL_ANEW_S:
        return fresh_model(stated_wh, rules.one_way_efficiency, serial)
    return replace(model, disputed_s=model.disputed_s + dt_s)


def _cells(sample: BatterySample) -> Cells:
    return Cells(sample.temperature_c.value, sample.cell_min_v.value, sample.cell_max_v.value, sample.soc_pct.value)


def _pv_w(now: SiteView, pv_id: str) -> float | None:
    return next((pv.power_w.value for pv in now.pvs if pv.device_id == pv_id), None)
