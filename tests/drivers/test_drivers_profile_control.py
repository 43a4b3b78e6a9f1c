"""Control by a profile, against a raw server on a real socket: every way a device may want to be told.

The profiles here are small and the registers low numbers: 1 to 9 are read, 20 and up are written.
"""

from __future__ import annotations

import asyncio
import time

import pytest
from drivers_peers import until
from drivers_profiles import a_profile, bench, words

from agent.core.snapshot import Quality
from drivers.profile.writing import LOOK_AGAIN_S

HEAD = """
[identity]
check = [{ point = "kind", is = 7 }]
[points]
kind   = { address = 1, type = "u16" }
power  = { address = 2, type = "i16", scale = 100, unit = "W", positive = "charge" }
soc    = { address = 3, type = "u16", unit = "%" }
rating = { address = 4, type = "u16", scale = 100, unit = "W", positive = "magnitude" }
state  = { address = 5, type = "bitfield16", bits = { fault = 0, grid_tied = 3 } }
switch = { address = 6, type = "enum16", values = { local = 0, remote = 1 } }
sf     = { address = 7, type = "i16" }
"""
BATTERY = """
[battery]
power_w = "power"
soc_pct = "soc"
rated_discharge_w = "rating"
rated_charge_w = "rating"
"""
NO_DEAD_MAN = 'dead_man = { none = "the map" }\n'
READS = {1: 7, 2: 0xFFF6, 3: 50, 4: 100, 5: 0b1000, 6: 1, 7: 0xFFFF}
WRITES = dict.fromkeys(range(20, 40), 0)
SIGNED = 'setpoint = [{ write = { point = "set", from = "power" } }]\n'


@pytest.fixture
def battery(tmp_path):
    """A bench with the battery that has these points and this control."""

    def make(points, control, *, battery=BATTERY, registers=None, **spec):
        text = HEAD + points + battery + "[battery.control]\n" + control
        return bench(a_profile(tmp_path, text), "battery", READS | WRITES | (registers or {}), **spec)

    return make


SET = 'set = { address = 20, type = "i16", scale = 100, unit = "W", positive = "charge", write = "volatile" }\n'


async def test_a_signed_setpoint_is_written_in_the_devices_own_sign_and_steps(battery):
    async with battery(SET, NO_DEAD_MAN + SIGNED) as it:
        outcome = await it.device.write_setpoint(-2580.0)
        assert (outcome.ok, outcome.reason, outcome.held_w) == (True, "", -2500.0)  # toward zero
        assert it.written() == [(20, (25,))]
        assert (await it.device.write_setpoint(300.0)).held_w == 300.0
        assert it.written() == [(20, (0xFFFD,))]
        sample = await it.device.read()
        assert (sample.held_setpoint_w.value, sample.power_w.value, sample.has_dead_man) == (300.0, 1000.0, False)


async def test_function_6_or_16_as_the_profile_says(battery):
    async with battery(SET, NO_DEAD_MAN + SIGNED) as it:
        await it.device.write_setpoint(100.0)
        assert [pdu[0] for _, pdu in it.server.asked if pdu[0] > 4] == [16]
    points = SET.replace('"volatile"', '"volatile", write_function = 6')
    async with battery(points, NO_DEAD_MAN + SIGNED) as it:
        await it.device.write_setpoint(100.0)
        assert [pdu[0] for _, pdu in it.server.asked if pdu[0] > 4] == [6]


async def test_a_wide_setpoint_in_low_word_first_order(battery):
    points = 'set = { address = 20, type = "i32", word_order = "low_first", unit = "W", positive = "discharge", write = "volatile" }\n'
    async with battery(points, NO_DEAD_MAN + SIGNED) as it:
        assert (await it.device.write_setpoint(-70_000.0)).held_w == -70_000.0
        assert it.written() == [(20, (0xEE90, 0xFFFE))]


async def test_a_float_setpoint_in_kilowatts(battery):
    points = 'set = { address = 20, type = "f32", unit = "kW", positive = "charge", write = "volatile" }\n'
    async with battery(points, NO_DEAD_MAN + SIGNED) as it:
        outcome = await it.device.write_setpoint(-1234.5)
        assert outcome.ok
        assert outcome.held_w == pytest.approx(-1234.5, rel=1e-6)
        assert it.written() == [(20, tuple(words("f", 1.2345)))]


