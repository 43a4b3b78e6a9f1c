"""The wall clock is believed or not: steps, boots in the past, a wrong future."""

import pytest

from agent.core.clock_trust import (
    EARLIEST_UTC_S,
    PROVEN_AFTER_S,
    WATCH_WITHIN_S,
    ClockTrust,
    judge,
    mistaken,
    set_right,
    step_noticed,
)

NOW = 1_795_000_000.0
HOUR, DAY = 3600.0, 86_400.0


class Machine:
    """Two clocks: one runs, the other may be set."""

    def __init__(self, floor_utc_s=NOW - 60.0, utc_s=NOW):
        self.mono_s, self.utc_s = 50.0, utc_s
        self.trust = ClockTrust(False, floor_utc_s, "not judged yet")
        self.tick(0.0)

    def tick(self, seconds=1.0, *, set_by=0.0):
        self.mono_s += seconds
        self.utc_s += seconds + set_by
        self.trust = judge(self.utc_s, self.mono_s, self.trust)
        return self.trust

    def runs(self, seconds):
        for _ in range(round(seconds)):
            self.tick()
        return self.trust


def test_a_clock_that_runs_on_is_proven_after_ten_minutes_and_its_time_is_the_floor():
    machine = Machine()
    assert not machine.runs(PROVEN_AFTER_S - 1).proven
    assert machine.trust.floor_utc_s == NOW - 60.0
    assert machine.tick().proven
    assert machine.trust.floor_utc_s == machine.utc_s


@pytest.mark.parametrize("back_s", [HOUR, DAY])
def test_a_step_back_behind_the_floor_is_not_believed_until_it_is_made_good(back_s):
    machine = Machine()
    machine.runs(PROVEN_AFTER_S + 5)
    seen = machine.utc_s
    assert not machine.tick(set_by=-back_s).trusted
    assert f"{back_s - 1:.0f} s behind" in machine.trust.why
    assert not machine.runs(2 * PROVEN_AFTER_S).trusted, "it does not become right by running on"
    assert machine.trust.floor_utc_s == seen
    assert machine.tick(set_by=back_s).trusted


@pytest.mark.parametrize("ahead_s", [HOUR, DAY, 19 * 365 * DAY])
def test_a_wrong_future_that_is_put_right_again_is_no_floor(ahead_s):
    machine = Machine()
    machine.runs(PROVEN_AFTER_S + 5)
    floor = machine.trust.floor_utc_s
    assert machine.tick(set_by=ahead_s).trusted, "a clock that is set right looks the same"
    assert not machine.runs(PROVEN_AFTER_S - 2).proven
    assert machine.trust.floor_utc_s == floor, "nothing of it is kept on disk"
    assert machine.tick(set_by=-ahead_s).trusted


def test_a_clock_that_began_in_the_future_may_still_be_put_right():
    machine = Machine(utc_s=NOW + DAY)
    machine.runs(60)
    assert machine.tick(set_by=-DAY).trusted


def test_booted_in_1970_it_is_not_believed_even_where_no_time_was_ever_kept():
    machine = Machine(floor_utc_s=EARLIEST_UTC_S, utc_s=5.0)
    assert not machine.runs(PROVEN_AFTER_S + 5).trusted
    assert machine.trust.floor_utc_s == EARLIEST_UTC_S
    assert machine.tick(set_by=NOW).trusted


class TestSomebodySaysThatItIsRight:
    def after_a_long_wrong_future(self):
        machine = Machine(utc_s=NOW + DAY)
        assert machine.runs(PROVEN_AFTER_S + 5).proven
        assert not machine.tick(set_by=-DAY).trusted
        return machine

    def test_it_is_believed_at_once_and_is_the_floor_from_then_on(self):
        machine = self.after_a_long_wrong_future()
        assert mistaken(machine.trust, machine.utc_s, machine.utc_s - WATCH_WITHIN_S) is None
        machine.trust = set_right(machine.trust, machine.utc_s)
        assert machine.trust.trusted
        assert machine.tick().trusted
        assert not machine.trust.proven, "its time is kept as a good one once it has run on, like any other"
        assert not machine.tick(set_by=-HOUR).trusted

    @pytest.mark.parametrize("off_s", [WATCH_WITHIN_S + 1, -WATCH_WITHIN_S - 1, DAY, -DAY])
    def test_not_where_the_watch_says_something_else(self, off_s):
        machine = self.after_a_long_wrong_future()
        why = mistaken(machine.trust, machine.utc_s, machine.utc_s - off_s)
        assert f"{abs(off_s):.0f} s {'ahead of' if off_s > 0 else 'behind'} the time" in why

    def test_not_a_clock_that_is_trusted(self):
        machine = Machine()
        assert "trusted already" in mistaken(machine.trust, machine.utc_s, machine.utc_s)

    def test_not_a_clock_that_shows_1970_even_where_the_watch_does_too(self):
        machine = Machine(utc_s=5.0)
        assert "before this software" in mistaken(machine.trust, 6.0, 6.0)


def test_ordinary_discipline_is_no_step():
    machine = Machine()
    for by_s in (0.5, -0.5, 1.9, -1.9):
        machine.tick(set_by=by_s)
    assert machine.runs(PROVEN_AFTER_S).proven
    machine.tick(set_by=-1.9)
    assert machine.trust.trusted
    assert step_noticed(machine.trust) == ()


@pytest.mark.parametrize(("by_s", "words"), [(HOUR, "forward by 3600 s"), (-HOUR, "back by 3600 s")])
def test_a_step_is_told_until_the_clock_has_run_on_for_a_while(by_s, words):
    machine = Machine(floor_utc_s=NOW - DAY)
    machine.tick(set_by=by_s)
    (told,) = step_noticed(machine.trust)
    assert (told.code, told.data["by_s"]) == ("clock_stepped", by_s)
    assert words in told.text
    machine.runs(PROVEN_AFTER_S - 1)
    assert step_noticed(machine.trust)
    machine.tick()
    assert step_noticed(machine.trust) == ()


def test_a_clock_that_creeps_back_is_held_against_the_newest_time_it_showed():
    machine = Machine()
    machine.runs(PROVEN_AFTER_S + 5)
    for _ in range(3):
        machine.tick(0.1, set_by=-1.0)
    assert not machine.trust.trusted


def test_a_start_is_no_step():
    assert step_noticed(Machine(utc_s=NOW + 10 * DAY).trust) == ()
