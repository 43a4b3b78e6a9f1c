"""A day summed up: energies only of what was measured, minutes, slots, reserve."""

from __future__ import annotations

import pytest

from agent.core.day_summary import landed, responded, summed_up
from agent.core.evidence import EvidenceRow
from agent.core.frequency import Trouble
from agent.core.ledger import SlotRow

BEGIN_S = 1_700_000_000.0


def sample(second, source="rolling", **values):
    return {"utc_s": BEGIN_S + second, "source": source, **values}


def slot(number, power_w, delivered_wh, **changes):
    start_s = BEGIN_S + 1800 * number
    fields = {"target": "grid", "source": "rolling", "version": 1, "battery_wh": 0.0, "covered_s": 1800.0}
    fields |= {"soc_end_pct": None} | changes
    return SlotRow(start_s, start_s + 1800, power_w=power_w, delivered_wh=delivered_wh, **fields)


def evidence(second, **changes):
    fields = {"frequency_hz": 50.0, "power_w": 1000.0, "baseline_w": 0.0, "award_up_w": 100e3, "award_down_w": 0.0}
    fields |= {"response_w": 0.0, "clock_trusted": True, "award_ids": ("a",), "trouble": None, "ticks": 5} | changes
    return EvidenceRow(int(BEGIN_S) + second, **fields)


def test_energy_goes_by_the_time_between_samples_each_way_by_itself():
    powers = [3600.0] * 10 + [-7200.0] * 10
    done = summed_up([sample(n, grid_w=power) for n, power in enumerate(powers)], BEGIN_S)
    assert (done.flows["grid_w"].out_wh, done.flows["grid_w"].in_wh) == pytest.approx((10.0, 18.0))
    assert (done.samples, done.covered_s) == (20, 19.0)


def test_nothing_counts_across_a_hole_and_nothing_that_was_not_measured():
    seconds = [0, 1, 2, 100, 101]
    done = summed_up([sample(s, grid_w=3600.0, pv_w=None if s == 1 else 3600.0) for s in seconds], BEGIN_S)
    assert done.covered_s == 3.0
    assert done.flows["grid_w"].out_wh == pytest.approx(3.0)
    assert done.flows["pv_w"].out_wh == pytest.approx(2.0)


def test_each_minute_has_its_means_and_one_without_samples_has_none():
    done = summed_up([sample(60, soc_pct=40.0), sample(61, soc_pct=50.0), sample(185, soc_pct=70.0)], BEGIN_S)
    assert [(m["hour"], m["soc_pct"]) for m in done.minutes] == [
        (pytest.approx(1 / 60), 45.0),
        (pytest.approx(2 / 60), None),
        (pytest.approx(3 / 60), 70.0),
    ]
    assert done.soc_pct == (40.0, 70.0, 40.0, 70.0)


def test_who_decided_is_told_by_time_the_longest_first():
    done = summed_up([sample(n, "yearly" if n < 3 else "rolling") for n in range(10)], BEGIN_S)
    assert list(done.sources_s.items()) == [("rolling", 6.0), ("yearly", 3.0)]


def test_a_day_of_which_nothing_is_kept():
    done = summed_up([], BEGIN_S)
    assert (done.samples, done.minutes, done.soc_pct, dict(done.flows)) == (0, [], None, {})


def test_only_finished_slots_with_a_plan_have_landed():
    slots = [
        slot(0, 1000.0, 510.0),
        slot(1, 1000.0, 470.0),
        slot(2, 1000.0, 100.0, closed=False),
        slot(3, 0.0, 900.0, source="local_rule"),
        slot(4, 1000.0, None),
    ]
    done = landed(slots)
    assert (done.slots, done.planned_wh, done.imbalance_wh, done.worst_wh, done.mean_error_wh) == (
        2, 1000.0, -20.0, -30.0, 20.0,
    )  # fmt: skip
    assert landed(slots[2:]) is None


def test_the_response_is_judged_in_percent_of_the_award_and_troubles_are_counted():
    rows = [
        evidence(0),
        evidence(1, power_w=60e3, response_w=57e3),
        evidence(2, frequency_hz=None, response_w=None, trouble=Trouble.MISSING),
    ]
    done = responded(rows)
    assert (done.seconds, done.measured, done.mean_error_pct) == (3, 2, pytest.approx(2.0))
    assert done.troubles == {"missing": 1}
    assert responded([evidence(0, trouble=Trouble.TEST)]) is None
    assert responded([]) is None
