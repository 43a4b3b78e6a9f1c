"""Reads are packed: few requests, none too long, each value with its scale factor and its time."""

from __future__ import annotations

import pytest
from drivers_peers import Clock, Memory, bank, chain, model
from hypothesis import given
from hypothesis import strategies as st

from drivers.read_plan import MAX_GAP_REGISTERS, Place, make_plan
from drivers.sunspec import walk
from drivers.sunspec_layout import Point


def place(address, size=1, name="P"):
    return Place(
        f"9.{name}{address}",
        Point(f"{name}{address}", 0, "uint16" if size == 1 else "string", size, None, "", False),
        address,
    )


def spans(plan):
    return [(block.address, block.count) for block in plan.blocks]


def test_neighbours_are_read_together():
    assert spans(make_plan([[place(10), place(11)], [place(20)]])) == [(10, 11)]


def test_a_wide_gap_is_not_read_along():
    far = 11 + MAX_GAP_REGISTERS
    assert spans(make_plan([[place(10)], [place(far)]])) == [(10, far - 9)]
    assert spans(make_plan([[place(10)], [place(far + 1)]])) == [(10, 1), (far + 1, 1)]


def test_a_request_never_exceeds_125_registers():
    assert spans(make_plan([[place(0, 100)], [place(100, 25)]])) == [(0, 125)]
    assert spans(make_plan([[place(0, 100)], [place(100, 26)]])) == [(0, 100), (100, 26)]


@given(st.sets(st.integers(0, 400), min_size=1), st.randoms())
def test_every_point_is_decoded_once_from_its_own_registers(addresses, random):
    shuffled = list(addresses)
    random.shuffle(shuffled)
    plan = make_plan([[place(address)] for address in shuffled])
    reads: dict = {}
    for block in plan.blocks:
        assert 1 <= block.count <= 125
        block.decode(range(block.address, block.address + block.count), 0.0, reads)
    assert {key: read.value for key, read in reads.items()} == {f"9.P{address}": address for address in addresses}


async def test_each_value_carries_the_time_at_which_its_own_request_was_sent():
    clock = Clock(10.0)
    memory = Memory({10: 1, 500: 2})
    memory.before_read = lambda _: setattr(clock, "now_s", clock.now_s + 5)
    reads = await make_plan([[place(10)], [place(500)]]).read(memory, 1, clock)
    assert reads["9.P10"] == (1, 10.0)
    assert reads["9.P500"] == (2, 15.0)


async def test_a_value_and_its_scale_factor_always_share_one_request():
    memory = Memory(bank(chain(model(1, {}), model(701, {"W": 5, "W_SF": 2}))))
    found = await walk(memory, 1)
    plan = make_plan([found.places(found.first(1), ["Mn", "SN"]), found.places(found.first(701), ["St", "W"])])
    (block,) = [block for block in plan.blocks if any(field.key == "701.W" for field in block.fields)]
    assert any(field.key == "701.W_SF" for field in block.fields)
    assert (await plan.read(memory, 1, Clock()))["701.W"].value == pytest.approx(500.0)


async def test_a_model_longer_than_one_request_takes_its_scale_factor_from_the_first():
    scale = Point("P_SF", 0, "sunssf", 1, None, "", False)
    places = [Place("9.P_SF", scale, 10)]
    places += [Place(f"9.P{at}", Point(f"P{at}", 0, "uint16", 1, "P_SF", "", False), at) for at in (11, 200)]
    memory = Memory({10: 2, 11: 3, 200: 4})
    reads = await make_plan([places]).read(memory, 1, Clock())
    assert (reads["9.P11"].value, reads["9.P200"].value) == (300.0, 400.0)
    memory.registers[10] = 11  # no scale factor
    reads = await make_plan([places]).read(memory, 1, Clock())
    assert (reads["9.P11"].value, reads["9.P200"].value) == (None, None)


async def test_a_scaled_point_whose_factor_nobody_reads_has_no_value():
    plan = make_plan([[Place("9.P1", Point("P1", 0, "uint16", 1, "P_SF", "", False), 1)]])
    assert (await plan.read(Memory({1: 5}), 1, Clock()))["9.P1"].value is None
