"""Random lives of a site: plans, orders, awards, faults and nonsense in any order, every tick against the invariants."""

from __future__ import annotations

import math
from dataclasses import replace

from core_site import T0, good, plan
from core_step_site import Cell, award, booked, rules_of, site
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.core.awards import NO_AWARDS, sold_w
from agent.core.decision import State
from agent.core.envelope_rules import BatteryLimits, SiteLimits
from agent.core.events import EventState
from agent.core.orders import NO_ORDERS, Curtailment, Orders, Outage
from agent.core.plan import PlanKind, Plans, Target
from agent.core.ramp import RampRules
from agent.core.step import step

SITES = (
    rules_of(1),
    rules_of(1, export_limit_w=300e3, import_limit_w=250e3, limits=SiteLimits(ramp=RampRules(50e3, 50e3))),
    rules_of(3, export_limit_w=500e3, import_limit_w=500e3, each=BatteryLimits(reserve_pct=25.0, min_useful_w=20e3)),
    rules_of(2, pv_ids=(), has_load=False),
)
POWERS = st.one_of(st.none(), st.floats(-480e3, 480e3))
NONSENSE = st.sampled_from([math.nan, math.inf, 6553.5, -1.0, 0.0, 65535.0])
FIELDS = st.sampled_from(["power_w", "soc_pct", "capacity_wh", "rated_discharge_w", "live_charge_limit_w", "ready"])


