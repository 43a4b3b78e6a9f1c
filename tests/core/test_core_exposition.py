"""The metrics: a text that a strict reader of the format takes, with the values of the status."""

import math
import re

import pytest

from agent.core.exposition import METRICS, exposition

STATUS = {
    "site": "s1", "version": "1.0", "mode": "control", "uptime_s": 12.5, "utc": "2026-01-01T00:00:00.500Z",
    "source": "rolling", "powers_w": {"battery": 1000.0, "pv": None, "load": -2.5, "grid": 0.0}, "soc_pct": 55.5,
    "frequency_hz": 49.987, "target_w": 1000.0, "setpoint_w": -900.0, "clips": [{}, {}],
    "slot": {"planned_wh": 500.0, "done_wh": None}, "plans": {"rolling": {"version": 7, "end": "2026-01-03T00:00:00Z"}},
    "orders": {"awards": None, "outages": {"version": 2, "end": None}}, "local_plan": None, "override": {"who": "ann"},
    "latches": [{"device_id": "bess"}], "clock": {"trusted": False},
    "conditions": [{"code": "soc_unknown", "subject": 'a"b\\c\nd', "severity": "alarm", "text": "no SoC"}],
    "devices": [
        {"device_id": "bess", "health": "good", "age_s": 0.4, "polls": 9, "failures": 1, "latency_ms": 12.0},
        {"device_id": "pv", "health": "failing", "age_s": None, "polls": 0, "failures": 3, "latency_ms": None},
    ],
    "cloud": {
        "connected": True, "outbox_depth": 4,
        "certificates": [{"certificate": "site", "days_left": 2.0}, {"certificate": "CA", "days_left": None}],
    },
    "disk": {"failing": {"frame": "full"}, "telemetry_fault": None},
    "counters": {
        "ticks": 100, "late_ticks": 1, "writes_verified": 5, "writes_failed": 0, "frames_sealed": 3, "samples_dropped": 0,
    },
}  # fmt: skip
NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = rf'{NAME}="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? (-?[0-9.]+(?:e[+-]?[0-9]+)?)")


def read(text):
    """{(name, labels): value}; fails where a collector would refuse the file."""
    assert text.endswith("\n")
    kinds, helped, found, last = {}, set(), {}, None
    for line in text.splitlines():
        if line.startswith("# HELP "):
            _, _, name, words = line.split(" ", 3)
            assert name not in helped
            assert words
            helped.add(name)
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name in helped
            assert kind in {"gauge", "counter"}
            assert (kind == "counter") == name.endswith("_total")
            kinds[name] = kind
            last = name
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            assert match[1] == last, "samples stand under their own TYPE"
            key = (match[1], match[2] or "")
            assert key not in found, "no sample twice"
            found[key] = float(match[3])
    assert set(kinds) == helped
    return found


def test_the_file_is_in_the_format_and_says_what_the_status_says():
    found = read(exposition(STATUS))
    assert found["ems_power_watts", 'at="battery"'] == 1000.0
    assert found["ems_power_watts", 'at="load"'] == -2.5
    assert found["ems_soc_ratio", ""] == pytest.approx(0.555)
    assert found["ems_last_tick_time_seconds", ""] == 1767225600.5
    assert found["ems_control_source_info", 'source="rolling"'] == 1
    assert found["ems_setpoint_writes_total", 'result="verified"'] == 5
    assert found["ems_device_up", 'device="bess"'] == 1
    assert found["ems_device_up", 'device="pv"'] == 0
    assert found["ems_device_latency_seconds", 'device="bess"'] == 0.012
    assert found["ems_plan_version", 'kind="outages"'] == 2
    assert found["ems_plan_end_time_seconds", 'kind="rolling"'] == 1767398400.0
    assert found["ems_certificate_left_seconds", 'certificate="site"'] == 172_800
    assert found["ems_outbox_messages", ""] == 4
    assert found["ems_conditions", 'severity="alarm"'] == 1
    assert found["ems_conditions", 'severity="warning"'] == 0
    assert found["ems_condition", r'code="soc_unknown",subject="a\"b\\c\nd",severity="alarm"'] == 1
    assert [found[name, ""] for name in ("ems_override_active", "ems_safety_latches", "ems_clock_trusted")] == [1, 1, 0]
    assert [found[name, ""] for name in ("ems_disk_failing", "ems_local_plan_active", "ems_clips")] == [1, 0, 2]


def test_what_is_not_known_has_no_sample_and_is_never_0():
    found = read(exposition(STATUS))
    for key in (
        ("ems_power_watts", 'at="pv"'),
        ("ems_slot_done_watthours", ""),
        ("ems_device_reading_age_seconds", 'device="pv"'),
        ("ems_device_latency_seconds", 'device="pv"'),
        ("ems_plan_version", 'kind="awards"'),
        ("ems_plan_end_time_seconds", 'kind="outages"'),
        ("ems_certificate_left_seconds", 'certificate="CA"'),
    ):
        assert key not in found
    odd = STATUS | {"soc_pct": math.nan, "frequency_hz": math.inf, "slot": None, "cloud": None, "target_w": 1e300}
    found = read(exposition(odd))
    names = {name for name, _ in found}
    assert not names & {"ems_soc_ratio", "ems_frequency_hertz", "ems_slot_planned_watthours", "ems_cloud_connected"}
    assert found["ems_target_watts", ""] == 1e300


def test_every_metric_is_named_by_the_rules_with_its_unit_and_only_once():
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    assert all(name.startswith("ems_") for name in names)
    assert all(metric.text.endswith(".") for metric in METRICS)
