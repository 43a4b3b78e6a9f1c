"""The site's TOML file: read whole or refused whole, with file, key and reason."""

import pytest

from simulators.site_config import ConfigRefusedError, SiteConfig, load_config

GOOD = """
seed = 5
[battery]
capacity_wh = 1100
rated_charge_w = 500000.0
[load]
base_w = 40000.0
day_shape = [1.0, 0.5]
[day]
solar_time_factor = 900.0
[meter]
positive = "import"
[modbus]
battery_port = 1502
"""


@pytest.fixture
def file(tmp_path):
    return tmp_path / "site.toml"


def test_a_good_file_is_read_and_the_rest_is_the_default(file):
    file.write_text(GOOD)
    config = load_config(file)
    assert (config.seed, config.battery.capacity_wh, config.load.day_shape) == (5, 1_100.0, (1.0, 0.5))
    assert (config.meter.positive, config.modbus.battery_port, config.day.solar_time_factor) == ("import", 1502, 900.0)
    assert config.pv == SiteConfig().pv


@pytest.mark.parametrize(
    ("found", "put", "key"),
    [
        ("capacity_wh", "capacity_kwh", "battery.capacity_kwh: unknown key"),
        ("[load]", "[lode]", "lode: unknown key"),
        ("= 1100", '= "1100"', "battery.capacity_wh: "),
        ("= 1100", "= true", "battery.capacity_wh: "),
        ("= 1100", "= nan", "battery.capacity_wh: "),
        ("= 1100", "= inf", "battery.capacity_wh: "),
        ("= 1100", "= 0", "capacity_wh must be above 0"),
        ('"import"', '"imports"', "meter.positive: "),
        ("= 1502", "= 70000", "battery_port must be 0"),
        ("= 1502", "= 1502.5", "modbus.battery_port: "),
        ("= 1502", "= 1502\npv_unit = 3", "must differ"),
        ("[1.0, 0.5]", "[]", "day_shape"),
        ("[battery]", "[battery", "cannot be read as TOML"),
    ],
)
def test_a_bad_file_is_refused_naming_file_key_and_reason(file, found, put, key):
    file.write_text(GOOD.replace(found, put))
    with pytest.raises(ConfigRefusedError) as refused:
        load_config(file)
    assert str(file) in str(refused.value)
    assert key in str(refused.value)


def test_a_file_that_is_not_there_is_refused_by_name(file):
    with pytest.raises(ConfigRefusedError, match=str(file)):
        load_config(file)
