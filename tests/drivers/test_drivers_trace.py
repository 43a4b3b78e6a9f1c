"""Frames as they went over the line, decoded: whole or in parts, on TCP and on a serial line, sense and nonsense."""

from __future__ import annotations

import pytest
from drivers_peers import Clock, Memory, bank, chain, model
from pymodbus.framer.rtu import FramerRTU

from drivers.device import DeviceSpec, open_device
from drivers.profile.load import find
from drivers.trace import REMEMBERED, Frame, FrameReader
from drivers.trace_names import PointNames


def tcp(number, body):
    return number.to_bytes(2, "big") + bytes(2) + len(body).to_bytes(2, "big") + body


def rtu(body):
    return body + FramerRTU.compute_CRC(body).to_bytes(2, "big")


class Paced(Memory):
    def pace(self, between_s, after_connect_s):
        pass


READ = bytes([7, 3, 0, 100, 0, 2])
ANSWER = bytes([7, 3, 4, 0x12, 0x34, 0xFF, 0xFE])


def told(frame):
    return (frame.direction, frame.unit_id, frame.words, frame.registers)


def test_an_answer_is_told_with_the_place_that_its_request_named():
    reader = FrameReader(rtu=False)
    (asked,) = reader.feed("sent", tcp(9, READ), 1.0)
    (answer,) = reader.feed("received", tcp(9, ANSWER), 1.5)
    assert told(asked) == ("sent", 7, "read holding 100+2", None)
    assert told(answer) == ("received", 7, "read holding 100+2", (0x1234, 0xFFFE))
    assert (answer.mono_s, answer.data) == (1.5, tcp(9, ANSWER))


def test_an_answer_in_parts_is_one_frame_and_two_in_one_piece_are_two():
    reader = FrameReader(rtu=False)
    reader.feed("sent", tcp(1, READ), 0.0)
    whole = tcp(1, ANSWER) + tcp(2, bytes([7, 0x83, 2]))
    found = [frame for at in range(len(whole)) for frame in reader.feed("received", whole[at : at + 1], float(at))]
    assert [frame.words for frame in found] == [
        "read holding 100+2",
        "EXCEPTION 2 (illegal data address) to read holding",
    ]
    assert found[0].mono_s == len(tcp(1, ANSWER)) - 1.0
    reader = FrameReader(rtu=False)
    assert len(reader.feed("received", whole, 0.0)) == 2


@pytest.mark.parametrize(
    ("request_body", "answer_body", "asked", "answered"),
    [
        (bytes([1, 4, 0, 5, 0, 1]), bytes([1, 4, 2, 0, 9]), ("read input 5", None), ("read input 5", (9,))),
        (bytes([1, 6, 0, 5, 0, 9]), bytes([1, 6, 0, 5, 0, 9]), ("write 5", (9,)), ("write 5", (9,))),
        (
            bytes([1, 16, 0, 5, 0, 2, 4, 0, 1, 0, 2]),
            bytes([1, 16, 0, 5, 0, 2]),
            ("write several 5+2", (1, 2)),
            ("write several 5+2", None),
        ),
        (
            bytes([1, 16, 0, 5, 0, 1, 2, 0, 1]),
            bytes([1, 0x90, 0x0B]),
            ("write several 5", (1,)),
            ("EXCEPTION 11 (gateway target did not respond) to write several 5", None),
        ),
        (
            bytes([1, 3, 0, 5, 0, 1]),
            bytes([1, 0x83, 0xF0]),
            ("read holding 5", None),
            ("EXCEPTION 240 (not a standard code) to read holding 5", None),
        ),
    ],
)
@pytest.mark.parametrize("framing", ["tcp", "rtu"])
def test_each_function_is_told_on_each_kind_of_line(framing, request_body, answer_body, asked, answered):
    wrap = rtu if framing == "rtu" else lambda body: tcp(3, body)
    reader = FrameReader(rtu=framing == "rtu")
    (first,) = reader.feed("sent", wrap(request_body), 0.0)
    (second,) = reader.feed("received", wrap(answer_body), 0.0)
    assert (first.words, first.registers) == asked
    assert (second.words, second.registers) == answered


def test_what_is_no_frame_is_shown_as_it_came_and_the_next_one_is_read():
    reader = FrameReader(rtu=False)
    (bad,) = reader.feed("received", b"\x00\x01\x00\x07\x00\x03abc", 2.0)
    assert (bad.words, bad.data) == ("not a frame: its length cannot be", b"\x00\x01\x00\x07\x00\x03abc")
    reader.feed("sent", tcp(4, READ), 0.0)
    assert reader.feed("received", tcp(4, ANSWER)[:9], 3.0) == []
    broken, asked = reader.feed("sent", tcp(5, READ), 4.0)
    assert (broken.direction, broken.words, broken.mono_s) == (
        "received", "not a frame: the rest of it never came", 3.0,
    )  # fmt: skip
    assert asked.words == "read holding 100+2"
    (good,) = reader.feed("received", tcp(5, ANSWER), 5.0)
    assert good.registers == (0x1234, 0xFFFE)


