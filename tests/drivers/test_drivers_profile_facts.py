"""What makers prescribe beside registers (pace, groups, time-outs, what wears out), which the golden files do not show."""

from __future__ import annotations

import pytest

from drivers.profile.load import find, shipped

PROFILES = {name: profile for name in shipped() if not (profile := find(name, None)).sunspec}
CONTROLLED = {
    name: profile.battery.control for name, profile in PROFILES.items() if profile.battery and profile.battery.control
}
DEAD_MEN = {
    "fronius-gen24": ("revert_time", None, False),
    "huawei-sun2000-luna2000": ("forcible_period", None, False),
    "kostal-plenticore": (None, 60.0, False),
    "sinexcel-pws2-30k": (None, 5.0, True),
    "sma-sunny-boy-storage": (None, None, False),
    "sma-sunny-island": (None, None, False),
    "solaredge-storedge": ("command_timeout", None, False),
    "sungrow-sh": ("heartbeat", None, False),
    "victron-gx-single-phase": (None, 10.0, False),
    "victron-gx-three-phase": (None, 10.0, False),
}
"""The register that takes the time, the fixed time in s, and whether polling feeds it too."""
STORED = {
    "huawei-sun2000-luna2000": {"forcible_target"},
    "solaredge-storedge": {"control_mode"},
    "victron-gx-single-phase": {"ess_mode"},
    "victron-gx-three-phase": {"ess_mode"},
}
WEARING = {0xF001, 2700, 2704, 2705, 2706, 41193, 41195, 41197, 33046, 33047, 40125, 40126}
"""Registers that are stored and that no profile may write: each has a volatile one that serves, or stays the owner's."""


def test_huawei_is_asked_slowly_and_little():
    profile = PROFILES["huawei-sun2000-luna2000"]
    assert (profile.pacing.between_requests, profile.pacing.after_connect) == (0.05, 1.0)
    assert profile.reads.max_registers == 64


def test_sungrow_is_given_20_ms_between_requests():
    assert PROFILES["sungrow-sh"].pacing.between_requests == 0.02


@pytest.mark.parametrize("name", sorted(CONTROLLED))
def test_what_ends_a_setpoint_when_the_agent_is_gone(name):
    dead_man = CONTROLLED[name].dead_man
    assert (dead_man.point, dead_man.fixed, dead_man.fed_by_reads) == DEAD_MEN[name]
    assert (dead_man.none is not None) == (DEAD_MEN[name][:2] == (None, None))


def test_the_sma_groups_are_one_frame_or_within_a_minute_and_only_acknowledged():
    for name in ("sma-sunny-island", "sma-sunny-boy-storage"):
        assert CONTROLLED[name].confirm == "acknowledgement"
    (step,) = CONTROLLED["sma-sunny-island"].setpoint
    assert step.one_frame
    addresses = [PROFILES["sma-sunny-island"].points[write.point].address for write in step.writes]
    assert addresses == [40149, 40151, 40153]
    assert CONTROLLED["sma-sunny-boy-storage"].group_within == 60.0


def test_where_the_device_says_whether_it_may_be_controlled_it_is_asked():
    asked = {name: (control.remote.point, control.remote.is_) for name, control in CONTROLLED.items() if control.remote}
    assert asked == {
        "kostal-plenticore": ("battery_management", "modbus"),
        "sma-sunny-island": ("control_possible", "yes"),
    }


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_what_wears_out_is_marked_and_what_need_not_be_written_is_not_writable(name):
    points = PROFILES[name].points
    assert {key for key, point in points.items() if point.write == "stored"} == STORED.get(name, set())
    assert not {point.address for point in points.values() if point.write is not None} & WEARING


def test_the_sinexcel_is_cleared_set_to_grid_started_and_awaited_in_this_order_once():
    profile, control = PROFILES["sinexcel-pws2-30k"], CONTROLLED["sinexcel-pws2-30k"]
    order = [profile.points[write.point].address for step in control.take_over for write in step.writes]
    assert order == [652, 653, 650]
    assert control.take_over[-1].until.bits == ["grid_tied"]
    assert {profile.points[name].write for name in ("start", "stop", "clear_failure", "on_grid_mode")} == {"command"}


@pytest.mark.parametrize("name", ["carlo-gavazzi-em24", "carlo-gavazzi-em24-e1"])
def test_the_em24_tells_the_frequency_too_coarsely_for_frequency_response(name):
    assert PROFILES[name].frequency_resolution_hz == 0.1


@pytest.mark.parametrize("name", sorted(shipped()))
def test_every_profile_says_where_it_is_from_and_when_that_was_read(name):
    about = find(name, None).about
    assert len(about.source) > 10
    assert about.date.year >= 2026


def test_what_nobody_has_confirmed_is_never_written():
    for profile in PROFILES.values():
        assert [key for key, point in profile.points.items() if not point.verified and point.write is not None] == []
    unverified = {
        name: sorted(k for k, p in profile.points.items() if not p.verified) for name, profile in PROFILES.items()
    }
    assert {name: keys for name, keys in unverified.items() if keys} == {
        "byd-battery-box": ["cell_max", "cell_min", "current"],
        "sinexcel-pws2-30k": ["ems_timeout"],
    }
