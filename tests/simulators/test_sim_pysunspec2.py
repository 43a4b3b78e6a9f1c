"""A third-party SunSpec client finds the simulated devices, reads them right and commands the battery.

The client (pysunspec2) blocks, so it runs in a thread beside the site's event loop.
"""

import asyncio
import contextlib
import time

import pytest
from sunspec2.modbus.client import SunSpecModbusClientDeviceTCP
from sunspec2.modbus.modbus import ModbusClientException

from simulators.battery import BatteryConfig
from simulators.plant import DayConfig
from simulators.site import SimulatedSite
from simulators.site_config import SiteConfig

DEADLINE_S = 8.0
POLL_S = 0.02


@pytest.fixture
async def site():
    half_past_noon_s = 12.5 * 3600.0  # and the sun nearly stands still
    day = DayConfig(day_offset_s=half_past_noon_s, day_epoch_utc_s=time.time(), solar_time_factor=1e-3)
    config = SiteConfig(battery=BatteryConfig(capacity_wh=20_000.0, initial_soc_pct=40.0), day=day, seed=3)
    async with SimulatedSite(config) as running:
        yield running


@contextlib.contextmanager
def scanned(port, unit):
    """The device as the client sees it, connected."""
    device = SunSpecModbusClientDeviceTCP(slave_id=unit, ipaddr="127.0.0.1", ipport=port, timeout=2)
    try:
        device.scan()
        device.connect()  # scan() disconnects
        yield device
    finally:
        device.disconnect()


def read(device, model, *points):
    device.models[model][0].read()
    return [getattr(device.models[model][0], point).cvalue for point in points]


def until(condition):
    """Polls until the condition holds."""
    ends_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < ends_s, "it did not come true in time"
        time.sleep(POLL_S)  # in the client's own thread; nothing to be woken by


def model_ids(device):
    assert [model.error_info for model in device.model_list] == [""] * len(device.model_list)
    return [model.model_id for model in device.model_list]


async def test_scan_finds_all_models_in_order_and_by_name(site):
    def scan():
        found = {}
        for name, port, unit in (
            ("battery", site.battery_port, 1),
            ("pv", site.gateway_port, 2),
            ("meter", site.gateway_port, 3),
        ):
            with scanned(port, unit) as device:
                found[name] = (model_ids(device), device.common[0].Mn.cvalue, device.common[0].SN.cvalue)
        return found

    assert await asyncio.to_thread(scan) == {
        "battery": ([1, 701, 702, 704, 713, 715, 802], "Simulated", "SIM-BATTERY-1"),
        "pv": ([1, 103, 120, 121, 123], "Simulated", "SIM-PV-1"),
        "meter": ([1, 203], "Simulated", "SIM-METER-1"),
    }


async def test_values_agree_with_the_plant_within_their_resolution(site):
    def look():
        with scanned(site.battery_port, 1) as battery, scanned(site.gateway_port, 2) as pv:
            nameplate = read(battery, 702, "WMaxRtg", "WChaRteMaxRtg", "WDisChaRteMaxRtg", "WMax")
            storage = read(battery, 713, "WHRtg", "SoC", "SoH", "Sta")
            bms = read(battery, 802, "SoC", "State", "Typ", "WHRtg")
            states = read(battery, 701, "ACType", "St", "InvSt", "ConnSt", "W", "LLV")
            sun = read(pv, 103, "W", "Hz", "St", "WH")
        with scanned(site.gateway_port, 3) as meter:
            grid = read(meter, 203, "W", "Hz", "TotWhExp", "TotWhImp", "PhVphA")
            unmeasured = read(meter, 203, "VAR", "TotVAhExp")
        return nameplate, storage, bms, states, sun, grid, unmeasured

    nameplate, storage, bms, states, sun, grid, unmeasured = await asyncio.to_thread(look)
    site.advance_to_now()
    plant = site.plant
    assert nameplate == [500_000] * 4
    assert storage == [20_000, pytest.approx(plant.soc_pct, abs=0.02), 100, 0]
    assert bms == [pytest.approx(plant.soc_pct, abs=0.02), 3, 4, 20_000]
    assert states == [2, 1, 3, 1, 0, 400.0]
    assert plant.pv_w > 1_000.0
    assert sun[0] == pytest.approx(plant.pv_w, rel=0.02, abs=10.0)
    assert sun[1] == pytest.approx(plant.frequency_hz, abs=0.05)
    assert (sun[2], sun[3]) == (4, pytest.approx(plant.pv_wh, abs=5.0))
    assert grid[0] == pytest.approx(plant.grid_w, abs=3_000.0)
    assert grid[1] == pytest.approx(plant.frequency_hz, abs=0.05)
    assert grid[2:4] == [pytest.approx(plant.export_wh, abs=5.0), pytest.approx(plant.import_wh, abs=5.0)]
    assert grid[4] == pytest.approx(230.9)
    assert unmeasured == [None, None], "not implemented is not a number"


async def test_a_setpoint_written_through_model_704_moves_the_plant_after_its_lag(site):
    def command():
        with scanned(site.battery_port, 1) as device:
            control = device.models[704][0]
            control.WSet.cvalue = 150_000
            control.WSetMod.cvalue = 1
            control.WSetEna.cvalue = 1
            control.write()
            assert read(device, 704, "WSet", "WSetEna", "WSetMod") == [150_000, 1, 1]
            until(lambda: read(device, 701, "W") == [150_000])
            until(lambda: read(device, 802, "ChaSt") == [3])

    await asyncio.to_thread(command)
    site.advance_to_now()
    assert site.plant.battery_w == pytest.approx(150_000.0, abs=100.0)


async def test_charging_is_negative_for_the_client_too(site):
    def command():
        with scanned(site.battery_port, 1) as device:
            control = device.models[704][0]
            control.WSet.cvalue = -80_000
            control.WSetEna.cvalue = 1
            control.write()
            until(lambda: read(device, 701, "W") == [-80_000])

    await asyncio.to_thread(command)
    assert site.plant.grid_w < 0.0


async def test_the_reversion_timer_brings_the_power_back_to_zero(site):
    def command():
        with scanned(site.battery_port, 1) as device:
            control = device.models[704][0]
            control.WSetRvrt.cvalue = 0
            control.WSetRvrtTms.cvalue = 1
            control.WSet.cvalue = 100_000
            control.WSetEna.cvalue = 1
            control.write()
            assert read(device, 704, "WSet", "WSetRvrtRem") == [100_000, 1]
            until(lambda: read(device, 704, "WSet", "WSetRvrtRem") == [0, 0])
            until(lambda: read(device, 701, "W") == [0])

    await asyncio.to_thread(command)
    assert site.battery.control.reversions == 1


async def test_a_setpoint_beyond_the_rating_is_refused_and_the_old_one_stays(site):
    def command():
        with scanned(site.battery_port, 1) as device:
            control = device.models[704][0]
            control.WSet.cvalue = 600_000
            with pytest.raises(ModbusClientException, match="exception: 3"):
                control.write()
            return read(device, 704, "WSet")

    assert await asyncio.to_thread(command) == [0]
