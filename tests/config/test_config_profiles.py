"""Devices with a profile in the site file: shipped ones, the site's own, and what is refused with its key."""

from __future__ import annotations

import pytest

from agent.config import ConfigError, load
from drivers.profile.load import shipped

HEAD = """
schema = 1
[site]
id = "s-1"
[connection_point]
export_limit = "100 kW"
import_limit = "100 kW"
"""
BATTERY = """
[[device]]
id = "hybrid"
role = "battery"
profile = "sungrow-sh"
url = "tcp://10.0.0.5:502"
rated_power = "10 kW"
"""
METER = """
[[device]]
id = "meter"
role = "meter"
profile = "eastron-sdm630"
url = "tcp://10.0.0.6:502"
"""


@pytest.fixture
def site(tmp_path):
    def write(text):
        path = tmp_path / "site.toml"
        path.write_text(text)
        return path

    return write


def refusal(path):
    with pytest.raises(ConfigError) as refused:
        load(path)
    return str(refused.value)


def test_a_device_with_a_shipped_profile(site):
    loaded = load(site(HEAD + BATTERY))
    spec = loaded.spec(loaded.device[0])
    assert (spec.profile.about.maker, spec.role, spec.unit_id, spec.reversion_s) == ("Sungrow", "battery", 1, 60)


def test_a_device_without_one_is_sunspec(site):
    loaded = load(site(HEAD + BATTERY.replace('profile = "sungrow-sh"\n', "")))
    assert loaded.spec(loaded.device[0]).profile is None


def test_one_hybrid_fills_several_roles_at_one_address(site):
    text = HEAD.replace("[conn", '[connection_point]\nmeter = "hybrid-meter"\n#')
    text += "".join(
        BATTERY.replace('"hybrid"', f'"hybrid-{role}"').replace('"battery"', f'"{role}"') for role in ("battery", "pv")
    )
    text += (
        METER.replace('"meter"\nrole', '"hybrid-meter"\nrole')
        .replace("eastron-sdm630", "sungrow-sh")
        .replace("10.0.0.6", "10.0.0.5")
    )
    loaded = load(site(text))
    assert [device.role for device in loaded.device] == ["battery", "pv", "meter"]
    assert len({device.address for device in loaded.device}) == 1


@pytest.mark.parametrize(
    ("battery", "meter", "allowed"),
    [("solaredge-storedge", "sunspec-meter", True), ("solaredge-storedge", None, True), (None, "sunspec-meter", True),
     ("sunspec-battery", "sunspec-meter", True), ("solaredge-storedge", "eastron-sdm630", False), (None, None, False)],
)  # fmt: skip
def test_what_a_profile_leaves_out_the_sunspec_models_of_the_same_device_may_tell(site, battery, meter, allowed):
    def named(text, old, profile):
        return text.replace(f'profile = "{old}"\n', "" if profile is None else f'profile = "{profile}"\n')

    own = named(BATTERY, "sungrow-sh", battery)
    other = named(METER.replace("10.0.0.6", "10.0.0.5"), "eastron-sdm630", meter) + 'positive = "import"\n'
    if allowed:
        assert len({device.address for device in load(site(HEAD + own + other)).device}) == 1
    else:
        assert "is already the address of device[0] (hybrid)" in refusal(site(HEAD + own + other))


@pytest.mark.parametrize(
    ("profile", "said"),
    [("sunspec-inverter", "the profile fills the role pv, not battery"),
     ("sunspec-baterry", "did you mean 'sunspec-battery'?")],
)  # fmt: skip
def test_a_sunspec_profile_for_another_role_is_refused(site, profile, said):
    assert said in refusal(site(HEAD + BATTERY.replace("sungrow-sh", profile)))


def test_a_sunspec_battery_by_its_profile_may_state_where_its_map_begins_and_a_meter_must_state_its_sign(site):
    text = BATTERY.replace('"sungrow-sh"', '"sunspec-battery"\nbase_address = 500')
    loaded = load(site(HEAD + text))
    spec = loaded.spec(loaded.device[0])
    assert (spec.base_address, spec.sunspec.models) == (500, [[704, 124]])
    said = refusal(site(HEAD + BATTERY + METER.replace("eastron-sdm630", "sunspec-meter")))
    assert 'positive must be "export" or "import"' in said


