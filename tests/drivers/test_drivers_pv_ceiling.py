"""Limiting a PV inverter: what is written in which order, what is believed, and what happens when we are gone."""

from __future__ import annotations

import pytest
from drivers_peers import Clock, Memory, bank, chain, model, peer, register_server

from agent.core.snapshot import Quality
from drivers.device import DeviceSpec, open_device
from drivers.endpoint import TcpEndpoint
from drivers.link import Link
from drivers.sunspec_layout import layout

COMMON = model(1, {"Mn": "Maker", "Md": "M", "SN": "1"})
POWER_701 = model(701, {"W": 250, "W_SF": 2})
POWER_103 = model(103, {"W": 250, "W_SF": 2})
CAPACITY = model(702, {"WMaxRtg": 600, "WMax": 500, "W_SF": 3})
NAMEPLATE = model(120, {"WRtg": 600, "WRtg_SF": 3})
SETTINGS = model(121, {"WMax": 500, "WMax_SF": 3})
NEW = {"WMaxLimPctEna": 0, "WMaxLimPct": 1000, "WMaxLimPct_SF": -1 % 65536, "WMaxLimPctRvrt": 1000,
       "WMaxLimPctEnaRvrt": 1, "WMaxLimPctRvrtTms": 0}  # fmt: skip
OLD = {"WMaxLim_Ena": 0, "WMaxLimPct": 100, "WMaxLimPct_SF": 0, "WMaxLimPct_RvrtTms": 0}
SPEC = DeviceSpec("pv", "pv", 2, reversion_s=30)


class Inverter:
    """A PV driver on registers without a wire."""

    def __init__(self, *models, spec=SPEC):
        self.memory = Memory(bank(chain(COMMON, *models)))
        self.driver = open_device(spec, self.memory, Clock())
        self.at = {}
        address = 40002
        for registers in (COMMON, *models):
            self.at[registers[0]] = address
            address += len(registers)

    def address(self, key):
        model_id, name = key.split(".", 1)
        return self.at[int(model_id)] + layout(int(model_id)).points[name].at

    def __getitem__(self, key):
        return self.memory.registers[self.address(key)]

    def __setitem__(self, key, raw):
        self.memory.registers[self.address(key)] = raw

    @property
    def written(self):
        """The points whose first register each frame began with, and its values."""
        names = {
            self.at[model_id] + point.at: f"{model_id}.{name}"
            for model_id in self.at
            for name, point in layout(model_id).points.items()
        }
        return [(names[address], values) for address, values in self.memory.writes]


def new(**changes):
    return Inverter(POWER_701, CAPACITY, model(704, NEW | changes))


def old(*more, spec=SPEC, **changes):
    return Inverter(POWER_103, *more, model(123, OLD | changes), spec=spec)


async def test_a_der_inverter_is_limited_with_its_reversion_to_full_first_and_the_enable_last():
    inverter = new()
    outcome = await inverter.driver.write_ceiling(120e3)
    assert (outcome.ok, outcome.held_w, outcome.wanted_w, outcome.reason) == (True, 120e3, 120e3, "")
    assert inverter.written == [
        ("704.WMaxLimPctRvrt", (1000, 0, 0, 30)),
        ("704.WMaxLimPct", (240,)),
        ("704.WMaxLimPctEna", (1,)),
    ]


async def test_an_older_inverter_is_limited_by_model_123_with_its_timer():
    inverter = old(NAMEPLATE, SETTINGS)
    outcome = await inverter.driver.write_ceiling(125e3)
    assert (outcome.ok, outcome.held_w) == (True, 125e3)
    assert inverter.written == [("123.WMaxLimPct_RvrtTms", (30,)), ("123.WMaxLimPct", (25,)), ("123.WMaxLim_Ena", (1,))]


async def test_an_inverter_that_told_no_values_for_a_moment_is_limited_again():
    inverter = old(SETTINGS)
    assert (await inverter.driver.write_ceiling(125e3)).ok
    scale = inverter.address("123.WMaxLimPct_SF")
    inverter.memory.before_read = lambda _: inverter.memory.registers.update({scale: 0x8000})
    assert not (await inverter.driver.write_ceiling(125e3)).ok
    assert not (await inverter.driver.write_ceiling(125e3)).ok, "still nothing is known"
    inverter.memory.before_read = lambda _: None
    inverter["123.WMaxLimPct_SF"] = 0
    outcome = await inverter.driver.write_ceiling(125e3)
    assert (outcome.ok, outcome.held_w) == (True, 125e3)


async def test_a_ceiling_is_rounded_down_to_what_the_register_can_hold():
    outcome = await old(SETTINGS).driver.write_ceiling(129.9e3)
    assert (outcome.ok, outcome.held_w) == (True, 125e3)


async def test_the_whole_power_is_the_setting_then_the_nameplate_then_the_site_files_rating():
    """120 kW as a share of 500, 600 and 400 kW."""
    spec = DeviceSpec("pv", "pv", 2, rated_w=400e3)
    for inverter, percent in ((old(NAMEPLATE, SETTINGS), 24), (old(NAMEPLATE), 20), (old(spec=spec), 30)):
        await inverter.driver.write_ceiling(120e3)
        assert inverter["123.WMaxLimPct"] == percent
    assert (await old().driver.read()).has_limit is False


