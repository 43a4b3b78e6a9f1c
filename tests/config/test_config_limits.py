"""The site file reaches every rule of the core, and what does not fit together is refused by key and reason."""

from __future__ import annotations

from dataclasses import MISSING, fields

import pytest
from config_files import EXAMPLES, FULL, TEXT, full

from agent.config import ConfigError, SiteFile, load
from agent.core.admission import plan_limits
from agent.core.derating import Quantity
from agent.core.droop import DroopTable
from agent.core.droop_products import PRODUCTS
from agent.core.envelope_rules import BatteryLimits, PvRules
from agent.core.hybrid import SharedInverter
from agent.core.ramp import RampRules
from agent.core.rules import LocalRule, SiteRules
from agent.quantity import parse
from agent.site_file.problems import keys, table


@pytest.fixture
def loaded(tmp_path):
    def of(text):
        path = tmp_path / "site.toml"
        path.write_text(text)
        return load(path)

    return of


@pytest.fixture
def refusal(loaded):
    def of(text):
        with pytest.raises(ConfigError) as refused:
            loaded(text)
        return "\n".join(problem.split("site.toml: ", 1)[1] for problem in refused.value.problems)

    return of


def unstated(section, data, where=""):
    """The keys of `section` that `data` does not have, by their full names."""
    found = []
    for key in keys(section):
        inner = table(section, key)
        parts = data.get(key)
        if parts is None:
            found.append(where + key)
        elif inner is not None:
            merged = {k: v for part in parts for k, v in part.items()} if isinstance(parts, list) else parts
            found += unstated(inner, merged, f"{where}{key}.")
    return found


def test_every_key_stands_in_the_documented_example():
    assert unstated(SiteFile, full()) == []


def test_the_documented_example_is_usable_with_every_option_switched_on(loaded):
    assert loaded(FULL).rules().products


def default(field):
    return field.default_factory() if field.default_factory is not MISSING else field.default


def left_at_default(rules, of):
    """The fields that were not moved from their defaults."""
    return [field.name for field in fields(of) if getattr(rules, field.name) == default(field)]


def test_every_rule_of_the_core_can_be_set_from_the_site_file(loaded):
    """The documented values that happen to be the defaults are moved first."""
    text = FULL.replace('soc_taper = "1 %"', 'soc_taper = "2 %"')
    text = text.replace('soc_hysteresis = "0.5 %"', 'soc_hysteresis = "1 %"')
    text = text.replace("50 Hz", "60 Hz").replace('preset = "ce-fcr-gate"', "")
    text = text.replace('raise_after = "10 s"', 'raise_after = "20 s"')
    rules = loaded(text).rules()
    (battery,), (pv,), (product,) = rules.batteries, rules.limits.pvs, rules.products.values()
    assert left_at_default(rules, SiteRules) == []
    assert left_at_default(battery.limits, BatteryLimits) == []
    assert left_at_default(battery.limits.shared_inverter, SharedInverter) == []
    assert left_at_default(pv, PvRules) == []
    assert left_at_default(rules.limits.ramp, RampRules) == []
    # Where a table comes from, and what is uncertain of it, is not for the site file to say.
    assert left_at_default(product, DroopTable) == ["source", "unsure"]
    assert {derating.quantity for derating in battery.limits.deratings} == set(Quantity)
    assert all(derating.share_when_unknown != 0.5 for derating in battery.limits.deratings[1:])