def test_the_same_role_twice_at_one_address_is_refused(site):
    again = BATTERY.replace('"hybrid"', '"second"')
    assert "device[1] (second).url: tcp://10.0.0.5:502 unit 1 is already the address of device[0] (hybrid)" in refusal(
        site(HEAD + BATTERY + again)
    )


def test_a_profile_of_the_sites_own_folder(site, tmp_path):
    (tmp_path / "profiles").mkdir()
    text = shipped()["sungrow-sh"].path.read_text()
    (tmp_path / "profiles" / "my-hybrid.toml").write_text(text.replace('maker = "Sungrow"', 'maker = "Mine"'))
    loaded = load(site(HEAD + BATTERY.replace("sungrow-sh", "my-hybrid")))
    assert loaded.spec(loaded.device[0]).profile.about.maker == "Mine"


def test_a_file_of_the_site_cannot_take_the_name_of_a_shipped_profile(site, tmp_path):
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "sungrow-sh.toml").write_text(shipped()["sungrow-sh"].path.read_text())
    said = refusal(site(HEAD + BATTERY))
    assert "device[0] (hybrid).profile:" in said
    assert "the name 'sungrow-sh' is that of a shipped profile; rename the file" in said


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('type = "u16", scale = 0.01, unit = "kWh"', 'type = "u17", unit = "kWh"', "points.battery_capacity.type: unknown type 'u17'"),
        ("{ address = 13023", "{ address = 13022", "points.battery_soh: overlaps battery_soc: both have register 13022"),
        ('scale = 0.01, unit = "kWh"', 'scale = 0, unit = "kWh"', "points.battery_capacity: scale is 0, so every value would be 0"),
        ('unit = "W", positive = "discharge"', 'unit = "W"', "points.battery_power: positive is missing: state what a positive value means"),
        ('positive = "magnitude", write = "volatile"', 'positive = "magnitude"', "battery.control.charge[0]: command_power is not declared writable"),
    ],
    ids=["type", "overlap", "scale", "sign", "write"],
)  # fmt: skip
def test_a_broken_profile_is_refused_with_file_point_and_reason(site, tmp_path, old, new, said):
    text = shipped()["sungrow-sh"].path.read_text()
    assert old in text
    (tmp_path / "profiles").mkdir()
    own = tmp_path / "profiles" / "mine.toml"
    own.write_text(text.replace(old, new, 1))
    assert f"device[0] (hybrid).profile: {own}: {said}" in refusal(site(HEAD + BATTERY.replace("sungrow-sh", "mine")))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (BATTERY.replace("sungrow-sh", "sungrow-hs"), "device[0] (hybrid).profile: profile 'sungrow-hs': neither shipped"),
        (BATTERY.replace("sungrow-sh", "sungrow-hs"), "did you mean 'sungrow-sh'?"),
        (BATTERY.replace("sungrow-sh", "eastron-sdm630"), "device[0] (hybrid): the profile fills the role meter, not battery"),
        (BATTERY + "base_address = 40000\n", "device[0] (hybrid): base_address is for SunSpec devices"),
        (BATTERY + "unit_ids = { bms = 3 }\n", "device[0] (hybrid): unit_ids: the profile has no 'bms'; it names none"),
        (BATTERY.replace('profile = "sungrow-sh"', "unit_ids = { bms = 3 }"), "device[0] (hybrid).unit_ids: is for devices with a profile"),
        (BATTERY + METER, 'device[1] (meter): positive must be "export" or "import"'),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_its_key(site, text, expected):
    assert expected in refusal(site(HEAD + text))


def test_a_meter_whose_profile_states_the_sign_needs_none_in_the_site_file(site):
    loaded = load(site(HEAD + BATTERY + METER.replace("eastron-sdm630", "sungrow-sh")))
    assert loaded.spec(loaded.device[1]).positive is None


def test_the_profile_tells_the_resolution_of_the_frequency_unless_the_site_file_does(site):
    text = HEAD.replace("[conn", '[connection_point]\nmeter = "meter"\n#') + BATTERY
    text += METER.replace("eastron-sdm630", "sungrow-sh")
    assert load(site(text)).rules().frequency_resolution_hz == pytest.approx(0.01)
    assert load(site(text + 'frequency_resolution = "1 mHz"\n')).rules().frequency_resolution_hz == pytest.approx(0.001)
