"""All batteries as one: by the real SoC, by what was learned, and only those that can be used."""

from dataclasses import replace

import pytest

from agent.core.battery_model import CAPACITY_BOUNDS, fresh_model
from agent.core.derating import Curve, Derating, Quantity
from agent.core.envelope_rules import BatteryLimits
from agent.core.replan_request import MAX_STANDBY_PER_H
from agent.core.rules import BatteryRules
from agent.core.snapshot import BatterySample, Reading
from agent.replan.horizon import Unit
from agent.replan.storage import storage_now

A = BatteryRules("a", 500e3, 400e3, 10.0, 90.0, 0.95, 60.0, 500.0)
B = replace(A, device_id="b", soc_min_pct=20.0, soc_max_pct=80.0, one_way_efficiency=0.9)


def sample(device_id="a", *, soc_pct=50.0, capacity_wh=1e6, at=0.0, **more):
    numbers = {"power_w": 0.0, "soc_pct": soc_pct, "capacity_wh": capacity_wh, "ready": 1.0} | more
    return BatterySample(device_id, **{key: Reading(value, at) for key, value in numbers.items() if value is not None})


def storage(*pairs, models=None, mono_s=0.0):
    rules, samples = zip(*pairs, strict=True)
    return storage_now(rules, models or {}, samples, mono_s)


def test_one_battery_is_as_its_rules_and_readings_say():
    found = storage((A, sample()))
    assert found.units == (Unit("a", 400e3, 500e3),)
    assert (found.soc_pct, found.soc_min_pct, found.soc_max_pct, found.capacity_wh) == (50.0, 10.0, 90.0, 1e6)
    assert (found.charge_efficiency, found.discharge_efficiency, found.standby_w) == (0.95, 0.95, 0.0)


def test_several_are_weighted_by_capacity():
    found = storage((A, sample(soc_pct=40.0)), (B, sample("b", soc_pct=80.0, capacity_wh=3e6)))
    assert [unit.device_id for unit in found.units] == ["a", "b"]
    assert (found.soc_pct, found.capacity_wh) == (70.0, 4e6)
    assert (found.soc_min_pct, found.soc_max_pct) == (17.5, 82.5)
    assert found.charge_efficiency == found.discharge_efficiency == pytest.approx(0.9125)


@pytest.mark.parametrize(
    "missing",
    [
        sample("b", soc_pct=None),
        sample("b", capacity_wh=None),
        sample("b", capacity_wh=0.0),
        sample("b", power_w=None),
        sample("b", ready=0.0),
        sample("b", at=-11.0),
        BatterySample("b"),
    ],
)
def test_a_battery_that_cannot_be_used_is_not_there(missing):
    assert storage((A, sample()), (B, missing)) == storage((A, sample()))
    assert storage((B, missing)) is None


def test_a_device_that_does_not_say_whether_it_is_ready_is_taken_as_ready():
    assert storage((A, sample(ready=None))) == storage((A, sample()))


def test_what_was_learned_counts_instead_of_what_is_stated():
    model = fresh_model(1e6, 0.95)
    worse = replace(model, charging=replace(model.charging, energy_wh=0.8 * model.charging.energy_wh),
                    discharging=replace(model.discharging, energy_wh=0.7 * model.discharging.energy_wh),
                    lost_wh=7200.0, rest_s=8 * 3600.0, believed_soc_pct=47.0)  # fmt: skip
    found = storage((A, sample()), models={"a": worse})
    assert found.capacity_wh == worse.capacity_wh == pytest.approx(1e6 * 0.56**0.5)
    assert found.discharge_efficiency == pytest.approx(worse.one_way_efficiency)
    assert found.charge_efficiency < 0.9
    assert (found.standby_w, found.soc_pct) == (900.0, 47.0)


def test_the_largest_standby_loss_that_is_learned_can_be_planned_with():
    model = replace(fresh_model(1e6, 0.95), lost_wh=1e9)
    assert 0.0 < model.standby_w <= MAX_STANDBY_PER_H * CAPACITY_BOUNDS[0] * 1e6
    assert storage((A, sample()), models={"a": model}).standby_w == model.standby_w


def test_a_soc_that_contradicts_the_energy_narrows_the_band_and_a_reserve_raises_its_floor():
    model = replace(fresh_model(1e6, 0.95), contradictions=2)
    found = storage((A, sample()), models={"a": model})
    assert (found.soc_min_pct, found.soc_max_pct) == (13.0, 87.0)
    kept = storage((replace(A, limits=BatteryLimits(reserve_pct=30.0)), sample()))
    assert (kept.soc_min_pct, kept.soc_max_pct) == (30.0, 90.0)
    tight = storage((replace(A, soc_min_pct=48.0, soc_max_pct=52.0), sample()), models={"a": model})
    assert (tight.soc_min_pct, tight.soc_max_pct) == (51.0, 51.0), "never upside down"


LIVE = {"live_charge_limit_w": 100e3, "live_discharge_limit_w": 200e3}


def test_limits_of_the_device_count():
    rated = sample(rated_charge_w=300e3, rated_discharge_w=350e3)
    assert storage((A, rated)).units == (Unit("a", 300e3, 350e3),)
    assert storage((A, sample(**LIVE))).units == (Unit("a", 100e3, 200e3),)
    assert storage((A, sample(live_charge_limit_w=-5.0))).units == (Unit("a", 0.0, 500e3),)


def test_what_the_temperature_takes_counts_and_what_voltage_and_soc_take_does_not():
    cold = Derating(Quantity.TEMPERATURE_C, charge=Curve(((0.0, 0.0), (20.0, 1.0))), share_when_unknown=0.25)
    empty = Derating(Quantity.SOC_PCT, discharge=Curve(((50.0, 0.1),)))
    rules = replace(A, limits=BatteryLimits(deratings=(cold, empty)))
    assert storage((rules, sample(temperature_c=10.0))).units == (Unit("a", 200e3, 500e3),)
    assert storage((rules, sample())).units == (Unit("a", 100e3, 500e3),)


@pytest.mark.parametrize(
    ("soc_pct", "limits"),
    [(80.1, (400e3, 200e3)), (80.0, (100e3, 200e3)), (19.9, (100e3, 500e3)), (20.0, (100e3, 200e3))],
)
def test_what_a_bms_takes_back_close_to_full_or_empty_is_no_limit_for_two_days(soc_pct, limits):
    assert storage((A, sample(soc_pct=soc_pct, **LIVE))).units == (Unit("a", *limits),)


def test_a_soc_a_little_beyond_0_to_100_is_full_or_empty():
    assert storage((A, sample(soc_pct=100.6))).soc_pct == 100.0
    assert storage((A, sample(soc_pct=-0.5))).soc_pct == 0.0
