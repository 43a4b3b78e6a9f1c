"""The Sungrow SH profile on a raw server: a hybrid with a split setpoint, a mode to take over, and a heartbeat.

The registers are worked out by hand from the maker's table (addresses on the wire, low word first).
"""

from __future__ import annotations

import pytest
from drivers_profiles import bank_of, bench, letters

from agent.core.snapshot import Quality
from drivers.errors import DeviceError, IdentityMismatch
from drivers.profile.load import find
from drivers.profile.model import Pacing

SELF_CONSUMPTION, FORCED, EXTERNAL = 0, 2, 3
CHARGE, DISCHARGE, STOP = 0xAA, 0xBB, 0xCC
INPUTS = bank_of(
    (4989, letters("A2290512345", 10)),
    (4999, [0xE03]),  # SH10RT
    (5000, [100]),  # 10 kW
    *((at, [0] * 20) for at in (5001, 5021)),
    (5016, [0x1388, 0]),  # 5000 W of PV
    (5213, [0xF830, 0xFFFF]),  # -2000 W: charging
    *((at, [0] * 27) for at in (5214 + 1,)),
    (5241, [4998]),
    (5600, [0xFE0C, 0xFFFF]),  # -500 W: exporting
    *((at, [0] * 25) for at in (5602,)),
    (5627, [106]),  # 10.6 kW
    (5628, [0] * 6),
    (5634, [25, 30]),  # A
    (5636, [0, 0]),
    (5638, [960]),  # 9.6 kWh
    *((at, [0] * 60) for at in (12990,)),
    (13019, [2000]),  # 200 V
    (13022, [555, 990, 0xFFCE]),  # 55.5 %, 99 %, -5 degC
    (13036, [0x0001, 0x0002]),  # 13107.3 kWh
    (13045, [0x3039, 0]),  # 1234.5 kWh
)
HOLDING = bank_of((13049, [SELF_CONSUMPTION, STOP, 0]), (13079, [0]))


@pytest.fixture
def profile():
    return find("sungrow-sh", None).model_copy(update={"pacing": Pacing()})  # its pauses are of no use here


async def test_it_says_who_it_is(profile):
    async with bench(profile, "battery", HOLDING, INPUTS) as it:
        identity = await it.device.identify()
    assert (identity.manufacturer, identity.model, identity.serial) == ("Sungrow", "SH10RT", "A2290512345")


async def test_a_battery_sample_is_in_our_units_and_sign(profile):
    async with bench(profile, "battery", HOLDING, INPUTS) as it:
        got = await it.device.read()
    assert got.power_w.value == -2000.0
    assert got.soc_pct.value == 55.5
    assert got.capacity_wh.value == pytest.approx(9600.0)
    assert (got.rated_discharge_w.value, got.rated_charge_w.value) == (10_600.0, 10_600.0)
    assert got.live_charge_limit_w.value == pytest.approx(5000.0)  # 25 A x 200 V
    assert got.live_discharge_limit_w.value == pytest.approx(6000.0)
    assert got.temperature_c.value == -5.0
    assert got.ready.value == 1.0
    assert got.held_setpoint_w.quality is Quality.MISSING  # in its owner's hands
    assert got.has_dead_man is True
    assert got.serial == "A2290512345"


async def test_pv_and_meter_of_the_same_inverter(profile):
    async with bench(profile, "pv", HOLDING, INPUTS) as it:
        pv = await it.device.read()
    async with bench(profile, "meter", HOLDING, INPUTS) as it:
        meter = await it.device.read()
    assert (pv.power_w.value, pv.has_limit) == (5000.0, False)
    assert (meter.power_w.value, meter.frequency_hz.value) == (500.0, 49.98)
    assert meter.export_wh.value == pytest.approx(1_234_500.0)
    assert meter.import_wh.value == pytest.approx(13_107_300.0)


async def test_the_first_setpoint_takes_over_and_arms_the_heartbeat_first(profile):
    async with bench(profile, "battery", HOLDING, INPUTS) as it:
        outcome = await it.device.write_setpoint(-3456.7)
        assert (outcome.ok, outcome.reason, outcome.held_w) == (True, "", -3456.0)
        assert it.written() == [(13049, (EXTERNAL,)), (13079, (60,)), (13051, (3456,)), (13050, (CHARGE,))]
        assert {pdu[0] for _, pdu in it.server.asked} == {3, 4, 6}
        assert (await it.device.read()).held_setpoint_w.value == -3456.0


async def test_later_setpoints_do_not_take_over_again(profile):
    async with bench(profile, "battery", HOLDING, INPUTS) as it:
        await it.device.write_setpoint(-3456.7)
        it.written()
        outcome = await it.device.write_setpoint(2000.0)
        assert outcome.held_w == 2000.0
        assert it.written() == [(13079, (60,)), (13051, (2000,)), (13050, (DISCHARGE,))]
        outcome = await it.device.write_setpoint(0.4)  # less than a watt is rest
        assert outcome.held_w == 0.0
        assert it.written() == [(13079, (60,)), (13050, (STOP,)), (13051, (0,))]


