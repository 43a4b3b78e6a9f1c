"""The ledger's slots against what truly flowed, tick by tick through `step()`."""

from __future__ import annotations

import math
import random
from dataclasses import fields, replace

import pytest
from core_site import SITE, T0, battery, inputs, meter, missing, plan, pv
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.decision import State
from agent.core.energy_paths import NOTHING, EnergyPaths, added
from agent.core.ledger import SlotRow, open_slot_row, slot_account, slot_row
from agent.core.plan import Plans, Target
from agent.core.snapshot import WriteOutcome
from agent.core.step import step

PARTS = 20
"""The truth moves this many times between two ticks."""
PATHS = [field.name for field in fields(EnergyPaths) if field.name != "split_s"]


class TrueSite:
    """A battery with lag, a field of PV under fast clouds and a load, counted by a meter with a resolution of 1 Wh."""

    def __init__(self, seed=1, pv_peak_w=300e3, soc_pct=50.0, counters=True):
        self.random, self.pv_peak_w, self.counters = random.Random(seed), pv_peak_w, counters
        self.battery_w = self.setpoint_w = self.export_wh = self.import_wh = 0.0
        self.sun, self.pv_w, self.load_w, self.soc_pct = 0.5, 0.0, -40e3, soc_pct
        self.truth = NOTHING

    def second(self):
        self.sun = min(1.0, max(0.0, self.sun + self.random.gauss(0, 0.03)))
        if self.random.random() < 0.01:
            self.load_w = -self.random.uniform(10e3, 150e3)
        pv_before, pv_after = self.pv_w, self.pv_peak_w * self.sun
        for part in range(PARTS):
            dt_s = 1 / PARTS
            self.battery_w += (self.setpoint_w - self.battery_w) * (1 - math.exp(-dt_s / 0.7))
            self.pv_w = pv_before + (pv_after - pv_before) * (part + 1) / PARTS
            self.truth = added(self.truth, dt_s, self.battery_w, self.pv_w, self.load_w)
            self.soc_pct -= self.battery_w * dt_s / 3600 / 1e6 * 100
            energy_wh = self.grid_w * dt_s / 3600
            self.export_wh += max(energy_wh, 0.0)
            self.import_wh += max(-energy_wh, 0.0)

    @property
    def grid_w(self):
        return self.battery_w + self.pv_w + self.load_w

    def meter(self, t):
        sample = meter(t, self.grid_w, 0.0)
        if not self.counters:
            return replace(sample, export_wh=missing(t), import_wh=missing(t))
        return replace(
            sample,
            export_wh=replace(sample.export_wh, value=math.floor(self.export_wh)),
            import_wh=replace(sample.import_wh, value=math.floor(self.import_wh)),
        )


def run(site, plans, seconds, state=None, start=0, silent=(), rules=SITE):
    """The state, and (record, truth of its slot) for each slot that closed."""
    state, closed, pending = state or State(), [], ()
    site.truth = NOTHING if start == 0 else site.truth
    for t in range(start, start + seconds):
        if t:
            site.second()
        now = float(t)
        sample = battery(now, site.battery_w, site.soc_pct, held_w=site.setpoint_w)
        sun = pv(now, site.pv_w) if t not in silent else replace(pv(now), power_w=missing(now))
        tick = inputs(now, plans, batteries=(sample,), pvs=(sun,), meter=site.meter(now), outcomes=pending)
        state, effects = step(rules, state, tick)
        pending = ()
        for write in effects.writes:
            site.setpoint_w = write.power_w
            pending = (WriteOutcome("bess", write.power_w, write.power_w, True, "", now + 0.2),)
        if effects.closed:
            closed.append((effects.closed, site.truth))
            site.truth = NOTHING
    return state, closed


def assert_true(row: SlotRow, truth: EnergyPaths, within_wh: float):
    for name in PATHS:
        assert getattr(row.paths, name) == pytest.approx(getattr(truth, name), abs=within_wh), name


@settings(max_examples=8)
@given(seed=st.integers(0, 10**6), power_w=st.floats(-300e3, 300e3), target=st.sampled_from(Target))
def test_under_fast_clouds_the_paths_add_up_to_the_meter_and_are_close_to_the_truth(seed, power_w, target):
    site = TrueSite(seed)
    _, closed = run(site, Plans(plan(power_w, -power_w, target=target, slot_s=300)), 601)
    for record, truth in closed:
        row = slot_row(record)
        rated_wh = SITE.export_limit_w * 300 / 3600
        assert row.paths.exported_wh == pytest.approx(truth.exported_wh, abs=0.001 * rated_wh)
        assert row.paths.imported_wh == pytest.approx(truth.imported_wh, abs=0.001 * rated_wh)
        assert row.paths.grid_wh == pytest.approx(row.grid_wh, abs=0.001 * rated_wh)
        assert row.grid_wh == pytest.approx(truth.grid_wh, abs=0.001 * rated_wh)
        assert_true(row, truth, within_wh=0.01 * rated_wh)
    assert len(closed) == 2


def test_without_counters_the_integrated_power_is_the_meter():
    _, ((record, truth),) = run(TrueSite(counters=False), Plans(plan(150e3, target=Target.GRID, slot_s=300)), 301)
    row = slot_row(record)
    assert row.grid_wh == pytest.approx(truth.grid_wh, abs=100)
    assert row.unsplit_wh == pytest.approx(0.0, abs=1e-6)


