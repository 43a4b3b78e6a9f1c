"""Safety latch and override beside the tick: when they may go, and what is kept of them on disk."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from core_site import T0, battery, good, missing

from agent.core.admission import PlanLimits
from agent.core.latch import (
    Alarm,
    Latch,
    latched,
    latches_record,
    reset,
    restored_latches,
    why_site_stopped,
    why_stopped,
)
from agent.core.override import (
    LONGEST_OVERRIDE_S,
    Override,
    override_record,
    refuse_override,
    restored_override,
)
from agent.core.plan import Target
from agent.core.term import begun

LIMITS = PlanLimits(500e3, 400e3, 300e3, 200e3)
LATCHES = {"bess": Latch("bess", Alarm.E_STOP | Alarm.INSULATION, T0)}


def sample(at=100.0, *, alarms=0.0, **changes):
    return replace(battery(at), alarms=good(alarms, at) if isinstance(alarms, float) else alarms, **changes)


class TestReset:
    def test_it_goes_when_fresh_readings_tell_no_alarm(self):
        assert reset(LATCHES, [sample()], 100.0) is None
        assert reset(LATCHES, [sample(alarms=float(1 << 9))], 100.0) is None
        assert reset(LATCHES, [sample()], 110.0) is None

    @pytest.mark.parametrize(
        ("found", "why"),
        [
            (sample(alarms=float(Alarm.BREAKER)), "the alarm stands: breaker open"),
            (sample(at=89.0), "its readings are stale"),
            (sample(alarms=good(0.0, 89.0)), "its alarms are stale"),
            (sample(alarms=missing(100.0), ready=good(0.0, 100.0)), "its alarms are missing"),
            (sample(power_w=missing(100.0)), "its readings are missing"),
        ],
    )
    def test_it_stands_else_and_says_why(self, found, why):
        stands = reset(LATCHES, [found], 100.0)
        assert (stands.device_id, why in stands.why) == ("bess", True)

    def test_another_device_in_its_place_that_tells_no_alarms_must_be_ready(self):
        assert reset(LATCHES, [sample(alarms=missing(100.0))], 100.0) is None

    def test_a_latch_of_a_device_that_is_gone_holds_nobody_up(self):
        assert reset({"old": Latch("old", Alarm.BREAKER, T0)}, [sample()], 100.0) is None


class TestWhoIsStopped:
    def test_an_emergency_stop_stops_all_and_says_where(self):
        assert why_stopped(LATCHES, "bess") == "emergency stop, insulation fault"
        assert why_stopped(LATCHES, "other") == "emergency stop at bess"
        assert why_site_stopped(LATCHES, ["bess", "other"]) == "bess: emergency stop, insulation fault"

    def test_any_other_alarm_stops_its_own_battery(self):
        found = {"a": Latch("a", Alarm.BREAKER, T0)}
        assert (why_stopped(found, "a"), why_stopped(found, "b")) == ("breaker open", "")
        assert why_site_stopped(found, ["a", "b"]) == ""
        assert why_site_stopped(found, ["a"]) == "a: breaker open"

    def test_bits_that_nobody_knows_are_no_alarm_of_ours(self):
        assert latched({}, [sample(alarms=float(1 << 9 | Alarm.BREAKER))], T0)["bess"].alarms == Alarm.BREAKER
        assert latched({}, [sample(alarms=float(1 << 9))], T0) == {}


class TestLatchesOnDisk:
    def test_they_come_back_as_they_were(self):
        kept = json.loads(json.dumps(latches_record(LATCHES)))
        assert restored_latches(kept, ["bess", "b2"]) == LATCHES
        assert restored_latches([], ["bess"]) == {}

    def test_those_of_devices_that_the_site_has_no_more_do_not(self):
        assert restored_latches(latches_record(LATCHES), ["b2"]) == {}

    @pytest.mark.parametrize("torn", ["nonsense", {}, 5])
    def test_what_cannot_be_read_stops_every_battery(self, torn):
        assert set(restored_latches(torn, ["a", "b"])) == {"a", "b"}

    @pytest.mark.parametrize("entry", [{}, {"alarms": "x"}, {"alarms": 0}, {"alarms": True}, {"alarms": 1 << 9}])
    def test_an_entry_that_cannot_be_read_stops_its_battery(self, entry):
        found = restored_latches([{"device_id": "a", **entry}, "nonsense", {"device_id": 5}], ["a", "b"])
        assert {name: latch.alarms for name, latch in found.items()} == {"a": Alarm.BMS_FAULT}

    @pytest.mark.parametrize("since", [1e300, math.nan, -1.0, "x", None])
    def test_a_time_without_a_date_is_not_told(self, since):
        kept = [{"device_id": "a", "alarms": 1, "since_utc_s": since}]
        assert restored_latches(kept, ["a"])["a"].since_utc_s == 0.0


class TestOverride:
    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({}, None),
            ({"duration_s": LONGEST_OVERRIDE_S}, None),
            ({"duration_s": LONGEST_OVERRIDE_S + 1.0}, "for"),
            ({"duration_s": 0.5}, "for"),
            ({"duration_s": math.nan}, "for"),
            ({"duration_s": math.inf}, "for"),
            ({"reason": "  "}, "reason"),
            ({"reason": "x" * 201}, "reason"),
            ({"power_w": 526e3}, "power"),
            ({"power_w": 316e3, "target": Target.GRID}, "power"),
            ({"power_w": math.nan}, "power"),
        ],
    )
    def test_it_must_end_have_a_reason_and_be_within_the_ratings(self, changes, field):
        asked = {"target": Target.BATTERY, "power_w": 1e3, "duration_s": 60.0, "reason": "a test"} | changes
        refused = refuse_override(**asked, limits=LIMITS)
        assert (refused and refused.field) == field

    def kept(self, **changes):
        override = Override(Target.GRID, -5e3, begun(T0, 0.0, 600.0), T0, "anna", "a test", suspends_awards=True)
        return json.loads(json.dumps(override_record(override))) | changes

    def test_it_comes_back_for_the_rest_of_its_time(self):
        found = restored_override(self.kept(), T0 + 100.0, 7.0)
        assert (found.target, found.power_w, found.who, found.reason, found.suspends_awards) == (
            Target.GRID, -5e3, "anna", "a test", True,
        )  # fmt: skip
        assert (found.term.until_utc_s, found.term.until_mono_s) == (T0 + 600.0, 507.0)

    @pytest.mark.parametrize(
        "record",
        [
            None, "nonsense", {}, {"target": "grid"}, {"target": "moon"}, {"power_w": "x"}, {"power_w": math.inf},
            {"until_utc_s": T0 + 100.0}, {"until_utc_s": T0 + 1e6}, {"until_utc_s": None}, {"power_w": 10**400},
            {"set_utc_s": 1e300}, {"set_utc_s": "1705287600"}, {"who": ["anna"]},
        ],
    )  # fmt: skip
    def test_what_is_over_unreadable_or_endless_does_not(self, record):
        if (isinstance(record, dict) and record and set(record) != {"target"}) or record == {"target": "moon"}:
            record = self.kept(**record)
        assert restored_override(record, T0 + 100.0, 7.0) is None
