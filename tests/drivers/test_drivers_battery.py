"""The SunSpec battery: what its registers say, and what a setpoint does to them."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import time

import pytest
from drivers_peers import Clock, Memory, answering, bank, chain, model, next_request, peer, register_server, until

from agent.core.latch import Alarm
from agent.core.snapshot import Quality, Reading
from drivers.device import DeviceSpec, open_device
from drivers.endpoint import TcpEndpoint
from drivers.errors import DeviceError, IdentityMismatch, LinkTimeout, ModbusRefused, ModelMissing
from drivers.link import Link
from drivers.session import RECHECK_EVERY_S
from drivers.setpoint import RECENT_BEAT_S

COMMON = {"Mn": "Maker", "Md": "B-500", "Vr": "1.2", "SN": "A1"}
M701 = {"St": 1, "InvSt": 3, "ConnSt": 1, "W": 1234, "W_SF": 2}
M702 = {
    "WMaxRtg": 600, "WChaRteMaxRtg": 400, "WDisChaRteMaxRtg": 500,
    "WMax": 550, "WChaRteMax": 390, "WDisChaRteMax": 480, "W_SF": 3,
}  # fmt: skip
M704 = {
    "WSetEna": 0, "WSetMod": 0, "WSet": 777, "WSetRvrt": 5, "WSetPct": 11, "WSetPctRvrt": 12,
    "WSetEnaRvrt": 0, "WSetRvrtTms": 3600, "WSet_SF": 2,
}  # fmt: skip
M713 = {"WHRtg": 1000, "SoC": 555, "WH_SF": 3, "Pct_SF": -1}
M715 = {"LocRemCtl": 0, "ControllerHb": 0}
M802 = {
    "SoC": 44, "SoC_SF": 0, "LocRemCtl": 0, "State": 3, "V": 8000, "V_SF": -1,
    "CellVMax": 3412, "CellVMin": 3287, "CellV_SF": -3, "AChaMax": 500, "ADisChaMax": 400, "AMax_SF": 0,
}  # fmt: skip
DEFAULTS = {1: COMMON, 701: M701, 702: M702, 704: M704, 713: M713, 715: M715, 802: M802}


def a_map(**changes):
    """The battery's registers; `m702={...}` changes raw points, `m715=None` leaves the model out."""
    models = []
    for model_id, raws in DEFAULTS.items():
        change = changes.pop(f"m{model_id}", {})
        if change is not None:
            models.append(model(model_id, raws | change))
    assert not changes
    return chain(*models)


def at(model_id, offset, **changes):
    """The address of a register of a_map(**changes), by its published offset from the model's ID register."""
    registers = a_map(**changes)
    i = 2
    while registers[i] != model_id:
        i += 2 + registers[i + 1]
    return 40000 + i + offset


def a_battery(registers=None, *, clock=None, **spec):
    memory = Memory(bank(a_map() if registers is None else registers))
    clock = clock or Clock()
    return open_device(DeviceSpec("bess", "battery", 1, **spec), memory, clock), memory


async def sample(**changes):
    battery, _ = a_battery(a_map(**changes))
    return await battery.read()


async def test_it_says_who_it_is_and_what_it_offers():
    battery, _ = a_battery()
    identity = await battery.identify()
    assert (identity.manufacturer, identity.model, identity.serial, identity.firmware) == (
        "Maker",
        "B-500",
        "A1",
        "1.2",
    )
    assert identity.base_address == 40000
    assert identity.models == (1, 701, 702, 704, 713, 715, 802)
    assert battery.has_dead_man is True


