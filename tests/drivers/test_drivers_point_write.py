"""One point written by hand: what is worked out, what is refused before anything is sent, what is read back."""

from __future__ import annotations

import math

import pytest
from drivers_peers import Clock, Memory, bank, chain, model
from drivers_profiles import a_profile, bench
from hypothesis import given
from hypothesis import strategies as st

from drivers.device import DeviceSpec, open_device
from drivers.errors import IdentityMismatch
from drivers.point_write import prepare, write
from drivers.point_write_profile import owned_points
from drivers.profile.load import available, load
from drivers.written_point import PointRefused, listed, number_in, within

TEXT = """
[identity]
check = [{ point = "kind", is = 7 }]
[points]
kind = { address = 0, type = "u16" }
power = { address = 1, type = "i16", unit = "W", positive = "charge" }
soc = { address = 2, type = "u16", unit = "%", plausible = [0, 100] }
factor = { address = 3, type = "i16" }
scaled = { address = 4, type = "u16", scale_from = "factor", unit = "V", write = "volatile", write_range = [0, 500] }
wide = { address = 5, type = "i32", word_order = "low_first", unit = "W", positive = "charge", write = "volatile" }
bits = { address = 7, type = "bitfield16", bits = { fan = 0, pump = 4 }, write = "volatile" }
go = { address = 8, type = "u16", write = "command", write_range = [0, 1] }
blind = { address = 9, type = "u16", write = "volatile", readable = false, write_range = [0, 9] }
share = { address = 10, type = "i16", unit = "%", write = "volatile" }
single = { address = 11, type = "u16", write = "volatile", write_function = 6, plausible = [5, 6] }
none = { address = 12, type = "u16", sentinels = [3], write = "volatile", write_range = [0, 9] }
name = { address = 13, type = "string", length = 2 }
lost = { address = 90, type = "u16", write = "volatile", write_range = [0, 9] }
[battery]
power_w = "power"
soc_pct = "soc"
"""
HOLDING = {0: 7, 1: 0, 2: 50, 3: 0xFFFF, 4: 1234, 5: 0, 6: 0, 7: 1, 8: 0, 9: 0, 10: 0, 11: 5, 12: 1, 13: 0, 14: 0}


@pytest.fixture
async def dut(tmp_path):
    async with bench(a_profile(tmp_path, TEXT), "battery", HOLDING, rated_w=10_000.0) as made:
        made.clock = Clock(0.0)
        yield made


async def refused(device, name, text):
    with pytest.raises(PointRefused) as error:
        await prepare(device, name, text, Clock(0.0))
    assert error.value.hint
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "old", "new", "registers"),
    [
        ("scaled", "230.5", 123.4, 230.5, (2305,)),
        ("wide", "-9000", 0, -9000, (0xDCD8, 0xFFFF)),
        ("bits", "fan,pump", 1, 17, (17,)),
        ("bits", "none", 1, 0, (0,)),
        ("bits", "0x10", 1, 16, (16,)),
        ("go", "1", 0, 1, (1,)),
        ("blind", "4", None, 4, (4,)),
        ("share", "-100", 0, -100, (0xFF9C,)),
        ("single", "6", 5, 6, (6,)),
        ("none", "4", 1, 4, (4,)),
    ],
)
async def test_what_would_be_written_is_shown_with_what_is_there_and_nothing_is_sent(
    dut, name, text, old, new, registers
):
    planned = await prepare(dut.device, name, text, dut.clock)
    assert (planned.old, planned.new, planned.registers) == (old, new, registers)
    assert dut.written() == []


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("scaled", "500.1", "the device takes 0 to 500"),
        ("wide", "10001", "outside -10000 to 10000 W, the rated_power of the site file"),
        ("bits", "fan,light", "is not made of its bits"),
        ("bits", "2", "is not made of its bits"),
        ("bits", "-1", "is not made of its bits"),
        ("go", "2", "the device takes 0 to 1"),
        ("share", "101", "outside -100 to 100 %"),
        ("single", "7", "outside 5 to 6, the plausible range of the profile"),
        ("none", "3", 'its register would mean "no value"'),
        ("name", "AB", "not declared writable"),
        ("soc", "50", "not declared writable"),
        ("what", "50", "the profile has no point 'what'"),
        ("scaled", "inf", "'inf' is not a number"),
        ("scaled", "1e999", "is not a number"),
        ("scaled", "", "'' is not a number"),
    ],
)
async def test_what_must_not_be_written_is_refused_before_anything_is_sent(dut, name, text, why):
    assert why in await refused(dut.device, name, text)
    assert dut.written() == []


