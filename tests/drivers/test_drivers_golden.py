"""Every shipped profile against registers and values worked out by hand: `golden/<profile>.toml`.

A mistake in the codec, or in a profile, cannot hide behind itself here: address, function, word order, sign and "no
value" are stated again in these files, and what is written is stated frame by frame.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest
from drivers_peers import Clock

from agent.core.snapshot import Quality, Reading
from drivers.device import DeviceSpec, open_device
from drivers.profile.check_points import SIGNED_TYPES
from drivers.profile.codec import codec
from drivers.profile.load import find, load, shipped
from drivers.profile.model import TOWARD_GRID, Pacing
from drivers.profile.place import function_of, wire_address

FOLDER = Path(__file__).parent / "golden"
GOLDEN = {path.stem: tomllib.loads(path.read_text()) for path in FOLDER.glob("*.toml") if "sunspec-" not in path.stem}
POINTS = [(name, index) for name, golden in sorted(GOLDEN.items()) for index in range(len(golden["points"]))]
ROLES = [
    (name, role) for name, golden in sorted(GOLDEN.items()) for role in ("battery", "pv", "meter") if role in golden
]
WRITES = [(name, index) for name, golden in sorted(GOLDEN.items()) for index in range(len(golden.get("write", [])))]
CONTROLLED = sorted({name for name, _ in WRITES})
LIMITED = sorted(name for name, golden in GOLDEN.items() if "limit" in golden)


def words(text):
    return tuple(int(word, 16) for word in text.split())


class Wire:
    """Registers that answer 0 where nothing is stated, and every frame that was written, as text."""

    name = "golden"
    generation = 1

    def __init__(self, golden):
        self.frames = []
        self._registers = defaultdict(int)
        seen = set()
        for row in golden["points"]:
            if row["name"] not in seen:  # the first of several states what the device says
                seen.add(row["name"])
                unit = row.get("unit", golden["unit"])
                for index, word in enumerate(words(row["hex"])):
                    self._registers[unit, row["function"], row["at"] + index] = word

    async def read_holding(self, unit_id, address, count):
        return tuple(self._registers[unit_id, 3, at] for at in range(address, address + count))

    async def read_input(self, unit_id, address, count):
        return tuple(self._registers[unit_id, 4, at] for at in range(address, address + count))

    async def write_register(self, unit_id, address, value, *, generation=None):
        self._write(6, unit_id, address, (value,))

    async def write_registers(self, unit_id, address, values, *, generation=None):
        self._write(16, unit_id, address, values)

    def pace(self, between_s, after_connect_s):
        pass

    def taken(self):
        frames, self.frames = self.frames, []
        return frames

    def _write(self, function, unit_id, address, values):
        self.frames.append(f"{unit_id} {function} {address} " + " ".join(f"{value:04X}" for value in values))
        for index, value in enumerate(values):
            self._registers[unit_id, 3, address + index] = value


def profile_of(name):
    return find(name, None).model_copy(update={"pacing": Pacing()})  # its pauses are of no use here


def a_device(name, role):
    golden = GOLDEN[name]
    wire = Wire(golden)
    positive = golden.get("positive") if role == "meter" else None
    spec = DeviceSpec("dut", role, golden["unit"], profile=profile_of(name), positive=positive)
    return open_device(spec, wire, Clock()), wire


def test_every_shipped_profile_has_its_golden_file():
    assert set(GOLDEN) == {name for name, found in shipped().items() if load(found.path).sunspec is None}


def test_every_shipped_profile_is_in_the_list_of_devices():
    listed = (Path(__file__).parents[2] / "docs" / "devices.md").read_text()
    assert [name for name in shipped() if f"`{name}`" not in listed] == []


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_every_point_that_a_role_needs_or_writes_is_among_them(name):
    """A point that is left out of the golden file could say anything."""
    profile = find(name, None)
    used = set()

    def collect(part):
        if isinstance(part, str):
            used.update({part} & set(profile.points))
        elif isinstance(part, dict):
            for key, value in part.items():
                collect(key)
                collect(value)
        elif isinstance(part, list | tuple):
            for value in part:
                collect(value)

    for role in profile.roles:
        collect(getattr(profile, role).model_dump())
    commands = {point for point in used if profile.points[point].write == "command"}
    beats = {point for point in used if profile.points[point].write is not None and not profile.points[point].readable}
    stated = {row["name"] for row in GOLDEN[name]["points"]}
    assert used - stated - commands - beats == set()


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_control_both_signs_and_no_value_are_among_them(name):
    """Where the profile has them: what can be written, a directed point below 0, a raw number that is no value."""
    profile, golden = find(name, None), GOLDEN[name]
    assert ("write" in golden) == (profile.battery is not None and profile.battery.control is not None)
    assert ("limit" in golden) == (profile.pv is not None and profile.pv.control is not None)
    stated = [(profile.points[row["name"]], row.get("value")) for row in golden["points"]]
    signed = [point for point, _ in stated if point.positive in (*TOWARD_GRID, "site") and point.type in SIGNED_TYPES]
    assert not signed or [value for point, value in stated if point in signed and value is not None and value < 0]
    can_be_nothing = [
        point
        for point, _ in stated
        if point.type in ("f32", "f64") or (point.sentinels or profile.defaults.sentinels.get(point.type))
    ]
    assert not can_be_nothing or [value for _, value in stated if value is None]


@pytest.mark.parametrize(("name", "index"), POINTS)
def test_registers_mean_their_value_and_the_value_its_registers(name, index):
    row, profile = GOLDEN[name]["points"][index], find(name, None)
    point = profile.points[row["name"]]
    unit_id = GOLDEN[name]["unit"] if point.unit_id is None else profile.unit_ids[point.unit_id]
    assert (function_of(profile, point), wire_address(profile, point)) == (row["function"], row["at"])
    assert unit_id == row.get("unit", GOLDEN[name]["unit"])
    under_test = codec(profile, row["name"])
    registers = words(row["hex"])
    if point.type == "string":
        registers += (0,) * (under_test.count - len(registers))
    assert len(registers) == under_test.count
    exponent = row.get("sf", 0)
    assert ("sf" in row) == (point.scale_from is not None)
    value = under_test.value(under_test.raw(registers), exponent)
    if "value" not in row:
        assert value is None
    elif isinstance(row["value"], str):
        assert value == row["value"]
    else:
        assert value == pytest.approx(row["value"], rel=1e-7)
        assert under_test.encode(row["value"], exponent) == registers


@pytest.mark.parametrize(("name", "role"), ROLES)
async def test_a_sample_is_in_our_units_and_our_sign(name, role):
    device, _ = a_device(name, role)
    got = await device.read()
    expected = GOLDEN[name][role]
    for key, value in expected.items():
        reading = getattr(got, key)
        assert reading.quality is Quality.GOOD, key
        assert reading.value == pytest.approx(value, rel=1e-7), key
    for field in dataclasses.fields(got):
        value = getattr(got, field.name)
        if isinstance(value, Reading) and field.name in {"power_w", "soc_pct", "frequency_hz", "temperature_c"}:
            assert field.name in expected or value.value is None or name == "sungrow-sh", f"{field.name} is not stated"


@pytest.mark.parametrize(("name", "index"), WRITES)
async def test_a_setpoint_is_written_frame_by_frame_as_the_maker_wants_it(name, index):
    battery, wire = a_device(name, "battery")
    row = GOLDEN[name]["write"][index]
    outcome = await battery.write_setpoint(row["power_w"])
    assert (outcome.ok, outcome.reason) == (True, "")
    assert wire.taken() == GOLDEN[name]["take_over"] + row["frames"]
    assert outcome.held_w == pytest.approx(row.get("held_w", row["power_w"]), abs=100.0)
    assert (await battery.read()).held_setpoint_w.value == pytest.approx(row["power_w"], abs=100.0)
    assert (await battery.write_setpoint(row["power_w"])).ok
    assert wire.taken() == row["frames"], "taken over once"


@pytest.mark.parametrize("name", LIMITED)
async def test_a_ceiling_is_written_frame_by_frame_and_lifted(name):
    pv, wire = a_device(name, "pv")
    for row in GOLDEN[name]["limit"]:
        outcome = await pv.write_ceiling(row["ceiling_w"])
        assert (outcome.ok, outcome.reason) == (True, "")
        assert wire.taken() == row["frames"]
        assert outcome.held_w == pytest.approx(row.get("held_w", row["ceiling_w"]))
        assert (await pv.read()).limited.value == 1.0
    assert (await pv.write_ceiling(None)).ok
    assert wire.taken() == GOLDEN[name]["lift"]["frames"]
    assert (await pv.read()).limited.value == 0.0


@pytest.mark.parametrize("name", CONTROLLED)
async def test_release_brings_it_to_rest_and_gives_the_owner_his_settings_back(name):
    battery, wire = a_device(name, "battery")
    await battery.write_setpoint(1000.0)
    wire.taken()
    outcome = await battery.release()
    assert (outcome.ok, outcome.reason) == (True, "")
    assert wire.taken() == GOLDEN[name]["release"]


@pytest.mark.parametrize("name", sorted({name for name, role in ROLES if role == "battery"} - set(CONTROLLED)))
async def test_a_battery_that_can_only_be_looked_at_is_never_written_to(name):
    battery, wire = a_device(name, "battery")
    outcome = await battery.write_setpoint(1000.0)
    assert not outcome.ok
    assert "it can only be looked at" in outcome.reason
    assert wire.frames == []
