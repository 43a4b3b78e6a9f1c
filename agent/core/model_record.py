"""The learned battery model as plain values, to be kept on disk and shown; read back with mistrust."""

from __future__ import annotations

from collections.abc import Mapping

from agent.core.battery_model import (
    CAPACITY_BOUNDS,
    EFFICIENCY_BOUNDS,
    MEMORY_PCT,
    PRIOR_PCT,
    REST_MEMORY_S,
    BatteryModel,
    Ratio,
)
from agent.core.kept_text import number

ModelRecord = Mapping[str, str | float | int | None]


def model_record(model: BatteryModel) -> dict[str, str | float | int | None]:
    """What of a model outlives the process: what was learned, not the stretch in progress."""
    return {
        "stated_capacity_wh": model.stated_capacity_wh,
        "stated_efficiency": model.stated_efficiency,
        "charged_wh": model.charging.energy_wh,
        "charged_pct": model.charging.moved_pct,
        "discharged_wh": model.discharging.energy_wh,
        "discharged_pct": model.discharging.moved_pct,
        "lost_wh": model.lost_wh,
        "rest_s": model.rest_s,
        "stretches": model.stretches,
        "contradictions": model.contradictions,
        "serial": model.serial,
    }


def restored_model(record: ModelRecord) -> BatteryModel | None:
    """The model that `model_record` wrote down; None when the record cannot be one."""
    serial, stretches, contradictions = (record.get(key) for key in ("serial", "stretches", "contradictions"))
    if not isinstance(stretches, int) or not isinstance(contradictions, int) or min(stretches, contradictions) < 0:
        return None
    if serial is not None and not isinstance(serial, str):
        return None
    keys = (
        "stated_capacity_wh",
        "stated_efficiency",
        "charged_wh",
        "charged_pct",
        "discharged_wh",
        "discharged_pct",
        "lost_wh",
        "rest_s",
    )
    try:
        numbers = [number(record.get(key)) for key in keys]
    except ValueError:
        return None
    capacity_wh, efficiency, in_wh, in_pct, out_wh, out_pct, lost_wh, rest_s = numbers
    moved = PRIOR_PCT <= in_pct <= MEMORY_PCT + 1.0 and PRIOR_PCT <= out_pct <= MEMORY_PCT + 1.0
    if not (capacity_wh > 0 and 0 < efficiency <= 1 and in_wh > 0 and out_wh > 0 and moved):
        return None
    if not 0 < rest_s <= REST_MEMORY_S:
        return None
    return BatteryModel(
        capacity_wh,
        efficiency,
        Ratio(in_wh, in_pct),
        Ratio(out_wh, out_pct),
        lost_wh,
        rest_s,
        stretches,
        contradictions,
        serial,
    )


def begun_anew(before: ModelRecord, model: BatteryModel) -> bool:
    """True when the model of today did not grow out of `before`: another device, or another capacity stated."""
    same = before.get("stated_capacity_wh") == model.stated_capacity_wh and before.get("serial") in (None, model.serial)
    return not same


def model_facts(model: BatteryModel) -> dict[str, str | float | int | bool | list[float] | None]:
    """The estimate for people and programs: values, what was stated, bounds, and how much of it is measured."""
    return {
        "capacity_wh": model.capacity_wh,
        "stated_capacity_wh": model.stated_capacity_wh,
        "capacity_bounds_wh": [share * model.stated_capacity_wh for share in CAPACITY_BOUNDS],
        "round_trip_efficiency": model.round_trip_efficiency,
        "stated_round_trip_efficiency": model.stated_efficiency**2,
        "round_trip_efficiency_bounds": [bound**2 for bound in EFFICIENCY_BOUNDS],
        "one_way_efficiency": model.one_way_efficiency,
        "standby_w": model.standby_w,
        "stretches": model.stretches,
        "measured_share": model.measured_share,
        "contradicted": model.contradicted,
        "serial": model.serial,
    }
