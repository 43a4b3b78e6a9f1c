"""A second agent of this site: told by the status that the broker keeps, and by nothing that may have another reason."""

from datetime import UTC, datetime

import orjson

from agent.cloud.messages import will_message
from agent.cloud.twin import TwinWatch

BEGUN_UTC_S = 1_800_000_000.0


def status(boot_id, after_s):
    at = datetime.fromtimestamp(BEGUN_UTC_S + after_s, UTC).isoformat()
    return orjson.dumps({"at": at, "online": True, "software": {"version": "0.1.0", "boot_id": boot_id}})


OURS = status("ours", 60.0)


def watching():
    watch = TwinWatch(lambda: BEGUN_UTC_S)
    watch.told()
    return watch


def test_a_newer_status_of_another_agent_is_a_second_one():
    assert "started as theirs" in watching().found(status("theirs", 1.0), OURS)


def test_our_own_the_will_and_what_is_no_status_are_nobody():
    for kept in (status("ours", 1.0), will_message("site"), b"", b"[]", b'{"at": 5, "software": {"boot_id": "x"}}'):
        assert watching().found(kept, OURS) is None


def test_what_was_told_before_this_process_told_anything_may_be_the_process_before():
    assert watching().found(status("before", -1.0), OURS) is None
    assert TwinWatch(lambda: BEGUN_UTC_S).found(status("before", 1.0), OURS) is None


def test_the_first_status_counts_and_not_the_newest():
    times = iter((BEGUN_UTC_S, BEGUN_UTC_S + 50.0))
    watch = TwinWatch(lambda: next(times))
    watch.told()
    watch.told()
    assert watch.found(status("theirs", 10.0), OURS) is not None


def test_it_looks_only_after_a_connection_that_soon_broke():
    assert not watching().look(0)
    assert watching().look(1)
    assert not TwinWatch(lambda: BEGUN_UTC_S).look(1), "nothing was told yet, so whatever is kept is of somebody before"


def test_a_broker_that_hangs_up_on_the_question_is_not_asked_again_before_a_connection_held():
    watch = watching()
    assert [watch.look(1), watch.look(2), watch.look(3)] == [True, False, False]
    watch.steady()
    assert watch.look(1)
    watch.found(OURS, OURS)
    assert watch.look(2), "who was answered may ask again"
