"""Curtailment orders, and PV limited only where batteries cannot take it."""

from __future__ import annotations

import math

import pytest
from core_fleet import Cell, Fleet
from core_site import SITE
from hypothesis import given
from hypothesis import strategies as st

from agent.core.bounds import Rank
from agent.core.curtailment import ConnectionLimits, curtailment_bound, limits_now, pv_ceiling_w, pv_shares_w
from agent.core.envelope import connection_bounds
from agent.core.envelope_rules import PvRules
from agent.core.orders import Curtailment
from agent.core.pv_limit import PvLine, PvWriteReason, pv_due, pv_sent, pv_settled

ORDER = Curtailment("c1", 100.0, 200.0, export_limit_w=50e3)


def test_an_order_holds_from_its_start_until_before_its_end():
    found = [limits_now(400e3, 300e3, (ORDER,), t).export_w for t in (99.9, 100.0, 199.9, 200.0)]
    assert found == [400e3, 50e3, 50e3, 400e3]
    assert limits_now(400e3, 300e3, (ORDER,), 150.0) == ConnectionLimits(50e3, 300e3, "c1", "")


def test_the_tightest_of_several_orders_counts_and_none_widens_a_limit():
    orders = (ORDER, Curtailment("c2", 0.0, 300.0, 80e3, 20e3), Curtailment("c3", 0.0, 300.0, 9e6, 9e6))
    assert limits_now(400e3, 300e3, orders, 150.0) == ConnectionLimits(50e3, 20e3, "c1", "c2")
    assert limits_now(400e3, 300e3, orders, 250.0) == ConnectionLimits(80e3, 20e3, "c2", "c2")


def test_an_order_below_zero_means_none_and_one_that_is_no_number_has_no_effect():
    assert limits_now(400e3, 300e3, (Curtailment("c", 0.0, 9.0, -5.0, -1.0),), 1.0) == ConnectionLimits(
        0.0, 0.0, "c", "c"
    )
    odd = Curtailment("c", 0.0, 9.0, math.nan, math.nan)
    assert limits_now(400e3, 300e3, (odd,), 1.0) == ConnectionLimits(400e3, 300e3)


def test_the_order_is_a_bound_of_its_own_softer_than_the_connection_limit():
    limits = ConnectionLimits(50e3, 400e3, "c1")
    order, connection = connection_bounds(SITE, limits, 120e3)
    assert (order.upper_w, order.lower_w, order.rank, order.owner) == (
        -70e3,
        -math.inf,
        Rank.CURTAILMENT,
        "grid operator",
    )
    assert order.limit == "curtailment c1"
    assert (connection.lower_w, connection.upper_w, connection.rank) == (-520e3, 280e3, Rank.CONNECTION)
    assert curtailment_bound(ConnectionLimits(1.0, 2.0), 0.0, 0.0) is None
    assert curtailment_bound(ConnectionLimits(1.0, 2.0, "", "c2"), 5.0, 3.0).lower_w == -5.0


def test_pv_may_give_what_load_and_batteries_take_plus_the_export_limit():
    assert pv_ceiling_w(50e3, -30e3, -100e3, 500e3, None) == 180e3
    assert pv_ceiling_w(0.0, 0.0, 0.0, 500e3, None) == 0.0
    assert pv_ceiling_w(0.0, 10e3, 0.0, 500e3, None) == 0.0


def test_a_ceiling_ends_only_well_above_the_rating():
    assert pv_ceiling_w(500e3, 0.0, 0.0, 500e3, None) is None
    assert pv_ceiling_w(510e3, 0.0, 0.0, 500e3, 400e3) == 500e3
    assert pv_ceiling_w(525e3, 0.0, 0.0, 500e3, 400e3) is None


def test_with_the_load_unknown_pv_alone_must_keep_the_limit():
    assert pv_ceiling_w(0.0, None, -500e3, 300e3, None) == 0.0
    assert pv_ceiling_w(100e3, None, -500e3, 300e3, None) == 100e3
    assert pv_ceiling_w(300e3, None, -500e3, 300e3, None) is None


def test_inverters_share_the_ceiling_by_rating():
    assert pv_shares_w(90e3, (100e3, 200e3)) == [30e3, 60e3]
    assert pv_shares_w(None, (100e3, 200e3)) == [None, None]
    assert pv_shares_w(5.0, (0.0,)) == [None]


def noon(**changes):
    fleet = Fleet(
        [Cell("b1", soc_pct=50.0, rated_w=200e3, capacity_wh=400e3)],
        pv_rated_w=500e3,
        load_w=-50e3,
        export_w=400e3,
        **changes,
    )
    fleet.pv_w = fleet.pv_potential_w = 450e3
    return fleet


def test_the_battery_absorbs_first_then_pv_is_limited_and_both_return_after_the_order():
    fleet = noon(orders=(Curtailment("c1", 100.0, 1000.0, 100e3),))
    before = [fleet.tick(0.0) for _ in range(100)]
    assert before[-1].power_w == 0.0
    during = [fleet.tick(0.0) for _ in range(900)]
    assert during[0].power_w == pytest.approx(-200e3)
    assert fleet.pv_w == pytest.approx(350e3, rel=0.01)
    assert fleet.grid_w == pytest.approx(100e3, rel=0.01)
    after = [fleet.tick(0.0) for _ in range(20)]
    assert after[-1].power_w == 0.0
    assert (fleet.pv_w, fleet.ceiling_w) == (450e3, None)