async def test_a_setpoint_in_percent_of_a_rating_that_the_device_states(battery):
    points = (
        'set = { address = 20, type = "i16", scale = 0.01, unit = "%", positive = "discharge", write = "volatile" }\n'
    )
    control = NO_DEAD_MAN + 'setpoint = [{ write = { point = "set", from = "power", of = "rating" } }]\n'
    async with battery(points, control) as it:
        outcome = await it.device.write_setpoint(-2500.0)  # of 10 kW
        assert (outcome.reason, outcome.held_w) == ("", -2500.0)
        assert it.written() == [(20, (0x10000 - 2500,))]
        it.holding.registers[4] = 0
        outcome = await it.device.write_setpoint(1000.0)
        assert "rating, which is 100 %, has no value" in outcome.reason
        assert it.written() == []


async def test_a_scale_factor_register_applies_to_writes_too(battery):
    points = 'set = { address = 20, type = "i16", scale_from = "sf", unit = "W", positive = "discharge", write = "volatile" }\n'
    async with battery(points, NO_DEAD_MAN + SIGNED) as it:
        assert (await it.device.write_setpoint(12.34)).held_w == 12.3
        assert it.written() == [(20, (123,))]


async def test_two_registers_that_both_take_the_whole_setpoint(battery):
    points = """
out = { address = 20, type = "i16", scale = 0.01, unit = "%", positive = "discharge", write = "volatile" }
in  = { address = 21, type = "i16", scale = 0.01, unit = "%", positive = "charge", write = "volatile" }
mode = { address = 22, type = "u16", write = "volatile" }
"""
    control = (
        NO_DEAD_MAN
        + """
setpoint = [
  { one_frame = true, write = [{ point = "out", from = "power", of = "rating" }, { point = "in", from = "power", of = "rating" }] },
  { write = { point = "mode", set = 3 } },
]
"""
    )
    async with battery(points, control) as it:
        assert (await it.device.read()).held_setpoint_w.quality is Quality.MISSING  # the mode is not ours
        outcome = await it.device.write_setpoint(-5000.0)
        assert (outcome.reason, outcome.held_w) == ("", -5000.0)
        assert it.written() == [(20, (0x10000 - 5000, 5000)), (22, (3,))]


async def test_one_register_for_each_phase(battery):
    points = "".join(
        f'l{n} = {{ address = 2{n}, type = "i16", unit = "W", positive = "charge", write = "volatile" }}\n'
        for n in (1, 2, 3)
    )
    writes = ", ".join(f'{{ point = "l{n}", from = "power", share = 0.333333 }}' for n in (1, 2, 3))
    async with battery(points, NO_DEAD_MAN + f"setpoint = [{{ write = [{writes}] }}]\n") as it:
        outcome = await it.device.write_setpoint(-30_000.0)
        assert (outcome.reason, outcome.held_w) == ("", -30_000.0)
        assert it.written() == [(21, (10_000,)), (22, (10_000,)), (23, (10_000,))]


GROUP = """
value = { address = 20, type = "i32", unit = "W", positive = "discharge", write = "volatile", readable = false }
enable = { address = 22, type = "enum16", values = { on = 802, off = 803 }, write = "volatile", readable = false }
"""
GROUP_CONTROL = """
confirm = "acknowledgement"
setpoint = [{ one_frame = true, write = [{ point = "value", from = "power" }, { point = "enable", set = "on" }] }]
release = [{ write = { point = "enable", set = "off" } }]
"""


async def test_a_group_goes_in_one_frame_and_an_unreadable_setpoint_is_held_as_acknowledged(battery):
    now = [50.0]
    async with battery(GROUP, 'dead_man = { fixed = "30 s" }' + GROUP_CONTROL, clock=lambda: now[0]) as it:
        assert (await it.device.read()).held_setpoint_w.value is None
        outcome = await it.device.write_setpoint(1500.0)
        assert (outcome.ok, outcome.held_w) == (True, 1500.0)
        assert it.written() == [(20, (0, 1500, 802))]
        assert (await it.device.read()).held_setpoint_w.value == 1500.0
        now[0] += 31.0  # its dead-man has ended it
        assert (await it.device.read()).held_setpoint_w.value is None
        assert (await it.device.release()).ok
        assert it.written() == [(20, (0, 0, 802)), (22, (803,))]


