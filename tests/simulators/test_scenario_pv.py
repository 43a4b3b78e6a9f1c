"""PV under ceilings in the runner: what is told to the inverters is what the site gives."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scenario_sites import scenario

from agent.core.envelope_rules import PvRules, SiteLimits
from agent.core.pv_limit import CeilingWrite, PvWriteReason
from simulators.scenario_pv import Inverters
from simulators.scenario_run import Run

PV = PvRules("pv", 200e3, 2e3, dead_man_s=60.0)


def no_export(*pvs, **changes):
    """A cloudy day of a site that must not export, its battery nearly full in an hour of sun."""
    told = scenario(tick_s=5.0, **changes)
    rules = replace(told.rules, export_limit_w=0.0, limits=SiteLimits(pvs=pvs))
    return replace(told, rules=rules, sizes=replace(told.sizes, capacity_wh=100e3))


def exported_wh(run):
    return run.plant.export_wh - 1e6


def test_pv_gives_way_where_nothing_may_go_out_and_the_battery_is_full():
    free, held = Run(no_export()), Run(no_export(PV))
    free.run()
    record = held.run()
    assert exported_wh(free) > 30e3, "without a limit the sun goes out"
    assert exported_wh(held) < 0.1 * exported_wh(free), "what is left is the noise of the load around 0"
    assert held.plant.inverters.limited_wh > 0.85 * exported_wh(free)
    assert record.events["pv_limited"] >= 2
    assert record.invariants.violations == []


def inverters(**changes):
    return Inverters(replace(no_export(PV).rules, **changes), tick_s=1.0)


def test_a_ceiling_is_rounded_down_and_ends_when_it_is_not_repeated():
    pv = inverters()
    outcome = pv.write(CeilingWrite("pv", 50_099.0, PvWriteReason.TIGHTER), 10.0, 1010.0)
    assert (outcome.ok, outcome.held_w, outcome.done_mono_s) == (True, 50e3, 1010.0)
    assert [pv.limited_w(90e3, at_s) for at_s in (10.0, 69.9, 70.0)] == [50e3, 50e3, 90e3]
    assert pv.limited_w(30e3, 10.0) == 30e3


def test_a_release_ends_it_at_once_and_samples_show_both():
    pv = inverters()
    pv.write(CeilingWrite("pv", 50e3, PvWriteReason.TIGHTER), 0.0, 0.0)
    (held,) = pv.samples(90e3, 10.0, 1.0, 1.0)
    assert (held.power_w.value, held.limited.value, held.ceiling_w.value) == (50e3, 1.0, 50e3)
    outcome = pv.write(CeilingWrite("pv", None, PvWriteReason.RELEASE), 1.0, 1.0)
    assert (outcome.ok, outcome.held_w) == (True, None)
    (free,) = pv.samples(90e3, 10.0, 2.0, 2.0)
    assert (free.power_w.value, free.limited.value, free.ceiling_w.value) == (90e3, 0.0, None)


def test_an_inverter_that_cannot_be_limited_goes_on():
    pv = inverters(pv_ids=("pv", "other"))
    pv.write(CeilingWrite("pv", 0.0, PvWriteReason.TIGHTER), 0.0, 0.0)
    assert pv.limited_w(90e3, 1.0) == 45e3
    assert pv.energy_wh(100.0, 5.0, 1.0) == pytest.approx(50.0)
    assert pv.limited_wh == pytest.approx(50.0)
    assert [sample.has_limit for sample in pv.samples(90e3, 10.0, 1.0, 1.0)] == [True, None]
