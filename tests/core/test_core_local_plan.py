"""A local plan laid over the slots of the cloud's plans: when it decides, when it has no word, what it is measured by."""

from dataclasses import replace

import pytest
from core_site import SITE, T0, battery, inputs, meter, plan
from hypothesis import given
from hypothesis import strategies as st

from agent.core.authority import Source, decide, next_slots
from agent.core.decision import State
from agent.core.deliverability import baseline_ahead
from agent.core.ledger import open_slot_row, slot_row
from agent.core.local_plan import changed_slots, changed_wh, ended_because, overlay
from agent.core.plan import LocalPlan, PlanKind, Plans, Slot, Target
from agent.core.replan_request import PlannedSlot
from agent.core.step import step


def answer(*powers_w, begin=0.0, target=Target.BATTERY, slot_s=1800.0):
    """One planned slot per power from `begin` s on; the SoC falls by 1 % a slot from 50 %."""
    edges = [T0 + begin, *(T0 + (begin // slot_s + i + 1) * slot_s for i in range(len(powers_w)))]
    return [
        PlannedSlot(edges[i], edges[i + 1], target, power_w, power_w, 49.0 - i) for i, power_w in enumerate(powers_w)
    ]


def laid(plans, *powers_w, begin=0.0, **more):
    target = more.get("target", Target.BATTERY)
    planned = answer(*powers_w, begin=begin, **more)
    local = overlay(plans, planned, utc_s=T0 + begin, soc_pct=50.0, by_rule=False, why="a test")
    assert target is Target.BATTERY or local.slots
    return plans.with_local(local)


def decided(plans, t, *, trusted=True):
    authority = decide(SITE, plans, T0 + t, clock_trusted=trusted, meter_good=True)
    return authority.source, authority.power_w, authority.version


def test_a_local_plan_decides_where_the_cloud_has_a_slot_and_nowhere_else():
    rolling = plan(100e3, None, 100e3, None, version=3)
    yearly = plan(20e3, 30e3, kind=PlanKind.YEARLY, version=9)
    plans = laid(Plans(rolling, yearly), 5e3, 6e3, 7e3, 8e3)
    assert [decided(plans, 1800.0 * i + 60.0) for i in range(5)] == [
        (Source.LOCAL_PLAN, 5e3, 3),
        (Source.LOCAL_PLAN, 6e3, 9),
        (Source.LOCAL_PLAN, 7e3, 3),
        (Source.LOCAL_RULE, 0.0, None),
        (Source.LOCAL_RULE, 0.0, None),
    ]
    assert [slot.promise_w for slot in plans.local.slots] == [100e3, 30e3, 100e3]


def test_after_its_last_slot_the_plan_beneath_decides_again():
    plans = laid(Plans(plan(100e3, 101e3, 102e3)), 5e3, 6e3)
    assert decided(plans, 3599.9)[0] is Source.LOCAL_PLAN
    assert decided(plans, 3600.0) == (Source.ROLLING, 102e3, 1)
    assert plans.local.end_utc_s == T0 + 3600.0


def test_the_reason_names_when_why_and_over_what():
    plans = laid(Plans(plan(100e3, version=17)), 5e3)
    why = decide(SITE, plans, T0 + 60.0, clock_trusted=True, meter_good=True).why
    assert why.startswith("planned anew here at ")
    assert "(a test) over rolling plan 17, slot " in why


@pytest.mark.parametrize("newer", [plan(1e3, version=2), plan(2e3, kind=PlanKind.YEARLY, version=2)])
def test_a_newer_document_of_the_cloud_ends_it_for_good(newer):
    plans = laid(Plans(plan(100e3), plan(20e3, kind=PlanKind.YEARLY)), 5e3)
    after = plans.replaced(newer)
    assert after.local is None
    assert decided(after, 60.0)[0] is Source.ROLLING


def test_from_other_plans_than_those_held_it_has_no_word():
    """As after a restart whose disk gave back a newer plan of the cloud than the local one was made from."""
    made_from = laid(Plans(plan(100e3)), 5e3)
    for held in (Plans(plan(100e3, version=2)), Plans(plan(100e3), plan(1.0, kind=PlanKind.YEARLY)), Plans()):
        plans = held.with_local(made_from.local)
        assert decided(plans, 60.0)[0] is not Source.LOCAL_PLAN
        assert all(source is not Source.LOCAL_PLAN for source, _ in next_slots(plans, T0, 5))


def test_without_a_trusted_clock_it_has_no_word_either():
    assert decided(laid(Plans(plan(100e3)), 5e3), 60.0, trusted=False)[0] is Source.LOCAL_RULE


def test_the_slot_that_runs_keeps_its_times_and_at_the_connection_point_what_was_delivered():
    """A third of the slot is left, and in it 60 kW less are planned: 20 kW less over the whole slot."""
    cloud = Plans(plan(90e3, 80e3, target=Target.GRID))
    local = laid(cloud, 30e3, 70e3, begin=1200.0, target=Target.GRID).local
    first, second = local.slots
    assert (first.start_utc_s, first.end_utc_s, first.power_w) == (T0, T0 + 1800.0, pytest.approx(70e3))
    assert first.energy_wh == pytest.approx(90e3 * 1200 / 3600 + 30e3 * 600 / 3600)
    assert (second.start_utc_s, second.power_w, second.promise_w) == (T0 + 1800.0, 70e3, 80e3)
    assert changed_slots(local) == 2
    assert changed_wh(local) == pytest.approx(60e3 * 600 / 3600 + 10e3 / 2)


def test_at_the_battery_the_slot_that_runs_has_the_new_power_at_once():
    first = laid(Plans(plan(90e3)), 30e3, begin=1200.0).local.slots[0]
    assert (first.start_utc_s, first.power_w, first.promise_w) == (T0, 30e3, 90e3)


def test_a_slot_that_the_cloud_cuts_differently_begins_when_it_begins():
    """The yearly plan has one slot of an hour, the answer two of half an hour."""
    hour = Plans(yearly=plan(90e3, kind=PlanKind.YEARLY, slot_s=3600))
    slots = laid(hour, 30e3, 40e3, begin=600.0).local.slots
    assert [(s.start_utc_s - T0, s.end_utc_s - T0, s.power_w) for s in slots] == [
        (600.0, 1800.0, 30e3),
        (1800.0, 3600.0, 40e3),
    ]


def test_nothing_counts_as_changed_where_the_promise_is_kept():
    local = laid(Plans(plan(90e3, 80e3)), 90e3, 80e3 + 0.5).local
    assert (changed_slots(local), changed_wh(local)) == (0, pytest.approx(0.25))


def test_the_expected_soc_runs_straight_from_the_soc_it_was_made_at_to_each_slots_end():
    local = laid(Plans(plan(1.0, 1.0, None, 1.0)), 1.0, 1.0, 1.0, 1.0, begin=900.0).local
    expected = [local.expected_soc_pct(T0 + t) for t in (899.0, 900.0, 1350.0, 1800.0, 2700.0)]
    assert expected == [None, 50.0, pytest.approx(49.5), 49.0, pytest.approx(48.5)]
    assert local.expected_soc_pct(T0 + 4000.0) is None, "in a hole of the cloud's plan"
    assert local.expected_soc_pct(T0 + 5500.0) is None, "after a hole its beginning is not known"
    assert local.expected_soc_pct(T0 + 7200.0) is None


def test_what_comes_is_told_as_it_will_be_decided():
    plans = laid(Plans(plan(1e3, 2e3, 3e3, 4e3)), 5e3, 6e3, 7e3)
    coming = [(source, slot.power_w) for source, slot in next_slots(plans, T0, 5)]
    assert coming == [(Source.LOCAL_PLAN, 6e3), (Source.LOCAL_PLAN, 7e3), (Source.ROLLING, 4e3)]


def test_the_forecast_of_awards_goes_by_what_will_be_done():
    plans = laid(Plans(plan(1e3, 2e3, 3e3)), 5e3, 6e3)
    assert [slot.power_w for slot in baseline_ahead(plans, T0, T0 + 5400.0)] == [5e3, 6e3, 3e3]


def test_a_local_plan_in_the_middle_of_a_slot_goes_on_with_its_account_and_the_ledger_keeps_the_promise():
    cloud = Plans(plan(36e3, 36e3, target=Target.GRID, slot_s=100))
    local = laid(cloud, 18e3, 18e3, begin=50.0, target=Target.GRID, slot_s=100.0)
    state, closed, net_wh = State(), [], 0.0
    for t in range(102):
        plans = cloud if t < 50 else local
        power_w = 36e3 if t < 50 else 18e3
        samples = {"batteries": (battery(t, power_w),), "meter": meter(t, power_w, net_wh)}
        state, effects = step(SITE, state, inputs(float(t), plans, **samples))
        closed += [effects.closed] if effects.closed is not None else []
        net_wh += power_w / 3600.0
        if t == 49:
            before_wh = effects.decision.slot_done_wh
        if t == 50:
            assert effects.decision.source is Source.LOCAL_PLAN
            assert effects.decision.slot_done_wh == pytest.approx(before_wh + 10.0, abs=0.1), "not begun anew"
            assert [e.code for e in effects.events if e.code == "source_changed"] == ["source_changed"]
        if t == 60:
            assert effects.decision.target_w == pytest.approx(18e3, abs=200.0), "steered to the local energy"
    assert len(closed) == 1
    row = slot_row(closed[0])
    assert (row.planned_wh, row.source, row.version) == (pytest.approx(1000.0), "local_plan", 1)
    assert open_slot_row(effects.running).planned_wh == pytest.approx(1000.0), "also if it is killed now"
    assert closed[0].delivered_wh == pytest.approx(750.0, abs=6.0)
    assert closed[0].source is Source.LOCAL_PLAN


POWER = st.none() | st.floats(-1e6, 1e6)


@given(
    st.lists(POWER, min_size=1, max_size=6), st.lists(POWER, max_size=6), st.lists(st.floats(-1e6, 1e6), max_size=8),
    st.floats(0.0, 5 * 1800.0), st.sampled_from(Target), st.floats(0.0, 12 * 1800.0),
)  # fmt: skip
def test_wherever_it_decides_the_cloud_has_a_slot_of_the_same_time_and_place(
    rolling_w, yearly_w, local_w, begin, target, t
):
    rolling = plan(*rolling_w, target=target)
    yearly = plan(*yearly_w, kind=PlanKind.YEARLY, target=target) if yearly_w else None
    cloud = Plans(rolling, yearly)
    planned = answer(*local_w, begin=begin, target=target)
    plans = cloud.with_local(
        overlay(cloud, planned, utc_s=T0 + begin, soc_pct=None, by_rule=True, why="any")
    )  # fmt: skip
    alone = decide(SITE, cloud, T0 + t, clock_trusted=True, meter_good=True)
    both = decide(SITE, plans, T0 + t, clock_trusted=True, meter_good=True)
    if both.source is Source.LOCAL_PLAN:
        assert both.slot.start_utc_s <= T0 + t < both.slot.end_utc_s
        assert (both.slot.start_utc_s, both.slot.end_utc_s) == (alone.slot.start_utc_s, alone.slot.end_utc_s)
        assert (both.target, both.slot.promise_w, both.version) == (alone.target, alone.power_w, alone.version)
    else:
        assert both == alone
        within = local_w and begin <= t < (begin // 1800 + len(local_w)) * 1800
        assert not within or alone.slot is None


def test_it_ends_for_a_reason_that_people_are_told_and_not_by_a_clock_that_is_not_believed():
    plans = laid(Plans(plan(100e3, 101e3)), 5e3, 6e3)
    newer = plans.replaced(plan(1e3, version=2))
    assert ended_because(plans.local, plans, T0 + 3599.9) is None
    assert ended_because(plans.local, plans, T0 + 3600.0) == "the local plan's last slot has ended"
    assert ended_because(plans.local, plans, None) is None
    assert ended_because(plans.local, newer, T0 + 3600.0) == "a new plan of the cloud decides"


def test_a_plan_without_slots_ends_when_it_was_made():
    empty = LocalPlan(T0, (None, None), (), by_rule=True, why="nothing to plan")
    assert (empty.end_utc_s, empty.slot_at(T0), empty.expected_soc_pct(T0)) == (T0, None, None)


def test_a_slot_of_the_cloud_itself_promises_its_own_power():
    slot = Slot(T0, T0 + 1800.0, 5e3, Target.GRID)
    assert (slot.promise_w, replace(slot, promised_w=0.0).promise_w) == (5e3, 0.0)


YEARLY = plan(20e3, 30e3, kind=PlanKind.YEARLY, version=9)
CLOUDS = (
    Plans(plan(100e3, None, 100e3, None, version=3), YEARLY),
    Plans(plan(100e3, None, 100e3, None, version=4), YEARLY),
    Plans(None, YEARLY),
)
SEEN = (*CLOUDS, laid(CLOUDS[0], 5e3, 6e3, 7e3), laid(CLOUDS[0], 8e3, 6e3), laid(CLOUDS[2], 9e3, begin=600.0))


@given(st.lists(st.tuples(st.sampled_from(SEEN), st.integers(-60, 8000), st.booleans(), st.booleans()), max_size=12))
def test_what_the_last_tick_decided_changes_no_decision(ticks):
    before = None
    for plans, t, trusted, meter_good in ticks:
        told = {"clock_trusted": trusted, "meter_good": meter_good}
        afresh = decide(SITE, plans, T0 + t, **told)
        found = decide(SITE, plans, T0 + t, **told, before=before)
        assert found == afresh
        before = found.planning


def test_while_a_slot_runs_its_authority_is_worked_out_once():
    first = decide(SITE, CLOUDS[0], T0, clock_trusted=True, meter_good=True)
    again = decide(SITE, CLOUDS[0], T0 + 1799.9, clock_trusted=True, meter_good=True, before=first)
    then = decide(SITE, CLOUDS[0], T0 + 1800.0, clock_trusted=True, meter_good=True, before=again)
    assert again is first
    assert (then.power_w, then.source) == (30e3, Source.YEARLY)


def test_why_the_plan_above_is_silent_is_told_anew():
    first = decide(SITE, CLOUDS[0], T0 + 1800.0, clock_trusted=True, meter_good=True)
    then = decide(SITE, CLOUDS[2], T0 + 1900.0, clock_trusted=True, meter_good=True, before=first)
    assert first.why.startswith("rolling plan 3 has no slot for now; yearly plan 9")
    assert then.why.startswith("no rolling plan held; yearly plan 9")
