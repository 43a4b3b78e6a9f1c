"""`ems config check`: the limits in force with their source, and what deserves a second look."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent.cli.config_limits import hertz, watts
from agent.cli.main import app

CONFIG = Path(__file__).parents[2] / "config"
OPTION = re.compile(r"^# (?=[a-z_]+ = |\[)", re.MULTILINE)
FULL = OPTION.sub("", (CONFIG / "site.example.toml").read_text()).replace(
    "mqtt://127.0.0.1:1883", "wss://broker.example"
)


@pytest.fixture
def check(tmp_path):
    def of(text, *options):
        path = tmp_path / "site.toml"
        path.write_text(text)
        done = CliRunner().invoke(app, ["config", "check", "--config", str(path), *options])
        assert done.exit_code == 0, done.output
        return done.stdout

    return of


@pytest.fixture
def facts(check):
    return lambda text: json.loads(check(text, "--json"))["result"]


def limit(found, subject, key):
    (one,) = [one for one in found["limits"] if (one["subject"], one["key"]) == (subject, key)]
    return one["value"], one["source"]


def example(name):
    return (CONFIG / f"{name}.toml").read_text()


def test_each_limit_tells_its_value_its_unit_and_its_source(facts):
    found = facts(FULL)
    assert limit(found, "connection point", "export_limit") == ("400 kW", "site file")
    assert limit(found, "all batteries", "ramp_down") == ("50 kW/s", "site file")
    assert limit(found, "bess (battery)", "rated_charge_power") == ("400 kW", "site file")
    assert limit(found, "bess (battery)", "soc_reserve") == ("20 %", "site file")
    assert limit(found, "bess (battery)", "derating.cell_min_voltage")[0].startswith(
        "charge and discharge by curve, 60 %"
    )
    assert (
        limit(found, "bess (battery)", "shared_inverter")[0]
        == "500 kW with pv (650 kW peak), not charged from the grid"
    )
    assert limit(found, "pv (pv)", "dead_man") == ("30 s", "site file")
    assert limit(found, "my-fcr (product)", "points") == ("from 20 mHz, whole award at 150 mHz", "site file")


def test_what_is_not_stated_is_told_as_default_or_preset(facts):
    found = facts(example("stand-alone"))
    assert limit(found, "bess (battery)", "soc_reserve") == ("none", "default")
    assert limit(found, "bess (battery)", "dead_band") == ("2 kW", "default")
    preset = "preset eprx-primary-online-50hz"
    assert limit(found, "eprx-primary-online-50hz (product)", "full_by") == ("10 s", preset)
    assert limit(found, "eprx-primary-online-50hz (product)", "points")[1] == "site file"


def test_without_a_ramp_there_is_no_limit(facts):
    assert limit(facts(example("several-batteries")), "all batteries", "ramp_up") == ("no limit", "default")


def test_pv_that_may_not_be_limited_is_told_as_such(facts):
    found = facts(example("ac-coupled-pv").replace("can_be_limited = true", ""))
    assert limit(found, "pv (pv)", "can_be_limited") == ("no", "default")
    assert [one["key"] for one in found["limits"] if one["subject"] == "pv (pv)"] == ["can_be_limited"]


def test_people_see_each_subject_once_and_a_source_only_where_it_is_not_the_file(check):
    told = check(example("ac-coupled-pv")).splitlines()
    assert told.count("bess (battery):") == 1
    assert "  soc_reserve         20 %" in told
    assert "  soc_taper           1 %  (default)" in told
    assert max(len(line) for line in told[1:]) <= 79


@pytest.mark.parametrize("path", sorted(CONFIG.glob("*.toml")), ids=lambda path: path.stem)
def test_the_examples_need_no_second_look(facts, path):
    assert facts(path.read_text())["warnings"] == []


@pytest.mark.parametrize(
    ("name", "old", "new", "key", "told"),
    [
        ("ac-coupled-pv", 'dead_man = "30 s"', 'dead_man = "31 s"', "device[0] (bess).dead_man", "for up to 31 s"),
        ("ac-coupled-pv", 'dead_man = "30 s"', 'dead_man = "5 s"', "device[0] (bess).dead_man", "refreshed every 1.67 s"),
        ("ac-coupled-pv", 'soc_min = "5 %"\nsoc_max = "95 %"', 'soc_min = "2 %"\nsoc_max = "98 %"', "device[0] (bess).soc_min", "96 % wide"),
        ("ac-coupled-pv", 'dead_man = "30 s"', 'dead_man = "30 s"\ndead_band = "6 kW"', "device[0] (bess).dead_band", "2.4 % of the rating"),
        ("ac-coupled-pv", "can_be_limited = true", "", "device[1] (pv).can_be_limited", "export limit of 150 kW"),
        ("stand-alone", 'gate = "0 mHz"', "", "product[0] (eprx-primary-online-50hz).gate", "not read in the market's own rules"),
        ("stand-alone", 'frequency_resolution = "1 mHz"', "", "product[0] (eprx-primary-online-50hz)", "to 10 mHz: state the frequency_resolution of grid-meter"),
        ("stand-alone", 'frequency_resolution = "1 mHz"', 'frequency_resolution = "50 mHz"', "product[0] (eprx-primary-online-50hz)", "awards will not be answered"),
        ("stand-alone", '[cloud]\nbroker = "mqtt://127.0.0.1:1883"', "", "control.local_rule", "without a cloud the batteries rest"),
        ("stand-alone", "[control]", '[control]\nmode = "read_only"', "control.mode", "nothing is written"),
        ("stand-alone", "[device.derating.soc]", '[device.derating.temperature]\ncharge = [["0 degC", "0 %"]]\n[device.derating.soc]', "device[0] (bess).derating.temperature", "stays at when_unknown (50 %)"),
    ],
)  # fmt: skip
def test_a_risky_combination_is_warned_of_by_key(facts, name, old, new, key, told):
    text = example(name)
    assert old in text
    (warning,) = facts(text.replace(old, new, 1))["warnings"]
    assert warning["key"] == key
    assert told in warning["text"]


def test_a_long_dead_man_is_no_risk_where_the_connection_carries_everything(facts):
    text = example("ac-coupled-pv").replace('dead_man = "30 s"', 'dead_man = "60 s"')
    wide = text.replace('export_limit = "150 kW"', 'export_limit = "400 kW"')
    assert (len(facts(text)["warnings"]), len(facts(wide)["warnings"])) == (1, 0)


def test_pv_that_the_connection_can_carry_need_not_be_limited(facts):
    text = example("ac-coupled-pv").replace("can_be_limited = true", "")
    assert facts(text.replace('export_limit = "150 kW"', 'export_limit = "400 kW"'))["warnings"] == []


def test_warnings_are_for_people_too_and_leave_the_file_usable(check):
    told = check(example("ac-coupled-pv").replace("can_be_limited = true", ""))
    assert "warning: device[1] (pv).can_be_limited: PV may give more" in told


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (watts(2.5e6), "2.5 MW"), (watts(999e3), "999 kW"), (watts(0.0), "0 W"), (watts(None), "no limit"),
        (hertz(0.0125), "12.5 mHz"), (hertz(60.0), "60 Hz"),
    ],
)  # fmt: skip
def test_numbers_are_shown_in_the_unit_people_read(shown, expected):
    assert shown == expected


@pytest.mark.parametrize(("text", "words"), [(None, "name the site file with --config FILE"), ("?", "mend ")])
def test_a_file_that_cannot_be_used_is_told_with_what_to_do_next(text, words, tmp_path):
    file = tmp_path / "site.toml"
    if text is not None:
        file.write_text(text)
    done = CliRunner().invoke(app, ["config", "check", "--config", str(file)])
    assert done.exit_code == 1
    assert done.output.splitlines()[-1].startswith(f"next: {words}")
