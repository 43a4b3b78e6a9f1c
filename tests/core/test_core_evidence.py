"""Evidence by whole seconds, with gaps that stay gaps."""

from __future__ import annotations

from dataclasses import replace

from core_awards import T0, award, sold
from hypothesis import given
from hypothesis import strategies as st

from agent.core.evidence import MAX_GAP_ROWS, EvidenceTick, evidence_tick, gather
from agent.core.frequency import Trouble
from agent.core.orders import Direction

LINES = sold(award("n", "fcr-n"), award("d", "fcr-d", power_w=50e3, direction=Direction.UP))


def tick(t: float, power_w: float | None = 30e3, frequency_hz: float | None = 49.95, **changes) -> EvidenceTick:
    made = evidence_tick(
        T0 + t, LINES, frequency_hz=frequency_hz, power_w=power_w, baseline_w=20e3, setpoint_w=70e3,
        clock_trusted=True, trouble=None,
    )  # fmt: skip
    return replace(made, **changes)


def rows_of(*ticks: EvidenceTick):
    gathered, rows = None, []
    for one in (*ticks, None):
        gathered, done = gather(gathered, one)
        rows += done
    assert gathered is None
    return rows


def test_a_tick_tells_frequency_power_baseline_award_response_and_clock():
    made = tick(0.0)
    assert (made.frequency_hz, made.power_w, made.baseline_w, made.response_w) == (49.95, 30e3, 20e3, 50e3)
    assert (made.award_up_w, made.award_down_w, made.award_ids) == (150e3, 100e3, ("n", "d"))
    assert (made.clock_trusted, made.trouble) == (True, None)


def test_fast_ticks_are_averaged_into_whole_seconds():
    rows = rows_of(tick(0.0, 10e3), tick(0.25, 20e3), tick(0.75, 60e3), tick(1.0, 5e3), tick(1.5, 7e3))
    assert [(row.utc_s - T0, row.power_w, row.ticks) for row in rows] == [(0, 30e3, 3), (1, 6e3, 2)]
    assert rows[0].response_w == 50e3
    assert rows[0].baseline_w == 20e3
    assert (rows[0].award_up_w, rows[0].award_down_w, rows[0].award_ids) == (150e3, 100e3, ("n", "d"))


def test_a_second_is_told_only_when_it_is_over():
    gathered, rows = gather(None, tick(0.0))
    assert rows == ()
    gathered, rows = gather(gathered, tick(0.9))
    assert rows == ()
    _, rows = gather(gathered, tick(1.0))
    assert len(rows) == 1


def test_what_was_not_measured_is_not_averaged_as_zero():
    rows = rows_of(tick(0.0, None, None), tick(0.5, 30e3, 49.9), tick(1.0, None, None))
    assert [(row.power_w, row.frequency_hz) for row in rows] == [(30e3, 49.9), (None, None)]


def test_one_untrusted_or_troubled_tick_marks_its_second():
    rows = rows_of(tick(0.0, clock_trusted=False, trouble=Trouble.STALE), tick(0.5), tick(1.0))
    assert [(row.clock_trusted, row.trouble) for row in rows] == [(False, Trouble.STALE), (True, None)]
    twice = rows_of(tick(0.0, trouble=Trouble.STALE), tick(0.5, trouble=Trouble.MISSING))
    assert twice[0].trouble is Trouble.MISSING


def test_a_second_without_a_tick_is_a_row_without_measurements():
    rows = rows_of(tick(0.0), tick(3.2))
    assert [(row.utc_s - T0, row.ticks, row.power_w, row.clock_trusted) for row in rows] == [
        (0, 1, 30e3, True), (1, 0, None, False), (2, 0, None, False), (3, 1, 30e3, True),
    ]  # fmt: skip
    assert rows[1].frequency_hz is rows[1].baseline_w is rows[1].response_w is None
    assert rows[1].award_up_w == 150e3


def test_a_long_hole_is_left_to_the_gap_record():
    assert len(rows_of(tick(0.0), tick(MAX_GAP_ROWS + 1.0))) == MAX_GAP_ROWS + 2
    assert len(rows_of(tick(0.0), tick(MAX_GAP_ROWS + 2.0))) == 2


def test_a_clock_that_steps_back_closes_the_second():
    rows = rows_of(tick(10.0), tick(4.0))
    assert [row.utc_s - T0 for row in rows] == [10, 4]


@given(st.lists(st.floats(0.01, 3.0), min_size=1, max_size=30))
def test_every_second_from_first_to_last_has_exactly_one_row(steps_s):
    times, t = [], 0.0
    for step_s in steps_s:
        times.append(t)
        t += step_s
    rows = rows_of(*(tick(at) for at in times))
    first, last = int(times[0]), int((T0 + times[-1]) // 1 - T0)
    assert [row.utc_s - T0 for row in rows] == list(range(first, last + 1))
    assert sum(row.ticks for row in rows) == len(times)
