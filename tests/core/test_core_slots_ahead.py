"""What the batteries will do, slot by slot."""

from dataclasses import replace

import pytest
from core_awards import T0, award, booked, room

from agent.core.awards import NO_AWARDS
from agent.core.deliverability import BaselineSlot
from agent.core.orders import Curtailment, Orders, Outage
from agent.core.slots_ahead import Energy, SlotAhead, slots_ahead, tells_more

FULL = Energy(50.0, 1e6, 0.95)


def slots(*powers_w):
    return [BaselineSlot(T0 + i * 1800.0, T0 + (i + 1) * 1800.0, power_w) for i, power_w in enumerate(powers_w)]


def ahead(baseline, here=None, taken=NO_AWARDS, energy=FULL, orders=None, rated=None):
    return slots_ahead(
        taken, baseline, here or room(), energy, orders=orders or Orders(), rated_w_of=rated or {}, spent_wh=0.0
    )


def test_a_plan_that_fits_is_what_will_be_done_and_the_soc_follows_with_its_losses():
    out, into = ahead(slots(200e3, -200e3))
    assert (out.planned_w, out.power_w) == (200e3, 200e3)
    assert out.soc_end_pct == pytest.approx(50.0 - 100e3 / 0.95 / 1e6 * 100)
    assert into.power_w == -200e3
    assert into.soc_end_pct == pytest.approx(out.soc_end_pct + 100e3 * 0.95 / 1e6 * 100)


def test_a_battery_that_runs_out_does_less_than_planned_and_then_nothing():
    first, second = ahead(slots(200e3, 200e3), room(give_wh=120e3))
    assert (first.power_w, second.power_w) == (200e3, pytest.approx(40e3))
    assert second.planned_w == 200e3
    assert second.soc_end_pct == pytest.approx(50.0 - 120e3 / 0.95 / 1e6 * 100)


def test_power_beyond_what_the_batteries_can_is_cut():
    assert ahead(slots(900e3), room(discharge_w=500e3, give_wh=1e6))[0].power_w == 500e3


def test_sold_reserve_is_kept_from_its_start_also_in_the_middle_of_a_slot():
    """100 kW of 500 are kept in the second half: 500, then 400."""
    taken = booked(award(start=900, end=1800))
    (slot,) = ahead(slots(500e3), room(give_wh=1e6), taken)
    assert slot.power_w < 500e3
    (after,) = ahead(slots(500e3), room(give_wh=1e6))
    assert after.power_w == 500e3


def test_the_energy_of_an_award_is_kept_before_it_begins_in_the_same_slot():
    """50 of 140 kWh are kept for it, so no more than 90 are given, though the plan would give 125 until then."""
    taken = booked(award(start=900, end=1800))
    (slot,) = ahead(slots(500e3), room(give_wh=140e3), taken)
    assert slot.power_w <= 180e3 + 1.0


def test_an_outage_of_all_batteries_counts_for_its_own_time_only():
    orders = Orders(outages=(Outage("o", T0 + 900, T0 + 1800, None),))
    first, second = ahead(slots(200e3, 200e3), orders=orders, rated={"bess": 500e3})
    assert (first.power_w, second.power_w) == (pytest.approx(100e3), 200e3)


def test_a_curtailment_caps_what_goes_out():
    orders = Orders(curtailments=(Curtailment("c", T0, T0 + 1800, 50e3, None),))
    first, second = ahead(slots(200e3, 200e3), orders=orders)
    assert (first.power_w, second.power_w) == (50e3, 200e3)


def test_an_soc_that_is_not_known_stays_unknown_and_one_at_its_end_stays_there():
    assert ahead(slots(200e3), energy=replace(FULL, soc_pct=None))[0].soc_end_pct is None
    assert ahead(slots(200e3), energy=replace(FULL, capacity_wh=0.0))[0].soc_end_pct is None
    assert ahead(slots(200e3), energy=replace(FULL, soc_pct=1.0))[0].soc_end_pct == 0.0


def slot(start, power_w=100e3, soc=50.0, planned_w=100e3):
    return SlotAhead(T0 + start, T0 + start + 1800.0, planned_w, power_w, soc)


class TestNews:
    BEFORE = (slot(0), slot(1800), slot(3600))

    def test_the_same_again_and_time_that_passed_are_no_news(self):
        assert not tells_more(self.BEFORE, self.BEFORE, T0)
        running = replace(self.BEFORE[1], start_utc_s=T0 + 2000.0)
        assert not tells_more(self.BEFORE, (running, self.BEFORE[2]), T0 + 2000.0)

    def test_noise_of_power_and_soc_is_none(self):
        assert not tells_more(self.BEFORE, (slot(0, 101e3), slot(1800, soc=51.5), slot(3600)), T0)

    @pytest.mark.parametrize(
        "now",
        [
            (slot(0, 90e3), slot(1800), slot(3600)),
            (slot(0), slot(1800, soc=40.0), slot(3600)),
            (slot(0), slot(1800, soc=None), slot(3600)),
            (slot(0), slot(1800)),
            (slot(0), slot(1800), slot(3600), slot(5400)),
            (),
        ],
        ids=["power", "SoC", "SoC lost", "a slot less", "a slot more", "nothing any more"],
    )
    def test_another_power_soc_or_slot_is_news(self, now):
        assert tells_more(self.BEFORE, now, T0)
        assert tells_more(now, self.BEFORE, T0)

    def test_nothing_after_nothing_is_none(self):
        assert not tells_more((), (), T0)
        assert not tells_more((slot(0),), (), T0 + 1800.0)
