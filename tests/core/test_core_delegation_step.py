"""Frequency response by the devices' own droop through whole ticks: who answers, never both, and what is told."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from core_droop_site import DroopCell, droop_site
from core_site import T0, plan
from core_step_site import award, booked, rules_of
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.decision import State
from agent.core.delegable import Part
from agent.core.droop import DeviceDroop
from agent.core.latch import Alarm
from agent.core.orders import Direction, Orders, Outage
from agent.core.override import Override
from agent.core.plan import Plans, Target
from agent.core.snapshot import DroopOffer
from agent.core.term import begun

FULL_HZ = 49.8
"""Calls for the whole award upward."""


def constant(value):
    return lambda _t: value


def handed(*awards, power_w=50e3, hz=50.0, count=1, target=Target.BATTERY, **changes):
    """A site under a plan and awards, at a constant frequency unless `hz` is a function."""
    frequency = hz if callable(hz) else constant(hz)
    plans = Plans(plan(*[power_w] * 4, target=target))
    awards = awards or (award(start=20.0),)
    return droop_site(count, plans=plans, awards=booked(*awards), frequency_hz=frequency, baseline_w=power_w, **changes)


def test_the_device_answers_from_the_awards_first_seconds_and_its_setpoint_carries_the_baseline_alone():
    running = handed(hz=FULL_HZ)
    running.run(19)
    assert running.cells[0].power_w == 50e3
    assert [(write.part is not None, write.answering) for _, write in running.droop_writes] == [
        (False, True),
        (True, False),
    ]
    running.run(3)
    assert running.cells[0].follows is not None
    done = running.run(30)
    assert {cell.held_w for cell in running.cells} == {50e3}
    assert running.cells[0].power_w == pytest.approx(150e3)
    assert done[-1].decision.setpoint_w == pytest.approx(150e3)
    assert done[-1].decision.baseline_w == pytest.approx(50e3)
    assert ("droop_delegated", "b0") in running.conditions
    assert running.both == []


def test_it_is_taken_back_when_the_award_ends_and_the_agent_goes_on_with_the_plan():
    running = handed(award(start=20.0, end=60.0), hz=FULL_HZ)
    running.run(70)
    assert running.cells[0].follows is None
    assert running.cells[0].power_w == 50e3
    assert not {code for code, _ in running.conditions if code.startswith("droop")}


def curves(running):
    """What was asked of the devices: off, ready or on."""
    return ["off" if w.part is None else "on" if w.answering else "ready" for _, w in running.droop_writes]


def told(running, code="droop_not_delegated"):
    return [one.text for key, one in running.state.conditions.items() if key[0] == code]


def test_it_is_renewed_every_third_of_the_dead_man_time():
    running = handed(award(start=0.0))
    running.run(130)
    times = [at for at, write in running.droop_writes if write.answering and write.part is not None]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps
    assert max(gaps) <= 60.0 / 3 + 2.0
    assert min(gaps) >= 60.0 / 3 - 1.0


def test_the_power_and_the_energy_of_the_award_stay_reserved_exactly_as_without_the_device():
    """Baselines near the rating, and with little energy: both ways of answering cut the plan alike."""
    for power_w, soc_pct in ((480e3, 50.0), (-480e3, 50.0), (400e3, 30.0), (-400e3, 70.0)):
        mine, theirs = (
            handed(
                award(power_w=200e3, start=0.0, end=7200.0), power_w=power_w, cells=[DroopCell("b0", soc_pct=soc_pct)]
            )
            for _ in range(2)
        )
        mine.rules = replace(mine.rules, delegated=frozenset())
        mine.baseline_w = theirs.baseline_w = None
        ends = [running.run(120)[-1].decision.baseline_w for running in (mine, theirs)]
        assert theirs.cells[0].follows is not None
        assert ends[1] == pytest.approx(ends[0], abs=100.0)
        assert abs(ends[1]) < abs(power_w)


def test_where_answer_and_plan_together_would_exceed_the_connection_the_plan_gives_way():
    load = {"w": 0.0}
    rules = rules_of(export_limit_w=200e3, import_limit_w=200e3)
    running = handed(award(power_w=100e3, start=0.0), power_w=150e3, hz=FULL_HZ, rules=rules, pv_w=lambda _t: load["w"])
    running.baseline_w = None
    running.run(30)
    assert running.cells[0].held_w == pytest.approx(100e3), "100 kW are kept for the award"
    assert running.grid_w == pytest.approx(200e3, abs=1.0)
    load["w"] = 60e3  # PV rises: the answer stays, the plan gives way
    running.run(10)
    assert running.cells[0].answer_w == pytest.approx(100e3)
    assert running.cells[0].held_w == pytest.approx(40e3)
    assert running.grid_w <= 200e3 + 1.0


def test_beyond_the_frequency_of_the_whole_award_the_setpoint_takes_the_excess_back():
    running = handed(award(start=0.0), hz=49.6)
    running.run(30)
    cell = running.cells[0]
    assert cell.answer_w == pytest.approx(100e3 * 0.39 / 0.19)
    assert cell.power_w == pytest.approx(150e3, abs=10.0)


def test_the_slot_tracker_does_not_take_the_devices_answer_back():
    running = handed(award(start=0.0), target=Target.GRID)
    running.baseline_w = None
    running.run(300)
    running.frequency_hz = constant(FULL_HZ)
    done = running.run(600)
    assert max(abs(effects.decision.baseline_w - 50e3) for effects in done[10:]) < 200.0
    assert running.cells[0].held_w == pytest.approx(50e3, rel=0.02)
    account = done[-1].running
    assert account.response_wh == pytest.approx(100e3 / 6, rel=0.02)


def test_the_evidence_carries_what_the_device_is_expected_to_give():
    running = handed(award(start=0.0), hz=49.895)
    rows = [row for effects in running.run(60) for row in effects.evidence]
    assert rows[-1].response_w == pytest.approx(50e3)
    assert rows[-1].baseline_w == pytest.approx(50e3)
    assert rows[-1].power_w == pytest.approx(100e3)


@pytest.mark.parametrize(
    ("awards", "why"),
    [
        ((award(start=20.0, direction=Direction.UP),), "more is sold one way"),
        ((award(start=20.0, product="ce-fcr-gate"),), "has a gate"),
        ((award(start=20.0), award("a2", start=20.0, product="fcr-n")), "awards of different curves"),
    ],
)
def test_an_award_that_does_not_fit_the_device_is_answered_by_the_agent_and_told_why(awards, why):
    running = handed(*awards, hz=FULL_HZ)
    running.run(40)
    assert "on" not in curves(running)
    assert running.cells[0].power_w > 149e3
    assert why in told(running)[0]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"offer": DroopOffer("702.WMax is not 702.WMaxRtg")}, "702.WMax is not 702.WMaxRtg"),
        ({"offer": DroopOffer("", 500e3)}, "no reversion"),
        ({"offer": None}, "not read yet"),
        ({"refuses_droop": True}, "refused to adopt"),
        ({"droop_s": 30.0}, "did not confirm within 10 s"),
    ],
)
def test_a_device_that_cannot_or_does_not_confirm_leaves_the_award_to_the_agent(change, why):
    running = handed(hz=FULL_HZ, cells=[DroopCell("b0", **change)])
    running.run(100)
    assert running.cells[0].follows is None
    assert running.cells[0].power_w == pytest.approx(150e3)
    assert why in told(running)[0]
    assert running.both == []


def test_one_battery_that_cannot_keeps_the_award_from_the_other_one_too():
    cells = [DroopCell("b0"), DroopCell("b1", offer=DroopOffer("it has no model 711"))]
    running = handed(hz=FULL_HZ, count=2, cells=cells)
    running.run(60)
    assert [cell.follows for cell in cells] == [None, None]
    assert sum(cell.power_w for cell in cells) == pytest.approx(150e3, abs=1e3)
    assert all("b1 shares the award, but it has no model 711" in text for text in told(running))


def test_two_batteries_answer_by_their_rating_around_their_own_setpoints():
    cells = [DroopCell("b0", soc_pct=60.0), DroopCell("b1", soc_pct=40.0)]
    running = handed(hz=50.0, count=2, cells=cells)
    running.baseline_w = None
    running.run(60)
    setpoints = [cell.held_w for cell in cells]
    assert sum(setpoints) == pytest.approx(50e3)
    assert setpoints[0] > setpoints[1]
    running.frequency_hz = constant(FULL_HZ)
    running.run(20)
    assert [cell.held_w for cell in cells] == pytest.approx(setpoints, abs=100.0)
    assert [cell.answer_w for cell in cells] == pytest.approx([50e3, 50e3])


def test_a_battery_that_drops_out_brings_the_award_back_to_the_agent_whole():
    cells = [DroopCell("b0"), DroopCell("b1")]
    running = handed(award(power_w=200e3, start=0.0), hz=FULL_HZ, power_w=0.0, count=2, cells=cells)
    running.baseline_w = None
    running.run(30)
    assert sum(cell.answer_w for cell in cells) == pytest.approx(200e3)
    cells[1].ready = False
    running.run(10)
    assert [cell.follows for cell in cells] == [None, None]
    assert [round(cell.power_w) for cell in cells] == [200_000, 0]
    assert "b1 shared the award and dropped out" in told(running)[0]


def test_a_silent_battery_may_answer_on_so_long_as_its_timer_runs_and_the_other_gives_the_rest():
    cells = [DroopCell("b0"), DroopCell("b1")]
    running = handed(award(power_w=200e3, start=0.0), hz=FULL_HZ, power_w=0.0, count=2, cells=cells)
    running.baseline_w = None
    running.run(30)
    cells[1].silent = True
    running.run(30)
    assert cells[1].answer_w == pytest.approx(100e3)
    assert cells[0].power_w == pytest.approx(100e3, abs=1e3)
    running.run(60)
    assert cells[1].follows is None
    assert cells[0].power_w == pytest.approx(200e3, abs=1e3)


@pytest.mark.parametrize(("stuck", "factor"), [(True, 1.0), (False, 1.5), (False, 0.6), (False, -1.0)])
def test_a_device_whose_power_does_not_follow_loses_the_award_within_seconds(stuck, factor):
    running = handed(award(start=0.0), cells=[DroopCell("b0", stuck=stuck, factor=factor)])
    running.run(60)
    assert running.cells[0].follows is not None
    running.frequency_hz = constant(FULL_HZ)
    running.run(25)
    assert running.cells[0].follows is None
    assert running.cells[0].power_w == pytest.approx(150e3)
    assert "did not follow" in told(running)[0]
    assert running.both == []
    assert ("not_following", "b0") not in running.conditions


def test_a_device_within_the_tolerance_keeps_the_award():
    running = handed(award(start=0.0), hz=FULL_HZ, cells=[DroopCell("b0", factor=0.92)])
    running.run(120)
    assert running.cells[0].follows is not None
    assert ("not_following", "b0") not in running.conditions


def test_a_step_of_the_plan_that_takes_seconds_is_no_reason_to_take_the_award_back():
    running = handed(award(start=0.0), hz=FULL_HZ, cells=[DroopCell("b0", write_s=8.0)])
    running.run(100)
    running.plans = Plans(plan(*[-300e3] * 4, version=2))
    running.baseline_w = None
    running.run(60)
    assert running.cells[0].follows is not None


def test_lost_in_the_device_it_is_written_again_at_once_and_given_up_after_the_third_time():
    running = handed(award(start=0.0), hz=FULL_HZ)
    running.run(30)
    for loss in range(3):
        running.cells[0].follows = None
        running.run(5)
        assert (running.cells[0].follows is not None) == (loss < 2)
    running.run(5)
    assert "another controller" in told(running)[0]
    assert running.cells[0].power_w == pytest.approx(150e3)


def test_a_droop_that_somebody_switched_on_is_switched_off_before_the_agent_answers_again():
    running = handed(award(start=0.0, product="ce-fcr-gate"), hz=FULL_HZ)
    running.run(30)
    assert running.cells[0].power_w == pytest.approx(150e3)
    other = Part(DeviceDroop(0.02, 0.05), 50e3, 500e3, 1.0)
    running.cells[0].follows, running.cells[0].fed_droop_s = other, running.t
    running.both.clear()
    running.run(10)
    assert running.cells[0].follows is None
    assert running.cells[0].power_w == pytest.approx(150e3)
    assert max(running.both, default=0.0) <= 33.0, "the agent's own answer went out of the setpoint at once"


def test_a_device_that_cannot_be_stopped_is_told_and_not_answered_for():
    running = handed(
        award(start=0.0, end=40.0), award("a2", start=41.0, end=1800.0, direction=Direction.UP), hz=FULL_HZ
    )
    running.run(30)
    running.cells[0].refuses_off = True
    running.run(25)
    assert ("droop_not_released", "b0") in running.conditions
    assert running.cells[0].held_w == pytest.approx(50e3)
    assert running.both == []
    running.cells[0].refuses_off = False
    running.run(30)
    assert running.cells[0].follows is None
    assert running.cells[0].power_w == pytest.approx(150e3)
    assert ("droop_not_released", "b0") not in running.conditions


def test_while_the_meter_has_no_frequency_the_device_answers_on_and_nobody_claims_to_know():
    running = handed(award(start=0.0), hz=FULL_HZ)
    running.run(30)
    running.frequency_hz = lambda _t: None
    done = running.run(30)
    assert running.cells[0].follows is not None
    assert running.cells[0].held_w == pytest.approx(50e3)
    assert ("award_unwatched", "a1") in running.conditions
    assert ("award_unanswered", "a1") not in running.conditions
    assert done[-1].decision.setpoint_w == pytest.approx(150e3), "what it shows beyond its setpoint"


def test_a_restart_in_the_middle_goes_on_with_the_device_and_does_not_answer_beside_it():
    running = handed(award(start=0.0), hz=FULL_HZ)
    running.run(30)
    running.state = State()
    powers = [running.run(1) and running.cells[0].power_w for _ in range(20)]
    assert powers == [pytest.approx(150e3)] * 20
    assert running.cells[0].follows is not None
    assert running.both == []


@pytest.mark.parametrize("write_s", [0.3, 3.0])
def test_a_restart_with_an_answer_in_the_setpoint_clears_it_before_the_device_answers(write_s):
    cells = [DroopCell("b0", write_s=write_s, droop_s=0.1)]
    running = handed(award(start=0.0, product="ce-fcr-gate"), hz=FULL_HZ, cells=cells)
    running.run(30)
    assert running.cells[0].held_w == pytest.approx(150e3)
    running.state = State()
    running.awards = booked(award(start=0.0))
    running.run(20)
    assert running.cells[0].follows is not None
    assert running.cells[0].held_w == pytest.approx(50e3)
    assert running.both == []


def test_it_is_taken_back_while_the_clock_is_not_trusted_or_the_award_withdrawn():
    running = handed(award(start=0.0), hz=FULL_HZ, power_w=0.0)
    running.run(30)
    running.trusted = False
    running.run(5)
    assert running.cells[0].follows is None
    running.trusted = True
    running.run(5)
    assert running.cells[0].follows is not None
    running.awards = booked()
    running.run(5)
    assert running.cells[0].follows is None
    assert running.both == []


def test_an_override_that_suspends_awards_takes_them_back_and_one_that_does_not_moves_only_the_setpoint():
    running = handed(award(start=0.0), hz=FULL_HZ)
    running.run(30)
    running.baseline_w = None
    running.override = Override(Target.BATTERY, -70e3, begun(T0 + 30.0, 30.0, 600.0), T0 + 30.0, "anna", "a test")
    running.run(10)
    assert running.cells[0].follows is not None
    assert running.cells[0].power_w == pytest.approx(30e3)
    running.override = replace(running.override, suspends_awards=True)
    running.run(5)
    assert running.cells[0].follows is None
    assert running.cells[0].power_w == pytest.approx(-70e3)


def test_a_safety_latch_stops_the_devices_own_answer_too():
    running = handed(award(start=0.0), hz=FULL_HZ)
    running.run(30)
    running.baseline_w = None
    running.cells[0].alarms = float(Alarm.E_STOP)
    running.run(3)
    assert (running.cells[0].follows, running.cells[0].power_w) == (None, 0.0)
    running.run(30)
    assert running.cells[0].follows is None


def test_what_is_learned_of_the_battery_goes_on():
    running = handed(award(start=0.0), hz=FULL_HZ, cells=[DroopCell("b0", soc_pct=60.0)])
    running.run(600)
    model = running.state.models["b0"]
    assert model.believed_soc_pct == pytest.approx(running.cells[0].soc_pct, abs=0.1)


def test_an_outage_of_the_battery_stops_its_droop_before_anything_else():
    running = handed(award(start=0.0), hz=FULL_HZ)
    running.run(30)
    running.orders = Orders(outages=(Outage("w1", T0 + 30.0, T0 + 60.0, "b0"),))
    running.baseline_w = None
    running.run(10)
    assert (running.cells[0].follows, running.cells[0].power_w) == (None, 0.0)
    running.run(40)
    assert running.cells[0].follows is not None
    assert running.cells[0].power_w == pytest.approx(150e3)


def test_at_the_edge_to_another_award_the_device_changes_its_curve_without_being_switched_off():
    running = handed(award(start=0.0, end=60.0), award("a2", power_w=200e3, start=60.0, end=1800.0), hz=FULL_HZ)
    running.run(80)
    assert "off" not in curves(running)
    assert running.cells[0].power_w == pytest.approx(250e3)


def test_the_agent_answers_while_nothing_is_handed_over_and_the_start_costs_no_award():
    """At the start of the process it is not known what the device does: that is settled within ticks."""
    running = handed(award(start=0.0, direction=Direction.UP), hz=FULL_HZ)
    running.run(5)
    assert curves(running) == ["off"]
    assert running.cells[0].power_w == pytest.approx(150e3)


def test_without_fresh_readings_nothing_is_written_to_the_device():
    running = handed(award(start=0.0), hz=FULL_HZ)
    running.run(30)
    running.cells[0].silent = True
    running.run(2)
    writes = len(running.droop_writes)
    running.run(50)
    assert len(running.droop_writes) == writes


DEEDS = st.lists(
    st.tuples(
        st.sampled_from(["refuses_droop", "refuses_off", "stuck", "silent", "refuses", "reboot", "award", "hz"]),
        st.integers(1, 30),
    ),
    max_size=12,
)


@settings(max_examples=25, derandomize=True)
@given(DEEDS, st.sampled_from([1, 2]))
def test_whatever_the_devices_do_no_answer_is_given_twice_and_the_reserve_is_held(deeds, count):
    """Every tick also meets the invariants of the scenario runner (power and energy of the award are kept)."""
    running = handed(
        award(power_w=100e3, start=0.0, end=1700.0), count=count, hz=lambda t: 49.85 if t % 40 < 20 else 50.1
    )
    running.baseline_w = 50e3 if count == 1 else None
    for deed, seconds in deeds:
        cell = running.cells[seconds % count]
        match deed:
            case "reboot":
                cell.follows = cell.held_w = None
            case "award":
                running.awards = (
                    booked() if running.awards.sold else booked(award(power_w=100e3, start=0.0, end=1700.0))
                )
            case "hz":
                running.frequency_hz = (lambda _t: None) if seconds % 2 else (lambda t: 49.85 if t % 40 < 20 else 50.1)
            case _:
                setattr(cell, deed, not getattr(cell, deed))
        running.run(seconds)
        for line in running.state.droops:
            agent_w = sum(
                e.setpoint_w - e.baseline_w - sum(e.by_device_w.values()) for e in [running.log[-1][1].decision]
            )
            assert count > 1 or line.ours or abs(agent_w) < 1.0
    assert running.both == []