async def test_release_rests_and_puts_back_the_owners_mode(profile):
    async with bench(profile, "battery", {**HOLDING, 13049: FORCED}, INPUTS) as it:
        await it.device.write_setpoint(1000.0)
        it.written()
        outcome = await it.device.release()
        assert (outcome.ok, outcome.reason, outcome.held_w) == (True, "", None)
        assert it.written() == [(13079, (60,)), (13050, (STOP,)), (13051, (0,)), (13049, (FORCED,))]
        assert (await it.device.release()).ok
        assert it.written() == []  # it is in its owner's hands already


async def test_after_a_restart_of_ours_release_falls_back_to_self_consumption(profile):
    async with bench(profile, "battery", {**HOLDING, 13049: EXTERNAL, 13050: CHARGE, 13051: 500}, INPUTS) as it:
        assert (await it.device.read()).held_setpoint_w.value == -500.0
        assert (await it.device.release()).ok
        assert it.holding.registers[13049] == SELF_CONSUMPTION
        assert it.holding.registers[13050] == STOP


async def test_a_reboot_loses_the_mode_and_the_next_setpoint_takes_over_again(profile):
    async with bench(profile, "battery", HOLDING, INPUTS) as it:
        await it.device.write_setpoint(1000.0)
        it.holding.registers.update(HOLDING)
        it.written()
        assert (await it.device.read()).held_setpoint_w.value is None
        assert (await it.device.write_setpoint(1000.0)).ok
        assert it.written()[0] == (13049, (EXTERNAL,))


@pytest.mark.parametrize("register", [13049, 13050, 13051])
async def test_a_register_that_only_pretends_to_take_the_value_is_told(profile, register):
    async with bench(profile, "battery", HOLDING, INPUTS) as it:
        it.holding.deaf = {register}
        outcome = await it.device.write_setpoint(1500.0)
        assert not outcome.ok
        assert "accepted but not applied" in outcome.reason
        assert outcome.held_w != 1500.0


async def test_another_maker_is_never_written_to(profile):
    async with bench(profile, "battery", HOLDING, {**INPUTS, 4999: 0x0137}) as it:
        with pytest.raises(IdentityMismatch, match="device_type at least 3341"):
            await it.device.identify()
        outcome = await it.device.write_setpoint(1000.0)
        assert not outcome.ok
        assert "nothing is written to it" in outcome.reason
        assert it.written() == []


async def test_another_serial_than_the_site_file_states_is_never_written_to(profile):
    async with bench(profile, "battery", HOLDING, INPUTS, expected_serial="A1") as it:
        assert not (await it.device.write_setpoint(1000.0)).ok
        assert it.written() == []


async def test_sentinels_are_no_numbers(profile):
    none = {5213: 0xFFFF, 5214: 0x7FFF, 13022: 0xFFFF, 5638: 0xFFFF, 13024: 0x7FFF}
    async with bench(profile, "battery", HOLDING, INPUTS | none) as it:
        got = await it.device.read()
    for reading in (got.power_w, got.soc_pct, got.capacity_wh, got.temperature_c):
        assert (reading.value, reading.quality) == (None, Quality.MISSING)


async def test_a_register_that_this_firmware_lacks_is_left_out_and_told(profile):
    less = {at: value for at, value in INPUTS.items() if at != 13024}
    async with bench(profile, "battery", HOLDING, less) as it:
        assert it.device.refused == {}
        got = await it.device.read()
        assert (got.temperature_c.value, got.soc_pct.value) == (None, 55.5)
        assert list(it.device.refused) == ["battery_temperature"]
        assert "exception 2" in it.device.refused["battery_temperature"]


async def test_what_cannot_be_true_is_implausible(profile):
    async with bench(profile, "battery", HOLDING, INPUTS | {13022: 1001, 5213: 0x7FFF, 5214: 0x0002}) as it:
        got = await it.device.read()
    assert (got.soc_pct.value, got.soc_pct.quality) == (None, Quality.IMPLAUSIBLE)
    assert (got.power_w.value, got.power_w.quality) == (None, Quality.IMPLAUSIBLE)


@pytest.mark.parametrize("fault", ["short_reply", "wrong_function", "wrong_unit", "garbage", "wrong_transaction"])
async def test_a_false_answer_yields_no_value_and_the_device_comes_back(profile, fault):
    now = [100.0]
    async with bench(profile, "battery", HOLDING, INPUTS, clock=lambda: now[0]) as it:
        await it.device.read()
        setattr(it.faults, fault, True)
        with pytest.raises(DeviceError):
            await it.device.read()
        setattr(it.faults, fault, False)
        now[0] += 10.0
        assert (await it.device.read()).soc_pct.value == 55.5