def test_every_value_arrives_in_the_units_of_the_core(loaded):
    rules = loaded(FULL.replace('local_rule = "idle"', 'local_rule = "self_consumption"')).rules()
    (battery,), (pv,) = rules.batteries, rules.limits.pvs
    limits = battery.limits
    assert rules.local_rule is LocalRule.SELF_CONSUMPTION
    assert rules.limits.ramp == RampRules(50e3, 50e3)
    assert (rules.nominal_hz, rules.frequency_resolution_hz) == (50.0, 0.001)
    assert (battery.rated_discharge_w, battery.rated_charge_w, battery.dead_band_w) == (500e3, 400e3, 500.0)
    assert (limits.reserve_pct, limits.taper_pct, limits.hysteresis_pct, limits.min_useful_w) == (20.0, 1.0, 0.5, 10e3)
    assert limits.shared_inverter == SharedInverter("pv", 500e3, 650e3, grid_charge=False)
    assert pv == PvRules("pv", 300e3, 5e3, 30.0, 10.0)
    temperature, lowest, highest, soc = limits.deratings
    assert temperature.charge.points == ((0.0, 0.0), (10.0, 1.0), (45.0, 1.0), (55.0, 0.0))
    assert temperature.discharge.points[0] == (-10.0, 0.0)
    assert (lowest.discharge.points, lowest.share_when_unknown) == (((2.8, 0.0), (3.0, 1.0)), 0.6)
    assert (highest.quantity, highest.charge.points[1]) == (Quantity.CELL_MAX_V, (3.62, 0.0))
    assert soc.charge.points == ((85.0, 1.0), (95.0, 0.2))


def test_a_product_states_its_table_and_takes_the_rest_from_its_preset(loaded):
    (product,) = loaded(FULL).rules().products.values()
    assert product == DroopTable(
        name="my-fcr", nominal_hz=50.0, points=((0.0, 0.0), (0.15, 1.0)), full_by_s=25.0, sustain_s=900.0,
        gate_hz=0.02, half_by_s=12.0, start_within_s=2.0, power_headroom=pytest.approx(1.1),
        opposite_headroom=pytest.approx(0.2), restore_within_s=5400.0, needed_resolution_hz=0.005,
        least_droop=pytest.approx(0.02), counted_with="my-reserve",
        source=f"site file, after: {PRODUCTS['ce-fcr-gate'].source}",
    )  # fmt: skip


def with_product(*lines):
    return TEXT + "\n".join(("", "[[product]]", *lines, ""))


def test_the_name_of_a_preset_is_enough(loaded):
    rules = loaded(with_product('name = "fcr-n"')).rules()
    assert rules.products == {"fcr-n": PRODUCTS["fcr-n"]}


def test_what_is_stated_is_no_longer_uncertain(loaded):
    """The preset was read second-hand; the site file speaks for the contract."""
    unsure = PRODUCTS["eprx-primary-online-50hz"].unsure
    assert unsure == ("points[0]", "gate_hz")
    stated = with_product('name = "eprx-primary-online-50hz"', 'points = [["10 mHz", "0 %"], ["200 mHz", "100 %"]]')
    (product,) = loaded(stated).rules().products.values()
    assert product.unsure == ("gate_hz",)


def test_a_table_of_the_site_alone_takes_the_grids_frequency(loaded):
    own = 'name = "own"', 'points = [["10 mHz", "0 %"], ["200 mHz", "100 %"]]', 'full_by = "10 s"', 'sustain = "5 min"'
    text = with_product(*own).replace('"50 Hz"    #', '"60 Hz"    #')
    (product,) = loaded(text).rules().products.values()
    assert (product.nominal_hz, product.source, product.power_headroom) == (60.0, "site file", 1.0)


def test_without_the_new_keys_nothing_is_limited_that_was_not_before():
    rules = load(next(path for path in EXAMPLES if path.name == "several-batteries.toml")).rules()
    assert rules.limits.ramp == RampRules()
    assert (rules.limits.pvs, rules.products, rules.nominal_hz, rules.frequency_resolution_hz) == ((), {}, 50.0, None)
    assert [b.limits.min_useful_w for b in rules.batteries] == [30e3, 30e3, 20e3, 20e3]
    assert BatteryLimits(min_useful_w=30e3) == rules.batteries[0].limits


def test_asymmetric_batteries_bound_plans_in_each_direction(loaded):
    limits = plan_limits(loaded(FULL).rules())
    assert (limits.discharge_w, limits.charge_w) == (500e3, 400e3)


