"""Registers to values and back, for every type of a profile; the expected registers are written by hand."""

from __future__ import annotations

import math

import pytest
from drivers_profiles import a_profile

from drivers.codec import OutOfRange, Rounding
from drivers.profile.codec import codec

HEAD = """
[identity]
check = [{ point = "x", is_not = 1 }]
[meter]
power_w = "p"
[points]
p = { address = 900, type = "i16", unit = "W", positive = "import" }
f = { address = 901, type = "i16" }
"""


@pytest.fixture
def point(tmp_path):
    def make(text):
        return codec(a_profile(tmp_path, f"{HEAD}x = {{ address = 0, {text} }}\n"), "x")

    return make


def meant(codec, registers, exponent=0):
    return codec.value(codec.raw(registers), exponent)


@pytest.mark.parametrize(
    ("text", "registers", "value"),
    [
        ('type = "u16"', (0xFFFF,), 65535),
        ('type = "i16"', (0xFFFF,), -1),
        ('type = "i16"', (0x8000,), -32768),
        ('type = "u32"', (0x0001, 0x0002), 65538),
        ('type = "u32", word_order = "low_first"', (0x0002, 0x0001), 65538),
        ('type = "i32"', (0xFFFF, 0xFF38), -200),
        ('type = "i32", word_order = "low_first"', (0xFF38, 0xFFFF), -200),
        ('type = "u64"', (0, 0, 0x0001, 0x0000), 65536),
        ('type = "u64", word_order = "low_first"', (0, 0x0001, 0, 0), 65536),
        ('type = "i64"', (0xFFFF, 0xFFFF, 0xFFFF, 0xFFFE), -2),
        ('type = "f32"', (0x41C8, 0x0000), 25.0),
        ('type = "f32", word_order = "low_first"', (0x0000, 0x41C8), 25.0),
        ('type = "f64"', (0x4039, 0, 0, 0), 25.0),
        ('type = "u16", byte_order = "low_first"', (0x3412,), 0x1234),
        ('type = "u32", byte_order = "low_first"', (0x0100, 0x0200), 65538),
        ('type = "u32", byte_order = "low_first", word_order = "low_first"', (0x0200, 0x0100), 65538),
        ('type = "enum16", values = { on = 7 }', (7,), 7),
        ('type = "enum32", values = { on = 7 }', (0, 7), 7),
        ('type = "bitfield16", bits = { hot = 3 }', (0x0009,), 9),
        ('type = "bitfield64"', (0x8000, 0, 0, 1), 0x8000_0000_0000_0001),
        ('type = "u16", scale = 0.1', (1234,), 123.4),
        ('type = "u16", scale = 100', (12,), 1200),
        ('type = "i16", scale = -0.1', (55,), -5.5),
        ('type = "u16", scale = 0.1, offset = -100', (1245,), 24.5),
        ('type = "f32", scale = 0.1', (0x41C8, 0x0000), 2.5),
    ],
)
def test_a_value_and_its_registers_are_the_same_in_both_directions(point, text, registers, value):
    x = point(text)
    assert meant(x, registers) == value
    if "bitfield64" not in text:
        assert x.encode(value) == registers


def test_texts_end_at_the_first_nul_and_lose_their_blanks(point):
    assert meant(point('type = "string", length = 3'), (0x4142, 0x2000, 0x4344)) == "AB"
    assert meant(point('type = "string", length = 2, word_order = "low_first"'), (0x4142, 0x4344)) == "ABCD"
    assert meant(point('type = "string", length = 2, byte_order = "low_first"'), (0x4241, 0x4443)) == "ABCD"
    assert meant(point('type = "string", length = 2'), (0, 0)) is None


