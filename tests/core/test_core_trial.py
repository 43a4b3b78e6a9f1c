"""A trial of commissioning within the tick: one battery moves, everything else narrows, safety stands above."""

from __future__ import annotations

from dataclasses import replace

import pytest
from core_site import T0
from core_step_site import Cell, Site, booked, rules_of
from core_step_site import award as an_award

from agent.core.authority import Source
from agent.core.compliance import samples_of
from agent.core.droop_products import CE_FCR_OFFSET
from agent.core.frequency import Trouble
from agent.core.latch import Alarm
from agent.core.override import Override
from agent.core.plan import Target
from agent.core.snapshot import Quality, Reading
from agent.core.term import begun
from agent.core.trial import TEST_AWARD, Trial, played_award, shifted, tried_rules
from agent.core.writes import WriteState, let_be


def site(count=2, **changes):
    made = Site(rules_of(count), [Cell(f"b{n}") for n in range(count)])
    for key, value in changes.items():
        setattr(made, key, value)
    return made


def trial(power_w=50e3, **changes):
    return replace(Trial("x commissions", "b0", power_w, abs(power_w)), **changes)


def test_only_the_battery_under_trial_moves():
    here = site(trial=trial())
    here.run(10)
    assert [cell.power_w for cell in here.cells] == [50e3, 0.0]
    assert here.log[-1][1].decision.source is Source.COMMISSIONING


def test_without_a_battery_all_of_them_rest():
    here = site(trial=Trial("x commissions"))
    here.cells[0].held_w = here.cells[0].power_w = 200e3
    here.run(5)
    assert [cell.power_w for cell in here.cells] == [0.0, 0.0]


def test_its_power_never_passes_what_the_trial_allows():
    here = site(trial=trial(50e3, most_w=20e3))
    here.run(10)
    assert here.cells[0].power_w == 20e3


def test_the_envelope_stays_in_force_beneath_it():
    here = site(trial=trial(50e3))
    here.cells[0].live_w = 10e3
    here.run(10)
    assert here.cells[0].power_w == 10e3


def test_it_stands_above_an_override_and_awards_are_not_answered():
    override = Override(Target.BATTERY, -300e3, begun(T0, 0.0, 600.0), T0, "a", "b")
    here = site(trial=trial(), override=override, awards=booked(an_award()), frequency_hz=lambda _t: 49.8)
    here.run(10)
    assert here.cells[0].power_w == 50e3
    assert here.log[-1][1].decision.awards_suspended
    assert here.log[-1][1].evidence == ()


def test_a_latch_beats_it():
    here = site(trial=trial())
    here.run(5)
    here.cells[0].alarms = int(Alarm.E_STOP)
    here.run(3)
    assert [cell.power_w for cell in here.cells] == [0.0, 0.0]
    assert here.log[-1][1].decision.source is Source.LATCH


def test_a_quiet_battery_is_not_written_to_and_its_dead_man_ends_it():
    here = site(trial=trial())
    here.run(5)
    here.trial = trial(quiet=True)
    written = [write.device_id for effects in here.run(70) for write in effects.writes]
    assert "b0" not in written
    assert "b1" in written, "the other one is refreshed"
    assert here.cells[0].power_w == 0.0
    assert not [event for event in here.events if event.code == "setpoint_lost"]
    here.trial = trial(0.0)
    assert "b0" in [write.device_id for effects in here.run(3) for write in effects.writes], "taken back at once"


def test_a_battery_left_alone_may_still_hold_what_it_was_told():
    line = WriteState("b1", 50e3, maybe_w=(0.0, 50e3), last_done_mono_s=5.0, following_since_mono_s=5.0)
    after = let_be(line)
    assert (after.owned_w, after.following_since_mono_s, after.maybe_w) == (None, None, (0.0, 50e3))
    assert let_be(after) is after


def test_limits_only_become_narrower():
    base = rules_of(1)
    narrow = tried_rules(base, trial(export_limit_w=30e3))
    assert (narrow.export_limit_w, narrow.import_limit_w) == (30e3, base.import_limit_w)
    assert tried_rules(base, trial(export_limit_w=90e6, import_limit_w=-5.0)).export_limit_w == base.export_limit_w
    assert tried_rules(base, trial(import_limit_w=-5.0)).import_limit_w == 0.0
    assert tried_rules(base, trial()) is base
    assert tried_rules(base, None) is base


def test_the_frequency_is_shifted_for_the_response_only():
    reading = Reading(50.0, 1.0)
    assert shifted(reading, trial(shift_hz=-0.2)).value == pytest.approx(49.8)
    lost = Reading(None, 1.0, Quality.STALE)
    assert shifted(lost, trial(shift_hz=-0.2)) is lost
    assert shifted(reading, None) is reading
    assert shifted(None, trial(shift_hz=1.0)) is None


def test_a_played_award_is_answered_and_leaves_evidence_as_a_test():
    here = site(trial=trial(0.0, most_w=100e3, shift_hz=-0.3, awards=played_award(CE_FCR_OFFSET, 100e3, T0)))
    effects = here.run(8)
    assert here.cells[0].power_w == pytest.approx(100e3)
    rows = [row for one in effects for row in one.evidence]
    assert {(row.trouble, row.award_ids) for row in rows} == {(Trouble.TEST, (TEST_AWARD,))}
    assert rows[-1].frequency_hz == pytest.approx(49.7)
    assert list(samples_of(rows, ())) == [], "nothing of it is judged as a delivery"
    assert effects[-1].decision.frequency_hz == 50.0
    assert here.state.account.response_wh == 0.0


def test_a_played_award_ends_by_itself():
    awards = played_award(CE_FCR_OFFSET, 100e3, T0)
    assert awards.at(T0 + 590.0)
    assert not awards.at(T0 + 610.0)