async def test_a_sample_carries_every_value_scaled_and_in_our_sign():
    got = await sample()
    values = {
        name: value.value
        for name in (f.name for f in dataclasses.fields(got))
        if isinstance(value := getattr(got, name), Reading)
    }
    assert values == {
        "power_w": 123_400.0,
        "soc_pct": 55.5,
        "capacity_wh": 1_000_000.0,
        "rated_discharge_w": 500_000.0,
        "rated_charge_w": 400_000.0,
        "live_discharge_limit_w": 320_000.0,  # 400 A x 800 V
        "live_charge_limit_w": 390_000.0,  # the setting: 500 A x 800 V is more
        "ready": 1.0,
        "held_setpoint_w": None,
        "temperature_c": None,  # none of these models tells that of the cells
        "cell_min_v": 3.287,
        "cell_max_v": 3.412,
        "own_droop_from_hz": None,  # it has no model 711
        "alarms": 0.0,
    }
    assert got.device_id == "bess"


@pytest.mark.parametrize(
    ("registers", "told"),
    [
        ({"m701": {"Alrm": 1 << 6}}, Alarm.E_STOP),
        ({"m701": {"Alrm": 1 << 2}}, Alarm.BREAKER),
        ({"m701": {"Alrm": 1 << 3}}, Alarm.BREAKER),
        ({"m701": {"Alrm": 1}}, Alarm.INSULATION),
        ({"m701": {"Alrm": 1 << 4 | 1 << 7}}, 0),
        ({"m802": {"Evt1": 1 << 20}}, Alarm.BREAKER),
        ({"m802": {"Evt1": 1 << 22}}, Alarm.INSULATION),
        ({"m802": {"Evt1": 1 << 2}}, 0),
        ({"m802": {"State": 99}}, Alarm.BMS_FAULT),
        ({"m701": {"Alrm": 1 << 6}, "m802": {"State": 99}}, Alarm.E_STOP | Alarm.BMS_FAULT),
    ],
)
async def test_safety_alarms_are_told_and_warnings_are_none(registers, told):
    assert (await sample(**registers)).alarms.value == told


async def test_charging_is_negative():
    assert (await sample(m701={"W": -1000 % 65536})).power_w.value == -100_000.0


async def test_readings_carry_the_time_their_request_was_sent():
    clock = Clock(50.0)
    battery, memory = a_battery(clock=clock)
    await battery.identify()
    sent = {}

    def later(address):
        sent[address] = clock.now_s
        clock.now_s += 0.25

    memory.before_read = later
    got = await battery.read()
    assert sorted(sent.values()) == [50.0, 50.25, 50.5]
    assert got.power_w.read_mono_s == 50.0
    assert got.soc_pct.read_mono_s == 50.5
    assert got.live_discharge_limit_w.read_mono_s == 50.25  # the oldest of what it is made from
    assert got.ready.read_mono_s == 50.0


async def test_a_poll_takes_three_requests():
    battery, memory = a_battery()
    await battery.read()
    memory.reads.clear()
    await battery.read()
    assert len(memory.reads) == 3
    assert memory.writes == []


async def test_a_device_that_implements_nothing_yields_missing_and_no_numbers():
    nothing = chain(*[model(model_id, {}) for model_id in DEFAULTS])
    battery, _ = a_battery(nothing)
    got = await battery.read()
    assert got.has_dead_man is False
    for field in dataclasses.fields(got):
        value = getattr(got, field.name)
        if field.name not in {
            "device_id",
            "has_dead_man",
            "temperature_c",
            "serial",
            "own_droop_from_hz",
            "droop_offer",
        }:
            assert (value.value, value.quality, value.read_mono_s) == (None, Quality.MISSING, 1000.0), field.name


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"m713": {"SoC": 1001}}, "soc_pct"),
        ({"m802": {"CellVMin": 10001}}, "cell_min_v"),
        ({"m802": {"CellVMax": 65534}}, "cell_max_v"),
        ({"m701": {"W": 7501}}, "power_w"),
        ({"m701": {"W": -7501 % 65536}}, "power_w"),
    ],
)
async def test_the_implausible_is_no_number(change, field):
    reading = getattr(await sample(**change), field)
    assert (reading.value, reading.quality) == (None, Quality.IMPLAUSIBLE)


