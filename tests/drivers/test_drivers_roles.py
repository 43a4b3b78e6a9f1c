"""PV inverters and meters by their SunSpec models, and what a site file may state about devices."""

from __future__ import annotations

import struct

import pytest
from drivers_peers import Clock, Memory, bank, chain, model

from agent.core.snapshot import Quality
from drivers.battery import SunSpecBattery
from drivers.device import BadSpec, DeviceSpec, open_device
from drivers.errors import ModelMissing
from drivers.meter import SunSpecMeter
from drivers.pv import SunSpecPv

COMMON = model(1, {"Mn": "Maker", "Md": "M", "SN": "1"})
METER = {"W": -1500 % 65536, "W_SF": 1, "Hz": 5001, "Hz_SF": -2, "TotWhExp": 70_000, "TotWhImp": 123, "TotWh_SF": 1}


def float_bits(value):
    return int.from_bytes(struct.pack(">f", value), "big")


def a_device(spec, *models):
    memory = Memory(bank(chain(COMMON, *models)))
    return open_device(spec, memory, Clock()), memory


@pytest.mark.parametrize(
    ("model_id", "raw", "power_w"), [(103, 250, 2500.0), (101, -3 % 65536, -30.0), (701, 250, 2500.0)]
)
async def test_pv_power_is_read_from_each_inverter_model(model_id, raw, power_w):
    pv, _ = a_device(DeviceSpec("pv", "pv", 2), model(model_id, {"W": raw, "W_SF": 1}))
    got = await pv.read()
    assert (got.device_id, got.power_w.value, got.power_w.read_mono_s) == ("pv", power_w, 1000.0)


@pytest.mark.parametrize("model_id", [101, 102, 103])
async def test_every_inverter_of_whole_numbers_is_read_with_its_scale_factor(model_id):
    pv, _ = a_device(DeviceSpec("pv", "pv", 2), model(model_id, {"W": 250, "W_SF": 1}))
    assert (await pv.read()).power_w.value == 2500.0


@pytest.mark.parametrize("model_id", [111, 112, 113])
async def test_every_inverter_of_floats_is_read(model_id):
    pv, _ = a_device(DeviceSpec("pv", "pv", 2), model(model_id, {"W": float_bits(-1234.5)}))
    assert (await pv.read()).power_w.value == -1234.5


async def test_of_two_inverter_models_the_newer_is_believed():
    pv, _ = a_device(DeviceSpec("pv", "pv", 2), model(103, {"W": 1, "W_SF": 0}), model(701, {"W": 2, "W_SF": 0}))
    assert (await pv.read()).power_w.value == 2.0


async def test_pv_that_sleeps_behind_sentinels_is_missing_not_zero():
    pv, _ = a_device(DeviceSpec("pv", "pv", 2), model(103, {}))
    power = (await pv.read()).power_w
    assert (power.value, power.quality, power.read_mono_s) == (None, Quality.MISSING, 1000.0)


async def test_a_device_that_is_no_inverter_is_named():
    pv, _ = a_device(DeviceSpec("pv", "pv", 2), model(203, {}))
    with pytest.raises(ModelMissing, match=r"701 \(DERMeasureAC\) or 103 .* or 101 .* is missing; found: 1, 203"):
        await pv.read()


@pytest.mark.parametrize(("positive", "power_w"), [("export", -15_000.0), ("import", 15_000.0)])
async def test_a_meter_is_turned_toward_the_grid_as_the_site_file_states(positive, power_w):
    meter, memory = a_device(DeviceSpec("meter", "meter", 3, positive=positive), model(203, METER))
    got = await meter.read()
    assert got.power_w.value == power_w
    assert got.frequency_hz.value == 50.01
    assert got.export_wh.value == 700_000.0  # by name, whatever the sign
    assert got.import_wh.value == 1230.0
    memory.reads.clear()
    await meter.read()
    assert len(memory.reads) == 1


@pytest.mark.parametrize("model_id", [201, 202, 203, 204])
async def test_every_meter_of_whole_numbers_is_read(model_id):
    meter, _ = a_device(DeviceSpec("meter", "meter", 3, positive="import"), model(model_id, METER))
    got = await meter.read()
    assert (got.power_w.value, got.frequency_hz.value) == (15_000.0, 50.01)
    assert (got.export_wh.value, got.import_wh.value) == (700_000.0, 1230.0)


@pytest.mark.parametrize("model_id", [211, 212, 213, 214])
async def test_every_meter_of_floats_is_read(model_id):
    raws = {name: float_bits(value) for name, value in
            {"W": -15_000.5, "Hz": 50.0078125, "TotWhExp": 700_000.0, "TotWhImp": 0.0}.items()}  # fmt: skip
    meter, _ = a_device(DeviceSpec("meter", "meter", 3, positive="import"), model(model_id, raws))
    got = await meter.read()
    assert (got.power_w.value, got.frequency_hz.value) == (15_000.5, 50.0078125)
    assert (got.export_wh.value, got.import_wh.value) == (700_000.0, 0.0), "a float counter at 0 is a counter at 0"


async def test_of_two_meter_models_the_one_with_exact_counters_is_believed():
    meter, _ = a_device(
        DeviceSpec("m", "meter", 3, positive="export"), model(213, {"W": float_bits(1.0)}), model(203, METER)
    )
    assert (await meter.read()).export_wh.value == 700_000.0


@pytest.mark.parametrize("raw", [0, 4000, 7000])
async def test_a_frequency_that_no_grid_has_is_no_number(raw):
    meter, _ = a_device(DeviceSpec("m", "meter", 3, positive="export"), model(203, METER | {"Hz": raw}))
    assert (await meter.read()).frequency_hz.quality is Quality.IMPLAUSIBLE


async def test_an_energy_counter_at_zero_is_missing_because_it_may_not_exist():
    meter, _ = a_device(DeviceSpec("m", "meter", 3, positive="export"), model(203, METER | {"TotWhExp": 0}))
    got = await meter.read()
    assert (got.export_wh.value, got.export_wh.quality) == (None, Quality.MISSING)
    assert got.import_wh.value == 1230.0


async def test_a_meter_identifies_itself():
    meter, _ = a_device(DeviceSpec("m", "meter", 3, positive="import"), model(203, METER))
    assert (await meter.identify()).models == (1, 203)


def test_each_role_has_its_class():
    memory = Memory({})
    assert isinstance(open_device(DeviceSpec("b", "battery", 1), memory, Clock()), SunSpecBattery)
    assert isinstance(open_device(DeviceSpec("p", "pv", 1), memory, Clock()), SunSpecPv)
    assert isinstance(open_device(DeviceSpec("m", "meter", 1, positive="export"), memory, Clock()), SunSpecMeter)
    assert memory.reads == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"role": "meter"}, "positive must be"),
        ({"role": "meter", "positive": "up"}, "positive must be"),
        ({"positive": "export"}, "positive is for meters"),
        ({"role": "load"}, "role 'load' is not one of battery, pv, meter"),
        ({"unit_id": -1}, "unit_id -1"),
        ({"unit_id": 256}, "unit_id 256"),
        ({"base_address": -1}, "base_address -1"),
        ({"base_address": 65_001}, "base_address 65001"),
        ({"reversion_s": 0}, "reversion_s 0"),
        ({"reversion_s": 61}, "reversion_s 61"),
    ],
)
def test_a_site_file_that_states_the_impossible_is_refused_with_device_and_key(changes, named):
    with pytest.raises(BadSpec, match=f"^bess: {named}"):
        DeviceSpec(**{"device_id": "bess", "role": "battery", "unit_id": 1} | changes)
