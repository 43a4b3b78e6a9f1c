"""SunSpec values to and from registers, worked out by hand."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.codec import OutOfRange, Rounding, encode, scaled, step
from drivers.read_plan import Place, make_plan
from drivers.sunspec_layout import TYPE_REGISTERS, Point

NO_SF = 0x8000


def a_point(kind: str, *, size: int | None = None, sf: str | None = None, at: int = 0) -> Point:
    return Point("X", at, kind, size or TYPE_REGISTERS[kind], sf, "W", writable=True)


def decoded(kind: str, registers: list[int], *, sf: int | None = None):
    """What the plan's decoder makes of one point, followed by its scale factor if it has one."""
    point = a_point(kind, size=len(registers), sf=None if sf is None else "X_SF")
    places = [Place("9.X", point, 100)]
    if sf is not None:
        end = 100 + len(registers)
        places.append(Place("9.X_SF", Point("X_SF", len(registers), "sunssf", 1, None, "", writable=False), end))
        registers = [*registers, sf % 65536]
    (block,) = make_plan([places]).blocks
    reads: dict = {}
    block.decode(registers, 5.0, reads)
    assert reads["9.X"].read_mono_s == 5.0
    return reads["9.X"].value


@pytest.mark.parametrize(
    ("kind", "registers", "value"),
    [
        ("int16", [0xFFFF], -1),
        ("int16", [0x8001], -32767),
        ("int16", [0x7FFF], 32767),
        ("int16", [0], 0),
        ("uint16", [0xFFFE], 65534),
        ("uint16", [0x8000], 32768),
        ("enum16", [3], 3),
        ("bitfield16", [0x0101], 257),
        ("acc16", [1], 1),
        ("count", [2], 2),
        ("int32", [0xFFFF, 0xFFFE], -2),
        ("int32", [0x0001, 0x0000], 65536),
        ("uint32", [0x0001, 0x0002], 65538),
        ("enum32", [0, 9], 9),
        ("bitfield32", [0x4000, 1], 0x40000001),
        ("acc32", [0xFFFF, 0xFFFF], 4294967295),
        ("int64", [0xFFFF, 0xFFFF, 0xFFFF, 0xFFFD], -3),
        ("uint64", [0, 1, 0, 0], 1 << 32),
        ("acc64", [0, 0, 0, 5], 5),
        ("float32", [0x3FC0, 0], 1.5),
        ("float64", [0xBFF8, 0, 0, 0], -1.5),
        ("string", [0x4142, 0x4300], "ABC"),
        ("string", [0x4142, 0x4344], "ABCD"),
        ("string", [0x2041, 0x2020], "A"),
        ("string", [0x4107, 0x4200], "AB"),
    ],
)
def test_each_type_is_read_as_published(kind, registers, value):
    assert decoded(kind, registers) == value


@pytest.mark.parametrize(
    ("kind", "registers"),
    [
        ("int16", [0x8000]),
        ("uint16", [0xFFFF]),
        ("enum16", [0xFFFF]),
        ("bitfield16", [0xFFFF]),
        ("count", [0xFFFF]),
        ("acc16", [0]),
        ("int32", [0x8000, 0]),
        ("uint32", [0xFFFF, 0xFFFF]),
        ("enum32", [0xFFFF, 0xFFFF]),
        ("bitfield32", [0xFFFF, 0xFFFF]),
        ("acc32", [0, 0]),
        ("int64", [0x8000, 0, 0, 0]),
        ("uint64", [0xFFFF] * 4),
        ("acc64", [0] * 4),
        ("float32", [0x7FC0, 0]),
        ("float32", [0x7F80, 0]),
        ("float64", [0x7FF8, 0, 0, 0]),
        ("string", [0, 0x4142]),
        ("string", [0x2020, 0x2020]),
    ],
)
def test_not_implemented_is_no_number(kind, registers):
    assert decoded(kind, registers) is None


