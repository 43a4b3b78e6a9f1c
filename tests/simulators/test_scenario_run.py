"""The runner: energy lands, seeds reproduce, faults heal, and a core that breaks a rule is caught."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from scenario_sites import scenario

from agent.cli.page import nice_axis
from agent.core.plan import Target
from agent.core.snapshot import Reading
from simulators import scenario_run
from simulators.scenario import START_MONO_S, Faults, Sizes, Truth
from simulators.scenario_faults import FaultKind, drawn
from simulators.scenario_plant import Series, SitePlant
from simulators.scenario_report import html_report
from simulators.scenario_result import simulate, slot_errors
from simulators.scenario_run import Run


def quiet(what, share):
    pass


def test_the_mean_of_a_series_is_exact_between_any_two_instants():
    series = Series(np.arange(86_400, dtype=float) % 7)
    fine = sum(series.at(10.25 + (n + 0.5) / 1000) for n in range(20_500)) / 1000
    assert series.total(10.25, 30.75) == pytest.approx(fine, rel=1e-4)
    assert series.total(0, 2 * 86_400) == pytest.approx(2 * series.total(0, 86_400))


def test_the_energies_of_the_plant_follow_the_sign_rule():
    plant = SitePlant(scenario())
    plant.devices[0].write(-100e3, START_MONO_S)
    for second in range(1, 61):
        plant.advance_to(float(second))
    assert plant.battery_wh == pytest.approx(-100e3 * (60 - 2) / 3600, rel=0.01)
    assert plant.export_wh - plant.import_wh == pytest.approx(plant.grid_wh)
    assert plant.grid_wh == pytest.approx(plant.battery_wh + plant.pv_wh + plant.load_wh)


def test_a_device_that_is_left_alone_returns_to_rest():
    plant = SitePlant(scenario())
    plant.devices[0].write(100e3, START_MONO_S)
    for second in range(1, 101):
        plant.advance_to(float(second))
    assert abs(plant.battery_w) < 1.0


def test_the_true_battery_is_worse_than_told():
    told, true = (SitePlant(scenario(truth=truth)).devices[0] for truth in (Truth(), Truth(0.97, 0.95)))
    assert true.physics.config.capacity_wh == pytest.approx(0.95 * told.physics.config.capacity_wh)
    assert true.sample(0.0, 0.0).capacity_wh.value == told.physics.config.capacity_wh

    def round_trip(battery):
        full = battery.stored_wh
        out = battery.step(400e3, 60.0)
        into = 0.0
        while battery.stored_wh < full:
            into += battery.step(-400e3, 1.0)
        return -out / into

    ratio = round_trip(true.physics) / round_trip(told.physics)
    assert ratio == pytest.approx(0.97, abs=0.02)


def test_slot_energy_lands_at_the_connection_point_and_not_without_the_tracker():
    day = scenario()
    tracked, open_loop = (slot_errors(day, Run(day, open_loop=flag).run(until_s=14 * 3600)) for flag in (False, True))
    assert tracked["slots"] == open_loop["slots"] == 28
    assert tracked["p95_pct"] <= 0.1
    assert tracked["max_pct"] <= 0.5
    assert open_loop["p95_pct"] > 10 * tracked["p95_pct"]


@pytest.mark.parametrize("lag_s", [0.2, 2.0])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_lands_there_with_quick_and_slow_inverters_and_a_meter_read_at_another_instant(lag_s, seed):
    asked = scenario(1.0, seed=seed, sizes=Sizes(2e6, 200e3, 50e3, lag_s=lag_s))
    # Slots are sold up to the limits, so that these bind together with the tracker.
    asked = replace(asked, rules=replace(asked.rules, export_limit_w=300e3, import_limit_w=300e3))
    record = Run(asked).run(until_s=2 * 3600)
    assert slot_errors(asked, record)["max_pct"] <= 0.2
    assert [violation.text for violation in record.invariants.violations] == []


def test_the_same_seed_gives_the_same_run_and_another_seed_another():
    first, second, other = (Run(scenario(60.0, seed=seed)).run(until_s=14 * 3600) for seed in (3, 3, 4))
    assert first.hash == second.hash != other.hash


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_swarm_of_faults_breaks_no_invariant_and_the_site_is_normal_again(seed):
    record = Run(scenario(seed=seed, batteries=2, faults=Faults.SWARM)).run(until_s=8 * 3600)
    assert record.faults
    assert [violation.text for violation in record.invariants.violations] == []


def test_every_kind_of_fault_is_drawn_by_some_seed_and_all_of_them_heal():
    days = [drawn(scenario(seed=seed, faults=Faults.SWARM, days=2)) for seed in range(12)]
    assert {fault.kind for day in days for fault in day} == set(FaultKind)
    assert all(fault.end_s < 2 * 86_400 for day in days for fault in day)


def test_a_cloud_that_is_away_for_three_days_leaves_the_yearly_plan_replanned_here_by_its_typical_prices():
    record = Run(scenario(60.0, pv=False, days=5, outages=((3600.0, 3600.0 * 73),))).run()
    assert record.sources["local_plan over yearly"] == pytest.approx(24 * 60, abs=90)
    assert record.replans["there is no rolling plan"] >= 40
    assert not record.replan_fallbacks
    assert len(record.outage_soc_pct) == 1
    assert record.invariants.count == 0


def test_the_yearly_plan_executed_plainly_is_the_same_run_until_the_rolling_plan_has_run_out():
    asked = scenario(60.0, pv=False, days=4, outages=((3600.0, 3600.0 * 73),))
    plain, record = Run(asked, plain_yearly=True).run(), Run(asked).run()
    assert plain.sources["yearly"] == pytest.approx(24 * 60, abs=90)
    until_s = 3600.0 * 49
    assert [s.battery_wh for s in plain.slots if s.start_s < until_s] == [
        s.battery_wh for s in record.slots if s.start_s < until_s
    ]


def _wild_writes(state, effects, inputs):
    writes = tuple(replace(write, power_w=3.0 * write.power_w + 600e3) for write in effects.writes)
    return state, replace(effects, writes=writes)


def _wrong_slot(state, effects, inputs):
    slot = effects.decision.slot
    late = replace(slot, start_utc_s=slot.end_utc_s, end_utc_s=slot.end_utc_s + 1800) if slot else None
    return state, replace(effects, decision=replace(effects.decision, slot=late))


def _old_version(state, effects, inputs):
    return state, replace(effects, decision=replace(effects.decision, version=0))


def _chatter(state, effects, inputs):
    return state, replace(effects, events=(_EVENT,))


class _Event:
    code = "chatter"


_EVENT = _Event()


@pytest.mark.parametrize(
    ("sabotage", "number"), [(_wild_writes, 1), (_wrong_slot, 11), (_old_version, 10), (_chatter, 14)]
)
def test_a_core_that_breaks_a_rule_is_caught_with_seed_revision_and_rows(monkeypatch, sabotage, number):
    real = scenario_run.step
    monkeypatch.setattr(
        scenario_run, "step", lambda rules, state, inputs: sabotage(*real(rules, state, inputs), inputs)
    )
    record = Run(scenario(4.0)).run(until_s=2 * 3600)
    violation = next(one for one in record.invariants.violations if one.number == number)
    assert violation.seed == 1
    assert violation.revision
    assert len(violation.rows) >= 3
    json.dumps(violation.rows)


def test_a_core_that_believes_a_full_battery_half_full_is_caught(monkeypatch):
    real = scenario_run.step

    def blind(rules, state, inputs):
        half = tuple(replace(one, soc_pct=Reading(50.0, inputs.mono_s)) for one in inputs.batteries)
        return real(rules, state, replace(inputs, batteries=half))

    monkeypatch.setattr(scenario_run, "step", blind)
    record = Run(scenario(60.0, pv=False, truth=Truth(capacity_factor=0.6))).run()
    assert {violation.number for violation in record.invariants.violations} >= {1}


def test_a_core_that_takes_old_readings_for_new_is_caught(monkeypatch):
    real = scenario_run.step

    def young(rules, state, inputs):
        fresh = tuple(
            replace(one, **{
                name: Reading(value.value, inputs.mono_s, value.quality)
                for name in ("power_w", "soc_pct", "capacity_wh", "ready", "held_setpoint_w")
                for value in [getattr(one, name)]
            })
            for one in inputs.batteries
        )  # fmt: skip
        return real(rules, state, replace(inputs, batteries=fresh))

    monkeypatch.setattr(scenario_run, "step", young)
    seeds = [seed for seed in range(30) if any(
        fault.kind is FaultKind.DEVICE_SILENT and fault.end_s - fault.start_s > 60
        for fault in drawn(scenario(seed=seed, faults=Faults.SWARM))
        if fault.end_s < 6 * 3600
    )]  # fmt: skip
    record = Run(scenario(seed=seeds[0], faults=Faults.SWARM)).run(until_s=6 * 3600)
    assert 4 in {violation.number for violation in record.invariants.violations}


def test_the_result_and_its_report_stand_alone():
    result = simulate(scenario(60.0), quiet)
    numbers = result.numbers
    json.dumps(numbers)
    assert numbers["money"]["ratio_to_informed"] > 0.8
    assert numbers["slot_energy_error"]["without_tracker"]["slots"] == 48
    assert numbers["violations"]["count"] == 0
    page = html_report(result)
    assert page.count("<svg") >= 4
    assert not re.search(r"(src|href)=|https?://|@import|url\(", page)
    assert "prefers-color-scheme: dark" in page


def test_a_battery_target_is_not_run_a_second_time():
    result = simulate(scenario(60.0, pv=False, target=Target.BATTERY), quiet, references=False)
    assert result.open_loop is None
    assert result.numbers["money"] is None


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (-3.0, 1234.5), (49.97, 50.03), (1e-3, 2e-3)])
def test_an_axis_holds_its_values_and_has_few_marks(low, high):
    bottom, top, step = nice_axis(low, high)
    assert bottom <= low <= high <= top
    assert 3 <= round((top - bottom) / step) <= 12
