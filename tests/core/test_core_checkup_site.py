"""The doctor's verdicts on devices, energy, plans and whoever decides."""

import pytest
from core_checkup import named_graded_and_with_a_next_step

from agent.core.checkup import Grade
from agent.core.checkup_site import site

NOW = 1_700_000_000.0
LATER = "2023-11-15T22:13:20Z"
"""A day after `NOW`."""
SOON = "2023-11-15T01:13:20Z"
PAST = "2023-11-14T20:13:20Z"
DEVICE = {
    "device_id": "bess", "role": "battery", "profile": None, "identity": "Maker X500 serial 1", "health": "good",
    "stranger": None, "age_s": 0.4, "last_error": None, "remote": True, "dead_man": True,
    "latency_ms": {"median": 12.0, "p95": 30.0}, "unit": {"waits_up_to_ms": 300.0},
    "last_hour": {"polls": 3600, "errors": {}, "error_pct": 0.0},
}  # fmt: skip
SEEN = {
    "seen_s": 600.0, "residual_w": -30e3, "follows": {"slope": 1.02, "moves": 9, "closed_loop": False},
    "frequency_step_hz": 0.001, "rated_w": 500e3, "has_load": True, "has_meter": True,
    "frequency_resolution_hz": None, "needed_resolution_hz": 0.01,
}  # fmt: skip
PLAN = {"version": 5, "end": LATER, "sha256": "00"}
STATUS = {
    "plans": {"rolling": PLAN, "yearly": None}, "orders": {"awards": None}, "override": None, "latches": [],
    "clock": {"trusted": True, "why": ""}, "conditions": [], "disk": {"failing": {}, "telemetry_fault": None},
}  # fmt: skip


def judged(status=None, device=None, seen=None):
    """The findings by (area, what), of a healthy site but for the changes."""
    found = site(STATUS | (status or {}), [DEVICE | (device or {})], SEEN | (seen or {}), NOW)
    return {(one.area, one.what): one for one in found}


def test_a_healthy_site_has_only_good_news():
    assert {one.grade for one in judged().values()} == {Grade.OK}


def follows(slope, *, closed_loop=False):
    return {"seen": {"follows": {"slope": slope, "moves": 4, "closed_loop": closed_loop}}}


def errors(failed, polls):
    return {"device": {"last_hour": {"polls": polls, "errors": {"timeout": failed}, "error_pct": 100 * failed / polls}}}


