"""Awards handed to the devices' own droop in a scenario: answered as well as by the agent, by one of the two only."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scenario_sites import PRICES, scenario, site

from simulators.scenario import DEFAULT_FREQUENCY, Faults, read_frequency, sold
from simulators.scenario_droop import OwnDroop, time_to_90_pct_s
from simulators.scenario_run import Run

START = float(PRICES.start_utc_s)
FREQUENCY = read_frequency(DEFAULT_FREQUENCY)


def handed(*texts, batteries=1, **changes):
    rules = site(1.0, False, batteries)
    rules = replace(rules, delegated=frozenset(battery.device_id for battery in rules.batteries))
    fields = {"awards": sold(texts, rules, START), "frequency_hz": FREQUENCY} | changes
    return replace(scenario(1.0, pv=False, batteries=batteries, **fields), rules=rules)


@pytest.mark.parametrize("product", ["ce-fcr-offset", "eprx-primary-online-50hz"])
def test_every_second_of_a_real_quarter_hour_is_answered_within_a_percent_by_the_device(product):
    record = Run(handed(f"{product}:200:0:1")).run(until_s=900.0)
    found = record.responses.numbers(record.scenario)
    (stretch,) = found["stretches"]
    assert stretch["seconds_within"] == stretch["seconds"] == 900.0 - stretch["allowed_s"]
    assert stretch["evidence"]["share_within"] == 1.0
    assert found["share_by_devices"] > 0.99
    assert record.invariants.count == 0
    (step,) = found["step_response"]
    assert abs(step["beyond_device_s"]) < 0.1
    assert record.writes["b0"] <= 900.0 / 20.0 + 5, "the setpoint is only refreshed"


def test_two_batteries_share_the_award_by_their_rating():
    record = Run(handed("ce-fcr-offset:200:0:1", batteries=2)).run(until_s=300.0)
    (stretch,) = record.responses.stretches
    assert stretch.good_seconds == stretch.seconds
    assert record.responses.by_devices > 100 * record.responses.by_agent
    assert record.invariants.count == 0


@pytest.mark.parametrize("award", ["ce-fcr-gate:200:0:1", "ce-fcr-offset:200:0:1:up"])
def test_an_award_that_no_device_can_answer_stays_with_the_agent(award):
    record = Run(handed(award)).run(until_s=120.0)
    assert record.responses.by_devices == 0
    (stretch,) = record.responses.stretches
    assert stretch.good_seconds == stretch.seconds
    assert record.events["droop_not_delegated"] == 1


@pytest.mark.parametrize("batteries", [1, 2])
def test_with_every_kind_of_fault_no_award_is_answered_twice(batteries):
    """The bursts begin after ten minutes; each device fails, is taken back, and is handed the next award."""
    awards = ("ce-fcr-offset:200:0.15:0.5", "eprx-primary-online-50hz:100:0.7:0.3")
    record = Run(handed(*awards, batteries=batteries, seed=3, faults=Faults.SWARM)).run(until_s=3600.0)
    assert record.invariants.count == 0
    assert record.events["droop_delegated"] >= 2
    assert record.responses.by_agent > 0


def test_a_device_that_only_says_that_its_droop_is_off_is_found_out(monkeypatch):
    def deaf(self, write, mono_s, trouble):
        outcome = truly(self, write, mono_s, trouble)
        self.control.enabled = True
        return outcome

    truly = OwnDroop.write
    monkeypatch.setattr(OwnDroop, "write", deaf)
    monkeypatch.setattr(OwnDroop, "shown", lambda self, sample, _mono_s: replace(sample, droop_offer=self._offer))
    record = Run(handed("ce-fcr-gate:200:0:1")).run(until_s=60.0)
    assert record.invariants.count > 0
    assert "answers by itself, and the agent with" in record.invariants.violations[0].text


def test_the_devices_own_time_is_that_of_lag_and_droop_together():
    assert time_to_90_pct_s(2.0, 0.0) == pytest.approx(4.605, abs=0.01)
    assert time_to_90_pct_s(2.0, 1.0) == pytest.approx(5.095, abs=0.01)
    assert time_to_90_pct_s(1.0, 2.302585) == pytest.approx(3.89, abs=0.01)
