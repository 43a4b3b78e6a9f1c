"""What our drivers write, read back by a third-party client (pysunspec2): model, point, scale factor and sign agree.

And the other way round: what that client writes is what our drivers say that the device holds.
"""

import asyncio

import pytest
from sim_opened import opened
from sunspec2.modbus.client import SunSpecModbusClientDeviceTCP

from drivers.profile.load import find
from simulators.site import SimulatedSite
from simulators.site_config import ModbusConfig, SiteConfig

ENABLED, WATTS, BOTH = 1, 1, 3


def a_site(kind="der", pv_limit="123"):
    return SimulatedSite(SiteConfig(modbus=ModbusConfig(battery_kind=kind, pv_limit=pv_limit), seed=3))


def by_profile(port, role, unit, profile):
    """The device behind a port by its named profile."""
    return opened(port, role, unit, reversion_s=45, profile=find(profile, None))


def the_other_client(port, unit, **changes):
    """Every point of every model as pysunspec2 decodes it, after writing `changes` (`m704_WSet=...`)."""

    def work():
        device = SunSpecModbusClientDeviceTCP(slave_id=unit, ipaddr="127.0.0.1", ipport=port, timeout=5)
        device.scan()
        device.connect()
        try:
            for key, value in changes.items():
                model, point = key[1:].split("_", 1)
                getattr(device.models[int(model)][0], point).cvalue = value
            for model in {int(key[1:].split("_", 1)[0]) for key in changes}:
                device.models[model][0].write()
            for model in device.model_list:
                model.read()
            return {
                f"{model.model_id}.{name}": point.cvalue
                for model in device.model_list
                for name, point in model.points.items()
            }
        finally:
            device.disconnect()

    return asyncio.to_thread(work)


@pytest.mark.parametrize("power_w", [123_400.0, -50_000.0, 0.0])
async def test_a_setpoint_by_704_with_its_reversion_and_both_heartbeats(power_w):
    async with a_site() as site, by_profile(site.battery_port, "battery", 1, "sunspec-battery") as battery:
        for _ in range(2):
            assert (await battery.write_setpoint(power_w)).ok
        seen = await the_other_client(site.battery_port, 1)
    assert (seen["704.WSetEna"], seen["704.WSetMod"], seen["704.WSet"]) == (ENABLED, WATTS, power_w)
    assert (seen["704.WSetRvrt"], seen["704.WSetEnaRvrt"], seen["704.WSetRvrtTms"]) == (0.0, ENABLED, 45)
    assert (seen["715.ControllerHb"], seen["802.CtrlHb"]) == (2, 2)


@pytest.mark.parametrize("kind", ["storage", "storage-hybrid"])
@pytest.mark.parametrize("power_w", [125_000.0, -50_000.0])
async def test_a_setpoint_by_124_with_its_timer_and_its_heartbeat(kind, power_w):
    profile = "sunspec-hybrid" if kind == "storage-hybrid" else "sunspec-battery"
    async with a_site(kind) as site, by_profile(site.battery_port, "battery", 1, profile) as battery:
        assert (await battery.write_setpoint(power_w)).ok
        seen = await the_other_client(site.battery_port, 1)
    percent = power_w / seen["124.WChaMax"] * 100.0
    assert (seen["124.OutWRte"], seen["124.InWRte"]) == (pytest.approx(percent), pytest.approx(-percent))
    assert (seen["124.StorCtl_Mod"], seen["124.InOutWRte_RvrtTms"], seen["802.CtrlHb"]) == (BOTH, 45, 1)


@pytest.mark.parametrize(
    ("limit", "enable", "timer"),
    [("123", "123.WMaxLim_Ena", "123.WMaxLimPct_RvrtTms"), ("704", "704.WMaxLimPctEna", "704.WMaxLimPctRvrtTms")],
)
async def test_a_ceiling_by_either_generation(limit, enable, timer):
    async with a_site(pv_limit=limit) as site, by_profile(site.gateway_port, "pv", 2, "sunspec-inverter") as pv:
        whole_w = site.plant.config.pv.inverter_limit_w
        assert (await pv.write_ceiling(0.25 * whole_w)).ok
        seen = await the_other_client(site.gateway_port, 2)
        assert (seen[enable], seen[f"{limit}.WMaxLimPct"], seen[timer]) == (ENABLED, pytest.approx(25.0), 45)
        assert (await pv.write_ceiling(None)).ok
        seen = await the_other_client(site.gateway_port, 2)
        assert (seen[enable], seen[f"{limit}.WMaxLimPct"]) == (0, pytest.approx(100.0))


async def test_on_a_hybrid_the_setpoint_is_written_on_top_of_its_pv():
    async with a_site("der-hybrid") as site, by_profile(site.battery_port, "battery", 1, "sunspec-hybrid") as battery:
        assert (await battery.write_setpoint(-20_000.0)).ok
        seen = await the_other_client(site.battery_port, 1)
        assert seen["704.WSet"] == pytest.approx(site.plant.pv_w - 20_000.0, abs=0.03 * site.plant.pv_w + 100.0)


async def test_what_the_other_client_writes_is_what_the_device_is_said_to_hold():
    async with a_site() as site, by_profile(site.battery_port, "battery", 1, "sunspec-battery") as battery:
        await the_other_client(site.battery_port, 1, m704_WSetMod=WATTS, m704_WSet=-70_000, m704_WSetEna=ENABLED)
        assert (await battery.read()).held_setpoint_w.value == -70_000.0
    async with a_site("storage") as site, by_profile(site.battery_port, "battery", 1, "sunspec-battery") as battery:
        await the_other_client(site.battery_port, 1, m124_StorCtl_Mod=BOTH, m124_OutWRte=-10.0, m124_InWRte=10.0)
        assert (await battery.read()).held_setpoint_w.value == -50_000.0
    async with a_site() as site, by_profile(site.gateway_port, "pv", 2, "sunspec-inverter") as pv:
        await the_other_client(site.gateway_port, 2, m123_WMaxLimPct=40.0, m123_WMaxLim_Ena=ENABLED)
        sample = await pv.read()
        assert sample.limited.value == 1.0
        assert sample.ceiling_w.value == pytest.approx(0.4 * site.plant.config.pv.inverter_limit_w)
