"""What re-planning looks at, from what the agent holds: the forecast of PV and load, and the situation to be judged."""

from __future__ import annotations

from collections.abc import Sequence

from agent.core.authority import Source, cloud_slot_at
from agent.core.forecast import DayProfile, forecast_at, told_by_plans
from agent.core.plan import Plans
from agent.core.replan_rules import Situation, expected_soc_pct
from agent.core.rules import SiteRules
from agent.core.snapshot import BatterySample
from agent.replan.horizon import Forecast, Held, Site, Storage


def forecast_now(
    rules: SiteRules,
    plans: Plans,
    samples: Sequence[BatterySample],
    profile: DayProfile,
    others_w: float | None,
    *,
    utc_s: float,
    mono_s: float,
) -> Forecast:
    """PV and load to come, given `others_w` (both together) now; a site with the battery alone has neither."""
    if rules.battery_alone:
        return _nothing_else
    stated_wh = sum(sample.capacity_wh.at(mono_s).value or 0.0 for sample in samples)
    told = told_by_plans(plans, stated_wh, rules.batteries[0].one_way_efficiency)
    return forecast_at(utc_s, others_w, told, profile)


def situation_now(
    held: Held, storage: Storage | None, site: Site, *, utc_s: float, mono_s: float, trusted: bool, infeasible: bool
) -> Situation:
    """The situation at this instant; without a battery that can be used there is no SoC, and limits are 0."""
    units = storage.units if storage is not None else ()
    beneath = cloud_slot_at(held.plans, utc_s)
    source = beneath[0] if beneath is not None else Source.LOCAL_RULE
    charge_w, discharge_w = sum(unit.charge_w for unit in units), sum(unit.discharge_w for unit in units)
    return Situation(
        utc_s=utc_s,
        mono_s=mono_s,
        clock_trusted=trusted,
        source=source,
        soc_pct=storage.soc_pct if storage is not None else None,
        expected_soc_pct=expected_now_pct(held.plans, utc_s),
        infeasible=infeasible,
        orders=held.orders,
        limits_w=(charge_w, discharge_w, site.export_limit_w, site.import_limit_w),
    )


def expected_now_pct(plans: Plans, utc_s: float) -> float | None:
    """The SoC that the plan in force expects at `utc_s`, the local one where it decides; None when it tells none."""
    if plans.local is not None and plans.local_slot_at(utc_s) is not None:
        return plans.local.expected_soc_pct(utc_s)
    for plan in (plans.rolling, plans.yearly):
        if plan is not None and plan.slot_at(utc_s) is not None:
            return expected_soc_pct(plan, utc_s)
    return None


def _nothing_else(_start_utc_s: float, _end_utc_s: float) -> tuple[float, float]:
    return 0.0, 0.0