async def test_a_power_without_a_rating_has_no_limit_and_is_refused(tmp_path):
    async with bench(a_profile(tmp_path, TEXT), "battery", HOLDING) as made:
        assert "nobody stated which values wide may take" in await refused(made.device, "wide", "1")


async def test_a_write_goes_out_once_as_the_profile_says_and_is_read_back(dut):
    for name, text, sent in (("wide", "-9000", (5, (0xDCD8, 0xFFFF))), ("single", "6", (11, (6,)))):
        outcome = await write(dut.device, await prepare(dut.device, name, text, dut.clock), dut.clock)
        assert (outcome.reason, outcome.seen) == ("", float(text))
        assert dut.written() == [sent]
    asked = [pdu[0] for _, pdu in dut.server.asked]
    assert asked.count(6) == 1, "by function 6 where the profile says so"


async def test_what_is_taken_and_not_applied_is_told(dut):
    dut.holding.deaf.add(11)
    outcome = await write(dut.device, await prepare(dut.device, "single", "6", dut.clock), dut.clock)
    assert outcome.seen == 5
    assert outcome.reason.startswith("accepted but not applied: single reads 5 where 6 was written")


async def test_what_reading_back_would_not_tell_is_told_as_acknowledged(dut):
    for name, text in (("go", "1"), ("blind", "4")):
        outcome = await write(dut.device, await prepare(dut.device, name, text, dut.clock), dut.clock)
        assert (outcome.seen, "acknowledged" in outcome.reason) == (None, True)
    assert dut.written() == [(8, (1,)), (9, (4,))]


async def test_a_refusal_of_the_device_is_told_with_its_code(dut):
    dut.holding.refused.add(11)
    outcome = await write(dut.device, await prepare(dut.device, "single", "6", dut.clock), dut.clock)
    assert "exception 3" in outcome.reason


async def test_another_device_is_not_written_to(tmp_path):
    async with bench(a_profile(tmp_path, TEXT), "battery", HOLDING | {0: 8}, rated_w=10_000.0) as made:
        with pytest.raises(IdentityMismatch):
            await prepare(made.device, "single", "6", Clock(0.0))
        assert made.written() == []


async def test_a_point_whose_scale_factor_has_no_value_cannot_be_written(dut):
    dut.holding.registers[3] = 0x7FFF
    assert "its scale factor has no value" in await refused(dut.device, "scaled", "100")


@pytest.mark.parametrize("name", sorted(available(None)))
def test_the_control_owns_every_point_that_its_steps_write(name):
    profile = load(available(None)[name].path)
    owned = owned_points(profile)
    assert owned <= set(profile.points)
    for role in (profile.battery, profile.pv):
        control = role.control if role is not None else None
        if control is not None:
            assert {write.point for step in control.take_over + control.release for write in step.writes} <= owned
            assert {control.dead_man.point, control.heartbeat} - {None} <= owned


def sunspec_battery():
    models = (
        model(1, {"Md": "B"}),
        model(701, {"W": 0, "W_SF": 0, "St": 1, "ConnSt": 1}),
        model(702, {"WMaxRtg": 50, "W_SF": 2, "WMax": 40}),
        model(704, {"WSetEna": 0, "WSetMod": 1, "WSet": 0, "WSet_SF": 0, "WSetPct": 0, "WSetPct_SF": -1, "WRmp": 3}),
        model(711, {"Ena": 0}),
        model(713, {"SoC": 50, "Pct_SF": 0}),
        model(124, {"MinRsvPct": 10, "MinRsvPct_SF": 0}),
        model(715, {"OpCtl": 1, "LocRemCtl": 0}),
    )
    clock = Clock(50.0)
    memory = Memory(bank(chain(*models)))
    return open_device(DeviceSpec("b", "battery", 1), memory, clock), memory, clock


