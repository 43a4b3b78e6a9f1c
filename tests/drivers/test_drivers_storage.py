"""The older SunSpec storage inverter (models 120 to 124): what its registers say, and what a setpoint does to them."""

from __future__ import annotations

import pytest
from drivers_peers import Clock, Memory, bank, chain, model

from agent.core.snapshot import Quality
from drivers.device import DeviceSpec, open_device
from drivers.errors import ModbusRefused, ModelMissing

COMMON = {"Mn": "Maker", "Md": "S-5", "Vr": "1", "SN": "A1"}
M103 = {"W": -12 % 65536, "W_SF": 2, "St": 4}
M120 = {"WHRtg": 100, "WHRtg_SF": 2, "MaxChaRte": 40, "MaxChaRte_SF": 2, "MaxDisChaRte": 50, "MaxDisChaRte_SF": 2}
M121 = {"WMax": 45, "WMax_SF": 2}
M123 = {"Conn": 1}
M124 = {
    "WChaMax": 4000, "WChaMax_SF": 0, "StorCtl_Mod": 0, "ChaState": 5550, "ChaState_SF": -2, "ChaSt": 6,
    "OutWRte": 10000, "InWRte": 10000, "InOutWRte_RvrtTms": 0, "InOutWRte_SF": -2, "ChaGriSet": 0,
}  # fmt: skip
M802 = {"V": 400, "V_SF": 0, "AChaMax": 8, "ADisChaMax": 9, "AMax_SF": 0, "State": 3, "LocRemCtl": 0}
M803 = {"ModTmpMax": 310, "ModTmpMin": 220, "ModTmp_SF": -1}
DEFAULTS = {1: COMMON, 103: M103, 120: M120, 121: M121, 123: M123, 124: M124, 802: M802, 803: M803}


def a_map(**changes):
    """The registers; `m124={...}` changes raw points, `m802=None` leaves the model out, `m111={...}` adds one."""
    raws = {model_id: dict(points) for model_id, points in DEFAULTS.items()}
    for name, change in changes.items():
        model_id = int(name[1:])
        if change is None:
            raws.pop(model_id)
        else:
            raws[model_id] = raws.get(model_id, {}) | change
    return chain(*[model(model_id, raws[model_id]) for model_id in raws])


def at(model_id, offset, **changes):
    registers = a_map(**changes)
    i = 2
    while registers[i] != model_id:
        i += 2 + registers[i + 1]
    return 40000 + i + offset


def a_battery(registers=None, **spec):
    memory = Memory(bank(a_map() if registers is None else registers))
    return open_device(DeviceSpec("bess", "battery", 1, **spec), memory, Clock()), memory


async def sample(**changes):
    battery, _ = a_battery(a_map(**changes))
    return await battery.read()


async def test_a_sample_carries_every_value_of_the_older_models():
    got = await sample()
    assert got.power_w.value == -1200.0
    assert got.soc_pct.value == 55.5
    assert got.capacity_wh.value == 10_000.0
    assert (got.rated_discharge_w.value, got.rated_charge_w.value) == (5000.0, 4000.0)
    assert got.live_discharge_limit_w.value == 3600.0  # 9 A x 400 V
    assert got.live_charge_limit_w.value == 3200.0
    assert got.ready.value == 1.0
    assert (got.held_setpoint_w.value, got.held_setpoint_w.quality) == (None, Quality.MISSING)
    assert got.has_dead_man is True
    assert got.temperature_c.value == 31.0


async def test_without_a_battery_model_the_inverters_settings_are_the_limits():
    got = await sample(m802=None, m803=None)
    assert got.live_discharge_limit_w.value == 4000.0  # rates refer to WChaMax in both directions
    assert (await sample(m802=None, m121={"WMax": 30})).live_discharge_limit_w.value == 3000.0
    assert got.live_charge_limit_w.value == 4000.0
    assert got.temperature_c.quality is Quality.MISSING


async def test_a_float_inverter_serves_as_well():
    got = await sample(m103=None, m111={"W": 0x44FA0000, "St": 4})
    assert got.power_w.value == 2000.0


