"""A simulated battery answers the frequency by itself when our driver tells it how, and stops when it is told or left."""

from __future__ import annotations

import asyncio
import time

import pytest

from agent.core.droop import DeviceDroop, device_droop
from agent.core.droop_products import PRODUCTS
from drivers.device import DeviceSpec, open_device
from drivers.endpoint import TcpEndpoint
from drivers.link import Link
from simulators.droop_control import DroopControl, DroopSet
from simulators.plant import GridConfig, LoadConfig, PvConfig
from simulators.site import SimulatedSite, SiteClock
from simulators.site_config import ModbusConfig, SiteConfig

BASE_S = 1_700_000_000.0
DEADLINE_S = 5.0
RATED_W = 500e3
EPRX = PRODUCTS["eprx-primary-online-50hz"]
AWARD_W = 100e3
CURVE = device_droop(EPRX, AWARD_W, RATED_W)
RESPOND_IN_S = 1.0
STEADY_HZ = (50.0,)


class Bench:
    """A site whose time runs in leaps, and our driver on its battery over a real socket."""

    def __init__(self, kind="der-droop"):
        self.now_s = 0.0
        config = SiteConfig(
            pv=PvConfig(peak_w=0.0, irradiance_w_per_m2=(0.0,)),
            load=LoadConfig(base_w=0.0, noise_pct=0.0),
            grid=GridConfig(frequency_hz=STEADY_HZ),
            modbus=ModbusConfig(battery_kind=kind),
        )
        self.site = SimulatedSite(config, clock=SiteClock(lambda: BASE_S, self._read_clock, self._nap))

    def _read_clock(self):
        """Each look takes a tenth of a second, so that a device that works in the background gets its time."""
        self.now_s += 0.1
        return self.now_s

    @staticmethod
    async def _nap(_s):
        await asyncio.sleep(DEADLINE_S)

    async def __aenter__(self):
        await self.site.start()
        self.link = Link(TcpEndpoint("127.0.0.1", self.site.battery_port), timeout_s=DEADLINE_S, clock=time.monotonic)
        self.driver = open_device(DeviceSpec("bess", "battery", 1, reversion_s=30), self.link, time.monotonic)
        return self

    async def __aexit__(self, *_):
        await self.link.close()
        await self.site.stop()

    async def power_w(self, hz, after_s=4.0):
        self.site.plant.frequency_shift_hz = hz - STEADY_HZ[0]
        self.now_s += after_s
        return (await self.driver.read()).power_w.value


async def test_the_device_answers_the_frequency_around_its_setpoint_once_it_is_told_how():
    async with Bench() as bench:
        await bench.driver.write_setpoint(50e3)
        assert await bench.power_w(49.8) == pytest.approx(50e3, abs=100)
        outcome = await bench.driver.write_droop(CURVE, RESPOND_IN_S)
        assert (outcome.ok, outcome.reason, outcome.held) == (True, "", CURVE)
        assert await bench.power_w(50.0) == pytest.approx(50e3, abs=100)
        assert await bench.power_w(49.8) == pytest.approx(150e3, abs=1000)
        assert await bench.power_w(49.895) == pytest.approx(100e3, abs=1000)
        assert await bench.power_w(49.99) == pytest.approx(50e3, abs=100)
        assert await bench.power_w(50.2) == pytest.approx(-50e3, abs=1000)
        sample = await bench.driver.read()
        assert sample.held_setpoint_w.value == 50e3  # the setpoint stays what we wrote
        assert sample.own_droop_from_hz.value == 0.01


async def test_taken_back_the_device_holds_its_setpoint_again():
    async with Bench() as bench:
        await bench.driver.write_setpoint(50e3)
        await bench.driver.write_droop(CURVE, RESPOND_IN_S)
        assert await bench.power_w(49.8) == pytest.approx(150e3, abs=1000)
        outcome = await bench.driver.write_droop(None, RESPOND_IN_S)
        assert (outcome.ok, outcome.held) == (True, None)
        assert await bench.power_w(49.8) == pytest.approx(50e3, abs=100)


async def test_left_alone_for_its_reversion_time_the_device_answers_no_more():
    async with Bench() as bench:
        await bench.driver.write_droop(CURVE, RESPOND_IN_S)
        assert await bench.power_w(49.8, after_s=20.0) == pytest.approx(100e3, abs=1000)
        assert await bench.power_w(49.8, after_s=20.0) == pytest.approx(0.0, abs=100)
        assert bench.site.battery.droop.reversions == 1


async def test_written_again_in_time_the_device_goes_on():
    async with Bench() as bench:
        for _ in range(3):
            assert (await bench.driver.write_droop(CURVE, RESPOND_IN_S)).ok
            assert await bench.power_w(49.8, after_s=20.0) == pytest.approx(100e3, abs=1000)