async def test_power_is_believed_up_to_half_again_the_larger_rating():
    assert (await sample(m701={"W": 7500})).power_w.value == 750_000.0


async def test_an_implausible_state_of_charge_is_not_papered_over_with_the_other_one():
    assert (await sample(m713={"SoC": 65000})).soc_pct.quality is Quality.IMPLAUSIBLE


async def test_state_of_charge_comes_from_the_battery_model_where_the_storage_model_has_none():
    assert (await sample(m713={"SoC": 0xFFFF})).soc_pct.value == 44.0
    assert (await sample(m713={"Pct_SF": 0x8000})).soc_pct.value == 44.0


async def test_ratings_fall_back_on_the_general_rating():
    got = await sample(m702={"WChaRteMaxRtg": 0xFFFF, "WDisChaRteMaxRtg": 0xFFFF})
    assert (got.rated_charge_w.value, got.rated_discharge_w.value) == (600_000.0, 600_000.0)


@pytest.mark.parametrize(
    ("change", "discharge_w", "charge_w"),
    [
        ({"m802": None}, 480_000.0, 390_000.0),
        ({"m802": None, "m702": {"WMax": 300}}, 300_000.0, 300_000.0),
        ({"m802": {"ADisChaMax": 0, "AChaMax": 0}}, 0.0, 0.0),
        ({"m802": {"ADisChaMax": 0xFFFF}}, 480_000.0, 390_000.0),
        ({"m802": {"V": 0xFFFF}}, 480_000.0, 390_000.0),
        ({"m702": {"WMax": 0xFFFF, "WChaRteMax": 0xFFFF, "WDisChaRteMax": 0xFFFF}}, 320_000.0, 400_000.0),
    ],
)
async def test_live_limits_are_the_smallest_that_is_told(change, discharge_w, charge_w):
    got = await sample(**change)
    assert got.live_discharge_limit_w.value == discharge_w
    assert got.live_charge_limit_w.value == charge_w


@pytest.mark.parametrize(
    ("change", "ready"),
    [
        ({"m701": {"St": 0}}, 0.0),
        ({"m701": {"ConnSt": 0}}, 0.0),
        ({"m701": {"InvSt": 6}}, 0.0),
        ({"m701": {"InvSt": 5}}, 0.0),
        ({"m701": {"InvSt": 7}}, 1.0),
        ({"m802": {"State": 1}}, 0.0),
        ({"m802": {"State": 99}}, 0.0),
        ({"m802": {"LocRemCtl": 1}}, 0.0),
        ({"m715": {"LocRemCtl": 1}}, 0.0),
        ({"m715": None, "m802": None}, 1.0),
        ({"m701": {"St": 0xFFFF}}, 1.0),
        ({"m701": {"ConnSt": 0xFFFF, "St": 0}}, 0.0),
        ({"m701": {"ConnSt": 0xFFFF, "St": 0xFFFF}}, None),
    ],
)
async def test_it_is_ready_when_every_state_that_it_tells_allows_power(change, ready):
    assert (await sample(**change)).ready.value == ready


@pytest.mark.parametrize(
    ("control", "held_w"),
    [
        ({"WSetEna": 1, "WSetMod": 1}, 77_700.0),
        ({"WSetEna": 1, "WSetMod": 1, "WSet": -50}, -5000.0),
        ({"WSetEna": 1, "WSetMod": 0}, None),
        ({"WSetEna": 0, "WSetMod": 1}, None),
        ({"WSetEna": 0xFFFF, "WSetMod": 1}, None),
        ({"WSetEna": 1, "WSetMod": 1, "WSet": 1 << 31}, None),
    ],
)
async def test_a_setpoint_is_held_only_while_control_by_watts_is_enabled(control, held_w):
    held = (await sample(m704=control)).held_setpoint_w
    assert held.value == held_w
    assert held.quality is (Quality.GOOD if held_w is not None else Quality.MISSING)


