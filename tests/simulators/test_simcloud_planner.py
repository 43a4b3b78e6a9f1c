"""The planning desk: what is sold stands, horizons are cut on demand, holes are null."""

import pytest

from simulators.cloud_planner import MeasuredSoc, Planner, SiteModel, forecast_load_kw, forecast_pv_kw
from simulators.market import JST, SHOW_START, MarketClock, load_jepx
from simulators.optimiser import BatteryModel, Connection

EPOCH = 1_700_000_000
SITE = SiteModel(
    "demo-01",
    BatteryModel(3000.0, 440.0, 440.0),
    Connection(600.0, 600.0),
    pv_peak_kw=150.0,
    load_base_kw=60.0,
    initial_soc_pct=40.0,
)
PRICES = load_jepx("kyushu")


@pytest.fixture
def planner() -> Planner:
    return Planner(SITE, PRICES, MarketClock(EPOCH, int(SHOW_START.timestamp()), 2))


def test_the_first_plan_covers_48_hours_from_the_first_slot(planner):
    plan = planner.rolling(EPOCH - 7.0, MeasuredSoc(40.0, EPOCH), EPOCH)
    assert (plan.kind, plan.version, plan.start_utc_s, len(plan.grid_kw)) == ("rolling", 1, EPOCH, 96)
    assert plan.end_utc_s == EPOCH + 192


def test_the_show_charges_at_noon_and_discharges_in_the_evening(planner):
    plan = planner.rolling(EPOCH - 7.0, MeasuredSoc(40.0, EPOCH), EPOCH)
    assert sum(kw < -300 for kw in plan.grid_kw[7:19]) >= 8
    assert sum(kw > 300 for kw in plan.grid_kw[22:30]) >= 6


def test_what_is_sold_for_this_slot_and_the_next_stands_whatever_the_soc_is_now(planner):
    first = planner.rolling(EPOCH - 7.0, MeasuredSoc(40.0, EPOCH), EPOCH)
    second = planner.rolling(EPOCH + 9.0, MeasuredSoc(88.0, EPOCH + 9.0))
    assert second.version == 2
    assert second.start_utc_s == EPOCH + 8
    assert list(second.grid_kw[:2]) == list(first.grid_kw[4:6])
    assert list(second.grid_kw[2:6]) != list(first.grid_kw[6:10])
    assert len(second.grid_kw) == 96


def test_the_plan_starts_from_the_soc_that_will_be_left_when_the_sold_slots_are_done(planner):
    planner.rolling(EPOCH - 7.0, MeasuredSoc(40.0, EPOCH), EPOCH)
    plan = planner.rolling(EPOCH + 1.0, MeasuredSoc(40.0, EPOCH + 1.0))
    # Half of this slot and all of the next discharge 440 kW; nothing changes hands in the first free slot at most.
    left = 40.0 - 1.5 * 100.0 * 440.0 / 0.96 * 0.5 / 3000.0
    first_free_kw = plan.grid_kw[2] - forecast_pv_kw(SITE, SHOW_START.timestamp() + 2.5 * 1800)
    first_free_kw -= forecast_load_kw(SITE, SHOW_START.timestamp() + 2.5 * 1800)
    assert plan.soc_end_pct[2] == pytest.approx(left - 100.0 * first_free_kw / 0.96 * 0.5 / 3000.0, abs=0.01)


def test_an_old_soc_is_carried_forward_by_what_was_sold_since(planner):
    """Telemetry three slots old, of a battery that has discharged 440 kW since: the same plan as a fresh one gives."""
    planner.rolling(EPOCH - 7.0, MeasuredSoc(80.0, EPOCH), EPOCH)
    fresh_soc_pct = 80.0 - 3 * 100.0 * 440.0 / 0.96 * 0.5 / 3000.0
    old = planner.rolling(EPOCH + 6.0, MeasuredSoc(80.0, EPOCH))
    fresh = planner.rolling(EPOCH + 6.0, MeasuredSoc(fresh_soc_pct, EPOCH + 6.0))
    assert old.soc_end_pct == pytest.approx(fresh.soc_end_pct)


