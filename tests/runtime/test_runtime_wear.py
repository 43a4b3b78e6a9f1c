"""Registers that wear out: told before the day's writes are spent, and when they are."""

from types import SimpleNamespace

import pytest

from agent.core.events import Severity
from agent.runtime.device_conditions import wear_conditions
from drivers.device import DeviceSpec, open_device
from drivers.profile.load import find
from drivers.profile.wear import StoredWrites

LINK = SimpleNamespace(pace=lambda between_s, after_connect_s: None, generation=1)


def a_device(profile, spent, role="battery"):
    writes = StoredWrites(lambda: 0.0)
    writes.restore(f'{{"bess": {[0.0] * spent}}}')
    spec = DeviceSpec("bess", role, 1, profile=find(profile, None) if profile else None)
    return open_device(spec, LINK, lambda: 0.0, None, writes)


@pytest.mark.parametrize(
    ("spent", "code", "severity"),
    [(17, None, None), (18, "stored_writes_low", Severity.WARNING), (23, "stored_writes_low", Severity.WARNING),
     (24, "stored_writes_spent", Severity.ALARM), (30, "stored_writes_spent", Severity.ALARM)],
)  # fmt: skip
def test_the_writes_of_the_day_are_told_from_three_quarters_on(spent, code, severity):
    told = wear_conditions([a_device("solaredge-storedge", spent)])
    assert [(one.code, one.severity, one.subject) for one in told] == ([(code, severity, "bess")] if code else [])
    assert all(f"{spent} of 24 writes within 24 h" in one.text for one in told)


def test_devices_without_such_registers_are_left_alone():
    assert wear_conditions([a_device("sungrow-sh", 500), a_device(None, 500)]) == ()
