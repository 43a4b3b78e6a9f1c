"""The judges of commissioning on rows made by hand, and what its record keeps."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import pytest
from core_step_site import rules_of

from agent.core.authority import Source
from agent.core.commissioning import Stage, advance, begun
from agent.core.commissioning_log import (
    Row,
    arrived,
    battery_points,
    crossing_s,
    energy_wh,
    noise_of,
    restless_w,
    settled_s,
    soc_step_pct,
    soc_steps,
)
from agent.core.commissioning_moves import judge_dead_man, judge_energy, judge_limit, judge_step
from agent.core.commissioning_record import (
    Record,
    as_measured,
    failed_condition,
    measured_of,
    record_json,
    restored_record,
)
from agent.core.commissioning_signs import CHARGE, DISCHARGE, REST, TELL, Way, judge, script, witness
from agent.core.commissioning_steps import STEPS, about, site_steps, tried_table
from agent.core.commissioning_terms import DeviceFacts, Finding, Result, Scene, Word, result
from agent.core.measured import Measured
from agent.core.plan import Slot, Target
from agent.core.rules import BatteryRules
from agent.core.slot_energy import SlotAccount, tracked_power_w
from agent.core.snapshot import BatterySample, Reading
from agent.core.verdict import Verdict, verdict
from agent.core.writes import WriteState, due, may_hold, not_following

ONE = rules_of(1)
SCENE = Scene(ONE, battery=ONE.batteries[0])
RATED_W = 500e3


def row(t, phase, asked_w=0.0, battery_w=0.0, meter_w=0.0, **more):
    told = {"soc_pct": 50.0, "net_wh": None, "hz": 50.0, "written_mono_s": 0.0, "grid_w": meter_w} | more
    return Row(t, phase, asked_w, battery_w, t, meter_w, t, **told)


def rows(phase, asked_w, battery_w=None, meter_w=None, *, begin=0.0, count=8, **more):
    """So many seconds of the same."""
    battery_w = asked_w if battery_w is None else battery_w
    meter_w = asked_w if meter_w is None else meter_w
    return [row(begin + n, phase, asked_w, battery_w, meter_w, **more) for n in range(count)]


def follow(tau_s, step_w=100e3, every_s=1.0, seconds=60.0, phase="up"):
    """A first-order battery after a step at t = 0."""
    return [
        row(t, phase, step_w, step_w * (1.0 - math.exp(-t / tau_s)))
        for t in [every_s * n for n in range(int(seconds / every_s) + 1)]
    ]


@pytest.mark.parametrize("tau_s", [0.05, 0.5, 2.0, 6.0, 12.0, 20.0])
@pytest.mark.parametrize("every_s", [0.2, 1.0])
def test_a_battery_has_arrived_only_where_it_will_stay_however_slow_it_is(tau_s, every_s):
    seen = follow(tau_s, every_s=every_s, seconds=120.0)
    at = next(n for n in range(1, len(seen) + 1) if arrived(seen[:n], 0.0, 100e3, 0.0))
    assert seen[at - 1].battery_w > 0.93 * 100e3
    assert seen[at - 1].mono_s < 12.0 + 7.0 * tau_s


def test_a_battery_that_has_not_begun_to_move_has_not_arrived():
    still = rows("up", 100e3, 0.0, count=10)
    assert not arrived(still, 0.0, 100e3, 0.0)
    assert arrived(rows("up", 100e3, 0.0, count=17), 0.0, 100e3, 0.0), "after a while it is not coming"


def test_a_ramp_has_not_arrived_before_its_end():
    ramp = [row(float(t), "up", 100e3, min(5e3 * t, 100e3)) for t in range(40)]
    at = next(n for n in range(1, 41) if arrived(ramp[:n], 0.0, 100e3, 0.0))
    assert ramp[at - 1].battery_w == 100e3


def test_noise_keeps_nobody_from_arriving_and_a_drift_is_no_noise():
    noisy = [row(float(t), "up", 100e3, 100e3 + 800.0 * (-1) ** t) for t in range(12)]
    assert arrived(noisy, 0.0, 100e3, 800.0)
    drift = [(float(t), 10.0 * t) for t in range(8)]
    assert noise_of(drift) == pytest.approx(0.0)
    assert restless_w(drift) > 10.0


def test_a_reading_taken_before_the_phase_and_one_seen_twice_do_not_count():
    seen = [replace(row(5.0, "up", 1.0, 7.0), battery_mono_s=4.0), row(6.0, "up", 1.0, 8.0)]
    twice = replace(row(7.0, "up", 1.0, 8.0), battery_mono_s=6.0)
    assert battery_points([*seen, twice]) == [(6.0, 8.0)]


def test_crossings_lie_between_two_readings():
    points = [(0.0, 0.0), (1.0, 40.0), (2.0, 80.0)]
    assert crossing_s(points, 60.0, rising=True) == pytest.approx(1.5)
    assert crossing_s(points, 90.0, rising=True) is None
    assert crossing_s([(0.0, 80.0), (2.0, 0.0)], 40.0, rising=False) == pytest.approx(1.0)
    assert settled_s([(0.0, 0.0), (1.0, 99.0), (2.0, 80.0), (3.0, 98.0)], 100.0, 5.0) == 3.0
    assert settled_s([(0.0, 99.0), (1.0, 0.0)], 100.0, 5.0) is None


def test_energy_and_soc_of_rows():
    seen = [row(0.0, "work", 1.0, 36e3, soc_pct=50.0), row(100.0, "work", 1.0, 36e3, soc_pct=49.9)]
    assert energy_wh(seen) == pytest.approx(1000.0)
    assert (soc_steps(seen), soc_step_pct(seen)) == (1, pytest.approx(0.1))


@pytest.mark.parametrize(
    ("ratio", "way"),
    [
        (1.0, Way.RIGHT),
        (0.91, Way.RIGHT),
        (-1.05, Way.REVERSED),
        (9.7, Way.SCALED),
        (-0.1, Way.SCALED),
        (1000.0, Way.SCALED),
        (0.01, Way.BLIND),
        (1.7, Way.ODD),
        (None, Way.UNKNOWN),
    ],
)
def test_what_a_witness_says(ratio, way):
    assert witness(ratio, (0.9, 1.1)).way is way


def moved(battery=1.0, meter=1.0, tell_soc=(), **more):
    """The rows of a sign test in which the two witnesses say so many times what was asked."""
    seen = rows(REST, 0.0)
    for n, (phase, asked_w) in enumerate(((CHARGE, -25e3), (DISCHARGE, 25e3))):
        seen += rows(phase, asked_w, battery * asked_w, meter * asked_w, begin=10.0 * (n + 1))
    for n, soc_pct in enumerate(tell_soc):
        seen.append(row(30.0 + n, TELL, 100e3, battery * 100e3, meter * 100e3, soc_pct=soc_pct, **more))
    return seen


def code(seen, scene=SCENE):
    return [one.code for one in judge(scene, seen, None).findings]


FALLING, RISING = (50.0, 49.9, 49.8, 49.7), (50.0, 50.1, 50.2, 50.3)


@pytest.mark.parametrize(
    ("battery", "meter", "soc", "found"),
    [
        (1.0, 1.0, (), "sign_and_scale"),
        (1.0, -1.0, FALLING, "meter_reversed"),
        (1.0, -1.0, RISING, "battery_reversed"),
        (1.0, -1.0, (50.0, 49.9), "meter_or_battery_reversed"),
        (-1.0, -1.0, (), "setpoint_reversed"),
        (-1.0, 1.0, (), "battery_reading_reversed"),
        (1.0, 10.0, (), "meter_scale"),
        (1.0, 1.5, (), "meter_factor"),
        (1.0, 0.0, (), "meter_blind"),
        (10.0, 10.0, (), "setpoint_scale"),
        (0.1, 0.1, (), "setpoint_scale"),
        (1.4, 1.4, (), "setpoint_scale"),
        (10.0, 1.0, (), "battery_reading_scale"),
        (0.0, 0.0, (), "not_followed"),
        (-1.0, 3.0, (), "contradiction"),
    ],
)
def test_each_pair_of_witnesses_has_its_own_name(battery, meter, soc, found):
    assert code(moved(battery, meter, soc)) == [found]


def test_a_battery_without_a_meter_is_judged_by_itself():
    alone = Scene(replace(ONE, meter_id=None, pv_ids=(), has_load=False), battery=ONE.batteries[0])
    without = [replace(one, meter_w=None, grid_w=None) for one in moved()]
    assert code(without, alone) == ["sign_and_scale"]
    assert "no meter to compare with" in judge(alone, without, None).findings[0].text
    assert code([replace(one, meter_w=None) for one in moved(10.0)], alone) == ["setpoint_scale"]
    assert code([replace(one, meter_w=None) for one in moved(0.0)], alone) == ["not_followed"]


def test_counters_tell_a_wrong_sign_in_the_file_from_wrong_wiring():
    right = moved(1.0, -1.0, FALLING)
    counted = [replace(one, net_wh=float(n)) if one.phase == TELL else one for n, one in enumerate(right)]
    assert "counters count the right way" in judge(SCENE, counted, None).findings[0].hint
    backwards = [replace(one, net_wh=-float(n)) if one.phase == TELL else one for n, one in enumerate(right)]
    assert "current transformers" in judge(SCENE, backwards, None).findings[0].hint


def test_a_limit_that_leaves_no_room_is_named():
    seen = rows(REST, 0.0) + rows(CHARGE, 0.0, clips="outage o1 (bess)")
    finding = judge(SCENE, seen, None).findings[0]
    assert (finding.code, "outage o1" in finding.text) == ("no_room", True)


def test_the_first_movement_is_small_and_larger_only_for_a_restless_load():
    quiet = script(SCENE, rows(REST, 0.0), None)
    assert quiet.power_w == -25e3
    restless = [row(float(t), REST, 0.0, 0.0, 30e3 * (-1) ** t) for t in range(8)]
    assert script(SCENE, restless, None).power_w == -40e3


def test_lag_and_settling_are_counted_from_the_setpoint_itself():
    up = follow(3.0, phase="up")
    late = [replace(one, asked_w=0.0) if one.mono_s < 2.0 else one for one in up]
    down = [replace(one, phase="down", asked_w=0.0, battery_w=100e3 - one.battery_w, mono_s=one.mono_s + 100.0,
                    battery_mono_s=one.mono_s + 100.0) for one in up]  # fmt: skip
    found = judge_step(SCENE, [*up, *down], None).measures
    assert found["lag_s"] == pytest.approx(3.0, abs=0.2)
    assert found["settling_s"] == pytest.approx(9.0, abs=0.7)
    assert judge_step(SCENE, [*late, *down], None).measures["lag_s"] == pytest.approx(3.0, abs=0.2), "the slower one"


def test_a_device_that_gives_another_power_is_inaccurate():
    up = [replace(one, battery_w=one.battery_w * 0.85) for one in follow(0.3, phase="up")]
    down = rows("down", 0.0, begin=100.0)
    assert "inaccurate" in [one.code for one in judge_step(SCENE, [*up, *down], None).findings]


def silence(until_s, end_w=0.0, held_w=100e3, seconds=80):
    lead = rows("lead", held_w, held_w)
    after = [
        row(10.0 + t, "silence", held_w, held_w if t <= until_s else end_w, written_mono_s=10.0) for t in range(seconds)
    ]
    return [*lead, *after]


def test_a_dead_man_is_timed_from_the_last_write():
    found = judge_dead_man(SCENE, silence(59), None)
    assert (found.word, found.findings[0].code) == (Word.PASSED, "dead_man")
    assert found.measures["dead_man_s"] == pytest.approx(59.5, abs=0.6)


@pytest.mark.parametrize(
    ("seen", "word", "found"),
    [
        (silence(200), Word.FAILED, "dead_man_dead"),
        (silence(59, end_w=60e3), Word.FAILED, "dead_man_not_neutral"),
        (silence(20), Word.REMARK, "dead_man_other"),
        (silence(75, seconds=90), Word.FAILED, "dead_man_late"),
        (silence(59, held_w=1e3), Word.FAILED, "not_moved"),
        (silence(59, held_w=-100e3), Word.PASSED, "dead_man"),
        ([], Word.REMARK, "no_dead_man"),
    ],
)
def test_dead_men(seen, word, found):
    judged = judge_dead_man(SCENE, seen, None)
    assert (judged.word, judged.findings[0].code) == (word, found)


def battery_moment(capacity_wh=1e6):
    class There:
        def battery(self, device_id):
            return BatterySample(device_id, capacity_wh=Reading(capacity_wh, 0.0))

    return There()


@pytest.mark.parametrize(
    ("socs", "found"),
    [
        ((50.0, 49.9, 49.8, 49.7), "energy"),
        ((50.0, 50.1, 50.2, 50.3), "soc_wrong_way"),
        ((50.0, 49.0, 48.0, 47.0), "soc_contradicts_energy"),
        ((50.0, 50.0, 50.0, 50.0), "soc_coarse"),
    ],
)
def test_soc_against_energy(socs, found):
    # 36 kW for 300 s are 3 kWh, 0.3 % of 1 MWh
    seen = [row(100.0 * n, "work", 36e3, 36e3, soc_pct=soc_pct) for n, soc_pct in enumerate(socs)]
    assert [one.code for one in judge_energy(SCENE, seen, battery_moment()).findings] == [found]


@pytest.mark.parametrize(
    ("grid_w", "clips", "found"),
    [
        (60e3, "connection limit (site file) +100000 W to +50000 W", "connection_limit"),
        (80e3, "connection limit (site file) +100000 W to +50000 W", "limit_passed"),
        (60e3, "", "limit_idle"),
    ],
)
def test_the_connection_limit_must_hold_and_be_what_held(grid_w, clips, found):
    seen = rows("rest", 0.0, 0.0, 10e3) + rows("limited", 50e3, 50e3, grid_w, begin=20.0, clips=clips)
    assert [one.code for one in judge_limit(SCENE, seen, None).findings] == [found]


def test_every_step_says_what_it_will_do_and_every_battery_has_its_own():
    two = rules_of(2)
    keys = [str(key) for key in site_steps(two)]
    assert len(keys) == len(set(keys)) == sum(2 if step.per_battery else 1 for step in STEPS)
    assert "b1" in about(next(key for key in site_steps(two) if str(key) == "dead_man:b1"), two)
    assert tried_table(two).nominal_hz == 50.0


def test_a_run_asks_the_identity_first_also_when_it_resumes():
    kept = {str(key): Result(Word.PASSED, ()) for key in site_steps(ONE)} | {"cloud": Result(Word.FAILED, ())}
    again = begun(ONE, "x", auto=True, utc_s=0.0, kept=kept)
    assert [str(key) for key in again.todo] == ["identity", "cloud"]
    assert [str(key) for key in begun(ONE, "x", auto=True, utc_s=0.0, kept=kept, only="fcr").todo] == [
        "identity",
        "fcr:b0",
    ]
    over = replace(again, stage=Stage.ENDED)
    assert advance(over, None) is over


def test_the_verdict_is_that_of_all_steps():
    passed = {str(key): Result(Word.PASSED, ()) for key in site_steps(ONE)}
    run = replace(begun(ONE, "x", auto=True, utc_s=0.0, kept=passed), stage=Stage.ENDED)
    assert run.word is Word.PASSED
    assert replace(run, results=passed | {"cloud": Result(Word.FAILED, ())}).word is Word.FAILED
    assert replace(run, results={k: v for k, v in passed.items() if k != "cloud"}).word is Word.STOPPED
    assert replace(run, surprise=Finding(Word.STOPPED, "stopped", "")).word is Word.STOPPED


def test_a_result_is_as_bad_as_its_worst_finding():
    words = [Word.PASSED, Word.REMARK, Word.FAILED]
    assert result([Finding(word, "x", "") for word in words]).word is Word.FAILED
    assert result([Finding(Word.SKIPPED, "x", "")]).word is Word.SKIPPED


BESS = DeviceFacts("b0", "battery", "tcp://x", "Maker", "Model", "S1", "1.0")
FOUND = Measured(5.0, 1.0, 4.0, 0.0, True, 40.0, "Maker", "Model", "S1", "1.0", "x")


def test_what_was_measured_is_kept_with_device_date_and_name():
    results = {
        "step_response:b0": Result(Word.FAILED, (), {"lag_s": 8.0, "settling_s": 24.0, "accuracy_w": 5.0}),
        "dead_man:b0": Result(Word.PASSED, (), {"has_dead_man": 1.0, "dead_man_s": 58.0}),
    }
    found = measured_of(results, None, BESS, "maria", 77.0)
    assert (found.lag_s, found.dead_man_s, found.has_dead_man, found.who, found.at_utc_s) == (
        8.0,
        58.0,
        True,
        "maria",
        77.0,
    )
    assert (found.serial, found.firmware) == ("S1", "1.0")
    only_dead_man = {"dead_man:b0": Result(Word.FAILED, (), {"has_dead_man": 0.0, "dead_man_s": None})}
    later = measured_of(only_dead_man, found, BESS, "ken", 99.0)
    assert (later.lag_s, later.has_dead_man, later.dead_man_s) == (8.0, False, None)
    other = measured_of(only_dead_man, found, replace(BESS, serial="S2"), "ken", 99.0)
    assert other.lag_s is None, "nothing of the device before"
    assert measured_of({}, None, BESS, "x", 0.0) is None


def test_the_record_reads_back_as_it_was_written():
    finding = Finding(Word.FAILED, "c", "t", "h")
    record = Record(
        {"identity": Result(Word.FAILED, (finding,), {"lag_s": None, "x": 1.5}, 1.0, 2.0, ((0.0, None, 3.0),))},
        {"b0": FOUND}, (BESS,), Word.FAILED, "why", "maria", 1.0, 9.0,
    )  # fmt: skip
    assert restored_record(json.loads(json.dumps(record_json(record)))) == record
    assert restored_record({"results": 5}) is None
    assert restored_record(None) is None
    endless = replace(record, measured={"b0": replace(FOUND, settling_s=math.inf)})
    kept = json.loads(json.dumps(record_json(endless), allow_nan=False))
    assert restored_record(kept) == replace(record, measured={"b0": replace(FOUND, settling_s=None)})
    for garbled in (
        {"measured": {"b0": asdict(FOUND) | {"lag_s": "8"}}},
        {"measured": {"b0": asdict(FOUND) | {"dead_man_s": -1.0}}},
        {"measured": {"b0": asdict(FOUND) | {"has_dead_man": 1}}},
        {"measured": {"b0": asdict(FOUND) | {"at_utc_s": 1e300}}},
        {"devices": [{"device_id": 7, "role": "battery", "endpoint": "x"}]},
        {"begun_utc_s": 10**400},
        {"results": {"identity": kept["results"]["identity"] | {"series": ["abc"]}}},
        {"results": {"identity": kept["results"]["identity"] | {"measures": {"x": True}}}},
    ):
        assert restored_record(kept | garbled) is None, garbled
    assert [one.code for one in failed_condition(record)] == ["commissioning_failed"]
    assert failed_condition(Record()) == ()


def test_rules_take_the_measurements_of_the_very_device_only():
    there, told = as_measured(ONE, {"b0": FOUND}, [BESS])
    assert (there.batteries[0].measured, told) == (FOUND, ())
    assert as_measured(there, {"b0": FOUND}, [BESS])[0] is there, "nothing new"
    gone, told = as_measured(there, {"b0": FOUND}, [replace(BESS, serial="S2")])
    assert (gone.batteries[0].measured, told[0].code) == (None, "not_commissioned")
    same, told = as_measured(ONE, {"b0": FOUND}, [replace(BESS, firmware="2.0")])
    assert (same.batteries[0].measured, told[0].code) == (FOUND, "commissioned_otherwise")
    silent, told = as_measured(ONE, {"b0": FOUND}, [DeviceFacts("b0", "battery", "tcp://x")])
    assert (silent.batteries[0].measured, told) == (FOUND, ())


def proven(**measured):
    return replace(BatteryRules("b", 1e5, 1e5, 5.0, 95.0, 0.95, 60.0, 100.0), measured=Measured(0.0, **measured))


def test_refreshing_reckons_with_the_shorter_and_holding_with_the_longer_dead_man():
    short, long, none = proven(dead_man_s=30.0), proven(dead_man_s=90.0), proven(has_dead_man=False)
    plain = replace(short, measured=None)
    assert [one.refreshed_within_s for one in (plain, short, long, none)] == [60.0, 30.0, 60.0, 60.0]
    assert [one.holds_for_s for one in (plain, short, long, none)] == [60.0, 60.0, 90.0, math.inf]
    line = WriteState("b", 5e4, maybe_w=(0.0, 5e4), last_done_mono_s=0.0)
    held = Reading(5e4, 11.0)
    assert due(line, 5e4, held, short, 11.0) is not None
    assert due(line, 5e4, held, plain, 11.0) is None
    assert may_hold(line, plain, 70.0) is None
    assert may_hold(line, long, 70.0) == (0.0, 5e4)
    assert may_hold(line, none, 1e6) == (0.0, 5e4)


def test_a_device_known_to_be_slow_is_given_twice_its_time_before_it_is_blamed():
    line = WriteState("b", 5e4, last_done_mono_s=0.0, following_since_mono_s=0.0)
    slow, quick = proven(settling_s=20.0), proven(settling_s=1.0)
    assert [not_following(line, 15.0, one) for one in (slow, quick)] == [False, True]
    assert not_following(line, 41.0, slow)
    assert not not_following(line, 9.0, quick), "never less than any device is given"
    near = Reading(0.0, 15.0)
    assert verdict(line, Reading(5e4, 15.0), near, slow, 15.0) is Verdict.SETTLING
    assert verdict(line, Reading(5e4, 15.0), near, quick, 15.0) is Verdict.NOT_APPLIED


def test_the_slowest_battery_sets_how_far_the_site_looks_ahead():
    slow = replace(ONE, batteries=(replace(ONE.batteries[0], measured=Measured(0.0, settling_s=20.0)),))
    assert (ONE.reaction_s, slow.reaction_s) == (5.0, 22.0)


def test_near_the_slots_end_no_more_is_asked_than_a_slow_battery_can_follow():
    slot = Slot(0.0, 1800.0, 0.0, Target.GRID)
    account = SlotAccount(slot, Source.ROLLING, 1, anchor_wh=0.0)
    at_s = 1795.0
    quick = tracked_power_w(account, at_s, 1.0, -100.0, 5.0)
    slow = tracked_power_w(account, at_s, 1.0, -100.0, 22.0)
    assert (quick, slow) == (pytest.approx(100 * 3600 / 5), pytest.approx(100 * 3600 / 22))