CASES = {
    "stranger": ({"device": {"stranger": "serial 2, not 1"}}, ("device", "bess identity"), Grade.FAILED, "serial 2"),
    "never answered": (
        {"device": {"identity": None, "health": "failing", "last_error": "Connection refused"}},
        ("device", "bess identity"), Grade.FAILED, "refused",
    ),
    "old": ({"device": {"age_s": 11.0, "last_error": "no answer"}}, ("device", "bess age"), Grade.FAILED, "11 s ago"),
    "fresh": ({"device": {"age_s": 9.0}}, ("device", "bess age"), Grade.OK, "9.0 s"),
    "never read": ({"device": {"age_s": None}}, ("device", "bess age"), Grade.FAILED, "never"),
    "few errors": (errors(9, 1000), ("device", "bess errors"), Grade.OK, "9 of 1000"),
    "some errors": (errors(20, 1000), ("device", "bess errors"), Grade.WARNING, "20 timeout"),
    "many errors": (errors(300, 1000), ("device", "bess errors"), Grade.FAILED, "30.0 %"),
    "no polls": (
        {"device": {"last_hour": {"polls": 0, "errors": {}, "error_pct": 0.0}}},
        ("device", "bess errors"), Grade.UNCHECKED, "not polled",
    ),
    "slow": (
        {"device": {"latency_ms": {"median": 100.0, "p95": 260.0}}}, ("device", "bess latency"), Grade.WARNING, "300 ms",
    ),
    "local": ({"device": {"remote": False}}, ("device", "bess remote"), Grade.FAILED, "local"),
    "no dead-man": ({"device": {"dead_man": False}}, ("device", "bess dead-man"), Grade.WARNING, "for ever"),
    "load feeds in": ({"seen": {"residual_w": 11e3}}, ("site", "energy balance"), Grade.FAILED, "feed into the grid"),
    "load nearly none": ({"seen": {"residual_w": 9e3}}, ("site", "energy balance"), Grade.OK, "load"),
    "does not close": (
        {"seen": {"residual_w": -11e3, "has_load": False}}, ("site", "energy balance"), Grade.FAILED, "should be 0",
    ),
    "closes": ({"seen": {"residual_w": -9e3, "has_load": False}}, ("site", "energy balance"), Grade.OK, "closes"),
    "not all read": ({"seen": {"residual_w": None}}, ("site", "energy balance"), Grade.UNCHECKED, "not all read"),
    "reversed": (follows(-0.98), ("site", "meter sign"), Grade.FAILED, "-0.98"),
    "reversed in closed loop": (follows(-0.98, closed_loop=True), ("site", "meter sign"), Grade.FAILED, "-0.98"),
    "scale": (follows(10.0), ("site", "meter sign"), Grade.WARNING, "+10.00"),
    "blind": (follows(0.02), ("site", "meter sign"), Grade.WARNING, "+0.02"),
    "kept at nothing by its meter": (follows(0.02, closed_loop=True), ("site", "meter sign"), Grade.OK, "+0.02"),
    "no moves": ({"seen": {"follows": None}}, ("site", "meter sign"), Grade.UNCHECKED, "too little"),
    "coarse": (
        {"seen": {"frequency_resolution_hz": 0.1}}, ("site", "frequency resolution"), Grade.WARNING, "100 mHz as stated",
    ),
    "coarse, as seen": (
        {"seen": {"frequency_step_hz": 0.02}}, ("site", "frequency resolution"), Grade.WARNING, "20 mHz as seen",
    ),
    "coarse, nobody minds": (
        {"seen": {"frequency_step_hz": 0.02, "needed_resolution_hz": None}},
        ("site", "frequency resolution"), Grade.OK, "20 mHz",
    ),
    "just fine enough": ({"seen": {"frequency_step_hz": 0.01}}, ("site", "frequency resolution"), Grade.OK, "10 mHz"),
    "no frequency": (
        {"seen": {"frequency_step_hz": None}}, ("site", "frequency resolution"), Grade.WARNING, "did not change",
    ),
    "no frequency, nobody minds": (
        {"seen": {"frequency_step_hz": None, "needed_resolution_hz": None}},
        ("site", "frequency resolution"), Grade.UNCHECKED, "did not change",
    ),
    "no plan": (
        {"status": {"plans": {"rolling": None, "yearly": PLAN}}}, ("plans", "rolling"), Grade.WARNING, "none is held",
    ),
    "plan over": (
        {"status": {"plans": {"rolling": PLAN | {"end": PAST}}}}, ("plans", "rolling"), Grade.WARNING, "is over",
    ),
    "plan ends": (
        {"status": {"plans": {"rolling": PLAN | {"end": SOON}}}}, ("plans", "rolling"), Grade.WARNING, "3.0 h left",
    ),
    "empty awards": ({"status": {"orders": {"awards": PLAN | {"end": None}}}}, ("plans", "awards"), Grade.OK, "empty"),
    "override": (
        {"status": {"override": {"who": "ann", "until": LATER, "reason": "work"}}},
        ("site", "override"), Grade.WARNING, "ann decides",
    ),
    "latch": (
        {"status": {"latches": [{"device_id": "bess", "alarms": "emergency stop", "since": PAST}]}},
        ("site", "latch bess"), Grade.FAILED, "emergency stop",
    ),
    "clock": (
        {"status": {"clock": {"trusted": False, "why": "behind"}}},
        ("clock", "trusted by the daemon"), Grade.FAILED, "behind",
    ),
    "disk": (
        {"status": {"disk": {"failing": {"frame": "the disk is full"}, "telemetry_fault": None}}},
        ("disk", "writing"), Grade.FAILED, "full",
    ),
    "never commissioned": (
        {"status": {"commissioning": {"running": None, "verdict": None, "ended": None}}},
        ("site", "commissioning"), Grade.WARNING, "never",
    ),
    "commissioned": (
        {"status": {"commissioning": {"running": None, "verdict": "passed", "ended": PAST}}},
        ("site", "commissioning"), Grade.OK, "passed",
    ),
    "commissioning failed": (
        {"status": {"commissioning": {"running": None, "verdict": "failed", "ended": PAST}}},
        ("site", "commissioning"), Grade.WARNING, "failed",
    ),
    "commissioning runs": (
        {"status": {"commissioning": {"running": {}, "verdict": None, "ended": None}}},
        ("site", "commissioning"), Grade.WARNING, "runs now",
    ),
    "alarm": (
        {"status": {"conditions": [{"code": "soc_unknown", "subject": "b2", "severity": "alarm", "text": "no SoC"}]}},
        ("site", "b2"), Grade.FAILED, "soc_unknown: no SoC",
    ),
    "warning": (
        {"status": {"conditions": [{"code": "not_ready", "subject": "b2", "severity": "warning", "text": "off"}]}},
        ("site", "b2"), Grade.WARNING, "not_ready",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "where", "grade", "words"), CASES.values(), ids=CASES)
def test_each_trouble_is_named_graded_and_has_a_next_step(changes, where, grade, words):
    assert named_graded_and_with_a_next_step(judged(**changes)[where], grade, words)


def test_a_device_that_does_not_tell_is_not_judged():
    found = judged(device={"remote": None, "dead_man": None, "latency_ms": {"median": None, "p95": None}})
    assert {what for area, what in found if area == "device"} == {"bess identity", "bess age", "bess errors"}


def test_an_older_daemon_that_knows_less_is_judged_by_what_it_tells():
    found = {one.what for one in site({"plans": {}}, [], {}, NOW)}
    assert found == {"override", "safety latch"}
