"""The cloud of a scenario speaks to the site as the contract has it, and the site may refuse."""

from __future__ import annotations

import json
from dataclasses import replace

from scenario_sites import PRICES, scenario, site

from agent.core.plan import Plans
from simulators.scenario_cloud import Cloud
from simulators.scenario_link import Link, encoded
from simulators.scenario_run import Run

NOW = float(PRICES.start_utc_s)


def test_a_plan_arrives_as_it_was_meant():
    plan = Cloud(scenario()).rolling(NOW, 50.0)
    link = Link(site())
    held = link.received(plan, Plans(), NOW).rolling
    assert held == replace(plan, sha256=held.sha256)
    assert len(held.sha256) == 64
    assert link.outcomes == {"accepted": 1}


def test_the_document_is_the_contracts():
    content = json.loads(encoded(Cloud(scenario()).rolling(NOW, 50.0), "s1"))
    assert content["schema"] == "1.0"
    assert (content["unit"], content["positive"], content["target"]) == ("W", "export", "grid")
    assert len(content["power"]) == len(content["soc_end_pct"]) == len(content["price"]) == 96


def test_a_plan_that_the_site_refuses_is_counted_and_changes_nothing():
    plan = Cloud(scenario()).rolling(NOW, 50.0)
    link = Link(site())
    held = link.received(plan, Plans(), NOW)
    mad = replace(plan, version=2, power_w=(9e6, *plan.power_w[1:]))
    assert link.received(mad, held, NOW) is held
    assert link.received(plan, held, NOW) is held
    assert [outcome for outcome in link.outcomes if outcome.startswith("refused: ") and "power" in outcome]
    assert link.outcomes["repeated"] == 1


def test_every_plan_of_a_quiet_day_is_accepted():
    record = Run(scenario(60.0)).run()
    assert record.documents == {"accepted": 1 + 1 + 48}  # the yearly one, the first, one each half-hour
