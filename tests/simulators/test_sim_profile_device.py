"""Devices made from the shipped profiles and the plant, over real Modbus TCP: read right, and moved the right way."""

import time
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from sim_opened import driven, opened, until

from drivers.endpoint import TcpEndpoint
from drivers.errors import DeviceError, ModbusRefused
from drivers.link import Link
from drivers.profile.load import examine, find, shipped
from drivers.profile.model import Pacing
from simulators.profile_site import HOUSE, ProfileSite

PROFILES = {
    name: profile.model_copy(update={"pacing": Pacing()})
    for name in shipped()
    if not (profile := find(name, None)).sunspec
}
ROLES = [(name, role) for name, profile in sorted(PROFILES.items()) for role in profile.roles]
BATTERIES = [name for name, profile in sorted(PROFILES.items()) if profile.battery is not None]
CONTROLLED = [name for name in BATTERIES if PROFILES[name].battery.control is not None]
LIMITABLE = [name for name, profile in sorted(PROFILES.items()) if profile.pv is not None and profile.pv.control]
ARMED = [name for name in CONTROLLED if PROFILES[name].battery.control.dead_man.point is not None]


QUICK = replace(HOUSE, battery=replace(HOUSE.battery, lag_s=0.02))


def a_site(name):
    return ProfileSite(PROFILES[name], config=QUICK)


def by_profile(site, name, role, **spec):
    asks = role == "meter" and any(point.positive == "site" for point in PROFILES[name].points.values())
    return opened(site.port, role, profile=PROFILES[name], positive="import" if asks else None, **spec)


@pytest.mark.parametrize(("name", "role"), ROLES)
async def test_every_reading_of_every_profile_agrees_with_the_plant(name, role):
    async with a_site(name) as site, by_profile(site, name, role) as device:
        identity = await device.identify()
        assert identity.manufacturer == PROFILES[name].about.maker
        assert (identity.serial is None) == (PROFILES[name].identity.serial is None)
        got = await device.read()
        plant, battery = site.plant, site.plant.config.battery
        if role == "battery":
            expected = {
                "power_w": (plant.battery_w, 50.0),
                "soc_pct": (plant.soc_pct, 0.6),
                "capacity_wh": (battery.capacity_wh, 1.0),
                "rated_discharge_w": (battery.rated_discharge_w, 1.0),
                "rated_charge_w": (battery.rated_charge_w, 1.0),
                "live_discharge_limit_w": (plant.battery.discharge_limit_w, 250.0),
                "live_charge_limit_w": (plant.battery.charge_limit_w, 250.0),
                "temperature_c": (plant.battery.temperature_c, 0.6),
                "ready": (1.0, 0.0),
            }
        elif role == "pv":
            assert plant.pv_w > 100.0
            expected = {"power_w": (plant.pv_w, 10.0)}
        else:
            expected = {
                "power_w": (plant.grid_w, 60.0),
                "frequency_hz": (plant.frequency_hz, 0.06),
                "export_wh": (plant.export_wh, 120.0),
                "import_wh": (plant.import_wh, 120.0),
            }
        for field, (value, within) in expected.items():
            if field == "ready" or getattr(getattr(PROFILES[name], role), field) is not None:
                assert getattr(got, field).value == pytest.approx(value, abs=within), field


@pytest.mark.parametrize("power_w", [2_400.0, -3_000.0])
@pytest.mark.parametrize("name", CONTROLLED)
async def test_a_setpoint_moves_the_plant_the_right_way_and_is_read_back(name, power_w):
    async with a_site(name) as site, by_profile(site, name, "battery") as battery:
        await driven(battery, power_w, within_w=100.0)
        assert site.plant.battery_w == pytest.approx(power_w, abs=200.0)  # the sample may be one step ahead of it
        assert (await battery.write_setpoint(0.0)).ok

        async def at_rest():
            return (await battery.read()).power_w.value == pytest.approx(0.0, abs=50.0)

        await until(at_rest)


@pytest.mark.parametrize("name", LIMITABLE)
async def test_a_ceiling_reaches_the_plant_and_ends_by_itself(name):
    async with a_site(name) as site, by_profile(site, name, "pv", reversion_s=60) as pv:
        whole_w = (await pv.read()).power_w.value
        assert whole_w > 900.0
        outcome = await pv.write_ceiling(700.0)
        assert (outcome.ok, outcome.reason) == (True, "")

        async def limited():
            return (await pv.read()).power_w.value == pytest.approx(700.0, abs=20.0)

        async def free():
            return (await pv.read()).power_w.value == pytest.approx(whole_w, rel=0.1)

        await until(limited)
        assert (await pv.read()).limited.value == 1.0
        assert 0.0 < site.device.revert_at_utc_s - site.plant.utc_s <= 60.0
        site.device.revert_if_due(site.device.revert_at_utc_s)
        await until(free)
        assert (await pv.read()).limited.value == 0.0
        assert (await pv.write_ceiling(700.0)).ok
        await until(limited)
        assert (await pv.write_ceiling(None)).ok
        await until(free)


@pytest.mark.parametrize("name", CONTROLLED)
async def test_release_puts_the_owners_settings_back(name):
    control = PROFILES[name].battery.control
    async with a_site(name) as site, by_profile(site, name, "battery") as battery:
        before = {point: site.device.value(point) for point in control.save}
        assert (await battery.write_setpoint(1_000.0)).ok
        outcome = await battery.release()
        assert (outcome.ok, outcome.reason) == (True, "")
        assert {point: site.device.value(point) for point in control.save} == before
        assert not site.plant.setpoint_w


