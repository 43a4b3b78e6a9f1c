"""The learned model as it is kept on disk, and when it belongs to the device that is there now."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest
from core_site import SITE, battery, good, inputs
from hypothesis import given
from hypothesis import strategies as st

from agent.core.battery_model import CAPACITY_BOUNDS, EFFICIENCY_BOUNDS, BatteryModel, Ratio, fresh_model, observed
from agent.core.decision import State
from agent.core.model_record import begun_anew, model_facts, model_record, restored_model
from agent.core.step import step
from agent.core.units import DISPUTED_UNTIL_ANEW_S

LEARNED = replace(
    fresh_model(1e6, 0.95, "SN-1"),
    charging=Ratio(5e6, 480.0), discharging=Ratio(4.4e6, 500.0), lost_wh=9e3, rest_s=9e4, stretches=12, contradictions=1,
)  # fmt: skip


def after(model, *samples, tick_s=1.0):
    """The model after these samples, one per tick."""
    state = State(models={"bess": model} if model is not None else {})
    for number, sample in enumerate(samples):
        t = number * tick_s
        fresh = replace(sample, **{f: good(getattr(sample, f).value, t) for f in ("power_w", "soc_pct", "capacity_wh")})
        state, _ = step(SITE, state, inputs(t, batteries=(fresh,)))
    return state.models.get("bess")


def same(model: BatteryModel, other: BatteryModel) -> bool:
    return model_record(model) == model_record(other)


def device(capacity_wh=1e6, serial="SN-1"):
    return replace(battery(), capacity_wh=good(capacity_wh), serial=serial)


def test_a_model_survives_the_disk_without_the_stretch_in_progress():
    running = observed(observed(LEARNED, 1.0, 1e5, 50.0), 1.0, 1e5, 50.0)
    assert running.stretch is not None
    restored = restored_model(json.loads(json.dumps(model_record(running))))
    assert restored == LEARNED
    assert {f.name for f in fields(BatteryModel)} - {"stretch", "believed_soc_pct", "disputed_s"} == {
        "stated_capacity_wh", "stated_efficiency", "charging", "discharging", "lost_wh", "rest_s", "stretches",
        "contradictions", "serial",
    }, "a new field must be kept too, or be left out on purpose"  # fmt: skip


BAD = st.one_of(st.none(), st.booleans(), st.text(max_size=3), st.floats(allow_nan=True), st.integers(-10, 10))


@given(st.sampled_from(sorted(model_record(LEARNED))), BAD)
def test_a_damaged_record_is_no_model_or_one_within_bounds(key, value):
    model = restored_model({**model_record(LEARNED), key: value})
    if model is not None:
        low, high = CAPACITY_BOUNDS
        assert low * model.stated_capacity_wh <= model.capacity_wh <= high * model.stated_capacity_wh
        assert EFFICIENCY_BOUNDS[0] <= model.one_way_efficiency <= EFFICIENCY_BOUNDS[1]
        assert 0 <= model.standby_w < 0.006 * model.stated_capacity_wh
        assert same(model, restored_model(model_record(model)))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("charged_pct", 0.0),
        ("discharged_wh", -1.0),
        ("stretches", -1),
        ("rest_s", 0.0),
        ("serial", 5),
        ("lost_wh", "x"),
        ("lost_wh", 10**400),
    ],
)
def test_a_record_that_cannot_be_is_refused(key, value):
    assert restored_model({**model_record(LEARNED), key: value}) is None
    without = {k: v for k, v in model_record(LEARNED).items() if k != key}
    assert (restored_model(without) is None) == (key != "serial")


def test_the_restored_model_goes_on_where_the_device_is_the_same():
    assert same(after(LEARNED, device(), device(1.01e6)), LEARNED)
    assert same(after(LEARNED, device(serial=None)), LEARNED), "a device that does not tell its serial is believed"
    told = after(replace(LEARNED, serial=None), device())
    assert (told.serial, told.stretches) == ("SN-1", 12)


def test_another_serial_begins_anew_at_once():
    model = after(LEARNED, device(serial="SN-2"))
    assert same(model, fresh_model(1e6, 0.95, "SN-2"))
    assert begun_anew(model_record(LEARNED), model)


def test_another_capacity_begins_anew_only_when_it_is_stated_for_a_minute():
    odd = device(0.8e6)
    assert after(LEARNED, device(), odd, device()).stretches == 12
    seconds = int(DISPUTED_UNTIL_ANEW_S)
    assert after(LEARNED, device(), *[odd] * (seconds - 1)).stretches == 12
    interrupted = [odd] * (seconds - 1) + [device()] + [odd] * (seconds - 1)
    assert after(LEARNED, device(), *interrupted).stretches == 12
    model = after(LEARNED, device(), *[odd] * seconds)
    assert (model.stretches, model.stated_capacity_wh) == (0, 0.8e6)
    assert begun_anew(model_record(LEARNED), model)
    assert not begun_anew(model_record(LEARNED), replace(LEARNED, stretches=13))


def test_what_is_shown_is_the_estimate_with_its_bounds():
    facts = model_facts(LEARNED)
    assert facts["capacity_wh"] == pytest.approx(LEARNED.capacity_wh)
    assert facts["round_trip_efficiency"] == pytest.approx(LEARNED.one_way_efficiency**2)
    assert facts["capacity_bounds_wh"] == [0.5e6, 1.1e6]
    assert facts["measured_share"] == pytest.approx(1 - 150 / 480)
    assert facts["standby_w"] == pytest.approx(360.0)
    assert model_facts(fresh_model(1e6, 0.95))["measured_share"] == 0.0
