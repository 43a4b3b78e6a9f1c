"""PV inverters and meters made from profiles, on a raw server."""

from __future__ import annotations

import pytest
from drivers_peers import until
from drivers_profiles import a_profile, bank_of, bench, words

from agent.core.latch import Alarm
from agent.core.snapshot import Quality
from drivers.errors import DeviceError, IdentityMismatch
from drivers.profile.load import find
from drivers.spec import BadSpec, DeviceSpec

METER = bank_of(
    (0, words("f", 230.5) + words("f", 231.0) + words("f", 229.0)),
    (6, words("f", 1.0) * 3),
    (12, words("f", 100.0) * 3),
    (18, [0] * 34),
    (52, words("f", 1234.5)),
    (54, [0] * 16),
    (70, words("f", 50.012) + words("f", 1.5) + words("f", 2000.25) + [0, 0]),
)


@pytest.mark.parametrize(("positive", "power_w"), [("import", -1234.5), ("export", 1234.5)])
async def test_a_meter_whose_sign_the_site_states(positive, power_w):
    async with bench(find("eastron-sdm630", None), "meter", {}, METER, positive=positive) as it:
        got = await it.device.read()
        assert [int.from_bytes(pdu[3:5], "big") % 2 for _, pdu in it.server.asked] == [0] * len(it.server.asked)
        assert {pdu[0] for _, pdu in it.server.asked} == {4}
    assert got.power_w.value == power_w
    assert got.frequency_hz.value == pytest.approx(50.012, abs=1e-5)
    assert (got.import_wh.value, got.export_wh.value) == (1500.0, 2_000_250.0)


async def test_what_is_no_mains_meter_is_not_believed():
    async with bench(find("eastron-sdm630", None), "meter", {}, METER | {70: 0, 71: 0}, positive="import") as it:
        with pytest.raises(
            IdentityMismatch, match=r"frequency at least 42\.5 and at most 69 Hz is expected, it says 0"
        ):
            await it.device.read()


async def test_a_meter_that_says_no_numbers_tells_nothing():
    nan = bank_of((52, [0x7FC0, 0]), (72, [0x7FC0, 0]))
    async with bench(find("eastron-sdm630", None), "meter", {}, METER | nan, positive="import") as it:
        got = await it.device.read()
    assert (got.power_w.quality, got.import_wh.quality) == (Quality.MISSING, Quality.MISSING)
    assert got.export_wh.value == 2_000_250.0


async def test_an_answer_cut_short_yields_no_value():
    async with bench(find("eastron-sdm630", None), "meter", {}, METER, positive="import") as it:
        await it.device.read()
        it.faults.short_reply = True
        with pytest.raises(DeviceError):
            await it.device.read()


async def test_the_site_may_turn_the_sign_that_a_profile_states(tmp_path):
    text = """
[identity]
check = [{ point = "kind", is = 7 }]
[points]
kind = { address = 1, type = "u16" }
l1 = { address = 2, type = "i16", unit = "kW", positive = "import" }
l2 = { address = 3, type = "i16", unit = "kW", positive = "import" }
[meter]
power_w = { sum = ["l1", "l2"] }
"""
    profile = a_profile(tmp_path, text)
    for positive, power_w in ((None, -5000.0), ("import", -5000.0), ("export", 5000.0)):
        async with bench(profile, "meter", {1: 7, 2: 2, 3: 3}, positive=positive) as it:
            assert (await it.device.read()).power_w.value == power_w


def test_a_meter_by_wiring_needs_the_sites_word():
    with pytest.raises(BadSpec, match="positive must be"):
        DeviceSpec("m", "meter", 1, profile=find("eastron-sdm630", None))


def test_a_role_that_the_profile_does_not_fill_is_refused():
    with pytest.raises(BadSpec, match="fills the role meter, not battery"):
        DeviceSpec("m", "battery", 1, profile=find("eastron-sdm630", None))


PV = """
[identity]
check = [{ point = "kind", is = 7 }]
[points]
kind = { address = 1, type = "u16" }
dc1 = { address = 2, type = "u16", unit = "W", positive = "generation" }
dc2 = { address = 3, type = "u16", unit = "W", positive = "generation" }
rating = { address = 4, type = "u16", unit = "W", positive = "magnitude" }
limit = { address = 20, type = "u16", scale = 0.1, unit = "%", positive = "generation", write = "volatile" }
ENABLE
[pv]
power_w = { sum = ["dc1", "dc2"] }
[pv.control]
dead_man = { fixed = "60 s" }
CONTROL
"""
BY_ENABLE = (
    'enable = { address = 21, type = "enum16", values = { off = 0, on = 1 }, write = "volatile" }',
    """
setpoint = [{ write = [{ point = "limit", from = "power", of = "rating" }, { point = "enable", set = "on" }] }]
release = [{ write = { point = "enable", set = "off" } }]
""",
)
BY_FULL = (
    "",
    """
setpoint = [{ write = { point = "limit", from = "power", of = "rating" } }]
release = [{ write = { point = "limit", set = 100 } }]
""",
)
RAW = {1: 7, 2: 3000, 3: 1500, 4: 10_000, 20: 1000, 21: 0}


