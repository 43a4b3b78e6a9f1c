"""Slot energy over many ticks, several batteries, replay, and properties."""

from __future__ import annotations

from dataclasses import replace

import pytest
from core_site import BATTERY, SITE, T0, battery, good, inputs, meter, missing, plan, pv
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.admission import Accepted, PlanLimits, Refused, Repeated, admit
from agent.core.allocate import allocate
from agent.core.authority import Source
from agent.core.decision import State
from agent.core.envelope import Bound
from agent.core.plan import PlanKind, Plans, Slot, Target
from agent.core.slot_energy import SlotAccount, tracked_power_w
from agent.core.snapshot import WriteOutcome
from agent.core.step import step

LIMITS = PlanLimits(500e3, 500e3, 400e3, 400e3)


class Plant:
    """A battery with one-second lag behind a meter with counters, under a changing load."""

    def __init__(self, soc_pct=50.0, counters=True):
        self.power_w = self.setpoint_w = self.net_wh = 0.0
        self.soc_pct, self.counters = soc_pct, counters

    def second(self, t):
        self.power_w += 0.6 * (self.setpoint_w - self.power_w)
        self.load_w = -60e3 if int(t) % 97 < 40 else -20e3
        self.grid_w = self.power_w + self.load_w
        self.net_wh += self.grid_w / 3600
        self.soc_pct -= self.power_w / (0.97 if self.power_w > 0 else 1 / 0.97) / 3600 / 1e6 * 100


def run(plans, seconds, plant, site=SITE, state=None, start=0):
    """The rows and records of `seconds` ticks against the plant; each write is confirmed one tick later."""
    state, rows, closed, pending = state or State(), [], [], ()
    for t in range(start, start + seconds):
        plant.second(t)
        now = float(t)
        sample = battery(now, plant.power_w, plant.soc_pct, held_w=plant.setpoint_w)
        reading = meter(now, plant.grid_w, plant.net_wh if plant.counters else None)
        tick = inputs(now, plans, batteries=(sample,), pvs=(pv(now),), meter=reading, outcomes=pending)
        state, effects = step(site, state, tick)
        pending = ()
        for write in effects.writes:
            plant.setpoint_w = write.power_w
            pending = (WriteOutcome("bess", write.power_w, write.power_w, True, "", now + 0.2),)
        rows.append((tick, effects))
        closed += [effects.closed] if effects.closed else []
    return state, rows, closed


@pytest.mark.parametrize("counters", [True, False])
def test_the_energy_of_a_grid_slot_lands_on_the_plan_under_a_changing_load(counters):
    plans = Plans(plan(200e3, -150e3, 0.0, target=Target.GRID))
    _, _, closed = run(plans, 5402, Plant(counters=counters))
    for record in closed:
        assert record.delivered_wh == pytest.approx(record.slot.energy_wh, abs=0.002 * 200e3)
        assert record.covered_s == pytest.approx(1800, abs=1.01)
    assert len(closed) == 3


def test_the_meters_own_counter_beats_integrated_power():
    """The meter saw 40 kWh where the sampled power adds up to something else."""
    plans = Plans(plan(100e3, target=Target.GRID))
    state, _ = step(SITE, State(), inputs(0.0, plans, meter=meter(0.0, 50e3, net_wh=0.0)))
    _, effects = step(SITE, state, inputs(5.0, plans, meter=meter(5.0, 50e3, net_wh=40e3)))
    assert effects.decision.slot_done_wh == pytest.approx(40e3)


def test_a_counter_read_a_little_earlier_is_carried_to_now_by_the_power():
    plans = Plans(plan(100e3, target=Target.GRID))
    state, _ = step(SITE, State(), inputs(0.0, plans, meter=meter(0.0, 36e3, net_wh=0.0)))
    _, effects = step(SITE, state, inputs(5.0, plans, meter=meter(3.0, 36e3, net_wh=30.0)))
    assert effects.decision.slot_done_wh == pytest.approx(50.0)