async def test_a_setpoint_whose_mode_did_not_take_is_not_held(battery):
    points = GROUP + 'mode = { address = 30, type = "u16", write = "volatile" }\n'
    control = NO_DEAD_MAN + GROUP_CONTROL.replace(
        "setpoint = [{", 'setpoint = [{ write = { point = "mode", set = 4 } }, {'
    )
    async with battery(points, control) as it:
        it.holding.deaf = {30}
        outcome = await it.device.write_setpoint(1500.0)
        assert (outcome.ok, outcome.held_w) == (False, None)
        assert "mode reads 0 where 4 was written" in outcome.reason
        assert (await it.device.read()).held_setpoint_w.value is None


async def test_what_was_acknowledged_does_not_outlive_its_connection(battery):
    now = [50.0]
    async with battery(GROUP, NO_DEAD_MAN + GROUP_CONTROL, clock=lambda: now[0]) as it:
        await it.device.write_setpoint(1500.0)
        it.server.drop_connections()
        await until(lambda: not it.link.connected)
        now[0] += 10.0
        assert (await it.device.read()).held_setpoint_w.value is None


async def test_a_group_that_takes_too_long_is_not_applied(battery):
    now = [50.0]
    points = SET + 'two = { address = 21, type = "u16", write = "volatile" }\n'
    control = (
        NO_DEAD_MAN
        + 'group_within = "60 s"\nsetpoint = [{ write = [{ point = "set", from = "power" }, { point = "two", set = 1 }] }]\n'
    )
    async with battery(points, control, clock=lambda: now[0]) as it:
        assert (await it.device.write_setpoint(100.0)).ok
        it.holding.on_write = lambda address, values: now.__setitem__(0, now[0] + 40.0)
        outcome = await it.device.write_setpoint(200.0)
        assert not outcome.ok
        assert "took 80.0 s, the device wants them within 60 s" in outcome.reason


async def test_a_device_in_local_control_is_not_written_to(battery):
    control = NO_DEAD_MAN + 'remote = { point = "switch", is = "remote" }\n' + SIGNED
    async with battery(SET, control, registers={6: 0}) as it:
        outcome = await it.device.write_setpoint(100.0)
        assert "does not accept remote control (switch is 'remote' does not hold)" in outcome.reason
        assert it.written() == []
        assert (await it.device.read()).ready.value == 0.0
        it.holding.registers[6] = 1
        assert (await it.device.write_setpoint(100.0)).ok
        assert (await it.device.read()).ready.value == 1.0
        it.holding.registers[6] = 0
        it.written()
        assert not (await it.device.write_setpoint(200.0)).ok
        assert it.written() == []


START = """
clear = { address = 21, type = "u16", write = "command", readable = false }
start = { address = 22, type = "u16", write = "command", readable = false }
"""
START_CONTROL = (
    NO_DEAD_MAN
    + SIGNED
    + """
take_over = [
  { when = { point = "state", bits = ["fault"] }, write = { point = "clear", set = 1 }, until = { point = "state", no_bits = ["fault"] }, within = "5 s" },
  { write = { point = "start", set = 1 }, until = { point = "state", bits = ["grid_tied"] }, within = "5 s" },
]
release = [{ write = { point = "set", set = 0 } }]
"""
)


async def test_a_start_sequence_waits_for_what_must_come_true(battery):
    async with battery(SET + START, START_CONTROL, registers={5: 0b0001}) as it:
        looks = []

        def answer(address, values):
            if address == 21:
                it.holding.registers[5] = 0
            if address == 22:
                looks.append(len(it.holding.reads))

        def come_up():
            if looks and len(it.holding.reads) >= looks[0] + 2:
                it.holding.registers[5] = 0b1000

        it.holding.on_write, it.holding.before_read = answer, come_up
        outcome = await it.device.write_setpoint(500.0)
        assert (outcome.reason, outcome.held_w) == ("", 500.0)
        assert it.written() == [(21, (1,)), (22, (1,)), (20, (0xFFFB,))]
        assert (await it.device.write_setpoint(600.0)).ok
        assert it.written() == [(20, (0xFFFA,))]  # commands are not for every setpoint


async def test_a_device_that_runs_already_is_not_started_again(battery):
    async with battery(SET + START, START_CONTROL) as it:
        assert (await it.device.write_setpoint(500.0)).ok
        assert it.written() == [(20, (0xFFFB,))]


