"""The SunSpec profiles against register images worked out by hand from the published models: `golden/sunspec-*.toml`.

Models, offsets, scale factors, signs and "not implemented" are stated there again, and what is written frame by frame.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from drivers_peers import Clock

from agent.core.snapshot import Quality
from drivers.device import DeviceSpec, open_device
from drivers.errors import IdentityMismatch
from drivers.profile.load import find, load, shipped
from drivers.profile.model import Pacing, Profile

FOLDER = Path(__file__).parent / "golden"
GOLDEN = {path.stem: tomllib.loads(path.read_text())["device"] for path in FOLDER.glob("sunspec-*.toml")}
DEVICES = [(name, device) for name, devices in sorted(GOLDEN.items()) for device in devices]
ROLES = [(name, device, role) for name, device in DEVICES for role in ("battery", "pv", "meter") if role in device]
WRITES = [(name, device) for name, device in DEVICES if "write" in device]
LIMITS = [(name, device) for name, device in DEVICES if "limit" in device]
BASE = 40000


def words(text):
    return [int(word, 16) for word in text.split()]


class Wire:
    """The registers of one device, and every frame that was written as model+offset and values."""

    name = "golden"
    generation = 1

    def __init__(self, device, base=BASE):
        self.frames = []
        self.registers = {base: 0x5375, base + 1: 0x6E53}
        self._places = []
        at = base + 2
        for model in device["models"]:
            count = model["length"] + 2
            self._places.append((at, count, model["id"]))
            self.registers.update(dict.fromkeys(range(at, at + count), int(model.get("rest", "FFFF"), 16)))
            self.registers.update({at: model["id"], at + 1: model["length"]})
            for offset, text in model["at"].items():
                self.registers.update(enumerate(words(text), start=at + int(offset)))
            at += count
        self.registers.update({at: 0xFFFF, at + 1: 0})

    async def read_holding(self, unit_id, address, count):
        return tuple(self.registers.get(at, 0) for at in range(address, address + count))

    async def write_registers(self, unit_id, address, values, *, generation=None):
        start, _, model_id = next(place for place in self._places if place[0] <= address < place[0] + place[1])
        self.frames.append(f"{model_id}+{address - start} " + " ".join(f"{value:04X}" for value in values))
        self.registers.update(enumerate(values, start=address))

    def pace(self, between_s, after_connect_s):
        pass

    def taken(self):
        frames, self.frames = self.frames, []
        return frames


def opened(name, device, role, base=BASE, profile=None):
    wire = Wire(device, base)
    positive = device.get("positive") if role == "meter" else None
    return open_device(
        DeviceSpec("dut", role, 1, profile=profile or find(name, None), positive=positive), wire, Clock()
    ), wire


def described(value):
    return value["what"].replace(" ", "-") if isinstance(value, dict) else value


def test_every_shipped_sunspec_profile_has_its_golden_file():
    assert set(GOLDEN) == {name for name, found in shipped().items() if load(found.path).sunspec is not None}


@pytest.mark.parametrize(("name", "device", "role"), ROLES, ids=described)
async def test_the_registers_mean_what_was_worked_out(name, device, role):
    dut, _ = opened(name, device, role)
    identity = await dut.identify()
    assert [identity.manufacturer, identity.model, identity.serial] == device["identity"]
    sample = await dut.read()
    for key, value in device[role].items():
        reading = getattr(sample, key)
        assert (reading.value, reading.quality) == (pytest.approx(value, rel=1e-6), Quality.GOOD), key
    for key in device.get("missing", []):
        if hasattr(sample, key):
            assert getattr(sample, key).value is None, key


@pytest.mark.parametrize(("name", "device"), WRITES, ids=described)
async def test_a_setpoint_is_written_frame_by_frame(name, device):
    battery, wire = opened(name, device, "battery")
    for row in device["write"]:
        outcome = await battery.write_setpoint(row["power_w"])
        assert (outcome.ok, outcome.reason) == (True, "")
        assert wire.taken() == row["frames"]
        assert outcome.held_w == pytest.approx(row.get("held_w", row["power_w"]))
        assert (await battery.read()).held_setpoint_w.value == pytest.approx(row.get("held_w", row["power_w"]))
    assert battery.has_dead_man is True


@pytest.mark.parametrize(("name", "device"), LIMITS, ids=described)
async def test_a_ceiling_is_written_frame_by_frame(name, device):
    pv, wire = opened(name, device, "pv")
    for row in device["limit"]:
        outcome = await pv.write_ceiling(row["ceiling_w"])
        assert (outcome.ok, outcome.reason) == (True, "")
        assert wire.taken() == row["frames"]
        assert outcome.held_w == pytest.approx(row.get("held_w", row["ceiling_w"]))
        sample = await pv.read()
        assert (sample.limited.value, sample.ceiling_w.value) == (1.0, pytest.approx(outcome.held_w))
    assert pv.has_dead_man is True


SWAPPED = [
    ("sunspec-battery", "sunspec-inverter", "battery", "704 or 124; found: 1, 113"),
    ("sunspec-inverter", "sunspec-meter", "pv", "701 or 101 or .*; found: 1, 203"),
    ("sunspec-meter", "sunspec-battery", "meter", "201 or 202 or .*; found: 1, 701"),
    ("sunspec-hybrid", "sunspec-battery", "battery", "714 or 160; found: 1, 701"),
    ("sunspec-hybrid", "sunspec-battery", "pv", "714 or 160; found: 1, 701"),
]


@pytest.mark.parametrize(("name", "other", "role", "lacks"), SWAPPED)
async def test_another_kind_of_device_is_told_and_never_written_to(name, other, role, lacks):
    device = {**GOLDEN[other][0], "positive": "import"}
    dut, wire = opened(name, device, role)
    with pytest.raises(IdentityMismatch, match=lacks):
        await dut.read()
    if role != "meter":
        outcome = await (dut.write_setpoint(1000.0) if role == "battery" else dut.write_ceiling(1000.0))
        assert not outcome.ok
    assert wire.frames == []


def stated(**sunspec):
    """A profile that says this of a battery."""
    about = {"maker": "Acme", "models": ["B"], "source": "test", "date": find("sunspec-battery", None).about.date}
    return Profile.model_validate({"schema": 1, "about": about, "sunspec": {"roles": ["battery"], **sunspec}})


@pytest.mark.parametrize(
    ("sunspec", "told"),
    [({"maker": "Acme"}, None), ({"maker": "Ac.*", "model": "B[12]"}, None),
     ({"maker": "Acm"}, "the maker should match 'Acm', but 'Acme' answers"),
     ({"model": "B2"}, "the model should match 'B2', but 'B1' answers")],
)  # fmt: skip
async def test_a_profile_may_ask_for_a_maker_and_a_model(sunspec, told):
    battery, wire = opened("sunspec-battery", GOLDEN["sunspec-battery"][0], "battery", profile=stated(**sunspec))
    outcome = await battery.write_setpoint(1000.0)
    assert (outcome.ok, bool(wire.frames)) == (told is None, told is None)
    if told is not None:
        assert told in outcome.reason
        with pytest.raises(IdentityMismatch):
            await battery.read()


async def test_a_profile_may_say_where_the_map_begins():
    device = GOLDEN["sunspec-battery"][0]
    battery, _ = opened("", device, "battery", base=500, profile=stated(base_address=500))
    assert (await battery.identify()).base_address == 500


@pytest.mark.parametrize(("positive", "power_w"), [("import", 1234.0), ("export", -1234.0)])
async def test_a_profile_may_fix_the_sign_of_its_meter(positive, power_w):
    profile = stated(roles=["meter"], positive=positive)
    meter, _ = opened("", {**GOLDEN["sunspec-meter"][0], "positive": None}, "meter", profile=profile)
    assert (await meter.read()).power_w.value == power_w


def test_a_profile_may_state_a_pace():
    paces = []
    wire = Wire(GOLDEN["sunspec-meter"][0])
    wire.pace = lambda between_s, after_connect_s: paces.append((between_s, after_connect_s))
    profile = stated(roles=["meter"], positive="import")
    paced = profile.model_copy(update={"pacing": Pacing(between_requests="50 ms", after_connect="1 s")})
    open_device(DeviceSpec("dut", "meter", 1, profile=paced), wire, Clock())
    assert paces == [(0.05, 1.0)]