def test_a_tick_after_the_edge_counts_for_the_old_slot_only_up_to_the_edge():
    plans = Plans(plan(100e3, 100e3))
    at_power = {"batteries": (battery(1799.0, power_w=360e3),)}
    state, _ = step(SITE, State(), inputs(1799.0, plans, **at_power))
    late = {"batteries": (battery(1804.0, power_w=360e3),)}
    state, effects = step(SITE, state, inputs(1804.0, plans, **late))
    assert effects.closed.delivered_wh == pytest.approx(100.0)
    assert state.account.battery_wh == pytest.approx(400.0)


def test_near_the_end_of_a_slot_the_rest_never_becomes_a_spike():
    _, rows, _ = run(Plans(plan(200e3, target=Target.GRID)), 1799, Plant())
    late = [fx.decision.target_w for _, fx in rows[1790:]]
    assert max(late) < 300e3
    assert min(late) > 150e3


def test_a_rest_of_energy_is_spread_over_five_ticks_at_least():
    account = SlotAccount(Slot(T0, T0 + 1800, 0.0, Target.GRID), Source.ROLLING, 1, anchor_wh=0.0)
    assert tracked_power_w(account, T0 + 1799.5, 1.0, counter_wh=-100.0) == pytest.approx(100 * 3600 / 5)


def test_a_restart_in_the_middle_of_a_slot_goes_on_counting():
    plans, plant = Plans(plan(200e3, target=Target.GRID)), Plant()
    state, _, _ = run(plans, 900, plant)
    for t in range(900, 960):
        plant.second(t)
    resumed = State(account=state.account)
    _, _, closed = run(plans, 842, plant, state=resumed, start=960)
    assert closed[0].delivered_wh == pytest.approx(100e3, abs=400)
    assert closed[0].covered_s == pytest.approx(1740, abs=2)


def test_a_republished_plan_keeps_the_energy_that_is_done_and_takes_the_new_promise():
    plant = Plant()
    state, _, _ = run(Plans(plan(200e3, target=Target.GRID)), 600, plant)
    revised = Plans(plan(150e3, target=Target.GRID, version=2))
    _, _, closed = run(revised, 1202, plant, state=state, start=600)
    assert closed[0].version == 2
    assert closed[0].delivered_wh == pytest.approx(75e3, abs=400)


def test_soc_lands_on_its_limit_and_stays_there():
    plant = Plant(soc_pct=20.0)
    run(Plans(plan(400e3, 400e3)), 3600, plant, replace(SITE, export_limit_w=1e6))
    assert 9.9 <= plant.soc_pct <= 10.6


def test_the_same_inputs_give_the_same_rows():
    _, rows, _ = run(Plans(plan(200e3, target=Target.GRID)), 300, Plant())
    state = State()
    for tick, effects in rows:
        state, again = step(SITE, state, tick)
        assert again == effects


def bounds(low, high):
    return (Bound("test", "unit", low, high),)


@given(
    power_w=st.floats(-2e6, 2e6),
    room=st.lists(st.tuples(st.floats(0, 5e5), st.floats(0, 5e5)), min_size=1, max_size=16),
)
def test_shares_stay_in_each_units_room_and_add_up_to_what_is_possible(power_w, room):
    units = {f"b{i}": bounds(-low, high) for i, (low, high) in enumerate(room)}
    shares, _ = allocate(power_w, units)
    for (low, high), share_w in zip(room, shares.values(), strict=True):
        assert -low - 1e-6 <= share_w <= high + 1e-6
    possible = min(max(power_w, -sum(low for low, _ in room)), sum(high for _, high in room))
    assert sum(shares.values()) == pytest.approx(possible, abs=1e-3)


NUMBERS = st.one_of(st.none(), st.floats(-1e7, 1e7), st.sampled_from([0.0, 6553.5, -1.0]))


def reading(value, at):
    return missing(at) if value is None else good(value, at)


