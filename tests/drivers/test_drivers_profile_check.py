"""What is wrong with a profile is told with its place and the reason; every shipped profile is without errors."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from drivers.profile.load import MAX_FILE_BYTES, BadProfile, examine, load, shipped

ROOT = Path(__file__).parents[2]
GOOD = """
schema = 1
[about]
maker = "Acme"
models = ["X1"]
source = "Acme map 1.4"
date = 2026-11-21
tried = "X1"
[identity]
check = [{ point = "kind", is = 7 }]
[defaults]
sentinels = { u16 = [0xFFFF] }
[unit_ids]
bms = 225
[points]
kind = { address = 1, type = "u16" }
power = { address = 2, type = "i32", unit = "W", positive = "charge" }
soc = { address = 4, type = "u16", unit = "%", plausible = [0, 100] }
amps = { address = 5, type = "u16", unit = "A" }
volts = { address = 6, type = "u16", unit = "V" }
state = { address = 7, type = "enum16", values = { off = 0, on = 1 } }
flags = { address = 8, type = "bitfield16", bits = { hot = 3 } }
rating = { address = 9, type = "u16", unit = "W", positive = "magnitude" }
mode = { address = 20, type = "enum16", write = "stored", values = { own = 0, remote = 1 } }
set = { address = 21, type = "i16", unit = "W", positive = "charge", write = "volatile" }
timer = { address = 22, type = "u16", unit = "s", write = "volatile" }
go = { address = 23, type = "u16", write = "command", readable = false }
[battery]
power_w = "power"
soc_pct = "soc"
live_charge_limit_w = { smallest = ["rating", ["amps", "volts"]] }
ready = [{ point = "state", is = "on" }, { point = "flags", no_bits = ["hot"] }]
[battery.control]
dead_man = { point = "timer", reverts_to = "rest" }
remote = { point = "state", is = "on" }
save = { mode = "own" }
take_over = [{ write = { point = "mode", set = "remote" }, until = { point = "state", is = "on" }, within = "5 s" }]
setpoint = [{ write = { point = "set", from = "power" } }]
release = [{ write = { point = "mode", from = "saved" } }]
"""
SPLIT = """charge = [{ write = { point = "set", from = "power" } }]
discharge = [{ write = { point = "set", from = "power" } }]
rest = [{ write = { point = "set", set = 0 } }]
"""
SETPOINT = 'setpoint = [{ write = { point = "set", from = "power" } }]\n'


@pytest.fixture
def told(tmp_path):
    """The problems of a profile text as `severity where: reason`."""

    def check(text):
        path = tmp_path / "acme.toml"
        path.write_text(text)
        return [f"{problem.severity} {problem.where}: {problem.reason}" for problem in examine(path)[1]]

    return check


def test_a_good_profile_has_no_problem(told):
    assert told(GOOD) == []


@pytest.mark.parametrize("name", sorted(shipped()))
def test_every_shipped_profile_can_be_used(name):
    profile = load(shipped()[name].path)
    assert profile.roles
    assert profile.about.source


POINT = {
    ('type = "u16" }\npower', 'type = "u17" }\npower'): "points.kind.type: unknown type 'u17'; known: 'u16', 'i16'",
    ('unit = "W", positive = "charge" }', 'unit = "W" }'): "points.power: positive is missing: state what a positive value",
    ('"u16", unit = "A"', '"i16", unit = "A"'): "points.amps: positive is missing",
    ('unit = "V"', 'unit = "V", scale = 0'): "points.volts: scale is 0, so every value would be 0",
    ('unit = "V"', 'unit = "V", scale = 1e308'): "points.volts: scale must be within 1e-15 to 1e+15, and offset",
    ('unit = "V"', 'unit = "V", offset = -1e16'): "points.volts: scale must be within 1e-15 to 1e+15, and offset",
    ('unit = "V"', 'unit = "volt"'): "points.volts: unit 'volt' is not known; write one of %, A, Ah",
    ('unit = "V"', 'unit = "V", positive = "charge"'): "points.volts: positive is for powers, currents and setpoints",
    ('positive = "charge" }\nsoc', 'positive = "site" }\nsoc'): 'points.power: positive = "site" is for meters',
    ("address = 5", "address = 3"): "points.amps: overlaps power: both have register 3",
    ("address = 9, ", "address = 65536, "): "points.rating.address: Input should be less than or equal to 65535",
    ("address = 2, ", "address = 65535, "): "points.power: its registers 65535 to 65536 are outside",
    ('type = "u16", unit = "V"', 'type = "string"'): "points.volts: length is missing: a string states",
    ('unit = "V"', 'unit = "V", length = 2'): "points.volts: length is for strings; u16 has 1 registers",
    ('unit = "V"', "values = { a = 1 }"): "points.volts: values are for enum16 and enum32, not for u16",
    ('unit = "V"', "bits = { a = 1 }"): "points.volts: bits are for bitfield16, bitfield32 and bitfield64, not for u16",
    ("hot = 3", "hot = 16"): "points.flags: bit 16 (hot) is outside a bitfield16",
    ("off = 0, on = 1", "off = 1, on = 1"): "points.state: two labels stand for 1",
    ("off = 0, on = 1", "off = 0, on = 65536"): "points.state: the value 0x10000 (on) does not fit a enum16",
    ("values = { off = 0", "scale = 2, values = { off = 0"): "points.state: a enum16 has no scale and no offset",
    ("[0xFFFF]", "[0x1FFFF]"): "points.kind: the sentinel 0x1ffff does not fit a u16",
    ("plausible = [0, 100]", "plausible = [100, 0]"): "points.soc: plausible: the lowest, 100, must be less than",
    ('unit = "V"', 'unit = "V", scale_from = "none"'): "points.volts: scale_from: there is no point 'none'",
    ('unit = "V"', 'unit = "V", scale_from = "power"'): "points.volts: scale_from: 'power' must be an i16 or u16",
    ('unit = "V"', 'unit = "V", unit_id = "none"'): "points.volts: unit_id: 'none' is not in [unit_ids]",
    ('unit = "V"', 'unit = "V", write_function = 6'): "points.volts: write_function is for writable points",
    ('unit = "V"', 'unit = "V", readable = false'): "points.volts: it is neither readable nor writable",
    ('unit = "s", write', 'unit = "s", function = 4, write'): "points.timer: function 4 reads input registers",
    ('"i16", unit = "W"', '"i32", write_function = 6, unit = "W"'): "points.set: function 6 writes one register, but i32",
    ('unit = "V"', 'unit = "V", colour = "red"'): "points.volts.colour: unknown key",
    ('unit = "V"', 'unit = "V", plausable = [0, 1]'): "points.volts.plausable: unknown key; did you mean 'plausible'?",
}  # fmt: skip
CONTROL = {
    ('point = "kind", is', 'point = "none", is'): "identity.check[0]: there is no point 'none'",
    ('point = "kind", is = 7', 'point = "kind"'): "identity.check[0]: says nothing about kind",
    ('point = "kind", is = 7', 'point = "go", is = 7'): "identity.check[0]: go cannot be read",
    ('point = "kind", is = 7', 'point = "kind", matches = "a"'): "identity.check[0]: matches is for texts",
    ("[identity]\n", '[identity]\nserial = "none"\n'): "identity.serial: there is no point 'none'",
    ('power_w = "power"', 'power_w = "none"'): "battery.power_w: there is no point 'none'",
    ('power_w = "power"', 'power_w = "soc"'): "battery.power_w: soc [%] is not a power",
    ('power_w = "power"', 'power_w = "rating"'): "battery.power_w: rating has no direction",
    ('power_w = "power"', 'power_w = "go"'): "battery.power_w: go cannot be read",
    ('["amps", "volts"]', '["amps", "soc"]'): "battery.live_charge_limit_w: amps [A] x soc [%] is not a power",
    ('smallest = ["rating", ["amps", "volts"]]', 'first = ["rating"], sum = ["rating"]'): "battery.live_charge_limit_w: state exactly one",
    ("[battery.control]", '[battery.alarms]\nbms_fault = [{ point = "none", is = 1 }]\n[battery.control]'): "battery.alarms.bms_fault[0]: there is no point 'none'",
    ("[battery.control]", "[battery.alarms]\nfire = []\n[battery.control]"): "battery.alarms.fire: unknown key",
    ("[battery.control]", '[pv]\npower_w = "rating"\nlimit_covers = "both"\n[battery.control]'): "pv.limit_covers: 'both' is none of 'pv' or 'inverter'",
    (GOOD[GOOD.index("[battery]\n"):], '[pv]\npower_w = "power"\nlimit_covers = "inverter"\n'): 'pv.limit_covers: "inverter" adds the power of the battery',
    ('no_bits = ["hot"]', 'no_bits = ["cold"]'): "battery.ready[1]: 'cold' is not among the bits of flags",
    ('[{ point = "state", is = "on" }, {', '[{ point = "state", is = "in" }, {'): "battery.ready[0]: 'in' is not among the values",
    ('dead_man = { point = "timer", reverts_to = "rest" }\n', ""): "battery.control.dead_man: missing",
    ('{ point = "timer", reverts_to = "rest" }', "{}"): "battery.control.dead_man: state exactly one of point, fixed and none",
    ('{ point = "timer", rev', '{ point = "set", rev'): "battery.control.dead_man: set needs a unit of time, it has 'W'",
    ('"s", write = "volatile"', '"s", write = "stored"'): "battery.control.dead_man: timer is stored",
    ('"s", write = "volatile"', '"s"'): "battery.control.dead_man: timer is not declared writable",
    ('{ point = "timer", rev', '{ fixed = "5 s", if_kept = true, rev'): "battery.control.dead_man: if_kept is for a dead-man with a point",
    (SETPOINT, ""): "battery.control: charge, discharge, rest missing: state setpoint, or all of",
    (SETPOINT, SETPOINT + SPLIT): "battery.control: setpoint and charge, discharge, rest exclude each other",
    (SETPOINT, SPLIT.replace("rest =", "# rest =")): "battery.control: rest missing",
    (SETPOINT, SETPOINT.replace('from = "power"', "set = 5")): "battery.control.setpoint: nothing takes the power",
    (SETPOINT, SETPOINT.replace(', from = "power"', "")): "battery.control.setpoint[0]: set: state exactly one of set and from",
    (SETPOINT, SETPOINT.replace('"set"', '"rating"')): "battery.control.setpoint[0]: rating is not declared writable",
    (SETPOINT, SETPOINT.replace('"set"', '"none"')): "battery.control.setpoint[0]: there is no point 'none'",
    (SETPOINT, SETPOINT.replace('"set"', '"timer"')): "battery.control.setpoint[0]: timer: a setpoint is a power or in percent",
    (SETPOINT, SETPOINT.replace('"power"', '"power", of = "rating"')): "battery.control.setpoint[0]: set: of is for setpoints in percent",
    (SETPOINT, SETPOINT.replace("{ write", '{ within = "5 s", write')): "battery.control.setpoint[0]: until and within go together",
    (SETPOINT, SETPOINT + 'heartbeat = "mode"\n'): "battery.control.heartbeat: mode is stored: written every second",
    (SETPOINT, SETPOINT + 'heartbeat = "soc"\n'): "battery.control.heartbeat: soc is not declared writable",
    ('"charge", write = "volatile"', '"charge", write = "stored"'): "battery.control.setpoint[0]: set is stored and would wear out",
    ('"charge", write = "volatile"', '"charge", write = "command"'): "battery.control.setpoint[0]: set is a command, which is not for",
    ('"charge", write = "volatile"', '"charge", verified = false, write = "volatile"'): "battery.control.setpoint[0]: set is not verified",
    ('"charge", write = "volatile"', '"charge", readable = false, write = "volatile"'): 'set cannot be read back; state confirm = "acknowledgement"',
    ('"i16", unit = "W", positive = "charge", write', '"i16", unit = "%", positive = "charge", write'): "of is missing: a setpoint in percent",
    ('set = "remote" }', 'set = "far" }'): "battery.control.take_over[0]: mode: 'far' is not among its values",
    ('save = { mode = "own" }', ""): "battery.control.release[0]: mode: it is not in save",
    ('save = { mode = "own" }', 'save = { mode = "mine" }'): "battery.control.save.mode: 'mine' is not among the values",
    ('from = "saved"', 'set = "own"'): "battery.control.save.mode: release does not put it back",
    ('release = [{ write = { point = "mode", from = "saved" } }]', ""): "battery.control: release is missing",
    ("[battery]", "[engine]"): "engine: unknown key",
    (GOOD[GOOD.index("[battery]\n"):], ""): "battery, pv, meter: none of them is there",
    ("schema = 1", "schema = 2"): "schema: 2 is none of 1",
    ("date = 2026-11-21", "date = 2026"): "about.date: a date without quotes is expected, not 2026",
}  # fmt: skip


SUNSPEC = (
    GOOD[: GOOD.index("[identity]")]
    + """[sunspec]