@pytest.mark.parametrize("missing", [1, 701, 702, 704, 713])
async def test_a_model_that_it_needs_is_missed_by_name(missing):
    battery, memory = a_battery(a_map(**{f"m{missing}": None}))
    with pytest.raises(ModelMissing, match=rf"SunSpec model {missing} .* is missing"):
        await battery.read()
    outcome = await battery.write_setpoint(1000.0)
    assert not outcome.ok
    assert f"model {missing}" in outcome.reason
    assert memory.writes == []


@pytest.mark.parametrize(("key", "other"), [("expected_model", "B-600"), ("expected_serial", "A2")])
async def test_the_wrong_device_is_named_and_never_written_to(key, other):
    battery, memory = a_battery(**{key: other})
    with pytest.raises(IdentityMismatch, match=rf"bess should have the .* '{other}', but '(B-500|A1)' answers"):
        await battery.identify()
    outcome = await battery.write_setpoint(1000.0)
    assert (outcome.ok, outcome.held_w) == (False, None)
    assert other in outcome.reason
    assert memory.writes == []


async def test_the_right_device_passes():
    battery, _ = a_battery(expected_model="B-500", expected_serial="A1")
    assert (await battery.read()).serial == "A1"
    assert (await battery.write_setpoint(1000.0)).ok


async def test_after_a_new_connection_the_device_is_identified_before_anything_is_believed_or_written():
    battery, memory = a_battery(expected_serial="A1")
    await battery.read()
    memory.generation += 1
    memory.registers = bank(chain(*[model(i, DEFAULTS[i] | ({"SN": "B9"} if i == 1 else {})) for i in DEFAULTS]))
    assert not (await battery.write_setpoint(5000.0)).ok
    with pytest.raises(IdentityMismatch, match="'B9' answers"):
        await battery.read()
    assert memory.writes == []


async def test_a_map_that_moved_with_a_reboot_is_found_again():
    battery, memory = a_battery()
    await battery.read()
    memory.generation += 1
    memory.registers = bank([0] * 10, 40000) | bank(a_map(m715=None), 0)
    assert (await battery.read()).soc_pct.value == 55.5


async def test_a_connection_replaced_in_the_middle_of_a_poll_makes_it_read_again():
    battery, memory = a_battery()
    await battery.read()
    memory.registers = bank(a_map(m713={"SoC": 300}))
    replaced = []

    def once(address):
        if not replaced:
            replaced.append(address)
            memory.generation += 1

    memory.before_read = once
    assert (await battery.read()).soc_pct.value == 30.0
    assert any(read == (40000, 2) for read in memory.reads[10:])


async def test_a_connection_replaced_while_identifying_makes_it_identify_again():
    battery, memory = a_battery()
    replaced = []

    def once(address):
        if address == at(704, 22) and not replaced:
            replaced.append(address)
            memory.generation += 1
            memory.registers = bank(
                chain(*[model(i, DEFAULTS[i] | ({"SN": "B9"} if i == 1 else {})) for i in DEFAULTS])
            )

    memory.before_read = once
    assert (await battery.identify()).serial == "B9"


async def test_a_connection_that_never_lasts_is_a_device_error():
    battery, memory = a_battery()
    memory.before_read = lambda _: setattr(memory, "generation", memory.generation + 1)
    with pytest.raises(DeviceError, match="replaced faster than the device can be read"):
        await battery.read()


async def test_looking_again_at_an_unchanged_identity_costs_one_request():
    clock = Clock()
    battery, memory = a_battery(clock=clock)
    await battery.read()
    memory.reads.clear()
    clock.now_s += RECHECK_EVERY_S
    await battery.read()
    await battery.read()
    assert len(memory.reads) == 1 + 3 + 3


