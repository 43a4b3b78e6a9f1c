"""RTU frames: only the exact answer to the request in flight is let through, and late answers are never mixed up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.request import Checked, Request
from drivers.rtu import MAX_LATE_S, Owed, check, echo_bytes, same_shape
from simulators.rtu_frames import framed

READ = Request(unit_id=1, function=3, address=100, count=2)
INPUT = Request(unit_id=1, function=4, address=100, count=2)
WRITE = Request(unit_id=1, function=16, address=100, count=2)
SINGLE = Request(unit_id=1, function=6, address=100, count=1, value=7)
ANSWERS = {
    READ: bytes([3, 4, 0, 1, 0, 2]),
    INPUT: bytes([4, 4, 0, 1, 0, 2]),
    WRITE: bytes([16, 0, 100, 0, 2]),
    SINGLE: bytes([6, 0, 100, 0, 7]),
}


def test_the_checksum_is_that_of_the_standard():
    """MODBUS over Serial Line V1.02, appendix B: 02 07 ends in 41 12."""
    assert framed(2, bytes([7])) == bytes.fromhex("0207 4112")


@pytest.mark.parametrize(("request_", "pdu"), ANSWERS.items())
def test_the_answer_is_let_through_also_in_pieces(request_, pdu):
    answer = framed(1, pdu)
    assert check(answer, request_) == Checked("")
    for cut in range(len(answer)):
        assert check(answer[:cut], request_) == Checked("", 0, cut)


@pytest.mark.parametrize("request_", ANSWERS)
def test_an_exception_is_an_answer(request_):
    assert check(framed(1, bytes([request_.function | 0x80, 2])), request_) == Checked("")


@pytest.mark.parametrize(
    ("frame", "fault"),
    [
        (framed(2, ANSWERS[READ]), "unit 2"),
        (framed(1, ANSWERS[INPUT]), "function 4"),
        (framed(1, bytes([3, 2, 0, 1])), "1 registers"),
        (framed(1, bytes([3, 6, 0, 1, 0, 2, 0, 3])), "3 registers"),
        (framed(1, bytes([0x90, 2])), "function 144"),
        (framed(1, ANSWERS[READ])[:-1] + b"\0", "checksum"),
        (framed(1, bytes([3, 4, 0, 1, 0, 3]))[:-2] + framed(1, ANSWERS[READ])[-2:], "checksum"),
        (framed(1, ANSWERS[READ]) + b"\0", "1 bytes after the answer"),
        (2 * framed(1, ANSWERS[READ]), "9 bytes after the answer"),
        (b"\1" * 5000, "unasked"),
    ],
)
def test_anything_else_is_named_as_wrong(frame, fault):
    assert fault in check(frame, READ).fault


@pytest.mark.parametrize("pdu", [bytes([16, 0, 101, 0, 2]), bytes([16, 0, 100, 0, 1])])
def test_a_wrong_echo_of_a_write_is_named_as_wrong(pdu):
    assert "echo" in check(framed(1, pdu), WRITE).fault


def test_with_nothing_in_flight_bytes_are_only_held():
    assert check(framed(1, ANSWERS[READ]), None) == Checked("", 0, 9)


@given(st.data())
def test_no_flipped_bits_and_no_other_bytes_ever_pass(data):
    answer = framed(1, ANSWERS[READ])
    flips = data.draw(st.sets(st.integers(0, 8 * len(answer) - 1), min_size=1, max_size=3))
    spoilt = bytearray(answer)
    for bit in flips:
        spoilt[bit // 8] ^= 1 << bit % 8
    verdict = check(bytes(spoilt), READ)
    assert verdict.fault or verdict.open_bytes


OTHER = Request(unit_id=2, function=3, address=0, count=1)
LATE = framed(2, bytes([3, 2, 0, 9]))


@pytest.mark.parametrize("late", [LATE, framed(2, bytes([0x83, 4]))], ids=["answer", "exception"])
def test_an_answer_that_another_unit_still_owed_is_skipped(late):
    answer = framed(1, ANSWERS[READ])
    whole = check(late + answer, READ, [OTHER])
    assert (whole, whole.answer) == (Checked("", 1), answer[:-2])
    for cut in range(1, len(late) + len(answer)):
        verdict = check((late + answer)[:cut], READ, [OTHER])
        assert (verdict.fault, verdict.answer) == ("", b"")
        assert verdict.open_bytes == cut - len(late) * verdict.late
    assert "unit 2" in check(late + answer, READ).fault


def test_answers_of_one_shape_are_those_that_look_alike():
    assert same_shape(READ, Request(1, 3, 500, 2))
    assert not same_shape(READ, Request(1, 3, 100, 3))
    assert not same_shape(READ, INPUT)
    assert same_shape(SINGLE, SINGLE)
    assert not same_shape(SINGLE, Request(1, 6, 100, 1, 8))


def test_what_is_owed_makes_the_same_shape_ambiguous_until_an_answer_or_the_longest_lateness():
    owed = Owed()
    owed.given_up(READ, 10.0)
    assert owed.ambiguous(Request(1, 3, 500, 2), 10.0)
    assert not owed.ambiguous(Request(1, 3, 500, 3), 10.0)
    assert owed.ambiguous(READ, 10.0 + MAX_LATE_S - 0.1)
    assert not owed.ambiguous(READ, 10.0 + MAX_LATE_S)
    owed.given_up(READ, 20.0)
    assert owed.refusal_may_be_late(Request(1, 3, 7, 9), 20.0)
    assert not owed.refusal_may_be_late(INPUT, 20.0)
    owed.answered()
    assert not owed.ambiguous(READ, 20.0)


@given(st.lists(st.integers(1, 125), max_size=20), st.integers(1, 125), st.integers(0, 65535))
def test_the_read_that_is_asked_instead_lies_at_the_same_place_and_looks_like_none_that_is_owed(counts, count, address):
    owed = Owed()
    for older in counts:
        owed.given_up(Request(1, 3, 0, older), 0.0)
    address = min(address, 65536 - count)
    other = owed.other_shape(Request(1, 3, address, count), 0.0)
    fit = [
        one
        for one in (*range(1, count), *range(count + 1, count + 18))
        if one <= 125 and address + one <= 65536 and one not in counts[-16:]
    ]
    assert (None if other is None else (other.address, other.count)) == ((address, fit[0]) if fit else None)


ASKED = framed(1, bytes([3, 0, 100, 0, 2]))
WRITTEN = framed(1, bytes([16, 0, 100, 0, 1, 2, 0, 7]))
WRITTEN_ONE = framed(1, ANSWERS[SINGLE])


@pytest.mark.parametrize("sent", [ASKED, WRITTEN, WRITTEN_ONE])
def test_our_own_request_is_told_apart_on_a_line_that_gives_it_back(sent):
    for cut in range(len(sent)):
        assert echo_bytes(sent[:cut], sent, echoes=True) == cut, "it may still be it"
    assert echo_bytes(sent + framed(1, ANSWERS[READ]), sent, echoes=True) == len(sent)
    assert echo_bytes(framed(1, bytes([3, 4, 9])), sent, echoes=True) == 0


@pytest.mark.parametrize(("sent", "own"), [(ASKED, 8), (WRITTEN, 0), (WRITTEN_ONE, 0)])
def test_on_a_line_of_which_nothing_is_known_only_a_request_to_read_is_no_answer(sent, own):
    """The answer to function 6 is the request, letter by letter."""
    assert echo_bytes(sent + b"\1", sent, echoes=False) == own


@given(st.integers(1, 247), st.sampled_from([3, 4]), st.integers(0, 0xFFFF), st.integers(1, 125))
def test_a_request_to_read_is_never_a_whole_answer_to_itself(unit_id, function, address, count):
    request = Request(unit_id, function, address, count)
    sent = framed(unit_id, bytes([function]) + address.to_bytes(2, "big") + count.to_bytes(2, "big"))
    verdict = check(sent, request)
    assert verdict.fault or verdict.open_bytes
