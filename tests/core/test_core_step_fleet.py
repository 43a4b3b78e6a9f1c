"""Several batteries through whole ticks: one drops out, the rest take over, the site limit holds at every moment."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from core_site import plan
from core_step_site import Cell, award, booked, rules_of, site
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.orders import Curtailment, Orders
from agent.core.plan import Plans, Target

RATED_W = 500e3


def constant(value):
    return lambda _t: value


def fleet(count, power_w, target=Target.BATTERY, **changes):
    return site(count, plans=Plans(plan(*[power_w] * 4, target=target)), **changes)


def limited(count, power_w, limit_w, **changes):
    """A site whose batteries could do far more than the connection allows, in either direction."""
    rules = rules_of(count, export_limit_w=limit_w, import_limit_w=limit_w)
    return fleet(count, power_w, rules=rules, **changes)


def beyond_w(running, limit_w):
    return max(abs(grid_w) for _, grid_w in running.grid_log) - limit_w


@pytest.mark.parametrize("count", [2, 3, 8, 16])
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("how", ["silent", "not ready", "refuses", "no SoC", "live limit 0"])
def test_a_battery_that_drops_out_never_takes_the_site_over_its_limit_and_the_others_take_its_share(count, sign, how):
    limit_w = 0.4 * count * RATED_W
    running = limited(count, sign * limit_w, limit_w)
    running.run(5)
    assert running.grid_w == pytest.approx(sign * limit_w)
    first = running.cells[0]
    if how == "silent":
        first.silent = True
    elif how == "not ready":
        first.ready = False
    elif how == "refuses":
        first.refuses = True
    elif how == "no SoC":
        first.soc_pct = 6553.5
    else:
        first.live_w = 0.0
    effects = running.tick()
    shares = effects.decision.shares_w
    if how in ("not ready", "no SoC", "live limit 0"):
        assert shares["b0"] == 0.0
    running.run(100)
    assert beyond_w(running, limit_w) <= 1.0
    # A battery that holds on to its share (silent until its dead-man, or refusing) leaves less for the others.
    assert running.grid_w == pytest.approx(sign * limit_w, rel=1e-3)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_with_room_at_the_connection_the_share_moves_within_the_same_tick(sign):
    running = fleet(4, sign * 400e3)
    running.run(3)
    running.cells[0].soc_pct = 6553.5
    shares = running.tick().decision.shares_w
    assert shares["b0"] == 0.0
    assert sum(shares.values()) == pytest.approx(sign * 400e3)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_write_under_way_counts_before_it_is_read_back(sign):
    """b0 is told to rise and is slow; in the next tick b1 must not take the same room."""
    limit_w = 300e3
    running = limited(2, sign * limit_w, limit_w, cells=[Cell("b0", write_s=3.6), Cell("b1", write_s=0.3)])
    running.run(2)
    running.cells[0].soc_pct, running.cells[1].soc_pct = 45.0, 60.0
    running.run(30)
    running.cells[0].soc_pct, running.cells[1].soc_pct = 60.0, 45.0
    running.run(30)
    assert beyond_w(running, limit_w) <= 1.0


def test_a_battery_that_fell_silent_with_a_write_under_way_may_hold_either_setpoint():
    """The write lands late, unseen: the others leave room for both until the dead-man has ended it."""
    limit_w = 200e3
    running = limited(2, 0.0, limit_w)
    running.run(3)
    slow = running.cells[0]
    running.plans = Plans(plan(150e3))
    slow.write_s = 4.0
    land = running._land

    def late(cell):
        if cell is slow:
            for at_s, power_w in [one for one in cell.told if one[0] <= running.t]:
                cell.told.remove((at_s, power_w))
                cell.held_w, cell.fed_s = power_w, running.t
        else:
            land(cell)

    running._land = late
    running.tick()
    slow.silent = True
    running.plans = Plans(plan(400e3))
    running.run(80)
    assert beyond_w(running, limit_w) <= 1.0


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("how", ["silent", "refuses"])
def test_the_power_of_a_lost_battery_may_end_without_taking_the_site_over_its_other_limit(sign, how):
    """It goes on against the others, which may not lean on it: its dead-man ends it at any moment."""
    limit_w = 200e3
    running = limited(2, sign * 150e3, limit_w)
    running.run(3)
    setattr(running.cells[0], how, True)
    running.plans = Plans(plan(-sign * 400e3))
    running.run(80)
    assert beyond_w(running, limit_w) <= 1.0
    assert running.grid_w == pytest.approx(-sign * limit_w)


def test_what_a_refusing_battery_goes_on_doing_is_taken_off_the_others_work():
    running = fleet(2, 200e3)
    running.run(3)
    running.cells[0].refuses = True
    running.plans = Plans(plan(300e3))
    running.run(12)
    assert running.raised("setpoint_refused") == [("raised", "b0")]
    assert running.cells[0].power_w == pytest.approx(100e3)
    assert running.grid_w == pytest.approx(300e3)
    running.cells[0].refuses = False
    running.run(15)
    assert running.raised("setpoint_refused")[-1] == ("cleared", "b0")
    assert running.grid_w == pytest.approx(300e3)


def test_a_battery_that_states_a_little_more_or_less_with_the_weather_keeps_what_was_learned():
    running = site(1)
    running.run(2)
    taught = replace(running.state.models["b0"], stretches=7)
    running.state = replace(running.state, models={"b0": taught})
    for capacity_wh in (1.01e6, 0.99e6, 1e6):
        running.cells[0].capacity_wh = capacity_wh
        running.run(2)
    # Stated as before: no dispute is open, and nothing was begun anew.
    assert running.state.models["b0"].stretches == 7
    running.cells[0].capacity_wh = 1.01e6
    running.run(3)
    assert running.state.models["b0"].disputed_s == 0.0


def test_all_silent_writes_nothing_and_says_so_battery_by_battery():
    running = fleet(4, 400e3)
    running.run(3)
    for cell in running.cells:
        cell.silent = True
    effects = running.run(70)
    assert all(not one.writes for one in effects)
    assert effects[-1].decision.battery_w is None
    assert {subject for code, subject in running.conditions if code == "device_silent"} == {"b0", "b1", "b2", "b3"}
    assert running.grid_w == 0.0
    for cell in running.cells:
        cell.silent = False
    running.run(3)
    assert running.grid_w == pytest.approx(400e3)


def test_socs_come_together_and_stay_together():
    cells = [Cell("b0", 30.0, 1e5), Cell("b1", 60.0, 2e5), Cell("b2", 45.0, 1e5)]
    rules = rules_of(3, tick_s=5.0)
    running = site(cells=cells, rules=rules, tick_s=5.0, plans=Plans(plan(*[150e3, -150e3] * 6)))
    running.run(6 * 3600 - 5)
    socs = [cell.soc_pct for cell in running.cells]
    assert max(socs) - min(socs) < 3.0


def test_a_grid_slot_lands_on_its_plan_while_batteries_come_and_go():
    running = fleet(4, 600e3, Target.GRID, load_w=lambda t: -80e3 if t % 60 < 25 else -30e3)
    running.run(400)
    running.cells[0].ready = False
    running.run(300)
    running.cells[1].silent = True
    running.run(300)
    running.cells[0].ready, running.cells[1].silent = True, False
    done = running.run(801)
    (record,) = [effects.closed for effects in done if effects.closed]
    assert record.delivered_wh == pytest.approx(300e3, abs=0.001 * 300e3)


def test_the_response_is_shared_and_a_lost_battery_is_made_good():
    running = fleet(4, 0.0, awards=booked(award(power_w=800e3), rated_w=2e6), frequency_hz=constant(49.8))
    assert running.tick().decision.setpoint_w == pytest.approx(800e3)
    running.run(3)
    running.cells[2].ready = False
    assert running.tick().decision.setpoint_w == pytest.approx(800e3)


def test_a_curtailment_holds_while_a_silent_battery_still_gives():
    order = Orders(curtailments=(Curtailment("c1", 0.0, 1e12, export_limit_w=250e3),))
    running = fleet(3, 600e3)
    running.run(3)
    running.cells[0].silent = True
    running.tick()
    running.orders = order
    running.run(90)
    settled = [grid_w for t, grid_w in running.grid_log if t > 6]
    assert max(settled) <= 250e3 + 1.0
    assert running.grid_w == pytest.approx(250e3)


@settings(max_examples=25)
@given(
    count=st.sampled_from([2, 3, 5, 16]), seed=st.integers(0, 2**32), slow=st.booleans(),
    target=st.sampled_from(list(Target)),
)  # fmt: skip
def test_under_changing_plans_and_failing_batteries_the_limit_holds_at_every_moment(count, seed, slow, target):
    chance = random.Random(seed)
    limit_w = 0.5 * count * RATED_W
    cells = [
        Cell(f"b{i}", chance.uniform(20.0, 80.0), write_s=chance.choice([0.1, 0.6, 2.3]) if slow else 0.3)
        for i in range(count)
    ]
    powers = [chance.uniform(-limit_w, limit_w) for _ in range(60)]
    rules = rules_of(count, export_limit_w=limit_w, import_limit_w=limit_w)
    running = site(cells=cells, rules=rules, plans=Plans(plan(*powers, target=target, slot_s=10)))
    for _ in range(120):
        if chance.random() < 0.15:
            cell = chance.choice(cells)
            # One trouble at a time: a mute battery that trips and starts again unseen is beyond anyone's control.
            if cell.ready and not cell.silent and not cell.refuses:
                kind = chance.choice(["ready", "silent", "refuses"])
                setattr(cell, kind, not getattr(cell, kind))
            else:
                cell.ready, cell.silent, cell.refuses = True, False, False
        running.tick()
    assert beyond_w(running, limit_w) <= 1.0