TEMPERATURE = '["10 degC", "100 %"]'


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('"50 kW/s"', '"50 kW"', "control.ramp_up: 'kW' is a unit of power; this is a ramp in W/s, kW/s, kW/min, MW/min"),
        ('"3 MW/min"', '"0 kW/min"', "control.ramp_down: "),
        ('"50 Hz"    #', '"16 Hz"    #', 'connection_point.nominal_frequency: 16 Hz is not a grid\'s nominal frequency: write "50 Hz"'),
        ('"50 Hz"    #', '"50"    #', "connection_point.nominal_frequency: '50' is not a frequency in mHz, Hz"),
        ('soc_reserve = "20 %"', 'soc_reserve = "4 %"', "device[0] (bess): soc_reserve (4 %) must lie between soc_min (5 %) and soc_max (95 %)"),
        ('soc_reserve = "20 %"', 'soc_reserve = "95 %"', "device[0] (bess): soc_reserve (95 %) must lie between"),
        ('soc_taper = "1 %"', 'soc_taper = "38 %"', "device[0] (bess): soc_taper (38 %) takes more than half of the window 20 to 95 %"),
        ('soc_hysteresis = "0.5 %"', 'soc_hysteresis = "40 %"', "soc_hysteresis (40 %) takes more than half of the window"),
        ('min_useful_power = "10 kW"', 'min_useful_power = "500 kW"', "min_useful_power must lie below rated_power"),
        ('dead_band = "500 W"', 'dead_band = "500 kW"', "device[0] (bess): dead_band must lie below rated_power"),
        (TEMPERATURE, '["-1 degC", "100 %"]', "device[0] (bess).derating.temperature.charge: the points of a curve must rise in value"),
        (TEMPERATURE, '["10 degC", "101 %"]', "device[0] (bess).derating.temperature.charge: 101 % is not a share of rated power"),
        (TEMPERATURE, '["10 V", "100 %"]', "device[0] (bess).derating.temperature.charge[1]: 'V' is a unit of voltage; this is a temperature in degC, °C"),
        (TEMPERATURE, '["500 degC", "100 %"]', "device[0] (bess).derating.temperature.charge[1]: 500 degC is not within -60 to 120 degC"),
        (TEMPERATURE, '"10 degC"', 'charge[1]: write a point as ["45 degC", "10 %"], not \'10 degC\''),
        ('["3.0 V", "100 %"]', '["300 V", "100 %"]', "derating.cell_min_voltage.discharge[1]: 300 V is not within 0 to 10 V"),
        ("[device.derating.soc]", "[device.derating.sic]", "device[0] (bess).derating.sic: unknown key; did you mean 'soc'?"),
        ('charge = [["3.55', 'chrge = [["3.55', "device[0] (bess).derating.cell_max_voltage.chrge: unknown key; did you mean 'charge'?"),
        ('charge = [["85 %", "100 %"], ["95 %", "20 %"]]\ndischarge = [["5 %", "30 %"], ["15 %", "100 %"]]', "", "derating.soc: charge and discharge are both missing"),
        ('when_unknown = "40 %"', 'when_unknown = "140 %"', "device[0] (bess).derating.soc.when_unknown: "),
        ('pv = "pv"', 'pv = "grid-meter"', "device[0] (bess).shared_inverter.pv: 'grid-meter' is not the id of a device with role pv"),
        ('pv_peak = "650 kW"', "", "device[0] (bess).shared_inverter.pv_peak: missing"),
        ('rated_power = "300 kW"', "", "device[1] (pv): rated_power is missing: a PV inverter is limited in shares of it"),
        ("can_be_limited = true", "can_be_limited = false", "device[1] (pv): dead_band, dead_man, raise_after needs can_be_limited = true"),
        ('positive = "import"', 'positive = "import"\nsoc_reserve = "5 %"', "device[2] (grid-meter): soc_reserve is for a battery, but this device is a meter"),
        ('frequency_resolution = "1 mHz"', 'frequency_resolution = "2 Hz"', "device[2] (grid-meter).frequency_resolution: "),
        ('"ce-fcr-gate" ', '"ce-fcr-gat" ', "product[0] (my-fcr): preset 'ce-fcr-gat' is not known; did you mean 'ce-fcr-gate'?"),
        ('"ce-fcr-gate" ', '"eprx-primary-online-60hz" ', "product[0] (my-fcr): eprx-primary-online-60hz is for 60 Hz, but connection_point.nominal_frequency is 50 Hz"),
        ('[["0 mHz", "0 %"]', '[["10 mHz", "0 %"]', "product[0] (my-fcr): gate: a gate needs a line through nominal"),
        ('["150 mHz", "100 %"]', '["150 mHz", "90 %"]', "product[0] (my-fcr): points[1]: the last share must be 1"),
        ('["150 mHz", "100 %"]', '["0 mHz", "100 %"]', "product[0] (my-fcr): points[1]: distances must rise"),
        ('["150 mHz", "100 %"]', '["150 mHz", "120 %"]', "product[0] (my-fcr).points[1]: 120 % is not a share of the award"),
        ('half_by = "12 s"', 'half_by = "26 s"', "product[0] (my-fcr): half_by: 26 is not within 0 to 25"),
        ('power_headroom = "110 %"', 'power_headroom = "90 %"', "product[0] (my-fcr).power_headroom: "),
        ('sustain = "15 min"', 'sustain = "15 h"', "product[0] (my-fcr).sustain: "),
    ],
)  # fmt: skip
def test_a_mistake_in_a_limit_is_named_with_its_key_and_reason(refusal, old, new, expected):
    assert old in FULL
    assert expected in refusal(FULL.replace(old, new, 1))


