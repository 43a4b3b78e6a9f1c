"""What a scan finds at real endpoints of simulated devices, and what it leaves alone."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace

import pytest
from drivers_peers import answering, peer
from drivers_registers import RawBank

from drivers import scan
from drivers.endpoint import RtuTcpEndpoint, SerialEndpoint, TcpEndpoint
from drivers.errors import DeviceError, LinkTimeout
from drivers.link import Link
from drivers.profile.load import available, load
from drivers.scan import Manners, RememberedReads, scan_unit
from simulators.modbus_server import ModbusServer, RequestRefusedError
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


@pytest.mark.parametrize(("name", "thorough"), [("eastron-sdm630", False), ("sungrow-sh", True)])
async def test_a_device_that_is_silent_to_what_it_does_not_have_is_recognised_all_the_same(name, thorough):
    site = ProfileSite(PROFILES[name])
    tables = {3: site.device.units[1], 4: site.device.inputs.get(1, site.device.units[1])}

    def answer(asked):
        try:
            data = tables[asked.pdu[0]].read(asked.address, asked.count)
        except RequestRefusedError:
            return b""
        return asked.frame(bytes([asked.pdu[0], len(data)]) + data)

    async with peer(answering(answer)) as port:
        endpoint = TcpEndpoint("127.0.0.1", port)
        manners = Manners(timeout_s=0.2, between_s=0.0, after_connect_s=0.0, thorough=thorough)
        found = await scan_unit(endpoint, 1, PROFILES, time.monotonic, manners)
        hasty = await scan_unit(endpoint, 1, PROFILES, time.monotonic, replace(manners, thorough=False))
    assert found.fits[0].profile == name
    assert (hasty is None) is thorough, "it is silent to the first questions"


async def test_a_thorough_scan_finds_nobody_where_nobody_is():
    async with ModbusServer({1: RawBank({0: 1})}) as server:
        server.faults[1].silent = True
        manners = Manners(timeout_s=0.05, between_s=0.0, after_connect_s=0.0, thorough=True)
        assert await scan_unit(TcpEndpoint("127.0.0.1", server.port), 1, PROFILES, time.monotonic, manners) is None


async def test_over_a_converter_a_silent_device_is_waited_for_and_recognised():
    site = ProfileSite(PROFILES["eastron-sdm630"])
    units, inputs = site.device.units, site.device.inputs
    async with ModbusServer(units, inputs=inputs, framing="rtu") as server:
        endpoint = RtuTcpEndpoint("127.0.0.1", server.port)
        found = await scan_unit(endpoint, 1, PROFILES, time.monotonic, QUICK)
        assert found.fits[0].profile == "eastron-sdm630"
        assert await scan_unit(endpoint, 9, PROFILES, time.monotonic, QUICK) is None


async def test_a_scan_cannot_write():
    async with ModbusServer({1: RawBank({0: 1})}) as server:
        reads = RememberedReads(lambda: _link(server.port), time.monotonic)
        with pytest.raises(AssertionError, match="a scan never writes"):
            await reads.write_register(1, 0, 5)
        with pytest.raises(AssertionError, match="a scan never writes"):
            await reads.write_registers(1, 0, [5])
        assert server.requests == 0


async def test_every_connection_of_a_scan_is_one_that_cannot_write(monkeypatch):
    opened = []

    def opening(*arguments, **options):
        opened.append(Link(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr(scan, "Link", opening)
    async with ModbusServer({1: RawBank({0: 1})}) as server:
        server.faults[1].silent = True
        manners = Manners(timeout_s=0.05, between_s=0.0, after_connect_s=0.0)
        await scan_unit(TcpEndpoint("127.0.0.1", server.port), 1, PROFILES, time.monotonic, manners)
    assert len(opened) > 1
    assert all(link.read_only for link in opened)


async def test_a_new_connection_is_as_slow_as_the_one_before(monkeypatch):
    paces = []
    async with ModbusServer({1: RawBank({0: 1})}) as server:
        reads = RememberedReads(lambda: _link(server.port), time.monotonic)
        reads.pace(0.01, 0.02)
        monkeypatch.setattr(Link, "pace", lambda _self, *pace: paces.append(pace))
        server.faults[1].silent = True
        with pytest.raises(LinkTimeout):
            await reads.read_holding(1, 0, 1)
        assert paces == [(0.01, 0.02)]
        server.faults[1].silent = False
        with pytest.raises(LinkTimeout):
            await reads.read_holding(1, 0, 1)  # a silence is remembered, too
        assert await reads.read_input(1, 0, 1) == (1,)
        assert reads.generation == 2
        await reads.close()


def _link(port):
    return Link(TcpEndpoint("127.0.0.1", port), timeout_s=0.2, clock=time.monotonic, read_only=True)
