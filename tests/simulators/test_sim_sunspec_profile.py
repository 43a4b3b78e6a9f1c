"""Devices made from the SunSpec profiles and the plant, over real Modbus TCP: read right, and moved the right way."""

from dataclasses import replace

import pytest
from sim_opened import opened, until

from drivers.errors import IdentityMismatch
from drivers.profile.load import find, shipped
from drivers.profile.model import Profile
from simulators.profile_site import HOUSE, ProfileSite

PROFILES = {name: profile for name in shipped() if (profile := find(name, None)).sunspec}
ROLES = [(name, role) for name, profile in sorted(PROFILES.items()) for role in profile.roles]
QUICK = replace(HOUSE, battery=replace(HOUSE.battery, lag_s=0.02))


def by_profile(site, profile, role):
    return opened(site.port, role, profile=profile, positive="import" if role == "meter" else None)


def stated(roles, *groups, **more):
    """A site's own profile of a device with these models."""
    about = {"maker": "Acme", "models": ["X"], "source": "test", "date": next(iter(PROFILES.values())).about.date}
    sunspec = {"roles": roles, "models": [list(group) for group in groups], **more}
    return Profile.model_validate({"schema": 1, "about": about, "sunspec": sunspec})


@pytest.mark.parametrize(("name", "role"), ROLES)
async def test_every_reading_agrees_with_the_plant(name, role):
    async with ProfileSite(PROFILES[name], config=QUICK) as site, by_profile(site, PROFILES[name], role) as device:
        got = await device.read()
        plant = site.plant
        expected = {
            "battery": {"power_w": (plant.battery_w, 50.0), "soc_pct": (plant.soc_pct, 0.6), "ready": (1.0, 0.0)},
            "pv": {"power_w": (plant.pv_w, 20.0), "limited": (0.0, 0.0)},
            "meter": {"power_w": (plant.grid_w, 60.0), "frequency_hz": (plant.frequency_hz, 0.06)},
        }[role]
        if role != "battery":
            assert abs(plant.pv_w) > 100.0
        for field, (value, within) in expected.items():
            assert getattr(got, field).value == pytest.approx(value, abs=within), field


BATTERIES = {
    "700": PROFILES["sunspec-battery"],
    "124": stated(["battery"], [124]),
    "714": PROFILES["sunspec-hybrid"],
    "160": stated(["battery", "pv"], [124], [160]),
}


def time_is_up(site):
    """Its dead-man fires, some time within the minute."""
    left_s = site.device.revert_at_utc_s - site.plant.utc_s
    assert 0.0 < left_s <= 60.0
    assert site.device.revert_if_due(site.device.revert_at_utc_s)
    assert site.device.reversions == 1


@pytest.mark.parametrize("kind", BATTERIES)
async def test_a_setpoint_moves_the_plant_and_its_dead_man_ends_it(kind):
    profile = BATTERIES[kind]
    async with ProfileSite(profile, config=QUICK) as site, by_profile(site, profile, "battery") as battery:
        outcome = await battery.write_setpoint(-2000.0)
        assert (outcome.ok, outcome.reason) == (True, "")

        async def followed():
            return (await battery.read()).power_w.value == pytest.approx(-2000.0, abs=100.0)

        await until(followed)
        time_is_up(site)
        assert not site.device.made.control.wanted_w
        if kind in ("700", "124"):  # on a hybrid 0 W at the inverter leaves its PV to the battery

            async def at_rest():
                return (await battery.read()).power_w.value == pytest.approx(0.0, abs=50.0)

            await until(at_rest)


@pytest.mark.parametrize(("model_id", "roles"), [(112, ["pv"]), (101, ["pv"]), (214, ["meter"]), (201, ["meter"])])
async def test_the_device_has_the_model_that_a_profile_asks_for(model_id, roles):
    profile = stated(roles, [model_id])
    async with ProfileSite(profile, config=QUICK) as site, by_profile(site, profile, roles[0]) as device:
        assert model_id in (await device.identify()).models


async def test_a_ceiling_reaches_the_plant_and_ends_by_itself():
    profile = PROFILES["sunspec-inverter"]
    async with ProfileSite(profile, config=QUICK) as site, by_profile(site, profile, "pv") as pv:
        assert (await pv.write_ceiling(800.0)).ok

        async def limited():
            return (await pv.read()).power_w.value == pytest.approx(800.0, abs=20.0)

        async def free():
            return (await pv.read()).power_w.value > 900.0

        await until(limited)
        time_is_up(site)
        await until(free)


async def test_the_ceiling_of_a_hybrid_leaves_to_pv_what_the_battery_takes():
    profile = PROFILES["sunspec-hybrid"]
    async with ProfileSite(profile, config=QUICK) as site, by_profile(site, profile, "battery") as battery:
        assert (await battery.write_setpoint(-500.0)).ok

        async def charging():
            return (await battery.read()).power_w.value == pytest.approx(-500.0, abs=30.0)

        await until(charging)
        async with by_profile(site, profile, "pv") as pv:
            outcome = await pv.write_ceiling(600.0)
            assert (outcome.ok, outcome.reason) == (True, "")
            assert outcome.held_w == pytest.approx(600.0, abs=20.0)

            async def limited():
                return (await pv.read()).power_w.value == pytest.approx(600.0, abs=40.0)

            async def free():
                return (await pv.read()).power_w.value > 900.0

            await until(limited)
            assert (await pv.write_ceiling(None)).ok
            await until(free)


async def test_the_simulated_maker_and_map_are_those_of_the_profile():
    profile = stated(["battery"], [704], maker="Acme.*", model="X1-.*K", base_address=500)
    async with ProfileSite(profile, config=QUICK) as site, by_profile(site, profile, "battery") as battery:
        identity = await battery.identify()
        assert (identity.base_address, identity.manufacturer) == (500, "Acme")


async def test_a_battery_alone_is_no_hybrid():
    async with ProfileSite(PROFILES["sunspec-battery"], config=QUICK) as site:
        async with by_profile(site, PROFILES["sunspec-hybrid"], "battery") as battery:
            with pytest.raises(IdentityMismatch, match="714 or 160"):
                await battery.read()
            assert not (await battery.write_setpoint(500.0)).ok
        assert site.plant.setpoint_w is None or site.plant.setpoint_w == 0.0