@pytest.mark.parametrize(
    ("most", "least", "told_c"),
    [(310, 220, 31.0), (300, 10, 1.0), (500, 0, 50.0), (0x8000, 220, 22.0), (310, 0x8000, 31.0), (1201, 220, 22.0)],
)
async def test_the_temperature_farther_from_comfortable_is_told(most, least, told_c):
    assert (await sample(m803={"ModTmpMax": most, "ModTmpMin": least})).temperature_c.value == told_c


@pytest.mark.parametrize(
    ("change", "ready"),
    [
        ({"m103": {"St": 1}}, 0.0),
        ({"m103": {"St": 2}}, 1.0),
        ({"m103": {"St": 7}}, 0.0),
        ({"m124": {"ChaSt": 1}}, 0.0),
        ({"m123": {"Conn": 0}}, 0.0),
        ({"m802": {"State": 1}}, 0.0),
        ({"m123": None, "m802": None}, 1.0),
        ({"m103": {"St": 0xFFFF}}, 1.0),
        ({"m103": {"St": 0xFFFF}, "m124": {"ChaSt": 0xFFFF}}, None),
    ],
)
async def test_it_is_ready_when_every_state_that_it_tells_allows_power(change, ready):
    assert (await sample(**change)).ready.value == ready


@pytest.mark.parametrize(
    ("missing", "named"), [(103, "103 .* or 111 .* is missing"), (124, r"704 \(DERCtlAC\) or 124 .* is missing")]
)
async def test_a_model_that_it_needs_is_missed_by_name(missing, named):
    battery, memory = a_battery(a_map(**{f"m{missing}": None}, m701={"W": 0}, m702={"WMaxRtg": 1}))
    with pytest.raises(ModelMissing, match=named):
        await battery.read()
    assert memory.writes == []


@pytest.mark.parametrize(
    ("power_w", "rates", "held_w"),
    [
        (1000.0, (2500, -2500), 1000.0),
        (-4000.0, (-10000, 10000), -4000.0),
        (0.0, (0, 0), 0.0),
        (1000.3, (2500, -2500), 1000.0),
        (-1000.3, (-2500, 2500), -1000.0),
    ],
)
async def test_a_setpoint_closes_the_window_of_rates_and_the_mode_comes_last(power_w, rates, held_w):
    battery, memory = a_battery(reversion_s=30)
    outcome = await battery.write_setpoint(power_w)
    assert memory.writes == [
        (at(802, 19), (1,)),  # the heartbeat
        (at(124, 15), (30,)),
        (at(124, 12), tuple(rate % 65536 for rate in rates)),  # in one frame: no window is ever the wrong way round
        (at(124, 5), (3,)),
    ]
    assert (outcome.ok, outcome.reason, outcome.held_w) == (True, "", held_w)
    assert (await battery.read()).held_setpoint_w.value == held_w


@pytest.mark.parametrize(
    "change",
    [
        {"StorCtl_Mod": 1},
        {"StorCtl_Mod": 2},
        {"InWRte": 10000},
        {"OutWRte": 0x8000},
        {"WChaMax": 0xFFFF},
    ],
)
async def test_an_open_window_is_no_setpoint(change):
    held = {"StorCtl_Mod": 3, "OutWRte": 2500, "InWRte": -2500}
    assert (await sample(m124=held)).held_setpoint_w.value == 1000.0
    assert (await sample(m124=held | change)).held_setpoint_w.value is None


async def test_charging_from_the_grid_stays_the_owners_decision():
    battery, memory = a_battery()
    await battery.write_setpoint(-1000.0)
    assert memory.registers[at(124, 17)] == 0


@pytest.mark.parametrize("kept", [0, 3600])
async def test_a_timer_that_is_not_kept_is_no_dead_man_and_left_alone_afterwards(kept):
    battery, memory = a_battery()
    memory.before_read = lambda _: memory.registers.update({at(124, 15): kept})
    assert (await battery.write_setpoint(1000.0)).ok
    assert battery.has_dead_man is False
    memory.writes.clear()
    assert (await battery.write_setpoint(1000.0)).ok
    assert at(124, 15) not in [address for address, _ in memory.writes]