async def test_a_device_that_does_not_come_up_gets_no_setpoint(battery):
    now = [50.0]
    async with battery(SET + START, START_CONTROL, registers={5: 0}, clock=lambda: now[0]) as it:
        it.holding.before_read = lambda: now.__setitem__(0, now[0] + 2.0)
        outcome = await it.device.write_setpoint(500.0)
        assert not outcome.ok
        assert now[0] < 50.0 + 25.0, "a slow device is not asked as often as a quick one would be"
        assert "take_over: state bits ['grid_tied'] did not come true within 5 s, it is none" in outcome.reason
        assert it.written() == [(22, (1,))]


async def test_waiting_ends_although_the_clock_stands_still(battery):
    control = START_CONTROL.replace("5 s", f"{2000 * LOOK_AGAIN_S:g} ms")
    async with battery(SET + START, control, registers={5: 0}, clock=lambda: 50.0) as it:
        assert not (await it.device.write_setpoint(500.0)).ok


MODE = 'mode = { address = 21, type = "enum16", write = "stored", values = { own = 4, remote = 9, other = 2 } }\n'
MODE_CONTROL = (
    SIGNED
    + """
save = { mode = "own" }
take_over = [{ write = { point = "mode", set = "remote" } }]
release = [{ write = { point = "mode", from = "saved" } }]
"""
)


async def test_the_owners_setting_is_saved_and_put_back(battery):
    async with battery(SET + MODE, NO_DEAD_MAN + MODE_CONTROL, registers={21: 2}) as it:
        await it.device.write_setpoint(100.0)
        assert it.holding.registers[21] == 9
        assert (await it.device.release()).ok
        assert it.holding.registers[21] == 2


async def test_a_mode_that_does_not_go_back_is_told(battery):
    async with battery(SET + MODE, NO_DEAD_MAN + MODE_CONTROL, registers={21: 2}) as it:
        await it.device.write_setpoint(100.0)
        it.holding.deaf = {21}
        outcome = await it.device.release()
        assert not outcome.ok
        assert "mode reads remote where other was written" in outcome.reason


async def test_a_device_that_does_not_rest_is_given_back_all_the_same(battery):
    async with battery(SET + MODE, NO_DEAD_MAN + MODE_CONTROL, registers={21: 2}) as it:
        await it.device.write_setpoint(100.0)
        it.holding.refused = {20}
        outcome = await it.device.release()
        assert not outcome.ok
        assert "exception 3" in outcome.reason
        assert it.holding.registers[21] == 2


async def test_a_device_that_was_never_taken_over_is_left_alone(battery):
    async with battery(SET + MODE, NO_DEAD_MAN + MODE_CONTROL, registers={21: 2}) as it:
        assert (await it.device.release()).ok
        assert it.written() == []


async def test_a_stored_register_is_written_only_when_it_differs_and_within_its_budget(battery):
    now = [50.0]
    control = NO_DEAD_MAN + "stored_writes_per_day = 2\n" + MODE_CONTROL
    async with battery(SET + MODE, control, registers={21: 2}, clock=lambda: now[0]) as it:
        for _ in range(2):
            assert (await it.device.write_setpoint(100.0)).ok
            it.holding.registers[21] = 2  # somebody changes it back
            assert (await it.device.read()).held_setpoint_w.value is None
        it.written()
        outcome = await it.device.write_setpoint(100.0)
        assert "its 2 writes of the last 24 h are spent" in outcome.reason
        assert it.written() == []
        now[0] += 86_400.0
        assert (await it.device.write_setpoint(100.0)).ok


async def test_a_stored_register_that_holds_the_value_already_is_not_written(battery):
    points = SET + MODE + 'extra = { address = 22, type = "u16", write = "volatile" }\n'
    control = NO_DEAD_MAN + MODE_CONTROL.replace(
        'set = "remote" } }]', 'set = "remote" } }, { write = { point = "extra", set = 5 } }]'
    )
    async with battery(points, control, registers={21: 9}) as it:
        assert (await it.device.write_setpoint(100.0)).ok
        assert it.written() == [(22, (5,)), (20, (0xFFFF,))]


TIMER = SET + 'timer = { address = 21, type = "u16", unit = "s", write = "volatile", write_range = [10, 120] }\n'
TIMER_CONTROL = 'dead_man = { point = "timer", reverts_to = "rest" }\n' + SIGNED