async def test_a_device_swapped_behind_the_same_connection_is_noticed_within_a_minute():
    clock = Clock()
    battery, memory = a_battery(clock=clock, expected_serial="A1")
    await battery.read()
    memory.registers = bank(chain(*[model(i, DEFAULTS[i] | ({"SN": "B9"} if i == 1 else {})) for i in DEFAULTS]))
    clock.now_s += RECHECK_EVERY_S
    with pytest.raises(IdentityMismatch):
        await battery.read()


async def test_the_writer_and_the_poller_may_both_be_first():
    battery, memory = a_battery()
    got, outcome = await asyncio.gather(battery.read(), battery.write_setpoint(20_000.0))
    assert outcome.ok
    assert got.soc_pct.value == 55.5
    assert memory.reads.count((40000, 2)) == 1


async def test_a_setpoint_is_written_in_the_safe_order_and_enabled_last():
    battery, memory = a_battery(reversion_s=30)
    outcome = await battery.write_setpoint(-123_456.0)
    assert memory.writes == [
        (at(715, 5), (0, 1)),  # the heartbeats
        (at(802, 19), (1,)),
        (at(704, 26), (0, 0)),  # revert to 0 W
        (at(704, 30), (1, 0, 30)),  # reversion enabled, after 30 s
        (at(704, 23), (1, 0xFFFF, 0xFB2E)),  # in watts, -1234 x 100 W
        (at(704, 22), (1,)),  # enabled
    ]
    assert outcome.ok
    assert outcome.reason == ""
    assert (outcome.device_id, outcome.wanted_w, outcome.held_w) == ("bess", -123_456.0, -123_400.0)
    assert outcome.done_mono_s == 1000.0
    assert (await battery.read()).held_setpoint_w.value == -123_400.0


async def test_the_percent_setpoints_between_are_left_alone():
    battery, memory = a_battery()
    await battery.write_setpoint(5000.0)
    assert (memory.registers[at(704, 28)], memory.registers[at(704, 29)]) == (11, 12)


async def test_a_setpoint_is_rounded_toward_zero_so_that_it_stays_inside_its_limit():
    battery, _ = a_battery()
    assert (await battery.write_setpoint(199.0)).held_w == 100.0
    assert (await battery.write_setpoint(-199.0)).held_w == -100.0


async def test_each_setpoint_counts_the_heartbeat_on_and_polling_does_not():
    battery, memory = a_battery()
    for expected in (1, 2, 3):
        await battery.write_setpoint(0.0)
        await battery.read()
        assert memory.registers[at(715, 6)] == expected
        assert memory.registers[at(802, 19)] == expected


async def test_a_beat_counts_each_heartbeat_on_and_writes_nothing_else():
    battery, memory = a_battery()
    await battery.beat()
    assert memory.writes == [], "nobody is known at this address yet"
    await battery.identify()
    assert battery.has_heartbeat
    await battery.beat()
    await battery.beat()
    assert memory.writes == [(at(715, 5), (0, 1)), (at(802, 19), (1,)), (at(715, 5), (0, 2)), (at(802, 19), (2,))]


async def test_a_beat_never_waits_behind_a_setpoint_nor_over_another_connection():
    battery, memory = a_battery()
    await battery.identify()
    async with battery.writing:
        await battery.beat()
    memory.generation += 1
    await battery.beat()
    assert memory.writes == []


async def test_a_heartbeat_that_is_refused_is_not_asked_for_again_and_costs_nothing():
    battery, memory = a_battery()
    heartbeat = at(715, 5)

    def refuse(address, values):
        if address == heartbeat:
            raise ModbusRefused(2, endpoint="memory", unit_id=1, address=address)

    memory.on_write = refuse
    assert (await battery.write_setpoint(1000.0)).ok
    assert (await battery.write_setpoint(2000.0)).ok
    assert [address for address, _ in memory.writes].count(heartbeat) == 1