@pytest.mark.parametrize("name", ARMED)
async def test_a_dead_man_is_armed_and_ends_the_setpoint(name):
    async with a_site(name) as site, by_profile(site, name, "battery", reversion_s=60) as battery:
        assert (await battery.write_setpoint(1_000.0)).ok
        assert battery.has_dead_man is True
        left_s = site.device.revert_at_utc_s - site.plant.utc_s
        assert 0.0 < left_s <= 60.0
        site.device.revert_if_due(site.device.revert_at_utc_s)
        assert site.device.reversions == 1
        assert site.plant.setpoint_w is None


@pytest.mark.parametrize("name", [name for name in CONTROLLED if PROFILES[name].battery.ready])
async def test_a_device_that_stops_is_not_ready(name):
    async with a_site(name) as site, by_profile(site, name, "battery") as battery:
        assert (await battery.read()).ready.value == 1.0
        site.plant.ready = False
        assert (await battery.read()).ready.value == 0.0


async def test_a_power_electronics_unit_is_started_before_it_is_told_a_power():
    name = "sinexcel-pws2-30k"
    async with a_site(name) as site, by_profile(site, name, "battery") as battery:
        assert int(site.device.value("status")) & 0b1100 == 0
        assert (await battery.write_setpoint(1_000.0)).ok
        assert int(site.device.value("status")) & 0b1100 == 0b1100  # on, and tied to the grid


async def test_the_example_of_the_page_for_authors_is_sound_and_its_device_is_taken_over_moved_and_given_back(tmp_path):
    """The blocks of docs/adding-a-device.md, one after the other, are one profile."""
    page = (Path(__file__).parents[2] / "docs" / "adding-a-device.md").read_text().split("## 6.")[0]
    file = tmp_path / "acme-x1.toml"
    file.write_text("\n".join(block.split("```")[0] for block in page.split("```toml\n")[1:]))
    profile, problems = examine(file)
    assert [problem.where for problem in problems if problem.severity == "error"] == []
    quick = profile.model_copy(update={"pacing": Pacing()})
    async with (
        ProfileSite(quick, config=QUICK) as site,
        opened(site.port, "battery", profile=quick, reversion_s=30) as battery,
    ):
        assert site.device.value("state") != 2.0
        outcome = await battery.write_setpoint(-2_000.0)
        assert (outcome.ok, outcome.reason) == (True, "")
        assert (site.device.value("mode"), site.device.value("state"), site.device.value("timeout")) == (1.0, 2.0, 30.0)

        async def charging():
            return abs((await battery.read()).power_w.value + 2_000.0) < 50.0

        await until(charging)
        assert site.plant.battery_w == pytest.approx(-2_000.0, abs=50.0)
        assert (await battery.release()).ok
        assert (site.device.value("mode"), site.plant.setpoint_w) == (0.0, None)


async def test_after_a_restart_of_the_device_it_is_taken_over_again():
    name = "sungrow-sh"
    async with a_site(name) as site, by_profile(site, name, "battery") as battery:
        assert (await battery.write_setpoint(1_000.0)).ok
        site.server.faults[1].reboot = True

        async def lost():
            try:
                return (await battery.read()).held_setpoint_w.value is None
            except DeviceError:  # the connection goes with the restart
                return False

        await until(lost)
        assert site.device.value("ems_mode") == 0.0
        assert (await battery.write_setpoint(1_000.0)).ok
        assert site.device.value("ems_mode") == 3.0


async def test_the_device_refuses_what_is_out_of_range_in_part_or_not_writable():
    name = "sma-sunny-island"
    async with a_site(name) as site:
        link = Link(TcpEndpoint("127.0.0.1", site.port), timeout_s=2.0, clock=time.monotonic)
        try:
            for address, values, code in (
                (40149, (0, 100), 3),  # without the rest of its group
                (40150, (100,), 2),  # half a point
                (30845, (0, 50), 2),  # nobody writes the state of charge
                (12345, (1,), 2),
            ):
                with pytest.raises(ModbusRefused, match=f"exception {code} "):
                    await link.write_registers(1, address, values)
        finally:
            await link.close()
        assert site.plant.setpoint_w is None


def test_the_golden_registers_are_what_the_simulator_shows_too():
    """The simulator's own way into the registers, against the values worked out by hand."""
    from simulators.profile_registers import from_bytes, places_of, to_bytes

    folder = Path(__file__).parents[1] / "drivers" / "golden"
    looked_at = 0
    for name, profile in PROFILES.items():
        golden = tomllib.loads((folder / f"{name}.toml").read_text())
        places = places_of(profile, golden["unit"], {})
        for row in golden["points"]:
            place, words = places[row["name"]], row["hex"].split()
            assert (place.address, place.table, place.unit_id) == (
                row["at"],
                row["function"],
                row.get("unit", golden["unit"]),
            )
            if "value" not in row:
                continue
            data = bytes.fromhex("".join(words)).ljust(2 * place.size, b"\0")
            assert to_bytes(place, row["value"], row.get("sf", 0)) == data, (name, row)
            if not isinstance(row["value"], str):
                assert from_bytes(place, data, row.get("sf", 0)) == pytest.approx(row["value"], rel=1e-7)
            looked_at += 1
    assert looked_at > 200
