"""Finding SunSpec models: at any base, tolerant of strange devices, bounded against hostile ones."""

from __future__ import annotations

import pytest
from drivers_peers import END, SUNS, Clock, Memory, bank, chain, model
from hypothesis import given
from hypothesis import strategies as st

from drivers.endpoint import TcpEndpoint
from drivers.errors import DeviceError, LinkTimeout, ModbusRefused, ModelMissing, NotSunSpec
from drivers.link import Link
from drivers.read_plan import make_plan
from drivers.sunspec import MAX_CHAIN_REGISTERS, MAX_MODELS, Model, require, walk

COMMON = model(1, {"Mn": "Maker", "Md": "Model"})


@pytest.mark.parametrize("base", [40000, 0, 50000])
async def test_the_map_is_found_at_each_usual_base(base):
    found = await walk(Memory(bank(chain(COMMON, model(713, {})), base)), 1)
    assert found.base_address == base
    assert found.models == (Model(1, base + 2, 66), Model(713, base + 70, 7))
    assert found.cut_short == ""


async def test_a_base_that_is_given_is_tried_first():
    memory = Memory(bank(chain(COMMON)) | bank(chain(model(713, {})), 500))
    assert (await walk(memory, 1)).base_address == 40000
    memory.reads.clear()
    found = await walk(memory, 1, base_address=500)
    assert found.base_address == 500
    assert memory.reads[0] == (500, 2)


async def test_a_wrong_given_base_does_not_hide_the_usual_ones():
    assert (await walk(Memory(bank(chain(COMMON), 0)), 1, base_address=500)).base_address == 0


async def test_other_registers_at_one_base_do_not_hide_the_next():
    memory = Memory(dict.fromkeys(range(40000, 40100), 0x5375) | bank(chain(COMMON), 50000))
    assert (await walk(memory, 1)).base_address == 50000


async def test_no_map_anywhere_is_said_with_what_was_seen_at_each_base():
    memory = Memory({40000: 1, 40001: 2})
    with pytest.raises(
        NotSunSpec, match=r"40000: 0x0001 0x0002, 0: exception 2, 50000: exception 2.*; check the unit id"
    ):
        await walk(memory, 1)


@pytest.mark.parametrize("code", [5, 6, 10, 11, 0xF0])
async def test_a_device_that_cannot_answer_now_is_not_called_strange(code):
    def refuse(address):
        raise ModbusRefused(code, endpoint="memory", unit_id=1, address=address)

    memory = Memory({})
    memory.before_read = refuse
    with pytest.raises(ModbusRefused):
        await walk(memory, 1)


async def test_a_device_that_becomes_busy_in_mid_chain_is_not_taken_for_a_short_one():
    def busy(address):
        if address == 40070:
            raise ModbusRefused(6, endpoint="memory", unit_id=1, address=address)

    memory = Memory(bank(chain(COMMON, model(713, {}))))
    memory.before_read = busy
    with pytest.raises(ModbusRefused):
        await walk(memory, 1)


async def test_silence_ends_the_search_at_once():
    asked = []

    def silent(address):
        asked.append(address)
        raise LinkTimeout("no answer", endpoint="memory")

    memory = Memory({})
    memory.before_read = silent
    with pytest.raises(LinkTimeout):
        await walk(memory, 1)
    assert asked == [40000]


async def test_unknown_models_are_skipped_by_their_length():
    vendor = [64999, 30, *range(30)]
    found = await walk(Memory(bank(chain(COMMON, vendor, [64998, 0], model(713, {})))), 1)
    assert [m.model_id for m in found.models] == [1, 64999, 64998, 713]
    assert found.first(713).address == 40070 + 32 + 2


async def test_of_repeated_models_the_first_is_used():
    found = await walk(Memory(bank(chain(COMMON, model(713, {}), model(713, {})))), 1)
    assert found.first(713).address == 40070
    assert found.first(703, 713, 1).model_id == 713
    assert found.first(703) is None