async def test_a_device_without_a_dead_man_says_so_and_its_reversion_is_left_alone():
    battery, memory = a_battery(a_map(m704={"WSetRvrtTms": 0xFFFFFFFF}))
    assert battery.has_dead_man is None
    assert (await battery.write_setpoint(1000.0)).ok
    assert battery.has_dead_man is False
    assert [address for address, _ in memory.writes] == [at(715, 5), at(802, 19), at(704, 23), at(704, 22)]


async def test_a_leftover_setpoint_is_never_enabled():
    """The device holds 77.7 kW from somebody else, disabled: at no write may it be enabled with that."""
    battery, memory = a_battery()
    enabled_with = []

    def watch(address, values):
        if address == at(704, 22):
            enabled_with.append(memory.registers[at(704, 25)])

    memory.on_write = watch
    await battery.write_setpoint(300.0)
    assert enabled_with == [3]


@pytest.mark.parametrize(
    ("offset", "value", "named"),
    [
        (22, 0, "704.WSetEna reads 0 where 1"),
        (23, 0, "704.WSetMod reads 0 where 1"),
        (25, 9, "704.WSet reads 900 where 1000"),
        (27, 9, "704.WSetRvrt reads 900 where 0"),
        (30, 0, "704.WSetEnaRvrt reads 0 where 1"),
        (32, 3600, "704.WSetRvrtTms reads 3600 where 60"),
        (32, 0, "704.WSetRvrtTms reads 0 where 60"),
        (55, 3, "704.WSet reads 10000 where 1000"),
        (55, 0x8000, "704.WSet is not implemented"),
    ],
)
async def test_what_is_accepted_but_not_applied_is_not_ok_and_named(offset, value, named):
    battery, memory = a_battery()
    stuck = at(704, offset)
    await battery.identify()
    memory.before_read = lambda _: memory.registers.update({stuck: value})
    outcome = await battery.write_setpoint(1000.0)
    assert not outcome.ok
    assert named in outcome.reason
    assert "accepted but not applied" in outcome.reason


async def test_a_setpoint_read_back_over_another_connection_proves_nothing():
    battery, memory = a_battery()
    await battery.identify()

    def replace(address, values):
        memory.generation += address == at(704, 22)

    memory.on_write = replace
    outcome = await battery.write_setpoint(1000.0)
    assert (outcome.ok, outcome.held_w) == (False, None)
    assert "the connection was replaced" in outcome.reason


async def test_two_setpoints_at_once_are_written_one_after_the_other():
    battery, memory = a_battery()
    await battery.identify()
    first, second = await asyncio.gather(battery.write_setpoint(1000.0), battery.write_setpoint(2000.0))
    assert (first.ok, first.held_w) == (True, 1000.0)
    assert (second.ok, second.held_w) == (True, 2000.0)
    addresses = [address for address, _ in memory.writes]
    beats, setpoint = addresses[:2], addresses[2:6]
    assert addresses == [*beats, *setpoint, *setpoint, *beats], "whoever heard of us just now has the setpoint first"


async def test_a_device_that_has_not_heard_of_us_lately_has_the_heartbeat_before_the_setpoint():
    clock = Clock()
    battery, memory = a_battery(clock=clock)
    await battery.write_setpoint(1000.0)
    clock.now_s += RECENT_BEAT_S + 0.1
    memory.writes.clear()
    await battery.write_setpoint(2000.0)
    assert [address for address, _ in memory.writes][:2] == [at(715, 5), at(802, 19)]


async def test_a_heartbeat_that_fails_after_the_setpoint_does_not_make_it_a_failure():
    battery, memory = a_battery()
    await battery.write_setpoint(1000.0)

    def lose(address, _values):
        if address == at(715, 5):
            raise LinkTimeout("no answer", endpoint="memory")

    memory.on_write = lose
    outcome = await battery.write_setpoint(2000.0)
    assert (outcome.ok, outcome.held_w) == (True, 2000.0)