async def test_a_curve_that_the_device_refuses_leaves_its_droop_off():
    async with Bench() as bench:
        assert (await bench.driver.write_droop(CURVE, RESPOND_IN_S)).ok
        bench.site.battery.droop.adopts = False
        outcome = await bench.driver.write_droop(DeviceDroop(0.02, 0.05), RESPOND_IN_S)
        assert (outcome.ok, outcome.held) == (False, None)
        assert "refused to adopt" in outcome.reason
        assert await bench.power_w(49.8) == pytest.approx(0.0, abs=100)


async def test_a_rebooted_device_has_forgotten_the_curve_until_it_is_written_again():
    async with Bench() as bench:
        await bench.driver.write_droop(CURVE, RESPOND_IN_S)
        bench.site.battery.reboot()
        assert await bench.power_w(49.8) == pytest.approx(0.0, abs=100)
        assert (await bench.driver.write_droop(CURVE, RESPOND_IN_S)).ok
        assert await bench.power_w(49.8) == pytest.approx(100e3, abs=1000)


async def test_a_stopped_inverter_answers_nothing():
    async with Bench() as bench:
        assert (await bench.driver.write_droop(CURVE, RESPOND_IN_S)).ok
        bench.site.set_ready(False)
        assert await bench.power_w(49.8) == pytest.approx(0.0, abs=100)
        bench.site.set_ready(True)
        assert await bench.power_w(49.8) == pytest.approx(100e3, abs=1000)


@pytest.mark.parametrize("kind", ["der", "der-hybrid", "storage"])
async def test_other_devices_say_that_they_cannot(kind):
    async with Bench(kind) as bench:
        assert "droop" in (await bench.driver.read()).droop_offer.cannot
        outcome = await bench.driver.write_droop(CURVE, RESPOND_IN_S)
        assert (outcome.ok, outcome.held) == (False, None)
        assert "droop" in outcome.reason


def following(curve):
    control = DroopControl(RATED_W, 50.0, enabled=True)
    control.sets[0] = curve
    return control


def test_nine_tenths_of_a_step_come_within_the_open_loop_response_time():
    control = following(DroopSet(0.0, 0.0, 0.01, 0.01, respond_in_s=3.0, lowest_pct=-100.0))
    for _ in range(30):
        power_w = control.aimed_w(0.0, 49.9, 0.0, 0.1)
    assert power_w == pytest.approx(0.9 * 100e3)


def test_the_lowest_power_bounds_the_answer_to_high_frequency_only():
    control = following(DroopSet(0.0, 0.0, 0.01, 0.01, respond_in_s=0.0, lowest_pct=0.0))
    assert control.aimed_w(0.0, 50.1, 40e3, 1.0) == pytest.approx(0.0)
    assert control.aimed_w(0.0, 50.1, -40e3, 1.0) == pytest.approx(-40e3)
    assert control.aimed_w(0.0, 49.9, 40e3, 1.0) == pytest.approx(140e3)


def test_dead_bands_and_droops_are_each_side_its_own():
    control = following(DroopSet(0.02, 0.05, 0.02, 0.01, respond_in_s=0.0, lowest_pct=-100.0))
    assert control.aimed_w(0.0, 49.9, 0.0, 1.0) == pytest.approx(0.05 / 0.5 * RATED_W)
    assert control.aimed_w(0.0, 50.1, 0.0, 1.0) == pytest.approx(-0.08 / 1.0 * RATED_W)
    assert control.aimed_w(0.0, 49.96, 0.0, 1.0) == control.aimed_w(0.0, 50.01, 0.0, 1.0) == 0.0


async def test_left_alone_and_written_again_the_device_answers_again():
    async with Bench() as bench:
        await bench.driver.write_droop(CURVE, RESPOND_IN_S)
        assert await bench.power_w(49.8, after_s=40.0) == pytest.approx(0.0, abs=100)
        assert (await bench.driver.read()).own_droop_from_hz.value is None
        assert (await bench.driver.write_droop(CURVE, RESPOND_IN_S)).ok
        assert await bench.power_w(49.8) == pytest.approx(100e3, abs=1000)


async def test_put_ready_the_device_answers_only_once_it_is_told():
    async with Bench() as bench:
        outcome = await bench.driver.write_droop(CURVE, RESPOND_IN_S, answering=False)
        assert (outcome.ok, outcome.off) == (True, True)
        assert await bench.power_w(49.8) == pytest.approx(0.0, abs=100)
        assert (await bench.driver.write_droop(CURVE, RESPOND_IN_S)).ok
        assert await bench.power_w(49.8) == pytest.approx(100e3, abs=1000)