def test_pv_is_not_limited_while_the_battery_can_take_all_of_it():
    fleet = noon(orders=(Curtailment("c1", 0.0, 1000.0, 250e3),))
    for _ in range(500):
        fleet.tick(0.0)
    assert fleet.pv_w == 450e3
    assert fleet.grid_w == pytest.approx(250e3, abs=1.0)


def test_without_reverse_flow_the_export_stays_zero_until_the_battery_is_full_and_beyond():
    fleet = Fleet(
        [Cell("b1", soc_pct=85.0, rated_w=200e3, capacity_wh=400e3)], pv_rated_w=500e3, load_w=-50e3, export_w=0.0
    )
    fleet.pv_potential_w = 450e3
    exports = []
    for _ in range(2400):
        fleet.tick(0.0)
        exports.append(fleet.grid_w)
    assert max(exports[10:]) < 5e3
    assert 89.0 < fleet.cells[0].soc_pct <= 90.01
    assert fleet.pv_w == pytest.approx(50e3, abs=5e3)


def test_a_load_above_an_import_order_is_told_and_the_battery_gives_what_it_can():
    fleet = noon(orders=(Curtailment("c1", 0.0, 1000.0, None, 10e3),))
    fleet.pv_w = fleet.pv_potential_w = 0.0
    fleet.load_w = -300e3
    done = [fleet.tick(0.0) for _ in range(5)][-1]
    assert done.power_w == 200e3
    (lost,) = done.softened
    assert (lost.rank, lost.limit, lost.beyond_w) == (Rank.CURTAILMENT, "curtailment c1", pytest.approx(90e3))
    assert lost.by == "what the batteries can do"


RULES = PvRules("pv", 500e3, 1e3, dead_man_s=60.0)
HELD = PvLine("pv", 100e3, wrote=True, last_done_mono_s=0.0)


@pytest.mark.parametrize(
    ("line", "ceiling_w", "at", "reason"),
    [
        (PvLine("pv"), None, 5.0, None),
        (PvLine("pv"), 90e3, 5.0, PvWriteReason.TIGHTER),
        (HELD, 99.5e3, 5.0, None),
        (HELD, 98e3, 0.1, PvWriteReason.TIGHTER),
        (PvLine("pv", 500.0, wrote=True, last_done_mono_s=0.0), 0.0, 0.1, PvWriteReason.TIGHTER),
        (PvLine("pv", 0.0, wrote=True, last_done_mono_s=0.0), 0.0, 0.1, None),
        (HELD, 120e3, 9.9, None),
        (HELD, 120e3, 10.0, PvWriteReason.LOOSER),
        (HELD, 100.5e3, 15.0, None),
        (HELD, 100e3, 20.0, PvWriteReason.REFRESH),
        (HELD, None, 0.1, PvWriteReason.RELEASE),
        (pv_sent(HELD), 0.0, 50.0, None),
        (PvLine("pv", None, wrote=True, failures=1, last_done_mono_s=0.0), 5e3, 0.9, None),
        (PvLine("pv", None, wrote=True, failures=1, last_done_mono_s=0.0), 5e3, 1.0, PvWriteReason.RETRY),
        (PvLine("pv", None, wrote=True, failures=3, last_done_mono_s=0.0), None, 3.9, None),
        (PvLine("pv", None, wrote=True, failures=90, last_done_mono_s=0.0), None, 10.0, PvWriteReason.RETRY),
        (PvLine("pv", None, failures=2, last_done_mono_s=0.0), None, 50.0, None),
    ],
)
def test_a_ceiling_is_written_when_it_must(line, ceiling_w, at, reason):
    assert pv_due(line, ceiling_w, RULES, at) is reason


def test_a_device_that_holds_a_ceiling_for_ever_is_not_refreshed():
    assert pv_due(HELD, 100e3, PvRules("pv", 500e3, 1e3), 1e6) is None


def test_a_release_ends_the_writing_and_a_failed_one_is_repeated():
    failed = pv_settled(pv_sent(HELD), None, 3.0, ok=False)
    assert (failed.failures, failed.wrote, failed.in_flight) == (1, True, False)
    assert pv_due(failed, None, RULES, 4.0) is PvWriteReason.RETRY
    released = pv_settled(pv_sent(failed), None, 5.0, ok=True)
    assert (released.owned_w, released.wrote, released.failures) == (None, False, 0)
    assert pv_due(released, None, RULES, 1e6) is None


def test_a_first_write_that_failed_is_still_released():
    """It may have reached the device although nobody could confirm it."""
    lost = pv_settled(pv_sent(PvLine("pv")), None, 3.0, ok=False)
    assert pv_due(lost, None, RULES, 10.0) is PvWriteReason.RETRY


@given(
    export=st.floats(0, 1e6), load=st.floats(-1e6, 0), lower=st.floats(-1e6, 0), rated=st.floats(1e3, 1e6),
    before=st.one_of(st.none(), st.floats(0, 1e6)), sun=st.floats(0, 1),
)  # fmt: skip
def test_pv_under_its_ceiling_and_batteries_at_their_most_never_exceed_the_export_limit(
    export, load, lower, rated, before, sun
):
    ceiling = pv_ceiling_w(export, load, lower, rated, before)
    pv_w = sun * (rated if ceiling is None else ceiling)
    assert pv_w + load + lower <= export + 1e-3
