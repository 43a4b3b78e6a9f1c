"""Which awards a battery's own droop can answer, as which curve, and every reason why not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from core_awards import award, sold
from core_site import battery

from agent.core.delegable import Part, curve_unfit, parts_of, respond_in_s, table_unfit
from agent.core.droop import DeviceDroop, DroopTable, response_w
from agent.core.droop_products import CE_FCR_OFFSET, PRODUCTS
from agent.core.envelope_rules import BatteryLimits
from agent.core.hybrid import SharedInverter
from agent.core.orders import Direction
from agent.core.rules import BatteryRules
from agent.core.snapshot import DroopOffer

OFFER = DroopOffer("", 500e3, has_dead_man=True)
NAMES = frozenset({"b0", "b1"})


def rules(name="b0", rated_w=500e3, **changes):
    return replace(BatteryRules(name, rated_w, rated_w, 10.0, 90.0, 0.95, 60.0, 500.0), **changes)


def one(offer=OFFER, **changes):
    return [(rules(**changes), replace(battery(), droop_offer=offer))]


def test_one_battery_takes_the_whole_award_from_the_tables_dead_band_on():
    (part,) = parts_of(sold(award(power_w=100e3)), one(), NAMES).values()
    assert part.curve == DeviceDroop(0.010, pytest.approx(0.19 / 50.0 * 5.0))
    assert (part.award_w, part.rated_w, part.respond_in_s) == (100e3, 500e3, 3.0)


@pytest.mark.parametrize("product", ["ce-fcr-offset", "eprx-primary-online-50hz", "fcr-n", "gb-dr"])
@pytest.mark.parametrize("hz", [49.8, 49.85, 49.95, 49.991, 50.0, 50.007, 50.05, 50.13, 50.2])
def test_within_the_table_the_device_answers_as_the_table_asks(product, hz):
    (line,) = sold(award(power_w=100e3, product=product))
    (part,) = parts_of((line,), one(), NAMES).values()
    table = line.table
    if abs(hz - 50.0) <= table.full_hz:
        assert part.answer_w(hz, 50.0) == pytest.approx(response_w(table, line.award, hz), abs=1e-6)


def test_the_curve_is_per_unit_of_the_devices_rating_not_of_the_site_files():
    (part,) = parts_of(sold(award(power_w=100e3)), one(OFFER_OF_A_MEGAWATT), NAMES).values()
    assert part.curve.droop == pytest.approx(0.19 / 50.0 * 10.0)
    assert part.answer_w(49.8, 50.0) == pytest.approx(100e3)


OFFER_OF_A_MEGAWATT = DroopOffer("", 1e6, has_dead_man=True)


def test_beyond_the_award_the_device_goes_on_rising_to_its_rating():
    part = Part(DeviceDroop(0.0, 0.02), 100e3, 500e3, 1.0)
    assert part.answer_w(49.5, 50.0) == pytest.approx(250e3)
    assert part.answer_w(45.0, 50.0) == 500e3
    assert part.answer_w(55.0, 50.0) == -500e3


def test_several_batteries_share_by_rating():
    takes_part = [
        (rules("b0", 300e3), replace(battery(), droop_offer=replace(OFFER, rated_w=300e3))),
        (rules("b1", 600e3, rated_charge_w=100e3), replace(battery(), droop_offer=replace(OFFER, rated_w=600e3))),
    ]
    parts = parts_of(sold(award(power_w=80e3)), takes_part, NAMES)
    assert {name: part.award_w for name, part in parts.items()} == {
        "b0": pytest.approx(60e3),
        "b1": pytest.approx(20e3),
    }
    assert sum(part.answer_w(49.8, 50.0) for part in parts.values()) == pytest.approx(80e3)


def test_awards_of_one_curve_at_once_are_one_curve():
    lines = sold(award("a1", power_w=50e3), award("a2", power_w=30e3))
    assert curve_unfit(lines) == ""
    (part,) = parts_of(lines, one(), NAMES).values()
    assert part.answer_w(49.8, 50.0) == pytest.approx(80e3)


def test_up_and_down_sold_apart_for_the_same_power_are_one_curve():
    lines = sold(award("a1", direction=Direction.UP), award("a2", direction=Direction.DOWN))
    assert curve_unfit(lines) == ""
    (part,) = parts_of(lines, one(), NAMES).values()
    assert part.award_w == 100e3


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (sold(award(direction=Direction.UP)), "more is sold one way"),
        (sold(award(direction=Direction.DOWN)), "more is sold one way"),
        (sold(award("a1"), award("a2", direction=Direction.UP)), "more is sold one way"),
        (sold(award(product="ce-fcr-gate")), "ce-fcr-gate has a gate"),
        (sold(award(product="gb-dc")), "gb-dc has a knee"),
        (sold(award("a1"), award("a2", product="fcr-n")), "awards of different curves"),
        (sold(award("a1"), award("a2", product="ce-fcr-gate")), "awards of different curves"),
    ],
)
def test_what_one_curve_both_ways_cannot_express_is_not_handed_over(lines, why):
    assert why in curve_unfit(lines)


def test_each_preset_is_either_a_devices_curve_or_refused_by_name():
    unfit = {name for name, table in PRODUCTS.items() if table_unfit(table)}
    assert unfit == {"ce-fcr-gate", "gb-dc", "gb-dm"}


@pytest.mark.parametrize(
    ("takes_part", "why"),
    [
        (one(None), "b0 was not read yet"),
        (one(DroopOffer("it has no model 711")), "it has no model 711"),
        (one(replace(OFFER, has_dead_man=False)), "b0 has no reversion (711.RvrtTms)"),
        (one(replace(OFFER, rated_w=90e3)), "b0 is rated 90 kW, its part of the award is 100 kW"),
        (one(name="b9"), "b9 answers by the agent"),
        (
            one(limits=BatteryLimits(shared_inverter=SharedInverter("pv", 500e3, 650e3))),
            "b0 shares its inverter with PV",
        ),
        ([*one(), *one(DroopOffer("it has no model 711"), name="b1")], "b1 shares the award, but it has no model 711"),
        ([*one(), *one(name="b9")], "b9 answers by the agent, and an award is handed to all"),
    ],
)
def test_a_battery_that_cannot_leaves_the_award_to_the_agent(takes_part, why):
    assert why in parts_of(sold(award(power_w=100e3)), takes_part, NAMES)


def test_the_device_is_asked_for_a_tenth_of_the_quickest_products_time_but_never_for_less_than_it_need_know():
    quick = DroopTable("quick", 50.0, CE_FCR_OFFSET.points, full_by_s=1.0, sustain_s=900.0)
    assert respond_in_s(sold(award())) == 3.0
    assert respond_in_s(sold(award("a1"), award("a2", product="eprx-primary-online-50hz"))) == 1.0
    assert respond_in_s(sold(award(product="quick"), tables={"quick": quick})) == 0.2
