"""`ems watch` on a screen that is smaller than the status."""

from agent.cli.watch import within

LINES = [f"line {number}" for number in range(40)]


def test_a_status_that_fits_is_shown_whole():
    assert within(LINES, 40) == LINES


def test_of_a_longer_one_the_first_and_the_last_lines_are_shown_and_how_many_are_not():
    shown = within(LINES, 23)
    assert len(shown) == 23
    assert shown[0] == "line 0"
    assert shown[11] == "...      18 lines more: ems status"
    assert shown[10] == "line 10"
    assert shown[12:] == LINES[-11:], "what is wrong stands at the end"
