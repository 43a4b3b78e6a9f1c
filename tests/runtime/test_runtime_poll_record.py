"""What is remembered of a device's polls: the last hour, by kind of error, and how fast it answers."""

from __future__ import annotations

import pytest

from agent.runtime.poll_record import LATENCIES_KEPT, PollRecord, kind_of
from drivers.errors import (
    BadReply,
    DeviceError,
    IdentityMismatch,
    LinkDown,
    LinkTimeout,
    ModbusRefused,
    ModelMissing,
    NotSunSpec,
)

WHERE = {"endpoint": "tcp://10.0.0.5:502"}
TIMEOUT = LinkTimeout("no answer", **WHERE)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TIMEOUT, "timeout"),
        (LinkDown("not connected", **WHERE), "no connection"),
        (ModbusRefused(2, **WHERE, unit_id=1, address=7), "refused"),
        (BadReply("nonsense", **WHERE), "bad answer"),
        (IdentityMismatch("another one", **WHERE), "wrong identity"),
        (NotSunSpec("no marker", **WHERE), "not SunSpec"),
        (ModelMissing("no 701", **WHERE), "model missing"),
        (DeviceError("something", **WHERE), "other"),
    ],
)
def test_each_error_has_its_kind(error, kind):
    assert kind_of(error) == kind


def test_a_device_that_was_never_polled_has_no_figures():
    lately = PollRecord().lately(0.0)
    assert (lately.polls, lately.errors, lately.error_pct) == (0, {}, None)
    assert (lately.latency_median_s, lately.latency_p95_s) == (None, None)


def test_median_and_p95_are_latencies_that_were_measured():
    record = PollRecord()
    for number in range(100, 0, -1):
        record.good(0.0, number / 1000)
    lately = record.lately(0.0)
    assert (lately.latency_median_s, lately.latency_p95_s) == (0.050, 0.095)


def test_only_the_newest_latencies_count():
    record = PollRecord()
    record.good(0.0, 9.0)
    for _ in range(LATENCIES_KEPT):
        record.good(1.0, 0.01)
    assert record.lately(1.0).latency_p95_s == 0.01


def test_errors_are_counted_by_kind_the_most_frequent_first_and_as_a_share():
    record = PollRecord()
    record.failed(10.0, BadReply("nonsense", **WHERE))
    for at_s in (11.0, 70.0):
        record.failed(at_s, TIMEOUT)
    record.good(71.0, 0.01)
    lately = record.lately(71.0)
    assert list(lately.errors.items()) == [("timeout", 2), ("bad answer", 1)]
    assert (lately.polls, lately.failed, lately.error_pct) == (4, 3, 75.0)


def test_what_is_more_than_an_hour_old_does_not_count_any_more():
    record = PollRecord()
    record.failed(0.0, TIMEOUT)
    record.failed(60.0, TIMEOUT)
    assert record.lately(3599.0).errors == {"timeout": 2}
    assert record.lately(3601.0).errors == {"timeout": 1}
    for minute in range(2, 200):
        record.good(minute * 60.0, 0.01)
    assert record.lately(199 * 60.0).polls == 60
