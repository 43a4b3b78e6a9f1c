"""The cloud's counters: loss, repetition and contradiction are told apart."""

from simulators.cloud_count import SampleCount, StreamCount


def counted(*frames):
    stream = StreamCount()
    for seq, content in frames:
        stream.take(seq, {"seq": seq, "content": content})
    return stream


def test_a_complete_stream_has_no_gap_and_its_watermark_is_its_end():
    stream = counted((1, "a"), (2, "b"), (3, "c"))
    assert (stream.unique, stream.missing, stream.stored_up_to) == (3, 0, 3)


def test_a_hole_is_missing_and_holds_the_watermark_below_it():
    stream = counted((1, "a"), (2, "b"), (5, "e"), (4, "d"))
    assert (stream.unique, stream.missing, stream.stored_up_to) == (4, 1, 2)


def test_a_stream_that_does_not_begin_at_one_has_a_gap():
    assert counted((3, "c")).missing == 2


def test_a_hole_that_is_filled_later_is_a_gap_no_more():
    stream = counted((1, "a"), (3, "c"), (2, "b"))
    assert (stream.missing, stream.stored_up_to) == (0, 3)


def test_the_same_frame_again_is_a_redelivery_with_no_effect():
    stream = StreamCount()
    assert stream.take(1, {"x": 1, "y": 2})
    assert not stream.take(1, {"y": 2, "x": 1})
    assert (stream.unique, stream.redelivered, stream.conflicts) == (1, 1, 0)


def test_the_same_sequence_with_other_content_is_a_conflict():
    for frames in [((1, "a"), (1, "other")), ((2, "a"), (2, "other"))]:
        stream = counted(*frames)
        assert (stream.unique, stream.redelivered, stream.conflicts) == (1, 0, 1)


def test_one_instant_in_two_frames_is_a_duplicate():
    instants = SampleCount()
    for seq, utc_s in [(1, 10.0), (1, 10.2), (2, 10.2), (2, 10.4)]:
        instants.take(seq, utc_s)
    assert (instants.samples, instants.duplicates) == (3, 1)


def test_what_an_earlier_run_stored_is_no_gap_and_not_counted_here():
    count = StreamCount()
    for seq in (8, 12, 13):
        count.take(seq, {"n": seq})
    count.known_up_to(10)
    assert (count.stored_up_to, count.unique, count.missing, count.highest) == (10, 3, 1, 13)
    assert not count.take(8, {"n": 8})
    assert count.take(11, {"n": 11})
    assert (count.stored_up_to, count.unique, count.missing) == (13, 4, 0)


def test_what_was_stored_up_to_a_lower_sequence_changes_nothing():
    count = StreamCount()
    for seq in (1, 2, 3):
        count.take(seq, {"n": seq})
    count.known_up_to(2)
    assert (count.stored_up_to, count.unique, count.missing) == (3, 3, 0)


def test_only_so_many_instants_are_remembered():
    count = SampleCount(remembered=2)
    for seq, utc_s in enumerate([1.0, 2.0, 3.0, 3.0, 1.0]):
        count.take(seq, utc_s)
    assert (count.samples, count.duplicates) == (4, 1)
