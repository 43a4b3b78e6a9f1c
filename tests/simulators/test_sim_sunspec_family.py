"""Each kind of SunSpec device over real Modbus TCP: our drivers read it right and move its plant the right way."""

import asyncio
import time

import pytest
from sim_opened import driven, opened, until
from sunspec2.modbus.client import SunSpecModbusClientDeviceTCP

from simulators.battery import BatteryConfig
from simulators.plant import DayConfig
from simulators.site import SimulatedSite
from simulators.site_config import MeterConfig, ModbusConfig, SiteConfig


def a_site(kind="storage", pv_model=103, meter_model=203):
    half_past_noon_s = 12.5 * 3600.0  # and the sun nearly stands still
    return SimulatedSite(
        SiteConfig(
            battery=BatteryConfig(capacity_wh=20_000.0, initial_soc_pct=40.0),
            day=DayConfig(day_offset_s=half_past_noon_s, day_epoch_utc_s=time.time(), solar_time_factor=1e-3),
            modbus=ModbusConfig(battery_kind=kind, pv_model=pv_model),
            meter=MeterConfig(model=meter_model, positive="import"),
            seed=3,
        )
    )


@pytest.mark.parametrize("kind", ["der", "der-hybrid", "storage", "storage-hybrid"])
@pytest.mark.parametrize("power_w", [120_000.0, -80_000.0])
async def test_a_setpoint_moves_the_plant_the_right_way_and_is_read_back(kind, power_w):
    async with a_site(kind) as site, opened(site.battery_port, "battery", 1) as battery:
        await driven(battery, power_w, within_w=200.0)
        assert site.plant.battery_w == pytest.approx(power_w, abs=500.0)


@pytest.mark.parametrize("kind", ["storage", "storage-hybrid"])
async def test_every_reading_of_the_older_models_agrees_with_the_plant(kind):
    async with a_site(kind) as site, opened(site.battery_port, "battery", 1) as battery:
        sample = await battery.read()
        assert sample.soc_pct.value == pytest.approx(site.plant.soc_pct, abs=0.02)
        assert sample.capacity_wh.value == 20_000.0
        assert (sample.rated_discharge_w.value, sample.rated_charge_w.value) == (500_000.0, 500_000.0)
        assert sample.live_discharge_limit_w.value == pytest.approx(site.plant.battery.discharge_limit_w, rel=0.03)
        assert sample.temperature_c.value == pytest.approx(site.plant.battery.temperature_c, abs=0.1)
        assert sample.ready.value == 1.0
        site.set_ready(False)
        assert (await battery.read()).ready.value == 0.0


@pytest.mark.parametrize("kind", ["der", "storage"])
async def test_the_dead_man_ends_a_setpoint_that_is_not_refreshed(kind):
    async with a_site(kind) as site, opened(site.battery_port, "battery", 1, reversion_s=1) as battery:
        assert (await battery.write_setpoint(50_000.0)).ok
        assert battery.has_dead_man is True

        async def at_rest():
            return (await battery.read()).power_w.value == 0.0 and site.battery.control.reversions == 1

        await until(at_rest)


@pytest.mark.parametrize("kind", ["der-hybrid", "storage-hybrid"])
async def test_on_a_hybrid_pv_and_battery_are_told_apart(kind):
    async with a_site(kind) as site:
        async with opened(site.battery_port, "battery", 1) as battery:
            await battery.write_setpoint(-60_000.0)

            async def charging():
                return (await battery.read()).power_w.value == pytest.approx(-60_000.0, abs=200.0)

            await until(charging)
        async with opened(site.battery_port, "pv", 1) as pv:
            assert site.plant.pv_w > 1_000.0
            assert (await pv.read()).power_w.value == pytest.approx(site.plant.pv_w, rel=0.03)


@pytest.mark.parametrize("model_id", [101, 102, 103, 111, 112, 113])
async def test_pv_is_read_by_each_inverter_model(model_id):
    async with a_site(pv_model=model_id) as site, opened(site.gateway_port, "pv", 2) as pv:
        assert site.plant.pv_w > 1_000.0
        assert (await pv.read()).power_w.value == pytest.approx(site.plant.pv_w, rel=0.02)


@pytest.mark.parametrize("model_id", [201, 202, 203, 204, 211, 212, 213, 214])
async def test_the_meter_is_read_by_each_meter_model(model_id):
    async with (
        a_site(meter_model=model_id) as site,
        opened(site.gateway_port, "meter", 3, positive="import") as meter,
    ):
        sample = await meter.read()
        assert sample.power_w.value == pytest.approx(site.plant.grid_w, rel=0.05)
        assert sample.frequency_hz.value == pytest.approx(site.plant.frequency_hz, abs=0.01)
        assert sample.export_wh.value == pytest.approx(site.plant.export_wh, abs=5.0)
        assert sample.import_wh.value == pytest.approx(site.plant.import_wh, abs=5.0)


@pytest.mark.parametrize(
    ("kind", "pv_model", "meter_model", "models"),
    [
        ("storage", 101, 213, [1, 103, 120, 121, 122, 123, 124, 802, 803]),
        ("der-hybrid", 103, 203, [1, 701, 702, 704, 713, 715, 802, 714, 803]),
        ("storage-hybrid", 112, 204, [1, 103, 120, 121, 122, 123, 160, 124, 802, 803]),
    ],
)
async def test_a_third_party_client_finds_the_same_models_and_groups(kind, pv_model, meter_model, models):
    async with a_site(kind, pv_model, meter_model) as site:

        def scan(port, unit):
            device = SunSpecModbusClientDeviceTCP(slave_id=unit, ipaddr="127.0.0.1", ipport=port, timeout=2)
            device.scan()
            assert [model.error_info for model in device.model_list] == [""] * len(device.model_list)
            return device

        battery = await asyncio.to_thread(scan, site.battery_port, 1)
        assert [model.model_id for model in battery.model_list] == models
        assert battery.models[803][0].ModTmpMax.cvalue == pytest.approx(25.0, abs=0.2)
        if kind == "storage-hybrid":
            modules = battery.models[160][0].module
            assert [module.IDStr.cvalue for module in modules] == ["MPPT 1", "MPPT 2", "StCha 3", "StDisCha 4"]
            assert modules[0].DCW.cvalue == pytest.approx(site.plant.pv_w / 2, rel=0.03)
        if kind == "der-hybrid":
            ports = battery.models[714][0].Prt
            assert [(port.PrtTyp.cvalue, port.IDStr.cvalue) for port in ports] == [(0, "PV"), (1, "Battery")]
            assert ports[0].DCW.cvalue == pytest.approx(site.plant.pv_w, rel=0.03)
        pv = await asyncio.to_thread(scan, site.gateway_port, 2)
        assert pv.models[pv_model][0].W.cvalue == pytest.approx(site.plant.pv_w, rel=0.02)
        meter = await asyncio.to_thread(scan, site.gateway_port, 3)
        assert meter.models[meter_model][0].W.cvalue == pytest.approx(-site.plant.grid_w, rel=0.05)
