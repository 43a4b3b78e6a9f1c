"""Small scenarios for the tests of the runner."""

from __future__ import annotations

from agent.core.plan import Target
from agent.core.rules import BatteryRules, LocalRule, SiteRules
from simulators.scenario import DEFAULT_IRRADIANCE, Scenario, Sizes, default_prices, read_irradiance

BATTERY = BatteryRules("bess", 500e3, 500e3, 5.0, 95.0, 0.95, 60.0, 500.0)
PRICES = default_prices()
SUN = read_irradiance(DEFAULT_IRRADIANCE)


def site(tick_s: float = 5.0, pv: bool = True, batteries: int = 1) -> SiteRules:
    rules = tuple(BatteryRules(f"b{n}", 500e3 / batteries, 500e3 / batteries, 5.0, 95.0, 0.95, 60.0, 500.0 / batteries) for n in range(batteries))  # fmt: skip
    return SiteRules("s1", tick_s, rules, ("pv",) if pv else (), "meter", 600e3, 600e3, has_load=pv, local_rule=LocalRule.IDLE)  # fmt: skip


def scenario(tick_s: float = 5.0, pv: bool = True, batteries: int = 1, **changes: object) -> Scenario:
    """One day of the cloudy site; `changes` are fields of `Scenario`."""
    fields: dict = {
        "sizes": Sizes(2e6, 200e3 if pv else 0.0, 50e3 if pv else 0.0),
        "days": 1,
        "seed": 1,
        "target": Target.GRID if pv else Target.BATTERY,
        "start_utc_s": PRICES.start_utc_s,
        "tick_s": tick_s,
    }
    fields |= changes
    return Scenario(site(tick_s, pv, batteries), prices=PRICES, irradiance_w_per_m2=SUN, **fields)
