"""A short run of the reply fuzzer, and that it notices what it looks for."""

from __future__ import annotations

import drivers.rtu
import drivers.wire
from drivers.request import Checked
from tests.fuzz.modbus_replies import clean, fuzz


def test_no_wrong_value_no_crash_and_no_lost_task_in_some_replies():
    results = fuzz(2_000, seed=7)
    assert clean(results), results
    for one in results:
        assert one["taken"] > 300
        assert sum(one["refused"].values()) > 200


def test_the_fuzzer_notices_a_link_that_trusts_what_comes(monkeypatch):
    monkeypatch.setattr(drivers.wire.mbap, "check", lambda data, request, tid: Checked("", answer=data[6:]))
    monkeypatch.setattr(drivers.rtu.Owed, "ambiguous", lambda *_: False)
    tcp, rtu = fuzz(3_000, seed=7)
    assert tcp["wrong_values"] or tcp["crashes"]
    assert rtu["wrong_values"]
