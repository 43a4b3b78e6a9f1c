"""A hybrid inverter's DC ports tell battery and PV apart, where its AC side shows only their sum."""

from __future__ import annotations

import struct

import pytest
from drivers_peers import Clock, Memory, bank, chain, model, raw_registers

from agent.core.snapshot import Quality
from drivers.device import DeviceSpec, open_device
from drivers.sunspec_layout import layout

COMMON = model(1, {"Mn": "Maker", "Md": "H", "SN": "1"})


def grouped(model_id, fixed, *groups):
    """One model with repeated groups, from raw values; what is not stated is "not implemented"."""
    known = layout(model_id)
    registers = model(model_id, fixed)
    for raws in groups:
        for point in known.group.points.values():
            bits = 16 * point.size
            none = "" if point.type == "string" else 1 << (bits - 1) if point.type == "int16" else (1 << bits) - 1
            registers += raw_registers(point, raws.get(point.name, none))
    registers[1] = len(registers) - 2
    return registers


def module(number, label, power):
    return {"ID": number, "IDStr": label, "DCW": power}


def port(kind, power):
    return {"PrtTyp": kind, "DCW": power}


GEN24 = grouped(
    160, {"DCW_SF": 1, "N": 4},
    module(1, "MPPT 1", 200), module(2, "MPPT 2", 100), module(3, "StCha 3", 0), module(4, "StDisCha 4", 70),
)  # fmt: skip
M103 = model(103, {"W": 3500, "W_SF": 0, "St": 4})
M124 = model(124, {"WChaMax": 5000, "WChaMax_SF": 0, "StorCtl_Mod": 0, "ChaSt": 3, "InOutWRte_SF": -2,
                   "OutWRte": 0, "InWRte": 0})  # fmt: skip
M70X = (
    model(701, {"W": 3500, "W_SF": 0, "St": 1}),
    model(702, {"WMaxRtg": 5000, "W_SF": 0}),
    model(
        704, {"WSetEna": 0, "WSetMod": 1, "WSet": 0, "WSetRvrt": 0, "WSetEnaRvrt": 0, "WSetRvrtTms": 0, "WSet_SF": 0}
    ),
    model(713, {"SoC": 50, "Pct_SF": 0}),
)
DER_PORTS = grouped(714, {"DCW_SF": 1, "NPrt": 3}, port(0, 200), port(1, -50), port(5, 999))


def opened(role, *models):
    memory = Memory(bank(chain(COMMON, *models)))
    return open_device(DeviceSpec("hybrid", role, 1), memory, Clock()), memory


async def test_the_older_hybrid_shows_its_battery_as_two_labelled_modules():
    battery, _ = opened("battery", M103, M124, GEN24)
    assert (await battery.read()).power_w.value == 700.0
    pv, _ = opened("pv", M103, M124, GEN24)
    assert (await pv.read()).power_w.value == 3000.0


async def test_charging_is_negative():
    charging = grouped(
        160, {"DCW_SF": 0, "N": 3}, module(1, "MPPT", 9), module(3, "StCha", 40), module(4, "StDisCha", 0)
    )
    battery, _ = opened("battery", M103, M124, charging)
    assert (await battery.read()).power_w.value == -40.0


async def test_a_module_without_a_value_makes_the_sum_missing_not_smaller():
    asleep = grouped(160, {"DCW_SF": 0}, module(1, "M1", 0xFFFF), module(2, "M2", 5), module(3, "StCha", 0))
    pv, _ = opened("pv", M103, asleep)
    assert (await pv.read()).power_w.quality is Quality.MISSING


@pytest.mark.parametrize(("state", "power_w"), [(1, 5.0), (2, 5.0), (8, 5.0), (4, None), (7, None), (0xFFFF, None)])
async def test_a_module_that_says_that_it_is_off_gives_nothing(state, power_w):
    asleep = grouped(
        160, {"DCW_SF": 0}, module(1, "M1", 0xFFFF) | {"DCSt": state}, module(2, "M2", 5), module(3, "StCha", 0)
    )
    pv, _ = opened("pv", M103, asleep)
    assert (await pv.read()).power_w.value == power_w


@pytest.mark.parametrize(("state", "ok"), [(0, True), (1, False), (3, False)])
async def test_at_night_the_newer_hybrid_is_controlled_too(state, ok):
    dark = grouped(714, {"DCW_SF": 0, "NPrt": 2}, port(0, 0x8000) | {"DCSta": state}, port(1, 0))
    battery, memory = opened("battery", *M70X, dark)
    assert (await battery.write_setpoint(1000.0)).ok is ok
    assert bool(memory.writes) is ok


async def test_a_port_that_is_off_and_still_shows_a_power_is_believed():
    odd = grouped(714, {"DCW_SF": 0, "NPrt": 2}, port(0, 30) | {"DCSta": 0}, port(1, 0))
    pv, _ = opened("pv", *M70X, odd)
    assert (await pv.read()).power_w.value == 30.0


