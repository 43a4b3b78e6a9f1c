"""What decisions of the last minutes say of signs, scales and balance."""

from dataclasses import replace

import pytest
from core_site import SITE, inputs

from agent.core.decision import State
from agent.core.plan import Target
from agent.core.plausibility import plausibility
from agent.core.step import step

ROW = step(SITE, State(), inputs())[1].decision
RATED_W = 500e3


def rows(powers_w, *, meter=lambda battery_w, pv_w: battery_w + pv_w, pv_w=lambda index: 0.0, target=Target.BATTERY):
    """A row a second: the battery's power, 6 s each, and what the meter makes of it."""
    found = []
    for index, battery_w in enumerate(power for power in powers_w for _ in range(6)):
        pv = pv_w(index)
        grid = meter(battery_w, pv)
        load = None if grid is None else grid - battery_w - pv
        found.append(
            replace(ROW, mono_s=float(index), battery_w=battery_w, pv_w=pv, grid_w=grid, load_w=load, target=target)
        )
    return found


MOVES = (0.0, 100e3, -100e3, 200e3, 0.0, 50e3, -50e3)


@pytest.mark.parametrize(
    ("meter", "slope"),
    [
        (lambda b, p: b + p - 20e3, 1.0),
        (lambda b, p: -(b + p) - 20e3, -1.0),
        (lambda b, p: 10 * (b + p), 10.0),
        (lambda _b, _p: -20e3, 0.0),
    ],
    ids=["right", "reversed", "ten times", "not seen"],
)
def test_the_meter_is_compared_with_moves_of_the_battery(meter, slope):
    found = plausibility(rows(MOVES, meter=meter), RATED_W)
    assert found.follows is not None
    assert found.follows.slope == pytest.approx(slope)
    assert found.follows.moves == len(MOVES) - 1
    assert found.follows.closed_loop is False


def test_moves_of_pv_are_not_taken_for_answers_of_the_meter():
    found = plausibility(rows(MOVES, pv_w=lambda index: 40e3 * (index % 7)), RATED_W)
    assert found.follows.slope == pytest.approx(1.0)


def test_small_moves_and_few_moves_say_nothing():
    assert plausibility(rows((0.0, 20e3, -20e3, 20e3, 0.0)), RATED_W).follows is None
    assert plausibility(rows((0.0, 100e3, 0.0)), RATED_W).follows is None
    assert plausibility((), RATED_W).follows is None


def test_a_battery_led_by_the_meter_is_told_as_closed_loop():
    assert plausibility(rows(MOVES, target=Target.GRID), RATED_W).follows.closed_loop is True
    for_a_while = [*rows(MOVES, target=Target.GRID)[:13], *rows(MOVES)[13:]]
    assert plausibility(for_a_while, RATED_W).follows.closed_loop is True


def test_a_row_without_the_meter_counts_for_nothing():
    found = plausibility(rows(MOVES, meter=lambda _b, _p: None), RATED_W)
    assert (found.follows, found.residual_w) == (None, None)


def test_what_is_left_as_the_load_is_the_median():
    found = rows((0.0,), meter=lambda b, p: b + p - 30e3)
    found[0] = replace(found[0], load_w=500e3)
    assert plausibility(found, RATED_W).residual_w == -30e3
    assert plausibility(found, RATED_W).seen_s == 5.0


def test_the_smallest_step_of_the_frequency_is_seen():
    seen = [replace(ROW, frequency_hz=hz) for hz in (50.0, 50.02, 49.99, 50.02, 50.0)]
    assert plausibility(seen, RATED_W).frequency_step_hz == pytest.approx(0.01)
    assert plausibility([replace(ROW, frequency_hz=50.0)] * 3, RATED_W).frequency_step_hz is None