@pytest.fixture(params=[BY_ENABLE, BY_FULL], ids=["enable", "full"])
def limitable(request, tmp_path):
    enable, control = request.param
    return a_profile(tmp_path, PV.replace("ENABLE", enable).replace("CONTROL", control))


async def test_a_ceiling_is_written_read_back_and_lifted(limitable):
    async with bench(limitable, "pv", RAW) as it:
        got = await it.device.read()
        assert (got.power_w.value, got.limited.value, got.ceiling_w.value) == (4500.0, 0.0, None)
        assert (got.has_limit, got.has_dead_man) == (True, True)
        outcome = await it.device.write_ceiling(2507.0)
        assert (outcome.ok, outcome.reason, outcome.held_w) == (True, "", 2500.0)  # rounded down
        assert it.holding.registers[20] == 250
        got = await it.device.read()
        assert (got.limited.value, got.ceiling_w.value) == (1.0, 2500.0)
        outcome = await it.device.write_ceiling(None)
        assert (outcome.ok, outcome.held_w) == (True, None)
        got = await it.device.read()
        assert (got.limited.value, got.ceiling_w.value) == (0.0, None)


async def test_a_ceiling_of_somebody_else_is_seen_and_can_be_lifted(limitable):
    async with bench(limitable, "pv", {**RAW, 20: 400, 21: 1}) as it:
        got = await it.device.read()
        assert (got.limited.value, got.ceiling_w.value) == (1.0, 4000.0)
        assert (await it.device.write_ceiling(None)).ok
        assert (await it.device.read()).limited.value == 0.0


async def test_an_inverter_that_only_pretends_is_found_out(limitable):
    async with bench(limitable, "pv", RAW) as it:
        it.faults.lie = True
        outcome = await it.device.write_ceiling(1000.0)
        assert not outcome.ok
        assert "accepted but not applied" in outcome.reason


async def test_an_inverter_that_does_not_tell_its_limit_is_unknown_not_free(limitable):
    async with bench(limitable, "pv", RAW) as it:
        await it.device.read()
        del it.holding.registers[20]
        await it.device.read()
        assert (await it.device.read()).limited.quality is Quality.MISSING


async def test_a_missing_string_of_panels_is_not_counted_as_zero(tmp_path):
    text = (
        PV.replace("ENABLE", "")
        .replace("CONTROL", BY_FULL[1])
        .replace('"u16", unit = "W", positive = "gen', '"u16", sentinels = [0xFFFF], unit = "W", positive = "gen')
    )
    async with bench(a_profile(tmp_path, text), "pv", {**RAW, 3: 0xFFFF}) as it:
        got = await it.device.read()
    assert (got.power_w.value, got.power_w.quality) == (None, Quality.MISSING)


HYBRID = PV.replace("ENABLE", BY_ENABLE[0]).replace("CONTROL", BY_ENABLE[1]).replace(
    "[pv.control]", 'limit_covers = "inverter"\n[battery]\npower_w = "battery"\n[pv.control]'
).replace("[points]", '[points]\nbattery = { address = 30, type = "i16", unit = "W", positive = "charge" }')  # fmt: skip


@pytest.mark.parametrize(
    ("charge_w", "ceiling_w", "percent", "held_w"),
    [(1000, 2500.0, 15.0, 2500.0), (-1000, 2507.0, 35.0, 2500.0), (3000, 2500.0, 0.0, 3000.0), (-8000, 9000.0, 100.0, 2000.0)],
)  # fmt: skip
async def test_a_limit_of_the_whole_inverter_counts_what_the_battery_gives_along(
    tmp_path, charge_w, ceiling_w, percent, held_w
):
    """10 kW inverter: what the battery takes must not be taken from PV, what it gives must not come on top."""
    async with bench(a_profile(tmp_path, HYBRID), "pv", {**RAW, 30: charge_w & 0xFFFF}) as it:
        outcome = await it.device.write_ceiling(ceiling_w)
        assert (outcome.ok, outcome.reason, outcome.held_w) == (True, "", held_w)
        assert it.holding.registers[20] == percent * 10
        assert (await it.device.read()).ceiling_w.value == held_w
        assert (await it.device.write_ceiling(None)).ok
        assert (await it.device.read()).limited.value == 0.0


async def test_without_the_power_of_its_battery_a_hybrid_is_not_limited(tmp_path):
    text = HYBRID.replace(
        '"i16", unit = "W", positive = "charge"', '"i16", unit = "W", positive = "charge", sentinels = [-32768]'
    )
    async with bench(a_profile(tmp_path, text), "pv", {**RAW, 30: 0x8000}) as it:
        outcome = await it.device.write_ceiling(2500.0)
        assert not outcome.ok
        assert "the battery's power has no value" in outcome.reason
        assert it.written() == []


