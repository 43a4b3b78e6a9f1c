"""docs/reliability.md: every fault has a row, every test that a row names exists, and the page is what the matrix says."""

from __future__ import annotations

import pytest

from tests.faults.campaign import BEGIN, END, NO_TEST, PAGE, matrix, node_ids, result, results_before, written

ROWS = matrix()
OPEN: set[tuple[str, str]] = set()
"""Rows that may stand without a test: what they are about is not built yet."""
FAULTS = {
    "Modbus": {
        "timeout", "exception 1, 2, 3", "exception 4, 7, 8, unknown", "exception 5, 6", "exception 10, 11",
        "half-open TCP", "wrong frames", "frozen values", "sentinels, implausible values", "device reboot",
        "accepted, not applied", "changed by someone else", "device takes 5 s", "one illegal register in a block",
    },
    "Broker": {"away for seconds or days", "flapping connection", "acknowledges and loses", "same client id twice"},
    "Messages": {"again, after a restart, out of order", "forged, changed, replayed", "a flood"},
    "Plans": {"a slot is missing", "wholly or partly in the past", "killed while a plan is stored"},
    "Clock": {
        "step forward by an hour, a day", "step back by an hour, a day", "wrong in the future for long, and put right",
    },
    "Disk": {"full", "read-only", "fsync fails (EIO), writes fail", "fsync takes 5 s", "power cut at any byte"},
    "Process": {"kill -9 at any instant under load", "the loop hangs", "crash loop", "two at once"},
    "People": {"bad site file", "override forgotten", "another device at the address"},
    "Site and grid": {"meter lost", "one of several batteries lost", "emergency stop, breaker, insulation"},
}  # fmt: skip
"""What can go wrong; a row may be added, none may go."""


def test_no_fault_has_gone():
    there = {(row.area, row.fault) for row in ROWS}
    assert {(area, fault) for area, faults in FAULTS.items() for fault in faults} <= there
    assert len(there) == len(ROWS)


def test_every_fault_that_something_is_built_for_has_a_test():
    assert {(row.area, row.fault) for row in ROWS if not row.tests} == OPEN


@pytest.mark.parametrize("test", sorted({test for row in ROWS for test in row.tests}))
def test_the_test_exists_once(test):
    assert len(node_ids(test)) == 1


def test_no_row_names_a_test_twice():
    assert [row.fault for row in ROWS if len(set(row.tests)) < len(row.tests)] == []


def test_the_page_says_what_the_matrix_says():
    assert PAGE.read_text() == written(ROWS, results_before()), "python -m tests.faults.campaign writes it"


def test_the_page_shows_a_row_without_a_test_as_such():
    text = PAGE.read_text().split(BEGIN)[1].split(END)[0]
    assert text.count(NO_TEST) == len(OPEN)


class Ended:
    """Stands for a run of pytest."""

    def __init__(self, **outcomes):
        self._outcomes = outcomes

    def of(self, node_id):
        return set(self._outcomes.get(node_id.rpartition("::")[2], ()))


def test_a_row_holds_only_if_each_of_its_tests_ran_and_passed():
    row = next(row for row in ROWS if len(row.tests) == 2)
    first, second = (test.partition("::")[2] for test in row.tests)
    passed = {first: ["passed"], second: ["passed"]}
    assert result(row, Ended(**passed), "today") == "held today"
    assert result(row, Ended(**(passed | {second: ["passed", "failed"]})), "today") == "**failed** today"
    assert result(row, Ended(**(passed | {second: ["skipped"]})), "today") == "not run in part today"
    assert result(row, Ended(**{first: ["passed"]}), "today") == "not run in part today"
