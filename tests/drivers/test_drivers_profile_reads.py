"""How the points of a profile are read from a raw server: as few requests as the device allows, bisected on refusal."""

from __future__ import annotations

import time

import pytest
from drivers_profiles import a_profile
from drivers_registers import RawBank

from drivers.bisect import ASK_AGAIN_S
from drivers.endpoint import TcpEndpoint
from drivers.errors import DeviceError, ModbusRefused
from drivers.link import Link
from drivers.profile.reads import ProfileReads, Spots, read_points
from simulators.modbus_server import ModbusServer

HEAD = """
[identity]
check = [{ point = "a", is_not = 99 }]
[meter]
power_w = "p"
[unit_ids]
other = 7
[points]
p = { address = 900, type = "i16", unit = "W", positive = "import" }
"""
ABCD = """
a = { address = 10, type = "u16" }
b = { address = 12, type = "u16" }
c = { address = 20, type = "u32" }
d = { address = 40, type = "u16" }
"""


class Reading:
    """A plan on a raw server, with the requests that it made."""

    def __init__(self, profile, names, server, link, bank):
        self.bank = bank
        self.spots = Spots(profile, 1, {})
        self.plan = ProfileReads(self.spots, names)
        self.server, self.link = server, link

    async def read(self):
        self.server.asked.clear()
        reads = await self.plan.read(self.link, 1, time.monotonic)
        return {name: read.value for name, read in reads.items()}

    @property
    def asked(self):
        """(unit id, function, first register, count) of each request of the last read."""
        return [
            (unit, pdu[0], int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big"))
            for unit, pdu in self.server.asked
        ]


@pytest.fixture
async def reading(tmp_path):
    opened = []

    async def make(text, names, registers, *, head="", inputs=None, others=None):
        banks = {1: RawBank(dict(registers))} | ({7: others} if others is not None else {})
        server = ModbusServer(banks, inputs={1: RawBank(dict(inputs))} if inputs is not None else None)
        await server.start()
        link = Link(TcpEndpoint("127.0.0.1", server.port), timeout_s=5.0, clock=time.monotonic)
        opened.append((link, server))
        return Reading(a_profile(tmp_path, head + HEAD + text), names, server, link, banks[1])

    yield make
    for link, server in opened:
        await link.close()
        await server.stop()


ALL = {at: at for at in range(60)}


async def test_points_close_together_share_a_request(reading):
    it = await reading(ABCD, "abcd", ALL)
    assert await it.read() == {"a": 10, "b": 12, "c": 20 * 65536 + 21, "d": 40}
    assert it.asked == [(1, 3, 10, 12), (1, 3, 40, 1)]  # 18 registers lie between c and d, 16 may


@pytest.mark.parametrize(
    ("reads", "asked"),
    [
        ("max_gap = 0", [(10, 1), (12, 1), (20, 2), (40, 1)]),
        ("max_gap = 1", [(10, 3), (20, 2), (40, 1)]),
        ("max_gap = 18", [(10, 31)]),
        ("max_gap = 18\nmax_registers = 12", [(10, 12), (40, 1)]),
        ("max_gap = 18\nmax_registers = 11", [(10, 3), (20, 2), (40, 1)]),
        ("max_gap = 18\neven_counts = true", [(10, 32)]),
        ("max_gap = 18\neven_counts = true\nmax_registers = 13", [(10, 12), (40, 2)]),
        ("blocks = [[10, 12], [20, 41]]\nmax_gap = 18", [(10, 3), (20, 21)]),
    ],
)
async def test_the_device_says_how_it_wants_to_be_read(reading, reads, asked):
    it = await reading(ABCD, "abcd", ALL, head=f"[reads]\n{reads}\n" if "blocks" not in reads else "")
    if "blocks" in reads:
        text = ABCD.replace("[points]", "")
        it = await reading(text, "abcd", ALL, head=f"[reads]\n{reads.replace('[20, 41]]', '[20, 41], [900, 900]]')}\n")
    await it.read()
    assert [(start, count) for _, _, start, count in it.asked] == asked


async def test_input_and_holding_registers_are_different_tables(reading):
    text = 'a = { address = 10, type = "u16", function = 4 }\nb = { address = 10, type = "u16" }\n'
    it = await reading(text, "ab", {10: 3}, inputs={10: 4})
    assert await it.read() == {"a": 4, "b": 3}
    assert [function for _, function, _, _ in it.asked] == [3, 4]


async def test_documents_that_count_from_one_are_off_by_one(reading):
    it = await reading(ABCD, "ab", ALL, head="[defaults]\naddress_offset = -1\n")
    assert await it.read() == {"a": 9, "b": 11}


async def test_a_scale_factor_is_read_along(reading):
    text = 'a = { address = 10, type = "u16", scale_from = "f" }\nf = { address = 15, type = "i16" }\n'
    it = await reading(text, "a", {**ALL, 15: 0xFFFF})
    assert (await it.read())["a"] == 1.0


async def test_a_refused_register_is_left_out_and_the_rest_goes_on(reading):
    it = await reading(ABCD, "abcd", {at: at for at in range(60) if at != 12}, head="[reads]\nmax_gap = 18\n")
    assert await it.read() == {"a": 10, "c": 20 * 65536 + 21, "d": 40}
    assert list(it.plan.refused) == ["b"]
    assert "exception 2" in str(it.plan.refused["b"])
    assert await it.read() == {"a": 10, "c": 20 * 65536 + 21, "d": 40}
    assert [(start, count) for _, _, start, count in it.asked] == [(10, 1), (20, 21)]  # nothing is asked in vain again


async def test_a_refused_register_is_asked_for_again_after_a_while(reading):
    it = await reading(ABCD, "ab", {10: 10})
    now = [100.0]
    await it.plan.read(it.link, 1, lambda: now[0])
    assert list(it.plan.refused) == ["b"]
    it.bank.registers[12] = 12
    now[0] += ASK_AGAIN_S - 1
    assert set(await it.plan.read(it.link, 1, lambda: now[0])) == {"a"}
    now[0] += 1
    assert {name: read.value for name, read in (await it.plan.read(it.link, 1, lambda: now[0])).items()} == {
        "a": 10,
        "b": 12,
    }
    assert it.plan.refused == {}


async def test_a_device_that_refuses_everything_it_is_polled_for_has_failed(reading):
    it = await reading(ABCD, "abcd", {})
    it.plan = ProfileReads(it.spots, "abcd", must_answer=True)
    with pytest.raises(ModbusRefused):
        await it.read()
    it.bank.registers.update(ALL)
    assert (await it.read())["a"] == 10
    assert it.asked == [(1, 3, 10, 12), (1, 3, 40, 1)], "as at the beginning"
    it.bank.registers.clear()
    it.bank.registers[40] = 4
    assert await it.read() == {"d": 4}
    it.bank.registers.clear()
    with pytest.raises(ModbusRefused):
        await it.read()
    it.bank.registers.update(ALL)
    assert len(await it.read()) == 4


async def test_a_busy_device_is_not_taken_for_a_missing_register(reading):
    it = await reading(ABCD, "ab", ALL)
    it.server.faults[1].exception = 6
    with pytest.raises(ModbusRefused):
        await it.read()
    it.server.faults[1].exception = None
    assert await it.read() == {"a": 10, "b": 12}
    assert it.plan.refused == {}


OTHER = 'a = { address = 10, type = "u16" }\nb = { address = 11, type = "u16", unit_id = "other" }\n'


async def test_points_behind_another_unit_id_are_asked_there(reading):
    it = await reading(OTHER, "ab", ALL, others=RawBank({11: 77}))
    assert await it.read() == {"a": 10, "b": 77}
    assert [unit for unit, *_ in it.asked] == [1, 7]


async def test_the_site_may_place_another_unit_id_elsewhere(reading):
    it = await reading(OTHER, "ab", ALL, others=RawBank({11: 77}))
    assert Spots(it.spots.profile, 1, {"other": 9})["b"].unit_id == 9


async def test_a_part_that_is_away_does_not_take_the_rest_with_it(reading):
    away = RawBank({11: 77})
    it = await reading(OTHER, "ab", ALL, others=away)
    it.server.faults[7].exception = 11
    assert await it.read() == {"a": 10}
    it.server.faults[7].exception = None
    assert await it.read() == {"a": 10, "b": 77}
    it.server.faults[1].exception = 11
    with pytest.raises(ModbusRefused):
        await it.read()


async def test_a_point_that_is_asked_for_by_itself_and_refused_is_an_error(reading):
    it = await reading(ABCD, "a", {10: 1})
    assert (await read_points(it.spots, ["a"], it.link, time.monotonic))["a"].value == 1
    with pytest.raises(DeviceError, match="d cannot be read"):
        await read_points(it.spots, ["a", "d"], it.link, time.monotonic)


async def test_each_value_carries_the_time_its_own_request_was_sent(reading):
    it = await reading(ABCD, "ad", ALL)
    times = iter([5.0, 6.0, 7.0])
    reads = await it.plan.read(it.link, 1, lambda: next(times))
    assert (reads["a"].read_mono_s, reads["d"].read_mono_s) == (5.0, 6.0)
