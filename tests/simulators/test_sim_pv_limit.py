"""The simulated PV inverter obeys its power limit, in either register map, and lets go when nobody repeats it."""

from __future__ import annotations

import asyncio
import time

import pytest

from drivers.device import DeviceSpec, open_device
from drivers.endpoint import TcpEndpoint
from drivers.link import Link
from simulators.ceiling_control import CeilingControl
from simulators.modbus_server import RequestRefusedError
from simulators.plant import GridConfig, LoadConfig, PvConfig
from simulators.site import SimulatedSite, SiteClock
from simulators.site_config import ModbusConfig, SiteConfig

BASE_S = 1_700_000_000.0
DEADLINE_S = 5.0


def sunny(limit):
    return SiteConfig(
        pv=PvConfig(peak_w=100_000.0, inverter_limit_w=80_000.0, performance_ratio=1.0, irradiance_w_per_m2=(700.0,)),
        load=LoadConfig(base_w=0.0, noise_pct=0.0),
        grid=GridConfig(noise_hz=0.0),
        modbus=ModbusConfig(pv_limit=limit),
    )


class Bench:
    """A site whose time the test moves, and our driver on its PV inverter over a real socket."""

    def __init__(self, limit):
        self.now_s = 0.0
        clock = SiteClock(lambda: BASE_S, lambda: self.now_s, lambda _s: asyncio.sleep(0.01))
        self.site = SimulatedSite(sunny(limit), clock=clock)

    async def __aenter__(self):
        await self.site.start()
        self.link = Link(TcpEndpoint("127.0.0.1", self.site.gateway_port), timeout_s=DEADLINE_S, clock=time.monotonic)
        self.driver = open_device(DeviceSpec("pv", "pv", 2, reversion_s=20), self.link, time.monotonic)
        return self

    async def __aexit__(self, *_):
        await self.link.close()
        await self.site.stop()

    async def pv_w(self, at_s):
        self.now_s = at_s
        return (await self.driver.read()).power_w.value


@pytest.mark.parametrize("limit", ["123", "704"])
async def test_a_ceiling_written_by_the_driver_holds_until_it_is_released(limit):
    async with Bench(limit) as bench:
        assert await bench.pv_w(1.0) == pytest.approx(70e3, abs=10)
        outcome = await bench.driver.write_ceiling(30e3)
        assert (outcome.ok, outcome.held_w) == (True, pytest.approx(30e3, abs=100))
        assert await bench.pv_w(2.0) == pytest.approx(30e3, abs=100)
        sample = await bench.driver.read()
        assert (sample.limited.value, sample.has_dead_man) == (1.0, True)
        assert (await bench.driver.write_ceiling(None)).ok
        assert await bench.pv_w(3.0) == pytest.approx(70e3, abs=10)


@pytest.mark.parametrize("limit", ["123", "704"])
async def test_the_inverter_returns_to_full_power_when_the_agent_is_gone(limit):
    async with Bench(limit) as bench:
        await bench.driver.write_ceiling(30e3)
        written_s = bench.now_s
        assert await bench.pv_w(written_s + 19.9) == pytest.approx(30e3, abs=100)
        assert await bench.pv_w(written_s + 20.1) == pytest.approx(70e3, abs=10)
        assert (await bench.driver.read()).limited.value == 0.0
        assert bench.site.pv.control.reversions == 1


async def test_repeating_a_ceiling_keeps_it():
    async with Bench("123") as bench:
        for second in (0.0, 15.0, 30.0):
            bench.now_s = second
            await bench.driver.write_ceiling(30e3)
        assert await bench.pv_w(45.0) == pytest.approx(30e3, abs=100)


async def test_a_reboot_loses_the_ceiling():
    async with Bench("704") as bench:
        await bench.driver.write_ceiling(30e3)
        bench.site.pv.reboot()
        assert await bench.pv_w(1.0) == pytest.approx(70e3, abs=10)


async def test_an_inverter_without_a_limit_is_known_as_such():
    async with Bench("none") as bench:
        assert await bench.pv_w(1.0) == pytest.approx(70e3, abs=10)
        assert bench.driver.has_limit is False


@pytest.mark.parametrize("written", [{"percent": 100.1}, {"enabled": 2}, {"revert_after_s": 3601}, {"percent": -1}])
def test_values_out_of_range_are_not_allowed(written):
    assert not CeilingControl().allows(written)


def test_a_limit_without_a_reversion_time_stays():
    control = CeilingControl()
    control.write({"percent": 40.0, "enabled": 1.0}, 0.0)
    assert (control.share, control.revert_at_utc_s, control.remaining_s(0.0)) == (0.4, None, 0.0)
    assert not control.revert_if_due(1e9)


def test_a_704_limit_falls_back_to_what_was_written_as_reversion():
    control = CeilingControl()
    written = {"percent": 40.0, "enabled": 1.0, "revert_percent": 60.0, "revert_enabled": 1.0, "revert_after_s": 10.0}
    control.write(written, 100.0)
    assert (control.remaining_s(104.5), control.revert_if_due(109.9)) == (6, False)
    assert control.revert_if_due(110.0)
    assert (control.share, control.revert_at_utc_s) == (0.6, None)


def test_the_inverter_refuses_what_it_does_not_know():
    bench = Bench("123")
    pv = bench.site.pv
    with pytest.raises(RequestRefusedError) as refused:
        pv.write(pv.image.address("103.W"), b"\0\0")
    assert refused.value.code == 2
    with pytest.raises(RequestRefusedError) as refused:
        pv.write(pv.image.address("123.WMaxLimPct"), (1001).to_bytes(2, "big"))
    assert refused.value.code == 3
