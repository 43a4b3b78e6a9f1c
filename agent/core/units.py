"""The batteries of the site as they may be used at this tick, and the bounds on all of them together."""

from __future__ import annotations

from dataclasses import replace

from agent.core.allocate import Unit
from agent.core.battery_model import BatteryModel, fresh_model, observed
from agent.core.bounds import Bound
from agent.core.curtailment import limits_now
from agent.core.decision import Inputs, State
from agent.core.derating import Cells
from agent.core.envelope import REACTION_TICKS, BatteryMemory, BatteryMoment, battery_unit, connection_bounds
from agent.core.outages import out_of_service
from agent.core.rules import BatteryRules, SiteRules
from agent.core.site_view import SiteView
from agent.core.snapshot import BatterySample
from agent.core.writes import WriteState

CONTRADICTED_MARGIN_PCT = 3.0
"""How much narrower the SoC window is at each end while SoC and energy contradict each other."""
FRESH_MEMORY = BatteryMemory()


def units_now(
    rules: SiteRules, state: State, inputs: Inputs, now: SiteView, *, ahead_s: float, dt_s: float
) -> tuple[tuple[Unit, ...], dict[str, BatteryMemory], dict[str, BatteryModel]]:
    """Each battery as it may be used, with what was learned of it, and what to remember of both."""
    units: list[Unit] = []
    memories: dict[str, BatteryMemory] = {}
    models: dict[str, BatteryModel] = {}
    reaction_s = REACTION_TICKS * rules.tick_s
    for battery_rules, sample in zip(rules.batteries, now.batteries, strict=True):
        device_id = battery_rules.device_id
        model = _model(state.models.get(device_id), battery_rules, sample, dt_s)
        if model is not None:
            models[device_id] = model
            battery_rules, sample = _as_learned(model, battery_rules, sample)  # noqa: PLW2901 (the learned view of both)
        shared = battery_rules.limits.shared_inverter
        outages = inputs.orders.outages
        moment = BatteryMoment(
            mono_s=inputs.mono_s,
            dt_s=dt_s,
            ahead_s=ahead_s,
            reaction_s=reaction_s,
            outage_id=out_of_service(outages, inputs.utc_s, device_id) if outages else None,
            pv_w=_pv_w(now, shared.pv_id) if shared is not None else None,
            cells=_cells(sample) if battery_rules.limits.deratings else Cells(),
            soc_margin_pct=CONTRADICTED_MARGIN_PCT if model is not None and model.contradicted else 0.0,
        )
        memory = state.memories.get(device_id, FRESH_MEMORY)
        unit, memories[device_id] = battery_unit(battery_rules, battery_rules.limits, sample, moment, memory)
        units.append(unit)
    return tuple(units), memories, models


def site_bounds(rules: SiteRules, inputs: Inputs, now: SiteView, writes: tuple[WriteState, ...]) -> tuple[Bound, ...]:
    """What curtailment orders and the connection point leave to all batteries together, softest first.

    A battery that fell silent may still hold what it was last told, until its dead-man ends it.
    """
    limits = limits_now(rules.export_limit_w, rules.import_limit_w, inputs.orders.curtailments, inputs.utc_s)
    silent_w: tuple[float, ...] = ()
    if now.battery_w is None:
        silent_w = tuple(
            _may_still_hold(line, battery_rules, inputs.mono_s)
            for battery_rules, sample, line in zip(rules.batteries, now.batteries, writes, strict=False)
            if sample.power_w.value is None
        )
    return connection_bounds(rules, limits, now.others_w, silent_w)


def _may_still_hold(line: WriteState, rules: BatteryRules, mono_s: float) -> float:
    if line.owned_w is None or mono_s - line.last_done_mono_s > rules.dead_man_s:
        return 0.0
    return line.owned_w


def _model(model: BatteryModel | None, rules: BatteryRules, sample: BatterySample, dt_s: float) -> BatteryModel | None:
    """The learned model one tick later; it begins when the device first states a capacity, and anew when it changes."""
    stated_wh = sample.capacity_wh.value
    if stated_wh is not None and stated_wh > 0.0 and (model is None or model.stated_capacity_wh != stated_wh):
        model = fresh_model(stated_wh, rules.one_way_efficiency)
    return observed(model, dt_s, sample.power_w.value, sample.soc_pct.value) if model is not None else None


def _as_learned(model: BatteryModel, rules: BatteryRules, sample: BatterySample) -> tuple[BatteryRules, BatterySample]:
    """Rules and sample with learned efficiency and capacity, once there is something learned."""
    if not model.stretches or sample.capacity_wh.value is None:
        return rules, sample
    capacity = replace(sample.capacity_wh, value=model.capacity_wh)
    return replace(rules, one_way_efficiency=model.one_way_efficiency), replace(sample, capacity_wh=capacity)


def _cells(sample: BatterySample) -> Cells:
    return Cells(sample.temperature_c.value, sample.cell_min_v.value, sample.cell_max_v.value, sample.soc_pct.value)


def _pv_w(now: SiteView, pv_id: str) -> float | None:
    return next((pv.power_w.value for pv in now.pvs if pv.device_id == pv_id), None)
