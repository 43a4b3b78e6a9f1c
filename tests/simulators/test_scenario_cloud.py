"""What the cloud of a scenario may know, and what the references earn."""

from __future__ import annotations

from dataclasses import replace

from scenario_sites import PRICES, scenario

from simulators.scenario import Prices, Truth
from simulators.scenario_cloud import Cloud, PriceKnowledge, informed, perfect_foresight, told_model
from simulators.scenario_result import valued

DAY = 86_400
MIDNIGHT = float(PRICES.start_utc_s)
"""Of a local day."""


def test_tomorrow_is_known_from_a_quarter_past_ten():
    knowledge = PriceKnowledge(scenario())
    assert knowledge.known_until(MIDNIGHT + 10.25 * 3600 - 1) == MIDNIGHT + DAY
    assert knowledge.known_until(MIDNIGHT + 10.25 * 3600) == MIDNIGHT + 2 * DAY


def test_what_is_not_known_is_the_mean_of_the_same_slot_on_the_last_five_known_days():
    counted = Prices(PRICES.start_utc_s, 1800, tuple(float(n // 48) for n in range(48 * 20)))
    knowledge = PriceKnowledge(replace(scenario(), prices=counted))
    now = MIDNIGHT + 10 * DAY
    seen = knowledge.window(now, now, 96)
    assert seen[:48] == [10.0] * 48
    assert seen[48:] == [8.0] * 48  # days 6 to 10


def test_the_forecast_is_renewed_when_a_day_becomes_known():
    counted = Prices(PRICES.start_utc_s, 1800, tuple(float(n // 48) for n in range(48 * 20)))
    knowledge = PriceKnowledge(replace(scenario(), prices=counted))
    now = MIDNIGHT + 10 * DAY
    knowledge.window(now, now, 96)
    assert knowledge.window(now + 11 * 3600, now + DAY, 1) == [11.0]


def test_a_new_plan_keeps_the_slot_that_runs():
    cloud = Cloud(scenario(pv=False))
    first = cloud.rolling(MIDNIGHT, 50.0)
    second = cloud.rolling(MIDNIGHT + 1740, 20.0)
    assert (first.version, second.version) == (1, 2)
    assert second.start_utc_s == first.start_utc_s == MIDNIGHT
    assert second.power_w[0] == first.power_w[0]
    assert len(second.power_w) == 96


def test_a_worse_battery_earns_less_and_foresight_earns_most():
    good = scenario(pv=False, days=2)
    worse = replace(good, truth=Truth(efficiency_factor=0.9, capacity_factor=0.8))
    told, bad, best = (informed(good, 50.0), informed(worse, 50.0), perfect_foresight(good, 50.0))
    assert bad.revenue < told.revenue
    assert valued(good, bad) < valued(good, told) < valued(good, best)


def test_the_cloud_does_not_sell_what_the_site_keeps_for_outages():
    site = scenario(pv=False)
    keeping = tuple(replace(b, limits=replace(b.limits, reserve_pct=30.0)) for b in site.rules.batteries)
    told = told_model(replace(site, rules=replace(site.rules, batteries=keeping)))
    assert told_model(site).soc_min_pct < 30.0 == told.soc_min_pct