def test_seconds_without_pv_are_energy_without_a_path():
    """30 of 300 s: the meter goes on counting, and the difference is shown, not invented."""
    silent = range(100, 130)
    _, ((record, truth),) = run(TrueSite(), Plans(plan(200e3, target=Target.GRID, slot_s=300)), 301, silent=silent)
    row = slot_row(record)
    assert row.paths.split_s == pytest.approx(270)
    assert row.grid_wh == pytest.approx(truth.grid_wh, abs=15)
    assert row.paths.grid_wh + row.unsplit_wh == pytest.approx(row.grid_wh)
    assert row.unsplit_wh == pytest.approx(truth.grid_wh * 0.1, rel=0.25)


def test_a_restart_in_mid_slot_goes_on_with_the_sums_on_disk_and_shows_what_was_missed():
    site, plans = TrueSite(), Plans(plan(200e3, target=Target.GRID, slot_s=300))
    state, _ = run(site, plans, 140)
    kept = slot_account(open_slot_row(state.account))
    assert kept == replace(state.account, slot=kept.slot), "every sum survives"
    for _ in range(20):
        site.second()
    _, ((record, truth),) = run(site, plans, 142, State(account=kept), start=160)
    row = slot_row(record)
    assert row.paths.split_s == pytest.approx(279, abs=1)
    assert row.grid_wh == pytest.approx(truth.grid_wh, abs=15)
    assert row.paths.grid_wh + row.unsplit_wh == pytest.approx(row.grid_wh)
    assert row.paths.exported_wh == pytest.approx(truth.exported_wh * 279 / 300, rel=0.02)


def test_a_site_without_pv_has_no_energy_from_pv_whatever_the_instants_of_its_readings():
    rules = replace(SITE, pv_ids=())
    site = TrueSite(pv_peak_w=0.0)
    state, closed = State(), None
    plans = Plans(plan(300e3, slot_s=300))
    for t in range(302):
        behind_w = 40e3 if t % 2 else -40e3  # the battery's reading is from another instant than the meter's
        tick = inputs(
            float(t), plans, batteries=(battery(float(t), 200e3 + behind_w),), pvs=(), meter=meter(float(t), 200e3)
        )
        state, effects = step(rules, state, tick)
        closed = effects.closed or closed
    paths = closed.paths
    assert (paths.pv_to_grid_wh, paths.pv_to_load_wh, paths.pv_to_battery_wh) == (0, 0, 0)
    assert paths.exported_wh == pytest.approx(200e3 / 12, rel=1e-6)
    assert site.pv_peak_w == 0


def test_imbalance_leaves_out_the_frequency_response():
    _, ((record, _),) = run(TrueSite(), Plans(plan(100e3, target=Target.GRID, slot_s=300)), 301)
    row = replace(slot_row(record), delivered_wh=9000.0, response_wh=500.0)
    assert row.planned_wh == pytest.approx(100e3 / 12)
    assert row.imbalance_wh == pytest.approx(9000 - 500 - 100e3 / 12)
    assert replace(row, delivered_wh=None).imbalance_wh is None
    assert row.start_utc_s == T0


def test_time_without_a_plan_is_accounted_for_up_to_the_half_hour_and_promises_nothing():
    site = TrueSite()
    state, closed = run(site, Plans(), 1900)
    ((record, truth),) = closed
    row = slot_row(record)
    assert (row.source, row.planned_wh, row.imbalance_wh, row.target) == ("local_rule", None, None, "grid")
    assert (row.end_utc_s - T0, state.account.slot.start_utc_s) == (1800.0, row.end_utc_s)
    assert row.grid_wh == pytest.approx(truth.grid_wh, abs=2.0)
    assert_true(row, truth, within_wh=5.0)


def test_a_plan_that_begins_ends_the_time_without_one_at_that_instant():
    site = TrueSite()
    plans = Plans(rolling=plan(50.0, 50.0, start=T0 + 600, slot_s=300))
    _, closed = run(site, plans, 1000)
    (before, _), (first, _) = closed
    assert (before.slot.end_utc_s, first.slot.start_utc_s) == (T0 + 600, T0 + 600)
    assert (slot_row(before).planned_wh, slot_row(first).planned_wh is None) == (None, False)


def test_a_plan_for_time_that_began_without_one_takes_over_what_flowed_since():
    site = TrueSite()
    state, closed = run(site, Plans(), 600)
    assert closed == []
    plans = Plans(rolling=plan(50.0, start=T0, slot_s=900))
    _, closed = run(site, plans, 400, state, 600)
    (record, _) = closed[0]
    assert (record.slot.start_utc_s, record.slot.end_utc_s) == (T0, T0 + 900)
    assert record.covered_s == pytest.approx(900.0, abs=1.5)


def test_with_a_clock_that_may_be_wrong_no_time_is_accounted_for():
    _, effects = step(SITE, State(), replace(inputs(0.0, Plans()), clock_trusted=False))
    assert effects.running is None


def test_after_a_restart_time_without_a_plan_goes_on_from_its_row():
    state, _ = run(TrueSite(), Plans(), 100)
    again = slot_account(open_slot_row(state.account))
    assert (again.planned, again.slot.start_utc_s, again.slot.end_utc_s) == (False, T0, T0 + 1800)
