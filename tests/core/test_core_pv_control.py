"""PV within the tick: the batteries absorb first, then inverters are told, and they are let go again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from core_site import T0, good, missing
from core_step_site import Cell, Site, rules_of

from agent.core.envelope_rules import PvRules, SiteLimits
from agent.core.events import Severity
from agent.core.orders import Curtailment, Orders
from agent.core.pv_limit import PvLine, PvWriteReason, pv_due, pv_not_following, pv_watched
from agent.core.snapshot import CeilingOutcome, PvSample

ROOF = PvRules("pv", 500e3, 5e3, dead_man_s=60.0)
FIELD = PvRules("field", 250e3, 2.5e3, dead_man_s=60.0)


class Sunny(Site):
    """A site whose inverters obey ceilings; `sun_w` is what each could give."""

    def __init__(self, pvs=(ROOF,), limited=None, cells=None, orders=(), load_w=-50e3, export_w=400e3, **samples):
        limits = SiteLimits(pvs=pvs if limited is None else limited)
        rules = rules_of(1, 200e3, pv_ids=tuple(pv.device_id for pv in pvs), limits=limits, export_limit_w=export_w)
        cells = cells or [Cell("b0", rated_w=200e3, capacity_wh=400e3)]
        self.sun_w = {pv.device_id: 0.9 * pv.rated_w for pv in pvs}
        self.held_w = dict.fromkeys(self.sun_w)
        self.samples = samples
        self.refuses = False
        self.deaf = False
        self.done = []
        self.writes = []
        super().__init__(
            rules, cells, orders=Orders(curtailments=tuple(orders)),
            pv_w=lambda _t: sum(self.each_w(pv_id) for pv_id in self.sun_w), load_w=lambda _t: load_w,
        )  # fmt: skip

    def each_w(self, pv_id):
        held_w = None if self.deaf else self.held_w[pv_id]
        return self.sun_w[pv_id] if held_w is None else min(self.sun_w[pv_id], held_w)

    def inputs(self):
        done, self.done = self.done, []
        pvs = tuple(self.sample(pv_id) for pv_id in self.sun_w)
        return replace(super().inputs(), pvs=pvs, ceiling_outcomes=tuple(done))

    def sample(self, pv_id):
        held_w = self.held_w[pv_id]
        base = PvSample(
            pv_id, good(self.each_w(pv_id), self.t), good(float(held_w is not None), self.t),
            missing(self.t) if held_w is None else good(held_w, self.t), True, True,
        )  # fmt: skip
        return replace(base, **self.samples)

    def tick(self):
        effects = super().tick()
        for write in effects.ceiling_writes:
            self.writes.append((write.device_id, write.ceiling_w, write.reason))
            if not self.refuses:
                self.held_w[write.device_id] = write.ceiling_w
            held_w, reason = self.held_w[write.device_id], "refused" if self.refuses else ""
            self.done.append(CeilingOutcome(write.device_id, write.ceiling_w, held_w, not reason, reason, self.t))
        return effects


def order(export_w=100e3, start=100.0, end=400.0):
    return Curtailment("c1", T0 + start, T0 + end, export_w)


def test_the_battery_absorbs_first_then_pv_is_limited_then_released():
    """450 kW of sun, 50 kW of load: 100 kW may go out, 200 kW into the battery, so 350 kW is left to PV.

    The ceiling lies its dead band of 5 kW lower, and the battery trims to the limit.
    """
    site = Sunny(orders=(order(),))
    site.run(100)
    assert (site.writes, site.grid_w) == ([], 400e3)
    site.run(5)
    assert site.cells[0].power_w == pytest.approx(-195e3)
    assert site.held_w["pv"] == pytest.approx(345e3)
    site.run(295)
    assert site.grid_w == pytest.approx(100e3, abs=1.0)
    site.run(3)
    assert site.held_w["pv"] is None
    assert (site.grid_w, site.cells[0].power_w) == (400e3, 0.0)
    assert site.raised("pv_limited") == [("raised", "pv"), ("cleared", "pv")]


def test_while_the_battery_can_take_it_all_pv_is_left_alone():
    site = Sunny(orders=(order(250e3),))
    site.run(300)
    assert site.writes == []
    assert site.grid_w == pytest.approx(250e3, abs=1.0)


def test_a_full_battery_leaves_all_of_it_to_pv():
    site = Sunny(orders=(order(),), cells=[Cell("b0", soc_pct=90.0, rated_w=200e3)])
    site.run(130)
    assert site.held_w["pv"] == pytest.approx(145e3)
    assert site.grid_w == pytest.approx(95e3, abs=1.0)


def test_the_sites_own_export_limit_holds_pv_too():
    site = Sunny(export_w=0.0)
    site.run(20)
    assert site.held_w["pv"] == pytest.approx(245e3)
    assert site.grid_w == pytest.approx(0.0, abs=1.0)
    (told,) = [event for event in site.events if event.code == "pv_limited"]
    assert (told.severity, "the export limit" in told.text) == (Severity.INFO, True)


def test_two_inverters_share_the_ceiling_by_rating():
    site = Sunny(pvs=(ROOF, FIELD), orders=(order(),))
    site.run(130)
    assert (site.held_w["pv"], site.held_w["field"]) == (
        pytest.approx(350e3 * 2 / 3 - 5e3),
        pytest.approx(350e3 / 3 - 2.5e3),
    )


def test_what_cannot_be_limited_is_taken_from_the_others():
    """The field's 225 kW go out whatever happens: 125 kW are left to the roof, less its dead band."""
    site = Sunny(pvs=(ROOF, FIELD), limited=(ROOF,), orders=(order(),))
    site.run(130)
    assert site.held_w == {"pv": pytest.approx(120e3), "field": None}
    assert site.grid_w == pytest.approx(100e3, abs=1.0)
    assert not site.raised("pv_cannot_be_limited")