async def test_the_dead_man_is_armed_before_each_setpoint_and_read_back(battery):
    async with battery(TIMER, TIMER_CONTROL, reversion_s=30) as it:
        assert (await it.device.write_setpoint(100.0)).ok
        assert it.written() == [(21, (30,)), (20, (0xFFFF,))]
        assert (await it.device.read()).has_dead_man is True
        it.holding.on_write = lambda address, values: it.holding.registers.__setitem__(21, 29)  # it counts down
        assert (await it.device.write_setpoint(200.0)).ok


@pytest.mark.parametrize("how", ["deaf", "refused"])
async def test_a_device_that_may_not_keep_its_dead_man_is_controlled_and_told_without_it(battery, how):
    control = TIMER_CONTROL.replace("reverts_to", "if_kept = true, reverts_to")
    async with battery(TIMER, control, reversion_s=30) as it:
        setattr(it.holding, how, {21})
        outcome = await it.device.write_setpoint(100.0)
        assert (outcome.ok, outcome.reason) == (True, "")
        assert (await it.device.read()).has_dead_man is False
        it.written()
        assert (await it.device.write_setpoint(200.0)).ok
        assert it.written() == [(20, (0xFFFE,))], "the register is left alone from then on"
        setattr(it.holding, how, set())
        it.server.drop_connections()  # it may come back with another firmware
        await until(lambda: not it.link.connected)
        await until(lambda: time.monotonic() >= it.link.retry_mono_s(1))
        await it.device.read()
        assert (await it.device.write_setpoint(300.0)).ok
        assert it.written() == [(21, (30,)), (20, (0xFFFD,))]
        assert (await it.device.read()).has_dead_man is True


@pytest.mark.parametrize("timer", [0, 60])
async def test_a_dead_man_that_is_not_armed_as_written_is_told(battery, timer):
    async with battery(TIMER, TIMER_CONTROL, reversion_s=30, registers={21: timer}) as it:
        it.holding.deaf = {21}
        outcome = await it.device.write_setpoint(100.0)
        assert not outcome.ok
        assert f"the dead-man timer reads {timer} where 30 was written" in outcome.reason


async def test_a_dead_man_that_cannot_be_expressed_stops_every_setpoint(battery):
    async with battery(TIMER, TIMER_CONTROL, reversion_s=5) as it:
        outcome = await it.device.write_setpoint(100.0)
        assert "timer: 5 s is refused: the device takes 10 to 120" in outcome.reason
        assert it.written() == []
    minutes = TIMER.replace('unit = "s"', 'unit = "min"').replace(", write_range = [10, 120]", "")
    async with battery(minutes, TIMER_CONTROL, reversion_s=45) as it:
        outcome = await it.device.write_setpoint(100.0)
        assert "timer counts in steps of 1 min, longer than the dead_man of 45 s" in outcome.reason
        assert it.written() == []


async def test_a_dead_man_that_polling_feeds_does_not_count_as_one(battery):
    async with battery(SET, 'dead_man = { fixed = "5 s", fed_by_reads = true }\n' + SIGNED) as it:
        assert it.device.has_dead_man is False


async def test_between_setpoints_a_beat_counts_on_while_it_is_under_control(battery):
    points = SET + 'beat = { address = 21, type = "u16", write = "volatile" }\n'
    async with battery(points, NO_DEAD_MAN + 'heartbeat = "beat"\n' + SIGNED) as it:
        await it.device.read()
        assert it.device.has_heartbeat
        await it.device.beat()
        assert it.written() == [], "it is not under control yet"
        assert (await it.device.write_setpoint(100.0)).ok
        it.written()
        await it.device.beat()
        await it.device.beat()
        assert it.written() == [(21, (2,)), (21, (3,))]
    async with battery(SET, NO_DEAD_MAN + SIGNED) as it:
        assert (await it.device.write_setpoint(100.0)).ok
        it.written()
        await it.device.beat()
        assert (it.device.has_heartbeat, it.written()) == (False, [])


async def test_a_heartbeat_counts_up_with_each_setpoint_and_not_with_polls(battery):
    points = SET + 'beat = { address = 21, type = "u16", write = "volatile" }\n'
    async with battery(points, NO_DEAD_MAN + 'heartbeat = "beat"\n' + SIGNED) as it:
        await it.device.write_setpoint(100.0)
        await it.device.read()
        await it.device.write_setpoint(100.0)
        assert it.written() == [(21, (1,)), (20, (0xFFFF,)), (21, (2,)), (20, (0xFFFF,))]