async def test_the_heartbeat_never_counts_to_the_value_that_means_not_implemented():
    battery, memory = a_battery()
    await battery.identify()
    battery._heartbeat._count = 0xFFFF_FFFD
    seen = []
    for _ in range(3):
        await battery.write_setpoint(0.0)
        seen.append((memory.registers[at(715, 5)], memory.registers[at(715, 6)]))
    assert seen == [(0xFFFF, 0xFFFE), (0, 0), (0, 1)]


@pytest.mark.parametrize("power_w", [3e11, -3e11])
async def test_a_setpoint_that_the_register_cannot_hold_is_refused_before_anything_is_written(power_w):
    battery, memory = a_battery()
    outcome = await battery.write_setpoint(power_w)
    assert not outcome.ok
    assert "does not fit" in outcome.reason
    assert [address for address, _ in memory.writes if address < at(713, 0)] == []


async def test_a_device_that_told_no_values_for_a_moment_is_written_to_again_with_its_dead_man():
    from drivers.sunspec_layout import layout

    offsets = {name: layout(704).points[name].at for name in ("WSet_SF", "WSetRvrtTms", "WSetEna")}
    assert offsets["WSetEna"] == 22
    battery, memory = a_battery()
    good = dict(memory.registers)
    unknown = {at(704, offsets["WSet_SF"]): 0x8000, at(704, 22): 0xFFFF}
    unknown |= {at(704, offsets["WSetRvrtTms"] + half): 0xFFFF for half in (0, 1)}
    assert (await battery.write_setpoint(1000.0)).ok
    memory.before_read = lambda _: memory.registers.update(unknown)
    assert not (await battery.write_setpoint(1000.0)).ok
    assert not (await battery.write_setpoint(1000.0)).ok, "still nothing is known"
    memory.before_read = lambda _: None
    memory.registers.update({address: good[address] for address in unknown})
    outcome = await battery.write_setpoint(1000.0)
    assert (outcome.ok, outcome.held_w, battery.has_dead_man) == (True, 1000.0, True)


async def test_a_device_without_a_scale_factor_for_the_setpoint_is_not_written():
    battery, memory = a_battery(a_map(m704={"WSet_SF": 0x8000}))
    outcome = await battery.write_setpoint(1000.0)
    assert "WSet_SF is not implemented" in outcome.reason
    assert not any(at(704, 0) <= address < at(704, 67) for address, _ in memory.writes)


@pytest.mark.parametrize("power_w", [math.nan, math.inf, -math.inf])
async def test_a_setpoint_that_is_no_number_is_our_bug(power_w):
    battery, memory = a_battery()
    with pytest.raises(AssertionError):
        await battery.write_setpoint(power_w)
    assert memory.writes == []


@pytest.mark.parametrize("failing", [26, 30, 23, 22])
@pytest.mark.parametrize("error", [LinkTimeout, ModbusRefused])
async def test_a_write_that_fails_is_not_repeated_and_what_is_held_is_read_back(failing, error):
    battery, memory = a_battery(a_map(m704={"WSetEna": 1, "WSetMod": 1}))
    target = at(704, failing)

    def fail(address, values):
        if address == target:
            if error is LinkTimeout:
                raise LinkTimeout("no answer", endpoint="memory", unit_id=1, address=address)
            raise ModbusRefused(3, endpoint="memory", unit_id=1, address=address)

    memory.on_write = fail
    outcome = await battery.write_setpoint(1000.0)
    assert not outcome.ok
    assert outcome.held_w == (1000.0 if failing == 22 else 77_700.0)
    assert [address for address, _ in memory.writes].count(target) == 1
    assert memory.writes[-1][0] == target  # and nothing after it


