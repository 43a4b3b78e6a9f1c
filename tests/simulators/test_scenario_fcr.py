"""Awards in a scenario: what the options mean, how the answer is judged, and that a poor answer shows."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from scenario_sites import PRICES, scenario, site

from agent.core.awards import NO_AWARDS
from agent.core.droop_products import PRODUCTS
from agent.core.orders import Direction
from agent.core.snapshot import Reading
from simulators import scenario_fcr, scenario_run
from simulators.scenario import (
    DEFAULT_FREQUENCY,
    ScenarioRefusedError,
    award_by_default,
    checked_frequency,
    parse_award,
    read_frequency,
    sold,
)
from simulators.scenario_report import html_report
from simulators.scenario_result import simulate
from simulators.scenario_run import Run

START = float(PRICES.start_utc_s)
FREQUENCY = read_frequency(DEFAULT_FREQUENCY)
CE = "ce-fcr-offset:200:0:1"
HALF_HOUR = 1800.0


def awarded(*texts, tick_s=1.0, **changes):
    rules = site(tick_s, False)
    fields = {"awards": sold(texts, rules, START), "frequency_hz": FREQUENCY} | changes
    return scenario(tick_s, pv=False, **fields)


def test_an_award_is_product_power_start_and_hours():
    award = parse_award("ce-fcr-offset:200:1.5:24", START, 3)
    assert (award.award_id, award.product, award.power_w) == ("award-3", "ce-fcr-offset", 200e3)
    assert (award.start_utc_s, award.end_utc_s) == (START + 5400, START + 5400 + 86_400)
    assert award.direction is Direction.BOTH
    assert parse_award("x:1:0:1:up", START, 1).direction is Direction.UP


def test_the_award_by_default_is_a_share_of_what_the_site_can_give_and_take():
    rules = site(1.0, False)
    text = award_by_default(rules, 2)
    assert text == "eprx-primary-online-50hz:200:0:48"
    assert sold([text], rules, START).sold[0].award.power_w == 200e3
    assert award_by_default(replace(rules, import_limit_w=100e3), 1) == "eprx-primary-online-50hz:40:0:24"
    own = {"own": replace(PRODUCTS["ce-fcr-gate"], name="own")}
    assert award_by_default(replace(rules, products=own), 1) == "own:200:0:24"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ce-fcr-offset:200:0", "write PRODUCT:KW:START:HOURS"),
        ("ce-fcr-offset:much:0:1", "write PRODUCT:KW:START:HOURS"),
        ("ce-fcr-offset:200:-1:1", "START must be at least 0"),
        ("ce-fcr-offset:200:0:1:left", "use both or up or down"),
        ("magic:200:0:1", "known: .*ce-fcr-offset"),
        ("ce-fcr-offset:900:0:1", "beyond 1.05 times the rating"),
        ("ce-fcr-offset:nan:0:1", "finite and above 0"),
        ("eprx-primary-online-60hz:200:0:1", "this site is on 50 Hz"),
    ],
)
def test_an_award_that_cannot_be_is_refused_with_its_reason(text, told):
    with pytest.raises(ScenarioRefusedError, match=told):
        sold([text], site(), START)


def test_the_frequency_of_another_grid_is_refused():
    with pytest.raises(ScenarioRefusedError, match=r"its mean is \d\d\.\d\d Hz, but the site is on 60 Hz"):
        checked_frequency(DEFAULT_FREQUENCY, FREQUENCY, 60.0)


@pytest.mark.parametrize("product", ["ce-fcr-offset", "eprx-primary-online-50hz"])
def test_every_second_of_a_real_half_hour_is_answered_within_a_percent(product):
    record = Run(awarded(f"{product}:200:0:1")).run(until_s=HALF_HOUR)
    found = record.responses.numbers(record.scenario)
    (stretch,) = found["stretches"]
    assert stretch["seconds_within"] == stretch["seconds"] == HALF_HOUR - stretch["allowed_s"]
    assert stretch["evidence"]["share_within"] == 1.0
    assert stretch["true"]["samples"] == pytest.approx(5 * stretch["seconds"], abs=5)
    assert record.invariants.count == 0


def test_a_step_is_answered_within_the_devices_own_time_and_half_a_second():
    day = awarded(CE)
    line = day.awards.sold[0]
    found = scenario_fcr.step_response(day, line)
    assert found["met"]
    assert found["steps"] == 2 * scenario_fcr.STEP_PHASES
    assert found["device_alone_s"] < found["time_to_90_pct_s"] <= found["device_alone_s"] + 0.5
    up_only = replace(line, award=replace(line.award, direction=Direction.UP))
    assert scenario_fcr.step_response(day, up_only)["steps"] == scenario_fcr.STEP_PHASES


def lazy(seen):
    """A core that reads the frequency as nominal from the second minute on."""
    real = scenario_run.step

    def step(rules, state, inputs):
        if inputs.utc_s > START + 60:
            seen.append(inputs.utc_s)
            inputs = replace(inputs, meter=replace(inputs.meter, frequency_hz=Reading(50.0, inputs.mono_s)))
        return real(rules, state, inputs)

    return step


def test_a_core_that_does_not_answer_is_judged_so_by_the_truth(monkeypatch):
    seen = []
    monkeypatch.setattr(scenario_run, "step", lazy(seen))
    record = Run(awarded(CE)).run(until_s=600)
    assert seen
    (stretch,) = record.responses.numbers(record.scenario)["stretches"]
    assert stretch["seconds_within"] < 0.9 * stretch["seconds"]


def test_a_core_that_trades_away_the_awards_power_breaks_the_third_invariant(monkeypatch):
    real = scenario_run.step
    monkeypatch.setattr(
        scenario_run, "step", lambda rules, state, inputs: real(rules, state, replace(inputs, awards=NO_AWARDS))
    )
    monkeypatch.setattr(scenario_run, "awarded_tick_s", lambda awards, utc_s, tick_s: tick_s)
    monkeypatch.setattr("simulators.scenario_cloud.kept_for_awards", lambda _: ((0.0, 0.0), (0.0, 0.0)))
    record = Run(awarded("ce-fcr-offset:400:0:24", tick_s=60.0)).run(until_s=12 * 3600)
    broken = [violation for violation in record.invariants.violations if violation.number == 3]
    assert any("leaves too little power for award-1" in violation.what for violation in broken)
    json.dumps(broken[0].rows)


def test_a_slot_is_not_blamed_for_the_response_in_it():
    day = awarded(CE)
    slot = Run(day).run(until_s=HALF_HOUR).slots[0]
    assert abs(slot.response_wh) > 100.0
    assert abs(slot.error_wh) < 0.001 * 600e3 / 2


def test_the_tick_is_short_only_while_awarded():
    record = Run(awarded("ce-fcr-offset:200:0.5:0.25")).run(until_s=3600)
    assert record.ticks == pytest.approx(3600 - 905 + 905 * 5, abs=5)
    assert [slot.start_s for slot in record.slots] == [0.0, 1800.0]


def test_the_report_shows_the_response():
    result = simulate(awarded("ce-fcr-offset:200:0:0.2", tick_s=60.0), lambda what, share: None, references=False)
    page = html_report(result)
    assert "Frequency response with its baseline" in page
    assert "more than it" in page
    assert result.numbers["fcr"]["share_of_seconds_within"] == 1.0