def test_an_answer_to_another_request_is_not_told_with_the_place_of_this_one():
    reader = FrameReader(rtu=False)
    reader.feed("sent", tcp(6, READ), 0.0)
    (late,) = reader.feed("received", tcp(5, ANSWER), 0.0)
    assert late.words == "read holding"
    (other_unit,) = reader.feed("received", tcp(6, bytes([8]) + ANSWER[1:]), 0.0)
    assert (other_unit.unit_id, other_unit.words) == (8, "read holding")


def test_only_the_newest_requests_are_remembered():
    reader = FrameReader(rtu=False)
    for number in range(1, REMEMBERED + 2):
        reader.feed("sent", tcp(number, READ), 0.0)
    (forgotten,), (known,) = (reader.feed("received", tcp(number, ANSWER), 0.0) for number in (1, 2))
    assert (forgotten.words, known.words) == ("read holding", "read holding 100+2")


def test_a_wrong_checksum_on_a_serial_line_is_told():
    reader = FrameReader(rtu=True)
    reader.feed("sent", rtu(READ), 0.0)
    (bad,) = reader.feed("received", rtu(ANSWER)[:-1] + b"\x00", 0.0)
    assert bad.words == "not a frame: its checksum is wrong"
    assert bad.registers is None


@pytest.mark.parametrize("step", [1, 3, 100])
@pytest.mark.parametrize(
    ("request_body", "answer_body", "answered"),
    [
        (READ, ANSWER, ("read holding 100+2", (0x1234, 0xFFFE))),
        (READ, bytes([7, 0x83, 2]), ("EXCEPTION 2 (illegal data address) to read holding 100+2", None)),
        (bytes([7, 16, 0, 5, 0, 2, 4, 0, 1, 0, 2]), bytes([7, 16, 0, 5, 0, 2]), ("write several 5+2", None)),
    ],
)
def test_the_echo_of_a_serial_line_is_told_as_such_and_the_answer_after_it(request_body, answer_body, answered, step):
    reader = FrameReader(rtu=True)
    reader.feed("sent", rtu(request_body), 0.0)
    came = rtu(request_body) + rtu(answer_body)
    pieces = [came[at : at + step] for at in range(0, len(came), step)]
    echo, answer = [frame for piece in pieces for frame in reader.feed("received", piece, 0.0)]
    assert (echo.words, echo.unit_id, echo.registers) == ("our own request heard back (local echo)", 7, None)
    assert (answer.words, answer.registers) == answered


def test_noise_on_a_serial_line_is_bounded():
    reader = FrameReader(rtu=True)
    (bad,) = reader.feed("received", b"\xaa\x55\xaa\x55", 0.0)
    assert bad.fault
    reader = FrameReader(rtu=False)
    found = reader.feed("received", tcp(1, bytes([1, 3])) + b"\x00" * 5, 0.0)
    assert all(frame.fault for frame in found)


def test_points_of_a_profile_are_named_with_value_unit_and_label():
    profile = find("sungrow-sh", None)
    device = open_device(DeviceSpec("h", "battery", 1, profile=profile), Paced({}), Clock(0.0))
    names = PointNames(device)
    frame = Frame("received", 0.0, b"", 1, 3, 13049, 3, (3, 0xBB, 1500))
    assert [(one.name, one.value, one.unit, one.label) for one in names.of(frame)] == [
        ("ems_mode", 3, "", "external"),
        ("command", 0xBB, "", "discharge"),
        ("command_power", 1500, "W", None),
    ]
    assert names.of(Frame("received", 0.0, b"", 2, 3, 13049, 3, (3, 0xBB, 1500))) == [], "another unit"
    assert names.of(Frame("received", 0.0, b"", 1, 4, 13049, 3, (3, 0xBB, 1500))) == [], "another table"
    assert names.of(Frame("received", 0.0, b"", 1, 4, 5213, 1, (3,))) == [], "half a point"
    assert names.unit_ids == {1}


async def test_points_of_a_sunspec_device_are_scaled_by_what_the_frame_or_the_last_poll_says():
    clock = Clock(50.0)
    registers = chain(model(1, {"Md": "M"}), model(203, {"W": 120, "W_SF": 1, "Hz": 5001, "Hz_SF": -2}))
    device = open_device(DeviceSpec("m", "meter", 5, positive="import"), Memory(bank(registers)), clock)
    assert PointNames(device).of(Frame("received", 0.0, b"", 5, 3, 40000, 1, (1,))) == []
    await device.read()
    names = PointNames(device)
    at = next(known.address for known in names._known if known.name == "203.W")
    (watts,) = names.of(Frame("received", 0.0, b"", 5, 3, at, 1, (7,)))
    assert (watts.name, watts.value, watts.unit) == ("203.W", 70.0, "W")
    factor_at = next(known.address for known in names._known if known.name == "203.W_SF")
    values = [0] * (factor_at - at + 1)
    values[0], values[-1] = 7, 2
    found = {one.name: one.value for one in names.of(Frame("received", 0.0, b"", 5, 3, at, 1, tuple(values)))}
    assert found["203.W"] == 700.0
