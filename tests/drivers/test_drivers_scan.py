"""What a scan finds at real endpoints of simulated devices, and what it leaves alone."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from drivers_registers import RawBank

from drivers.endpoint import SerialEndpoint, TcpEndpoint
from drivers.errors import DeviceError
from drivers.profile.load import available, load
from drivers.scan import Manners, RememberedReads, scan_unit
from simulators.modbus_server import ModbusServer
from simulators.profile_site import ProfileSite
from simulators.serial_line import SerialLine

PROFILES = {name: load(found.path) for name, found in available(None).items()}
QUICK = Manners(timeout_s=0.3, between_s=0.0, after_connect_s=0.0)


async def look(port, unit=1):
    return await scan_unit(TcpEndpoint("127.0.0.1", port), unit, PROFILES, time.monotonic, QUICK)


@pytest.mark.parametrize(
    ("name", "certain", "roles"),
    [
        ("sunspec-battery", True, ["battery"]),
        ("sunspec-hybrid", True, ["battery", "pv"]),
        ("sunspec-inverter", True, ["pv"]),
        ("sunspec-meter", True, ["meter"]),
        ("sungrow-sh", True, ["battery", "pv", "meter"]),
        ("huawei-sun2000-luna2000", True, ["battery", "pv", "meter"]),
        ("fronius-gen24", True, ["battery", "pv"]),
        ("solaredge-storedge", True, ["battery"]),
        ("kostal-plenticore", True, ["battery", "meter"]),
        ("deye-three-phase-lv", True, ["battery", "pv", "meter"]),
        ("sinexcel-pws2-30k", True, ["battery"]),
        ("eastron-sdm630", False, ["meter"]),
        ("carlo-gavazzi-em24", False, ["meter"]),
        ("carlo-gavazzi-em24-e1", False, ["meter"]),
        ("chint-dtsu666", False, ["meter"]),
        ("janitza-umg96rm", False, ["meter"]),
    ],
)
async def test_each_device_is_recognised_by_its_profile_and_not_written_to(name, certain, roles):
    async with ProfileSite(PROFILES[name]) as site:
        found = await look(site.port)
        asked = list(site.server.asked)
    assert (found.fits[0].profile, found.fits[0].certain) == (name, certain)
    assert [role.role for role in found.roles] == roles
    assert found.identity.manufacturer
    assert {pdu[0] for _, pdu in asked} <= {3, 4}, "only reads"
    assert max(Counter(asked).values()) <= 2, "no register is asked for again and again"


async def test_a_battery_states_its_rating_and_a_meter_asks_for_its_sign():
    async with ProfileSite(PROFILES["sunspec-battery"]) as site:
        (battery,) = (await look(site.port)).roles
    assert (battery.rated_w, battery.states_capacity, battery.trouble) == (5000.0, True, "")
    async with ProfileSite(PROFILES["sunspec-meter"]) as site:
        (meter,) = (await look(site.port)).roles
    assert (meter.asks_for_sign, meter.rated_w) == (True, None)
    async with ProfileSite(PROFILES["sinexcel-pws2-30k"]) as site:
        (silent,) = (await look(site.port)).roles
    assert (silent.rated_w, silent.states_capacity) == (None, False)


async def test_a_device_that_nobody_describes_is_told_with_what_it_answered():
    async with ModbusServer({1: RawBank(dict.fromkeys(range(10), 7)), 2: RawBank({500: 1})}) as server:
        first, second = await look(server.port), await look(server.port, 2)
    values = "exception 2 at holding 40000, values at input 0, values at holding 0"
    assert (first.fits, first.identity, first.answered) == ((), None, values)
    assert second.answered == "exception 2 at holding 40000, exception 2 at input 0, exception 2 at holding 0"


async def test_a_unit_id_that_is_silent_is_left_alone_after_three_questions():
    async with ModbusServer({1: RawBank({0: 1}), 2: RawBank({0: 1})}) as server:
        server.faults[2].silent = True
        assert await look(server.port, 2) is None
        assert server.requests == 3


@pytest.mark.parametrize("code", [10, 11])
async def test_a_gateway_that_says_that_nobody_is_there_is_believed_at_once(code):
    async with ModbusServer({1: RawBank({0: 1})}) as server:
        server.faults[1].exception = code
        assert await look(server.port) is None
        assert server.requests == 1


async def test_nobody_at_all_is_an_error():
    async with ModbusServer({1: RawBank({0: 1})}) as server:
        port = server.port
    with pytest.raises(DeviceError, match="Connection refused"):
        await look(port)


async def test_a_serial_line_is_scanned_like_a_network():
    with_meter = ProfileSite(PROFILES["eastron-sdm630"], unit_id=3)
    async with SerialLine(with_meter.device.units, inputs=with_meter.device.inputs, baud=None) as line:
        endpoint = SerialEndpoint(line.device, 115_200, "N")
        assert await scan_unit(endpoint, 1, PROFILES, time.monotonic, QUICK) is None
        found = await scan_unit(endpoint, 3, PROFILES, time.monotonic, QUICK)
    assert found.fits[0].profile == "eastron-sdm630"


async def test_a_scan_cannot_write():
    async with ModbusServer({1: RawBank({0: 1})}) as server:
        reads = RememberedReads(_link(server.port))
        with pytest.raises(AssertionError, match="a scan never writes"):
            await reads.write_register(1, 0, 5)
        with pytest.raises(AssertionError, match="a scan never writes"):
            await reads.write_registers(1, 0, [5])
        assert server.requests == 0


def _link(port):
    from drivers.link import Link

    return Link(TcpEndpoint("127.0.0.1", port), clock=time.monotonic, read_only=True)
