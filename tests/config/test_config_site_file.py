"""The site file: what is refused is named by file, key and reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import ConfigError, SiteFile, load
from agent.quantity import parse
from agent.site_file.shown import shown

EXAMPLES = sorted((Path(__file__).parents[2] / "config").glob("*.toml"))
TEXT = (Path(__file__).parents[2] / "config" / "site.example.toml").read_text()


@pytest.fixture
def problems(tmp_path):
    def of(text: str) -> str:
        path = tmp_path / "site.toml"
        path.write_text(text)
        with pytest.raises(ConfigError) as refused:
            load(path)
        assert all(problem.startswith(f"{path}: ") for problem in refused.value.problems)
        return str(refused.value).replace(f"{path}: ", "")

    return of


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_usable(path):
    assert load(path).rules().batteries


def test_a_site_has_at_most_128_devices(tmp_path, problems):
    def text(more):
        extra = "".join(
            f'[[device]]\nid = "pv-{at}"\nrole = "pv"\nurl = "tcp://192.168.11.1:{1000 + at}"\n' for at in range(more)
        )
        return TEXT.replace("[[device]]", f"{extra}[[device]]", 1)

    path = tmp_path / "most.toml"
    path.write_text(text(125))
    assert len(load(path).device) == 128
    assert "device: List should have at most 128 items" in problems(text(126))


def test_limits_arrive_in_watts_and_shares_as_fractions():
    rules = load(EXAMPLES[[p.name for p in EXAMPLES].index("site.example.toml")]).rules()
    assert (rules.export_limit_w, rules.batteries[0].rated_charge_w) == (400e3, 500e3)
    assert (rules.batteries[0].one_way_efficiency, rules.batteries[0].dead_band_w) == (0.95, 500.0)
    assert rules.import_limit_w == 400e3


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("export_limit =", "exprot_limit =", "connection_point.exprot_limit: unknown key; did you mean 'export_limit'?"),
        ('export_limit = "400 kW"', "", "connection_point.export_limit: missing"),
        ('export_limit = "400 kW"', 'export_limit = "400 kWh"', "export_limit: 'kWh' is a unit of energy"),
        ('export_limit = "400 kW"', 'export_limit = "400 kVA"', "export_limit: 'kVA' is not a known unit"),
        ('export_limit = "400 kW"', "export_limit = 400", "export_limit: write the unit with the number"),
        ('export_limit = "400 kW"', 'export_limit = "-400 kW"', "connection_point.export_limit: "),
        ('poll = "1 s"', 'poll = "240000 ms"', "device[0] (bess).poll: "),
        ("unit_id = 3", "unit_id = 2", "device[2] (grid-meter).url: tcp://192.168.10.21:502 unit 2 is already the address of device[1] (pv)"),
        ("tcp://192.168.10.20:502", "tls://192.168.10.20:802", "device[0] (bess).url: tls://192.168.10.20:802 needs [modbus_tls] with ca, certificate and key"),
        ("tcp://192.168.10.20:502", "serial:///dev/ttyUSB0", "device[0] (bess).url: 'serial:///dev/ttyUSB0': baud is missing"),
        ('url = "tcp://192.168.10.21:502"\nunit_id = 3', 'url = "rtu+tcp://192.168.10.21:502"\nunit_id = 3', "device[2] (grid-meter).url: rtu+tcp://192.168.10.21:502 is the line of device[1] (pv), which states it as tcp://192.168.10.21:502"),
        ('url = "tcp://192.168.10.20:502"', 'url = "rtu+tcp://192.168.10.20:502"\nunit_ids = { x = 248 }', "device[0] (bess): unit_ids.x must be 1 to 247 on a serial line"),
        ("[control]", '[control]\nmode = "look"', "control.mode: "),
        ("[control]", '[modbus_tls]\nca = "ca.pem"\ncertificate = "/c"\nkey = "/k"\n[control]', "modbus_tls.ca: 'ca.pem': write the whole path of a PEM file"),
        ('id = "pv"', 'id = "bess"', "device[1] (bess).id: device[0] has the same id"),
        ("unit_id = 3", "unit_id = 300", "device[2] (grid-meter).unit_id: "),
        ('positive = "import"', "", "device[2] (grid-meter): positive is missing"),
        ('rated_power = "500 kW"', "", "device[0] (bess): rated_power is missing"),
        ("unit_id = 3", 'unit_id = 3\nrated_power = "1 kW"', "device[2] (grid-meter): rated_power is for a battery or pv, but this device is a meter"),
        ('soc_min = "5 %"', 'soc_min = "96 %"', "device[0] (bess): soc_min (96 %) must lie below soc_max (95 %)"),
        ('dead_man = "30 s"', 'dead_man = "2 s"', "device[0] (bess): dead_man must be longer than three polls"),
        ('dead_man = "30 s"', 'dead_man = "10 min"', "device[0] (bess).dead_man: "),
        ("tcp://192.168.10.20:502", "http://192.168.10.20", "device[0] (bess).url: "),
        ("mqtt://127.0.0.1:1883", "127.0.0.1:1883", "cloud.broker: "),
        ('frame = "60 s"', 'frame = "60 s"\nlink = "metered"\naggregate = "90 s"', "cloud: aggregate (90 s) must be a whole multiple of frame (60 s)"),
        ('frame = "60 s"', 'frame = "60 s"\nlink = "metered"\naggregate = "30 s"', "cloud: aggregate (30 s) must be a whole multiple of frame (60 s)"),
        ('frame = "60 s"', 'frame = "60 s"\nhistory_per_s = 0', "cloud.history_per_s: "),
        ('meter = "grid-meter"', 'meter = "pv"', "connection_point.meter: 'pv' is not the id of a device with role meter"),
        ('meter = "grid-meter"', "", "connection_point.meter: a site with PV or load needs the meter"),
        ("/run/ems-agent/ems.sock", "/run/" + "x" * 120, "api.socket: a Unix socket's path has at most 107 bytes"),
        ('"Asia/Tokyo"', '"Tokio"', "site.timezone: 'Tokio' is not a time zone"),
        ('"example-01"', '"Example 1"', "site.id: "),
        ('role = "battery"', 'role = "batery"', "device[0] (bess).role: "),
        ("schema = 1", "schema = 2", "schema: "),
        ("schema = 1", "schema = ", "is not TOML: Invalid value (at line 6"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_key_and_reason(problems, old, new, expected):
    assert old in TEXT
    assert expected in problems(TEXT.replace(old, new, 1))


def test_all_mistakes_are_told_at_once(problems):
    told = problems(TEXT.replace('soc_min = "5 %"', 'soc_min = "5 kW"').replace("load = true", "lode = true"))
    assert len(told.splitlines()) == 2


def test_a_file_that_is_not_there_or_not_text_is_named(problems, tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        load(tmp_path / "binary.toml")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("x = " + "[" * 3000, "is not TOML for this agent: its tables or lists are nested too deep"),
        ("x" + ".a" * 300 + " = 1", "is not TOML for this agent: x is nested more than 16 deep"),
        ("x = " + "9" * 5000, "is not TOML: it has a number of thousands of digits"),
        ("x = [{ y = " + "9" * 320 + " }]", "is not TOML: x.y is a whole number of more than 64 bits"),
    ],
    ids=["lists", "tables", "digits", "64 bits"],
)
def test_what_no_site_file_needs_is_refused_and_not_shown(problems, line, expected):
    assert problems(f"{line}\n{TEXT}") == expected
    assert shown(f"{line}\n{TEXT}", SiteFile).removed[-1] == f"all values: the file {expected}"


@given(st.floats(0, 1e6).map(lambda value: round(value, 3)))
def test_the_unit_sets_the_scale(value):
    assert parse(f"{value:f} kW", "power") == pytest.approx(value * 1000, abs=1e-3)
    assert parse(f"{value:f}min", "time") == pytest.approx(value * 60, abs=1e-4)


@given(st.text())
def test_any_text_is_a_quantity_or_a_named_error(text):
    try:
        parse(text, "power")
    except ValueError as error:
        assert "for example" in str(error) or "too large" in str(error)
