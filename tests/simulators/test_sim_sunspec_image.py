"""The register image: chain of models, sentinels where nothing is set, scale factors."""

import struct

import pytest

from simulators.modbus_server import RequestRefusedError
from simulators.sunspec_image import SunSpecImage, finest_scale


@pytest.fixture
def image():
    return SunSpecImage((1, 713, 203), 40_000)


def test_the_chain_begins_with_its_marker_and_ends_with_the_end_model(image):
    assert image.read(40_000, 2) == b"SunS"
    address, seen = 40_002, []
    while (header := struct.unpack(">HH", image.read(address, 2)))[0] != 0xFFFF:
        seen.append(header)
        address += 2 + header[1]
    assert seen == [(1, 66), (713, 7), (203, 105)]
    assert header == (0xFFFF, 0)
    with pytest.raises(RequestRefusedError, match="2"):
        image.read(address + 2, 1)


@pytest.mark.parametrize(
    ("name", "registers"),
    [
        ("713.SoC", "ffff"),
        ("713.Pct_SF", "8000"),
        ("203.W", "8000"),
        ("203.TotWhExp", "00000000"),
        ("203.Evt", "ffffffff"),
        ("1.Mn", "00" * 32),
        ("1.Pad", "8000"),
    ],
)
def test_a_point_that_nobody_set_is_not_implemented(image, name, registers):
    assert image.read(image.address(name), image.size(name)).hex() == registers


def test_values_are_scaled_and_rounded_to_the_register(image):
    image.scale("203.W_SF", 2)
    image.number("203.W", -123_456.0)
    assert image.read(image.address("203.W"), 1) == struct.pack(">h", -1_235)
    image.scale("713.Pct_SF", -2)
    image.number("713.SoC", 47.116)
    assert image.read(image.address("713.SoC"), 1) == struct.pack(">H", 4_712)
    assert image.decoded("713.SoC", struct.pack(">H", 4_712)) == pytest.approx(47.12)


def test_an_energy_counter_rolls_over_but_a_power_must_fit(image):
    image.scale("203.TotWh_SF", -2)
    image.number("203.TotWhExp", (2**32 + 7) / 100.0)
    assert image.read(image.address("203.TotWhExp"), 2) == struct.pack(">I", 7)
    image.scale("203.W_SF", 0)
    with pytest.raises(struct.error):
        image.number("203.W", 40_000.0)


def test_a_value_without_its_scale_factor_is_a_mistake(image):
    with pytest.raises(KeyError):
        image.number("203.W", 1.0)


def test_a_snapshot_stays_and_the_bare_image_has_no_values(image):
    image.scale("713.Pct_SF", 0)
    image.number("713.SoC", 50.0)
    at = image.address("713.SoC")
    old = image.snapshot()
    image.number("713.SoC", 60.0)
    assert (old.read(at, 1), image.read(at, 1)) == (b"\x00\x32", b"\x00\x3c")
    assert image.without_values().read(at, 1) == b"\xff\xff"
    assert image.without_values().read(40_000, 4) == image.read(40_000, 4)


@pytest.mark.parametrize(
    ("largest", "limit", "finest", "factor"),
    [(750_000.0, 32_767, -10, 2), (7_500.0, 32_767, -10, 0), (7_500.0, 32_767, 1, 1), (327.67, 32_767, -10, -2)],
)
def test_the_finest_scale_factor_that_fits_is_found(largest, limit, finest, factor):
    assert finest_scale(largest, limit, finest) == factor
