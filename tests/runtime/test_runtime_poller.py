"""The poller: when a device is asked, what of its answers is believed, and what people are told."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from agent.core.rules import BatteryRules, LocalRule, SiteRules
from agent.core.snapshot import BatterySample, Reading
from agent.runtime.board import Board, DeviceHealth
from agent.runtime.device_conditions import device_conditions
from agent.runtime.poller import STRANGER_EVERY_S, EndpointPoller, Polled, phase_s
from drivers.errors import IdentityMismatch, LinkTimeout, ModbusRefused, UnitResting

BATTERY = BatteryRules("bess", 500e3, 500e3, 10.0, 90.0, 0.95, 60.0, 500.0)
RULES = SiteRules("s", 1.0, (BATTERY,), (), None, 1e6, 1e6, has_load=True, local_rule=LocalRule.IDLE)


class Over(BaseException):
    """The test has seen enough."""


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self, ends_at):
        self.t, self.ends_at = 0.0, ends_at

    def mono_s(self):
        return self.t

    def utc_s(self):
        return self.t

    async def sleep_until(self, mono_s):
        self.t = max(self.t, mono_s)
        if self.t >= self.ends_at:
            raise Over


class Line:
    """What the poller sees of a link."""

    name, connected = "tcp://h:502", True

    def __init__(self):
        self.retry_s, self.failures = float("-inf"), 0

    def retry_mono_s(self, unit_id):
        return self.retry_s

    def unit(self, unit_id):
        return SimpleNamespace(failures_in_a_row=self.failures, retry_in_s=None if self.failures < 3 else 1.0)


class Device:
    """Answers with `sample`, or raises it; notes when it was asked."""

    spec = SimpleNamespace(unit_id=7)

    def __init__(self, clock, sample):
        self.clock, self.sample, self.asked, self.identified = clock, sample, [], 0
        self.session = SimpleNamespace(refusals={})

    async def identify(self):
        self.identified += 1
        return SimpleNamespace(manufacturer="m", model="x", serial="", firmware="")

    async def read(self):
        self.asked.append(self.clock.t)
        found = self.sample(self.clock.t)
        if isinstance(found, Exception):
            raise found
        return found


def sample(power_w, at_s=0.0):
    return BatterySample(
        "bess",
        power_w=Reading(power_w, at_s),
        soc_pct=Reading(50.0, at_s),
        held_setpoint_w=Reading(70e3, at_s),
    )


async def polled(answer, seconds, *, line=None, refusals=None, index=0):
    """The device's health, the board, what was told, and the device, after so many seconds at one poll a second."""
    clock, told = Clock(seconds), []
    device, board = Device(clock, answer), Board(RULES)
    device.session.refusals = refusals or {}
    health = DeviceHealth("bess", "tcp://h:502 unit 7")
    poller = EndpointPoller(
        [Polled(device, 1.0, health, line or Line())], board, clock, told.append, phase_s=phase_s(index)
    )
    with pytest.raises(Over):
        await poller.run()
    return health, board, told, device


async def test_a_battery_whose_values_stand_still_under_power_is_not_believed_and_told():
    health, board, _, device = await polled(lambda t: sample(70e3 + min(t, 100.0), t), 165)
    assert "have not changed by a bit for 6" in health.frozen
    assert board.batteries[0].power_w.read_mono_s == 159.0, "the last that was believed"
    (condition,) = device_conditions([health], read_only=False)
    assert (condition.code, condition.subject) == ("readings_frozen", "bess")
    assert health.word == "failing"
    assert len(device.asked) > 160


@pytest.mark.parametrize(
    ("index", "times_s"), [(0, [0.0, 1.0]), (9, [0.0, 1.0]), (10, [0.01, 1.01]), (99, [0.09, 1.09])]
)
async def test_ten_pollers_ask_at_one_instant_and_the_next_ten_a_little_later(index, times_s):
    _, _, _, device = await polled(lambda t: sample(1.0, t), 1.5, index=index)
    assert device.asked == times_s


async def test_a_battery_whose_values_move_again_is_believed_again():
    health, board, _, _ = await polled(lambda t: sample(70e3 + (t if not 100 < t < 200 else 100.0), t), 230)
    assert health.frozen is None
    assert board.batteries[0].power_w.value == pytest.approx(70e3 + 229, abs=2)


async def test_a_unit_that_rests_is_not_asked_before_its_link_allows_it():
    line = Line()

    def silent(t):
        line.failures, line.retry_s = 3, t + 7.0
        return LinkTimeout("no answer", endpoint="h")

    health, _, _, device = await polled(silent, 30, line=line)
    assert device.asked == [0.0, 7.0, 14.0, 21.0, 28.0]
    assert "failed 3 times in a row and is left alone but for single trials" in health.resting
    assert (health.failures, health.word) == (5, "failing")
    (condition,) = device_conditions([health], read_only=False)
    assert (condition.code, condition.subject) == ("unit_resting", "bess")


async def test_a_unit_that_answers_again_rests_no_longer():
    line = Line()

    def answer(t):
        line.failures, line.retry_s = (3, t + 2.0) if t < 5 else (0, float("-inf"))
        return LinkTimeout("no answer", endpoint="h") if t < 5 else sample(t, t)

    health, _, _, _ = await polled(answer, 10, line=line)
    assert (health.resting, health.word) == (None, "good")


@pytest.mark.parametrize(("failures", "identified"), [(2, 1), (3, 2)])
async def test_a_device_that_failed_three_times_says_who_it_is_before_it_is_trusted_again(failures, identified):
    def answer(t):
        return LinkTimeout("no answer", endpoint="h") if 3 <= t < 3 + failures else sample(t, t)

    health, _, _, device = await polled(answer, 20)
    assert (device.identified, health.word) == (identified, "good")


async def test_finding_a_unit_at_rest_is_no_failure_of_the_device():
    line = Line()
    line.failures = 3
    health, _, _, _ = await polled(lambda t: UnitResting("left alone", endpoint="h"), 5, line=line)
    assert (health.failures, health.polls) == (0, 0)
    assert health.resting is not None


async def test_a_device_that_is_another_one_is_looked_at_anew_every_ten_seconds_only():
    health, _, _, device = await polled(lambda t: IdentityMismatch("another answers", endpoint="h"), 34)
    assert device.asked == [0.0, 1.0, 2.0, 12.0, 22.0, 32.0]
    assert STRANGER_EVERY_S == 10.0
    assert health.stranger is not None


async def test_a_refused_point_is_told_once_with_its_address():
    refusal = ModbusRefused(2, endpoint="h", unit_id=7, address=40071)
    _, _, told, device = await polled(lambda t: sample(t, t), 10, refusals={"701.W": refusal})
    assert len(device.asked) == 10
    (event,) = told
    assert (event.code, event.subject) == ("point_refused", "bess")
    assert event.data == {"point": "701.W", "address": 40071, "exception": 2}
    assert "register 40071" in event.text


def test_the_read_only_mode_is_a_condition_of_the_site():
    (condition,) = device_conditions([], read_only=True)
    assert (condition.code, condition.subject) == ("read_only", "site")
    assert "writes to no device" in condition.text