@pytest.mark.parametrize(
    ("name", "text", "new", "registers", "owned"),
    [
        ("702.WMax", "3000", 3000.0, (30,), False),
        ("704.WSetPct", "-12.5", -12.5, (0xFF83,), False),
        ("704.WSet", "-1", -1.0, (0xFFFF, 0xFFFF), True),
        ("715.OpCtl", "0", 0, (0,), False),
        ("704.WRmp", "150", 150, (150,), False),
        ("124.MinRsvPct", "30", 30.0, (30,), True),
        ("711.Ena", "1", 1, (1,), True),
    ],
)
async def test_a_point_of_a_sunspec_device_goes_by_model_and_name(name, text, new, registers, owned):
    device, memory, clock = sunspec_battery()
    planned = await prepare(device, name, text, clock)
    assert (planned.new, planned.registers, planned.owned, planned.kind) == (new, registers, owned, "volatile")
    assert memory.writes == []
    outcome = await write(device, planned, clock)
    assert (outcome.reason, outcome.seen) == ("", new)
    assert memory.writes == [(planned.address, registers)]


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("702.WMax", "5001", "outside -5000 to 5000 W, the rating of the device"),
        ("704.WSetPct", "100.1", "outside -100 to 100 %"),
        ("704.WRmpRef", "1", "reads as not implemented"),
        ("704.WSet_SF", "1", "SunSpec does not declare 704.WSet_SF writable"),
        ("704", "1", "has no point '704'"),
        ("715.OpCtl", "65535", "none of its values"),
        ("715.OpCtl", "on", "none of its values"),
    ],
)
async def test_what_sunspec_does_not_allow_is_refused(name, text, why):
    device, memory, _ = sunspec_battery()
    assert why in await refused(device, name, text)
    assert memory.writes == []


@pytest.mark.parametrize("text", ["STOP", "0"])
async def test_a_sunspec_enumeration_is_written_by_word_or_number(text):
    device, _, clock = sunspec_battery()
    planned = await prepare(device, "715.OpCtl", text, clock)
    assert (planned.old_label, planned.new, planned.new_label) == ("START", 0, "STOP")


async def test_a_sunspec_device_that_does_not_apply_it_is_told():
    device, memory, clock = sunspec_battery()
    planned = await prepare(device, "715.OpCtl", "0", clock)
    before = dict(memory.registers)
    write_registers = memory.write_registers

    async def deaf(unit_id, address, values, *, generation=None):
        assert generation == memory.generation, "over the connection on which it was identified, and no other"
        await write_registers(unit_id, address, values, generation=generation)
        memory.registers.update(before)

    memory.write_registers = deaf
    outcome = await write(device, planned, clock)
    assert (outcome.seen, outcome.reason.startswith("accepted but not applied: 715.OpCtl reads 1")) == (1, True)


@given(st.floats(allow_nan=True, allow_infinity=True) | st.integers())
def test_every_finite_number_is_understood_as_it_is_written(value):
    text = repr(value)
    if isinstance(value, float) and not math.isfinite(value):
        with pytest.raises(PointRefused):
            number_in(text)
    else:
        assert number_in(text) == value


@given(st.text(max_size=8))
def test_no_text_is_more_than_a_number_or_a_refusal(text):
    try:
        assert math.isfinite(number_in(text))
    except PointRefused as refusal:
        assert repr(text) in str(refusal)


def test_limits_belong_to_what_is_inside():
    within("p", 5.0, (5.0, 6.0), "W", "mine")
    within("p", 6.0, (5.0, 6.0), "W", "mine")
    for value in (4.999, 6.001, math.nan):
        with pytest.raises(PointRefused, match="is outside 5 to 6 W, mine"):
            within("p", value, (5.0, 6.0), "W", "mine")


def test_long_lists_are_cut():
    assert listed([]) == "none"
    assert listed("abc") == "a, b, c"
    assert listed("abcd", most=2) == "a, b and 2 more"