class Life(RuleBasedStateMachine):
    """One site. The helper's own invariants (design document, section 15) run at every tick."""

    @initialize(rules=st.sampled_from(SITES), soc_pct=st.floats(5.0, 95.0))
    def begin(self, rules, soc_pct):
        cells = [Cell(battery.device_id, soc_pct, capacity_wh=200e3) for battery in rules.batteries]
        self.site = site(rules=rules, cells=cells)
        self.versions = {PlanKind.ROLLING: 0, PlanKind.YEARLY: 0}
        self.odd = None
        self.sample = self.site._sample
        self.site._sample = self.maybe_odd
        self.paused = False

    def maybe_odd(self, cell):
        sample = self.sample(cell)
        if self.odd is None or self.odd[0] != cell.device_id:
            return sample
        return replace(sample, **{self.odd[1]: good(self.odd[2], self.site.t)})

    @rule(powers=st.lists(POWERS, min_size=1, max_size=6), kind=st.sampled_from(list(PlanKind)),
          place=st.sampled_from(list(Target)), slot_s=st.sampled_from([5, 60, 1800]))  # fmt: skip
    def a_plan_comes(self, powers, kind, place, slot_s):
        self.versions[kind] += 1
        start = T0 + self.site.t // slot_s * slot_s
        came = plan(*powers, kind=kind, version=self.versions[kind], start=start, target=place, slot_s=slot_s)
        self.site.plans = self.site.plans.replaced(came)

    @rule()
    def the_plans_are_gone(self):
        self.site.plans = Plans()

    @rule(power_w=st.floats(1e3, 600e3), begin=st.integers(0, 20), length=st.integers(1, 60), two=st.booleans())
    def awards_come(self, power_w, begin, length, two):
        begin_s = math.floor(self.site.t) + begin
        sold = [award("a1", power_w, begin_s, begin_s + length)]
        if two:
            sold.append(award("a2", power_w / 3, begin_s + length // 2, begin_s + 2 * length + 1))
        self.site.awards = booked(*sold)

    @rule()
    def the_awards_are_gone(self):
        self.site.awards = NO_AWARDS

    @rule(limit_w=st.one_of(st.none(), st.floats(-10e3, 600e3)), other_w=st.one_of(st.none(), st.floats(0.0, 600e3)))
    def the_grid_operator_orders(self, limit_w, other_w):
        now = T0 + self.site.t
        self.site.orders = replace(
            self.site.orders, curtailments=(Curtailment("c1", now, now + 30.0, limit_w, other_w),)
        )

    @rule(device=st.sampled_from([None, "b0", "b1"]))
    def an_outage_begins(self, device):
        now = T0 + self.site.t
        self.site.orders = replace(self.site.orders, outages=(Outage("o1", now, now + 10.0, device),))

    @rule()
    def the_orders_are_gone(self):
        self.site.orders = NO_ORDERS

    @rule(which=st.integers(0, 2), fault=st.sampled_from(["ready", "silent", "refuses"]))
    def a_battery_fails_or_heals(self, which, fault):
        cell = self.site.cells[which % len(self.site.cells)]
        setattr(cell, fault, not getattr(cell, fault))

    @rule(which=st.integers(0, 2), live_w=st.one_of(st.none(), st.floats(-1e3, 500e3)))
    def the_bms_changes_its_mind(self, which, live_w):
        self.site.cells[which % len(self.site.cells)].live_w = live_w

    @rule(which=st.integers(0, 2), soc_pct=st.floats(0.0, 100.0))
    def the_soc_jumps(self, which, soc_pct):
        self.site.cells[which % len(self.site.cells)].soc_pct = soc_pct

    @rule(which=st.integers(0, 2), name=FIELDS, value=NONSENSE)
    def a_reading_turns_to_nonsense(self, which, name, value):
        self.odd = (f"b{which % len(self.site.cells)}", name, value)

    @precondition(lambda self: self.odd is not None)
    @rule()
    def the_readings_are_right_again(self):
        self.odd = None

    @precondition(lambda self: self.site.rules.pv_ids)
    @rule(pv_w=st.floats(0.0, 600e3), load_w=st.floats(-600e3, 0.0))
    def sun_and_load_change(self, pv_w, load_w):
        self.site.pv_w, self.site.load_w = (lambda _t: pv_w), (lambda _t: load_w)

    @rule(hz=st.one_of(st.none(), st.floats(49.7, 50.3), NONSENSE))
    def the_frequency_moves(self, hz):
        self.site.frequency_hz = lambda _t: hz

    @rule()
    def the_meter_is_lost_or_found(self):
        self.site.meter_good = not self.site.meter_good

    @rule()
    def the_clock_is_doubted_or_trusted(self):
        self.site.trusted = not self.site.trusted

    @rule(seconds=st.sampled_from([7.0, 65.0, 4000.0]))
    def the_machine_sleeps(self, seconds):
        self.site.t += seconds
        self.paused = True

    @rule(ticks=st.integers(1, 25))
    def time_goes_on(self, ticks):
        for _ in range(ticks):
            before = self.site.state
            effects = self.site.tick()
            self.headroom_of_awards(effects.decision)
            self.source_is_told(before, effects)

    def headroom_of_awards(self, decision):
        """Invariant 3: an award that is not told as short leaves its power free above and below the baseline."""
        given_inputs, _ = self.site.log[-1]
        if not given_inputs.clock_trusted:
            return
        lines = given_inputs.awards.at(given_inputs.utc_s)
        if not lines or any(code == "award_not_backed" for code, _ in self.site.conditions):
            return
        up_w, down_w = sold_w(lines)
        most_w = sum(
            min(cell.rated_w, cell.rated_w if cell.live_w is None else max(cell.live_w, 0.0))
            for cell in self.site.cells
            if cell.ready and not cell.silent
        )
        assert decision.baseline_w + 0.95 * up_w <= most_w + 1.0
        assert decision.baseline_w - 0.95 * down_w >= -most_w - 1.0

    def source_is_told(self, before, effects):
        """Every change of source is an event, within one tick."""
        changed = before.source is not effects.decision.source
        assert changed == any(event.code == "source_changed" for event in effects.events)

    @invariant()
    def conditions_are_raised_and_cleared_in_turn(self):
        if not hasattr(self, "site"):
            return
        held = set()
        for event in self.site.events:
            key = (event.code, event.subject)
            if event.state is EventState.RAISED:
                assert key not in held
                held.add(key)
            elif event.state is EventState.CLEARED:
                held.remove(key)
        assert held == self.site.conditions

    @invariant()
    def no_second_of_evidence_comes_twice_or_late(self):
        if not hasattr(self, "site"):
            return
        rows = [row.utc_s for _, effects in self.site.log for row in effects.evidence]
        assert rows == sorted(set(rows))

    def teardown(self):
        if not hasattr(self, "site"):
            return
        state = State()
        for given_inputs, effects in self.site.log:
            state, again = step(self.site.rules, state, given_inputs)
            assert again == effects
        assert state == self.site.state


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=25)


def test_a_second_of_award_without_a_row_is_never_left_out_while_the_loop_runs():
    running = site(awards=booked(award(start=3.0, end=40.0), award("a2", 50e3, 20.0, 60.0)))
    running.run(10)
    running.trusted = False
    running.run(5)
    running.trusted = True
    running.run(55)
    rows = [row.utc_s - int(T0) for _, effects in running.log for row in effects.evidence]
    assert rows == [*range(3, 10), *range(15, 60)]


def test_replay_of_the_same_inputs_gives_the_same_rows_with_everything_in_force():
    orders = Orders(
        curtailments=(Curtailment("c1", T0 + 20, T0 + 40, 50e3, 60e3),), outages=(Outage("o1", T0 + 30, T0 + 50, "b1"),)
    )
    running = site(
        3, plans=Plans(plan(*[300e3, -200e3] * 6, target=Target.GRID, slot_s=10)), orders=orders,
        awards=booked(award(power_w=400e3, start=5.0, end=90.0), rated_w=1.5e6),
        frequency_hz=lambda t: 49.8 + 0.4 * (t % 13) / 13, pv_w=lambda t: 3e3 * (t % 50), load_w=lambda _t: -40e3,
    )  # fmt: skip
    running.run(60)
    running.cells[2].silent = True
    running.run(60)
    state = State()
    for given_inputs, effects in running.log:
        state, again = step(running.rules, state, given_inputs)
        assert again == effects
    assert state == running.state