@pytest.mark.parametrize(
    ("options", "why"),
    [({"limited": ()}, "can_be_limited"), ({"has_limit": False}, "[pv.control] in its profile")],
)
def test_pv_that_cannot_be_limited_is_told_while_the_order_is_exceeded(options, why):
    site = Sunny(orders=(order(),), **options)
    site.run(130)
    assert site.writes == []
    (told,) = [event for event in site.events if event.code == "pv_cannot_be_limited"]
    assert (told.severity, told.subject, why in told.text) == (Severity.ALARM, "pv", True)
    site.run(290)
    assert site.raised("pv_cannot_be_limited") == [("raised", "pv"), ("cleared", "pv")]


def test_an_inverter_that_cannot_be_limited_is_told_once_the_others_are_at_zero():
    site = Sunny(
        pvs=(ROOF, FIELD), limited=(ROOF,), orders=(order(0.0),), cells=[Cell("b0", soc_pct=90.0, rated_w=200e3)]
    )
    site.run(120)
    assert site.held_w == {"pv": 0.0, "field": None}
    assert site.raised("pv_cannot_be_limited") == [("raised", "field")]


def test_a_ceiling_that_is_hardly_below_the_rating_is_not_told():
    """Noise of a meter may ask for it on a site whose export limit is its PV rating."""
    quiet, told = Sunny(export_w=248e3), Sunny(export_w=240e3)
    for site in (quiet, told):
        site.run(20)
    assert (quiet.held_w["pv"], quiet.raised("pv_limited")) == (493e3, [])
    assert (told.held_w["pv"], told.raised("pv_limited")) == (485e3, [("raised", "pv")])


def test_too_much_import_is_told_at_once_while_pv_is_limited():
    site = Sunny(export_w=0.0, load_w=-100e3, cells=[Cell("b0", soc_pct=50.0, rated_w=200e3, capacity_wh=400e3)])
    site.rules = replace(site.rules, import_limit_w=10e3)
    site.sun_w["pv"] = 120e3
    site.run(20)
    assert site.held_w["pv"] is not None
    assert not site.raised("connection_limit_exceeded")
    site.sun_w["pv"], site.cells[0].soc_pct = 0.0, 10.0
    site.run(2)
    assert site.raised("connection_limit_exceeded") == [("raised", "site")]


def test_an_inverter_that_gives_nothing_is_not_to_blame():
    site = Sunny(limited=(), orders=(order(0.0),), load_w=50e3, cells=[Cell("b0", soc_pct=90.0, rated_w=200e3)])
    site.sun_w["pv"] = 0.0
    site.run(130)
    assert site.raised("curtailment_exceeded")
    assert not site.raised("pv_cannot_be_limited")


def test_a_ceiling_left_over_from_before_a_restart_is_released():
    site = Sunny()
    site.held_w["pv"] = 20e3
    site.run(2)
    assert site.writes == [("pv", None, PvWriteReason.RELEASE)]
    assert site.held_w["pv"] is None


def test_a_ceiling_that_went_missing_is_written_again():
    site = Sunny(orders=(order(),))
    site.run(120)
    site.held_w["pv"] = None
    site.run(3)
    assert site.writes[-1][2] is PvWriteReason.LOST
    assert site.held_w["pv"] == pytest.approx(345e3)


def test_nothing_is_written_to_an_inverter_that_does_not_answer():
    site = Sunny(orders=(order(),), power_w=missing(), has_limit=None)
    site.run(130)
    assert site.writes == []


def test_refused_ceilings_are_tried_again_with_pauses_and_alarmed():
    site = Sunny(orders=(order(),))
    site.refuses = True
    site.run(130)
    assert 5 <= len(site.writes) <= 7
    assert site.raised("pv_limit_refused") == [("raised", "pv")]


