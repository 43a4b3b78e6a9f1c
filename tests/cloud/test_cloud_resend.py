"""What the cloud did not store is sent again, less and less often."""

from agent.cloud.resend import LONGEST_WAIT_S, ResendTimer


def due_times(timer, until_s):
    return [now for now in range(until_s) if timer.due(now) is not None]


def test_it_is_due_when_nothing_was_stored_for_the_wait_and_then_after_twice_as_long():
    timer = ResendTimer(60)
    timer.stored(4, 0)
    timer.sent(5, 10)
    assert due_times(timer, 500) == [70, 190, 430]


def test_anything_stored_begins_the_first_wait_again():
    timer = ResendTimer(60)
    timer.stored(4, 0)
    timer.sent(5, 0)
    timer.sent(6, 0)
    assert timer.due(60) == 4
    timer.stored(5, 70)
    assert timer.due(129) is None
    assert timer.due(130) == 5


def test_when_all_is_stored_nothing_is_due():
    timer = ResendTimer(60)
    timer.sent(5, 0)
    timer.stored(5, 1)
    assert due_times(timer, 1000) == []


def test_a_cloud_that_never_said_how_far_it_is_gets_nothing_twice():
    timer = ResendTimer(60)
    timer.sent(5, 0)
    assert due_times(timer, 1000) == []


def test_the_wait_has_an_end():
    timer = ResendTimer(60)
    timer.stored(4, 0)
    timer.sent(5, 0)
    times = due_times(timer, 30_000)
    assert times[-1] - times[-2] == LONGEST_WAIT_S


def test_the_first_message_after_a_quiet_time_has_its_whole_wait():
    timer = ResendTimer(60)
    timer.sent(5, 0)
    timer.stored(5, 1)
    timer.sent(6, 1000)
    timer.sent(7, 1050)
    assert [now for now in range(1000, 1100) if timer.due(now) is not None] == [1060]
