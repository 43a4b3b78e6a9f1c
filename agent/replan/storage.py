"""All batteries of the site as one for a re-planning: real SoC, learned capacity and losses, limits of the devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agent.core.battery_model import BatteryModel
from agent.core.derating import lasting_shares
from agent.core.rules import BatteryRules
from agent.core.snapshot import BatterySample, Reading
from agent.core.units import CONTRADICTED_MARGIN_PCT
from agent.replan.horizon import Storage, Unit

NEAR_EDGE_PCT = 10.0
"""A BMS that is this close to full takes less, and close to empty gives less: that limit is not one for two days."""


def storage_now(
    rules: Sequence[BatteryRules],
    models: Mapping[str, BatteryModel],
    samples: Sequence[BatterySample],
    mono_s: float,
) -> Storage | None:
    """The batteries that can be used now, None without any. One that is silent, not ready or without SoC is not there.

    SoC and its band are weighted by capacity, efficiency too; powers, capacities and standby losses add up.
    """
    parts = [
        part
        for battery, sample in zip(rules, samples, strict=True)
        if (part := _one(battery, models.get(battery.device_id), sample, mono_s)) is not None
    ]
    total_wh = sum(part.capacity_wh for part in parts)
    if total_wh <= 0.0:
        return None

    def mean(values: Sequence[float]) -> float:
        return sum(value * part.capacity_wh for value, part in zip(values, parts, strict=True)) / total_wh

    return Storage(
        tuple(unit for part in parts for unit in part.units),
        mean([part.soc_pct for part in parts]),
        mean([part.soc_min_pct for part in parts]),
        mean([part.soc_max_pct for part in parts]),
        total_wh,
        mean([part.charge_efficiency for part in parts]),
        mean([part.discharge_efficiency for part in parts]),
        sum(part.standby_w for part in parts),
    )


def _one(rules: BatteryRules, model: BatteryModel | None, sample: BatterySample, mono_s: float) -> Storage | None:
    power_w, soc_pct, stated_wh, ready = (
        reading.at(mono_s).value for reading in (sample.power_w, sample.soc_pct, sample.capacity_wh, sample.ready)
    )
    if power_w is None or soc_pct is None or ready == 0.0:
        return None
    capacity_wh = model.capacity_wh if model is not None else stated_wh
    if capacity_wh is None or capacity_wh <= 0.0:
        return None
    efficiency = model.one_way_efficiency if model is not None else rules.one_way_efficiency
    standby_w = model.standby_w if model is not None else 0.0
    margin_pct = CONTRADICTED_MARGIN_PCT if model is not None and model.contradicted else 0.0
    low_pct = max(rules.soc_min_pct, rules.limits.reserve_pct or 0.0) + margin_pct
    high_pct = max(rules.soc_max_pct - margin_pct, low_pct)
    warm = lasting_shares(rules.limits.deratings, sample.temperature_c.at(mono_s).value)
    charge_w = _limit_w(rules.rated_charge_w * warm.charge, sample.rated_charge_w, mono_s)
    discharge_w = _limit_w(rules.rated_discharge_w * warm.discharge, sample.rated_discharge_w, mono_s)
    if soc_pct <= high_pct - NEAR_EDGE_PCT:
        charge_w = _limit_w(charge_w, sample.live_charge_limit_w, mono_s)
    if soc_pct >= low_pct + NEAR_EDGE_PCT:
        discharge_w = _limit_w(discharge_w, sample.live_discharge_limit_w, mono_s)
    unit = Unit(rules.device_id, charge_w, discharge_w)
    believed_pct = model.believed_soc_pct if model is not None else None
    real_pct = min(max(soc_pct if believed_pct is None else believed_pct, 0.0), 100.0)
    return Storage((unit,), real_pct, low_pct, high_pct, capacity_wh, efficiency, efficiency, standby_w)


def _limit_w(limit_w: float, reading: Reading, mono_s: float) -> float:
    """The tighter one; a limit that the device does not tell is none."""
    value_w = reading.at(mono_s).value
    return limit_w if value_w is None else min(limit_w, max(value_w, 0.0))