def test_an_inverter_that_confirms_and_does_not_obey_is_told_after_ten_seconds():
    site = Sunny(orders=(order(),))
    site.deaf = True
    site.run(108)
    assert not site.raised("pv_not_following")
    site.run(15)
    assert site.raised("pv_not_following") == [("raised", "pv")]


def test_an_inverter_without_a_timer_is_told_while_it_is_limited():
    site = Sunny(orders=(order(),), has_dead_man=False)
    site.run(120)
    assert site.raised("no_dead_man") == [("raised", "pv")]


def test_the_passing_phantom_of_a_cloud_edge_writes_nothing():
    """The inverter is read a second before the meter: for that time its rise looks like a load that gives power."""
    site = Sunny(export_w=200e3)
    site.sun_w["pv"] = 100e3
    site.run(10)
    late = site.sample("pv")
    site.sun_w["pv"] = 400e3
    site.samples = {"power_w": replace(late.power_w, read_mono_s=site.t)}
    site.run(1)
    site.samples = {}
    site.run(5)
    assert [write for write in site.writes if write[1] is not None and write[1] < 440e3] == []


def test_what_the_inverters_settle_within_seconds_is_no_alarm():
    site = Sunny(orders=(order(),), cells=[Cell("b0", soc_pct=90.0, rated_w=200e3)])
    site.run(140)
    assert not site.raised("curtailment_exceeded")
    assert not site.raised("connection_limit_exceeded")


def test_an_excess_that_lasts_is_told_after_ten_seconds_and_cleared():
    site = Sunny(orders=(order(),), cells=[Cell("b0", soc_pct=90.0, rated_w=200e3)])
    site.deaf = True
    site.run(109)
    assert not site.raised("curtailment_exceeded")
    site.run(4)
    assert site.raised("curtailment_exceeded") == [("raised", "grid operator")]
    site.run(300)
    assert site.raised("curtailment_exceeded") == [("raised", "grid operator"), ("cleared", "grid operator")]


def test_a_load_that_falls_by_less_than_the_dead_band_breaks_no_limit():
    site = Sunny(orders=(order(),), cells=[Cell("b0", soc_pct=90.0, rated_w=200e3)])
    site.run(130)
    site.load_w = lambda _t: -46e3
    site.run(30)
    assert site.grid_w <= 100e3


def test_the_row_tells_the_ceiling():
    site = Sunny(orders=(order(),))
    effects = site.run(120)[-1]
    assert effects.decision.pv_ceiling_w == pytest.approx(350e3)
    assert site.run(300)[-1].decision.pv_ceiling_w is None


HELD = PvLine("pv", 100e3, wrote=True, last_done_mono_s=0.0)


def seen(limited, ceiling_w=None, at=1.0, **changes):
    ceiling = missing(at) if ceiling_w is None else good(ceiling_w, at)
    return PvSample("pv", good(90e3, at), good(limited, at), ceiling, True, **{"has_dead_man": True, **changes})


@pytest.mark.parametrize(
    ("line", "ceiling_w", "at", "sample", "reason"),
    [
        (HELD, 100e3, 1.0, seen(1.0, 100e3), None),
        (HELD, 100e3, 1.0, seen(1.0, 104e3), None),
        (HELD, 100e3, 1.0, seen(1.0, 106e3), PvWriteReason.LOST),
        (HELD, 100e3, 0.9, seen(0.0, at=0.5), None),
        (HELD, 100e3, 5.0, seen(0.0, at=0.0), None),
        (PvLine("pv"), None, 1.0, seen(0.0), None),
        (PvLine("pv", last_done_mono_s=0.0), None, 9.0, seen(1.0, 5e3), None),
        (PvLine("pv", last_done_mono_s=0.0), None, 10.0, seen(1.0, 5e3), PvWriteReason.RELEASE),
        (HELD, 100e3, 30.0, seen(1.0, 100e3, has_dead_man=False), None),
        (HELD, 100e3, 30.0, seen(1.0, 100e3), PvWriteReason.REFRESH),
    ],
)
def test_what_is_read_back_counts_beside_what_was_confirmed(line, ceiling_w, at, sample, reason):
    assert pv_due(line, ceiling_w, ROOF, at, sample) is reason


def test_power_a_little_above_the_ceiling_is_obedience():
    line = pv_watched(HELD, seen(1.0, 100e3), ROOF, 5.0)
    assert line.obeyed_mono_s == 5.0
    over = pv_watched(line, replace(seen(1.0, 100e3), power_w=good(130e3, 20.0)), ROOF, 20.0)
    assert (pv_not_following(over, 15.0), pv_not_following(over, 15.1)) == (False, True)
