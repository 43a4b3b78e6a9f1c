"""The one word for what has become of a setpoint: owned only when read back, delivered only when power follows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from core_site import BATTERY, T0, battery, inputs, plan
from core_site import SITE as AC_SITE

from agent.core.decision import State
from agent.core.plan import Plans
from agent.core.rules import SiteRules
from agent.core.snapshot import WriteOutcome
from agent.core.step import step
from agent.core.verdict import Verdict, verdict
from agent.core.writes import FOLLOW_WITHIN_S

SITE = SiteRules("s1", 1.0, (BATTERY,), (), None, 400e3, 400e3, has_load=False, local_rule=AC_SITE.local_rule)
WANTED_W = 100e3
PLANS = Plans(rolling=plan(*[WANTED_W] * 4, start=T0))


class Site:
    """One battery, told 100 kW, second by second."""

    def __init__(self):
        self.state, self.at, self.sample = State(), -1.0, battery(0.0)

    def tick(self, power_w=0.0, held_w=None, outcome=None, *, seconds=1, read=True):
        for _ in range(seconds):
            self.at += 1.0
            if read:
                self.sample = battery(self.at, power_w, held_w=held_w)
            outcomes = () if outcome is None else (replace(outcome, done_mono_s=self.at - 0.5),)
            given = replace(inputs(self.at, PLANS), pvs=(), meter=None, batteries=(self.sample,), outcomes=outcomes)
            self.state, effects = step(SITE, self.state, given)
            outcome = None
        return [write.reason for write in effects.writes]

    @property
    def word(self):
        (line,) = self.state.writes
        return verdict(line, self.sample.held_setpoint_w, self.sample.power_w, BATTERY, self.at)


def confirmed(held_w=WANTED_W):
    return WriteOutcome("bess", WANTED_W, held_w, True, "", 0.0)


def told():
    """A battery that confirmed 100 kW and gives them."""
    site = Site()
    site.tick()
    site.tick(held_w=WANTED_W, outcome=confirmed())
    site.tick(WANTED_W, WANTED_W)
    return site


def test_a_write_under_way_is_settling_a_confirmed_one_too_until_the_power_is_there():
    site = Site()
    assert site.tick()
    assert site.word is Verdict.SETTLING
    site.tick(0.0, WANTED_W, confirmed())
    assert site.word is Verdict.SETTLING, "owned is not delivered"
    site.tick(WANTED_W * 0.5, WANTED_W, seconds=3)
    assert site.word is Verdict.SETTLING
    site.tick(WANTED_W, WANTED_W)
    assert site.word is Verdict.OWNED


def test_power_that_never_follows_is_not_applied():
    site = Site()
    site.tick()
    site.tick(0.0, WANTED_W, confirmed())
    site.tick(0.0, WANTED_W, seconds=int(FOLLOW_WITHIN_S) - 1)
    assert site.word is Verdict.SETTLING
    site.tick(0.0, WANTED_W, seconds=2)
    assert site.word is Verdict.NOT_APPLIED
    assert ("not_following", "bess") in site.state.conditions


def test_a_write_that_failed_or_reads_back_other_is_not_applied():
    site = Site()
    site.tick()
    failed = WriteOutcome("bess", WANTED_W, 0.0, False, "accepted but not applied", 0.0)
    site.tick(outcome=failed)
    assert site.word is Verdict.NOT_APPLIED
    site.tick(read=False, seconds=14)
    site.tick(read=False, outcome=failed)
    assert site.word is Verdict.STALE, "it may hold what was refused by now"


@pytest.mark.parametrize("held_w", [None, 0.0, WANTED_W + 5000.0])
def test_a_device_that_holds_something_else_was_changed_and_is_written_anew(held_w):
    site = told()
    assert site.word is Verdict.OWNED
    reasons = site.tick(WANTED_W, held_w)
    assert reasons == ["device holds something else"]
    assert site.word is Verdict.SETTLING
    stubborn = told()
    (line,) = stubborn.state.writes
    stubborn.state = replace(stubborn.state, writes=(replace(line, reasserts=3),))
    assert stubborn.tick(WANTED_W, held_w) == []
    assert stubborn.word is Verdict.EXTERNAL_CHANGE


def test_a_device_that_is_not_read_any_more_is_stale_and_so_is_one_whose_dead_man_must_have_ended_it():
    site = told()
    site.tick(read=False, seconds=9)
    assert site.word is not Verdict.STALE
    site.tick(read=False, seconds=5)
    assert site.word is Verdict.STALE
    (line,) = told().state.writes
    later = battery(100.0, WANTED_W, held_w=WANTED_W)
    assert verdict(line, later.held_setpoint_w, later.power_w, BATTERY, 100.0) is Verdict.STALE


def test_before_anything_was_written_nothing_is_ours():
    site = Site()
    site.tick()
    (line,) = site.state.writes
    unwritten = replace(line, in_flight=False)
    assert verdict(unwritten, site.sample.held_setpoint_w, site.sample.power_w, BATTERY, 0.0) is Verdict.UNWRITTEN
