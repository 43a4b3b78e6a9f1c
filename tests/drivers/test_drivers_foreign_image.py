"""A DER device as somebody else describes it: the image that a third-party SunSpec client ships, encoded by that client."""

from __future__ import annotations

import warnings
from importlib import resources

import pytest
from drivers_peers import Clock, Memory, bank, chain
from sunspec2.file.client import FileClientDevice

from drivers.device import DeviceSpec, open_device


@pytest.fixture
def foreign():
    with resources.as_file(resources.files("sunspec2") / "tests" / "test_data" / "device_1547.json") as path:
        device = FileClientDevice(str(path))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # the client leaves its file open
            device.scan()
    return device


def registers_of(device):
    """The device's whole map as that client encodes it."""
    models = []
    for model in device.model_list:
        data = model.get_mb()
        registers = [data[i] * 256 + data[i + 1] for i in range(0, len(data), 2)]
        if registers[0] != 0xFFFF:
            registers[1] = len(registers) - 2  # the file leaves lengths out
            models.append(registers)
    return Memory(bank(chain(*models)))


async def test_its_models_are_found_and_its_battery_is_read_as_that_client_reads_it(foreign):
    battery = open_device(DeviceSpec("bess", "battery", 1), registers_of(foreign), Clock())
    identity = await battery.identify()
    assert identity.models == (1, 701, 702, 703, 704, 705, 706, 707, 708, 709, 710, 711, 712, 713)
    assert identity.manufacturer == foreign.common[0].Mn.cvalue
    assert identity.serial == foreign.common[0].SN.cvalue
    got = await battery.read()
    assert got.power_w.value == foreign.models[701][0].W.cvalue
    assert got.soc_pct.value == foreign.models[713][0].SoC.cvalue
    assert got.capacity_wh.value == foreign.models[713][0].WHRtg.cvalue
    assert got.rated_charge_w.value == foreign.models[702][0].WChaRteMaxRtg.cvalue
    assert got.rated_discharge_w.value == foreign.models[702][0].WDisChaRteMaxRtg.cvalue


async def test_it_implements_no_setpoint_and_is_not_written_to(foreign):
    memory = registers_of(foreign)
    outcome = await open_device(DeviceSpec("bess", "battery", 1), memory, Clock()).write_setpoint(-2_000.0)
    assert not outcome.ok
    assert "WSet_SF is not implemented" in outcome.reason
    assert memory.writes == []


async def test_a_setpoint_written_by_us_is_what_that_client_reads(foreign):
    control = foreign.models[704][0]
    for name, value in {"WSetEna": 0, "WSetMod": 0, "WSet": 0, "WSet_SF": 1, "WSetRvrt": 0, "WSetEnaRvrt": 0,
                        "WSetRvrtTms": 0}.items():  # fmt: skip
        getattr(control, name).value = value
    memory = registers_of(foreign)
    outcome = await open_device(DeviceSpec("bess", "battery", 1), memory, Clock()).write_setpoint(-2_000.0)
    assert (outcome.ok, outcome.reason) == (True, "")
    at = 40000 + 2
    while memory.registers[at] != 704:
        at += 2 + memory.registers[at + 1]
    words = [memory.registers[i] for i in range(at, at + 2 + memory.registers[at + 1])]
    control.set_mb(b"".join(word.to_bytes(2, "big") for word in words))
    assert (control.WSetEna.cvalue, control.WSetMod.cvalue, control.WSetRvrtTms.cvalue) == (1, 1, 60)
    assert control.WSet.cvalue == outcome.held_w == -2_000.0