@pytest.mark.parametrize(
    ("raw", "sf", "value"),
    [(5001, -2, 50.01), (123, 2, 12300.0), (-7, 0, -7.0), (1, 10, 1e10), (1, -10, 1e-10), (3, -1, 0.3)],
)
def test_scale_factors_are_exact_to_the_last_digit(raw, sf, value):
    assert decoded("int16", [raw % 65536], sf=sf) == value


@pytest.mark.parametrize("sf", [NO_SF, 11, -11, 32767])
def test_a_value_whose_scale_factor_is_unusable_is_no_number(sf):
    assert decoded("int16", [100], sf=sf) is None


def test_a_value_whose_scale_factor_lies_beyond_the_models_end_is_no_number():
    (block,) = make_plan([[Place("9.X", a_point("int16", sf="X_SF"), 100)]]).blocks
    reads: dict = {}
    block.decode([100], 0.0, reads)
    assert reads["9.X"].value is None


@pytest.mark.parametrize(
    ("kind", "value", "sf", "registers"),
    [
        ("int16", -1.0, 0, (0xFFFF,)),
        ("int32", -123456.0, 0, (0xFFFE, 0x1DC0)),
        ("int32", -123456.0, 2, (0xFFFF, 0xFB2D)),
        ("int32", 12.34, -2, (0, 1234)),
        ("uint32", 60, 0, (0, 60)),
        ("uint16", 65534, 0, (0xFFFE,)),
        ("float32", 1.5, 0, (0x3FC0, 0)),
    ],
)
def test_writing_is_the_inverse_of_reading(kind, value, sf, registers):
    assert encode(a_point(kind, sf="X_SF"), value, sf) == registers


@pytest.mark.parametrize(
    ("value", "sf", "nearest", "toward_zero"),
    [(960, 2, 10, 9), (-960, 2, -10, -9), (0.3, -1, 3, 3), (0.7 - 0.4, -1, 3, 3), (99, 2, 1, 0), (-1.9, 0, -2, -1)],
)
def test_a_limit_survives_rounding_toward_zero(value, sf, nearest, toward_zero):
    point = a_point("int16", sf="X_SF")
    assert encode(point, value, sf) == (nearest % 65536,)
    assert encode(point, value, sf, Rounding.TOWARD_ZERO) == (toward_zero % 65536,)


@pytest.mark.parametrize(
    ("kind", "value", "sf"),
    [
        ("int16", 32768, 0),
        ("int16", -32768, 0),  # the sentinel
        ("int16", 32767.6, 0),
        ("uint16", -1, 0),
        ("uint16", 65535, 0),  # the sentinel
        ("uint16", 656, -2),
        ("int32", 2.0**31, 0),
        ("int32", 1e12, -10),
        ("float32", 1e39, 0),
        ("int16", math.nan, 0),
        ("int16", math.inf, 0),
    ],
)
def test_what_does_not_fit_is_refused_with_the_point_named(kind, value, sf):
    with pytest.raises(OutOfRange, match=r"^X: "):
        encode(a_point(kind, sf="X_SF"), value, sf)


def test_the_refusal_names_the_limits_in_the_points_unit():
    with pytest.raises(OutOfRange, match=r"X: 500000 W does not fit, the register holds -327680 to 327670 W"):
        encode(a_point("int16", sf="X_SF"), 500_000, 1)


@given(
    power_w=st.floats(-2e9, 2e9, allow_nan=False),
    sf=st.integers(0, 4),
    rounding=st.sampled_from(Rounding),
)
def test_what_is_written_and_read_back_is_within_one_step(power_w, sf, rounding):
    high, low = encode(a_point("int32", sf="X_SF"), power_w, sf, rounding)
    (raw,) = struct.unpack(">i", struct.pack(">HH", high, low))
    back_w = scaled(raw, sf)
    assert abs(back_w - power_w) < step(sf) + 1e-6 * step(sf)
    if rounding is Rounding.TOWARD_ZERO:
        assert abs(back_w) <= abs(power_w) + 2e-6 * step(sf)