roles = ["battery"]
models = [[704, 124]]
"""
)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("704, ", "999, ", "sunspec.models[0]: 999 is not read here; known: 1, 101"),
        ("[[704, 124]]", "[[]]", "sunspec.models[0]: List should have at least 1 item"),
        ('"battery"]', '"engine"]', "sunspec.roles[0]: 'engine' is none of 'battery', 'pv' or 'meter'"),
        ('["battery"]', "[]", "sunspec.roles: List should have at least 1 item"),
        ("models = [[", 'maker = "("\nmodels = [[', "sunspec.maker: '(' is no regular expression"),
        ("models = [[", 'positive = "import"\nmodels = [[', "sunspec.positive: is for meters"),
        ("[sunspec]", "[points]\n[sunspec]", "points: is not for a device with [sunspec]"),
        ("[sunspec]", "[identity]\n[sunspec]", "identity: is not for a device with [sunspec]"),
        (SUNSPEC[SUNSPEC.index("[sunspec]"):], "", "identity: missing"),
        (SUNSPEC[SUNSPEC.index("[sunspec]"):], "", "points: missing"),
        (SUNSPEC[SUNSPEC.index("[sunspec]"):], "[identity]\n", "identity.check: missing"),
    ],
)  # fmt: skip
def test_a_sunspec_profile_that_makes_no_sense_is_refused_with_its_place(told, old, new, expected):
    assert told(SUNSPEC) == []
    assert old in SUNSPEC
    assert [line for line in told(SUNSPEC.replace(old, new, 1)) if line.startswith(f"error {expected}")]


FORM = {
    (SETPOINT, SETPOINT.replace("[{", "{").replace("}]", "}")): "battery.control.setpoint: a list [ ... ] is expected, not {",
    (SETPOINT, 'setpoint = [{ write = "set" }]\n'): "setpoint[0].write: a table { ... } or a list [ ... ] is expected, not 'set'",
    (SETPOINT, SETPOINT.replace("from", "form")): "setpoint[0].write.form: unknown key; did you mean 'from'?",
    (SETPOINT, SETPOINT.replace('"power"', '"powr"')): "setpoint[0].write.from: 'powr' is none of 'power', 'dead_man', 'saved'",
    ('power_w = "power"', "power_w = 3"): "battery.power_w: a text or a table { ... } is expected, not 3",
    ('power_w = "power"', 'power_w = { summ = ["power"] }'): "battery.power_w.summ: unknown key; did you mean 'sum'?",
    ('"volts"]]', "3]]"): "battery.live_charge_limit_w.smallest[1][1]: a text is expected, not 3",
    ('within = "5 s"', "within = 5"): "take_over[0].within: write the unit with the number: a time in ms, s, min, h",
    ('within = "5 s"', 'within = "5 V"'): "take_over[0].within: 'V' is a unit of voltage; this is a time",
    ("address = 5", 'address = "5"'): "points.amps.address: a whole number is expected, not '5'",
    ("address = 5, ", ""): "points.amps.address: missing",
    ("amps = {", "Amps = {"): "points.Amps: 'Amps' is no name: write a to z",
    ("bms = 225", "bms = 300"): "unit_ids.bms: Input should be less than or equal to 255, not 300",
    ('write = "stored"', "write = true"): "points.mode.write: True is none of 'volatile', 'stored' or 'command'",
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "expected"), [*POINT.items(), *CONTROL.items(), *FORM.items()], ids=lambda value: str(value)[:60]
)
def test_what_makes_no_sense_is_refused_with_its_place_and_reason(told, change, expected):
    old, new = change
    assert old in GOOD
    errors = [line.removeprefix("error ") for line in told(GOOD.replace(old, new, 1)) if line.startswith("error ")]
    assert [line for line in errors if expected in line], errors
    assert change not in FORM or len(errors) == 1, "one mistake, one line"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('tried = "X1"', "", "about.tried: it was never tried on hardware"),
        ('{ point = "timer", reverts_to = "rest" }', '{ none = "the map" }', "battery.control.dead_man: none: a setpoint stays"),
        ('{ point = "timer", reverts_to = "rest" }', '{ fixed = "90 s" }', "dead_man: 90 s is longer than the 60 s"),
        ('{ point = "timer", reverts_to = "rest" }', '{ fixed = "5 s", fed_by_reads = true }', "polling feeds it too"),
        ('unit = "V"', 'unit = "V", verified = false', "points.volts: is not verified: it is read, and never written"),
        ('soc_pct = "soc"\n', "", "battery.soc_pct: is missing"),
    ],
)  # fmt: skip
def test_what_its_author_should_know_is_a_warning(told, old, new, expected):
    found = told(GOOD.replace(old, new, 1))
    assert [line for line in found if line.startswith("warning ") and expected in line], found
    assert not [line for line in found if line.startswith("error ")]


BLOCKS = "[reads]\nmax_gap = 4\nmax_registers = 12\nblocks = [[1, 9], [20, 23]]\n"


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        (BLOCKS, None),
        (BLOCKS.replace("[1, 9]", "[1, 13]"), "reads.blocks: the block from 1 has 13 registers, more than max_registers"),
        (BLOCKS.replace("[1, 9]", "[9, 1]"), "reads.blocks: the block from 9 ends before it begins"),
        (BLOCKS.replace("[1, 9]", "[1, 8]"), "points.rating: lies in none of reads.blocks"),
        (BLOCKS.replace("[1, 9], [20, 23]", "[1, 23]").replace("= 12", "= 30"), "points.mode: 10 registers after rating: max_gap allows 4"),
        (BLOCKS.replace("[20, 23]", "[20, 23], [50, 52]"), "reads.blocks: there is no point in the block 50 to 52"),
    ],
)  # fmt: skip
def test_stated_blocks_keep_their_limits(told, blocks, expected):
    found = told(GOOD.replace("[identity]", blocks + "[identity]"))
    assert found == [] if expected is None else [line for line in found if expected in line]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"flags": 30}, "one_frame: the registers must follow one another"),
        ({}, "one_frame: function 6 writes a single register"),
    ],
)
def test_a_group_in_one_frame_needs_registers_that_follow_one_another(told, change, expected):
    text = GOOD.replace(
        SETPOINT,
        'setpoint = [{ one_frame = true, write = [{ point = "set", from = "power" }, { point = "timer", set = 5 }] }]\n',
    )
    assert told(text) == []
    text = (
        text.replace("address = 22", "address = 24")
        if change
        else text.replace('"s", write', '"s", write_function = 6, write')
    )
    assert [line for line in told(text) if expected in line]


def test_a_group_in_one_frame_lies_behind_one_unit_id(told):
    group = (
        'setpoint = [{ one_frame = true, write = [{ point = "set", from = "power" }, { point = "timer", set = 5 }] }]\n'
    )
    text = GOOD.replace(SETPOINT, group).replace('unit = "s", write', 'unit = "s", unit_id = "bms", write')
    assert [line for line in told(text) if "one_frame: the points lie behind different unit ids" in line]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\xff\xfe", "file: is not UTF-8 text"),
        (b"schema = ", "file: is not TOML"),
        (b"a = " + b"[" * 5000, "file: is not TOML"),
        (b"a = " + b"9" * 5000, "file: is not TOML: it has a number of thousands of digits"),
        (b"#" * (MAX_FILE_BYTES + 1), "file: has 262145 bytes"),
        (b"", "about: missing"),
    ],
)
def test_what_is_no_profile_at_all_is_refused_with_the_file(tmp_path, content, expected):
    path = tmp_path / "acme.toml"
    path.write_bytes(content)
    with pytest.raises(BadProfile) as refused:
        load(path)
    assert any(line.startswith(f"{path}: ") and expected in line for line in refused.value.problems)


def test_a_file_that_is_not_there_says_so(tmp_path):
    with pytest.raises(BadProfile, match="No such file"):
        load(tmp_path / "none.toml")


def test_the_example_of_the_guide_is_a_profile_of_less_than_sixty_lines(told):
    guide = (ROOT / "docs" / "adding-a-device.md").read_text()
    own, sunspec = guide.split("## A device that speaks SunSpec")
    for part in (own, sunspec):
        text = "\n".join(re.findall(r"```toml\n(.*?)```", part, re.DOTALL))
        assert tomllib.loads(text)
        assert [line for line in told(text) if line.startswith("error")] == []
        assert len([line for line in text.splitlines() if line.strip()]) < 60