async def test_a_maximum_of_zero_is_no_maximum():
    inverter = old(NAMEPLATE, model(121, {"WMax": 0, "WMax_SF": 3}))
    await inverter.driver.write_ceiling(120e3)
    assert inverter["123.WMaxLimPct"] == 20


async def test_a_ceiling_read_back_over_another_connection_proves_nothing():
    inverter = new()
    await inverter.driver.identify()

    def before_read(_):
        inverter.memory.generation = 2

    inverter.memory.before_read = before_read
    outcome = await inverter.driver.write_ceiling(120e3)
    assert (outcome.ok, outcome.held_w) == (False, None)
    assert "the connection was replaced" in outcome.reason


async def test_more_than_the_whole_power_is_the_whole_power():
    assert (await new().driver.write_ceiling(900e3)).held_w == 500e3


async def test_a_ceiling_is_released_by_full_power_and_disable():
    inverter = new(WMaxLimPctEna=1, WMaxLimPct=240)
    outcome = await inverter.driver.write_ceiling(None)
    assert (outcome.ok, outcome.wanted_w, outcome.held_w) == (True, None, None)
    assert inverter.written == [("704.WMaxLimPct", (1000,)), ("704.WMaxLimPctEna", (0,))]


async def test_the_ceiling_in_force_is_read_with_the_power():
    inverter = new(WMaxLimPctEna=1, WMaxLimPct=240)
    got = await inverter.driver.read()
    assert (got.power_w.value, got.limited.value, got.ceiling_w.value) == (25e3, 1.0, 120e3)
    assert (got.has_limit, got.has_dead_man) == (True, True)
    inverter["704.WMaxLimPctEna"] = 0
    got = await inverter.driver.read()
    assert (got.limited.value, got.ceiling_w.value, got.ceiling_w.quality) == (0.0, None, Quality.MISSING)


async def test_without_a_timer_the_inverter_is_limited_and_the_lack_is_told():
    inverter = old(SETTINGS, WMaxLimPct_RvrtTms=0xFFFF)
    assert (await inverter.driver.write_ceiling(125e3)).ok
    assert inverter.written == [("123.WMaxLimPct", (25,)), ("123.WMaxLim_Ena", (1,))]
    assert (await inverter.driver.read()).has_dead_man is False


async def test_where_704_is_not_implemented_123_is_used():
    inverter = Inverter(POWER_103, SETTINGS, model(704, {}), model(123, OLD))
    assert (await inverter.driver.write_ceiling(125e3)).ok
    assert {key.split(".")[0] for key, _ in inverter.written} == {"123"}


async def test_an_inverter_without_any_limit_says_so_and_is_not_written_to():
    inverter = Inverter(POWER_103, SETTINGS)
    assert inverter.driver.has_limit is None
    assert (await inverter.driver.read()).has_limit is False
    outcome = await inverter.driver.write_ceiling(10e3)
    assert (outcome.ok, outcome.held_w, inverter.memory.writes) == (False, None, [])
    assert "no power limit" in outcome.reason


@pytest.mark.parametrize(
    ("key", "raw", "named"),
    [
        ("704.WMaxLimPctEna", 0, "704.WMaxLimPctEna reads 0 where 1 was written"),
        ("704.WMaxLimPct", 1000, "704.WMaxLimPct reads 100 where 24 was written"),
        ("704.WMaxLimPctEnaRvrt", 1, "704.WMaxLimPctEnaRvrt reads 1 where 0 was written"),
        ("704.WMaxLimPctRvrtTms", 1, "704.WMaxLimPctRvrtTms reads 65566 where 30 was written"),
    ],
)
async def test_what_the_inverter_did_not_take_is_told(key, raw, named):
    """Accepted on the wire, but another value stands there when it is read back."""
    inverter = new()
    await inverter.driver.identify()
    address = inverter.address(key)

    def before_read(_):
        inverter.memory.registers[address] = raw

    inverter.memory.before_read = before_read
    outcome = await inverter.driver.write_ceiling(120e3)
    assert not outcome.ok
    assert named in outcome.reason


async def test_a_release_that_was_not_taken_is_told_with_what_is_held():
    inverter = new(WMaxLimPctEna=1, WMaxLimPct=240)
    await inverter.driver.identify()
    inverter.memory.before_read = lambda _: inverter.__setitem__("704.WMaxLimPctEna", 1)
    outcome = await inverter.driver.write_ceiling(None)
    assert (outcome.ok, outcome.held_w) == (False, 500e3)
    assert "704.WMaxLimPctEna reads 1 where 0 was written" in outcome.reason


async def test_a_refused_write_ends_there_and_says_what_the_device_holds():
    """Over a real socket: the device has the points but takes no write to its enable register."""
    inverter = new()
    registers = inverter.memory.registers
    async with peer(register_server({2: registers})) as port:
        link = Link(TcpEndpoint("127.0.0.1", port), timeout_s=1.0, clock=Clock())
        driver = open_device(SPEC, link, Clock())
        try:
            assert (await driver.write_ceiling(50e3)).ok
            registers.pop(inverter.address("704.WMaxLimPctRvrtTms") + 1)
            outcome = await driver.write_ceiling(60e3)
        finally:
            await link.close()
    assert not outcome.ok
    assert "exception 2" in outcome.reason
    assert registers[inverter.address("704.WMaxLimPct")] == 100