async def test_a_device_that_told_no_values_for_a_moment_is_written_to_again_with_its_dead_man():
    battery, memory = a_battery()
    good = dict(memory.registers)
    unknown = {at(124, offset): 0x8000 for offset in (23, 25)} | {at(124, 2): 0xFFFF, at(124, 15): 0xFFFF}
    assert (await battery.write_setpoint(1000.0)).ok
    memory.before_read = lambda _: memory.registers.update(unknown)
    assert not (await battery.write_setpoint(1000.0)).ok
    assert not (await battery.write_setpoint(1000.0)).ok, "still nothing is known"
    assert battery.has_dead_man is False, "nobody can tell just now"
    memory.before_read = lambda _: None
    memory.registers.update({address: good[address] for address in unknown})
    memory.writes.clear()
    outcome = await battery.write_setpoint(1000.0)
    assert (outcome.ok, outcome.held_w, battery.has_dead_man) == (True, 1000.0, True)
    assert at(124, 15) in [address for address, _ in memory.writes], "its timer is armed"


async def test_without_the_timer_there_is_no_dead_man():
    battery, memory = a_battery(a_map(m124={"InOutWRte_RvrtTms": 0xFFFF}))
    await battery.write_setpoint(0.0)
    assert battery.has_dead_man is False
    assert [address for address, _ in memory.writes] == [at(802, 19), at(124, 12), at(124, 5)]


@pytest.mark.parametrize(
    ("change", "power_w", "named"),
    [
        ({}, 4000.1, "beyond 124.WChaMax, 4000 W"),
        ({}, -4100.0, "beyond 124.WChaMax, 4000 W"),
        ({"WChaMax": 0xFFFF}, 100.0, "WChaMax is not implemented"),
        ({"WChaMax": 0}, 100.0, "WChaMax is not implemented"),
        ({"InOutWRte_SF": 0x8000}, 100.0, "InOutWRte_SF is not implemented"),
        ({"InOutWRte_SF": -3}, 4000.0, "does not fit"),
    ],
)
async def test_what_the_rates_cannot_express_is_refused_before_they_are_written(change, power_w, named):
    battery, memory = a_battery(a_map(m124=change))
    outcome = await battery.write_setpoint(power_w)
    assert (outcome.ok, outcome.held_w) == (False, None)
    assert named in outcome.reason
    assert [address for address, _ in memory.writes if address < at(802, 0)] == []


@pytest.mark.parametrize(
    ("offset", "value", "named"),
    [
        (5, 1, "124.StorCtl_Mod reads 1 where 3"),
        (12, 9999, "124.OutWRte reads 99.99 where 25"),
        (13, 0, "124.InWRte reads 0 where -25"),
        (25, 0x8000, "124.OutWRte is not implemented"),
    ],
)
async def test_what_is_accepted_but_not_applied_is_not_ok_and_named(offset, value, named):
    battery, memory = a_battery()
    await battery.identify()
    memory.before_read = lambda _: memory.registers.update({at(124, offset): value})
    outcome = await battery.write_setpoint(1000.0)
    assert not outcome.ok
    assert named in outcome.reason


async def test_a_refused_write_reports_what_the_device_still_holds():
    battery, memory = a_battery(a_map(m124={"StorCtl_Mod": 3, "OutWRte": 500, "InWRte": -500}))

    def refuse(address, values):
        if address == at(124, 12):
            raise ModbusRefused(3, endpoint="memory", unit_id=1, address=address)

    memory.on_write = refuse
    outcome = await battery.write_setpoint(1000.0)
    assert (outcome.ok, outcome.held_w) == (False, 200.0)
    assert "exception 3" in outcome.reason


async def test_a_setpoint_read_back_over_another_connection_proves_nothing():
    battery, memory = a_battery()
    await battery.identify()

    def replace(address, values):
        memory.generation += address == at(124, 5)

    memory.on_write = replace
    outcome = await battery.write_setpoint(1000.0)
    assert (outcome.ok, outcome.held_w) == (False, None)
    assert "the connection was replaced" in outcome.reason


async def test_of_both_generations_the_newer_one_is_used():
    both = a_map(
        m701={"W": 7, "W_SF": 0, "St": 1}, m702={"WMaxRtg": 5000, "W_SF": 0}, m713={"SoC": 20, "Pct_SF": 0},
        m704={"WSetEna": 0, "WSetMod": 0, "WSet": 0, "WSet_SF": 0},
    )  # fmt: skip
    battery, memory = a_battery(both)
    assert (await battery.read()).power_w.value == 7.0
    assert (await battery.write_setpoint(100.0)).ok
    assert memory.registers[at(124, 5)] == 0
