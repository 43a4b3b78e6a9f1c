"""A SunSpec device that refuses some registers of its own models: those are left out, the rest goes on."""

from __future__ import annotations

import pytest
from drivers_peers import Clock, Memory
from hypothesis import given
from hypothesis import strategies as st

from drivers.bisect import ASK_AGAIN_S, PollPlan
from drivers.errors import ModbusRefused
from drivers.read_plan import Place, make_plan
from drivers.sunspec_layout import Point, layout

FIRST = 40072


def places(model_id=701):
    known = layout(model_id)
    return [Place(f"{model_id}.{point.name}", point, FIRST + point.at) for point in known.points.values()]


def device(found, holes=()):
    """A memory that holds the address in each register, without the registers of `holes`."""
    lacking = {
        at for place in found if place.key in holes for at in range(place.address, place.address + place.point.size)
    }
    end = max(place.address + place.point.size for place in found)
    return Memory({at: at & 0x7FFF for at in range(FIRST, end) if at not in lacking})


@given(st.data())
async def test_exactly_the_refused_points_are_missing_and_the_rest_reads_as_before(data):
    found = places()[:30]
    holes = data.draw(st.sets(st.sampled_from([place.key for place in found]), max_size=8))
    whole = await PollPlan(make_plan([found])).read(device(found), 1, Clock())
    plan, memory = PollPlan(make_plan([found])), device(found, holes)
    reads = await plan.read(memory, 1, Clock())
    assert set(plan.refused) == holes
    factors = {f"701.{place.point.sf}" for place in found if place.point.sf}
    for place in found:
        unscaled = place.point.sf is not None and f"701.{place.point.sf}" in holes
        if place.key in holes or unscaled:
            assert reads[place.key].value is None
        else:
            assert reads[place.key].value == whole[place.key].value, (place.key, factors & holes)


async def test_a_refused_point_is_not_asked_for_again_and_the_requests_stay_few():
    found = places()[:30]
    plan, memory = PollPlan(make_plan([found])), device(found, {"701.W"})
    await plan.read(memory, 1, Clock())
    memory.reads.clear()
    await plan.read(memory, 1, Clock())
    refused = next(place for place in found if place.key == "701.W").address
    assert memory.reads
    assert all(not at <= refused < at + count for at, count in memory.reads)
    assert len(memory.reads) <= 8
    assert plan.refused["701.W"].address == refused


async def test_a_refused_point_is_asked_for_again_after_a_while_by_one_request():
    found = places()[:30]
    plan, memory, clock = PollPlan(make_plan([found])), device(found, {"701.W", "701.VA"}), Clock()
    await plan.read(memory, 1, clock)
    clock.now_s += ASK_AGAIN_S
    memory.reads.clear()
    assert (await plan.read(memory, 1, clock))["701.W"].value is None
    asked_in_vain = len(memory.reads)
    clock.now_s += ASK_AGAIN_S - 1.0
    memory.reads.clear()
    await plan.read(memory, 1, clock)
    assert asked_in_vain - len(memory.reads) == 2
    memory.registers = device(found).registers
    clock.now_s += 1.0
    whole = await PollPlan(make_plan([found])).read(memory, 1, clock)
    reads = await plan.read(memory, 1, clock)
    assert {key: read.value for key, read in reads.items()} == {key: read.value for key, read in whole.items()}
    assert plan.refused == {}


async def test_a_value_is_scaled_by_a_factor_that_bisecting_put_into_another_request():
    value, hole, factor = (
        Place(f"9.{name}", Point(name, at, kind, 1, sf, "", writable=False), FIRST + at)
        for name, kind, at, sf in (("X", "int16", 0, "X_SF"), ("Y", "int16", 1, None), ("X_SF", "sunssf", 2, None))
    )
    memory = Memory({FIRST: 5, FIRST + 2: 2})
    plan = PollPlan(make_plan([[value, hole, factor]]))
    for _ in range(2):
        reads = await plan.read(memory, 1, Clock())
        assert (reads["9.X"].value, reads["9.Y"].value) == (500, None)


async def test_a_device_that_refuses_everything_has_failed_and_is_asked_for_everything_again():
    found = places()[:5]
    plan, memory = PollPlan(make_plan([found])), Memory({})
    for _ in range(2):
        with pytest.raises(ModbusRefused):
            await plan.read(memory, 1, Clock())
        assert plan.refused == {}
    memory.registers.update(device(found).registers)
    assert (await plan.read(memory, 1, Clock()))[found[2].key].value is not None


async def test_a_point_that_was_refused_is_asked_for_again_once_the_whole_device_was_away():
    found, clock = places()[:30], Clock()
    plan, memory = PollPlan(make_plan([found])), device(found, {"701.W"})
    await plan.read(memory, 1, clock)
    held, memory.registers = device(found).registers, {}
    with pytest.raises(ModbusRefused):
        await plan.read(memory, 1, clock)
    memory.registers = held
    assert "701.W" in await plan.read(memory, 1, clock)
    assert plan.refused == {}
    clock.now_s += ASK_AGAIN_S
    memory.reads.clear()
    assert "701.W" in await plan.read(memory, 1, clock)
    assert len(memory.reads) == 1, "it is in its place again"


@pytest.mark.parametrize("code", [1, 4, 6, 11])
async def test_other_refusals_are_the_whole_reading(code):
    found = places()[:5]
    plan, memory = PollPlan(make_plan([found])), device(found)

    def refuse(_):
        raise ModbusRefused(code, endpoint="memory", unit_id=1, address=0)

    memory.before_read = refuse
    with pytest.raises(ModbusRefused):
        await plan.read(memory, 1, Clock())
    assert plan.refused == {}