@pytest.mark.parametrize(
    ("text", "registers"),
    [
        ('type = "u16", sentinels = [0xFFFF]', (0xFFFF,)),
        ('type = "i16", sentinels = [0x8000]', (0x8000,)),
        ('type = "i16", sentinels = [-32768]', (0x8000,)),
        ('type = "i32", sentinels = [0x7FFFFFFF], word_order = "low_first"', (0xFFFF, 0x7FFF)),
        ('type = "u64", sentinels = [0xFFFFFFFFFFFFFFFF]', (0xFFFF,) * 4),
        ('type = "enum16", sentinels = [0xFFFF]', (0xFFFF,)),
        ('type = "f32"', (0x7FC0, 0)),
        ('type = "f32"', (0x7F80, 0)),
        ('type = "f64"', (0xFFF0, 0, 0, 0)),
    ],
)
def test_no_value_is_no_number(point, text, registers):
    assert meant(point(text), registers) is None


def test_default_sentinels_hold_by_type_unless_the_point_states_its_own(tmp_path):
    text = "[defaults]\nsentinels = { u16 = [0xFFFF] }\n" + HEAD
    profile = a_profile(
        tmp_path,
        text + 'x = { address = 0, type = "u16" }\ny = { address = 1, type = "u16", sentinels = [] }\n'
        'z = { address = 2, type = "enum16" }\n',
    )
    read = {name: meant(codec(profile, name), (0xFFFF,)) for name in "xyz"}
    assert read == {"x": None, "y": 65535, "z": 65535}


@pytest.mark.parametrize(("exponent", "value"), [(-2, 12.34), (0, 1234.0), (2, 123400.0), (11, None), (None, None)])
def test_a_scale_factor_register_multiplies_by_a_power_of_ten(point, exponent, value):
    assert meant(point('type = "u16", scale_from = "f"'), (1234,), exponent) == value


def test_a_power_between_two_steps_is_rounded_toward_zero(point):
    x = point('type = "i16", scale = 100, unit = "W", positive = "charge"')
    assert x.encode(1299.0, rounding=Rounding.TOWARD_ZERO) == (12,)
    assert x.encode(-1299.0, rounding=Rounding.TOWARD_ZERO) == (0xFFF4,)
    assert x.encode(1299.0) == (13,)
    assert point('type = "u16", scale = 0.1').encode(0.3, rounding=Rounding.TOWARD_ZERO) == (3,)


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ('type = "u16"', -1.0, "does not fit a u16"),
        ('type = "i16"', 32768.0, "does not fit a i16"),
        ('type = "u16"', math.nan, "not a number"),
        ('type = "u16"', math.inf, "not a number"),
        ('type = "f32"', 1e39, "does not fit a f32"),
        ('type = "u16", sentinels = [0xFFFF]', 65535.0, 'would mean "no value"'),
        ('type = "u16", unit = "s", write = "volatile", write_range = [10, 60]', 9.0, "the device takes 10 to 60"),
        ('type = "u16", unit = "s", write = "volatile", write_range = [10, 60]', 61.0, "the device takes 10 to 60"),
    ],
)
def test_what_a_register_cannot_hold_is_never_sent(point, text, value, expected):
    with pytest.raises(OutOfRange, match=expected):
        point(text).encode(value)


def test_without_its_scale_factor_nothing_can_be_written(point):
    x = point('type = "i16", scale_from = "f", write = "volatile"')
    assert x.encode(150.0, 1) == (15,)
    with pytest.raises(OutOfRange, match="scale factor"):
        x.encode(150.0, None)


def test_labels_are_shown_for_enumerations_and_bits(point):
    assert point('type = "enum16", values = { on = 7 }').label(7) == "on"
    assert point('type = "enum16", values = { on = 7 }').label(8) is None
    assert point('type = "bitfield16", bits = { hot = 3, cold = 0 }').label(9) == "hot, cold"
    assert point('type = "bitfield16", bits = { hot = 3 }').label(0) == "none"
    assert point('type = "u16"').label(7) is None


def test_a_double_that_its_unit_makes_too_large_is_no_value(point):
    large = point('type = "f64", scale = 1000, offset = 1, unit = "V"')
    assert meant(large, (0x7FE0, 0, 0, 0)) is None
    assert meant(large, (0x7FE0, 0, 0, 0), 3) is None
    with pytest.raises(OutOfRange, match="does not fit"):
        point('type = "f64", scale = 1e-9, unit = "V", write = "volatile"').encode(1e308)