def test_a_product_of_its_own_needs_its_whole_table(refusal):
    told = refusal(with_product('name = "own"', 'full_by = "5 s"'))
    assert "product[0] (own): points, sustain are missing: 'own' is no preset" in told


def test_a_product_is_named_once(refusal):
    assert "product[1] (fcr-n).name: product[0] has the same name" in refusal(
        with_product('name = "fcr-n"', "[[product]]", 'name = "fcr-n"')
    )


def test_reserve_needs_the_meter_that_measures_the_frequency(refusal):
    text = next(path for path in EXAMPLES if path.name == "stand-alone.toml").read_text()
    told = refusal(text.replace('meter = "grid-meter"', ""))
    assert "product[0] (eprx-primary-online-50hz): reserve is answered by the frequency" in told


def test_two_batteries_cannot_have_the_rest_of_one_inverter(refusal):
    second = FULL[FULL.index("[[device]]") : FULL.index('[[device]]\nid = "pv"')]
    second = second.replace('id = "bess"', 'id = "bess-2"').replace("10.20:502", "10.29:502")
    told = refusal(FULL.replace('[[device]]\nid = "pv"', second + '[[device]]\nid = "pv"'))
    assert "device[1] (bess-2).shared_inverter.pv: 'pv' shares its inverter with bess already" in told


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("10 mHz", "frequency", 0.010),
        ("49.98 Hz", "frequency", 49.98),
        ("-10 degC", "temperature", -10.0),
        ("25°C", "temperature", 25.0),
        ("3550 mV", "voltage", 3.55),
        ("300 kW/min", "ramp", 5000.0),
        ("6 MW/min", "ramp", 100e3),
        ("50 W/s", "ramp", 50.0),
    ],
)
def test_the_units_of_limits_are_read(text, dimension, value):
    assert parse(text, dimension) == pytest.approx(value, rel=1e-12)


def test_who_answers_the_frequency_is_the_agent_unless_the_site_says_the_device(loaded):
    assert loaded(FULL).rules().delegated == {"bess"}
    assert (
        loaded(FULL.replace('frequency_response = "device"', 'frequency_response = "agent"')).rules().delegated == set()
    )
    assert loaded(TEXT).rules().delegated == set()


def test_a_device_with_a_profile_cannot_be_handed_the_frequency_response(refusal):
    told = refusal(
        TEXT.replace(
            'rated_power = "500 kW"',
            'profile = "huawei-sun2000-luna2000"\nfrequency_response = "device"\nrated_power = "500 kW"',
            1,
        )
    )
    assert "device[0] (bess): " in told
    assert 'frequency_response = "device" needs a SunSpec battery' in told


def test_an_award_is_handed_to_all_batteries_or_to_none(loaded, refusal):
    text = next(path for path in EXAMPLES if path.name == "several-batteries.toml").read_text()
    one = text.replace('role = "battery"', 'role = "battery"\nfrequency_response = "device"', 1)
    assert "frequency_response: an award is handed to all batteries or to none" in refusal(one)
    both = text.replace('role = "battery"', 'role = "battery"\nfrequency_response = "device"')
    assert len(loaded(both).rules().delegated) == text.count('role = "battery"')