async def test_a_setpoint_beyond_what_the_device_takes_is_not_sent(battery):
    points = SET.replace('"volatile"', '"volatile", write_range = [-1000, 1000]')
    async with battery(points, NO_DEAD_MAN + SIGNED) as it:
        outcome = await it.device.write_setpoint(1100.0)
        assert "set: -1100 W is refused: the device takes -1000 to 1000" in outcome.reason
        assert it.written() == []


async def test_a_refused_write_says_so_and_what_the_device_still_holds(battery):
    async with battery(SET, NO_DEAD_MAN + SIGNED, registers={20: 5}) as it:
        it.holding.refused = {20}
        outcome = await it.device.write_setpoint(1000.0)
        assert (outcome.ok, outcome.held_w) == (False, -500.0)
        assert "exception 3" in outcome.reason


async def test_a_busy_device_is_asked_once_more_and_not_again(battery):
    async with battery(SET, NO_DEAD_MAN + SIGNED) as it:
        it.holding.answers = {20: [6]}
        assert (await it.device.write_setpoint(1000.0)).ok
        assert it.written() == [(20, (0xFFF6,))] * 2
        it.holding.answers = {20: [6, 6]}
        outcome = await it.device.write_setpoint(500.0)
        assert (outcome.ok, outcome.held_w) == (False, 1000.0)
        assert "exception 6" in outcome.reason
        assert len(it.written()) == 2


async def test_a_device_that_still_works_on_a_write_is_read_back_until_it_shows(battery):
    async with battery(SET, NO_DEAD_MAN + SIGNED) as it:
        it.holding.answers = {20: [5]}
        outcome = await it.device.write_setpoint(1000.0)
        assert (outcome.ok, outcome.held_w, outcome.reason) == (True, 1000.0, "")
        assert len(it.written()) == 1


async def test_a_device_that_says_that_it_works_and_does_not_is_found_out(battery):
    async with battery(SET, NO_DEAD_MAN + SIGNED) as it:
        it.holding.answers = {20: [5]}

        def never():
            it.holding.later = []

        it.holding.before_read = never
        outcome = await it.device.write_setpoint(1000.0)
        assert "accepted but not applied" in outcome.reason
        assert len(it.holding.reads) < 20


async def test_a_device_that_only_pretends_is_found_out(battery):
    async with battery(SET, NO_DEAD_MAN + SIGNED) as it:
        it.faults.lie = True
        outcome = await it.device.write_setpoint(1000.0)
        assert (outcome.ok, outcome.held_w) == (False, 0.0)
        assert "accepted but not applied: set reads 0 where -1000 was written" in outcome.reason


async def test_a_connection_lost_before_the_read_back_proves_nothing(battery):
    async with battery(SET, NO_DEAD_MAN + SIGNED) as it:
        await it.device.identify()
        it.holding.on_write = lambda address, values: it.server.drop_connections()
        outcome = await it.device.write_setpoint(1000.0)
        assert (outcome.ok, outcome.held_w) == (False, None)
        assert outcome.reason


async def test_another_device_at_the_same_address_is_found_before_it_is_written_to(battery):
    now = [50.0]
    async with battery(SET, NO_DEAD_MAN + SIGNED, clock=lambda: now[0]) as it:
        assert (await it.device.write_setpoint(100.0)).ok
        it.holding.registers[1] = 8
        now[0] += 61.0
        it.written()
        outcome = await it.device.write_setpoint(200.0)
        assert "it says 8" in outcome.reason
        assert it.written() == []


async def test_a_battery_without_control_can_only_be_looked_at(tmp_path):
    async with bench(a_profile(tmp_path, HEAD + BATTERY), "battery", READS) as it:
        outcome = await it.device.write_setpoint(100.0)
        assert "has no [battery.control]" in outcome.reason
        assert (await it.device.read()).soc_pct.value == 50.0
        assert it.device.has_dead_man is None
        it.holding.registers[3] = 101
        assert (await it.device.read()).soc_pct.quality is Quality.IMPLAUSIBLE


