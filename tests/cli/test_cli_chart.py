"""The chart of `ems plan show`."""

from __future__ import annotations

from agent.cli.chart import ASCII, ROWS, UNICODE, Column, draw


def test_discharge_stands_above_the_zero_line_and_charge_hangs_below():
    lines = draw([Column(100, 100, 50), Column(-100, -100, 50)], ASCII)
    assert lines[0] == " +100 kW #"
    assert lines[ROWS] == "    0 kW --"
    assert lines[2 * ROWS] == " -100 kW  #"


def test_plan_delivered_and_excess_can_be_told_apart():
    lines = draw([Column(100, 50, None), Column(50, 100, None), Column(None, None, None)], ASCII)
    assert lines[0].split("kW ")[1] == ".o"
    assert lines[ROWS - 1].split()[-1] == "##"


def test_a_slot_without_a_plan_leaves_its_column_empty_and_now_is_marked():
    lines = draw([Column(None, None, None, now=True), Column(10, None, 99.9)], UNICODE)
    assert all(line[9:10] in ("", " ") for line in lines[:ROWS])
    assert lines[ROWS].endswith("|-")
    assert lines[-1] == "     SoC  █"


def test_no_slot_at_all_still_draws_axes():
    assert len(draw([], ASCII)) == 2 * ROWS + 2