def test_while_the_yearly_plan_decides_the_soc_is_carried_forward_by_it(planner):
    planner.yearly(EPOCH - 7.0, EPOCH)
    planner.rolling(EPOCH - 7.0, MeasuredSoc(40.0, EPOCH), EPOCH)
    planner.rolling(EPOCH + 0.5, MeasuredSoc(40.0, EPOCH + 0.5), slots=5)
    # Slots 11 and 12 run on the yearly plan, which charges at full power at noon.
    plan = planner.rolling(EPOCH + 22.0, MeasuredSoc(40.0, EPOCH + 22.0))
    charged_pct = 100.0 * 440.0 * 0.96 * 0.5 / 3000.0
    assert plan.soc_end_pct[0] == pytest.approx(40.0 + 3 * charged_pct, abs=0.01)


def test_a_cut_plan_ends_where_it_is_told_and_keeps_its_course(planner):
    first = planner.rolling(EPOCH - 7.0, MeasuredSoc(40.0, EPOCH), EPOCH)
    last = planner.rolling(EPOCH + 0.5, MeasuredSoc(40.0, EPOCH + 0.5), slots=5)
    assert last.end_utc_s == EPOCH + 10
    assert list(last.grid_kw[:2]) == list(first.grid_kw[:2])


def test_after_a_plan_ran_out_the_next_begins_behind_gate_closure(planner):
    planner.rolling(EPOCH - 7.0, MeasuredSoc(40.0, EPOCH), EPOCH)
    planner.rolling(EPOCH + 0.5, MeasuredSoc(40.0, EPOCH + 0.5), slots=5)
    assert planner.rolling(EPOCH + 21.0, MeasuredSoc(40.0, EPOCH + 21.0)).start_utc_s == EPOCH + 24


def test_a_slot_that_nobody_sold_is_null_between_two_that_are(planner):
    """The cut plan ends with the present slot: the next one is inside gate closure, so it stays without a plan."""
    planner.rolling(EPOCH - 7.0, MeasuredSoc(40.0, EPOCH), EPOCH)
    planner.rolling(EPOCH + 0.5, MeasuredSoc(40.0, EPOCH + 0.5), slots=1)
    plan = planner.rolling(EPOCH + 1.0, MeasuredSoc(40.0, EPOCH + 1.0))
    assert plan.start_utc_s == EPOCH
    assert plan.grid_kw[0] is not None
    assert (plan.grid_kw[1], plan.soc_end_pct[1], plan.price[1]) == (None, None, None)
    assert plan.grid_kw[2] is not None


def test_the_yearly_plan_is_a_year_of_typical_days_within_the_connection(planner):
    plan = planner.yearly(EPOCH - 7.0, EPOCH)
    assert len(plan.grid_kw) == 365 * 48
    assert max(abs(kw) for kw in plan.grid_kw) <= 600.0
    assert all(9.99 <= soc <= 90.01 for soc in plan.soc_end_pct)
    assert len(plan.encoded("demo-01", packed=False)) < 1024 * 1024
    # Thursday and Friday in March have one plan, Saturday has its own.
    assert plan.grid_kw[:36] == plan.grid_kw[48:84]
    assert plan.price[96:132] != plan.price[:36]


def test_versions_rise_per_kind(planner):
    versions = [planner.rolling(EPOCH - 7.0, MeasuredSoc(40.0, EPOCH), EPOCH).version for _ in range(3)]
    assert versions == [1, 2, 3]
    assert planner.yearly(EPOCH, EPOCH, slots=2).version == 1


def test_the_forecast_has_sun_at_noon_and_none_at_night():
    noon = SHOW_START.replace(hour=12).astimezone(JST).timestamp()
    assert forecast_pv_kw(SITE, noon) == pytest.approx(120.0)
    assert forecast_pv_kw(SITE, noon + 12 * 3600) == 0.0
    assert forecast_load_kw(SITE, noon) == pytest.approx(-84.0)
    assert forecast_load_kw(SITE, noon + 12 * 3600) == pytest.approx(-60.0)