async def test_an_inverter_without_control_cannot_be_limited(tmp_path):
    text = PV[: PV.index("[pv.control]")].replace("ENABLE", "")
    async with bench(a_profile(tmp_path, text), "pv", RAW) as it:
        outcome = await it.device.write_ceiling(1000.0)
        assert (outcome.ok, it.device.has_limit, it.device.has_dead_man) == (False, False, None)
        assert "has no [pv.control]" in outcome.reason


async def test_a_device_that_does_not_say_what_it_is_is_not_believed(tmp_path):
    text = """
[identity]
check = [{ point = "kind", is = 7 }]
[points]
kind = { address = 1, type = "u16" }
power = { address = 2, type = "i16", unit = "W", positive = "import" }
hz = { address = 3, type = "u16", scale = 0.01, unit = "Hz" }
[meter]
power_w = "power"
frequency_hz = "hz"
"""
    profile = a_profile(tmp_path, text)
    async with bench(profile, "meter", {2: 5, 3: 5000}) as it:  # the register is not there at all
        with pytest.raises(IdentityMismatch, match="kind is 7 is expected, it says nothing"):
            await it.device.read()
        it.holding.registers[1] = 7
        assert (await it.device.read()).power_w.value == -5.0
        it.holding.registers[3] = 4000
        assert (await it.device.read()).frequency_hz.quality is Quality.IMPLAUSIBLE


async def test_an_identity_pieced_together_over_two_connections_is_read_again(tmp_path):
    text = """
[reads]
max_gap = 0
[identity]
serial = "serial"
check = [{ point = "kind", is = 7 }]
[points]
kind = { address = 1, type = "u16" }
power = { address = 2, type = "i16", unit = "W", positive = "import" }
serial = { address = 50, type = "u16" }
[meter]
power_w = "power"
"""
    now = [50.0]
    async with bench(a_profile(tmp_path, text), "meter", {1: 7, 2: 5, 50: 1}, clock=lambda: now[0]) as it:
        await it.link.read_holding(1, 1, 1)
        read = it.link.read_holding

        async def swapped(unit_id, address, count):
            """Between the two reads of the identity the device is swapped for another one of its kind."""
            it.link.read_holding = read
            got = await read(unit_id, address, count)
            it.server.drop_connections()
            await until(lambda: not it.link.connected)
            now[0] += 10.0
            it.holding.registers.update({1: 8, 50: 2})
            return got

        it.link.read_holding = swapped
        with pytest.raises(IdentityMismatch, match="it says 8"):
            await it.device.identify()


ALARMED = """
[identity]
check = [{ point = "kind", is = 7 }]
[points]
kind = { address = 1, type = "u16" }
power = { address = 2, type = "i16", unit = "W", positive = "discharge" }
flags = { address = 3, type = "bitfield16", bits = { stop = 0, leak = 4 } }
state = { address = 4, type = "enum16", sentinels = [0xFFFF], values = { fine = 0, broken = 3, burnt = 4 } }
[battery]
power_w = "power"
[battery.alarms]
emergency_stop = [{ point = "flags", bits = ["stop"] }]
insulation_fault = [{ point = "flags", bits = ["leak"] }]
bms_fault = [{ point = "state", is = "broken" }, { point = "state", is = "burnt" }]
breaker_open = [{ point = "state", is = "burnt" }]
"""


@pytest.mark.parametrize(
    ("flags", "state", "alarms"),
    [
        (0, 0, 0),
        (2, 0, 0),
        (1, 0, Alarm.E_STOP),
        (0x11, 0, Alarm.E_STOP | Alarm.INSULATION),
        (0, 3, Alarm.BMS_FAULT),
        (0, 4, Alarm.BMS_FAULT | Alarm.BREAKER),
        (16, 0xFFFF, Alarm.INSULATION),
    ],
)
async def test_safety_alarms_are_the_sum_of_those_that_stand(tmp_path, flags, state, alarms):
    async with bench(a_profile(tmp_path, ALARMED), "battery", {1: 7, 2: 0, 3: flags, 4: state}) as it:
        assert (await it.device.read()).alarms.value == alarms


async def test_without_a_point_that_tells_any_alarms_are_not_known(tmp_path):
    text = ALARMED.replace("emergency_stop =", "# ").replace("insulation_fault =", "# ")
    async with bench(a_profile(tmp_path, text), "battery", {1: 7, 2: 0, 3: 0, 4: 0xFFFF}) as it:
        assert (await it.device.read()).alarms.value is None
    plain = ALARMED[: ALARMED.index("[battery.alarms]")]
    async with bench(a_profile(tmp_path, plain), "battery", {1: 7, 2: 0, 3: 1, 4: 4}) as it:
        assert (await it.device.read()).alarms.value is None
