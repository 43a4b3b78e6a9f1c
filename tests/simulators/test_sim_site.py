"""The simulated site in real time: sockets, truths at exact instants, the reversion timer, and as a process."""

import asyncio
import json
import signal
import struct
import sys

import pytest

from simulators.battery import BatteryConfig
from simulators.site import SimulatedSite, SiteClock
from simulators.site_config import ModbusConfig, SiteConfig

DEADLINE_S = 10.0


class ManualClock:
    """A clock that moves only when told; the site's tick then waits for real."""

    def __init__(self, utc_s=1_000.0):
        self.now_s = utc_s

    def site_clock(self):
        return SiteClock(utc_s=lambda: self.now_s, monotonic_s=lambda: self.now_s, sleep=asyncio.sleep)


@pytest.fixture
def clock():
    return ManualClock()


async def exchange(port, unit, pdu):
    """One request on a connection of its own; the answer's PDU."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(DEADLINE_S):
            writer.write(struct.pack(">HHHB", 1, 0, len(pdu) + 1, unit) + pdu)
            _, _, length, _ = struct.unpack(">HHHB", await reader.readexactly(7))
            return await reader.readexactly(length - 1)
    finally:
        writer.transport.abort()


async def get(site, name, code=">H"):
    image = site.battery.image
    pdu = struct.pack(">BHH", 3, image.address(name), image.size(name))
    answer = await exchange(site.battery_port, 1, pdu)
    assert answer[0] == 3
    return struct.unpack(code, answer[2:])[0]


async def put(site, name, value, code=">H"):
    image = site.battery.image
    size = image.size(name)
    pdu = struct.pack(">BHHB", 16, image.address(name), size, 2 * size) + struct.pack(code, value)
    assert (await exchange(site.battery_port, 1, pdu))[0] == 16


async def test_battery_has_its_endpoint_and_pv_and_meter_share_another():
    async with SimulatedSite(SiteConfig()) as site:
        marker = struct.pack(">BHH", 3, 40_000, 2)
        assert site.battery_port != site.gateway_port
        assert await exchange(site.battery_port, 1, marker) == b"\x03\x04SunS"
        assert await exchange(site.gateway_port, 2, marker) == b"\x03\x04SunS"
        assert await exchange(site.gateway_port, 3, marker) == b"\x03\x04SunS"
        assert await exchange(site.gateway_port, 1, marker) == b"\x83\x0b"


async def test_the_base_address_and_unit_ids_are_as_configured():
    modbus = ModbusConfig(base_address=0, pv_unit=10, meter_unit=20)
    async with SimulatedSite(SiteConfig(modbus=modbus)) as site:
        assert await exchange(site.gateway_port, 20, struct.pack(">BHH", 3, 0, 2)) == b"\x03\x04SunS"


async def test_a_setpoint_takes_effect_at_the_instant_it_is_written(clock):
    async with SimulatedSite(SiteConfig(), clock=clock.site_clock()) as site:
        clock.now_s += 10.0
        await put(site, "704.WSetEna", 1)
        await put(site, "704.WSet", 100_000, ">i")
        assert site.plant.utc_s == clock.now_s, "the plant was brought to now before the write"
        clock.now_s += 36.0
        site.advance_to_now()
        assert site.plant.battery_w == pytest.approx(100_000.0)
        lag_s = 0.1
        assert site.plant.battery.discharged_wh == pytest.approx(100_000.0 * (36.0 - lag_s) / 3600.0, rel=1e-3)


async def test_the_reversion_comes_at_its_time_even_if_nobody_asks(clock):
    config = SiteConfig(battery=BatteryConfig(lag_s=0.0))
    async with SimulatedSite(config, clock=clock.site_clock()) as site:
        await put(site, "704.WSetRvrtTms", 36, ">I")
        await put(site, "704.WSet", 100_000, ">i")
        await put(site, "704.WSetEna", 1)
        clock.now_s += 30.0
        assert await get(site, "704.WSetRvrtRem", ">I") == 6
        clock.now_s += 3_000.0
        assert await get(site, "704.WSet", ">i") == 0
        assert await get(site, "704.WSetRvrtRem", ">I") == 0
        assert site.plant.battery.discharged_wh == pytest.approx(1_000.0), "for 36 s, to the instant"


async def test_truths_are_told_at_exact_multiples_whatever_the_accesses(clock):
    truths = []
    clock.now_s = 1_000.3
    site = SimulatedSite(SiteConfig(), clock=clock.site_clock(), truth_every_s=0.1, on_truth=truths.append)
    for step_s in (0.05, 0.0, 0.13, 0.011, 1.0):
        clock.now_s += step_s
        site.advance_to_now()
    assert [truth.utc_s for truth in truths] == [pytest.approx(1_000.3 + 0.1 * n, abs=1e-9) for n in range(12)]
    last = truths[-1]
    assert last.grid_w == pytest.approx(last.battery_w + last.pv_w + last.load_w)


async def test_a_stopped_battery_refuses_power_until_it_is_started(clock):
    async with SimulatedSite(SiteConfig(), clock=clock.site_clock()) as site:
        site.set_ready(False)
        await put(site, "704.WSet", 100_000, ">i")
        await put(site, "704.WSetEna", 1)
        clock.now_s += 5.0
        assert await get(site, "701.W", ">h") == 0
        site.set_ready(True)
        clock.now_s += 5.0
        assert await get(site, "701.W", ">h") == 1_000
        clock.now_s += 360.0
        site.set_ready(False)
        assert site.plant.battery.discharged_wh > 10_000.0, "it gave power until the instant of the stop"


async def test_faults_are_set_by_device_name():
    async with SimulatedSite(SiteConfig()) as site:
        site.faults["pv"].exception = 4
        marker = struct.pack(">BHH", 3, 40_000, 2)
        assert await exchange(site.gateway_port, 2, marker) == b"\x83\x04"
        assert await exchange(site.gateway_port, 3, marker) == b"\x03\x04SunS"
        site.faults["meter"].sentinels = True
        answer = await exchange(site.gateway_port, 3, struct.pack(">BHH", 3, 40_070 + 18, 1))
        assert answer == b"\x03\x02\x80\x00"


async def test_a_port_that_is_taken_stops_the_start_and_frees_the_other():
    async with SimulatedSite(SiteConfig()) as first:
        modbus = ModbusConfig(gateway_port=first.gateway_port)
        second = SimulatedSite(SiteConfig(modbus=modbus))
        with pytest.raises(OSError, match="in use"):
            await second.start()


async def test_a_plant_that_fails_is_not_silent():
    site = SimulatedSite(SiteConfig())

    def fails(_utc_s):
        raise ZeroDivisionError

    await site.start()
    site.plant.advance_to = fails
    async with asyncio.timeout(DEADLINE_S):
        await site.run_until(asyncio.Event())
    with pytest.raises(ZeroDivisionError):
        await site.stop()


@pytest.fixture
async def launch(tmp_path):
    started = []

    async def start(*arguments, toml=""):
        path = tmp_path / "site.toml"
        path.write_text(toml)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "simulators.site", "--config", str(path), *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        started.append(process)
        return process

    async with asyncio.timeout(2 * DEADLINE_S):
        yield start
        for process in started:
            if process.returncode is None:
                process.kill()
            await process.communicate()


async def test_as_a_process_it_tells_its_ports_then_truths_at_the_slot_edges_and_ends_on_sigterm(launch):
    process = await launch("--truth-every", "0.25", toml="[day]\nsolar_time_factor = 900\nday_offset_s = 43200\n")
    hello = json.loads(await process.stdout.readline())
    assert hello["ready"] is True
    assert (await exchange(hello["gateway_port"], 3, struct.pack(">BHH", 3, 40_000, 2)))[2:] == b"SunS"
    assert (await exchange(hello["battery_port"], 1, struct.pack(">BHH", 3, 40_000, 2)))[2:] == b"SunS"
    first, second = [json.loads(await process.stdout.readline()) for _ in range(2)]
    assert set(first) == {
        *("utc_s", "battery_w", "pv_w", "load_w", "grid_w"),
        *("soc_pct", "export_wh", "import_wh", "frequency_hz"),
    }
    assert first["utc_s"] % 0.25 == 0.0
    assert second["utc_s"] - first["utc_s"] == 0.25
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0
    assert await process.stderr.read() == b""


async def test_as_a_process_it_dies_with_its_parent(launch):
    process = await launch("--exit-with-stdin")
    await process.stdout.readline()
    process.stdin.close()
    assert await process.wait() == 0


async def test_as_a_process_it_refuses_a_bad_file_with_exit_code_2(launch):
    process = await launch(toml="[battery]\ncapacity = 5\n")
    assert await process.wait() == 2
    complaint = (await process.stderr.read()).decode()
    assert "site.toml: battery.capacity: unknown key" in complaint
    assert await process.stdout.read() == b""