@settings(max_examples=300)
@given(
    soc=NUMBERS, capacity=NUMBERS, power=NUMBERS, live=NUMBERS, ready=st.sampled_from([None, 0.0, 1.0]), grid=NUMBERS,
    sun=NUMBERS, age=st.floats(0, 30), planned=st.floats(-4e5, 4e5), target=st.sampled_from(list(Target)),
)  # fmt: skip
def test_whatever_the_devices_say_the_setpoint_is_a_number_within_the_nameplate(
    soc, capacity, power, live, ready, grid, sun, age, planned, target
):
    at = 100.0 - age
    sample = replace(
        battery(at), soc_pct=reading(soc, at), capacity_wh=reading(capacity, at), power_w=reading(power, at),
        live_charge_limit_w=reading(live, at), live_discharge_limit_w=reading(live, at), ready=reading(ready, at),
    )  # fmt: skip
    tick = inputs(
        100.0, Plans(plan(planned, target=target)), batteries=(sample,),
        pvs=(replace(pv(), power_w=reading(sun, at)),), meter=replace(meter(at), power_w=reading(grid, at)),
    )  # fmt: skip
    _, effects = step(SITE, State(), tick)
    assert abs(effects.decision.setpoint_w) <= BATTERY.rated_discharge_w
    unknown = None in (soc, capacity, power, ready) or age > 10 or ready == 0 or (capacity or 0) <= 0
    if unknown:
        assert effects.decision.setpoint_w == 0.0
    if age > 10:
        assert effects.writes == ()


def test_a_battery_without_soc_leaves_its_share_to_the_other():
    second = replace(BATTERY, device_id="b2")
    site = replace(SITE, batteries=(BATTERY, second))
    blind = replace(battery(), soc_pct=missing())
    other = replace(battery(), device_id="b2")
    row = step(site, State(), inputs(plans=Plans(plan(300e3)), batteries=(blind, other)))[1].decision
    assert row.shares_w == {"bess": 0.0, "b2": 300e3}
    assert row.soc_pct is None


def test_a_plan_is_admitted_repeated_or_refused():
    held = Plans(plan(1.0, 2.0, version=5))
    now = T0 + 10
    verdicts = {
        "newer": admit(plan(1.0, version=6), held, LIMITS, now),
        "same": admit(plan(1.0, version=5), held, LIMITS, now),
        "first yearly": admit(plan(1.0, kind=PlanKind.YEARLY), held, LIMITS, now),
    }
    assert verdicts == {"newer": Accepted(), "same": Repeated(), "first yearly": Accepted()}


@pytest.mark.parametrize(
    ("changed", "reason", "field"),
    [
        ({"version": 4}, "version_old", "version"),
        ({"version": 5, "sha256": "other"}, "version_conflict", "version"),
        ({"start_utc_s": T0 - 3600, "issued_utc_s": T0}, "wholly_past", "start"),
        ({"start_utc_s": T0 + 1}, "misaligned", "start"),
        ({"issued_utc_s": T0 + 1000}, "from_the_future", "issued_at"),
        ({"power_w": (1.0,) * 97}, "too_long", "power"),
        ({"power_w": (1.0, None, 526e3)}, "beyond_rating", "power[2]"),
        ({"power_w": (1.0, -526e3)}, "beyond_rating", "power[1]"),
        ({"power_w": (421e3,), "target": Target.GRID}, "beyond_rating", "power[0]"),
    ],
)
def test_a_plan_that_does_not_fit_the_site_is_refused_with_its_field(changed, reason, field):
    held = Plans(plan(1.0, version=5))
    candidate = replace(plan(1.0, 2.0, version=6), **changed)
    verdict = admit(candidate, held, LIMITS, T0 + 10)
    assert isinstance(verdict, Refused)
    assert (verdict.reason, verdict.field) == (reason, field)


def test_just_over_the_rating_is_admitted_and_clipped_later():
    assert admit(plan(520e3, version=6), Plans(), LIMITS, T0) == Accepted()
