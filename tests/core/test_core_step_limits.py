"""Every limit of the site through whole ticks: orders, outages, ramp, reserve, derating, taper, shared inverter."""

from __future__ import annotations

from dataclasses import replace

import pytest
from core_site import T0, good, missing, plan
from core_step_site import Cell, rules_of, site

from agent.core.bounds import Rank
from agent.core.derating import Curve, Derating, Quantity
from agent.core.envelope import projection_s
from agent.core.envelope_rules import BatteryLimits, SiteLimits
from agent.core.hybrid import SharedInverter
from agent.core.orders import Curtailment, Orders, Outage
from agent.core.plan import Plans, Target
from agent.core.ramp import RampRules
from agent.core.rules import LocalRule


def constant(value):
    return lambda _t: value


def planned(power_w, target=Target.BATTERY, **changes):
    return site(plans=Plans(plan(*[power_w] * 8, target=target)), **changes)


def export_order(limit_w, start=0.0, end=1e6, order_id="c1"):
    return Orders(curtailments=(Curtailment(order_id, T0 + start, T0 + end, export_limit_w=limit_w),))


def setpoints(effects):
    return [one.decision.setpoint_w for one in effects]


def test_under_an_export_order_the_battery_absorbs_pv_and_gives_it_up_when_the_order_ends():
    running = planned(100e3, pv_w=constant(200e3), orders=export_order(0.0, 3.0, 6.0))
    assert setpoints(running.run(8)) == [100e3] * 3 + [-200e3] * 3 + [100e3] * 2
    (clip,) = running.log[3][1].decision.clips
    assert (clip.limit, clip.owner) == ("curtailment c1", "grid operator")