async def test_the_site_states_a_capacity_that_the_device_does_not(battery, tmp_path):
    async with battery(SET, NO_DEAD_MAN + SIGNED, capacity_wh=9000.0) as it:
        got = await it.device.read()
        assert got.capacity_wh.value == 9000.0
        assert got.capacity_wh.read_mono_s == got.power_w.read_mono_s
    states = BATTERY + 'capacity_wh = "size"\n'
    size = 'size = { address = 8, type = "u16", unit = "kWh", sentinels = [0xFFFF], plausible = [1, 100] }\n'
    for raw, value in ((5, 5000.0), (0xFFFF, 9000.0), (200, None)):
        told = {"battery": states, "capacity_wh": 9000.0, "registers": {8: raw}}
        async with battery(SET + size, NO_DEAD_MAN + SIGNED, **told) as it:
            assert (await it.device.read()).capacity_wh.value == value


async def test_a_share_in_a_product_counts_as_a_part_of_one(battery):
    health = BATTERY + 'capacity_wh = { product = ["size", "soc"] }\n'
    size = 'size = { address = 8, type = "u16", unit = "kWh" }\n'
    async with battery(SET + size, NO_DEAD_MAN + SIGNED, battery=health, registers={8: 10}) as it:
        assert (await it.device.read()).capacity_wh.value == 5000.0  # 10 kWh x 50 %


async def test_ready_needs_every_condition_and_is_missing_while_one_is_unknown(battery):
    ready = (
        BATTERY
        + 'ready = [{ point = "state", bits = ["grid_tied"], no_bits = ["fault"] }, { point = "switch", is_not = "local" }]\n'
    )
    async with battery(SET, NO_DEAD_MAN + SIGNED, battery=ready) as it:
        for registers, expected in (({}, 1.0), ({5: 0}, 0.0), ({5: 0b1001}, 0.0), ({6: 0}, 0.0)):
            it.holding.registers.update(READS | registers)
            assert (await it.device.read()).ready.value == expected
        it.holding.registers.update(READS)
        del it.holding.registers[6]
        async with battery(SET, NO_DEAD_MAN + SIGNED, battery=ready) as other:
            del other.holding.registers[6]
            assert (await other.device.read()).ready.quality is Quality.MISSING


async def test_a_connection_replaced_before_the_read_back_proves_nothing_either(battery, tmp_path):
    now = [50.0]
    text = (
        '[pacing]\nbefore_read_back = "50 ms"\n' + HEAD + SET + BATTERY + "[battery.control]\n" + NO_DEAD_MAN + SIGNED
    )
    async with bench(a_profile(tmp_path, text), "battery", READS | WRITES, clock=lambda: now[0]) as it:
        await it.device.identify()

        def swap(address, values):
            loop = asyncio.get_running_loop()
            loop.call_later(0.005, it.server.drop_connections)
            loop.call_later(0.03, lambda: now.__setitem__(0, now[0] + 10.0))

        it.holding.on_write = swap
        outcome = await it.device.write_setpoint(1000.0)
        assert (outcome.ok, outcome.held_w) == (False, None)
        assert "the connection was replaced before the setpoint was read back" in outcome.reason


async def test_a_register_that_take_over_and_setpoints_share_belongs_to_the_setpoints(battery):
    points = SET + 'word = { address = 21, type = "enum16", write = "volatile", values = { idle = 1, go = 2 } }\n'
    control = (
        NO_DEAD_MAN
        + """
take_over = [{ write = { point = "word", set = "idle" } }]
setpoint = [{ write = [{ point = "set", from = "power" }, { point = "word", set = "go" }] }]
release = [{ write = { point = "word", set = "idle" } }]
"""
    )
    async with battery(points, control) as it:
        assert (await it.device.write_setpoint(500.0)).reason == ""
        assert (await it.device.read()).held_setpoint_w.value == 500.0
        it.written()
        assert (await it.device.write_setpoint(600.0)).ok
        assert it.written() == [(20, (0xFFFA,)), (21, (2,))]
        assert (await it.device.release()).ok
        assert it.holding.registers[21] == 1


async def test_reading_back_a_command_tells_nothing(battery):
    points = SET + 'start = { address = 21, type = "u16", write = "command" }\n' + MODE.replace("21", "22")
    control = NO_DEAD_MAN + MODE_CONTROL.replace(
        "take_over = [", 'take_over = [{ write = { point = "start", set = 1 } }, '
    )
    async with battery(points, control) as it:
        it.holding.deaf = {21}  # it always reads 0
        assert (await it.device.write_setpoint(500.0)).reason == ""
        assert (await it.device.read()).held_setpoint_w.value == 500.0
        it.written()
        assert (await it.device.write_setpoint(600.0)).ok
        assert it.written() == [(20, (0xFFFA,))]
