"""Whole commissionings in the pure core: two batteries driven through `step()` with every invariant checked at each tick."""

from __future__ import annotations

import pytest
from core_site import T0
from core_step_site import Cell, Site, rules_of

from agent.core.commissioning import Stage, advance, begun, trial_of
from agent.core.commissioning_terms import DeviceFacts, Moment, Word
from agent.core.events import Severity

DEVICES = tuple(DeviceFacts(one, "battery", "tcp://x", "M", "B", f"S-{one}") for one in ("b0", "b1"))


def two(**changes):
    return Site(rules_of(2, each=None), [Cell("b0"), Cell("b1")], load_w=lambda _t: -30e3, **changes)


def moment(site, effects):
    given = site.log[-1][0]
    alarms = {key: one.text for key, one in site.state.conditions.items() if one.severity is Severity.ALARM}
    return Moment(
        given.utc_s, given.mono_s, given.batteries, given.meter, 0.0, effects.decision, site.state.writes, alarms,
        devices=DEVICES,
    )  # fmt: skip


def lead(site, each_tick=lambda _run: None, most_s=1200.0):
    """The finished run, and the powers of both batteries after each tick."""
    run, powers = begun(site.rules, "maria", auto=True, utc_s=T0), []
    while run.stage is not Stage.ENDED:
        assert site.t < most_s, run.key
        site.trial = trial_of(run)
        run = advance(run, moment(site, site.tick()))
        each_tick(run)
        powers.append((str(run.key), *(cell.power_w for cell in site.cells)))
    return run, powers


def test_each_battery_is_proven_while_the_other_one_rests():
    site = two()
    run, powers = lead(site)
    assert run.word is Word.PASSED, {key: one for key, one in run.results.items() if one.word is Word.FAILED}
    assert all(one == 0.0 or other == 0.0 for _, one, other in powers)
    for device_id in ("b0", "b1"):
        assert 59.0 < run.results[f"dead_man:{device_id}"].measures["dead_man_s"] < 62.0
    assert any(abs(other) > 90e3 for _, _, other in powers)
    assert trial_of(run) is None


def test_the_one_with_the_fault_is_named_and_the_other_one_is_proven_all_the_same():
    site = two()
    site.cells[1].dead_man_s = 1e9
    run, _ = lead(site)
    assert (run.word, run.results["dead_man:b0"].word) == (Word.FAILED, Word.PASSED)
    assert [one.code for one in run.results["dead_man:b1"].findings] == ["dead_man_dead"]


def test_a_battery_that_refuses_in_the_middle_ends_it_with_both_at_rest():
    site = two()

    def refuse(run):
        site.cells[0].refuses = str(run.key) == "step_response:b0" and run.phase is not None and run.phase.name == "up"

    run, _ = lead(site, refuse)
    assert run.word is Word.FAILED
    assert [cell.power_w for cell in site.cells] == [0.0, 0.0]


def test_a_battery_that_does_not_come_home_is_told_to_go_to():
    site = two()

    def stuck(run):
        site.cells[0].refuses = site.cells[0].refuses or (
            run.phase is not None and run.phase.name == "work" and site.cells[0].power_w != 0.0
        )
        site.cells[0].dead_man_s = 1e9 if site.cells[0].refuses else 60.0

    run, _ = lead(site, stuck)
    assert "was not seen at rest within 60 s" in run.surprise.text
    assert "go to the battery" in run.surprise.hint


@pytest.mark.parametrize(("step", "phase"), [("step_response:b0", "down"), ("fcr:b1", "high")])
def test_a_battery_that_goes_on_when_it_is_told_to_rest_ends_it(step, phase):
    site = two()

    def goes_on(run):
        cell = site.cells[0 if step.endswith("b0") else 1]
        if str(run.key) == step and run.phase is not None and run.phase.name == phase and abs(cell.power_w) > 50e3:
            cell.live_through = lambda *_: None

    run, _ = lead(site, goes_on)
    assert run.surprise.code == "not_at_rest"
    assert "told to rest 60 s ago and does not; and" in run.surprise.text
    assert "go to the battery" in run.surprise.hint
    assert run.word is Word.FAILED
