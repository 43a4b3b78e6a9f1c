"""Model 704's active power control: what is told, what is refused, and the reversion timer."""

import pytest

from simulators.setpoint_control import SetpointControl


@pytest.fixture
def control():
    return SetpointControl(rated_charge_w=400.0, rated_discharge_w=500.0)


def test_nothing_is_wanted_until_the_control_is_enabled(control):
    control.write({"WSet": 300.0}, 0.0)
    assert control.wanted_w is None
    control.write({"WSetEna": 1}, 0.0)
    assert control.wanted_w == 300.0


def test_in_percent_mode_the_percentage_of_the_rating_counts_within_the_ratings(control):
    control.write({"WSetEna": 1, "WSetMod": 0, "WSet": 7.0, "WSetPct": 50.0}, 0.0)
    assert control.wanted_w == 250.0
    control.write({"WSetPct": -100.0}, 0.0)
    assert control.wanted_w == -400.0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WSet", 500.1),
        ("WSet", -401.0),
        ("WSetRvrt", 501.0),
        ("WSetEna", 2.0),
        ("WSetMod", 2.0),
        ("WSetEnaRvrt", 65535.0),
        ("WSetPct", 100.1),
        ("WSetPctRvrt", -327.68),
        ("WSetRvrtTms", 4294967295.0),
    ],
)
def test_values_out_of_range_are_not_allowed(control, name, value):
    assert not control.allows({"WSetRvrt": 0.0, name: value})


def test_without_renewal_the_setpoint_reverts_when_its_time_is_over(control):
    control.write({"WSet": 300.0, "WSetRvrt": -20.0, "WSetRvrtTms": 10.0, "WSetEna": 1}, 100.0)
    assert (control.remaining_s(100.0), control.remaining_s(104.5), control.remaining_s(109.99)) == (10, 6, 1)
    assert not control.revert_if_due(109.99)
    assert control.revert_if_due(110.0)
    assert (control.wanted_w, control.points.set_w, control.remaining_s(110.0)) == (-20.0, -20.0, 0)
    assert control.reversions == 1
    assert not control.revert_if_due(200.0), "it happens once"


def test_the_reversion_can_switch_the_control_off(control):
    control.write({"WSet": 300.0, "WSetEnaRvrt": 0, "WSetRvrtTms": 10.0, "WSetEna": 1}, 100.0)
    control.revert_if_due(110.0)
    assert control.wanted_w is None
    assert not control.points.enabled


def test_every_write_starts_the_time_anew(control):
    control.write({"WSet": 300.0, "WSetRvrtTms": 10.0, "WSetEna": 1}, 100.0)
    control.write({"WSet": 300.0}, 108.0)
    assert not control.revert_if_due(117.9)
    assert control.wanted_w == 300.0
    assert control.revert_if_due(118.0)


def test_no_reversion_time_or_a_disabled_control_arms_nothing(control):
    control.write({"WSet": 300.0, "WSetEna": 1}, 0.0)
    assert control.revert_at_utc_s is None
    control.write({"WSetRvrtTms": 10.0}, 0.0)
    assert control.revert_at_utc_s == 10.0
    control.write({"WSetEna": 0}, 1.0)
    assert control.revert_at_utc_s is None


def test_a_reboot_forgets_everything(control):
    control.write({"WSet": 300.0, "WSetRvrtTms": 10.0, "WSetEna": 1}, 0.0)
    control.reset()
    assert (control.wanted_w, control.revert_at_utc_s, control.points.set_w) == (None, None, 0.0)