async def test_release_leaves_a_held_zero_with_the_reversion_armed():
    battery, memory = a_battery()
    await battery.write_setpoint(50_000.0)
    outcome = await battery.release()
    assert (outcome.ok, outcome.held_w, outcome.wanted_w) == (True, 0.0, 0.0)
    assert [memory.registers[at(704, i)] for i in (22, 23, 24, 25, 26, 27, 30, 31, 32)] == [1, 1, 0, 0, 0, 0, 1, 0, 60]


async def test_over_a_real_socket_it_is_read_and_written():
    registers = bank(a_map())
    async with peer(register_server({7: registers})) as port:
        link = Link(TcpEndpoint("127.0.0.1", port), clock=time.monotonic)
        battery = open_device(DeviceSpec("bess", "battery", 7), link, time.monotonic)
        before_s = time.monotonic()
        assert (await battery.read()).soc_pct.value == 55.5
        outcome = await battery.write_setpoint(-40_000.0)
        assert outcome.ok, outcome.reason
        got = await battery.read()
        assert got.held_setpoint_w.value == -40_000.0
        assert before_s <= got.power_w.read_mono_s <= time.monotonic()
        assert link.stats.failures == 0
        await link.close()


@pytest.mark.parametrize("kind", ["silent", "garbage", "hangs up", "refuses"])
async def test_over_a_bad_link_reading_raises_a_device_error_and_writing_an_outcome(kind):
    async def silent(reader, writer, _):
        await reader.read()

    async def hang_up(reader, writer, _):
        await next_request(reader)

    scripts = {
        "silent": silent,
        "hangs up": hang_up,
        "garbage": answering(lambda asked: b"\xde\xad\xbe\xef" * 20),
        "refuses": answering(lambda asked: asked.frame(bytes([asked.pdu[0] | 0x80, 0xF0]))),
    }
    async with peer(scripts[kind]) as port:
        link = Link(TcpEndpoint("127.0.0.1", port), timeout_s=0.05, clock=time.monotonic)
        battery = open_device(DeviceSpec("bess", "battery", 1), link, time.monotonic)
        with pytest.raises(DeviceError, match=f"tcp://127.0.0.1:{port}"):
            await battery.read()
        outcome = await battery.write_setpoint(1000.0)
        assert (outcome.ok, outcome.held_w) == (False, None)
        assert str(port) in outcome.reason
        await link.close()


async def test_a_device_restarted_between_two_setpoints_gets_the_second_only_after_identifying_it():
    registers, restart, clock = bank(a_map()), asyncio.Event(), Clock()
    served = register_server({1: registers})

    async def script(reader, writer, connection):
        serving = asyncio.ensure_future(served(reader, writer, connection))
        leaving = asyncio.ensure_future(restart.wait())
        await asyncio.wait({serving, leaving}, return_when=asyncio.FIRST_COMPLETED)
        for task in (serving, leaving):
            task.cancel()
        await asyncio.gather(serving, leaving, return_exceptions=True)

    async with peer(script) as port:
        link = Link(TcpEndpoint("127.0.0.1", port), clock=clock)
        battery = open_device(DeviceSpec("bess", "battery", 1), link, clock)
        assert (await battery.write_setpoint(1000.0)).ok
        restart.set()
        await until(lambda: not link.connected)
        restart.clear()
        clock.now_s += 10
        outcome = await battery.write_setpoint(2000.0)
        assert not outcome.ok
        assert registers[at(704, 25)] == 10
        assert (await battery.write_setpoint(2000.0)).ok
        assert registers[at(704, 25)] == 20
        await link.close()


async def test_the_site_states_a_capacity_that_the_device_does_not():
    unknown = a_map(m713={"WHRtg": 0xFFFF})
    battery, _ = a_battery(unknown, capacity_wh=5e5)
    assert (await battery.read()).capacity_wh.value == 5e5
    battery, _ = a_battery(capacity_wh=5e5)
    assert (await battery.read()).capacity_wh.value == 1_000_000.0, "what the device says counts"
