"""Bytes from a peer: only the exact answer to the request in flight is let through."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.pdu import DecodePDU

from drivers.endpoint import TcpEndpoint
from drivers.mbap import check
from drivers.request import Answer, Checked, Request, answer_of
from drivers.wire import Wire

READ = Request(unit_id=1, function=3, address=100, count=2)
WRITE = Request(unit_id=1, function=16, address=100, count=2)
TID = 5
READ_ANSWER = bytes.fromhex("0005 0000 0007 01 03 04 0001 0002")
WRITE_ANSWER = bytes.fromhex("0005 0000 0006 01 10 0064 0002")


@pytest.mark.parametrize(("request_", "answer"), [(READ, READ_ANSWER), (WRITE, WRITE_ANSWER)])
def test_the_answer_is_let_through_also_in_pieces(request_, answer):
    assert check(answer, request_, TID) == Checked("")
    for cut in range(1, len(answer)):
        assert check(answer[:cut], request_, TID) == Checked("", 0, cut)


@pytest.mark.parametrize("code", [1, 2, 0xF0])
def test_an_exception_is_an_answer(code):
    assert check(bytes.fromhex("0005 0000 0003 01 83") + bytes([code]), READ, TID) == Checked("")


@pytest.mark.parametrize(
    ("frame", "fault"),
    [
        ("0005 0001 0007 01 03 04 0001 0002", "protocol id 1"),
        ("0005 00ff", "protocol id 255"),
        ("0005 0000 ffff 01 03 04", "length of 65535"),
        ("0005 0000 00ff 01 03 04", "length of 255"),
        ("0005 0000 0002 01 83", "length of 2"),
        ("0005 0000 0000", "length of 0"),
        ("0006 0000 0007 01 03 04 0001 0002", "transaction id 6 instead of 5"),
        ("0000 0000 0007 01 03 04 0001 0002", "transaction id 0 instead of 5"),
        ("0005 0000 0007 02 03 04 0001 0002", "unit 2"),
        ("0005 0000 0007 01 04 04 0001 0002", "function 4"),
        ("0005 0000 0003 01 90 02", "function 144"),
        ("0005 0000 0004 01 83 02 00", "exception of 4 bytes"),
        ("0005 0000 0005 01 03 02 0001", "1 registers"),
        ("0005 0000 0009 01 03 06 0001 0002 0003", "3 registers"),
        ("0005 0000 0007 01 03 02 0001 0002", "1 registers"),
        ("0005 0000 0008 01 03 04 0001 0002 00", "in 8 bytes"),
        ("0005 0000 0007 01 03 04 0001 0002 0005 0000 0007 01 03 02", "1 registers"),
        ("0005 0000 0007 01 03 04 0001 0002 4142 4344", "protocol id"),
    ],
)
def test_anything_else_is_named_as_wrong(frame, fault):
    assert fault in check(bytes.fromhex(frame), READ, TID).fault


@pytest.mark.parametrize(
    "frame", ["0005 0000 0006 01 10 0065 0002", "0005 0000 0006 01 10 0064 0001", "0005 0000 0007 01 10 0064 0002 00"]
)
def test_a_wrong_echo_of_a_write_is_named_as_wrong(frame):
    assert "echo" in check(bytes.fromhex(frame), WRITE, TID).fault


@pytest.mark.parametrize("late_tid", [1, 4])
def test_late_answers_to_earlier_requests_are_counted_and_skipped(late_tid):
    late = late_tid.to_bytes(2, "big") + READ_ANSWER[2:]
    assert check(late + late + READ_ANSWER, READ, TID) == Checked("", 2)
    assert check(late + READ_ANSWER[:4], READ, TID) == Checked("", 1, 4)


def test_with_nothing_in_flight_the_last_answer_is_late_too():
    assert check(READ_ANSWER, None, TID) == Checked("", 1)
    assert check(b"\0\0\0\0\0\7", None, 0).fault == "transaction id 0 instead of 0"


def test_a_flood_is_named_as_wrong():
    assert "unasked" in check(b"\0\1\0\0\0\3\1\3\0" * 500, READ, TID).fault


def test_the_answer_is_given_without_its_header_and_the_first_of_two_counts():
    assert check(READ_ANSWER, READ, TID).answer == READ_ANSWER[6:]
    assert check(b"\0\4" + READ_ANSWER[2:] + READ_ANSWER + READ_ANSWER[:5], READ, TID).answer == READ_ANSWER[6:]
    other = READ_ANSWER[:-1] + b"\x55"
    assert check(READ_ANSWER + other, READ, TID).answer == READ_ANSWER[6:]
    assert [check(READ_ANSWER[:cut], READ, TID).answer for cut in range(len(READ_ANSWER))] == [b""] * len(READ_ANSWER)
    assert check(READ_ANSWER, None, TID).answer == b""


@given(st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=125), st.sampled_from([3, 4]))
def test_registers_are_read_as_pymodbus_reads_them(registers, function):
    request = Request(unit_id=1, function=function, address=0, count=len(registers))
    pdu = bytes([function, 2 * len(registers)]) + b"".join(one.to_bytes(2, "big") for one in registers)
    theirs = DecodePDU(is_server=False).decode(pdu)
    assert answer_of(b"\1" + pdu, request).registers == tuple(theirs.registers) == tuple(registers)


@pytest.mark.parametrize("request_", [READ, WRITE])
def test_an_exception_is_read_as_its_code_and_an_echo_as_done(request_):
    assert answer_of(bytes([1, request_.function | 0x80, 11]), request_) == Answer((), 11)
    assert answer_of(bytes([1, 16]) + WRITE.echo, WRITE) == Answer((), None)


def test_whatever_is_let_through_is_read_as_its_registers_or_not_at_all():
    """Random bytes, and right answers with bytes changed: no exception escapes, no value is made up."""

    async def run():
        mutated = st.builds(
            lambda at, byte, extra: READ_ANSWER[:at] + bytes([byte]) + READ_ANSWER[at + 1 :] + extra,
            st.integers(0, len(READ_ANSWER) - 1),
            st.integers(0, 255),
            st.binary(max_size=4),
        )

        @given(st.one_of(st.binary(max_size=300), mutated))
        def feed(data):
            troubles: list[Exception] = []
            wire = Wire(
                TcpEndpoint("127.0.0.1", 1), None, lambda _, trouble: troubles.append(trouble), lambda *_: None, list
            )
            wire._request, wire._transaction_id = READ, TID
            future = wire._waiting = asyncio.get_running_loop().create_future()
            wire._line.data_received(data)
            if not future.done():
                return
            if future.exception() is not None:
                assert len(troubles) == 1
            elif future.result().refusal is None:
                assert future.result().registers == (
                    int.from_bytes(data[9:11], "big"),
                    int.from_bytes(data[11:13], "big"),
                )
                assert data[:9] == READ_ANSWER[:9]

        feed()

    asyncio.run(run())


def waiting_wire(shown):
    """A wire that waits for the answer to READ, and its future."""
    wire = Wire(TcpEndpoint("127.0.0.1", 1), None, lambda *_: None, lambda _, data: shown.append(data), list)
    wire._request, wire._transaction_id = READ, TID
    wire._waiting = asyncio.get_running_loop().create_future()
    return wire, wire._waiting


async def test_the_same_answer_again_before_anybody_looked_changes_nothing():
    wire, future = waiting_wire([])
    wire._line.data_received(READ_ANSWER)
    wire._line.data_received(READ_ANSWER[:-1] + b"\x55")
    assert future.result() == Answer((1, 2), None)


async def test_every_byte_is_shown_once_however_it_comes():
    shown = []
    wire, future = waiting_wire(shown)
    late = b"\0\1" + READ_ANSWER[2:]
    pieces = [late, late[:5], late[5:] + READ_ANSWER[:8], READ_ANSWER[8:]]
    for piece in pieces:
        wire._line.data_received(piece)
    assert shown == pieces
    assert future.result().registers == (1, 2)
    assert wire.take_late() == 2
