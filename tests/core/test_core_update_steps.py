"""The steps of an update, as pure decisions."""

import pytest

from agent.core.update_steps import MOST_TRIES, Came, End, Journal, Phase, after, to_remove, unfit

PREPARING = Journal(Phase.PREPARING, "1.0", "1.1")
SWITCHING = Journal(Phase.SWITCHING, "1.0", "1.1")
GOING_BACK = Journal(Phase.GOING_BACK, "1.0", "1.1", "it does not answer")


def test_what_was_prepared_is_switched_to():
    assert after(PREPARING, Came.WELL) == SWITCHING


@pytest.mark.parametrize("came", [Came.BADLY, Came.INTERRUPTED])
def test_a_preparation_that_did_not_end_well_changed_nothing(came):
    assert after(PREPARING, came) == End.NOTHING_CHANGED


def test_a_new_version_that_proves_itself_stays():
    assert after(SWITCHING, Came.WELL) == End.UPDATED


def test_a_new_version_that_fails_is_left_and_the_reason_is_kept():
    assert after(SWITCHING, Came.BADLY, "it does not answer") == GOING_BACK


def test_an_interrupted_switch_is_tried_again_but_not_for_ever():
    """A version that brings the machine down would be started at each boot."""
    journal, tries = SWITCHING, 0
    while isinstance(journal, Journal) and journal.phase is Phase.SWITCHING:
        journal, tries = after(journal, Came.INTERRUPTED), tries + 1
    assert (tries, journal.phase, journal.tries) == (MOST_TRIES, Phase.GOING_BACK, 1)
    assert journal.why == "its start was interrupted 2 times"


def test_going_back_is_tried_again_however_often_it_is_interrupted():
    journal = GOING_BACK
    for _ in range(10):
        journal = after(journal, Came.INTERRUPTED)
    assert (journal.phase, journal.why, journal.tries) == (Phase.GOING_BACK, "it does not answer", 11)


@pytest.mark.parametrize(("came", "end"), [(Came.WELL, End.WENT_BACK), (Came.BADLY, End.WENT_BACK_UNWELL)])
def test_after_going_back_the_old_version_is_in_use_whatever_it_does(came, end):
    assert after(GOING_BACK, came) == end


def test_the_wanted_version_is_the_new_one_only_while_switching():
    assert [journal.wanted for journal in (PREPARING, SWITCHING, GOING_BACK)] == ["1.0", "1.1", "1.0"]


def test_the_version_in_use_and_the_one_before_it_are_kept():
    assert to_remove(["0.8", "0.9", "1.0", "1.1"], "1.1", "1.0") == ("0.8", "0.9")
    assert to_remove(["1.0", "1.1"], "1.0", None) == ("1.1",)


def test_the_version_in_use_is_not_put_in_its_own_place():
    assert unfit("1.0", "1.0", {}, {}) == "version 1.0 is in use already"


def test_an_older_version_is_taken_when_it_is_the_one_before_this_schema():
    assert unfit("1.1", "1.0", {"control": 4, "telemetry": 4}, {"control": 3, "telemetry": 4}) is None


def test_a_version_from_before_that_is_refused_for_it_would_not_know_the_tables():
    why = unfit("1.1", "0.5", {"control": 4, "telemetry": 6}, {"control": 3, "telemetry": 4})
    assert why == "version 0.5 is too old to read what version 1.1 keeps in telemetry.db"