async def test_a_module_that_is_not_fitted_is_not_counted():
    fitted = grouped(160, {"DCW_SF": 0}, module(1, "M1", 8), {}, module(3, "StCha", 0))
    pv, _ = opened("pv", M103, fitted)
    assert (await pv.read()).power_w.value == 8.0


async def test_without_a_battery_port_the_ac_power_is_that_of_the_pv():
    strings = grouped(160, {"DCW_SF": 0}, module(1, "M1", 8), module(2, "M2", 9))
    pv, _ = opened("pv", M103, strings)
    assert (await pv.read()).power_w.value == 3500.0


async def test_a_long_row_of_strings_is_read_in_several_requests_with_the_one_scale_factor():
    many = grouped(160, {"DCW_SF": 2}, *(module(n, f"M{n}", n) for n in range(1, 13)), module(13, "StCha", 0))
    pv, memory = opened("pv", M103, many)
    assert (await pv.read()).power_w.value == 7800.0
    memory.reads.clear()
    await pv.read()
    assert len(memory.reads) > 1
    assert all(count <= 125 for _, count in memory.reads)


async def test_the_newer_hybrid_states_the_type_of_each_port():
    battery, _ = opened("battery", *M70X, DER_PORTS)
    assert (await battery.read()).power_w.value == -500.0
    pv, _ = opened("pv", *M70X, DER_PORTS)
    assert (await pv.read()).power_w.value == 2000.0


async def test_a_battery_setpoint_of_the_newer_hybrid_is_written_on_top_of_its_pv():
    battery, memory = opened("battery", *M70X, DER_PORTS)
    outcome = await battery.write_setpoint(-1500.0)
    assert (outcome.ok, outcome.held_w) == (True, -1500.0)
    (written,) = [values for _, values in memory.writes if len(values) == 3 and values[0] == 1 and values[2] == 500]
    assert struct.pack(">3H", *written) == struct.pack(">Hi", 1, 500)
    assert (await battery.read()).held_setpoint_w.value == -1500.0


async def test_without_the_pv_power_the_newer_hybrid_is_not_written_to():
    dark = grouped(714, {"DCW_SF": 0, "NPrt": 2}, port(0, 0x8000), port(1, 0))
    battery, memory = opened("battery", *M70X, dark)
    outcome = await battery.write_setpoint(1000.0)
    assert not outcome.ok
    assert "its power cannot be read (model 714)" in outcome.reason
    assert memory.writes == []


@pytest.mark.parametrize("scale", [11, 0x8000])
async def test_ports_without_a_scale_factor_have_no_value(scale):
    battery, _ = opened("battery", *M70X, grouped(714, {"DCW_SF": scale, "NPrt": 1}, port(1, 7)))
    assert (await battery.read()).power_w.quality is Quality.MISSING


LIMIT = model(
    123, {"Conn": 1, "WMaxLimPct": 10000, "WMaxLimPct_RvrtTms": 0, "WMaxLim_Ena": 0, "WMaxLimPct_SF": -2 % 65536}
)
NAMEPLATE = model(120, {"WRtg": 5000, "WRtg_SF": 0})


@pytest.mark.parametrize(("battery_w", "percent"), [(700, 44.0), (-700, 16.0)])
async def test_the_limit_of_a_hybrid_is_that_of_the_whole_inverter(battery_w, percent):
    """5 kW: to leave 1500 W to PV the inverter may give what the battery gives on top, or less by what it takes."""
    charge, discharge = (0, battery_w // 10) if battery_w > 0 else (-battery_w // 10, 0)
    ports = grouped(
        160, {"DCW_SF": 1, "N": 3}, module(1, "MPPT 1", 300), module(3, "StCha 3", charge), module(4, "StDisCha 4", discharge),
    )  # fmt: skip
    pv, memory = opened("pv", M103, NAMEPLATE, LIMIT, ports)
    outcome = await pv.write_ceiling(1500.0)
    assert (outcome.ok, outcome.reason, outcome.held_w) == (True, "", 1500.0)
    assert (percent * 100,) in [values for _, values in memory.writes]
    sample = await pv.read()
    assert (sample.limited.value, sample.ceiling_w.value) == (1.0, 1500.0)


async def test_without_the_battery_power_a_hybrid_is_not_limited():
    ports = grouped(160, {"DCW_SF": 1, "N": 2}, module(1, "MPPT 1", 300), module(4, "StDisCha 4", 0xFFFF))
    pv, memory = opened("pv", M103, NAMEPLATE, LIMIT, ports)
    outcome = await pv.write_ceiling(1500.0)
    assert not outcome.ok
    assert "the battery's power has no value" in outcome.reason
    assert memory.writes == []