@pytest.mark.parametrize(
    ("tail", "why"),
    [
        ([], "refused with exception 2"),
        ([0, 0], "no model id at register 40079"),
        ([701, 65535], "model 701 at register 40079 states 65535 registers"),
        ([701, 20000], "model 701 at register 40079 states 20000 registers"),
    ],
    ids=["no end marker", "zeros", "longer than the address space", "longer than any map"],
)
async def test_a_chain_that_breaks_keeps_what_came_before_and_says_why(tail, why):
    found = await walk(Memory(bank([*SUNS, *COMMON, *model(713, {}), *tail])), 1)
    assert [m.model_id for m in found.models] == [1, 713]
    assert why in found.cut_short


async def test_an_endless_chain_is_cut():
    found = await walk(Memory(bank([*SUNS, *[64999, 0] * 20000], 0)), 1)
    assert len(found.models) == MAX_MODELS
    assert "more than" in found.cut_short


async def test_a_chain_up_to_the_very_end_of_the_address_space_is_cut_there():
    base = 65536 - len(SUNS) - len(COMMON)
    found = await walk(Memory(bank([*SUNS, *COMMON], base)), 1, base_address=base)
    assert [m.model_id for m in found.models] == [1]
    assert "no end marker up to register 65536" in found.cut_short


@given(
    st.lists(st.sampled_from([0, 1, 2, 7, 66, 103, 701, 713, 40000, 0x5375, 65535]), max_size=400),
    st.sampled_from([0, 65000]),
)
async def test_whatever_the_registers_hold_the_walk_ends_within_its_bounds(registers, base):
    memory = Memory(bank([*SUNS, *registers], base))
    memory.registers = {address: value for address, value in memory.registers.items() if address < 65536}
    try:
        found = await walk(memory, 1, base_address=base)
    except DeviceError:
        return
    assert len(memory.reads) <= MAX_MODELS + 4
    for one in found.models:
        assert base + 2 <= one.address
        assert one.address + 2 + one.length <= min(65536, base + MAX_CHAIN_REGISTERS)


async def test_a_model_shorter_than_its_layout_lacks_the_points_beyond_its_end():
    short = model(713, {"WHRtg": 5, "SoC": 50, "WH_SF": 2, "Pct_SF": 0}, length=6)  # ends with WH_SF
    memory = Memory(bank(chain(COMMON, short, model(715, {"LocRemCtl": 0}))))
    found = await walk(memory, 1)
    assert found.first(715) is not None
    reads = await make_plan([found.places(found.first(713), ["WHRtg", "SoC"])]).read(memory, 1, Clock())
    assert reads["713.WHRtg"].value == 500.0
    assert reads["713.SoC"].value is None  # its scale factor is not there
    assert "713.Pct_SF" not in reads


async def test_a_model_longer_than_its_layout_is_read_as_far_as_it_is_known():
    long = model(713, {"SoC": 50, "Pct_SF": 0}, length=20)
    memory = Memory(bank(chain(COMMON, long, model(715, {"LocRemCtl": 1}))))
    found = await walk(memory, 1)
    reads = await make_plan(
        [found.places(found.first(713), ["SoC"]), found.places(found.first(715), ["LocRemCtl"])]
    ).read(memory, 1, Clock())
    assert (reads["713.SoC"].value, reads["715.LocRemCtl"].value) == (50.0, 1)


async def test_what_a_role_needs_and_lacks_is_named():
    memory = Memory(bank(chain(COMMON, model(701, {}, length=5))))
    found = await walk(memory, 1)
    with pytest.raises(
        ModelMissing, match=r"memory unit 1: SunSpec model 713 \(DERStorageCapacity\) is missing; found: 1, 701"
    ):
        require(found, (713,), ("SoC",), memory, 1)
    with pytest.raises(ModelMissing, match=r"register 40070: SunSpec model 701 has only 5 registers, without W; "):
        require(found, (701,), ("St", "W"), memory, 1)
    assert require(found, (713, 701), ("St",), memory, 1).model_id == 701


def test_the_end_marker_of_the_tests_is_the_published_one():
    assert END == (0xFFFF, 0)
    assert "".join(map(chr, b"".join(word.to_bytes(2, "big") for word in SUNS))) == "SunS"


def test_a_link_can_stand_where_registers_are_asked_for():
    from drivers.registers import Registers

    link: Registers = Link(TcpEndpoint("127.0.0.1", 1), clock=Clock())
    assert link.generation == 0