def test_export_zero_is_kept_at_every_moment_under_a_plan_that_sells_and_a_moving_load():
    running = planned(
        300e3, Target.GRID, pv_w=lambda t: 100e3 + 5e3 * (t // 40), load_w=constant(-80e3), orders=export_order(0.0)
    )
    running.run(200)
    settled = [grid_w for t, grid_w in running.grid_log if t > 2 and t % 40 > 2]
    assert max(settled) <= 1.0


def test_reverse_flow_prohibited_is_a_connection_without_export():
    running = planned(300e3, pv_w=constant(50e3), load_w=constant(-80e3), rules=rules_of(export_limit_w=0.0))
    assert setpoints(running.run(3)) == [30e3] * 3


def test_an_order_that_load_alone_breaks_is_answered_with_all_the_battery_has_and_told_until_it_is_kept():
    order = Orders(curtailments=(Curtailment("c9", T0, T0 + 1e6, import_limit_w=100e3),))
    running = planned(-50e3, load_w=lambda t: -700e3 if t < 3 else -150e3, orders=order)
    decision = running.tick().decision
    assert decision.setpoint_w == 500e3
    assert [(s.limit, s.rank, s.by) for s in decision.softened] == [
        ("curtailment c9", Rank.CURTAILMENT, "what the batteries can do")
    ]
    running.run(4)
    assert running.raised("curtailment_exceeded") == [("raised", "grid operator"), ("cleared", "grid operator")]
    assert running.log[-1][1].decision.setpoint_w == pytest.approx(50e3)


def test_an_order_wider_than_the_site_changes_nothing():
    running = planned(300e3, rules=rules_of(export_limit_w=200e3), orders=export_order(900e3))
    assert setpoints(running.run(2)) == [200e3] * 2


def test_an_import_limit_holds_back_charging_by_what_the_load_takes():
    running = planned(-400e3, load_w=constant(-150e3), rules=rules_of(import_limit_w=300e3))
    assert setpoints(running.run(2)) == [-150e3] * 2


def test_an_export_and_an_import_order_at_once_are_both_kept():
    orders = Orders(
        curtailments=(
            Curtailment("ex", T0, T0 + 100, export_limit_w=20e3),
            Curtailment("im", T0, T0 + 100, import_limit_w=30e3),
        )
    )
    assert setpoints(planned(300e3, orders=orders, load_w=constant(-10e3)).run(2)) == [30e3] * 2
    assert setpoints(planned(-300e3, orders=orders, load_w=constant(-10e3)).run(2)) == [-20e3] * 2


def test_an_outage_of_one_battery_moves_its_share_to_the_other_and_back():
    orders = Orders(outages=(Outage("o1", T0 + 2, T0 + 4, device_id="b0"),))
    running = planned(200e3, count=2, orders=orders)
    shares = [effects.decision.shares_w for effects in running.run(6)]
    assert shares[1] == pytest.approx({"b0": 100e3, "b1": 100e3}, rel=1e-3)
    assert shares[3] == pytest.approx({"b0": 0.0, "b1": 200e3})
    assert shares[5] == pytest.approx({"b0": 100e3, "b1": 100e3}, rel=1e-3)


def test_an_outage_of_the_whole_site_rests_every_battery_whatever_the_plan_and_the_limits_ask():
    orders = Orders(outages=(Outage("o1", T0, T0 + 1e6),))
    running = planned(300e3, count=3, orders=orders, pv_w=constant(900e3), rules=rules_of(3, export_limit_w=500e3))
    effects = running.run(3)
    assert setpoints(effects) == [0.0] * 3
    assert effects[0].decision.clips[-1].limit == "outage o1"
    assert ("connection_limit_exceeded", "site") in running.conditions


def test_an_outage_of_another_device_does_not_touch_the_battery():
    orders = Orders(outages=(Outage("o1", T0, T0 + 1e6, device_id="pv"),))
    assert planned(300e3, orders=orders).tick().decision.setpoint_w == 300e3


def test_the_plan_is_ramped_and_the_ramp_yields_to_an_order():
    rules = rules_of(limits=SiteLimits(ramp=RampRules(10e3, 10e3)))
    running = planned(200e3, rules=rules, orders=export_order(0.0, 5.0, 7.0), pv_w=constant(150e3))
    found = setpoints(running.run(9))
    assert found[:5] == pytest.approx([0.0, 10e3, 20e3, 30e3, 40e3])
    assert found[5:7] == pytest.approx([-150e3] * 2)
    assert found[7:] == pytest.approx([-140e3, -130e3])
    softened = running.log[5][1].decision.softened
    assert [(s.limit, s.by) for s in softened] == [("ramp rate", "curtailment c1")]


def test_after_a_pause_of_the_machine_the_ramp_does_not_jump():
    running = planned(500e3, rules=rules_of(limits=SiteLimits(ramp=RampRules(1e3, 1e3))))
    running.run(3)
    running.t += 600.0
    assert running.tick().decision.setpoint_w <= 2e3 + 5e3


def test_the_emergency_reserve_is_kept_from_the_plan_and_given_up_for_the_connection_limit():
    rules = rules_of(each=BatteryLimits(reserve_pct=40.0), import_limit_w=300e3)
    running = planned(200e3, rules=rules, cells=[Cell("b0", soc_pct=40.0)])
    assert running.tick().decision.setpoint_w == 0.0
    running.load_w = constant(-400e3)
    decision = running.tick().decision
    assert decision.setpoint_w == pytest.approx(100e3)
    assert (Rank.RESERVE, "connection limit") in [(s.rank, s.by) for s in decision.softened]


def test_the_battery_comes_to_rest_at_the_reserve_without_crossing_it():
    rules = rules_of(each=BatteryLimits(reserve_pct=40.0))
    running = planned(500e3, rules=rules, cells=[Cell("b0", soc_pct=41.0, capacity_wh=100e3)])
    running.run(1700)
    assert 40.0 - 0.01 <= running.cells[0].soc_pct <= 40.2


def test_heat_takes_power_at_once_and_cooling_gives_it_back_slowly():
    heat = Derating(Quantity.TEMPERATURE_C, *(2 * [Curve(((40.0, 1.0), (60.0, 0.0)))]))
    running = planned(500e3, rules=rules_of(each=BatteryLimits(deratings=(heat,))))
    temperature = {"c": 20.0}
    cell = running.cells[0]
    bare = cell.sample
    cell.sample = lambda now_s: replace(
        bare(now_s), temperature_c=missing(now_s) if temperature["c"] is None else good(temperature["c"], now_s)
    )
    assert setpoints(running.run(2)) == [500e3] * 2
    temperature["c"] = 50.0
    assert setpoints(running.run(2)) == [250e3] * 2
    temperature["c"] = 20.0
    assert setpoints(running.run(3)) == pytest.approx([252.5e3, 255e3, 257.5e3])
    temperature["c"] = None
    assert running.tick().decision.setpoint_w == pytest.approx(250e3)
    assert any("temperature unknown" in clip.limit for clip in running.log[-1][1].decision.clips)


@pytest.mark.parametrize(("power_w", "start", "low", "high"), [(500e3, 12.0, 10.0, 10.3), (-500e3, 88.0, 89.7, 90.0)])
def test_power_fades_at_the_limit_of_the_band_and_never_crosses_it(power_w, start, low, high):
    running = planned(power_w, cells=[Cell("b0", soc_pct=start, capacity_wh=100e3)])
    effects = running.run(1799)
    assert low - 0.01 <= running.cells[0].soc_pct <= high + 0.01
    assert abs(effects[-1].decision.setpoint_w) < 20e3


@pytest.mark.parametrize(
    ("soc_pct", "out_w", "in_w"), [(3.0, 100e3, -100e3), (99.0, -100e3, 100e3), (-0.5, 100e3, -100e3)]
)
def test_outside_the_band_at_the_start_only_the_way_back_is_open_and_it_is_told(soc_pct, out_w, in_w):
    away = planned(out_w, cells=[Cell("b0", soc_pct=soc_pct)])
    assert setpoints(away.run(3)) == [0.0] * 3
    assert away.raised("soc_outside_band") == [("raised", "b0")]
    back = planned(in_w, cells=[Cell("b0", soc_pct=soc_pct, capacity_wh=100e3)])
    assert setpoints(back.run(3)) == [in_w] * 3
    back.run(500)
    assert back.raised("soc_outside_band") == [("raised", "b0"), ("cleared", "b0")]


def test_a_soc_that_wavers_at_the_edge_of_its_band_is_told_once():
    running = planned(0.0, cells=[Cell("b0", soc_pct=9.4)])
    for soc_pct in (9.4, 9.9, 10.3, 6553.5, 9.4, 10.4):
        running.cells[0].soc_pct = soc_pct
        running.run(2)
    assert running.raised("soc_outside_band") == [("raised", "b0")]
    running.cells[0].soc_pct = 10.6
    running.run(2)
    assert running.raised("soc_outside_band") == [("raised", "b0"), ("cleared", "b0")]


def test_a_battery_outside_its_band_is_never_driven_by_force():
    assert setpoints(planned(0.0, cells=[Cell("b0", soc_pct=2.0)]).run(3)) == [0.0] * 3


def shared(**changes):
    inverter = SharedInverter("pv", rated_w=300e3, pv_peak_w=400e3, **changes)
    return rules_of(each=BatteryLimits(shared_inverter=inverter))


def test_behind_a_shared_inverter_the_battery_has_what_pv_leaves():
    running = planned(300e3, rules=shared(), pv_w=lambda t: 100e3 * t)
    assert setpoints(running.run(4)) == pytest.approx([300e3, 200e3, 100e3, 0.0])


def test_pv_above_the_shared_rating_goes_into_the_battery():
    assert planned(0.0, rules=shared(), pv_w=constant(380e3)).tick().decision.setpoint_w == pytest.approx(-80e3)


def test_a_shared_inverter_that_may_not_take_from_the_grid_charges_from_pv_alone():
    running = planned(-200e3, rules=shared(grid_charge=False), pv_w=constant(120e3))
    assert running.tick().decision.setpoint_w == pytest.approx(-120e3)


def test_live_limits_of_the_battery_follow_at_the_next_tick():
    running = planned(400e3)
    assert running.tick().decision.setpoint_w == 400e3
    running.cells[0].live_w = 90e3
    assert running.tick().decision.setpoint_w == 90e3
    running.cells[0].live_w = 0.0
    assert running.tick().decision.setpoint_w == 0.0


def test_one_clash_of_bounds_never_sets_the_rest_to_zero():
    """An import order that the load breaks, a full battery beside a half full one, a ramp: the able one gives all."""
    order = Orders(curtailments=(Curtailment("c1", T0, T0 + 1e6, export_limit_w=0.0),))
    cells = [Cell("b0", soc_pct=90.0), Cell("b1", soc_pct=50.0)]
    rules = rules_of(2, limits=SiteLimits(ramp=RampRules(1e3, 1e3)))
    running = planned(100e3, rules=rules, cells=cells, orders=order, pv_w=constant(900e3))
    decision = running.tick().decision
    assert decision.shares_w == pytest.approx({"b0": 0.0, "b1": -500e3})
    assert [(s.rank, s.by) for s in decision.softened] == [
        (Rank.CURTAILMENT, "what the batteries can do"),
        (Rank.RAMP, "curtailment c1"),
    ]


def test_the_stated_order_of_sacrifice_ramp_comfort_reserve_order_connection():
    """Load far above the import limit: each softer rank gives way, in turn, and physics has the last word."""
    rules = rules_of(
        each=BatteryLimits(reserve_pct=40.0), limits=SiteLimits(ramp=RampRules(1e3, 1e3)), import_limit_w=100e3
    )
    order = Orders(curtailments=(Curtailment("c1", T0, T0 + 1e6, import_limit_w=50e3),))
    running = planned(0.0, rules=rules, cells=[Cell("b0", soc_pct=40.2)], orders=order, load_w=constant(-900e3))
    decision = running.tick().decision
    assert decision.setpoint_w == 500e3
    assert {s.rank for s in decision.softened} == {
        Rank.RAMP, Rank.COMFORT, Rank.RESERVE, Rank.CURTAILMENT, Rank.CONNECTION
    }  # fmt: skip
    assert all(s.by and s.beyond_w > 0 for s in decision.softened)
    assert {("curtailment_exceeded", "grid operator"), ("connection_limit_exceeded", "site")} <= running.conditions


def test_self_consumption_keeps_an_order_too():
    rules = rules_of(local_rule=LocalRule.SELF_CONSUMPTION, import_limit_w=200e3)
    running = site(rules=rules, load_w=constant(-120e3))
    assert setpoints(running.run(3)) == pytest.approx([120e3] * 3)


def test_soc_that_contradicts_the_energy_is_told_narrows_the_window_and_is_cleared_by_two_good_stretches():
    """The battery moves 40 % by energy while its SoC stands still, twice; then it behaves."""
    cell = Cell("b0", soc_pct=50.0, capacity_wh=100e3)
    running = site(cells=[cell], tick_s=60.0, rules=rules_of(tick_s=60.0))
    truth = {"frozen": True}
    live = cell.live_through

    def live_through(dt_s, efficiency):
        soc_pct = cell.soc_pct
        live(dt_s, efficiency)
        if truth["frozen"]:
            cell.soc_pct = soc_pct

    cell.live_through = live_through
    cycle = [100e3, -100e3] * 24
    running.plans = Plans(plan(*cycle, slot_s=900))
    running.run(4 * 900)
    assert running.raised("soc_contradicts_energy") == [("raised", "b0")]
    truth["frozen"] = False
    running.run(6 * 900)
    assert running.raised("soc_contradicts_energy") == [("raised", "b0"), ("cleared", "b0")]


@pytest.mark.parametrize("left_s", [0.5, 4.0, 100.0])
def test_the_soc_is_looked_at_to_the_end_of_the_slot_and_never_less_far_than_the_site_reacts(left_s):
    rules = rules_of(1)
    assert projection_s(rules, T0 + left_s, T0) == max(left_s, rules.reaction_s)
