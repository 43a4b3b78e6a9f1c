"""What a technician sees of a device of the site, point by point, of either kind."""

from __future__ import annotations

import pytest
from drivers_peers import Clock, Memory, bank, chain, model
from drivers_profiles import bench
from test_drivers_profile_sungrow import HOLDING, INPUTS

from drivers.device import DeviceSpec, open_device
from drivers.look import UnknownPoint, look, tried
from drivers.profile.load import find
from drivers.profile.model import Pacing


@pytest.fixture
def meter():
    clock = Clock(50.0)
    memory = Memory(bank(chain(model(1, {"Md": "M"}), model(203, {"W": 120, "W_SF": 1, "Hz": 5001, "Hz_SF": -2}))))
    return open_device(DeviceSpec("m", "meter", 1, positive="import"), memory, clock), memory, clock


async def test_of_a_sunspec_device_what_its_role_polls_by_model_and_point(meter):
    device, memory, clock = meter
    memory.before_read = lambda address: setattr(clock, "now_s", clock.now_s + 0.5)
    found = await look(device, [], clock)
    rows = {point.name: (point.value, point.quality) for point in found.points}
    assert rows["203.W"] == (1200.0, "good")  # as the device says it, not in our sign
    assert rows["203.Hz"] == (50.01, "good")
    watts = next(point for point in found.points if point.name == "203.W")
    assert (watts.unit, watts.raw, watts.registers, watts.writable) == ("W", 120, (120,), False)
    assert rows["203.TotWhExp"] == (None, "missing")
    assert found.mismatch == ()
    assert {point.age_s for point in found.points} == {0.5}
    assert memory.writes == []


async def test_any_point_of_a_sunspec_device_polled_or_not_and_all_of_a_model(meter):
    device, _, clock = meter
    found = await look(device, ["203.Hz", "1.Md"], clock)
    assert [(point.name, point.value) for point in found.points] == [("203.Hz", 50.01), ("1.Md", "M")]
    names = {point.name for point in (await look(device, ["203"], clock)).points}
    assert {"203.W", "203.A", "203.Hz_SF"} <= names
    assert not any(name.startswith("1.") for name in names)
    with pytest.raises(UnknownPoint, match=r"no point '203\.None'; .*: it has 1, 203"):
        await look(device, ["203.None"], clock)


async def test_of_a_device_with_a_profile_any_point_with_its_registers():
    profile = find("sungrow-sh", None).model_copy(update={"pacing": Pacing()})
    async with bench(profile, "battery", HOLDING, INPUTS) as it:
        found = await look(it.device, ["ems_mode", "battery_power"], lambda: 0.0)
        assert [(p.name, p.value, p.unit, p.label, p.registers) for p in found.points] == [
            ("ems_mode", 0, "", "self_consumption", (0,)),
            ("battery_power", -2000, "W", None, (0xF830, 0xFFFF)),
        ]
        assert it.written() == []
        it.inputs.registers[4999] = 5
        assert (await look(it.device, ["ems_mode"], lambda: 0.0)).mismatch
        with pytest.raises(UnknownPoint, match="heartbeat can only be written"):
            await look(it.device, ["heartbeat"], lambda: 0.0)


async def test_a_device_with_another_serial_number_than_stated_is_shown_as_another_one():
    profile = find("sungrow-sh", None).model_copy(update={"pacing": Pacing()})
    async with bench(profile, "battery", HOLDING, INPUTS, expected_serial="Z1") as it:
        found = await look(it.device, ["ems_mode"], lambda: 0.0)
        assert [point.value for point in found.points] == [0]
        (why,) = found.mismatch
        assert "should have the serial 'Z1'" in why


async def test_a_sunspec_profile_is_tried_by_what_its_roles_poll():
    memory = Memory(bank(chain(model(1, {"Md": "M"}), model(203, {"W": 120, "W_SF": 1}))))
    found = await tried(find("sunspec-meter", None), 1, [], memory, Clock(50.0))
    assert {point.name: point.value for point in found.points}["203.W"] == 1200.0
    assert found.mismatch == ()
    found = await tried(find("sunspec-meter", None), 1, ["1.Md"], memory, Clock(50.0))
    assert [(point.name, point.value) for point in found.points] == [("1.Md", "M")]
    found = await tried(find("sunspec-hybrid", None), 1, [], memory, Clock(50.0))
    assert found.points == ()
    (why,) = found.mismatch
    assert "it should have SunSpec model 704 or 124; found: 1, 203" in why
    assert memory.writes == []
