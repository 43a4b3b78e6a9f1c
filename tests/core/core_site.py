"""A small site for the core's tests, and readings to feed it."""

from __future__ import annotations

from dataclasses import replace

from agent.core.decision import Inputs
from agent.core.plan import Plan, PlanKind, Plans, Target
from agent.core.rules import BatteryRules, LocalRule, SiteRules
from agent.core.snapshot import BatterySample, MeterSample, PvSample, Quality, Reading

T0 = 1_700_000_000.0 - 1_700_000_000 % 1800
"""A slot edge."""

BATTERY = BatteryRules("bess", 500e3, 500e3, 10.0, 90.0, 0.95, 60.0, 500.0)
SITE = SiteRules("s1", 1.0, (BATTERY,), ("pv",), "meter", 400e3, 400e3, has_load=True, local_rule=LocalRule.IDLE)


def good(value: float, read_mono_s: float = 0.0) -> Reading:
    return Reading(value, read_mono_s)


def missing(read_mono_s: float = 0.0) -> Reading:
    return Reading(None, read_mono_s, Quality.MISSING)


def battery(at: float = 0.0, power_w: float = 0.0, soc_pct: float = 50.0, held_w: float | None = None) -> BatterySample:
    return BatterySample(
        "bess", good(power_w, at), good(soc_pct, at), good(1e6, at), good(500e3, at), good(500e3, at),
        good(450e3, at), good(450e3, at), good(1.0, at), missing(at) if held_w is None else good(held_w, at),
    )  # fmt: skip


def meter(at: float = 0.0, power_w: float = 0.0, net_wh: float | None = None) -> MeterSample:
    counters = (missing(at), missing(at)) if net_wh is None else (good(1e6 + net_wh, at), good(1e6, at))
    return MeterSample("meter", good(power_w, at), good(50.0, at), *counters)


def pv(at: float = 0.0, power_w: float = 0.0) -> PvSample:
    return PvSample("pv", good(power_w, at))


def plan(
    *powers_w: float | None, kind: PlanKind = PlanKind.ROLLING, version: int = 1, start: float = T0,
    target: Target = Target.BATTERY, slot_s: int = 1800,
) -> Plan:  # fmt: skip
    return Plan(kind, version, f"{kind}-{version}", start - 60, start, slot_s, target, tuple(powers_w))


def inputs(t: float = 0.0, plans: Plans | None = None, **changes: object) -> Inputs:
    """Inputs `t` seconds into the first slot, with everything read just now."""
    base = Inputs(T0 + t, t, True, plans or Plans(), (battery(t),), (pv(t),), meter(t))
    return replace(base, **changes)
